"""Measures of trained models: by hand, in closed form, and against torchmetrics and loops over pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mixops import Key
from mixops.measures import (
    alignment,
    corrupt_background,
    detection,
    expected_calibration_error,
    fgsm,
    gradient_moments,
    pgd,
    reliability,
    uniformity,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# -------------------------------------------------------------------------------------------------------- calibration


def test_ece_of_five_answers_by_hand():
    """Bins (.2, .3], (.9, 1] and (.6, .7]: |1 - .25|, |.5 - .975| and |.5 - .65|, weighed by their answers."""
    confidence = torch.tensor([0.25, 0.95, 1.0, 0.7, 0.6 + 1e-9], dtype=torch.float64)
    right = torch.tensor([True, False, True, True, False])
    found = reliability(confidence, right)
    assert found.count.tolist() == [0, 0, 1, 0, 0, 0, 2, 0, 0, 2]
    assert found.error == pytest.approx((0.75 + 2 * 0.475 + 2 * 0.15) / 5, abs=1e-8)


@pytest.mark.parametrize(("value", "place"), [(0.0, 0), (0.1, 0), (0.3, 2), (0.30001, 3), (0.7, 6), (1.0, 9)])
def test_a_bin_has_its_upper_border(value, place):
    found = reliability(torch.tensor([value], dtype=torch.float64), torch.tensor([True]))
    assert found.count.argmax() == place and math.isnan(found.accuracy[place - 1])


def test_ece_is_that_of_torchmetrics():
    pytest.importorskip("torchmetrics")
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = 3 * torch.randn(500, 7, generator=generator()), torch.randint(0, 7, (500,), generator=generator())
    theirs = multiclass_calibration_error(logits.softmax(1), labels, 7, n_bins=10, norm="l1")
    assert expected_calibration_error(logits, labels) == pytest.approx(float(theirs), abs=1e-6)


def test_what_is_no_confidence_is_refused():
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\], got"):
        reliability(torch.tensor([0.5, 1.5]), torch.tensor([True, True]))
    with pytest.raises(ValueError, match="confidence and right must have one shape"):
        reliability(torch.rand(3), torch.ones(2))


# --------------------------------------------------------------------------------------------------------- embeddings


def test_alignment_and_uniformity_are_means_over_pairs(monkeypatch):
    monkeypatch.setattr("mixops.measures.geometry._ROWS", 7)
    z, labels = torch.randn(20, 5, dtype=torch.float64, generator=generator()), torch.arange(20) % 3
    unit = (z / z.norm(dim=1, keepdim=True)).numpy()
    pairs = [(i, j) for i in range(20) for j in range(20) if i != j]
    squares = {(i, j): float(((unit[i] - unit[j]) ** 2).sum()) for i, j in pairs}
    same = [squares[i, j] for i, j in pairs if labels[i] == labels[j]]
    assert alignment(z, labels) == pytest.approx(np.mean(same), abs=1e-12)
    assert uniformity(z) == pytest.approx(math.log(np.mean([math.exp(-2 * s) for s in squares.values()])), abs=1e-12)
    assert uniformity(3 * z) == pytest.approx(uniformity(z), abs=1e-12)
    assert math.isnan(alignment(z[:3], labels[:3])) and math.isnan(uniformity(z[:1]))


def test_ends_of_alignment_and_uniformity():
    opposite = torch.tensor([[1.0, 0], [-1, 0]])
    assert alignment(opposite, torch.tensor([0, 0])) == pytest.approx(4) and uniformity(opposite) == pytest.approx(-8)
    one = torch.ones(4, 3)
    assert alignment(one, torch.zeros(4)) == pytest.approx(0, abs=1e-6) and uniformity(one) == pytest.approx(0, abs=1e-6)


# ------------------------------------------------------------------------------------------------- out of distribution


def literal(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """Detection accuracy and AUROC by loops."""
    thresholds = np.concatenate([known, unknown, [np.inf]])
    accuracy = max(((known >= t).mean() + (unknown < t).mean()) / 2 for t in thresholds)
    wins = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in known for b in unknown])
    return float(accuracy), float(wins)


@pytest.mark.parametrize("digits", [1, 6])
def test_detection_with_ties(digits):
    """Mann and Whitney's statistic, equal scores counting half; average precision as torchmetrics has it."""
    rng = np.random.default_rng(digits)
    known, unknown = rng.beta(5, 2, 60).round(digits), rng.beta(2, 2, 45).round(digits)
    found = detection(known, torch.from_numpy(unknown))
    accuracy, auroc = literal(known, unknown)
    assert found.accuracy == pytest.approx(accuracy, abs=1e-12) and found.auroc == pytest.approx(auroc, abs=1e-12)
    pytest.importorskip("torchmetrics")
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    score, inside = torch.from_numpy(np.concatenate([known, unknown])), torch.arange(105) < 60
    assert found.auroc == pytest.approx(float(binary_auroc(score, inside.long())), abs=1e-6)
    assert found.aupr_in == pytest.approx(float(binary_average_precision(score, inside.long())), abs=1e-6)
    assert found.aupr_out == pytest.approx(float(binary_average_precision(1 - score, (~inside).long())), abs=1e-6)


def test_ends_of_detection():
    apart = detection(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2, 0.3]))
    assert apart == type(apart)(1.0, 1.0, 1.0, 1.0)
    turned = detection(torch.tensor([0.1]), torch.tensor([0.9]))
    assert turned.auroc == 0 and turned.accuracy == 0.5
    with pytest.raises(ValueError, match="unknown must be finite scores"):
        detection(torch.rand(3), torch.tensor([math.nan]))


# ------------------------------------------------------------------------------------------------------------ attacks


class Linear(nn.Module):
    """Two logits of images (b, 2, h, w): +- the sum of weighted pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]).view(2, 1, 1))
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.weight).sum((1, 2, 3))
        assert not self.training
        return torch.stack([score, -score], 1)


MEAN, STD = (0.5, 0.25), (0.25, 0.5)


def pixels(images: torch.Tensor) -> torch.Tensor:
    return images * torch.tensor(STD).view(2, 1, 1) + torch.tensor(MEAN).view(2, 1, 1)


def test_attacks_on_a_linear_model_are_known():
    """The loss of class 0 falls with the score: each pixel goes against its weight's sign, by eps, within [0, 1]."""
    images = (torch.rand(5, 2, 4, 4, generator=generator()) - torch.tensor(MEAN).view(2, 1, 1)) / torch.tensor(STD).view(
        2, 1, 1
    )
    labels = torch.tensor([0, 1, 0, 0, 1])
    model = Linear().train()
    model.norm.eval()
    against = torch.tensor([-1.0, 1.0]).view(2, 1, 1) * torch.tensor([1.0, -1, 1, 1, -1]).view(5, 1, 1, 1)
    expected = (pixels(images) + 8 / 255 * against).clamp(0, 1)
    changed = fgsm(model, images, labels, eps=8 / 255, mean=MEAN, std=STD)
    np.testing.assert_allclose(pixels(changed), expected, rtol=0, atol=1e-6)
    for iterations, reach in ((1, 2), (2, 4), (10, 4)):
        changed = pgd(model, images, labels, iterations=iterations, mean=MEAN, std=STD)
        expected = (pixels(images) + reach / 255 * against).clamp(0, 1)
        np.testing.assert_allclose(pixels(changed), expected, rtol=0, atol=1e-6)
    assert model.training and not model.norm.training and model.weight.grad is None


def test_a_random_start_is_the_keys_and_stays_within_eps():
    images, labels = torch.rand(3, 2, 4, 4, generator=generator()), torch.tensor([0, 1, 0])
    options = {"eps": 0.1, "step": 0.01, "iterations": 1}
    before = torch.get_rng_state()
    first, again, other = (pgd(Linear(), images, labels, key=Key(seed), **options) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first - images).abs().max() <= 0.1 + 1e-6 and first.min() >= 0 and first.max() <= 1
    assert torch.equal(before, torch.get_rng_state())


def test_what_no_attack_can_do_is_refused():
    images, labels = torch.rand(3, 2, 4, 4), torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="eps must be at least 0 and finite, got -1"):
        fgsm(Linear(), images, labels, eps=-1)
    with pytest.raises(ValueError, match="mean must have one value or one a channel, 2, got 3"):
        fgsm(Linear(), images, labels, mean=(0, 0, 0))
    with pytest.raises(ValueError, match=r"images must be floating \(b, c, h, w\)"):
        fgsm(Linear(), images.to(torch.uint8), labels)


# ------------------------------------------------------------------------------------------- gradients and backgrounds


def test_gradient_moments_of_a_known_model():
    """Of loss = w . x the gradient is x: E |x|^2, and the variance is that of the x."""
    rows = torch.randn(6, 1, 4, dtype=torch.float64, generator=generator())
    model = nn.Linear(4, 1, bias=False).double()
    found = gradient_moments(model, [(row, None) for row in rows], loss=lambda out, _: out.sum())
    x = rows[:, 0].numpy()
    assert found.batches == 6 and found.squared_norm == pytest.approx((x**2).sum(1).mean())
    assert found.variance == pytest.approx(((x - x.mean(0)) ** 2).sum(1).mean())
    assert model.weight.grad is None
    with pytest.raises(ValueError, match="batches must not be empty"):
        gradient_moments(model, [])


def test_backgrounds_change_and_objects_do_not():
    images = torch.rand(6, 3, 8, 9, generator=generator())
    boxes = torch.tensor([[2, 1, 6, 5]] * 6)
    for how in ("replace", "noise"):
        found = corrupt_background(images, boxes, key=Key(3), how=how)
        assert torch.equal(found[:, :, 1:5, 2:6], images[:, :, 1:5, 2:6])
        outside = torch.ones(8, 9, dtype=torch.bool)
        outside[1:5, 2:6] = False
        assert torch.equal(found, corrupt_background(images, boxes, key=Key(3), how=how))
        changed = found[:, :, outside]
        if how == "replace":
            source = [next(j for j in range(6) if torch.equal(changed[i], images[j][:, outside])) for i in range(6)]
            assert sorted(source) == list(range(6)) and all(i != j for i, j in enumerate(source))
        else:
            assert found.min() >= 0 and found.max() <= 1
    grey = torch.full((4, 3, 64, 64), 0.5)
    noise = corrupt_background(grey, torch.zeros(4, 4), key=Key(), how="noise") - grey
    assert noise.std() == pytest.approx(0.1, rel=0.02) and noise.mean() == pytest.approx(0, abs=0.002)


# ------------------------------------------------------------------------------------------------------- command line


def test_evaluate_prints_what_the_checkpoint_does(
    jpeg_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of the model run by hand; the diagram is drawn, and wrong names are refused."""
    pytest.importorskip("matplotlib")
    import json

    from loaders import ImageLoader
    from loaders.cli.evaluate import evaluate
    from loaders.cli.training import small_net

    torch.manual_seed(0)
    options = {"backend": "torchvision", "size": 32, "batch_size": 8, "device": "cpu"}
    with ImageLoader(jpeg_folder, split="val", **options) as loader:
        net = small_net(loader.num_classes).eval()
        images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    torch.save({"model": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "last.pt")
    evaluate(
        tmp_path / "last.pt", jpeg_folder, ood=jpeg_folder, bins=10, attack=True, model="small", **options,
        diagram=tmp_path / "reliability.png", json_file=tmp_path / "figures.json",
    )  # fmt: skip
    figures = json.loads((tmp_path / "figures.json").read_text())
    logits = net(images).detach()
    assert figures["images"] == len(labels)
    assert figures["top-1, %"] == pytest.approx(100 * (logits.argmax(1) == labels).double().mean().item(), abs=1e-4)
    assert figures["ECE (10 bins), %"] == pytest.approx(100 * expected_calibration_error(logits, labels), abs=1e-3)
    embedding = net[:-1](images).detach()
    assert figures["alignment (lower is better)"] == pytest.approx(alignment(embedding, labels), abs=1e-4)
    assert figures["uniformity (lower is better)"] == pytest.approx(uniformity(embedding), abs=1e-4)
    assert figures["AUROC, %"] == pytest.approx(50, abs=1e-6)  # the same images: nothing tells them apart
    assert figures["error under PGD 4/255, %"] >= 100 - figures["top-1, %"] - 1e-4
    assert (tmp_path / "reliability.png").stat().st_size > 5000
    assert "uniformity" in capsys.readouterr().out
    with pytest.raises(ValueError, match="model must be 'small' or a model of torchvision or timm"):
        evaluate(tmp_path / "last.pt", jpeg_folder, model="huge", **options)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match=r"checkpoint must be a file of weights that torch\.save wrote, got '.*text\.pt'"):
        evaluate(tmp_path / "text.pt", jpeg_folder, **options)
    with pytest.raises(ValueError, match=r"diagram must be a file that can be written"):
        evaluate(tmp_path / "last.pt", jpeg_folder, diagram=tmp_path, **options)
    with pytest.raises(ValueError, match=r"model must be that of .*last\.pt with 5 classes, got 'resnet18'"):
        evaluate(tmp_path / "last.pt", jpeg_folder, model="resnet18", **options)
