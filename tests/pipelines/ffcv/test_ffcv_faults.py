"""What goes wrong is said: stages that raise, loops that break, batches that are kept, records that are damaged."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ffcv_data import damage, without_checksums, write_beton, write_folder
from support.ffcv_loaders import CLASSES, interpreted, kept, loader, same

pytest.importorskip("ffcv", reason="ffcv is not installed")

from ffcv.fields.basics import IntDecoder
from ffcv.pipeline.operation import Operation
from ffcv.transforms import ToTensor, ToTorchImage

from mixops import CutMix, MixUp
from pipelines.ffcv import MixImage, MixLabel
from pipelines.ffcv.beton import Beton
from pipelines.ffcv.epoch import EpochThread
from pipelines.ffcv.memory import SlotMemory

__all__ = ["interpreted"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("ffcv") / "train")


@pytest.fixture(scope="module")
def beton(folder: Path) -> Path:
    return write_beton(folder, folder.parent / "a.beton", jpeg_share=0.5)


class Stage(Operation):
    """A stage of Python that calls ``action`` with the number of batches it has seen."""

    def __init__(self, action: Callable[[int], None]) -> None:
        super().__init__()
        self.action, self.seen = action, 0

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, None]:
        return replace(previous_state, jit_mode=False), None

    def generate_code(self) -> Callable[[Any, Any], Any]:
        def run(x: Any, out: None) -> Any:
            self.seen += 1
            self.action(self.seen)
            return x

        return run


def failing(at: int, error: BaseException) -> Stage:
    def act(seen: int) -> None:
        if seen == at:
            raise error

    return Stage(act)


def threads() -> list[str]:
    """Threads of FFCV and ours, but those that kernels keep."""
    return [t.name for t in threading.enumerate() if "kernel" not in t.name and t is not threading.main_thread()]


class Oops(BaseException):
    """An error that is no Exception."""


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "error", [ValueError("bad pixel"), StopIteration(), Oops("bad pixel"), KeyboardInterrupt("bad pixel")]
)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_a_stage_raises_is_raised_at_its_step(beton: Path, error: BaseException, at: int) -> None:
    before = threads()
    mixed = loader(beton, failing(at, error), ToTensor(), MixImage(), mixer=MixUp(1.0), batch_size=4)
    delivered = []
    with pytest.raises(RuntimeError, match=rf"epoch 0, step {at - 1} of .*: ") as caught:
        delivered.extend(mixed)
    assert len(delivered) == at - 1
    cause: BaseException | None = caught.value
    while cause is not None and cause is not error:
        cause = cause.__cause__
    assert cause is error
    assert threads() == before


@pytest.mark.nightly
def test_what_a_compiled_stage_raises_is_raised(beton: Path) -> None:
    class Compiled(Operation):
        def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, None]:
            return replace(previous_state, jit_mode=True), None

        def generate_code(self) -> Callable[[Any, Any], Any]:
            def run(labels: Any, out: None) -> Any:
                if labels[0, 0] >= 0:
                    raise ValueError("bad label")
                return labels

            return run

    mixed = loader(beton, label=[IntDecoder(), Compiled(), ToTensor(), MixLabel(CLASSES)], mixer=MixUp(1.0))
    with pytest.raises(RuntimeError, match=r"step 0 of .*: bad label"):
        next(iter(mixed))


@pytest.mark.usefixtures("interpreted")
def test_next_after_the_end_stops(beton: Path) -> None:
    batches = iter(loader(beton, mixer=MixUp(1.0)))
    assert len(list(batches)) == 3
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(batches)


@pytest.mark.usefixtures("interpreted")
def test_next_after_an_error_stops(beton: Path) -> None:
    batches = iter(loader(beton, failing(1, ValueError("bad")), ToTensor(), MixImage(), mixer=MixUp(1.0)))
    with pytest.raises(RuntimeError):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_break_leaves_no_thread(beton: Path, os_cache: bool, taken: int) -> None:
    before = threads()
    mixed = loader(beton, mixer=MixUp(1.0), batch_size=2, os_cache=os_cache, batches_ahead=1)
    for _ in range(3):
        batches = iter(mixed)
        for _ in range(taken):
            next(batches)
        assert threads() != before
        del batches
        assert threads() == before
    for _ in mixed:
        break
    assert threads() == before
    assert len(kept(mixed)) == 11


@pytest.mark.usefixtures("interpreted")
def test_an_error_in_the_loop_leaves_no_thread(beton: Path) -> None:
    before = threads()
    with pytest.raises(ZeroDivisionError):
        for _ in loader(beton, mixer=MixUp(1.0), batch_size=2):
            raise ZeroDivisionError
    gc.collect()
    assert threads() == before


@pytest.mark.usefixtures("interpreted")
def test_close_ends_an_epoch(beton: Path) -> None:
    before = threads()
    batches = iter(loader(beton, mixer=MixUp(1.0), batch_size=2))
    next(batches)
    batches.close()
    batches.close()
    assert threads() == before
    assert list(batches) == []


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "stages", [[ToTensor(), ToTorchImage(), MixImage()], [MixImage()], [MixImage(), ToTensor()], [ToTensor()]]
)
def test_kept_batches_are_not_overwritten(beton: Path, stages: list[Any]) -> None:
    mixer = CutMix(1.0, interpolations=2) if any(isinstance(stage, MixImage) for stage in stages) else None
    label = [IntDecoder(), ToTensor(), *([MixLabel(CLASSES)] if mixer else [])]
    options: dict[str, Any] = {"mixer": mixer, "batch_size": 2, "batches_ahead": 1, "label": label}
    held = list(loader(beton, *stages, **options))
    assert len(held) == 11
    assert same(held, kept(loader(beton, *stages, **options)))


@pytest.mark.usefixtures("interpreted")
def test_a_view_of_a_batch_is_not_overwritten(beton: Path) -> None:
    options: dict[str, Any] = {"mixer": MixUp(1.0), "batch_size": 2, "batches_ahead": 1}
    rows = [images[1:, 3:5].numpy() for images, _ in loader(beton, **options) if len(images) > 1]
    expected = [images[1:, 3:5].clone().numpy() for images, _ in loader(beton, **options) if len(images) > 1]
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.usefixtures("interpreted")
def test_memory_is_used_again_where_nothing_is_kept(beton: Path) -> None:
    mixed = loader(beton, mixer=MixUp(1.0), batch_size=2, batches_ahead=1)
    places = [images.data_ptr() for images, _ in mixed]
    assert len(places) == 11 and len(set(places)) <= 4  # three slots, and the batch of the loop variable


@pytest.mark.usefixtures("interpreted")
def test_iterators_side_by_side(beton: Path) -> None:
    mixed = loader(beton, mixer=CutMix(1.0))
    epochs = [kept(mixed), kept(mixed)]
    mixed.seek(0)
    one, two = iter(mixed), iter(mixed)
    pairs = [(kept([a])[0], kept([b])[0]) for a, b in zip(one, two, strict=True)]
    assert same([a for a, _ in pairs], epochs[0]) and same([b for _, b in pairs], epochs[1])


# ------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("os_cache", [True, False])
def test_a_damaged_record_is_named(folder: Path, tmp_path: Path, os_cache: bool) -> None:
    path = write_beton(folder, tmp_path / "a.beton")
    damage(path, 13)
    mixed = loader(path, mixer=MixUp(1.0), os_cache=os_cache)
    with pytest.raises(RuntimeError, match=r"sample 13 of .*a\.beton \(dog/006\.jpg\): does not match its checksum"):
        kept(mixed)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0.0, bytes(30), "header"),
        (0.5, bytes(100_000), "ends early"),
        (0.6, b"\xff\xc4" * 20, "libffcv cannot decode sample 5"),
    ],
)
def test_damage_without_checksums(folder: Path, tmp_path: Path, at: float, value: bytes, message: str) -> None:
    path = without_checksums(write_beton(folder, tmp_path / "a.beton"))
    size = int(Beton(path).images("image").size[5])
    damage(path, 5, at, value[: int((1 - at) * size)])
    with pytest.raises(RuntimeError, match=rf"sample 5 .*{message}|{message}"):
        kept(loader(path, mixer=MixUp(1.0)))


@pytest.mark.usefixtures("interpreted")
def test_verify_off_leaves_it_to_the_decoder(folder: Path, tmp_path: Path) -> None:
    path = write_beton(folder, tmp_path / "a.beton")
    damage(path, 5, 0.95, b"\x01")
    assert len(kept(loader(path, mixer=MixUp(1.0), verify=False))) == 3
    damage(path, 5, 0.0)
    with pytest.raises(RuntimeError, match="libffcv cannot decode sample 5"):
        kept(loader(path, mixer=MixUp(1.0), verify=False))


@pytest.mark.usefixtures("interpreted")
def test_who_holds_a_batchs_memory_does_not_make_it_fail(beton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that compiles leaves frames behind, which hold what FFCV gave all stages; new memory says nothing of them."""
    fresh = SlotMemory._new

    def filled(self: SlotMemory) -> np.ndarray:
        array = fresh(self)
        array.fill(1)
        return array

    monkeypatch.setattr(SlotMemory, "_new", filled)
    frames = []
    keep = Stage(lambda seen: frames.append(sys._getframe()))
    assert len(kept(loader(beton, ToTensor(), keep, MixImage(), mixer=MixUp(1.0)))) == 3
    assert len(frames) == 3


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 9_000_000), lambda path: os.truncate(path, 90_000_000)])
def test_a_file_that_changes_size_is_an_error(folder: Path, tmp_path: Path, os_cache: bool, change: Any) -> None:
    path = write_beton(folder, tmp_path / "a.beton")
    mixed = loader(path, Stage(lambda seen: change(path) if seen == 2 else None), ToTensor(), MixImage(), mixer=MixUp(1.0),
                   os_cache=os_cache)  # fmt: skip
    batches = iter(mixed)
    next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match=r"step 2 of .*had \d+ bytes when it was opened and now has \d+"):
        next(batches)


@pytest.mark.usefixtures("interpreted")
def test_a_file_that_was_replaced_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = write_beton(folder, tmp_path / "a.beton")
    mixed = loader(path, mixer=MixUp(1.0))
    kept(mixed)
    os.replace(write_beton(folder, tmp_path / "b.beton", quality=50), path)
    with pytest.raises(RuntimeError, match="was replaced or removed since it was opened"):
        iter(mixed)
    path.unlink()
    with pytest.raises(RuntimeError, match="was replaced or removed since it was opened"):
        iter(mixed)


# ------------------------------------------------------------------------------------------------ long runs


def resident() -> int:
    """Pages of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("os_cache", [True, False])
def test_25_breaks_cost_no_thread_and_no_memory(beton: Path, os_cache: bool) -> None:
    mixer = CutMix(1.0, interpolations=4)
    mixed = loader(beton, ToTensor(), MixImage((0.5,) * 3, (0.2,) * 3), mixer=mixer, os_cache=os_cache, batch_size=4)
    sizes, counts = [], []
    for _ in range(35):
        for _ in mixed:
            break
        gc.collect()
        sizes.append(resident())
        counts.append(len(threads()))
    assert len(set(counts[10:])) == 1
    assert sizes[-1] < 1.05 * sizes[9]


@pytest.mark.usefixtures("interpreted")
def test_20_of_20_errors_arrive(beton: Path) -> None:
    for i in range(20):
        mixed = loader(
            beton, failing(i % 5 + 1, ValueError(f"number {i}")), ToTensor(), MixImage(), mixer=MixUp(1.0), batch_size=4
        )
        with pytest.raises(RuntimeError, match=f"number {i}"):
            kept(mixed)


def test_a_dead_thread_does_not_hang_the_loop(beton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpochThread, "run", lambda self: None)
    with pytest.raises(RuntimeError, match="is gone"):
        list(loader(beton, mixer=MixUp(1.0)))


def test_torch_threads_are_left_as_ffcv_sets_them(beton: Path) -> None:
    loader(beton, mixer=MixUp(1.0), num_workers=2)
    assert torch.get_num_threads() == 2


def test_ffcv_does_not_change_numbas_types(beton: Path) -> None:
    """FFCV's own loader, made while ours is there, must not break functions that take byte arrays."""
    import numba
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
    from ffcv.loader import Loader

    kind = numba.uint8[::1]
    before = hash(kind)
    Loader(str(beton), 4, pipelines={"image": [CenterCropRGBImageDecoder((8, 8), 1.0)], "label": None})
    assert numba.uint8[::1] is kind and kind.mutable and hash(kind) == before
