"""The resize is Pillow's, byte for byte: every filter, window, flip, order of passes and processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.nightly import nightly

from pipelines import resize
from pipelines.resize import pillow_order, resize_rows
from pipelines.resize_kernel import ACROSS_FIRST, DOWN_FIRST_IF_LESS, DOWN_FIRST_IF_TALL, FILTERS, resized_crop

Box = tuple[float, float, float, float]
ROOT = Path(__file__).parents[2]
filters = st.sampled_from(list(FILTERS))
sides = st.integers(1, 70)  # on both sides of a vector's 32


def picture(height: int, width: int, hard: bool = False) -> np.ndarray:
    """Noise; if ``hard``, of black and white alone, which makes the negative lobes of a filter leave the range of a byte."""
    noise = np.random.default_rng(1000 * height + width).integers(0, 256, (height, width, 3), np.uint8)
    return (noise > 127).astype(np.uint8) * 255 if hard else noise


def pillow(image: np.ndarray, size: tuple[int, int], name: str, box: Box | None = None) -> np.ndarray:
    """Pillow's ``resize`` to (height, width); ``box`` is left, top, right, bottom."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling(FILTERS[name]), box))


def ours(
    image: np.ndarray, window: tuple[float, ...], size: tuple[int, int], name: str, *, spill: bool = False,
    flip: bool = False, vertical: bool = False,
) -> np.ndarray:  # fmt: skip
    turns = np.array([flip]), np.array([vertical])
    return resize_rows(
        [image], np.array([window], np.float64), turns[0], size, spill=spill, filter=name, vertical_flips=turns[1]
    )[0]


@settings(max_examples=300)
@given(st.data(), sides, sides, sides, sides, filters, st.booleans(), st.booleans(), st.booleans())
def test_is_pillow_on_cut_windows(
    data: st.DataObject, h: int, w: int, oh: int, ow: int, name: str, hard: bool, flip: bool, vertical: bool
) -> None:
    image = picture(h, w, hard)
    height, width = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    top, left = data.draw(st.integers(0, h - height)), data.draw(st.integers(0, w - width))
    cut = np.ascontiguousarray(image[top : top + height, left : left + width])
    expected = pillow(cut, (oh, ow), name)[:: -1 if vertical else 1, :: -1 if flip else 1]
    found = ours(image, (top, left, height, width), (oh, ow), name, flip=flip, vertical=vertical)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=300)
@given(st.data(), sides, sides, sides, sides, filters)
def test_is_pillow_on_boxes(data: st.DataObject, h: int, w: int, oh: int, ow: int, name: str) -> None:
    """Windows with fractions; odd parts of 10007 are those of no smaller image."""
    image = picture(h, w)
    parts = [sorted(data.draw(st.lists(st.integers(0, 10007), min_size=2, max_size=2, unique=True))) for _ in range(2)]
    (top, bottom), (left, right) = ([n * part / 10007 for part in pair] for n, pair in zip((h, w), parts, strict=True))
    found = ours(image, (top, left, bottom - top, right - left), (oh, ow), name, spill=True)
    if parts == [[0, 10007], [0, 10007]]:
        left, top, right, bottom = 0, 0, w, h
    np.testing.assert_array_equal(found, pillow(image, (oh, ow), name, (left, top, right, bottom)))


@settings(max_examples=300)
@given(st.data(), sides, sides, sides, sides, filters)
def test_is_a_crop_of_the_resized_image(data: st.DataObject, h: int, w: int, oh: int, ow: int, name: str) -> None:
    image = picture(h, w)
    height, width = data.draw(st.integers(1, oh)), data.draw(st.integers(1, ow))
    top, left = data.draw(st.integers(0, oh - height)), data.draw(st.integers(0, ow - width))
    window = (top * h / oh, left * w / ow, height * h / oh, width * w / ow)
    found = ours(image, window, (height, width), name, spill=True)
    np.testing.assert_array_equal(found, pillow(image, (oh, ow), name)[top : top + height, left : left + width])


SIZES = [(1, 1), (7, 5), (31, 33), (32, 32), (96, 97), (224, 224), (352, 352), (500, 375), (40, 1300), (1300, 40)]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("source", SIZES)
def test_is_pillow_on_sizes(source: tuple[int, int], name: str) -> None:
    """From every size to every other, reduced to a single pixel and enlarged from one."""
    image = picture(*source, hard=True)
    for size in SIZES:
        np.testing.assert_array_equal(ours(image, (0, 0, *source), size, name), pillow(image, size, name))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [(300, 257), (257, 300), (512, 512), (64, 80), (500, 333)])
def test_is_torchvisions_resize_and_centre_crop(size: tuple[int, int], name: str) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional", reason="torchvision is not installed")
    modes = pytest.importorskip("torchvision.transforms").InterpolationMode
    image = picture(*size)
    whole = functional.resize(Image.fromarray(image), 256, modes(name), antialias=True)
    expected = np.asarray(functional.center_crop(whole, [224, 224]))
    resized = np.array(whole.size[::-1])
    scale = size / resized
    window = (*np.rint((resized - 224) / 2) * scale, *(224 * scale))
    np.testing.assert_array_equal(ours(image, window, (224, 224), name, spill=True), expected)


def in_two_steps(image: np.ndarray, size: tuple[int, int], name: str, *, down_first: bool) -> np.ndarray:
    """Pillow with one pass a call, so that its order is ours to choose."""
    between = (size[0], image.shape[1]) if down_first else (image.shape[0], size[1])
    return pillow(pillow(image, between, name), size, name)


@pytest.mark.parametrize(
    ("order", "source", "size", "down_first"),
    [
        (ACROSS_FIRST, (1300, 12), (64, 48), False),
        (DOWN_FIRST_IF_TALL, (1300, 12), (64, 48), True),
        (DOWN_FIRST_IF_TALL, (1200, 12), (64, 48), False),
        (DOWN_FIRST_IF_TALL, (1300, 12), (1400, 48), False),
        (DOWN_FIRST_IF_LESS, (101, 90), (80, 80), True),
        (DOWN_FIRST_IF_LESS, (100, 90), (80, 80), False),
        (DOWN_FIRST_IF_LESS, (90, 50), (80, 80), True),
        (DOWN_FIRST_IF_LESS, (80, 50), (80, 80), False),
    ],
)
def test_the_order_of_the_passes(
    order: int, source: tuple[int, int], size: tuple[int, int], down_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resize, "pillow_order", lambda: order)
    image = picture(*source)
    found = ours(image, (0, 0, *source), size, "bilinear")
    np.testing.assert_array_equal(found, in_two_steps(image, size, "bilinear", down_first=down_first))
    assert (found != in_two_steps(image, size, "bilinear", down_first=not down_first)).any() or source[0] == size[0]


@pytest.mark.parametrize(
    ("version", "order"),
    [
        ("10.4.0", ACROSS_FIRST),
        ("12.1.1", ACROSS_FIRST),
        ("12.2.0", DOWN_FIRST_IF_TALL),
        ("12.3.0", DOWN_FIRST_IF_TALL),
        ("13.0.0", DOWN_FIRST_IF_LESS),
        ("13.1.0.dev0", DOWN_FIRST_IF_LESS),
        ("14.0.0", DOWN_FIRST_IF_LESS),
    ],
)
def test_the_order_of_a_version(version: str, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", version)
    assert pillow_order.__wrapped__() == order


def test_images_lie_anywhere_in_memory() -> None:
    """A batch, slices of larger images, rows upside down, memory that cannot be written, and images that are copied."""
    batch = np.stack([picture(50, 41), picture(50, 41, hard=True)])
    wide = picture(90, 80)
    sealed = picture(33, 64)
    sealed.flags.writeable = False
    images = [*batch, wide[3:60, 7:70], wide[::-1], sealed, wide[:, ::2], np.asfortranarray(wide)]
    sizes = [image.shape[:2] for image in images]
    windows = np.array([(0, 0, *size) for size in sizes], np.float64)
    for given_images, count in ((images, len(images)), (batch, 2)):
        found = resize_rows(given_images, windows[:count], np.zeros(count, bool), (37, 45), spill=False)
        for row, image in zip(found, images, strict=False):
            np.testing.assert_array_equal(row, pillow(np.ascontiguousarray(image), (37, 45), "bilinear"))
    assert resize_rows([], np.empty((0, 4)), np.empty(0, bool), (7, 5), spill=False).shape == (0, 7, 5, 3)


def test_rows_have_filters_of_their_own_and_threads_share_them() -> None:
    names = list(FILTERS) * 3
    images = [picture(40 + i, 60 - i) for i in range(len(names))]
    windows = np.array([(0, 0, *image.shape[:2]) for image in images], np.float64)
    flips = np.arange(len(names)) % 2 == 0
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found = resize_rows(images, windows, flips, (33, 50), spill=False, filter=names)
            for row, image, name, flip in zip(found, images, names, flips, strict=True):
                np.testing.assert_array_equal(row, pillow(image, (33, 50), name)[:, :: -1 if flip else 1])
    finally:
        torch.set_num_threads(before)


def test_compiled_loops_call_it() -> None:
    image, out = picture(60, 50), np.empty((37, 45, 3), np.uint8)
    resized_crop(image, np.array([3, 4, 40, 45.0]), False, True, True, FILTERS["bicubic"], pillow_order(), out)
    expected = pillow(np.ascontiguousarray(image[3:43, 4:49]), (37, 45), "bicubic")
    np.testing.assert_array_equal(out, expected[::-1, ::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filter": "cubic"}, "filter must be one of nearest, .*, or one for each image, got 'cubic'"),
        ({"filter": ["box", "box"]}, "filter must be"),
        ({"windows": [[0, 0, 10.5, 20]]}, r"of whole pixels inside the image, got \[0.0, 0.0, 10.5, 20.0\] of \[30, 20\]"),
        ({"windows": [[0, 1, 30, 20]]}, "inside the image"),
        ({"windows": [[-1, 0, 30, 20]]}, "inside the image"),
        ({"windows": [[0, 0, 0, 20]]}, "inside the image"),
        ({"windows": [[0.1, 0, 30, 20]], "spill": True}, "windows must be inside the image"),
        ({"windows": [[0, 0, np.nan, 20]], "spill": True}, "inside the image"),
        ({"size": (0, 5)}, r"size must be at least one pixel, got \(0, 5\)"),
        ({"images": [np.zeros((30, 20), np.uint8)]}, r"uint8 of shape \(h, w, 3\), got uint8 of shape \(30, 20\)"),
        ({"images": [np.zeros((30, 20, 3), np.float32)]}, "got float32"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    arguments = {
        "images": [picture(30, 20)], "windows": [[0, 0, 30, 20]], "flips": np.zeros(1, bool), "size": (8, 8), "spill": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        resize_rows(**arguments | change)  # type: ignore[arg-type]


PROCESSORS = [
    *nightly(["", "generic"]),
    *([pytest.param("x86-64-v2", marks=pytest.mark.slow)] if platform.machine() == "x86_64" else []),
]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is protected by mprotect of Linux")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_on_other_processors_and_at_the_edges_of_memory(processor: str) -> None:
    """Other instructions give the same bytes, and nothing is read or written beyond an image, where a page is that traps."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"NUMBA_CPU_NAME": processor} if processor else {})}
    command = [sys.executable, str(ROOT / "tests" / "support" / "resize_edges.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["equal"]
