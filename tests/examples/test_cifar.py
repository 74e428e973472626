"""The CIFAR example: every method trains, a run that is cut off ends alike, and mixing by nothing is the baseline."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from examples.cifar import table, train
from examples.cifar.data import Images, first_of_each_class, load, shuffled
from examples.cifar.methods import METHODS, Method, find
from examples.cifar.scores import scores
from mixops import CutMix, MixUp, PuzzleMix

SETTINGS = train.Settings(epochs=2, batch_size=32, lr=0.05, per_class=32)
CPU = torch.device("cpu")


def make_images(count: int, seed: int) -> Images:
    """``count`` images a class of five classes, each of a colour of its own."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), count)
    colours = np.random.default_rng(0).integers(40, 216, (5, 3))
    noise = generator.integers(-40, 40, (len(labels), 32, 32, 3))
    return Images((colours[labels][:, None, None] + noise).astype(np.uint8), labels, tuple("abcde"))


TRAIN, TEST = make_images(34, 1), make_images(20, 2)


def weights(run: train.Run) -> dict[str, torch.Tensor]:
    return run.net.state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


FIRST = ("none", "CutMix", "AlignMixup", "MultiMix, dense, distilled", "TrivialAugment", "puzzle-mix", "5 copies, mixup")
"""One of each kind; all of them by night."""


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, id=m.name, marks=() if m.name in FIRST else pytest.mark.nightly) for m in METHODS],
)
def test_each_method_trains(method):
    run = train.train(method, 0, replace(SETTINGS, epochs=1), TRAIN, TEST, None)
    assert len(run.losses) == 1 and np.isfinite(run.losses[0]) and run.losses[0] > 0
    assert all(torch.isfinite(value).all() for value in weights(run).values())


@pytest.mark.parametrize("mixer", [MixUp(1.0, prob=0.0), CutMix(1.0, prob=0.0)], ids=["mixup", "cutmix"])
def test_mixing_with_probability_0_is_the_baseline(mixer):
    baseline = train.train(Method("none"), 3, SETTINGS, TRAIN, TEST, None)
    off = train.train(Method("off", mixer), 3, SETTINGS, TRAIN, TEST, None)
    assert equal(weights(baseline), weights(off)) and baseline.losses == off.losses


def test_a_seed_decides_everything():
    first, again, other = (train.train(Method("none"), seed, SETTINGS, TRAIN, TEST, None) for seed in (0, 0, 1))
    assert equal(weights(first), weights(again)) and not equal(weights(first), weights(other))


@pytest.mark.parametrize("name", ["CutMix", "MultiMix, dense, distilled"])
def test_a_run_that_was_cut_off_ends_alike(name, tmp_path, monkeypatch):
    method = find(name)[0]
    whole = train.train(method, 0, SETTINGS, TRAIN, TEST, None)
    measured = train.accuracy
    calls = []

    def stop(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured(*args)

    monkeypatch.setattr(train, "accuracy", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train(method, 0, SETTINGS, TRAIN, TEST, tmp_path / "run.pt")
    monkeypatch.setattr(train, "accuracy", measured)
    resumed = train.train(method, 0, SETTINGS, TRAIN, TEST, tmp_path / "run.pt")
    assert equal(weights(whole), weights(resumed))
    assert (whole.losses, whole.accuracies) == (resumed.losses, resumed.accuracies)


def test_a_net_that_learned_scores_well_and_one_of_shuffled_labels_by_chance():
    settings = replace(SETTINGS, epochs=6)
    learned = scores(train.train(Method("none"), 0, settings, TRAIN, TEST, None).net, TEST, make_images(4, 5), CPU)[0]
    assert learned["top-1"] > 80 and learned["NLL"] < 1 and learned["error, PGD"] >= 100 - learned["top-1"] - 1e-9
    chance = scores(train.train(Method("lost", shuffled=True), 0, settings, TRAIN, TEST, None).net, TEST, None, CPU)[0]
    assert chance["top-1"] < 60 and chance["NLL"] > learned["NLL"] and "AUROC" not in chance


def test_shuffled_labels_are_the_same_labels_elsewhere():
    found = shuffled(TRAIN, 4)
    assert (np.bincount(found.labels) == np.bincount(TRAIN.labels)).all() and (found.labels != TRAIN.labels).mean() > 0.5
    assert (found.pixels == TRAIN.pixels).all()


def test_first_of_each_class():
    mixed = TRAIN.take(np.random.default_rng(0).permutation(len(TRAIN.labels)))
    found = first_of_each_class(mixed, 3)
    assert np.bincount(found.labels).tolist() == [3] * 5
    expected = np.flatnonzero(mixed.labels == 2)[:3]
    assert (found.pixels[found.labels == 2] == mixed.pixels[expected]).all()
    assert first_of_each_class(mixed, None) is mixed


def make_folder(root, images, part):
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        (root / part / images.classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / part / images.classes[label] / f"{number:04}.png")


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "data", TRAIN, "train")
    make_folder(tmp_path / "data", TEST, "test")
    return tmp_path / "data"


def test_folders_and_data_sets_of_torchvision_give_the_same_arrays(folder, tmp_path):
    from types import SimpleNamespace

    read = load(folder, "train", tmp_path / "out")
    assert (read.pixels == TRAIN.pixels).all() and (read.labels == TRAIN.labels).all() and read.classes == TRAIN.classes
    assert (load(folder, "train", tmp_path / "out").pixels == TRAIN.pixels).all()  # out of the cache
    held = load(SimpleNamespace(data=TRAIN.pixels, targets=TRAIN.labels.tolist(), classes=list("abcde")), "train", tmp_path)
    assert (held.pixels == TRAIN.pixels).all() and held.classes == TRAIN.classes
    with pytest.raises(ValueError, match="data must be a folder with train/ and test/"):
        load(tmp_path, "train", tmp_path / "out")


def test_a_table_that_was_cut_off_comes_out_the_same(folder, tmp_path, monkeypatch):
    out, methods = tmp_path / "out", find("none;mixup")
    (out / "runs").mkdir(parents=True)
    threads = torch.get_num_threads()
    for name in ("none", "mixup"):
        for seed in (0, 1):
            table.run(name, seed, SETTINGS, folder, folder, out)
    torch.set_num_threads(threads)
    found = table.finished(out, methods, (0, 1), SETTINGS)
    cells = table.write(out, "data", found, SETTINGS)
    table.run_file(out, "mixup", 1).unlink()
    assert [sorted(runs) for runs in table.finished(out, methods, (0, 1), SETTINGS).values()] == [[0, 1], [0]]
    table.run("mixup", 1, SETTINGS, folder, folder, out)  # its checkpoint is whole: measured again
    table.run_file(out, "mixup", 1).with_suffix(".pt").unlink()
    table.run("mixup", 1, SETTINGS, folder, folder, out)  # trained again
    torch.set_num_threads(threads)
    assert table.write(out, "data", table.finished(out, methods, (0, 1), SETTINGS), SETTINGS) == cells
    rows = json.loads((out / "data.json").read_text())["rows"]
    tops = {(row["method"], seed): found[row["method"]][seed]["scores"]["top-1"] for row in rows for seed in (0, 1)}
    differences = [tops["mixup", seed] - tops["none", seed] for seed in (0, 1)]
    assert rows[1]["top-1, beside the baseline"]["mean"] == pytest.approx(np.mean(differences))
    assert rows[1]["top-1, beside the baseline"]["deviation"] == pytest.approx(np.std(differences, ddof=1))
    with pytest.raises(ValueError, match="out must hold runs of these settings"):
        table.finished(out, methods, (0, 1), replace(SETTINGS, epochs=3))


def test_methods_by_name():
    assert find("all") == METHODS and [method.name for method in find("CutMix; none")] == ["CutMix", "none"]
    assert len({table.run_file(table.Path(), method.name, 0) for method in METHODS}) == len(METHODS)
    with pytest.raises(ValueError, match="got 'cutmix'"):
        find("none;cutmix")
    assert not any(isinstance(method.mixer, PuzzleMix) for method in METHODS)  # its saliency is the net's: a step


def test_the_step_schedule_falls_at_a_half_and_three_quarters():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    schedule = train.learning_rate(optimizer, replace(SETTINGS, schedule="step"), 8)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    with pytest.raises(ValueError, match="schedule must be"):
        train.learning_rate(optimizer, replace(SETTINGS, schedule="cosine"), 8)
