"""Resume: the next batch is the identical one, however it stopped; on another world size the same ids go on."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.images import make_jpeg_folder
from support.nightly import nightly
from support.resuming import EPOCHS, KILLED, digest, loader, run

from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching

BACKENDS = ("dali", "torchvision", "ffcv")


def through_json(state):
    text = json.dumps(state)
    assert len(text) < 1000
    return json.loads(text)


@pytest.mark.parametrize("backend", [BACKENDS[0], *nightly(BACKENDS[1:])])
@pytest.mark.parametrize("points", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_random_interruptions(roots, backend, points):
    """At each point: some batches, a state, another loader with other threads, and all that remains, bit for bit."""
    root, rng = roots(backend), random.Random(points)
    whole = {}
    for _ in range(points):
        world = rng.choice((1, 2, 3))
        rank = rng.randrange(world)
        if (world, rank) not in whole:
            with loader(root, backend, rank=rank, world_size=world) as one:
                whole[world, rank] = run(one, EPOCHS)
        expected = whole[world, rank]
        at = rng.randrange(len(expected) + 1)
        options = {"rank": rank, "world_size": world}
        with loader(root, backend, num_threads=rng.choice((1, 2, 4)), prefetch=rng.choice((1, 2, 5)), **options) as one:
            assert run(one, EPOCHS, at) == expected[:at]
            state = through_json(one.state_dict())
        with loader(root, backend, num_threads=rng.choice((1, 2, 4)), prefetch=rng.choice((1, 2, 5)), **options) as one:
            one.load_state_dict(state)
            again = through_json(one.state_dict())  # right after a resume
            if rng.random() < 0.3:
                one = loader(root, backend, **options)
                one.load_state_dict(again)
            assert run(one, EPOCHS) == expected[at:]
            one.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_chain_of_interruptions(roots, backend):
    """A run that never gets further than three batches at a time arrives at the same end."""
    root = roots(backend)
    with loader(root, backend) as one:
        expected = run(one, 2)
    got, state = [], None
    while len(got) < len(expected):
        with loader(root, backend) as one:
            if state is not None:
                one.load_state_dict(state)
            got += run(one, 2, min(3, len(expected) - len(got)))
            state = through_json(one.state_dict())
    assert got == expected


def test_resume_on_another_backend_continues_the_draws(jpeg_folder):
    with loader(jpeg_folder, "dali") as one:
        for _ in one:
            break
        state = one.state_dict()
    with loader(jpeg_folder, "torchvision") as two, loader(jpeg_folder, "dali") as one:
        two.load_state_dict(state)
        one.load_state_dict(state)
        for (a, s), (b, t) in zip(one, two, strict=True):
            assert torch.equal(s, t)
            assert (a - b).abs().mean() < 0.5 / 255 / 0.22


# Ends of epochs


def test_state_after_the_last_batch_is_the_next_epoch(jpeg_folder):
    with loader(jpeg_folder) as one:
        expected = run(one, EPOCHS)
    steps = len(one)
    with loader(jpeg_folder) as one:
        states = [one.state_dict(), *(one.state_dict() for _ in one), one.state_dict()]
    for taken, state in enumerate(states):
        with loader(jpeg_folder) as one:
            one.load_state_dict(state)
            at = min(taken, steps)
            assert digest(next(iter(one))) == expected[at]


@pytest.mark.parametrize("taken", [0, 4, 9])
def test_set_epoch_after_a_resume_keeps_the_step(jpeg_folder, taken):
    """A training loop that begins epochs with set_epoch gets the rest of its epoch, which may be nothing, then the next."""
    with loader(jpeg_folder) as one:
        expected = run(one, 2)
        assert len(one) == 9
    with loader(jpeg_folder) as one:
        run(one, 1, taken)
        state = one.state_dict()
    got = []
    with loader(jpeg_folder) as one:
        one.load_state_dict(state)
        for epoch in range(2):
            one.set_epoch(epoch)
            one.set_epoch(epoch)
            got += [digest(batch) for batch in one]
    assert got == expected[taken:]


def test_state_before_between_and_after_a_break(jpeg_folder):
    one = loader(jpeg_folder)
    assert (one.state_dict()["epoch"], one.state_dict()["step"]) == (0, 0)
    for i, _ in enumerate(one):
        if i == 2:
            break
    assert (one.state_dict()["epoch"], one.state_dict()["step"]) == (0, 3)
    one.set_epoch(5)
    assert (one.state_dict()["epoch"], one.state_dict()["step"]) == (5, 0)


# What must not change


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 12}, "seed was 11 and is 12"),
        ({"size": 32}, r"size was \[24, 24\] and is \[32, 32\]"),
        ({"mixer": CutMix()}, r"mixer was 'HMix\(.*' and is 'CutMix\("),
        ({"mixer": None}, "mixer was .* and is 'None'"),
        ({"batch_size": 16}, "global_batch_size was 12 and is 16"),
        ({"shuffle": False}, "sampling was 'Shuffled\\(\\)' and is 'Sequential\\(\\)'"),
        ({"drop_last": True}, "drop_last was False and is True"),
        ({"scale": (0.5, 1.0)}, "crop was .*0.08.* and is .*0.5"),
        ({"mix_group": 4}, r"mix_group was \[None, 12\] and is \[4, 4\]"),
        ({"seed": 12, "shuffle": False}, "sampling was 'Shuffled\\(\\)' and is 'Sequential\\(\\)'; seed was 11 and is 12"),
    ],
)
def test_changed_configuration_is_refused_by_name(jpeg_folder, options, message):
    state = through_json(loader(jpeg_folder).state_dict())
    with pytest.raises(ValueError, match=f"state must come from a loader of the same configuration, but {message}"):
        loader(jpeg_folder, **options).load_state_dict(state)


def test_changed_data_set_is_refused(jpeg_folder, tmp_path):
    other = make_jpeg_folder(tmp_path, 100)
    with pytest.raises(ValueError, match=r"dataset was '101 images, .* and is '100 images"):
        loader(other).load_state_dict(loader(jpeg_folder).state_dict())


def test_what_may_change(jpeg_folder, tmp_path):
    """Threads, prefetching, backend, place of the data, output format, number of ranks, policy for bad files."""
    state = through_json(loader(jpeg_folder).state_dict())
    moved = tmp_path / "moved"
    moved.symlink_to(jpeg_folder, target_is_directory=True)
    for options in (
        {"num_threads": 1, "prefetch": 7, "timeout": 5.0},
        {"backend": "torchvision"},
        {"dtype": torch.float16, "memory_format": torch.channels_last, "mean": None, "std": None},
        {"rank": 1, "world_size": 3, "batch_size": 4},
        {"on_error": "skip", "max_bad": 1},
        {"mix_group": 12},  # what it was anyway
    ):
        loader(moved, **options).load_state_dict(state)


@pytest.mark.parametrize(
    "state",
    [
        None, {}, {"version": 2, "epoch": 0, "step": 0, "config": {}}, {"version": 1, "epoch": -1, "step": 0, "config": {}},
        {"version": 1, "epoch": 0, "step": "1", "config": {}}, {"version": 1, "epoch": 0, "step": 0},
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(jpeg_folder, state):
    with pytest.raises(ValueError, match="state must"):
        loader(jpeg_folder).load_state_dict(state)


def test_step_beyond_the_epoch_is_refused(jpeg_folder):
    one = loader(jpeg_folder)
    state = one.state_dict() | {"step": 10}
    with pytest.raises(ValueError, match="state must have a step of at most 9, got 10"):
        one.load_state_dict(state)


# Other world sizes


def global_run(root, world, state=None, stop=None, **options):
    """(ids, digest) of each global batch, and the state after the last, with ``world`` ranks one after the other."""
    ids, images, after = [], [], None
    for rank in range(world):
        with loader(root, batch_size=24 // world, rank=rank, world_size=world, **options) as one:
            if state is not None:
                one.load_state_dict(state)
            epoch, step = one.state_dict()["epoch"], one.state_dict()["step"]
            for i, batch in enumerate(one):
                if len(ids) <= i:
                    ids.append([])
                    images.append([])
                ids[i] += one.draw(epoch, step + i).ids.tolist()
                images[i].append(batch[0])
                after = one.state_dict()
                if i + 1 == stop:
                    break
    return ids, [torch.cat(parts) for parts in images], after


def test_resume_on_other_world_sizes(jpeg_folder):
    """4 ranks, then 2, then 3: the ids go on; with a mix_group, the pictures too."""
    options = {"mix_group": 2, "mixer": GMix(), "batch_size": 24}
    ids, images, _ = global_run(jpeg_folder, 1, **{k: v for k, v in options.items() if k != "batch_size"})
    options.pop("batch_size")
    first = global_run(jpeg_folder, 4, stop=2, **options)
    second = global_run(jpeg_folder, 2, first[2], stop=1, **options)
    third = global_run(jpeg_folder, 3, second[2], **options)
    assert first[0] + second[0] + third[0] == ids
    assert sorted(i for batch in ids for i in batch) == list(range(101))
    for a, b in zip(first[1] + second[1] + third[1], images, strict=True):
        assert torch.equal(a, b)


_TORCHRUN = """
import json, os, sys
import torch, torch.distributed as dist
from loaders import ImageLoader
from mixops import HMix
sys.path.insert(0, "tests")
from support.resuming import digest
root, backend, out, rows, stop, state = sys.argv[1:]
dist.init_process_group("gloo")
world = dist.get_world_size()
one = ImageLoader(root, backend=backend, batch_size=int(rows) // world, size=24, mixer=HMix(), mix_group=1, drop_last=False,
                  device="cpu", num_threads=1)
if state != "-":
    one.load_state_dict(json.load(open(state)))
begin = one.state_dict()
lines = []
for i, batch in enumerate(one):
    lines.append([one.draw(begin["epoch"], begin["step"] + i).ids.tolist(), digest(batch)])
    dist.barrier()
    if i + 1 == int(stop):
        break
json.dump([lines, one.state_dict()], open(f"{out}.{dist.get_rank()}", "w"))
dist.destroy_process_group()
"""


def torchrun(tmp_path, world, root, backend, rows=24, stop=0, state="-"):
    """Global batches as (ids, digests of the ranks), and the file with the state."""
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    script = tmp_path / "script.py"
    script.write_text(_TORCHRUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command += [str(root), backend, str(out), str(rows), str(stop), str(state)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(world)]
    assert len({json.dumps([r[1]["epoch"], r[1]["step"]]) for r in ranks}) == 1
    assert len({len(r[0]) for r in ranks}) == 1  # equal number of steps
    state_file = tmp_path / f"{out.name}.state"
    state_file.write_text(json.dumps(ranks[0][1]))
    return [[i for r in ranks for i in r[0][step][0]] for step in range(len(ranks[0][0]))], state_file


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["dali", *(pytest.param(b, marks=pytest.mark.slow) for b in ("torchvision", "ffcv"))])
@pytest.mark.parametrize("world", [2, *(pytest.param(w, marks=pytest.mark.slow) for w in (1, 3, 4, 8))])
def test_torchrun(roots, tmp_path, backend, world):
    """Ranks from torch.distributed: the union of the ids is the data set, none twice, the same global batches."""
    rows = 72 if world == 8 else 24  # 101 images must leave a rest that has a row for each rank
    batches, _ = torchrun(tmp_path, world, roots(backend), backend, rows)
    alone = loader(roots(backend), backend, batch_size=rows, mix_group=1, mixer=HMix(), seed=0)
    assert batches == [alone.draw(0, step).ids.tolist() for step in range(len(alone))]
    assert sorted(i for batch in batches for i in batch) == list(range(101))


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_torchrun_on_other_world_sizes(roots, tmp_path, backend):
    """4 processes, then 2, then 3."""
    first, state = torchrun(tmp_path, 4, roots(backend), backend, stop=2)
    second, state = torchrun(tmp_path, 2, roots(backend), backend, stop=1, state=state)
    third, _ = torchrun(tmp_path, 3, roots(backend), backend, state=state)
    alone = loader(roots(backend), backend, batch_size=24, mix_group=1, mixer=HMix(), seed=0)
    assert first + second + third == [alone.draw(0, step).ids.tolist() for step in range(len(alone))]


# SIGKILL


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("backend", "trials"), [("dali", 1), *(pytest.param(b, 20, marks=pytest.mark.slow) for b in BACKENDS)]
)
def test_sigkill(roots, tmp_path, backend, trials):
    """Killed at any moment, the run goes on from its last state; a batch may come again, none is left out or changed."""
    root = roots(backend)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, str(root), backend, str(tmp_path), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    with loader(root, backend) as one:
        expected = run(one, EPOCHS)
    for trial in range(trials):
        log = (tmp_path / f"{trial}.log").read_text().split()
        repeated = [i for i in range(1, len(log)) if log[i] == log[i - 1]]
        assert len(repeated) <= 1  # killed between the batch and its state
        assert [line for i, line in enumerate(log) if i not in repeated] == expected


# Other people's checkpoints


def test_matching_resumes(jpeg_folder):
    """Partners that follow from the images need no state either."""
    mixer = MixUp(matching=OptimalMatching(k=3))
    with loader(jpeg_folder, mixer=mixer) as one:
        expected = run(one, 1)
    with loader(jpeg_folder, mixer=mixer) as one:
        run(one, 1, 4)
        state = one.state_dict()
    with loader(jpeg_folder, mixer=mixer) as one:
        one.load_state_dict(state)
        assert run(one, 1) == expected[4:]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:Checkpoint directory:UserWarning")
def test_lightning_saves_and_restores_the_loader(jpeg_folder, tmp_path):
    """Lightning finds state_dict and load_state_dict by itself: a run stopped mid-epoch goes on with the next batch."""
    lightning = pytest.importorskip("lightning")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.seen = []
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            self.seen.append(digest(batch))
            return self.layer(batch[0].mean().view(1, 1)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with loader(jpeg_folder) as one:
        expected = run(one, 2)
    keeper = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1)
    model = Model()
    with loader(jpeg_folder) as one:
        lightning.Trainer(max_steps=6, callbacks=[keeper], **quiet).fit(model, one)
    assert model.seen == expected[:6]
    (checkpoint,) = tmp_path.glob("*step=4*.ckpt")
    model = Model()
    with loader(jpeg_folder) as one:
        trainer = lightning.Trainer(max_epochs=2, callbacks=[keeper], **quiet)
        trainer.fit(model, one, ckpt_path=checkpoint, weights_only=False)
    assert model.seen == expected[4:]
