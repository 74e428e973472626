"""A mixer where people already mix: collate function, ``mixup_fn``, compiled training step, workers."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from mixops import Beta, CutMix, GMix, HMix, Key, MixUp, OptimalMatching, Switch, mix_images, mix_targets, soft_cross_entropy
from mixops.mixers.keyless import StepCounter

MIXERS = (MixUp(0.8), CutMix(), HMix(interpolations=2), GMix(draw="batch"), Switch([MixUp(), CutMix()]))


def batch(b=6, classes=4):
    rng = torch.Generator().manual_seed(0)
    return torch.rand(b, 3, 9, 8, generator=rng), torch.randint(classes, (b,), generator=rng)


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("numpy", [False, True])
def test_the_call_is_plan_then_mix(mixer, numpy):
    images, labels = batch()
    if numpy:
        images, labels = images.numpy(), labels.numpy()
    mixed, targets = mixer(images, labels, key=Key(1, 2, 3), num_classes=4, smoothing=0.1)
    plan = mixer.plan(Key(1, 2, 3), batch_size=6, height=9, width=8)
    np.testing.assert_array_equal(mixed, mix_images(images, plan))
    np.testing.assert_array_equal(targets, mix_targets(labels, plan, num_classes=4, smoothing=0.1))
    assert mixed.dtype == images.dtype and isinstance(targets, np.ndarray) == numpy


def test_a_matching_sees_the_images():
    images, labels = batch(8)
    mixer = MixUp(matching=OptimalMatching(k=4))
    mixed, _ = mixer(images, labels, key=Key(), num_classes=4)
    plan = mixer.plan(Key(), batch_size=8, height=9, width=8, images=images)
    np.testing.assert_array_equal(mixed, mix_images(images, plan))
    with pytest.raises(ValueError, match="images must be given to a mixer with matching"):
        mixer.plan(Key(), batch_size=8, height=9, width=8)
    with pytest.raises(ValueError, match="images must hold batch_size = 9 images, got 8"):
        mixer.plan(Key(), batch_size=9, height=9, width=8, images=images)


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 50), (6, 3, 2, 9, 8)])
def test_tables_signals_and_video(shape):
    images = torch.rand(shape)
    for mixer in (MixUp(),) if len(shape) == 2 else (MixUp(), CutMix(), GMix()):
        mixed, targets = mixer(images, torch.arange(6), key=Key(), num_classes=6)
        assert mixed.shape == shape and targets.shape == (6, 6)


def test_soft_labels_need_no_number_of_classes():
    images, labels = batch()
    soft = torch.nn.functional.one_hot(labels, 4).float()
    for (a, b), (c, d) in [(CutMix()(images, soft, key=Key()), CutMix()(images, labels, key=Key(), num_classes=4))]:
        assert torch.equal(a, c) and torch.equal(b, d)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key": 3}, TypeError, "key must be a Key, got 3"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"height": 0}, ValueError, "height must be at least 1, got 0"),
        ({"width": 2.0}, TypeError, "width must be an integer, got 2.0"),
    ],
)
def test_bad_sizes_are_refused_by_name(arguments, error, message):
    arguments = {"key": Key(), "batch_size": 2, "height": 3, "width": 3, **arguments}
    with pytest.raises(error, match=message):
        CutMix().plan(arguments.pop("key"), **arguments)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MixUp(0), ValueError, "alpha must be positive and finite, got 0"),
        (lambda: MixUp(float("inf")), ValueError, "alpha must be positive and finite, got inf"),
        (lambda: MixUp("1"), TypeError, "alpha must be a number, got '1'"),
        (lambda: CutMix(label="area"), ValueError, "label must be 'mask' or 'sampled', got 'area'"),
        (lambda: CutMix(draw="elem"), ValueError, "draw must be 'sample' or 'batch', got 'elem'"),
        (lambda: CutMix(prob=1.1), ValueError, r"prob must be in \[0, 1\], got 1.1"),
        (lambda: CutMix(interpolations=0), ValueError, "interpolations must be at least 1, got 0"),
        (lambda: CutMix(interpolations=1.5), TypeError, "interpolations must be an integer, got 1.5"),
        (lambda: CutMix(matching=4), TypeError, "matching must be an OptimalMatching or None, got 4"),
        (lambda: HMix(r=1.5), ValueError, r"r must be in \[0, 1\], got 1.5"),
        (lambda: HMix(r=Beta(0)), ValueError, "alpha must be positive and finite, got 0"),
        (lambda: HMix(r=Beta("1")), TypeError, "alpha must be a number, got '1'"),
        (lambda: HMix(r=Beta(1, 2)), ValueError, "beta must be alpha, 1.0, since only symmetric laws are drawn, got 2.0"),
        (lambda: HMix(convention="code"), ValueError, "convention must be 'authors' or 'paper', got 'code'"),
        (lambda: GMix(convention="code"), ValueError, "convention must be 'authors' or 'paper', got 'code'"),
        (lambda: HMix(1.0, 0.5), TypeError, "positional"),
    ],
)
def test_bad_mixers_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ------------------------------------------------------------------------------------------------- without a key


def test_without_a_key_every_call_is_another_step_of_the_seed():
    images, labels = batch()
    torch.manual_seed(17)
    mixer = CutMix()
    mixed = [mixer(images, labels, num_classes=4)[0] for _ in range(3)]
    for step in range(3):
        expected = CutMix()(images, labels, key=Key(17, 0, step), num_classes=4)[0]
        assert torch.equal(mixed[step], expected)
    assert not torch.equal(mixed[0], mixed[1])


def test_global_random_state_is_neither_used_nor_touched():
    images, labels = batch()
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    mixer = Switch([MixUp(), CutMix()])
    first = mixer(images, labels, num_classes=4)[0]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.rand(5)
    again = Switch([MixUp(), CutMix()])(images, labels, num_classes=4)[0]
    assert torch.equal(first, again)


def test_the_count_is_saved_and_restored():
    images, labels = batch()
    torch.manual_seed(5)
    mixer = GMix()
    for _ in range(4):
        mixer(images, labels, num_classes=4)
    state = mixer.state_dict()
    assert state == {"seed": 5, "step": 4}
    expected = [mixer(images, labels, num_classes=4)[0] for _ in range(2)]
    torch.manual_seed(99)
    fresh = GMix()
    fresh.load_state_dict(state)
    for x in expected:
        assert torch.equal(fresh(images, labels, num_classes=4)[0], x)
    with pytest.raises(ValueError, match=r"state must have the keys seed and step, got \{'step': 3\}"):
        fresh.load_state_dict({"step": 3})


def test_copies_go_on_counting_on_their_own():
    images, labels = batch()
    torch.manual_seed(5)
    mixer = MixUp()
    mixer(images, labels, num_classes=4)
    for twin in (copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer))):
        twin(images, labels, num_classes=4)
        assert twin.state_dict()["step"] == 2 and mixer.state_dict()["step"] == 1


def test_ranks_that_are_seeded_alike_mix_differently(monkeypatch):
    torch.manual_seed(0)
    keys = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        keys.append(StepCounter().next_key())
    assert keys == [Key(0, 0, 0, 0), Key(0, 0, 0, 1)]


# -------------------------------------------------------------------------------------------------------- workers


class Pictures(torch.utils.data.Dataset):
    """Image i is all i."""

    def __len__(self):
        return 16

    def __getitem__(self, i):
        return torch.full((1, 4, 4), float(i)), i


class Collate:
    """The place of torchvision's ``v2.CutMix``: after ``default_collate``."""

    def __init__(self, mixer):
        self.mixer = mixer

    def __call__(self, rows):
        return self.mixer(*default_collate(rows), num_classes=16)


def two_epochs(mixer, **options):
    """All batches of two epochs under one seed."""
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process that has threads
        loader = DataLoader(Pictures(), batch_size=4, collate_fn=Collate(mixer), **options)
        return [batch for _ in range(2) for batch in loader]


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str)
def test_a_collate_function_in_the_process_and_in_workers(options):
    """Pixels and targets agree, batches and epochs differ, and one seed gives one run."""
    if options:
        options = {"multiprocessing_context": "fork", **options}
    batches = two_epochs(MixUp(), **options)
    for first, second in zip(batches, two_epochs(MixUp(), **options), strict=True):
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    for x, t in batches:
        np.testing.assert_allclose(x[:, 0, 0, 0], t @ torch.arange(16.0), rtol=0, atol=1e-4)
    weights = {tuple(t.max(1).values.tolist()) for _, t in batches}
    assert len(weights) == len(batches) == 8


@pytest.mark.nightly
def test_spawned_workers_mix_as_forked_ones():
    options = {"num_workers": 1, "persistent_workers": True}  # a start costs seconds
    forked, spawned = (two_epochs(CutMix(), multiprocessing_context=context, **options) for context in ("fork", "spawn"))
    for first, second in zip(forked, spawned, strict=True):
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


# -------------------------------------------------------------------------------------------------- torch.compile


def counted_graphs():
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    return graphs, backend


class Model(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(168, 4))


@pytest.mark.filterwarnings("default:.*:UserWarning", "default:.*:DeprecationWarning")  # those of the compiler itself
@pytest.mark.parametrize("mixer", [CutMix(), Switch([MixUp(), GMix()])], ids=lambda mixer: type(mixer).__name__)
def test_a_compiled_model_beside_a_mixer_is_one_graph(mixer):
    torch._dynamo.reset()
    graphs, backend = counted_graphs()
    torch.manual_seed(0)
    model = Model()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for _ in range(3):
        images, targets = mixer(*batch(), num_classes=4)
        soft_cross_entropy(compiled(images), targets).backward()
    assert len(graphs) == 1
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("default:.*:UserWarning", "default:.*:DeprecationWarning")
@pytest.mark.parametrize("split", [False, True])
def test_a_whole_compiled_step_breaks_at_the_mixer_and_nowhere_in_the_model(split):
    """The model and its loss are one graph, and the compiled step mixes what the plain one does."""
    torch._dynamo.reset()
    graphs, backend = counted_graphs()
    torch.manual_seed(0)
    model, mixer = Model(), CutMix(interpolations=2)

    def step(images, labels, key):
        if split:
            plan = mixer.plan(key, batch_size=6, height=9, width=8)
            images, targets = mix_images(images, plan), mix_targets(labels, plan, num_classes=4)
        else:
            images, targets = mixer(images, labels, key=key, num_classes=4)
        return soft_cross_entropy(model(images), targets), images, targets

    compiled = torch.compile(step, backend=backend)
    for i in range(4):
        key = Key(0, 1, i)
        for ours, plain in zip(compiled(*batch(), key), step(*batch(), key), strict=True):
            torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    convolutions = [sum("conv" in str(node.target) or "0" in str(node.target) for node in g.graph.nodes) for g in graphs]
    with_model = [g for g in graphs if any("conv2d" in str(node.target) for node in g.graph.nodes)]
    assert len(with_model) == 1, convolutions
    targets = [str(node.target) for node in with_model[0].graph.nodes]
    assert any("linear" in target for target in targets) and any("logsumexp" in target for target in targets)
