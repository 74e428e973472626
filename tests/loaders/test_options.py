"""What a loader can be asked for: other crops, subsets, repeats, views, sizes, forms of its batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from loaders import BatchSizes, ImageLoader, Sizes
from loaders.bench.photos import photo, write_photos
from mixops import (
    AugMix,
    AutoAugment,
    CenterCrop,
    ColorJitter,
    CutMix,
    Cutout,
    MixUp,
    OptimalMatching,
    PaddedRandomCrop,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ResizeRandomCrop,
    Squash,
    ThreeAugment,
    TrivialAugmentWide,
    augment_images,
    mix_targets,
    soft_cross_entropy,
)
from pipelines.scaled_decode import decode_scale

BACKENDS = ("dali", "torchvision", "ffcv")


def loader(root, backend="torchvision", **options):
    defaults = {"batch_size": 8, "size": 24, "device": "cpu", "num_threads": 2, "seed": 5}
    return ImageLoader(root, backend=backend, **defaults | options)


@pytest.mark.parametrize(
    "law",
    [
        RandomResizedCrop((0.3, 1), interpolation="random"), ResizeRandomCrop(), ResizeRandomCrop(30, 3, "constant"),
        Squash(), CenterCrop(28, "bicubic"), RandomResizedCrop(interpolation="lanczos"),
    ],
    ids=repr,
)  # fmt: skip
def test_crops_are_the_same_on_all_backends(roots, law):
    expected = None
    for backend in BACKENDS:
        with loader(roots(backend), backend, crop=law, vertical_flip=0.5, mean=None, std=None, dtype=torch.uint8) as one:
            plan, images = one.draw(0, 1), list(one)[1][0]
        assert plan.vertical_flips.any() and not plan.vertical_flips.all()
        if expected is None:
            expected = plan, images
            continue
        assert np.array_equal(plan.windows, expected[0].windows)
        assert plan.crops.interpolations == expected[0].crops.interpolations
        difference = (images.int() - expected[1].int()).abs().float()
        assert difference.mean() < 5  # decoders differ in how they spread colours over pixels


@pytest.mark.parametrize("backend", BACKENDS)
def test_cifars_crop_of_images_that_are_small_enough(roots, backend):
    """Nothing is resized: but for the black margins every pixel is one of the stored image."""
    options = {"crop": PaddedRandomCrop(4), "size": 24, "flip": 0.0, "mean": None, "std": None, "dtype": torch.uint8}
    with loader(roots(backend), backend, **options) as one:
        images, _ = next(iter(one))
        plan = one.draw(0, 0)
    top, left, bottom, right = plan.crops.margins.T
    assert plan.crops.margins.max() <= 4 and (plan.crops.margins > 0).any()
    for row in range(8):
        assert (images[row, :, : top[row]] == 0).all() and (images[row, :, :, : left[row]] == 0).all()
        inner = images[row, :, top[row] : 24 - bottom[row], left[row] : 24 - right[row]]
        assert inner.float().mean() > 5


def test_a_crop_has_its_own_scale(jpeg_folder):
    with pytest.raises(ValueError, match="crop must not be given together with scale, ratio or val_resize"):
        loader(jpeg_folder, crop=Squash(), scale=(0.5, 1))
    with pytest.raises(TypeError, match="crop must be a crop law such as"):
        loader(jpeg_folder, crop="center")


AUGMENTED = [
    TrivialAugmentWide(), RandAugment(2, 9), [AutoAugment("imagenet"), RandomErasing(0.5)], ThreeAugment(), AugMix(),
    ["rand-m9-mstd0.5-inc1", RandomErasing(0.5, value="pixel")], [ColorJitter(0.4, 0.4, 0.4, 0.1), Cutout(8)],
]  # fmt: skip


@pytest.mark.parametrize("augment", AUGMENTED, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_augmentation_is_pillows_of_the_same_crops(roots, backend, augment):
    """What a backend delivers is, to the byte, what Pillow makes of its own unaugmented images by the step's plan."""
    plain = {"mean": None, "std": None, "dtype": torch.uint8, "drop_last": False, "batch_size": 40}
    with loader(roots(backend), backend, augment=augment, **plain) as one, loader(roots(backend), backend, **plain) as none:
        for step, ((images, labels), (before, same)) in enumerate(zip(one, none, strict=True)):
            plan = one.draw(0, step).augment
            assert torch.equal(labels, same)
            expected = augment_images(before.permute(0, 2, 3, 1).contiguous(), plan, backend="eager")
            assert torch.equal(images.permute(0, 2, 3, 1), expected)
            again = type(plan).from_json(plan.to_json())
            assert torch.equal(augment_images(before.permute(0, 2, 3, 1).contiguous(), again), expected)
            assert not torch.equal(images, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resume_in_the_middle_with_all_of_it_on(roots, backend):
    options = {
        "augment": [TrivialAugmentWide(), RandomErasing(0.5, value="pixel")], "mixer": CutMix(), "repeats": 2, "views": 2,
        "crop": RandomResizedCrop(interpolation="random"), "vertical_flip": 0.2,
    }  # fmt: skip
    with loader(roots(backend), backend, **options) as one:
        batches = list(one)
    with loader(roots(backend), backend, **options) as one:
        for step, _ in enumerate(one):
            if step == 6:
                break
        state = one.state_dict()
    with loader(roots(backend), backend, num_threads=1, **options) as one:
        one.load_state_dict(state)
        rest = list(one)
    for ((a, b), targets), ((c, d), expected) in zip(rest, batches[7:], strict=True):
        assert torch.equal(a, c) and torch.equal(b, d) and torch.equal(targets, expected)
    unlike = options | {"augment": None}
    with loader(roots(backend), backend, **unlike) as other, pytest.raises(ValueError, match="augment was"):
        other.load_state_dict(state)


def test_augmentation_does_not_depend_on_the_ranks(jpeg_folder):
    alone = loader(jpeg_folder, batch_size=16, augment="rand-m9-mstd0.5-inc1").draw(2, 1).augment
    parts = [loader(jpeg_folder, batch_size=8, rank=r, world_size=2, augment="rand-m9-mstd0.5-inc1") for r in range(2)]
    plans = [part.draw(2, 1).augment for part in parts]
    assert np.array_equal(np.concatenate([plan.op for plan in plans]), alone.op)
    assert np.array_equal(np.concatenate([plan.arg for plan in plans]), alone.arg)
    assert len(set(alone.noise.tolist())) == 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_subsets(roots, backend):
    chosen = [3, 50, 7, 99, 20, 21, 22, 23, 24]
    with loader(roots(backend), backend, indices=chosen, batch_size=3, ids=True) as one:
        assert len(one) == 3
        seen = [i for epoch in range(2) for *_, ids in one for i in ids.tolist()]
    assert Counter(seen) == Counter(chosen * 2)
    with pytest.raises(ValueError, match=r"indices must be in \[0, 101\), got 3 to 101"):
        loader(roots(backend), backend, indices=[3, 101])


def test_balanced_classes(jpeg_folder):
    whole = loader(jpeg_folder)
    first = np.flatnonzero(whole.dataset.labels == 0)[:2].tolist()
    rest = np.flatnonzero(whole.dataset.labels == 1).tolist()
    with loader(jpeg_folder, indices=first + rest, weights="balanced", batch_size=10) as one:
        labels = np.concatenate(
            [whole.dataset.labels[one.draw(epoch, s).ids] for epoch in range(50) for s in range(len(one))]
        )
    assert abs((labels == 0).mean() - 0.5) < 5 * 0.5 / len(labels) ** 0.5


def test_repeats_dealt_and_together(jpeg_folder):
    with loader(jpeg_folder, repeats=4, batch_size=16, mixer=CutMix()) as one:
        assert len(one) == 101 // 16
        assert set(Counter(one.draw(0, 0).ids.tolist()).values()) == {4}
    with loader(jpeg_folder, repeats=4, repeat_mode="together", batch_size=16, mixer=MixUp()) as one:
        assert len(one) == 4 * 101 // 16
        for step in range(3):
            plan = one.draw(0, step)
            assert set(Counter(plan.ids.tolist()).values()) == {4}
            assert (plan.ids[plan.mix.partner] != plan.ids).all()  # no copy is mixed with itself
            for sample in set(plan.ids.tolist()):
                assert len({tuple(w) for w in plan.windows[plan.ids == sample]}) > 1
        images, targets = next(iter(one))
        assert images.shape == (16, 3, 24, 24) and targets.shape == (16, 5)


@pytest.mark.parametrize("mixer", [None, CutMix(interpolations=2), MixUp(matching=OptimalMatching(2))])
@pytest.mark.parametrize("backend", ["dali", "torchvision"])
def test_two_views_with_the_same_labels(roots, backend, mixer):
    with loader(roots(backend), backend, views=2, mixer=mixer) as two, loader(roots(backend), backend, mixer=mixer) as one:
        for ((first, second), targets), (images, expected) in zip(two, one, strict=True):
            assert first.shape == second.shape == images.shape
            assert torch.equal(targets, expected)
            assert not torch.equal(first, second)
            if mixer is None or mixer.matching is None:
                assert torch.equal(first, images)


def test_forms_of_a_batch(jpeg_folder):
    mixer = CutMix(interpolations=2)
    with loader(jpeg_folder, mixer=mixer) as plain:
        images, targets = next(iter(plain))
        ids = plain.draw(0, 0).ids
        labels = torch.from_numpy(plain.dataset.labels[ids])
    with loader(jpeg_folder, mixer=mixer, batch="dict", ids=True) as one:
        batch = next(iter(one))
        assert list(batch) == ["pixel_values", "labels", "ids"]
        assert torch.equal(batch["pixel_values"], images) and torch.equal(batch["labels"], targets)
        assert batch["ids"].tolist() == ids.tolist()
    with loader(jpeg_folder, mixer=mixer, batch="named") as one:
        batch = next(iter(one))
        assert torch.equal(batch.images, images) and torch.equal(batch.targets, targets)
        assert torch.equal(batch.labels, labels) and batch.ids.tolist() == ids.tolist()
        assert torch.equal(mix_targets(batch.labels, batch.plan, num_classes=5), targets)
    with loader(jpeg_folder, batch="named", views=2) as one:
        batch = next(iter(one))
        assert batch.plan is None and torch.equal(batch.targets, batch.labels) and len(batch.images) == 2
    with loader(jpeg_folder, mixer=mixer, targets="sparse") as one:
        _, pairs = next(iter(one))
        logits = torch.randn(16, 5)
        torch.testing.assert_close(soft_cross_entropy(logits, pairs), torch.nn.functional.cross_entropy(logits, targets))
        assert torch.equal(mix_targets(labels, one.plan(0, 0), num_classes=5), targets)
    with pytest.raises(ValueError, match="batch must be one of 'tuple', 'dict', 'named', got 'list'"):
        loader(jpeg_folder, batch="list")


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_change_within_an_epoch_and_a_resume_keeps_them(roots, backend):
    options = {"size": Sizes("16@0 24@0.5 32@1"), "mixer": CutMix()}
    with loader(roots(backend), backend, **options) as one:
        batches = [batch for _ in range(2) for batch in one]
        steps = len(one)
        assert [len(images[0, 0]) for images, _ in batches] == [16] * 6 + [24] * 6 + [32] * 12
    with loader(roots(backend), backend, **options) as one:
        for step, _ in enumerate(one):
            if step == 4:
                break
        state = one.state_dict()
    with loader(roots(backend), backend, **options) as one:
        one.load_state_dict(state)
        rest = [batch for _ in range(2) for batch in one]
    assert len(rest) == 2 * steps - 5
    for (images, targets), (expected, expected_targets) in zip(rest, batches[5:], strict=True):
        assert torch.equal(images, expected) and torch.equal(targets, expected_targets)
    with loader(roots(backend), backend, size=16) as other, pytest.raises(ValueError, match="size was"):
        other.load_state_dict(state)


def test_batch_sizes_change_with_the_epoch(jpeg_folder):
    with loader(jpeg_folder, batch_size=BatchSizes("8@0 16@1")) as one:
        counts = [(len(one), {len(images) for images, _ in one}) for _ in range(3)]
    assert counts == [(12, {8}), (6, {16}), (6, {16})]


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_in_the_middle_loses_nothing(roots, backend):
    one = loader(roots(backend), backend)
    for seen, _ in enumerate(one, 1):
        if seen == 2:
            one.close()
    state = one.state_dict()
    assert (seen, state["epoch"], state["step"]) == (2, 0, 2)
    with loader(roots(backend), backend) as other:
        other.load_state_dict(state)
        assert len(list(other)) == 10


def test_another_epoch_asked_for_while_one_runs(jpeg_folder):
    with loader(jpeg_folder) as one:
        running = iter(one)
        next(running), next(running)
        for epoch in (1, 7):
            one.set_epoch(epoch)
            assert (one.state_dict()["epoch"], one.state_dict()["step"]) == (0, 2)
        assert len(list(running)) == 10
        assert (one.state_dict()["epoch"], one.state_dict()["step"]) == (7, 0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs much larger than the outputs, and one that is no JPEG."""
    root = write_photos(tmp_path_factory.mktemp("photographs"), 11, classes=2)
    Image.fromarray(photo(11)).save(root / "001" / "000011.png")
    return root


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("backend", ["torchvision", "ffcv"])
def test_fast_decoding_is_done_and_close(photographs, backend, split, monkeypatch):
    """Every crop is the same, JPEG is decoded at a fraction, and what is shown differs by about two grey levels."""
    plain = {
        "batch_size": 12,
        "mean": None,
        "std": None,
        "dtype": torch.uint8,
        "size": 64,
        "split": split,
        "drop_last": True,
    }
    if backend == "ffcv":
        pytest.importorskip("ffcv")
    scales = []
    monkeypatch.setattr("loaders.backends.rows.decode_scale", lambda *row: scales.append(decode_scale(*row)) or scales[-1])
    with loader(photographs, backend, **plain) as exact, loader(photographs, backend, decode="fast", **plain) as fast:
        (images, labels), (others, again) = next(iter(exact)), next(iter(fast))
        assert torch.equal(labels, again) and np.array_equal(exact.draw(0, 0).windows, fast.draw(0, 0).windows)
        assert "decoded at a fraction" in repr(fast) and "fraction" not in repr(exact)
        state = fast.state_dict()
        with pytest.raises(ValueError, match="decode was 'fast' and is None"):
            exact.load_state_dict(state)
        with pytest.raises(ValueError, match="decode was None and is 'fast'"):
            fast.load_state_dict(exact.state_dict())
        fast.load_state_dict(state)
    assert len(scales) == 12 and set(scales) <= {1, 2, 4, 8} and sum(scale > 1 for scale in scales) > 6
    rows = [fast.draw(0, 0).ids.tolist().index(sample) for sample in range(12)]
    differences = (images.float() - others.float()).abs().mean((1, 2, 3))
    for sample, row in enumerate(rows):
        alike = fast.dataset.name(sample).endswith(".png") or decode_scale(fast.draw(0, 0).crops, row) == 1
        assert (differences[row] == 0) == alike
    assert differences.max() < 4  # of photographs with much detail; of another place it is ten and more


def test_fast_decoding_where_it_cannot_be_had(jpeg_folder):
    with pytest.raises(ValueError, match=r"decode must be 'exact' for backend='dali', whose decoder .*, got 'fast'"):
        loader(jpeg_folder, "dali", decode="fast")
    with pytest.raises(ValueError, match="decode must be 'exact' or 'fast', got 'quick'"):
        loader(jpeg_folder, decode="quick")
