"""ImageLoader: every backend shows what the draw says, every image once, nothing is left behind, errors are clear."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from support import reference
from support.images import make_jpeg_folder
from torchvision.transforms import functional as F

from loaders import ImageLoader
from loaders.sources import Folder
from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, Switch
from mixops.key import Key
from mixops.plan import concatenate

BACKENDS = ("dali", "torchvision", "ffcv")
MATCHING = MixUp(1.0, matching=OptimalMatching(k=3))
MIXERS = {
    "none": None,
    "mixup": MixUp(1.0),
    "cutmix": CutMix(1.0),
    "hmix": HMix(1.0, r=0.5),
    "gmix": GMix(0.5),
    "switch": Switch([MixUp(0.8), CutMix(1.0)]),
    "matching": MATCHING,
}
PIXELS = {"mean": None, "std": None, "dtype": torch.uint8}


def loader(root, backend="dali", **options):
    return ImageLoader(root, backend=backend, **{"batch_size": 16, "size": 32, "device": "cpu", "num_threads": 2} | options)


# What the batches are


def reference_batch(one: ImageLoader, epoch: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cropped uint8 images (b, 3, h, w) and labels of a step, by hand."""
    draw = one.draw(epoch, step)
    rows = []
    for sample, window, flip in zip(draw.ids, draw.windows, draw.flips, strict=True):
        image = Image.open(one.dataset.name(sample)).convert("RGB")
        image = F.resized_crop(image, *(int(v) for v in window), [size, size], antialias=True)
        rows.append(np.asarray(F.hflip(image) if flip else image).transpose(2, 0, 1))
    return np.stack(rows), one.dataset.labels[draw.ids]


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("backend", ["dali", "torchvision"])
def test_batches_are_what_torchvision_and_the_plan_make(awkward_folder, backend, name):
    mixer = MIXERS[name]
    interpolations = 1 if mixer is None else 3
    mixer = mixer and mixer.replace(interpolations=interpolations)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    smoothing = 0.1 if mixer else 0.0
    with loader(
        awkward_folder, backend, mixer=mixer, mean=mean, std=std, smoothing=smoothing, drop_last=False, seed=4
    ) as one:
        batches = list(one)
        assert len(batches) == len(one) == 6
        for step in (0, 5):  # a full batch and the short one, of 5
            images, targets = batches[step]
            cropped, labels = reference_batch(one, 0, step, 32)
            if mixer is None:
                expected = (cropped / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
                assert targets.dtype == torch.int64
                assert np.array_equal(targets, labels)
            else:
                plan = one.plan(0, step, torch.from_numpy(cropped))
                expected = reference.mix_images(cropped, plan, mean, std)
                assert np.allclose(targets, reference.mix_targets(labels, plan, 3, smoothing), atol=1e-6)
                assert np.allclose(targets.sum(1), 1, atol=1e-6)
            assert images.dtype == torch.float32
            assert images.shape == (len(labels) * interpolations, 3, 32, 32)
            difference = np.abs(images.numpy() - expected) * 255 * np.reshape(std, (3, 1, 1))
            if backend == "torchvision":
                assert difference.max() < 1e-3
            else:
                assert difference.mean() < 0.5
                assert difference.mean((1, 2, 3)).max() < 0.5


@pytest.mark.parametrize("backend", ["dali", "torchvision"])
def test_validation_is_resize_and_centre_crop(awkward_folder, backend):
    with loader(awkward_folder, backend, split="val", size=48, **PIXELS) as one:
        ids = []
        for step, (images, labels) in enumerate(one):
            draw = one.draw(0, step)
            ids += draw.ids.tolist()
            assert np.array_equal(labels, one.dataset.labels[draw.ids])
            for image, sample in zip(images, draw.ids, strict=True):
                whole = F.resize(Image.open(one.dataset.name(sample)).convert("RGB"), 55, antialias=True)
                expected = np.asarray(F.center_crop(whole, [48, 48])).transpose(2, 0, 1)
                difference = np.abs(image.numpy().astype(int) - expected)
                assert difference.max() <= (0 if backend == "torchvision" else 2), one.dataset.name(sample)
        assert ids == list(range(85))


def sweep():
    """Every mixer, K, world size and order at least once with every other, half of that by day; all of it is slow."""
    cases = [c for c in product(MIXERS, (1, 3), (1, 2, 3), (True, False)) if not (c[0] == "none" and c[1] == 3)]
    marks = {0: (), 11: pytest.mark.nightly}
    return [pytest.param(*c, marks=marks.get(i % 22, pytest.mark.slow)) for i, c in enumerate(cases)]


@pytest.mark.parametrize(("name", "interpolations", "world", "shuffle"), sweep())
def test_backends_agree(awkward_folder, name, interpolations, world, shuffle):
    """For one key: labels, targets, windows and plans exactly, images to half a grey level; every image once an epoch."""
    mixer = MIXERS[name] and MIXERS[name].replace(interpolations=interpolations)
    seen = {epoch: [] for epoch in range(3)}
    for rank in range(world):
        options = {"mixer": mixer, "rank": rank, "world_size": world, "shuffle": shuffle, "batch_size": 8, **PIXELS}
        options["drop_last"] = False
        with loader(awkward_folder, "dali", **options) as one, loader(awkward_folder, "torchvision", **options) as two:
            for epoch in range(3):
                for step, ((a, s), (b, t)) in enumerate(zip(one, two, strict=True)):
                    draw, other = one.draw(epoch, step), two.draw(epoch, step)
                    for field in ("rows", "ids", "windows", "flips"):
                        assert np.array_equal(getattr(draw, field), getattr(other, field))
                    seen[epoch] += draw.ids.tolist()
                    if name != "matching":  # whose partners follow from the images, which differ by their rounding
                        assert (a.float() - b.float()).abs().mean() < 0.5
                        assert torch.equal(s, t)
                        if mixer:
                            assert one.plan(epoch, step).to_json() == two.plan(epoch, step).to_json()
    for ids in seen.values():
        assert sorted(ids) == list(range(85))


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_and_prefetching_change_nothing(roots, backend):
    batches = []
    for threads, prefetch in ((1, 1), (2, 2), (5, 4)):
        with loader(roots(backend), backend, mixer=HMix(), num_threads=threads, prefetch=prefetch, drop_last=False) as one:
            batches.append([x for _ in range(2) for batch in one for x in batch])
    for other in batches[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches[0], other, strict=True))


def test_mix_groups_make_mixing_independent_of_the_ranks(jpeg_folder):
    def run(world):
        parts = []
        for rank in range(world):
            options = {"batch_size": 24 // world, "rank": rank, "world_size": world, "mix_group": 6, "mixer": GMix()}
            with loader(jpeg_folder, drop_last=False, **options) as one:
                parts.append(list(one))
        return [[torch.cat(x) for x in zip(*step, strict=True)] for step in zip(*parts, strict=True)]

    alone = run(1)
    for world in (2, 4):
        for (a, s), (b, t) in zip(alone, run(world), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(s, t)


def test_plan_is_that_of_the_groups(jpeg_folder):
    mixer = CutMix()
    one = loader(jpeg_folder, mixer=mixer, batch_size=12, mix_group=4, rank=1, world_size=2, seed=9)
    plans = [mixer.plan(Key(9, 3, 2, group), batch_size=4, height=32, width=32) for group in (3, 4, 5)]
    assert one.plan(3, 2).to_json() == concatenate(plans).to_json()


def test_short_groups_match_in_smaller_blocks(jpeg_folder):
    mixer = MixUp(matching=OptimalMatching(k=8))
    with loader(jpeg_folder, mixer=mixer, drop_last=False, **PIXELS) as one:
        images = list(one)[-1][0]
        assert len(images) == 5
        assert mixer.matching.shortened(5).k == 2
        with pytest.raises(ValueError, match="images must be given to a mixer with matching"):
            one.plan(0, 0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_output_format(jpeg_folder, dtype, memory_format):
    with loader(jpeg_folder, mixer=MixUp(), dtype=dtype, memory_format=memory_format, size=(24, 40)) as one:
        images, _ = next(iter(one))
    assert images.shape == (16, 3, 24, 40)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=memory_format)


def test_batches_stay_as_they_are(jpeg_folder):
    """What was delivered is not written to again while later batches are made."""
    for backend in ("dali", "torchvision"):
        with loader(jpeg_folder, backend, **PIXELS) as one:
            kept = [(images, images.clone()) for images, _ in one]
        assert all(torch.equal(a, b) for a, b in kept)


def test_classes(awkward_folder):
    one = loader(awkward_folder)
    assert one.classes == ["class 0", "class 1", "class 2"]
    assert one.class_to_idx == {"class 0": 0, "class 1": 1, "class 2": 2}
    assert one.num_classes == 3
    assert len(one.dataset) == 85


# Epochs


def test_epochs_follow_one_another(jpeg_folder):
    with loader(jpeg_folder) as one:
        labels = [torch.cat([y for _, y in one]) for _ in range(3)]
        assert not torch.equal(labels[0], labels[1])
        one.set_epoch(1)
        one.set_epoch(1)
        assert torch.equal(torch.cat([y for _, y in one]), labels[1])
        one.set_epoch(2)  # comes next anyway
        assert torch.equal(torch.cat([y for _, y in one]), labels[2])
        next(iter(one))  # of epoch 3, and no more of it
        one.set_epoch(0)
        assert torch.equal(torch.cat([y for _, y in one]), labels[0])


def test_two_iterators_at_once(jpeg_folder):
    with loader(jpeg_folder, "dali") as one:
        expected = [y for _ in range(2) for _, y in one]
        one.set_epoch(0)
        first, second = iter(one), iter(one)
        pairs = list(zip(first, second, strict=True))
        assert all(
            torch.equal(a, b) for a, b in zip([y for (_, y), _ in pairs] + [y for _, (_, y) in pairs], expected, strict=True)
        )


# Ends


def threads():
    """Threads of loaders; the kernels' own threads stay for the life of the process."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("mixstage-loader", "mixstage-read"))]


def native_threads():
    return len(os.listdir("/proc/self/task"))


def settle(reached, seconds=120.0):
    """Threads that have been joined take a moment to go, OpenMP's and the system's; on a busy machine many."""
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def at_rest():
    """How many threads and descriptors there are when that has not changed for a fifth of a second."""
    found, since = (native_threads(), descriptors()), time.monotonic()
    while time.monotonic() - since < 0.2:
        time.sleep(0.01)
        if (seen := (native_threads(), descriptors())) != found:
            found, since = seen, time.monotonic()
    return found


def leave_by_break(one):
    for _ in one:
        break


def leave_by_exception(one):
    with pytest.raises(ZeroDivisionError):
        for _ in one:
            _ = 1 / 0


def leave_by_ctrl_c(one):
    with pytest.raises(KeyboardInterrupt):
        for _ in one:
            raise KeyboardInterrupt


def leave_by_close(one):
    iterator = iter(one)
    next(iterator)
    one.close()
    with pytest.raises(StopIteration):
        next(iterator)


def leave_before_the_first_batch(one):
    iter(one)


def leave_at_the_end(one):
    for _ in one:
        pass


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_exception, leave_by_ctrl_c, leave_by_close, leave_before_the_first_batch, leave_at_the_end],
)
def test_nothing_is_left_behind(roots, backend, leave):
    def run():
        one = loader(roots(backend), backend, mixer=MixUp())
        leave(one)
        assert threads() == []  # at once, without a collection
        one.close()

    run()
    before = at_rest()
    for _ in range(2):
        run()
    settle(lambda: native_threads() <= before[0] and descriptors() == before[1])
    assert native_threads() <= before[0]
    assert descriptors() == before[1]


def test_ctrl_c_while_waiting(jpeg_folder, monkeypatch):
    """The interrupt comes in the middle of a wait; the traceback that is kept does not keep the thread."""
    leave_by_break(loader(jpeg_folder))  # imports what it needs, which should not be interrupted
    gate = threading.Event()
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, sample: (gate.wait(0.1) and b"") or read(self, sample))
    monkeypatch.setattr(Folder, "places", lambda *_: None)  # so that it is asked sample by sample

    def interrupt(*_):  # what SIGINT's own handler does; processes that run tests in parallel ignore the signal
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt) as kept:
            next(iter(loader(jpeg_folder)))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert threads() == []
    assert kept


def test_interrupts_at_any_moment(jpeg_folder):
    """A hundred interrupts, wherever they hit: the next run is whole, and no thread stays."""

    def interrupt(*_):
        raise KeyboardInterrupt

    one = loader(jpeg_folder, "torchvision", batch_size=4, size=8)
    leave_at_the_end(one)  # imports what it needs, which should not be interrupted
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 * (i + 1))
            try:
                for _ in one:
                    pass
                time.sleep(1)
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    settle(lambda: not threads())
    assert threads() == []
    assert sum(len(images) for images, _ in one) == 100


@pytest.mark.nightly
def test_leaving_while_a_read_hangs(jpeg_folder, monkeypatch, caplog):
    """Leaving does not wait for the read, and says what is left."""
    leave_by_break(loader(jpeg_folder, "torchvision"))  # imports what it needs: the first batch must not take the timeout
    gate, hanging, read, reads = threading.Event(), threading.Event(), Folder.read, itertools.count()

    def two_steps(self, sample):
        return read(self, sample) if next(reads) < 16 else hanging.set() or (gate.wait(300) and b"")

    monkeypatch.setattr(Folder, "read", two_steps)
    one = loader(jpeg_folder, "torchvision", timeout=8.0, prefetch=1, batch_size=8, num_threads=1)  # which reads in order
    iterator = iter(one)
    next(iterator)
    assert hanging.wait(120)
    settle(lambda: one.stats().queue == 1)  # the loader's thread waits for us, a read ahead of it hangs
    one.close()
    assert threads() != []  # it came back although the read still hangs
    assert "the loader's thread has not ended in 8 s" in caplog.text
    gate.set()
    settle(lambda: not threads())
    assert threads() == []


def test_backend_that_hangs(jpeg_folder, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(Folder, "read", lambda self, sample: gate.wait(300) and b"")
    one = loader(jpeg_folder, "torchvision", timeout=0.3)
    with pytest.raises(
        TimeoutError, match=r"waited 0.3 s for (step 0 of epoch 0|the files of epoch 0, step 0; slow is .*jpg)"
    ):
        next(iter(one))  # comes back, although the read hangs for ever
    gate.set()
    settle(lambda: not threads())
    assert threads() == []


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["exit", "kept iterator", "sigterm"])
def test_process_ends(jpeg_folder, how):
    """At the end of the interpreter with an epoch under way: quickly, right status, no message; no shared memory."""
    code = f"""
import sys, os, time
from loaders import ImageLoader
one = ImageLoader({str(jpeg_folder)!r}, batch_size=4, size=32, device="cpu")
iterator = iter(one)
next(iterator)
print("/dev/shm" in open("/proc/self/maps").read(), flush=True)
if {how!r} == "exit":
    sys.exit(7)
if {how!r} == "sigterm":
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "False\n"
    if how == "sigterm":
        process.terminate()
    _, errors = process.communicate(timeout=250)  # the loader's own timeout is 300 s
    assert process.returncode == {"exit": 7, "kept iterator": 0, "sigterm": -signal.SIGTERM}[how]
    assert errors == ""


# What it tells


def test_stats_and_log(jpeg_folder, caplog):
    with loader(jpeg_folder, drop_last=False) as one:
        assert one.stats().images == 0
        with caplog.at_level(logging.INFO, logger="mixstage"):
            for step, _ in enumerate(one):
                if step == 2:
                    middle = one.stats()
        assert (middle.epoch, middle.step, middle.images, middle.outputs) == (0, 3, 48, 48)
        assert 0 <= middle.waited <= 1
        end = one.stats()
        assert (end.epoch, end.step, end.images, end.queue, end.bad_files) == (0, 7, 101, 0, 0)
        time.sleep(0.01)
        assert one.stats().seconds == end.seconds
        (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch")]
        assert line.startswith("epoch 0: 7 steps, 101 images as 101 outputs, ")


# CUDA, as far as it goes without


@pytest.mark.parametrize("spill", [False, True])
def test_graph_for_cuda(spill):
    """The graph that cannot run here can be written down: DALI accepts its operators, devices and arguments."""
    from nvidia import dali

    from pipelines.dali.decode import DecodeOptions, _graph

    def device(inputs, device_id):
        return _graph(lambda: None, inputs, DecodeOptions(4, spill, 1, 2, device_id)).device

    with dali.Pipeline(batch_size=4, num_threads=1, device_id=None):
        assert device(7, 0) == "gpu"
        assert device(1 if spill else 3, None) == "cpu"


# Ranks


def test_rank_of_torch_distributed(jpeg_folder, tmp_path):
    from torch import distributed

    one = loader(jpeg_folder, batch_size=8)
    assert one.schedule.world_size == 1
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert (one.schedule.rank, one.schedule.world_size) == (0, 1)
        with pytest.raises(ValueError, match=r"must agree with torch.distributed, which has \(0, 1\), got \(1, 2\)"):
            loader(jpeg_folder, rank=1, world_size=2)
    finally:
        distributed.destroy_process_group()


def test_launched_without_a_process_group_warns(jpeg_folder, monkeypatch, caplog):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with loader(jpeg_folder) as one:
        next(iter(one))
    assert "WORLD_SIZE is 4 but torch.distributed is not initialised" in caplog.text
    caplog.clear()
    with loader(jpeg_folder, rank=0, world_size=4, batch_size=4) as one:
        next(iter(one))
    assert caplog.text == ""


# Bad arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "pil"}, ValueError, "backend must be one of 'dali', 'ffcv', 'torchvision', got 'pil'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
        ({"batch_size": 102}, ValueError, "batch_size must be at most the 101 samples"),
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"mixer": "mixup"}, TypeError, "mixer must be a mixer of mixops or None, got 'mixup'"),
        ({"mixer": MixUp(), "split": "val"}, ValueError, "mixer must be None for split='val'"),
        ({"split": "test"}, ValueError, "split must be 'train' or 'val', got 'test'"),
        ({"smoothing": 0.1}, ValueError, "smoothing must be 0 without a mixer"),
        ({"smoothing": 1.0, "mixer": MixUp()}, ValueError, "smoothing must be"),
        ({"mixer": MixUp(matching=OptimalMatching(k=9))}, ValueError, "batch_size must be at least 2 . k = 18 .* got 16"),
        ({"mixer": MATCHING, "mix_group": 4}, ValueError, "mix_group must be at least 2 . k = 6 .* got 4"),
        ({"rank": 2, "world_size": 2}, ValueError, r"rank must be in \[0, 2\), got 2"),
        ({"rank": 0}, ValueError, "rank and world_size must be given together, got rank=0, world_size=None"),
        ({"world_size": 0, "rank": 0}, ValueError, "world_size must be at least 1, got 0"),
        ({"on_error": "ignore"}, ValueError, "on_error must be 'raise' or 'skip', got 'ignore'"),
        ({"max_bad": -1}, ValueError, "max_bad must be at least 0, got -1"),
        ({"seed": -1}, ValueError, "seed must be in .* got -1"),
        ({"prefetch": 0}, ValueError, r"prefetch must be in \[1, 4096\], got 0"),
        ({"num_threads": 0}, ValueError, r"num_threads must be in \[1, 4096\], got 0"),
        ({"timeout": 0}, ValueError, "timeout must be positive, got 0"),
        ({"device": "tpu"}, (ValueError, RuntimeError), "tpu"),
        ({"scale": (0.0, 1.0)}, ValueError, r"scale must be in \(0, 1\], got 0.0"),
        ({"split": "val", "val_resize": 31}, ValueError, "val_resize must be at least size=32, got 31"),
        ({"mix_group": 5}, ValueError, "mix_group must divide the 16 rows of a rank, got 5"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(jpeg_folder, options, error, message):
    with pytest.raises(error, match=message):
        loader(jpeg_folder, **options)


@pytest.mark.parametrize(("backend", "module"), [("dali", "nvidia.dali"), ("ffcv", "ffcv")])
def test_backend_that_is_not_installed(jpeg_folder, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"backend='{backend}' needs {module}: pip install 'mixstage\[.*; or take backend=.*'torchvision'"
    ):
        loader(jpeg_folder, backend)


def test_cuda_where_there_is_none(jpeg_folder):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="device must be 'cpu' where torch finds no CUDA, got 'cuda'"):
        loader(jpeg_folder, device="cuda")


def test_missing_root():
    with pytest.raises(ValueError, match=r"root must be one of: .* got '/nowhere', which does not exist"):
        loader("/nowhere")


def test_small_sets_are_made_quickly(tmp_path):
    """One image of one class, a batch of one: mixed with itself."""
    make_jpeg_folder(tmp_path, 1, classes=1)
    with loader(tmp_path, batch_size=1, mixer=MixUp()) as one:
        ((images, targets),) = list(one)
    assert images.shape == (1, 3, 32, 32)
    assert targets.tolist() == [[1.0]]
