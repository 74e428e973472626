"""The recipes by name: each trains, with the learning rates and the draws of the peer that it is named after."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.imagenet import FOLDER, RECIPES, module, read
from support.images import make_jpeg_folder, picture
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR

import mixops
from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, PuzzleMix, Switch
from mixops.augment.registry import parse_augment

timm = pytest.importorskip("timm", reason="needs timm: pip install 'mixstage[bench]'")

STEPS = 10  # an epoch, for the curves
Curve = Callable[[Any], list[tuple[float, float]]]  # (epoch, learning rate) of a peer


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)


def by_epoch(epochs: int, current: torch.optim.Optimizer, schedule: LRScheduler) -> list[tuple[float, float]]:
    curve = []
    for epoch in range(epochs):
        curve.append((float(epoch), current.param_groups[0]["lr"]))
        current.step()
        schedule.step()
    return curve


def torchvision_curve(recipe: Any) -> list[tuple[float, float]]:
    """The scheduler of references/classification/train.py for the recipe's command line."""
    current = optimizer(0.5)
    warmup = LinearLR(current, start_factor=0.01, total_iters=5)
    return by_epoch(600, current, SequentialLR(current, [warmup, CosineAnnealingLR(current, T_max=595)], milestones=[5]))


def timm_curve(lr: float, warmup_lr: float, min_lr: float, epochs: int) -> Curve:
    def curve(recipe: Any) -> list[tuple[float, float]]:
        from timm.scheduler import create_scheduler_v2

        current = optimizer(lr)
        options = {"warmup_epochs": 5, "warmup_lr": warmup_lr, "min_lr": min_lr}
        schedule, _ = create_scheduler_v2(current, "cosine", num_epochs=epochs, **options)
        found = []
        for epoch in range(epochs):
            schedule.step(epoch)
            found.append((float(epoch), current.param_groups[0]["lr"]))
        return found

    return curve


def ffcv_curve(epochs: int) -> Curve:
    """Between whole epochs ffcv-imagenet interpolates the values at their ends."""

    def curve(recipe: Any) -> list[tuple[float, float]]:
        ends = np.interp(np.arange(epochs + 1), [0, 2, epochs], [1e-4 * 1.7, 1.7, 0])
        steps = np.arange(STEPS)
        return [
            (epoch + step / STEPS, float(lr))
            for epoch in range(epochs)
            for step, lr in zip(steps, np.interp(steps, [0, STEPS], ends[epoch : epoch + 2]), strict=True)
        ]

    return curve


def convnext_curve(recipe: Any) -> list[tuple[float, float]]:
    """``utils.cosine_scheduler``, whose warm-up reaches the peak one step early: that of the step before is compared."""
    warmup = np.linspace(0, 4e-3, 20 * STEPS)
    rest = [1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + math.cos(math.pi * i / (280 * STEPS))) for i in range(280 * STEPS)]
    scale = (20 * STEPS - 1) / (20 * STEPS)
    curve = [(i / STEPS, float(lr) * scale) for i, lr in enumerate(warmup)]
    return curve + [(20 + i / STEPS, lr) for i, lr in enumerate(rest)]


def puzzlemix_curve(recipe: Any) -> list[tuple[float, float]]:
    """The authors' np.interp in each of the three stages."""
    stages = [([0, 8, 15], [0.5, 1.0, 0.125]), ([15, 40], [0.2, 0.02])]
    curve = []
    for step in range(100 * STEPS):
        epoch = step / STEPS
        if epoch < 40:
            curve.append((epoch, float(np.interp(epoch, *stages[epoch >= 15]))))
        else:
            curve.append((epoch, 0.02 * 0.1 ** ((epoch >= 65) + (epoch >= 90))))
    return curve


def steps_curve(lr: float, milestones: list[int], epochs: int) -> Curve:
    def curve(recipe: Any) -> list[tuple[float, float]]:
        current = optimizer(lr)
        return by_epoch(epochs, current, MultiStepLR(current, milestones))

    return curve


CURVES: dict[str, Curve] = {
    "torchvision_resnet50": torchvision_curve,
    "deit_small": timm_curve(5e-4 * 1024 / 512, 1e-6, 1e-5, 300),
    "deit3_small": timm_curve(4e-3, 1e-6, 1e-5, 800),
    "timm_a2": timm_curve(5e-3, 1e-4, 1e-6, 300),
    "timm_a3": timm_curve(8e-3, 1e-4, 1e-6, 100),
    "convnext_tiny": convnext_curve,
    "ffcv_rn50_16": ffcv_curve(16),
    "ffcv_rn50_88": ffcv_curve(88),
    "multi_mix_resnet50": puzzlemix_curve,
    "multimix_resnet50": steps_curve(0.1, [100, 200], 300),
    "multimix_vit_s16": steps_curve(0.01, [100, 200], 300),
    "k_mixup_cifar10": steps_curve(0.1, [100, 150], 200),
    "hmix_resnet50": steps_curve(0.1, [75, 150, 225], 300),
    "gmix_resnet50": steps_curve(0.1, [75, 150, 225], 300),
    "hmix_cifar100": steps_curve(0.2, [100, 200], 300),
    "gmix_cifar100": steps_curve(0.2, [100, 200], 300),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # of SequentialLR's own call
@pytest.mark.parametrize("name", CURVES)
def test_learning_rates_are_those_of_the_peer(name: str) -> None:
    recipe, learning_rate = read(name), module("schedule").learning_rate
    curve = CURVES[name](recipe)
    assert len(curve) >= recipe.epochs
    if recipe.schedule != "step":
        assert recipe.lr_by == ("epoch" if len(curve) == recipe.epochs else "step")
    expected, got = np.array([lr for _, lr in curve]), np.array([learning_rate(recipe, epoch) for epoch, _ in curve])
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-15)


def test_every_recipe_has_a_curve_to_compare_with() -> None:
    assert set(RECIPES) - set(CURVES) == {"hmix_progressive"}  # a starting point, nobody's recipe


@pytest.mark.parametrize("points", ["1.0@3 0.5@1", "1.0@0 0.5"])
def test_points_are_checked(points: str) -> None:
    with pytest.raises(ValueError, match="lr_points"):
        read("ffcv_rn50_16", "--lr-points", points)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults() -> None:
    recipe = read("deit_small", "--epochs", "7", "--smoothing", "0")
    assert (recipe.epochs, recipe.smoothing, recipe.batch_size, recipe.warmup_prefix) == (7, 0.0, 256, False)
    recipe = read("hmix_progressive")
    assert [recipe.mixes(epoch) for epoch in (0, 89, 90, 99)] == [True, True, False, False]
    learning_rate = module("schedule").learning_rate
    assert [learning_rate(recipe, epoch) for epoch in (0.0, 2.5, 5.0)] == [0.0, 0.5, 1.0]
    assert learning_rate(recipe, 52.5) == pytest.approx(0.5) and learning_rate(recipe, 100.0) == pytest.approx(0.0)


def test_files_are_short() -> None:
    assert all(len(path.read_text().splitlines()) <= 300 for path in FOLDER.glob("*.py"))


# What is drawn


TIMM = {  # what the peer's command line or its defaults give timm's create_transform and Mixup
    "deit_small": {
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "re_prob": 0.25,
        "re_mode": "pixel",
        "interpolation": "bicubic",
        "mixup": 0.8,
    },
    "convnext_tiny": {
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "re_prob": 0.25,
        "re_mode": "pixel",
        "interpolation": "bicubic",
        "mixup": 0.8,
    },
    "timm_a2": {"auto_augment": "rand-m7-mstd0.5-inc1", "re_prob": 0.0, "interpolation": "random", "mixup": 0.1},
    "timm_a3": {"auto_augment": "rand-m6-mstd0.5-inc1", "re_prob": 0.0, "interpolation": "random", "mixup": 0.1},
}


@pytest.mark.parametrize("name", TIMM)
def test_draws_have_the_parameters_of_timms(name: str) -> None:
    from timm.data import Mixup, create_transform

    options = dict(TIMM[name])
    recipe = read(name)
    mixup = Mixup(options.pop("mixup"), 1.0, label_smoothing=recipe.smoothing)
    assert recipe.mixing == Switch(
        [MixUp(mixup.mixup_alpha), CutMix(mixup.cutmix_alpha)], [1 - mixup.switch_prob, mixup.switch_prob], draw=mixup.mode
    ).replace(weights=None)
    assert mixup.switch_prob == 0.5 and mixup.label_smoothing == recipe.smoothing
    peers = {type(t).__name__: t for t in create_transform(224, is_training=True, color_jitter=0.4, **options).transforms}
    crop, rand = peers["RandomResizedCropAndInterpolation"], peers["RandAugment"]
    law = data_law(recipe)
    assert (law.scale, law.ratio) == (crop.scale, pytest.approx(crop.ratio))
    drawn = parse_augment(recipe.augment, interpolation=recipe.interpolation)
    assert drawn is not None
    ours = drawn.policies[0]
    assert (ours.num_layers, ours.magnitude) == (rand.num_layers, rand.ops[0].magnitude)
    assert ours.magnitude_std == rand.ops[0].magnitude_std
    assert "ColorJitter" not in peers  # timm's automatic policies switch it off
    erasing = peers.get("RandomErasing")
    assert (erasing is None) == (not drawn.erasing)
    if erasing is not None:
        mine = drawn.erasing[0]
        assert (mine.p, mine.value, mine.count) == (erasing.probability, "pixel", erasing.max_count)
        assert (erasing.rand_color, erasing.per_pixel) == (False, True)
        assert mine.scale == pytest.approx((erasing.min_area, erasing.max_area), rel=2e-4)
        assert mine.ratio == pytest.approx(tuple(map(math.exp, erasing.log_aspect_ratio)), rel=2e-4)


def data_law(recipe: Any) -> Any:
    from mixops import RandomResizedCrop

    return RandomResizedCrop((recipe.min_scale, 1.0), interpolation=recipe.interpolation)


def test_draws_have_the_parameters_of_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    recipe = read("torchvision_resnet50")
    drawn = parse_augment(recipe.augment, interpolation=recipe.interpolation)
    assert drawn is not None
    policy, erasing = transforms.TrivialAugmentWide(), transforms.RandomErasing(p=0.1)
    ours, erased = drawn.policies[0], drawn.erasing[0]
    assert ours == mixops.TrivialAugmentWide(policy.num_magnitude_bins, "bilinear", policy.fill)  # the preset's filter
    assert (erased.p, erased.scale, erased.ratio, erased.value) == (0.1, erasing.scale, erasing.ratio, erasing.value)
    assert recipe.mixing == Switch([MixUp(0.2), CutMix(1.0)], draw="batch")


def test_draws_of_deit_3() -> None:
    recipe = read("deit3_small")
    assert parse_augment(recipe.augment) == parse_augment("ThreeAugment(color_jitter=0.3)")
    assert data_law(recipe) == mixops.RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), "bicubic")
    assert recipe.mixing == Switch([MixUp(0.8), CutMix(1.0)], draw="batch")


@pytest.mark.parametrize(
    ("name", "mixer"),
    {
        "hmix_resnet50": HMix(1.0, r=0.75, draw="batch"),
        "hmix_cifar100": HMix(1.0, r=0.5, draw="batch"),
        "gmix_cifar100": GMix(0.5, draw="batch"),
        "k_mixup_cifar10": MixUp(1.0, matching=OptimalMatching(k=8), draw="batch"),
        "multimix_resnet50": MixUp(1.0, draw="batch"),
        "multi_mix_resnet50": PuzzleMix(1.0, beta=1.5, interpolations=5, draw="batch", std=(0.229, 0.224, 0.225)),
    }.items(),
)
def test_mixers_are_those_of_the_papers(name: str, mixer: Any) -> None:
    recipe = read(name)
    assert recipe.mixing == mixer
    assert recipe.mixes_in_loader() == (not name.startswith(("multimix", "multi_mix")))


def test_sizes_are_those_of_ffcv_imagenet() -> None:
    """``get_resolution``, which knows whole epochs; ours goes on within them."""
    for name, start, end in (("ffcv_rn50_16", 11, 13), ("ffcv_rn50_88", 65, 76)):
        recipe = read(name)
        size = module("data").training_size(recipe)
        for epoch in range(recipe.epochs):
            expected = int(np.round(np.interp([epoch], [start, end], [160, 192])[0] / 32)) * 32
            assert size.at(epoch, 0, STEPS) == expected


# Training


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of photographs, and of images as small as CIFAR's."""
    folder = tmp_path_factory.mktemp("recipes")
    make_jpeg_folder(folder / "train", 40, classes=4)
    make_jpeg_folder(folder / "val", 12, classes=4, seed=1000)
    for i in range(40):
        (folder / "small" / f"{i % 4}").mkdir(parents=True, exist_ok=True)
        picture(i, 32, 32).save(folder / "small" / f"{i % 4}" / f"{i}.png")
    return folder


@pytest.fixture
def place(images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(images)
    monkeypatch.setenv("MIXSTAGE_CACHE", str(images / "cache"))
    return images


TINY = ["--device", "cpu", "--no-amp", "--no-compile", "--batch-size", "16", "--backend", "torchvision"]
MODELS = {"resnet": ("test_resnet", 32), "deit": ("test_vit", 160), "vit": ("test_vit", 160), "conv": ("test_convnext", 64)}


def tiny(name: str, *options: str) -> Any:
    """A recipe with a small model of the same family at a small size."""
    recipe = read(name)
    model, side = next(small for family, small in MODELS.items() if recipe.model.startswith(family))
    given = [*TINY, "--model", model, "--sizes", str(side), "--val-size", str(side), "--val-resize", str(side + 4)]
    if recipe.small_stem:  # resnet18 is small at 32 pixels
        given[given.index("--model") + 1] = "resnet18"
        given += ["--train", "small", "--val", "small", "--val-resize", "32"]
    return read(name, *given, *(["--tuples", "20"] if recipe.tuples else []), *options)


def start(recipe: Any) -> Any:
    recipe.out.mkdir(exist_ok=True)
    return module("run").Run(recipe, 0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if i % 2 else ()) for i, name in enumerate(RECIPES)]
)
def test_two_steps(name: str, place: Path) -> None:
    recipe = tiny(name)
    run = start(recipe)
    try:
        before = [value.clone() for value in run.network.model.parameters()]
        steps = list(run.train_epoch(0))
        run.validate(0)
    finally:
        run.close()
    assert len(steps) == 2
    assert all(torch.isfinite(value).all() for value in run.network.model.parameters())
    moved = [not torch.equal(*pair) for pair in zip(run.network.model.parameters(), before, strict=True)]
    assert sum(moved) > len(moved) / 2  # the rest was initialised to have no gradient in the first step


def test_unknown_names_in_a_file_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "wrong.ini"
    for text, message in (
        ("learning_rate = 1\n", "learning_rate"),
        ("epochs 7\n", "name = value"),
        ("[more]\nepochs = 7\n", "more"),
        ("epochs = many\n", "epochs"),
    ):
        file.write_text(text)
        with pytest.raises(AssertionError, match=message):
            read(str(file))
    with pytest.raises(AssertionError, match="deit_small"):
        read("deit_smal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "step"], "milestones"),
        (["--schedule", "linear"], "lr_points"),
        (["--schedule", "cosin"], "schedule must be one of 'cosine', 'step', 'linear', got 'cosin'"),
        (["--bce-threshold", "0.2"], "loss = bce"),
        (["--dense"], "tuples"),
        (["--distill", "0.5"], "tuples and ema"),
        (["--layers", "0 layer1"], "a mixer"),
        (["--clean-loss", "1"], "saliency"),
    ],
)
def test_options_that_contradict_each_other_are_errors(options: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.ini").write_text("")
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / "empty.ini"), *options)


# The model


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_vit2"])
def test_dense_trains_what_is_validated(name: str) -> None:
    """Every parameter that validation reads gets a gradient from the dense loss."""
    recipe = read(
        "multimix_vit_s16", "--model", name, "--val-size", "160", "--tuples", "20", "--distill", "0", "--views", "1"
    )
    network = module("network").Network(recipe, 7).eval()
    model, images = network.model, torch.randn(4, 3, 160, 160)
    features = module("model").embed(model, images, dense=True)
    tokens = features.flatten(2).mT if features.ndim == 4 else features
    torch.testing.assert_close(model.get_classifier()(tokens).mean(1), model(images), rtol=1e-4, atol=1e-5)

    def gradients(loss: torch.Tensor) -> set[str]:
        model.zero_grad(set_to_none=True)
        loss.backward()
        return {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}

    validated = gradients(model(images).square().sum())
    trained = gradients(network.multimix(features, torch.arange(4), key=module("network").Key(0)))
    assert validated <= trained and "class_token" not in trained


def test_dense_refuses_a_model_with_a_norm_behind_the_average() -> None:
    recipe = read("multimix_resnet50", "--model", "test_convnext", "--val-size", "64")
    with pytest.raises(ValueError, match="dense must be given a model that classifies its last map's mean"):
        module("model").create_model(recipe, 7)


def test_blurpool_is_ffcv_imagenets() -> None:
    """A blur before each convolution with a stride and 16 channels or more, and the same numbers as theirs."""
    recipe = read("ffcv_rn50_16")
    model = module("model").create_model(recipe, 10)
    plain = timm.create_model("resnet50", num_classes=10)
    expected = {k for k, m in plain.named_modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1 and m.in_channels > 15}
    assert {k for k, m in model.named_modules() if type(m).__name__ == "BlurredConv2d"} == expected and len(expected) == 6
    conv = nn.Conv2d(16, 3, 3, stride=2)
    x = torch.randn(2, 16, 9, 9)
    kernel = (torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16).repeat(16, 1, 1, 1)
    torch.testing.assert_close(
        module("model").BlurredConv2d(conv)(x), conv(nn.functional.conv2d(x, kernel, padding=1, groups=16))
    )


def test_weight_decay_groups_are_those_of_the_peers() -> None:
    from timm.optim import param_groups_weight_decay

    without = module("optimizer").parameters_without_decay
    for name in ("test_vit", "test_resnet", "test_convnext"):
        model = timm.create_model(name)
        named = getattr(model, "no_weight_decay", set)()
        groups = param_groups_weight_decay(model, 0.1, no_weight_decay_list=named)
        free = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        assert {key for key, p in model.named_parameters() if id(p) in free} == without("vectors", model)
        assert without("none", model) == set()
    ops = pytest.importorskip("torchvision.ops._utils")
    model = timm.create_model("test_resnet")
    norms = {id(p) for p in ops.split_normalization_params(model)[0]}
    assert {key for key, p in model.named_parameters() if id(p) in norms} == without("norms", model)


def test_optimizers_are_timms() -> None:
    make = module("optimizer").make_optimizer
    model = timm.create_model("test_resnet")
    sgd = make(read("hmix_resnet50"), model)
    assert sgd.defaults["nesterov"] and sgd.defaults["momentum"] == 0.9
    assert not make(read("ffcv_rn50_16"), model).defaults["nesterov"]
    assert type(make(read("timm_a2"), model)).__name__ == "Lamb"
    assert type(make(read("deit_small"), model)).__name__ == "AdamW"


def test_losses_are_those_of_the_peers() -> None:
    from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

    logits, targets = torch.randn(6, 5), torch.rand(6, 5).softmax(1)
    network = module("network").Network
    a2 = network(read("timm_a2", "--model", "test_resnet"), 5)
    peer = BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)
    torch.testing.assert_close(a2.loss(logits, targets), peer(logits, targets))
    torch.testing.assert_close(a2.loss(logits, torch.arange(5)[[0, 1, 2, 3, 4, 0]]), peer(logits, torch.arange(6) % 5))
    deit3 = network(read("deit3_small", "--model", "test_vit"), 5)
    expected = nn.BCEWithLogitsLoss()(logits, targets.gt(0.0).type(targets.dtype))  # as DeiT III's engine.py has it
    torch.testing.assert_close(deit3.loss(logits, targets), expected)
    deit = network(read("deit_small", "--model", "test_vit"), 5)
    smoothed = targets * 0.9 + 0.1 / 5  # as timm's Mixup makes them
    torch.testing.assert_close(deit.loss(logits, targets), SoftTargetCrossEntropy()(logits, smoothed))


def test_multimix_alternates_with_input_mixup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the steps interpolate embeddings and leave the images alone; the others mix the images."""
    recipe = read("multimix_resnet50", "--model", "test_resnet", "--val-size", "32", "--tuples", "20", "--distill", "0",
                  "--views", "1")  # fmt: skip
    network = module("network").Network(recipe, 4).eval()
    seen: list[torch.Tensor] = []
    network.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    images, targets = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    key, steps = module("network").Key, 40
    for step in range(steps):
        network(images, targets, key(0, 0, step))
    assert steps / 4 < len(seen) < 3 * steps / 4  # MultiMix calls forward_features, not forward
    assert not any(torch.equal(mixed, images) for mixed in seen)


def test_hidden_layers_are_mixed(place: Path) -> None:
    run = start(tiny("hmix_resnet50", "--mixer", "MixUp(1.0)", "--layers", "0 layer1 layer2"))
    try:
        assert not run.recipe.mixes_in_loader() and len(list(run.train_epoch(0))) == 2
    finally:
        run.close()


def test_the_teacher_sees_the_second_view() -> None:
    recipe = read("multimix_resnet50", "--model", "test_resnet", "--val-size", "32", "--tuples", "20")
    network = module("network").Network(recipe, 4).eval()
    teacher = module("network").create_model(recipe, 4).eval()
    seen: dict[str, torch.Tensor] = {}
    for name, model in (("student", network.model), ("teacher", teacher)):
        model.conv1.register_forward_pre_hook(lambda _, arguments, name=name: seen.update({name: arguments[0]}))
    first, second = torch.randn(2, 8, 3, 32, 32)
    steps = (step for step in range(100) if network._interpolates_embeddings(module("network").Key(0, 0, step)))
    network((first, second), torch.arange(8) % 4, module("network").Key(0, 0, next(steps)), teacher)
    assert torch.equal(seen["student"], first) and torch.equal(seen["teacher"], second)


def test_averages_are_copies_until_they_begin(place: Path) -> None:
    run = start(tiny("torchvision_resnet50", "--ema-every", "1"))
    try:
        list(run.train_epoch(0))  # of the five that copy
        assert all(
            torch.equal(a, b) for a, b in zip(run.teacher.module.parameters(), run.network.model.parameters(), strict=True)
        )
        run.recipe = tiny("torchvision_resnet50", "--ema-every", "1", "--ema-after", "0")
        list(run.train_epoch(1))
        assert not torch.equal(run.teacher.module.conv1[0].weight, run.network.model.conv1[0].weight)
    finally:
        run.close()
