"""MultiMix for linear classifiers, streamed: classify the m embeddings, then interpolate logits.

Columns of Lambda sum to 1, so W (Z Lambda) + b = (W Z + b) Lambda. With gammas g_k in the place of a column of Lambda,
attention a, logits L and targets Y (rows are samples):

    S_k = g_k 1,  s'_k = g_k a,  l_k = g_k (a * L) / s'_k,  weight s_k = s'_k / S_k
    H_k = logsumexp(l_k) - q_k,  q_k = b_k^T (Y L^T) b_k,  b_k = g_k * a / s'_k

No interpolated target is formed: the sum of s_k q_k is <K, C> with K = (a a^T) * (Y L^T) and C = sum_k g_k g_k^T / (S_k
s'_k), and -C is the gradient with respect to K. Lambda needs no gradient. So gradients are computed in the forward
pass, block by block, from two products a block, and nothing of the size r * n * c ever exists.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .dirichlet import Weights, normalised
from .literal import LEAST_ATTENTION, View, literal_loss

_CPU_BLOCK = 2**18  # logits of a block of tuples: a megabyte, a core's cache
_DEVICE_BLOCK = 2**26  # and of a group of positions: enough to keep a large GPU busy, 256 MB


class Linear(NamedTuple):
    """Logits (m, r, c) of the embeddings and their attention (m, r), None where it is the same everywhere."""

    logits: Float[Tensor, "m r c"]
    attention: Float[Tensor, "m r"] | None

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Logits times attention (p, m, c) and attention (p, m) of positions ``start`` to ``stop``."""
        logits = self.logits[:, start:stop].transpose(0, 1)
        if self.attention is None:
            return logits, None
        attention = self.attention[:, start:stop].T.contiguous()
        return logits * attention[..., None], attention


def streamed_loss(
    student: Linear, targets: Float[Tensor, "m c"], weights: Weights, tuples: int,
    *, distill: float = 0.0, teacher: Linear | None = None,
) -> Tensor:  # fmt: skip
    """The loss that ``literal_loss`` computes; it is differentiable with respect to the student's logits and attention.

    Everything is float32 or everything float64. ``targets`` rows sum to 1. Under autocast of a GPU its dtype is that of
    the products.
    """
    return _Streamed.apply(*student, targets, weights, tuples, distill, teacher)  # type: ignore[no-any-return]


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, attention: Tensor | None, targets: Tensor, weights: Weights, tuples: int,
        distill: float, teacher: Linear | None,
    ) -> Tensor:  # fmt: skip
        device = logits.device.type
        low = device != "cpu" and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else logits.dtype
        with torch.autocast(device, enabled=False):
            student = Linear(logits, attention)
            loss, d_logits, d_attention = _stream(student, targets, weights, tuples, distill, teacher, dtype)
        ctx.save_for_backward(logits, attention, targets, d_logits, d_attention)
        ctx.rest = weights, distill, teacher
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        logits, attention, targets, d_logits, d_attention = ctx.saved_tensors
        none = (None,) * 5
        if not torch.is_grad_enabled():
            return d_logits * outer[0], None if attention is None else d_attention * outer[0], *none
        # somebody will differentiate again: the literal equations on logits, op by op
        loss = _literal(Linear(logits, attention), targets, *ctx.rest)
        inputs = [x for x in (logits, attention) if x is not None and x.requires_grad]
        gradients = iter(torch.autograd.grad(loss, inputs, outer[0], create_graph=True))
        return *(next(gradients) if x is not None and x.requires_grad else None for x in (logits, attention)), *none


def _literal(student: Linear, targets: Tensor, weights: Weights, distill: float, teacher: Linear | None) -> Tensor:
    def view(x: Linear) -> View:
        return View(x.logits, lambda logits: logits, x.attention)

    lam = normalised(weights(0, student.logits.shape[1]).to(targets.dtype))
    return literal_loss(view(student), lambda c: targets, lam, distill=distill, teacher=teacher and view(teacher))


class _Sums(NamedTuple):
    """What is summed over the tuples of a group of p positions."""

    entropy: Tensor  # (p,)       s_k H_k without the targets' part
    weight: Tensor  # (p,)        s_k
    logits: Tensor  # (p, m, c)   gradient of s_k H_k with respect to a * L, without the targets' part
    pairs: Tensor  # (p, m, m)    C
    attention: Tensor  # (p, m)   gradient of s_k H_k with respect to a through s'_k
    share: Tensor  # (p, m)       gradient of s_k with respect to a


def _stream(
    student: Linear, targets: Tensor, weights: Weights, tuples: int, distill: float, teacher: Linear | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """The loss and its gradients with respect to logits and attention, one group of positions after the other."""
    logits, attention = student
    m, r, c = logits.shape
    group, block, add_block = _blocks(logits.device, tuples, m, c, r)
    total = logits.new_zeros(())
    d_logits = torch.empty_like(logits)
    d_attention = None if attention is None else torch.empty_like(attention)
    for start in range(0, r, group):
        stop = min(start + group, r)
        p = stop - start
        scaled, a = student.slice(start, stop)
        kernel = targets @ logits[:, start:stop].permute(1, 2, 0)  # (m, c) x (p, c, m) -> (p, m, m)
        kernel = (kernel + kernel.mT) / 2
        outer = None if a is None else a[:, :, None] * a[:, None]
        seen_kernel = kernel if outer is None else kernel * outer
        seen_by_teacher = None if teacher is None else teacher.slice(start, stop)
        sums = _Sums(*(logits.new_zeros(shape) for shape in ((p,), (p,), (p, m, c), (p, m, m), (p, m), (p, m))))
        g = weights(start, stop)
        for first in range(0, tuples, block):
            add_block(sums, g[:, first : first + block].to(dtype), scaled, a, seen_kernel, seen_by_teacher, distill)

        inverse = torch.where(sums.weight > 0, 1 / sums.weight, 0)  # a position that no tuple sees counts nothing
        d_kernel = sums.pairs.mul_((distill - 1) * inverse[:, None, None])
        loss = sums.entropy * inverse + (d_kernel * seen_kernel).sum((1, 2))
        total += loss.sum()
        d_scaled = sums.logits.mul_(inverse[:, None, None])
        if a is not None and outer is not None and d_attention is not None:
            d_a = torch.linalg.vecdot(logits[:, start:stop].transpose(0, 1), d_scaled)
            d_a += (sums.attention - sums.share * loss[:, None]) * inverse[:, None]
            d_a += 2 * ((d_kernel * kernel) @ a[..., None]).squeeze(-1)
            d_attention[:, start:stop] = d_a.T
            d_scaled = d_scaled.mul_(a[..., None])
            d_kernel = d_kernel.mul_(outer)
        d_logits[:, start:stop] = d_scaled.baddbmm_(d_kernel, targets.expand(p, m, c)).transpose(0, 1)
    return total / r, d_logits.div_(r), None if d_attention is None else d_attention.div_(r)


def _blocks(device: torch.device, tuples: int, m: int, c: int, r: int) -> tuple[int, int, Any]:
    """How many positions and tuples are taken at a time, and what adds them."""
    if device.type == "cpu":
        group = min(max(_CPU_BLOCK // (512 * c), 1), 4)  # few classes: small products, whose overhead positions share
        return group, max(_CPU_BLOCK // (group * c), 64), _add_block
    groups = -(-r // max(_DEVICE_BLOCK // (tuples * (c + m)), 1))
    return -(-r // groups), tuples, _compiled_add_block()  # alike, since each size is compiled for


def _add_block(
    sums: _Sums, g: Tensor, scaled: Tensor, a: Tensor | None, kernel: Tensor, teacher: tuple[Tensor, Tensor | None] |
    None, distill: float,
) -> None:  # fmt: skip
    """Adds the tuples whose gammas are g (p, n, m) to ``sums``; products are taken in the dtype of g."""
    logits = _product(g, scaled)  # (p, n, c)
    inverse_sum = 1 / g.sum(-1, dtype=logits.dtype)
    if a is None:
        inverse, weight = inverse_sum, torch.ones_like(inverse_sum)
    else:
        s = _product(g, a[..., None]).squeeze(-1)
        seen = s > LEAST_ATTENTION
        inverse = torch.where(seen, 1 / s, 0)
        inverse_sum = torch.where(seen, inverse_sum, 0)
        weight = s * inverse_sum
    logits *= inverse[..., None]
    top = logits.amax(-1, keepdim=True)
    p = (logits - top).exp_()
    z = p.sum(-1)
    log_z = top.squeeze(-1) + z.log()
    entropy = log_z
    if a is not None:
        q = torch.linalg.vecdot(_product(g, kernel), g.to(logits.dtype)) * inverse * inverse
        slope = log_z - torch.linalg.vecdot(p, logits) / z + (1 - distill) * q
        both = torch.stack([slope * inverse_sum, inverse_sum], -2)  # (p, 2, n)
        d_a, d_weight = _product(both, g).unbind(-2)
        sums.attention.add_(d_a)
        sums.share.add_(d_weight)
    p *= (inverse_sum / z)[..., None]
    if teacher is not None:
        teacher_logits = _product(g, teacher[0])
        if teacher[1] is None:
            teacher_logits *= inverse_sum[..., None]
        else:
            teacher_logits /= _product(g, teacher[1][..., None]).clamp_min(LEAST_ATTENTION)
        teacher_p = teacher_logits.softmax(-1)
        entropy = entropy - distill * torch.linalg.vecdot(teacher_p, logits)
        p.addcmul_(teacher_p, inverse_sum[..., None], value=-distill)
    sums.entropy.add_((weight * entropy).sum(-1))
    sums.weight.add_(weight.sum(-1))
    _add_product(sums.logits, g.mT, p)
    _add_product(sums.pairs, g.mT, g * (inverse * inverse_sum)[..., None].to(g.dtype))


@lru_cache(maxsize=1)
def _compiled_add_block() -> Any:
    return torch.compile(_add_block)  # a GPU is bound by the passes over the logits: fused, there are three


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y, multiplied in the narrower dtype of the two and returned in the wider."""
    narrow, wide = sorted((x.dtype, y.dtype), key=lambda dtype: dtype.itemsize)
    return (x.to(narrow) @ y.to(narrow)).to(wide)


def _add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """total += x @ y, in place where the dtypes agree."""
    if x.dtype == y.dtype == total.dtype:
        total.baddbmm_(x, y)
    else:
        total.add_(_product(x, y))
