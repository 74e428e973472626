"""Saliency without a model: the spectral residual, and the mixers that follow it in a loader."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch

from loaders import ImageLoader
from mixops import CutMix, Key, PuzzleMix, Switch, mix_targets, parse_mixer, spectral_saliency
from mixops.mixers.saliency import spectral
from mixops.mixers.saliency.peaks import peaks


def literal(grey: np.ndarray) -> np.ndarray:
    """The saliency of one grey picture of at most 64 cells a side, by sums over frequencies and cells in float64."""
    h, w = grey.shape
    waves_y, waves_x = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (h, w))
    spectrum = waves_y @ grey @ waves_x.T
    residual = np.empty_like(spectrum)
    log = np.log(np.maximum(np.abs(spectrum), 1e-7 * np.abs(spectrum).max()))
    for u in range(h):
        for v in range(w):
            near = [log[(u + i) % h, (v + j) % w] for i in (-1, 0, 1) for j in (-1, 0, 1)]
            size = max(abs(spectrum[u, v]), 1e-7 * np.abs(spectrum).max())
            residual[u, v] = math.exp(log[u, v] - sum(near) / 9) * spectrum[u, v] / size
    energy = (waves_y.conj() @ residual @ waves_x.conj().T).real ** 2 / (h * w) ** 2
    out, longer = np.zeros((h, w)), max(h, w)
    for y in range(h):
        for x in range(w):
            for i in range(h):
                for j in range(w):
                    if max(abs(y - i), abs(x - j)) <= 5 / 64 * longer:
                        out[y, x] += energy[i, j] * math.exp(-0.5 * ((y - i) ** 2 + (x - j) ** 2) / (2.5 / 64 * longer) ** 2)
    return out


@pytest.mark.parametrize(("h", "w"), [(32, 32), (9, 31), (1, 24), (12, 1), (5, 2), (4, 3)])
def test_it_is_the_spectral_residual(h, w):
    images = np.random.default_rng(0).random((2, 3, h, w))
    found = spectral_saliency(images.astype(np.float32)).numpy()
    expected = np.stack([literal(image.mean(0)) for image in images])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * expected.max())


def test_numpy_and_torch_say_the_same():
    grey = torch.rand(4, 33, 40, generator=torch.Generator().manual_seed(0))
    grey[1] = 0.5
    blurs = spectral._blurs(33, 40)
    by_numpy = spectral._residual(grey.numpy(), np, scipy.fft, *blurs)
    by_torch = spectral._residual(grey, torch, torch.fft, *map(torch.from_numpy, blurs))
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=0, atol=1e-4 * by_numpy.max())
    assert not by_torch[1].any() and not by_numpy[1].any()


def blobs(h: int, w: int, at: list[tuple[int, int]]) -> torch.Tensor:
    """uint8 pictures of faint noise with a bright spot each."""
    noise = torch.randint(90, 110, (len(at), 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for image, (y, x) in zip(noise, at, strict=True):
        image[:, max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7] = 255
    return noise


def test_what_stands_out_is_found():
    at = [(30, 40), (180, 200), (112, 20), (60, 160)]
    y, x, found = peaks(spectral.spectral_map(blobs(224, 224, at)))
    assert found.all()
    assert np.abs(y * 224 - [a for a, _ in at]).max() <= 10 and np.abs(x * 224 - [b for _, b in at]).max() <= 10


def test_the_scale_and_the_layout_of_images_do_not_matter():
    images = blobs(64, 48, [(20, 20), (40, 30)])
    a, b = spectral_saliency(images), spectral_saliency(images.float() / 255)
    np.testing.assert_allclose(a / a.amax((1, 2), keepdim=True), b / b.amax((1, 2), keepdim=True), rtol=0, atol=2e-3)
    assert torch.equal(a, spectral_saliency(images.contiguous(memory_format=torch.channels_last)))
    assert a.shape == (2, 64, 48) and a.dtype == torch.float32 and a.min() >= 0


@pytest.mark.parametrize("value", [0, 7, 255])
def test_what_has_one_grey_has_no_saliency(value):
    images = torch.full((2, 3, 40, 50), value, dtype=torch.uint8)
    assert not spectral_saliency(images).any() and not spectral_saliency(images / 255).any()
    images = torch.rand(2, 3, 8, 8)
    images[1, 0, 3, 3] = math.nan
    found = spectral_saliency(images)
    assert found[0].any() and not found[1].any()


# ------------------------------------------------------------------------------------------------------ SaliencyMix


def test_each_row_has_the_centre_of_its_partner():
    """Exact at any pixel, the first of equal ones; the authors' code has one image's for the whole batch."""
    saliency = np.zeros((6, 20, 31), np.float32)
    at = [(0, 0), (19, 30), (7, 12), (3, 30), (10, 5), (15, 20)]
    for row, (y, x) in enumerate(at):
        saliency[row, y, x] = 1
    saliency[4, 15, 25] = 1  # comes later
    mixer = CutMix(centre="saliency", saliency="gradient", interpolations=3)
    plan = mixer.plan(Key(4), batch_size=6, height=20, width=31, saliency=saliency)
    plain = CutMix(interpolations=3).plan(Key(4), batch_size=6, height=20, width=31)
    np.testing.assert_array_equal(plan.partner, plain.partner)
    np.testing.assert_array_equal(plan.lam, plain.lam)
    for row in range(6):
        y, x = at[plan.partner[row]]
        for k in range(3):
            half_y, half_x = (int(n * math.sqrt(1 - plan.lam[row, k])) // 2 for n in (20, 31))
            expected = [max(y - half_y, 0), min(y + half_y, 20), max(x - half_x, 0), min(x + half_x, 31)]
            assert plan.params[row, k, 2:6].tolist() == expected
    np.testing.assert_allclose(plan.weight, plan.mask().mean((2, 3)), rtol=0, atol=1e-6)


def test_without_a_peak_the_centre_is_that_of_cutmix():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 24, 24), dtype=np.uint8)
    images[2] = 90
    plan, plain = (mixer.plan(Key(3), images=images) for mixer in (CutMix(centre="saliency"), CutMix()))
    row = int(np.flatnonzero(plan.partner == 2)[0])
    np.testing.assert_array_equal(plan.params[row], plain.params[row])
    assert (plan.params != plain.params).any()


def test_a_function_may_say_what_is_salient():
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    corner = torch.zeros(4, 16, 16).index_fill_(2, torch.tensor([3]), 1.0)
    mixer = CutMix(centre="saliency", saliency=lambda x: corner + x[:, 0] * 0)
    expected = CutMix(centre="saliency", saliency="gradient").plan(Key(1), images=images, saliency=corner)
    assert mixer.needs == {"images"} and mixer.plan(Key(1), images=images).to_json() == expected.to_json()
    puzzle = PuzzleMix(saliency=spectral_saliency)
    assert (
        puzzle.plan(Key(2), images=images).to_json() == PuzzleMix(saliency="spectral").plan(Key(2), images=images).to_json()
    )
    given = PuzzleMix().plan(Key(2), images=images, saliency=spectral_saliency(images))
    assert given.to_json() == puzzle.plan(Key(2), images=images).to_json()
    assert repr(puzzle).endswith("saliency=mixops.mixers.saliency.spectral.spectral_saliency)")
    assert "partial(" in repr(CutMix(centre="saliency", saliency=partial(spectral_saliency)))


def test_needs_follow_the_source():
    assert CutMix().needs == CutMix(saliency="gradient").needs == set()
    assert CutMix(centre="saliency", saliency="gradient").needs == {"saliency"}
    assert CutMix(centre="saliency").needs == PuzzleMix(saliency="spectral").needs == {"images"}
    assert PuzzleMix().needs == {"images", "saliency"}
    for make in (CutMix, PuzzleMix):
        with pytest.raises(ValueError, match="saliency must be 'gradient' or 'spectral' or a function, got 'model'"):
            make(saliency="model")
    with pytest.raises(ValueError, match="centre must be 'uniform' or 'saliency', got 'middle'"):
        CutMix(centre="middle")
    with pytest.raises(ValueError, match=r"saliency must have shape \(b, h, w\) for 3 rows, got \(2, 4, 4\)"):
        mixer = CutMix(centre="saliency", saliency="gradient")
        mixer.plan(Key(), batch_size=3, height=4, width=4, saliency=np.zeros((2, 4, 4)))


LOADED = [
    "CutMix(centre='saliency', interpolations=2)",
    "PuzzleMix(saliency='spectral', interpolations=3)",
    "Switch([PuzzleMix(saliency='spectral'), CutMix(centre='saliency')])",
]


@pytest.mark.parametrize("text", LOADED)
def test_it_runs_in_the_loader(text: str, jpeg_folder: Path) -> None:
    """The plan of the loader is that of the images it has decoded, and its targets are that plan's."""
    mixer = parse_mixer(text)
    options = {"backend": "torchvision", "batch_size": 8, "size": 32, "device": "cpu", "num_threads": 1, "mean": None}
    plain = ImageLoader(jpeg_folder, mixer=None, **options, std=None, dtype=torch.uint8)
    loader = ImageLoader(jpeg_folder, mixer=mixer, **options, std=None, dtype=torch.uint8)
    (images, labels), (mixed, targets) = next(iter(plain)), next(iter(loader))
    plan = mixer.plan(Key(), images=images)
    assert plan.to_json() == loader.plan(0, 0, images).to_json()
    np.testing.assert_array_equal(targets, mix_targets(labels, plan, num_classes=loader.num_classes))
    assert len(mixed) == 8 * plan.interpolations
    np.testing.assert_allclose(plan.weight, plan.mask().mean((2, 3)), rtol=0, atol=1e-6)
    plain.close()
    loader.close()


def test_the_loader_refuses_a_models_saliency_and_says_what_it_can_do(jpeg_folder: Path) -> None:
    for mixer in (PuzzleMix(), CutMix(centre="saliency", saliency="gradient"), Switch([PuzzleMix(), CutMix()])):
        with pytest.raises(ValueError, match=r"no saliency in an ImageLoader.*saliency='spectral', which needs no model"):
            ImageLoader(jpeg_folder, backend="torchvision", batch_size=8, mixer=mixer)
