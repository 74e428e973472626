"""The arguments of a loader in one form: sizes, crops of a split, devices, threads."""

from __future__ import annotations

import pytest
import torch

from loaders.arguments import RATIO, SCALE, check_count, check_mixing, crop_law, default_threads, find_device, output_size
from loaders.processors import usable_processors
from mixops import MixUp
from mixops.augment.crops import CenterCrop, RandomResizedCrop


def test_a_size_is_a_side_or_a_pair() -> None:
    assert output_size(224) == (224, 224) and output_size((160, 192)) == (160, 192)
    for size in (0, (32, 0)):
        with pytest.raises(ValueError, match="size must be at least 1, got 0"):
            output_size(size)


@pytest.mark.parametrize(("size", "resize"), [((224, 224), 256), ((160, 192), 219), ((192, 160), 219)])
def test_validation_resizes_to_the_longer_side_over_seven_eighths(size, resize) -> None:
    law = crop_law("val", size, None, SCALE, RATIO, None)
    assert isinstance(law, CenterCrop) and law.resized(size) == resize
    assert crop_law("val", size, None, SCALE, RATIO, 300) == CenterCrop(300)


def test_training_crops_at_random() -> None:
    assert crop_law("train", (8, 8), None, (0.2, 0.9), (1, 2), None) == RandomResizedCrop((0.2, 0.9), (1, 2))


@pytest.mark.parametrize(("value", "error"), [(True, TypeError), (1.0, TypeError), ("2", TypeError), (0, ValueError)])
def test_what_is_no_count_is_named(value, error) -> None:
    with pytest.raises(error, match="prefetch must be"):
        check_count("prefetch", value)


@pytest.mark.parametrize(
    ("split", "mixer", "smoothing", "error", "message"),
    [
        ("test", None, 0.0, ValueError, "split must be 'train' or 'val', got 'test'"),
        ("train", "mixup", 0.0, TypeError, "mixer must be a mixer of mixops or None, got 'mixup'"),
        ("val", MixUp(), 0.0, ValueError, "mixer must be None for split='val'"),
        ("train", None, 0.1, ValueError, "smoothing must be 0 without a mixer"),
        ("train", MixUp(), 1.0, ValueError, "smoothing must be"),
    ],
)
def test_what_cannot_be_mixed_is_refused(split, mixer, smoothing, error, message) -> None:
    with pytest.raises(error, match=message):
        check_mixing(split, mixer, smoothing)


def test_devices() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'meta'"):
        find_device("meta")


def test_processors_are_shared_by_the_ranks_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(24)), raising=False)
    for ranks, threads in (("1", 24), ("4", 6), ("100", 1), ("", 24)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert default_threads() == threads


def test_processors_where_a_process_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 10)
    assert usable_processors() == 10
