"""MultiMix against the equations of the paper in loops, the two paths against each other, and the module's promises."""

from __future__ import annotations

import copy
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mixops.embedding import streamed
from mixops.embedding.classifier import is_linear
from mixops.embedding.dirichlet import dirichlet
from mixops.embedding.manifold import ManifoldMix
from mixops.embedding.multimix import MultiMix
from mixops.embedding.streamed import Linear, streamed_loss
from mixops.key import Key
from mixops.mixers.mixup import MixUp

DOUBLE = torch.float64


class Literal(nn.Linear):
    """A linear classifier that is not known to be one, so that it takes the literal path."""


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def reference(z, w, b, y, lam, attention=None, distill=0.0, teacher=None):
    """Eq. 6 to 15 in loops. z (m, r, d), w (c, d), b (c,), y (m, c), lam (r, m, n); teacher (z, w, b)."""
    m, r, _ = z.shape

    def maps(z, w):
        if attention is None:
            return np.full((m, r), 1 / r)
        kind, nonlinearity = attention
        out = np.empty((m, r))
        for i in range(m):
            u = z[i].mean(0) if kind == "gap" else y[i] @ w
            scores = np.array([z[i, j] @ u for j in range(r)])
            positive = np.maximum(scores, 0)
            out[i] = softmax(scores) if nonlinearity == "softmax" else positive / (positive.sum() or 1)
        return out

    def interpolate(a, j, k):
        column = np.array([a[i, j] * lam[j, i, k] for i in range(m)])  # eq. 11
        return column / column.sum(), column.sum()  # eq. 12

    a = maps(z, w)
    losses = []
    for j in range(r):
        entropies, weights = [], []
        for k in range(lam.shape[2]):
            column, s = interpolate(a, j, k)
            p = softmax(w @ (column @ z[:, j]) + b)  # eq. 13
            entropy = -(column @ y) @ np.log(p)  # eq. 14
            if teacher is not None:
                zt, wt, bt = teacher
                columns_t, _ = interpolate(maps(zt, wt), j, k)
                pt = softmax(wt @ (columns_t @ zt[:, j]) + bt)
                entropy = (1 - distill) * entropy - distill * pt @ np.log(p)  # eq. 9
            entropies.append(entropy)
            weights.append(s)
        losses.append(np.dot(entropies, weights) / np.sum(weights))  # eq. 15
    return float(np.mean(losses))


def numpy(*tensors):
    return [t.detach().numpy() for t in tensors]


def problem(m=6, d=5, c=4, n=9, spatial=(2, 3), seed=0, bias=True, kind=nn.Linear):
    g = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = kind(d, c, bias=bias).to(DOUBLE)
    features = torch.randn(m, d, *spatial, generator=g, dtype=DOUBLE).requires_grad_()
    labels = torch.randint(c, (m,), generator=g)
    lam = dirichlet(g, positions=int(np.prod(spatial)), tuples=n, samples=m).double()
    lam /= lam.sum(1, keepdim=True)
    return head, features, labels, lam if spatial else lam[0]


@pytest.mark.parametrize(
    ("kind", "attention"),
    [(nn.Linear, "cam"), *itertools.product([nn.Linear, Literal], ["gap", "uniform", None])],  # maps of W need a linear head
)
@pytest.mark.parametrize(("nonlinearity", "distill"), [("relu", 0.0), ("relu", 0.5), ("softmax", 1.0)])
def test_the_loss_is_that_of_the_paper(kind, attention, nonlinearity, distill):
    dense = attention is not None
    head, features, labels, lam = problem(spatial=(2, 3) if dense else (), kind=kind)
    loss = MultiMix(
        head, dense=dense, attention=attention or "gap", nonlinearity=nonlinearity, distill=distill, smoothing=0.1
    )
    teacher_head, teacher_features, _, _ = problem(spatial=(2, 3) if dense else (), kind=kind, seed=1)
    teacher = (teacher_features.detach(), teacher_head) if distill else None
    got = loss(features, labels, lam=lam, teacher=teacher)
    assert loss.path == ("commuted" if kind is nn.Linear else "literal")
    y = np.eye(4)[labels.numpy()] * 0.9 + 0.1 / 4
    z, zt = (
        x.detach().flatten(2).mT.numpy() if dense else x.detach()[:, None].numpy() for x in (features, teacher_features)
    )
    expected = reference(
        z, *numpy(head.weight, head.bias), y, lam.numpy() if dense else lam[None].numpy(),
        None if attention in (None, "uniform") else (attention, nonlinearity), distill,
        (zt, *numpy(teacher_head.weight, teacher_head.bias)) if distill else None,
    )  # fmt: skip
    assert got.item() == pytest.approx(expected, abs=1e-12)


def literal_twin(loss: MultiMix) -> MultiMix:
    """The same loss with a classifier of the same parameters that takes the literal path."""
    twin = copy.copy(loss)
    twin._modules = dict(loss._modules)
    head = Literal(loss.classifier.weight.shape[1], loss.classifier.weight.shape[0])
    head.weight, head.bias = loss.classifier.weight, loss.classifier.bias
    twin.classifier = head
    return twin


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 9), d=st.integers(1, 7), c=st.integers(1, 6), n=st.integers(1, 70), r=st.integers(0, 5),
    bias=st.booleans(), soft=st.booleans(), distill=st.sampled_from([0.0, 0.3, 1.0]),
    attention=st.sampled_from(["gap", "uniform"]), nonlinearity=st.sampled_from(["relu", "softmax"]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_commuted_equals_literal(m, d, c, n, r, bias, soft, distill, attention, nonlinearity, scale, seed):
    """Loss and all gradients in float64 within 1e-10 (of values of order one), through the attention."""
    spatial = (r,) if r else ()
    head, features, labels, _ = problem(m, d, c, n, spatial, seed, bias)
    if r:
        features = features.detach().mT.contiguous().requires_grad_()  # tokens
    with torch.no_grad():
        features *= scale
    if soft:
        labels = F.one_hot(labels, c).double() * 0.7 + 0.3 / c
    loss = MultiMix(head, n, dense=bool(r), attention=attention, nonlinearity=nonlinearity, distill=distill)
    teacher = None
    if distill:
        teacher_head, teacher_features, _, _ = problem(m, d, c, n, spatial, seed + 1, bias)
        teacher = ((teacher_features.mT if r else teacher_features).detach().relu(), teacher_head)
    inputs = [features, *head.parameters()]
    results = []
    for variant in (loss, literal_twin(loss)):
        value = variant(features, labels, key=Key(seed), teacher=teacher)
        results.append([value.detach(), *torch.autograd.grad(value, inputs)])
    assert loss.path == "commuted"
    for got, expected in zip(*results, strict=True):
        bound = 1e-10 * max(1.0, expected.abs().max().item())
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got, expected, atol=bound, rtol=0)


@pytest.mark.parametrize("attention", ["gap", "cam"])
@pytest.mark.parametrize("block", [1, 10**9])
def test_commuted_gradients_are_those_of_finite_differences(attention, block, monkeypatch):
    monkeypatch.setattr("mixops.embedding.streamed._CPU_BLOCK", block)
    head, features, labels, _ = problem(m=3, d=2, c=3, n=70, spatial=(2,))
    loss = MultiMix(head, 70, dense=True, attention=attention, nonlinearity="softmax", smoothing=0.2)

    def value(z, w, b):
        return torch.func.functional_call(loss, {"classifier.weight": w, "classifier.bias": b}, (z, labels), {"key": Key()})

    inputs = (features, head.weight.detach().requires_grad_(), head.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(value, inputs, atol=1e-6)
    assert torch.autograd.gradgradcheck(value, inputs, atol=1e-5)


@pytest.mark.parametrize("dense", [False, True])
def test_a_head_that_is_not_linear_differs_if_it_is_commuted_and_is_not(dense):
    """The identity is the linear head's alone: with tanh, interpolating logits is another loss."""
    _, features, labels, lam = problem(spatial=(2, 3) if dense else ())
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(5, 4), nn.Tanh()).double()
    loss = MultiMix(head, dense=dense, attention="uniform")
    value = loss(features, labels, lam=lam)
    assert loss.path == "literal"
    z = features.flatten(2).mT if dense else features[:, None]
    targets = F.one_hot(labels, 4).double()
    weights = lam.mT if dense else lam.mT[None]
    forced = streamed_loss(Linear(head(z), None), targets, lambda i, j: weights[i:j], weights.shape[1])
    assert abs(forced.item() - value.item()) > 1e-4


def test_path_says_which_was_taken():
    head, features, labels, _ = problem(spatial=())
    loss = MultiMix(head, 8)
    with torch.no_grad():
        without = loss(features, labels, key=Key())
    assert loss.path == "literal"
    assert loss(features, labels, key=Key()).item() == pytest.approx(without.item(), abs=1e-12)
    assert loss.path == "commuted"
    frozen = MultiMix(head.requires_grad_(False), 8)
    frozen(features.detach(), labels)
    assert frozen.path == "literal"  # nothing needs a gradient
    frozen(features, labels)
    assert frozen.path == "commuted"


@pytest.mark.parametrize(
    ("head", "linear"),
    [
        (nn.Linear(5, 4), True), (nn.Linear(5, 4, bias=False), True), (nn.Conv2d(5, 4, 1), True),
        (nn.Conv2d(5, 4, 1, bias=False), True), (nn.Conv2d(5, 4, 3, padding=1), False),
        (nn.Conv2d(5, 4, 1, stride=2), False),
        (nn.Conv2d(4, 4, 1, groups=2), False), (nn.Conv2d(5, 4, 1, padding=1), False), (Literal(5, 4), False),
        (nn.Sequential(nn.Linear(5, 4)), False), (nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), False),
    ],
)  # fmt: skip
def test_which_heads_commute(head, linear):
    assert is_linear(head) == linear
    handle = head.register_forward_hook(lambda *args: None)
    assert not is_linear(head)  # a hook may do anything
    handle.remove()
    assert is_linear(head) == linear


def test_a_convolution_of_one_pixel_is_a_linear_layer_at_each_position():
    head, features, labels, lam = problem()
    conv = nn.Conv2d(5, 4, 1).double()
    with torch.no_grad():
        conv.weight.copy_(head.weight[:, :, None, None])
        conv.bias.copy_(head.bias)
    losses = [MultiMix(h, dense=True) for h in (head, conv)]
    values = [loss(features, labels, lam=lam) for loss in losses]
    assert losses[1].path == "commuted" and values[0].item() == pytest.approx(values[1].item(), abs=1e-12)
    gradients = [torch.autograd.grad(v, [features, h.weight]) for v, h in zip(values, (head, conv), strict=True)]
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1].flatten(1))


def test_heads_over_positions_get_the_shape_they_know():
    """A 3x3 convolution sees maps (n, d, h, w), a head over tokens (n, r, d); both keep the positions."""
    seen = []

    class Over(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            seen.append(tuple(x.shape))
            return self.inner(x)

    _, features, labels, lam = problem()
    conv = Over(nn.Conv2d(5, 4, 3, padding=1).double())
    value = MultiMix(conv, dense=True)(features, labels, lam=lam)
    assert seen == [(9, 5, 2, 3)] and torch.isfinite(value)
    tokens = features.detach().flatten(2).mT
    mlp = Over(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)).double())
    from_tokens = MultiMix(mlp, dense=True)(tokens, labels, lam=lam)
    assert seen[1:] == [(9, 6, 5)]
    from_maps = MultiMix(mlp, dense=True)(features, labels, lam=lam)
    assert seen[2:] == [(9, 2, 3, 5)]
    assert from_maps.item() == pytest.approx(from_tokens.item(), abs=1e-12)
    with pytest.raises(ValueError, match=r"classifier must keep the positions \(2, 2\), got \(1, 1\)"):
        MultiMix(nn.Conv2d(5, 4, 2, padding=0).double(), dense=True)(features[:, :, :, :2], labels, lam=lam[:4])


def test_layouts_agree():
    head, features, labels, lam = problem()
    loss = MultiMix(head, dense=True)
    expected = loss(features, labels, lam=lam).item()
    for same in (
        features.to(memory_format=torch.channels_last), features.flatten(2), features.flatten(2).mT,
        features.unflatten(2, (1, 2)),
    ):  # fmt: skip
        assert loss(same, labels, lam=lam).item() == pytest.approx(expected, abs=1e-12)


def test_three_axes_of_one_size_are_tokens():
    head, features, labels, _ = problem(d=6, spatial=(6,))
    loss = MultiMix(head, 5, dense=True)
    value, turned = (loss(x, labels, key=Key()).item() for x in (features, features.mT))
    assert value != turned
    loss.classifier = Literal(6, 4).double()
    loss.classifier.load_state_dict(head.state_dict())
    assert loss(features, labels, key=Key()).item() == pytest.approx(value, abs=1e-12)


def test_the_labels_can_be_numbers_or_probabilities():
    head, features, labels, lam = problem(spatial=())
    plain, smooth = MultiMix(head), MultiMix(head, smoothing=0.1)
    one_hot = F.one_hot(labels, 4)
    assert plain(features, labels, lam=lam).item() == plain(features, one_hot.double(), lam=lam).item()
    smoothed = one_hot.double() * 0.9 + 0.1 / 4
    assert smooth(features, labels, lam=lam).item() == pytest.approx(plain(features, smoothed, lam=lam).item(), abs=1e-12)
    assert smooth(features, labels.int(), lam=lam).item() == smooth(features, labels, lam=lam).item()


def test_one_hot_columns_give_plain_cross_entropy():
    head, features, labels, _ = problem(spatial=())
    value = MultiMix(head)(features, labels, lam=torch.eye(6, dtype=DOUBLE))
    assert value.item() == pytest.approx(F.cross_entropy(head(features), labels).item(), abs=1e-12)


@pytest.mark.parametrize("kind", [nn.Linear, Literal])
def test_positions_without_attention_count_nothing(kind):
    """A map of zeros at some positions (a dead ReLU), for one sample or for all: no NaN, and no gradient from there."""
    head, features, labels, lam = problem(spatial=(3,), kind=kind)
    with torch.no_grad():
        features.copy_(features.abs())
        features[:, :, 1] = 0
        features[2] = 0
    loss = MultiMix(head, dense=True)
    value = loss(features.mT, labels, lam=lam)
    gradient, weight = torch.autograd.grad(value, [features, head.weight])
    assert torch.isfinite(gradient).all() and torch.isfinite(weight).all()
    kept = [0, 1, 3, 4, 5]
    rest = lam[:, kept] / lam[:, kept].sum(1, keepdim=True)
    y = np.eye(4)[labels.numpy()]
    z = features.detach().mT.numpy()[kept][:, [0, 2]]
    # two of three positions, each sample's attention and the weights s as they were (s is scaled by the share of kept)
    s = lam[:, kept].sum(1)[[0, 2]].numpy()
    total = 0.0
    for j in range(2):
        terms = [reference_term(z, head, y[kept], rest[[0, 2]].numpy(), j, k) for k in range(9)]
        weights = np.array([t[1] for t in terms]) * s[j]
        total += np.dot([t[0] for t in terms], weights) / weights.sum()
    assert value.item() == pytest.approx(total / 3, abs=1e-10)


def reference_term(z, head, y, lam, j, k):
    """Entropy and weight of one tuple at one position under average attention."""
    w, b = numpy(head.weight, head.bias)
    scores = np.array([[np.maximum(z[i, q] @ z[i].mean(0), 0) for q in range(z.shape[1])] for i in range(len(z))])
    a = scores / scores.sum(1, keepdims=True)
    column = a[:, j] * lam[j, :, k]
    p = softmax(w @ (column / column.sum() @ z[:, j]) + b)
    return -(column / column.sum() @ y) @ np.log(p), column.sum()


def test_a_teacher_without_attention_finds_all_classes_equal():
    head, features, labels, lam = problem(spatial=(3,))
    blind = torch.zeros(6, 3, 5, dtype=DOUBLE), problem(seed=1)[0]
    values = []
    for variant in (loss := MultiMix(head, dense=True, distill=1.0), literal_twin(loss)):
        values.append(variant(features.mT, labels, lam=lam, teacher=blind).item())
    uniform = MultiMix(head, dense=True)(features.mT, torch.full((6, 4), 0.25, dtype=DOUBLE), lam=lam).item()
    assert values == pytest.approx([uniform, uniform], abs=1e-12)


def test_the_draw_is_a_function_of_the_key():
    head, features, labels, _ = problem(spatial=())
    loss = MultiMix(head, 20)

    def value(**kwargs):
        return loss(features, labels, **kwargs).item()

    assert value(key=Key(1)) == value(key=Key(1)) != value(key=Key(2))
    a, b = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert value(key=a) == value(key=b) != value(key=a)


def test_without_a_key_the_module_counts_and_its_state_resumes():
    head, features, labels, _ = problem(spatial=())
    torch.manual_seed(3)
    loss = MultiMix(head, 20)
    values = [loss(features, labels).item() for _ in range(2)]
    state = pickle.loads(pickle.dumps(loss.state_dict()))
    values += [loss(features, labels).item() for _ in range(2)]
    assert len(set(values)) == 4
    other = MultiMix(copy.deepcopy(head), 20)
    other.load_state_dict(state)
    assert [other(features, labels).item() for _ in range(2)] == values[2:]


def test_no_global_generator_is_touched():
    head, features, labels, _ = problem(spatial=())
    before = torch.get_rng_state()
    MultiMix(head, 20)(features, labels).backward()
    assert torch.equal(before, torch.get_rng_state())


def test_float32_is_as_near_as_the_literal_path():
    """Errors against float64, compared with those of the literal equations in float32."""
    head, features, labels, _ = problem(m=32, d=40, c=20, n=200, spatial=(3, 3))
    loss = MultiMix(head, 200, dense=True)
    exact = torch.autograd.grad(loss(features, labels, key=Key()), [features, head.weight])
    single = copy.deepcopy(loss).float()
    z = features.detach().float().requires_grad_()
    errors = []
    for variant in (single, literal_twin(single)):
        got = torch.autograd.grad(variant(z, labels, key=Key()), [z, single.classifier.weight])
        errors.append([((g - e).norm() / e.norm()).item() for g, e in zip(got, exact, strict=True)])
    assert single.path == "commuted"
    assert max(errors[0]) < 1e-5 and max(errors[0]) < 10 * max(errors[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_features_and_autocast(dtype):
    head, features, labels, _ = problem(m=16, spatial=(2, 2), n=50)
    exact = MultiMix(head, 50, dense=True)(features, labels, key=Key()).item()
    single = copy.deepcopy(head).float()
    z = features.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = MultiMix(single, 50, dense=True)(z, labels, key=Key())
    low = z.detach().to(dtype).requires_grad_()
    pure = MultiMix(copy.deepcopy(single).to(dtype), 50, dense=True)(low, labels, key=Key())
    for value, of in ((mixed, z), (pure, low)):
        assert value.dtype == torch.float32 and value.item() == pytest.approx(exact, rel=0.02)
        (gradient,) = torch.autograd.grad(value, of)
        assert gradient.dtype == of.dtype and torch.isfinite(gradient).all()


def test_products_in_a_narrow_dtype_stay_near(monkeypatch):
    """What a GPU does under autocast: gammas, logits and gradients are multiplied in bfloat16 and kept in float32."""
    from mixops.embedding import streamed as stream

    head, features, labels, _ = problem(m=16, d=8, c=5, n=300, spatial=(2, 2))
    single, z = copy.deepcopy(head).float(), features.detach().float().requires_grad_()
    loss = MultiMix(single, 300, dense=True)
    exact = torch.autograd.grad(loss(z, labels, key=Key()), z)[0]
    whole = stream._stream
    monkeypatch.setattr(stream, "_stream", lambda *args: whole(*args[:-1], torch.bfloat16))
    value = loss(z, labels, key=Key())
    got = torch.autograd.grad(value, z)[0]
    assert got.dtype == torch.float32
    assert 0 < ((got - exact).norm() / exact.norm()).item() < 0.03


def test_groups_of_positions_as_on_a_gpu_give_the_same(monkeypatch):
    """A GPU takes several positions at once and all tuples; here with the CPU's numbers."""
    from mixops.embedding import streamed as stream

    head, features, labels, _ = problem(spatial=(5,), n=30)
    tokens = features.detach().mT.contiguous().requires_grad_()
    loss = MultiMix(head, 30, dense=True)
    results = []
    for group in (None, 2, 5):
        if group:
            monkeypatch.setattr(
                stream, "_blocks", lambda device, tuples, m, c, r, group=group: (group, tuples, stream._add_block)
            )
        value = loss(tokens, labels, key=Key())
        results.append([value, *torch.autograd.grad(value, [tokens, head.weight])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("r", "size"), [(1, 1), (49, 49), (196, 49), (61, 31)])
def test_groups_of_positions_are_of_one_size_as_far_as_they_can(r, size, monkeypatch):
    """Each size is compiled for, which takes longer than an epoch of some."""
    monkeypatch.setattr(streamed, "_compiled_add_block", lambda: None)
    assert streamed._blocks(torch.device("cuda"), 1000, 128, 1000, r) == (size, 1000, None)


@pytest.mark.nightly
@pytest.mark.parametrize("distill", [0.0, 0.5])
@pytest.mark.parametrize("dense", [False, True])
def test_what_a_device_compiles_is_one_graph_and_the_same_sums(dense, distill):
    """Off the CPU blocks are compiled, with products in half precision; here without a code generator."""
    g = torch.Generator().manual_seed(0)
    p, n, m, c = 3, 7, 5, 4
    gammas, scaled, kernel = (torch.rand(shape, generator=g) for shape in ((p, n, m), (p, m, c), (p, m, m)))
    a = torch.rand(p, m, generator=g) if dense else None
    teacher = (torch.rand(p, m, c, generator=g), a) if distill else None
    torch._dynamo.reset()
    compiled = torch.compile(streamed._add_block, backend="aot_eager", fullgraph=True)
    for dtype in (torch.float32, torch.bfloat16):
        found = []
        for add in (streamed._add_block, compiled):
            sums = streamed._Sums(*(torch.zeros(shape) for shape in ((p,), (p,), (p, m, c), (p, m, m), (p, m), (p, m))))
            with torch.no_grad():
                add(sums, gammas.to(dtype), scaled, a, kernel, teacher, distill)
            found.append(sums)
        for plain, traced in zip(*found, strict=True):
            torch.testing.assert_close(traced, plain, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-5)
        assert found[0].logits.any()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo's own, at any graph break
def test_compiled_training_step_is_the_same_and_is_compiled_once():
    from torch._dynamo.utils import counters

    head, features, labels, _ = problem(spatial=())
    loss = MultiMix(head, 20)
    expected = loss(features, labels, key=Key())
    compiled = torch.compile(lambda z, y, key: loss(z * 1.0, y, key=key), backend="eager")
    for step in (2, 1, 0):
        value = compiled(features, labels, Key(step=step))
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    graphs = counters["stats"]["unique_graphs"]
    for step in range(4):
        compiled(features, labels, Key(step=step))
    assert counters["stats"]["unique_graphs"] == graphs
    torch.testing.assert_close(torch.autograd.grad(value, features), torch.autograd.grad(expected, features))


def test_memory_does_not_grow_with_positions():
    """Beyond the features and logits, whose size is r, the streamed loss holds one position's tuples."""
    from torch.profiler import ProfilerActivity, profile

    peaks = []
    for r in (2, 16):
        head = nn.Linear(8, 30)
        features = torch.randn(16, r, 8, requires_grad=True)
        loss = MultiMix(head, 400, dense=True)
        labels = torch.zeros(16, dtype=torch.long)
        loss(features, labels)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
            loss(features, labels).backward()
        sizes = [e.cpu_memory_usage for e in prof.events() if e.name == "[memory]"]
        assert sizes
        peaks.append(max(itertools.accumulate(sizes)))
    logits = 16 * 16 * 30 * 4
    assert peaks[1] - peaks[0] < 8 * logits  # the literal path holds r * n * c = 27 times the logits, several times
    assert tracemalloc.is_tracing() is False


def test_the_classifier_is_the_models_own_and_the_module_pickles():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
    loss = MultiMix(model[1], 7, dense=True, attention="cam", distill=0.5)
    assert loss.classifier is model[1] and list(loss.parameters()) == list(model[1].parameters())
    again = pickle.loads(pickle.dumps(loss))
    assert repr(again) == repr(loss) and "attention='cam'" in repr(loss)


def test_the_teacher_gets_no_gradient():
    head, features, labels, lam = problem()
    teacher_head, teacher_features, _, _ = problem(seed=1)
    for kind in (nn.Linear, Literal):
        teacher = kind(5, 4).double()
        teacher.load_state_dict(teacher_head.state_dict())
        MultiMix(head, dense=True, distill=0.5)(features, labels, lam=lam, teacher=(teacher_features, teacher)).backward()
        assert teacher.weight.grad is None and teacher_features.grad is None
        assert features.grad is not None and head.weight.grad is not None


HEAD = nn.Linear(5, 4)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "classifier must be an nn.Module", {"classifier": 3}),
        (TypeError, "tuples must be an integer, got 1.5", {"tuples": 1.5}),
        (ValueError, "tuples must be at least 1, got 0", {"tuples": 0}),
        (ValueError, "alpha must be", {"alpha": (2.0, 0.5)}),
        (ValueError, "alpha must be in .*, got 1e[+]39", {"alpha": 1e39}),
        (TypeError, "dense must be True or False, got 'yes'", {"dense": "yes"}),
        (ValueError, "attention must be one of 'gap', 'cam', 'uniform', got 'max'", {"attention": "max"}),
        (ValueError, "nonlinearity must be 'relu' or 'softmax'", {"nonlinearity": "tanh"}),
        (ValueError, r"distill must be in \[0, 1\], got 1.5", {"distill": 1.5}),
        (ValueError, r"smoothing must be in \[0, 1\)", {"smoothing": 1.0}),
        (ValueError, "attention must be 'gap'", {"classifier": Literal(5, 4), "dense": True, "attention": "cam"}),
    ],
)  # fmt: skip
def test_bad_arguments_of_the_module(error, message, arguments):
    with pytest.raises(error, match=message):
        MultiMix(**{"classifier": HEAD, **arguments})


Z, Y = torch.randn(6, 5), torch.zeros(6, dtype=torch.long)
MAPS = torch.randn(6, 5, 2, 2)


@pytest.mark.parametrize(
    ("error", "message", "module", "arguments"),
    [
        (ValueError, r"features must be floating-point \(m, d\) for dense = False", {}, {"features": MAPS}),
        (ValueError, r"features must be floating-point \(m, d, \*spatial\)", {"dense": True}, {"features": Z}),
        (ValueError, "features must be floating-point", {}, {"features": Y[:, None].expand(6, 5)}),
        (ValueError, "features must not be empty", {}, {"features": Z[:0], "labels": Y[:0]}),
        (ValueError, "features must have the classifier's 5 channels, got 3", {}, {"features": Z[:, :3]}),
        (ValueError, r"labels must be int \(6,\)", {}, {"labels": Y[:5]}),
        (ValueError, r"labels must be int \(6,\)", {}, {"labels": torch.zeros(6, 4, dtype=torch.long)}),
        (ValueError, "labels must have the classifier's 4 classes, got 3", {}, {"labels": torch.ones(6, 3) / 3}),
        (ValueError, "labels must have rows that sum to 1", {}, {"labels": torch.ones(6, 4)}),
        (ValueError, r"labels must be in \[0, num_classes = 4\)", {}, {"labels": Y + 4}),
        (TypeError, "labels of shape .* must be integers", {}, {"labels": Y.float()}),
        (ValueError, "teacher must be given for distill = 0.5", {"distill": 0.5}, {}),
        (ValueError, "teacher must be None for distill = 0", {}, {"teacher": (Z, HEAD)}),
        (ValueError, "teacher must have features of", {"distill": 0.5}, {"teacher": (Z[:5], HEAD)}),
        (TypeError, "teacher must be a pair of features and their classifier", {"distill": 0.5}, {"teacher": HEAD}),
        (TypeError, "the teacher's classifier must be an nn.Module", {"distill": 0.5}, {"teacher": (Z, "fc")}),
        (TypeError, "of teacher, features must be a torch tensor", {"distill": 0.5}, {"teacher": (None, HEAD)}),
        (
            ValueError, "teacher must have the classifier's 4 classes, got 3", {"distill": 0.5},
            {"teacher": (Z, nn.Linear(5, 3))},
        ),
        (TypeError, "features must be a torch tensor, got ndarray", {}, {"features": Z.numpy()}),
        (TypeError, "labels must be a tensor of class numbers or probabilities, got list", {}, {"labels": [0] * 6}),
        (TypeError, "lam must be a floating tensor", {}, {"lam": torch.ones(6, 3, dtype=torch.long)}),
        (ValueError, r"lam must have shape \(6, 'n'\), got \(5, 3\)", {}, {"lam": torch.ones(5, 3) / 5}),
        (ValueError, r"lam must have shape \(4, 6, 'n'\)", {"dense": True}, {"features": MAPS, "lam": torch.ones(6, 3) / 6}),
        (ValueError, "lam must have columns that are not negative and sum to 1", {}, {"lam": torch.ones(6, 3)}),
        (ValueError, "key must be None where lam is given", {}, {"lam": torch.ones(6, 3) / 6, "key": Key()}),
        (TypeError, "key must be a Key or a torch.Generator", {}, {"key": 7}),
    ],
)  # fmt: skip
def test_bad_arguments_of_a_call(error, message, module, arguments):
    with pytest.raises(error, match=message):
        MultiMix(HEAD, 3, **module)(**{"features": Z, "labels": Y, **arguments})


@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_an_identity_adds_dense_loss_and_distillation_to_another_mixup(distill):
    """Appendix A.5: cross-entropy with the mixed targets and with the teacher's answers, at every position alike."""
    generator = torch.Generator().manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 2)).double()
    net = nn.ModuleDict({"body": body, "fc": nn.Linear(6, 5).double()})
    teacher = copy.deepcopy(net)
    teacher["fc"].weight.data += 0.5
    images, view = (torch.rand(4, 3, 6, 5, dtype=DOUBLE, generator=generator) for _ in range(2))
    labels, key, layers = torch.tensor([0, 1, 2, 3]), Key(step=3), [0, 2]
    mixed = [ManifoldMix(part["body"], layers, MixUp(2.0)) for part in (net, teacher)]
    maps, targets = mixed[0](images, labels, key=key, num_classes=5)
    seen, same = mixed[1](view, labels, key=key, num_classes=5)
    assert mixed[0].layer(key) == mixed[1].layer(key) and torch.equal(targets, same)
    targets = targets.double() / targets.double().sum(1, keepdim=True)  # they are float32, and nearly sum to 1
    loss_of = MultiMix(net["fc"], dense=True, attention="uniform", distill=distill)
    r = maps[0, 0].numel()
    identity = torch.eye(4, dtype=DOUBLE).expand(r, 4, 4)
    found = loss_of(maps, targets, lam=identity, teacher=(seen, teacher["fc"]) if distill else None)
    losses = []
    for student, other in zip(maps.flatten(2).unbind(2), seen.flatten(2).unbind(2), strict=True):  # (4, 6) each
        log_p, answers = net["fc"](student).log_softmax(1), teacher["fc"](other).softmax(1)
        losses.append(-(((1 - distill) * targets + distill * answers) * log_p).sum(1).mean())
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-10)
    pooled = MultiMix(net["fc"], distill=distill)(
        maps.mean((2, 3)), targets, lam=torch.eye(4, dtype=DOUBLE),
        teacher=(seen.mean((2, 3)), teacher["fc"]) if distill else None,
    )  # fmt: skip
    log_p, answers = net["fc"](maps.mean((2, 3))).log_softmax(1), teacher["fc"](seen.mean((2, 3))).softmax(1)
    expected = -(((1 - distill) * targets + distill * answers) * log_p).sum(1).mean()
    assert pooled.item() == pytest.approx(expected.item(), abs=1e-10)
