"""Windows: torchvision's law, pure in (seed, epoch, step, row, size), and its centre crop as one window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare, ks_2samp
from support.images import picture
from support.independence import dependent
from torchvision.transforms import RandomResizedCrop as Torchvision
from torchvision.transforms import functional as F

from mixops.augment.crop_plan import draw_crops
from mixops.augment.crops import CenterCrop, PaddedRandomCrop, RandomResizedCrop, ResizeRandomCrop, Squash
from mixops.augment.flips import Flip
from mixops.key import Key


def draw(law, sizes, key=None, first=0, flip=0.5):
    sizes = np.asarray(sizes)
    crops = plan(law, sizes, key, first, Flip(flip))
    return crops.windows, crops.flips


NO_FLIP = Flip(0.0)


def plan(law, sizes, key=None, first=0, flip=NO_FLIP, size=(8, 8)):
    sizes = np.asarray(sizes)
    return draw_crops(key or Key(1), np.arange(first, first + len(sizes)), sizes, law, flip, size)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 500), width=st.integers(1, 500), low=st.floats(0.01, 1), seed=st.integers(0, 2**64 - 1))
def test_windows_lie_inside(height, width, low, seed):
    windows, _ = draw(RandomResizedCrop(scale=(low, 1.0)), [(height, width)] * 16, Key(seed))
    top, left, h, w = windows.T
    assert (windows == np.rint(windows)).all()
    assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
    assert (top + h <= height).all() and (left + w <= width).all()


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (64, 64), (100, 140), (30, 200), (200, 20)])
def test_same_law_as_torchvision(size):
    """Two-sample Kolmogorov-Smirnov test of each number of the window against torchvision's own draws."""
    n = 2000
    ours, flips = draw(RandomResizedCrop(), [size] * n)
    image = torch.empty(3, *size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([Torchvision.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4, column
    area = [x[:, 2] * x[:, 3] for x in (ours, theirs)]
    assert ks_2samp(*area).pvalue > 1e-4
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / n**0.5


def test_the_numbers_of_a_window_are_independent():
    """Area, aspect, place and flip are words of their own, in a row and from row to row."""
    side = 5000
    crops, flips = draw(RandomResizedCrop(scale=(0.08, 0.5)), [(side, side)] * 4000)  # the first try always fits
    top, left, h, w = crops.T
    columns = {
        "area": h * w, "aspect": w / h, "top": top / (side - h + 1), "left": left / (side - w + 1), "flip": flips,
    }  # fmt: skip
    assert dependent(columns) == []
    assert dependent({**columns, "left": columns["top"]}) == ["left and top"]  # it would be noticed


def test_every_place_of_a_window_is_equally_likely():
    """The last row and the last column, too: windows of one pixel in an image of 3 x 4."""
    windows, _ = draw(RandomResizedCrop(scale=(0.06, 0.1), ratio=(1, 1)), [(3, 4)] * 6000)
    assert (windows[:, 2:] == 1).all()
    counts = np.bincount((4 * windows[:, 0] + windows[:, 1]).astype(int), minlength=12)
    assert len(counts) == 12 and chisquare(counts).pvalue > 1e-4


def test_fallback_is_torchvisions():
    """Where no try fits, the window is the largest central one; a tiny image leaves no other choice."""
    for size in [(1, 1000), (1000, 1), (3, 3), (7, 400)]:
        windows, _ = draw(RandomResizedCrop(scale=(1.0, 1.0)), [size])
        with torch.random.fork_rng():
            expected = Torchvision.get_params(torch.empty(3, *size), [1.0, 1.0], [3 / 4, 4 / 3])
        if size == (3, 3):
            continue  # aspect 1 may fit by chance
        assert tuple(windows[0]) == tuple(expected)


def test_a_row_does_not_depend_on_the_others():
    law = RandomResizedCrop()
    sizes = np.random.default_rng(0).integers(20, 400, (64, 2))
    windows, flips = draw(law, sizes)
    for first, last in [(0, 1), (5, 9), (31, 64), (63, 64)]:
        part, part_flips = draw(law, sizes[first:last], first=first)
        assert np.array_equal(part, windows[first:last])
        assert np.array_equal(part_flips, flips[first:last])
    other = sizes.copy()
    other[10] = 33, 44
    changed = (draw(law, other)[0] != windows).any(1)
    assert changed.nonzero()[0].tolist() == [10]


def test_steps_epochs_and_seeds_differ():
    keys = [Key(), Key(1), Key(0, 1), Key(0, 0, 1)]
    windows = [draw(RandomResizedCrop(), [(375, 500)] * 4, key)[0].tobytes() for key in keys]
    assert len(set(windows)) == len(keys)


def test_flip_probability():
    for flip in (0.0, 0.25, 1.0):
        _, flips = draw(RandomResizedCrop(), [(50, 50)] * 4000, flip=flip)
        assert abs(flips.mean() - flip) <= 5 * (flip * (1 - flip) / 4000) ** 0.5


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (64, 64), (33, 41), (257, 100)])
@pytest.mark.parametrize(("resize", "crop"), [(56, (48, 48)), (48, (48, 48)), (55, (31, 48))])
def test_centre_window_is_resize_and_centre_crop(size, resize, crop):
    """Resizing the window alone gives torchvision's two steps, to the rounding of Pillow's two passes."""
    image = picture(3, size[1], size[0])
    expected = F.center_crop(F.resize(image, resize, antialias=True), list(crop))
    ((top, left, h, w),) = plan(CenterCrop(resize), [size], size=crop).windows
    ours = image.resize(crop[::-1], Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    difference = np.abs(np.asarray(ours, int) - np.asarray(expected, int))
    assert difference.max() <= 2
    assert difference.mean() < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (0, 1)}, r"scale must be in \(0, 1\], got 0"),
        ({"scale": (0.5, 1.5)}, "scale must be"),
        ({"scale": (0.9, 0.5)}, "scale must be a pair that rises"),
        ({"ratio": (2.0, 1.0)}, "ratio must be a pair that rises, got"),
        ({"ratio": (0.5, float("inf"))}, "ratio must be"),
        ({"ratio": (1.0,)}, "ratio must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**arguments)


def test_a_flip_is_a_probability():
    with pytest.raises(ValueError, match=r"flip must be in \[0, 1\], got 1.5"):
        Flip(1.5)
    with pytest.raises(ValueError, match=r"vertical_flip must be in \[0, 1\], got -1"):
        Flip(0, -1)


def test_validation_cannot_crop_more_than_it_resizes_to():
    with pytest.raises(ValueError, match="resize must be at least size=224, got 200"):
        plan(CenterCrop(200), [(300, 300)], size=(224, 224))


def test_the_numbers_of_a_row_are_independent():
    """No two of windows, flips and filters are drawn from one word: over many rows none says anything of another."""
    rows = [(200, 200)] * 20_000
    crops = plan(RandomResizedCrop((0.2, 0.2), (1, 1), "random"), rows, flip=Flip(0.5, 0.5))
    drawn = [crops.windows[:, 0], crops.windows[:, 1], crops.flips, crops.vertical_flips]
    drawn.append(np.array([name == "bicubic" for name in crops.interpolations]))
    correlation = np.corrcoef(np.array(drawn, np.float64)) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 5 / len(rows) ** 0.5
    for chosen in drawn[2:]:
        assert abs(chosen.mean() - 0.5) < 5 * 0.5 / len(rows) ** 0.5


@pytest.mark.parametrize("law", [PaddedRandomCrop(4), ResizeRandomCrop()])
def test_padded_crops_begin_anywhere(law):
    """Offsets from -4 to 4 of images as large as the output, all equally often, rows and columns independent."""
    crops = plan(law, [(32, 32)] * 8100, size=(32, 32))
    first = np.rint(crops.windows[:, :2]).astype(int) - crops.margins[:, :2]
    counts = np.zeros((9, 9))
    np.add.at(counts, tuple(first.T + 4), 1)
    assert counts.sum() == 8100
    assert chisquare(counts.reshape(-1)).pvalue > 1e-4


def test_padded_crops_keep_their_output_size():
    sizes = np.random.default_rng(0).integers(30, 60, (200, 2))
    crops = plan(PaddedRandomCrop(4, "reflect"), sizes, size=(32, 32))
    shown = crops.windows[:, 2:] + crops.margins[:, :2] + crops.margins[:, 2:]
    assert (shown == 32).all()
    assert (crops.windows[:, :2] >= 0).all()
    assert (crops.windows[:, :2] + crops.windows[:, 2:] <= sizes).all()


@pytest.mark.parametrize(
    ("law", "sizes", "size", "message"),
    [
        (PaddedRandomCrop(4), (20, 40), (32, 32), r"size must be at most that of the padded images, \[20, 40\] \+ 2 \* 4"),
        (PaddedRandomCrop(20, "reflect"), (32, 32), (32, 32), "padding must leave more of an image of .* than it reflects"),
    ],
)
def test_crops_that_cannot_be(law, sizes, size, message):
    with pytest.raises(ValueError, match=message):
        plan(law, [sizes] * 64, size=size)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RandomResizedCrop(interpolation="cubic"), ValueError, "interpolation must be one of 'nearest', .*'random'"),
        (lambda: CenterCrop(interpolation="random"), ValueError, "interpolation must be one of"),
        (lambda: Squash(interpolation="area"), ValueError, "interpolation must be one of"),
        (lambda: PaddedRandomCrop(-1), ValueError, "padding must be at least 0, got -1"),
        (lambda: PaddedRandomCrop(4.0), TypeError, "padding must be an integer, got 4.0"),
        (lambda: PaddedRandomCrop(4, "wrap"), ValueError, "mode must be one of 'constant', 'edge', 'reflect', got 'wrap'"),
        (lambda: ResizeRandomCrop(0), ValueError, "resize must be at least 1, got 0"),
        (lambda: CenterCrop("256"), TypeError, "resize must be an integer, got '256'"),
    ],
)
def test_bad_laws_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 13), (20, 14)])
def test_a_centre_that_is_not_resized_is_torchvisions(size):
    crops = plan(CenterCrop(0), [(20, 14)], size=size)
    image = torch.arange(280).view(1, 20, 14)
    top, left, height, width = crops.windows[0].astype(int)
    assert not crops.resized
    assert torch.equal(image[:, top : top + height, left : left + width], F.center_crop(image, list(size)))
    with pytest.raises(ValueError, match=r"size must be at most that of the images, \[20, 14\], got \[21, 14\]"):
        plan(CenterCrop(0), [(20, 14)], size=(21, 14))
