"""The user's own function on the decoded batch: what it is given, when, and that its random numbers follow from the key."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from loaders import ImageLoader
from loaders.transform import transform_name, transform_rows
from mixops import CutMix, Key, MixUp, OptimalMatching, TrivialAugmentWide, mix_images

BACKENDS = ("dali", "torchvision", "ffcv")
PLAIN = {"mean": None, "std": None, "dtype": torch.uint8}


def loader(root, backend="torchvision", **options):
    defaults = {"batch_size": 8, "size": 24, "device": "cpu", "num_threads": 2, "seed": 5}
    return ImageLoader(root, backend=backend, **defaults | options)


def noisy(images, generator):
    """A level of each image's own, added with overflow."""
    level = torch.randint(256, (len(images), 1, 1, 1), dtype=torch.uint8, generator=generator, device=images.device)
    return images + level


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_given_the_augmented_bytes_before_they_are_mixed(roots, backend):
    seen = []

    def watch(images, generator):
        seen.append(images.clone())
        return 255 - images

    options = {"augment": TrivialAugmentWide(), "drop_last": False, **PLAIN}
    with loader(roots(backend), backend, mixer=CutMix(), transform=watch, **options) as one:
        batches = list(one)
        plans = [one.plan(0, step) for step in range(len(one))]
    with loader(roots(backend), backend, **options) as plain:
        for step, (images, _) in enumerate(plain):
            assert torch.equal(seen[step], images)
            assert torch.equal(batches[step][0], mix_images(255 - images, plans[step]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_numbers_follow_from_the_step(roots, backend):
    """Not from threads, nor from the steps before; and no two steps have the same."""
    options = {"transform": noisy, "mixer": MixUp(matching=OptimalMatching(k=2)), **PLAIN}
    with loader(roots(backend), backend, **options) as one:
        whole = [images for images, _ in one]
    with loader(roots(backend), backend, num_threads=1, prefetch=5, **options) as one:
        for step, _ in enumerate(one):
            if step == 4:
                break
        state = one.state_dict()
    with loader(roots(backend), backend, **options) as one:
        one.load_state_dict(state)
        rest = [images for images, _ in one]
    assert len(rest) == len(whole) - 5 and all(map(torch.equal, rest, whole[5:]))


def levels(root, **options):
    """What ``noisy`` added to each row of three steps of two epochs."""
    found = []
    plain, with_it = (loader(root, transform=f, drop_last=True, **{**PLAIN, **options}) for f in (None, noisy))
    with plain, with_it:
        for _ in range(2):
            for _, (x, _), (y, _) in zip(range(3), plain, with_it, strict=False):
                views = [x, y] if isinstance(x, torch.Tensor) else [torch.cat(x), torch.cat(y)]
                found.append((views[1] - views[0])[:, 0, 0, 0])
    return torch.stack(found)


def test_no_two_steps_rows_or_views_share_numbers(jpeg_folder):
    found = levels(jpeg_folder, views=2)
    assert found.shape == (6, 16)
    assert len({tuple(row.tolist()) for row in found}) == 6 and (found[:, :8] != found[:, 8:]).any(1).all()
    assert torch.equal(found[:, :8], levels(jpeg_folder))  # a second view changes nothing in the first


def test_with_groups_it_does_not_depend_on_the_ranks(jpeg_folder):
    alone = levels(jpeg_folder, batch_size=16, mix_group=4)
    ranks = [levels(jpeg_folder, batch_size=8, mix_group=4, rank=rank, world_size=2) for rank in range(2)]
    assert torch.equal(torch.cat(ranks, 1), alone)
    assert len({tuple(group.tolist()) for group in alone[0].split(4)}) == 4


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images, _: images.float(), r"uint8 images \(8, 3, 24, 24\) on cpu, got torch.float32 \(8, 3, 24, 24\)"),
        (lambda images, _: images[:, :, 1:], r"got torch.uint8 \(8, 3, 23, 24\)"),
        (lambda images, _: None, "got <class 'NoneType'>"),
    ],
)
def test_what_is_no_batch_is_refused(jpeg_folder, function, message):
    with loader(jpeg_folder, transform=function) as one, pytest.raises(ValueError, match=message):
        next(iter(one))


def test_its_errors_reach_the_training_loop(jpeg_folder):
    def fail(images, generator):
        raise ZeroDivisionError("mine")

    with loader(jpeg_folder, transform=fail) as one, pytest.raises(ZeroDivisionError, match="mine"):
        next(iter(one))
    with pytest.raises(TypeError, match="transform must be a function of"):
        loader(jpeg_folder, transform="blur")


def test_a_state_remembers_its_name(jpeg_folder):
    state = loader(jpeg_folder, transform=noisy).state_dict()
    loader(jpeg_folder, transform=partial(noisy)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"transform was '.*noisy' and is None"):
        loader(jpeg_folder).load_state_dict(state)
    assert transform_name(torch.nn.Identity()) == "torch.nn.modules.linear.Identity"


def test_each_view_has_its_own_rows() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 2, 2).contiguous()
    groups = [(Key(rank=0), 2), (Key(rank=1), 4)]
    assert torch.equal(transform_rows(lambda x, _: x.clone(), images, groups, 2), images)
