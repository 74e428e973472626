"""Manifold mixing: the right layer, the right rows, gradients, and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from support import reference
from torch import nn

from mixops import CutMix, GMix, Key, MixUp, OptimalMatching, Switch
from mixops.embedding.manifold import ManifoldMix


class Net(nn.Module):
    """Maps, then vectors."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.hidden = nn.Linear(24, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.pool(self.conv(x).relu()).flatten(1)
        return self.fc(self.hidden(x).relu())


B, CLASSES = 7, 5
IMAGES = torch.randn(B, 3, 6, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def identity_beside(x):
    """Activations whose channels tell which rows they were made of."""
    rows = torch.eye(len(x)).view(len(x), len(x), *[1] * (x.ndim - 2))
    return rows.expand(len(x), len(x), *x.shape[2:]).clone()


@pytest.mark.parametrize(
    "mixer",
    [
        MixUp(1.0), MixUp(1.0, interpolations=3), MixUp(1.0, draw="batch"), CutMix(1.0), CutMix(1.0, interpolations=2),
        GMix(0.5), MixUp(1.0, matching=OptimalMatching(k=3)), Switch([MixUp(0.8), CutMix(1.0)]),
    ],
    ids=str,
)  # fmt: skip
def test_the_output_of_a_layer_is_mixed_as_the_targets_are(mixer):
    """Each row's activations are replaced by indicators of the row; their mean must be the share that the targets give."""
    torch.manual_seed(0)
    model = Net()
    seen = []
    model.conv.register_forward_hook(lambda module, args, out: identity_beside(out))
    model.pool.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.forward = lambda x: model.pool(model.conv(x))
    _, targets = ManifoldMix(model, ["conv"], mixer)(IMAGES, torch.arange(B), key=Key(2), num_classes=B)
    shares = seen[0].mean((2, 3))
    assert targets.shape == (B * mixer.interpolations, B)
    torch.testing.assert_close(shares, targets, atol=1e-5, rtol=0)
    assert (targets.max(1).values < 1).any()


@pytest.mark.parametrize("layer", [0, 1, "conv", "pool", "hidden", 4])
@pytest.mark.parametrize("k", [1, 3])
def test_values_and_gradients_are_those_of_a_loop(layer, k):
    torch.manual_seed(0)
    model = Net().double()
    images = IMAGES.double()
    mix = ManifoldMix(model, [layer], MixUp(1.0, interpolations=k))
    key = Key(1)
    output, targets = mix(images, LABELS, key=key, num_classes=CLASSES)

    def stages(x):
        steps = [lambda x: x, model.conv, model.pool, model.hidden, model.fc]
        place = {0: 0, 1: 1, "conv": 1, "pool": 2, "hidden": 3, 4: 4}[layer]
        between = [lambda x: x, lambda x: x, torch.relu, lambda x: x.flatten(1), torch.relu]
        for i, step in enumerate(steps):
            x = step(between[i](x))
            if i == place:
                plan = mix.plan(key, x)
                rows = []
                for row in range(B):
                    for out in range(k):
                        w = float(plan.params[row, out, 0])
                        rows.append(w * x[row] + (1 - w) * x[plan.partner[row]])
                x = torch.stack(rows)
        return x, plan

    expected, plan = stages(images)
    torch.testing.assert_close(output, expected, atol=1e-6 if layer == 0 else 1e-12, rtol=0)
    want = reference.mix_targets(LABELS.numpy(), plan, num_classes=CLASSES)
    np.testing.assert_allclose(targets.numpy(), want, atol=1e-6)
    gradients = [
        torch.autograd.grad(-(targets * out.log_softmax(1)).sum(), list(model.parameters()), allow_unused=True)
        for out in (output, expected)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 if layer == 0 else 1e-12, rtol=0)


def test_layers_are_chosen_by_the_key_and_all_of_them():
    mix = ManifoldMix(Net(), [0, "conv", "hidden"], MixUp())
    chosen = [mix.layer(Key(0, 0, step)) for step in range(300)]
    counts = [chosen.count(layer) for layer in mix.layers]
    assert sum(counts) == 300 and min(counts) > 60
    assert chosen == [mix.layer(Key(0, 0, step)) for step in range(300)]
    seen = set()
    for step in range(20):
        output, targets = mix(IMAGES, LABELS, key=Key(step=step), num_classes=CLASSES)
        assert output.shape == targets.shape == (B, CLASSES)
        seen.add(mix.layer(Key(step=step)))
    assert seen == set(mix.layers)


def test_matching_looks_at_the_activations():
    """Rows that the layer makes equal are matched with each other, however different their images are."""

    class Embed(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.fc = nn.Identity(), nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(self.hidden(x[:, :2]))

    x = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 100
    x[:, :2] = torch.tensor([[0.0, 0.0], [1000.0, 1000.0]]).repeat(32, 1)
    mix = ManifoldMix(Embed(), ["hidden"], MixUp(1.0, matching=OptimalMatching(k=16)))
    plan = mix.plan(Key(), x[:, :2])
    assert sorted(plan.partner) == list(range(64))
    crossing = (plan.partner % 2 != np.arange(64) % 2).mean()
    assert (
        crossing < 0.35
    )  # a half, if it looked at anything else; a block may hold a few more of one kind than the next block
    short = mix.plan(Key(), x[:9, :2])
    assert short.batch_size == 9


def models():
    import timm
    import torchvision.models as tv

    vit = tv.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    tiny = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2, num_classes=10
    )
    return {
        "torchvision resnet": (tv.resnet18(num_classes=10), ["layer1", 7]),
        "torchvision vit": (vit, [0, "encoder.layers.encoder_layer_1"]),
        "timm resnet": (timm.create_model("resnet10t", num_classes=10), ["layer1", "layer3"]),
        "timm vit": (tiny, ["blocks.0", "patch_embed"]),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchvision_and_timm_models():
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    for name, (model, layers) in models().items():
        for layer, mixer in zip(layers, (MixUp(1.0, interpolations=2), MixUp(matching=OptimalMatching(k=2))), strict=True):
            output, targets = ManifoldMix(model, [layer], mixer)(images, labels, key=Key(), num_classes=10)
            assert output.shape == targets.shape == (4 * mixer.interpolations, 10), name
            (-(targets * output.log_softmax(1)).sum()).backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert not any(module._forward_hooks for module in model.modules())


def test_autocast():
    torch.manual_seed(0)
    model = Net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, targets = ManifoldMix(model, ["conv"], MixUp(1.0, interpolations=2))(
            IMAGES, LABELS, key=Key(), num_classes=CLASSES
        )
    assert output.dtype == torch.bfloat16 and targets.dtype == torch.float32
    (-(targets * output.float().log_softmax(1)).sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_distributed_data_parallel(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        model = Net()
        plain = ManifoldMix(model, ["conv", 0], MixUp())(IMAGES, LABELS, key=Key(), num_classes=CLASSES)[0]
        wrapped = nn.parallel.DistributedDataParallel(model)
        output, targets = ManifoldMix(wrapped, ["conv", 0], MixUp())(IMAGES, LABELS, key=Key(), num_classes=CLASSES)
        torch.testing.assert_close(output, plain)
        F.cross_entropy(output, targets).backward()
        assert model.conv.weight.grad is not None
    finally:
        dist.destroy_process_group()


def test_nothing_is_left_behind_also_after_an_error():
    model = Net()
    mix = ManifoldMix(model, ["hidden"], CutMix())
    with pytest.raises(ValueError, match=r"mixer must have constant masks for activations of shape \(7, 6\), got CutMix"):
        mix(IMAGES, LABELS, key=Key(), num_classes=CLASSES)
    assert not model.hidden._forward_hooks
    before = model(IMAGES)
    assert before.shape == (B, CLASSES)
    assert torch.equal(model(IMAGES), before)

    class Half(nn.Module):
        def forward(self, x):
            return x[: len(x) // 2]

    half = nn.Sequential(Half())
    with pytest.raises(ValueError, match=f"layers must return tensors of {B} rows"):
        ManifoldMix(half, [1], MixUp())(IMAGES, LABELS, key=Key(), num_classes=CLASSES)
    assert not half[0]._forward_hooks


def test_layers_that_run_twice_or_never():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu, self.unused = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)

        def forward(self, x):
            return self.relu(self.fc(self.relu(x)))

    x, y = torch.randn(3, 4), torch.arange(3)
    with pytest.raises(ValueError, match="layers must run once a step, got 'relu', which runs again"):
        ManifoldMix(Odd(), ["relu"], MixUp())(x, y, key=Key(), num_classes=4)
    with pytest.raises(ValueError, match="layers must run in the model's forward pass, got 'unused', which did not"):
        ManifoldMix(Odd(), ["unused"], MixUp())(x, y, key=Key(), num_classes=4)


@pytest.mark.parametrize(
    ("error", "message", "layers", "mixer"),
    [
        (ValueError, "layers must be names of modules of the model, got 'layer9'", ["layer9"], MixUp()),
        (ValueError, "layers must be names of modules of the model, got ''", [""], MixUp()),
        (ValueError, "layers must be from 0 to 4, the model's children, got 5", [5], MixUp()),
        (TypeError, "layers must be a list of names or numbers, got 'conv'", "conv", MixUp()),
        (ValueError, r"layers must be a list of names or numbers, got \[\]", [], MixUp()),
        (TypeError, "layers must be names or numbers, got 1.5", [1.5], MixUp()),
        (TypeError, "mixer must be a mixer such as MixUp, got None", [0], None),
    ],
)
def test_bad_arguments(error, message, layers, mixer):
    with pytest.raises(error, match=message):
        ManifoldMix(Net(), layers, mixer)
    with pytest.raises(TypeError, match=r"model must be an nn\.Module"):
        ManifoldMix(3, [0], MixUp())
