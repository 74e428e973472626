"""SuperMix (arXiv 2003.05034): masks by which a trained teacher sees the classes of all images that a row is made of.

    x~ = sum_j m_j x_j,    m_j = s(U z_j) / sum_i s(U z_i),    s the logistic function, U bilinear enlargement of m x m cells
    min_z  KL(y || p(x~)) + sparsity * mean |m (m - 1)|,    y = sum_j lam_j onehot(class of x_j),  lam ~ Dirichlet(alpha)

The classes are those that the teacher says, and p is its softmax. The paper's variant of Newton's method goes a step of the
loss over the slope along the smoothed gradient, z <- z - G g loss / <g, G g>, until the teacher's highest classes are
the row's. It takes dozens of passes through the teacher, so that images are made beforehand and kept; the masks fit in a
plan, and ``mix_images`` and ``mix_targets`` do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, kl_div

from ..key import Key, Stream
from ..mixers.multi.dirichlet import dirichlet_weights
from ..pairing.blocks import draw_blocks
from ..plan import MixPlan
from ..plan_sources import PlanSources
from ..runtime.checks import check_count, check_number, check_tensor, check_type
from ..runtime.devices import to_host
from ..runtime.traceless import traceless

_REACH = 2.5  # of the smoothing, in its standard deviations
_LEAST_STEP, _LONGEST_STEP = 1e-4, 2000.0  # the authors'


@dataclass(frozen=True, eq=False)
class SuperMixed:
    """What ``super_mix`` found for b rows.

    ``plan`` has the sources of each row, its own image first, and their masks; its label weights are the means of these.
    ``lam`` are the shares that were asked for, ``done`` says whether the teacher's highest classes are those of the row's
    images: the authors keep only such rows. ``logits`` are the teacher's of the mixed images: the authors train a student on
    their argmax.
    """

    plan: MixPlan
    lam: Float64[np.ndarray, "b s"]
    done: Bool[np.ndarray, " b"]
    logits: Float[Tensor, "b classes"]


@dataclass(frozen=True, eq=False)
class _Problem:
    """The images of each row, the target of its mixture and the classes that have to show; what the objective weighs."""

    images: Float[Tensor, "b s c h w"]
    target: Float[Tensor, "b classes"]
    wanted: Bool[Tensor, "b classes"]
    sparsity: float

    def of_rows(self, rows: Tensor) -> _Problem:
        """That of some rows."""
        return _Problem(self.images[rows], self.target[rows], self.wanted[rows], self.sparsity)


def super_mix(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, key: Key, sources: int = 2, alpha: float = 3.0,
    mask_size: int = 8, sigma: float = 1.0, sparsity: float = 25.0, steps: int = 50,
) -> SuperMixed:  # fmt: skip
    """Masks of each row for the teacher ``model``, which maps images to logits; a pure function of its arguments.

    ``images`` are floating, as ``model`` takes them. A row is its own image and those of its partner, that one's partner and
    so on, ``sources`` >= 2 of them (the authors: at most 3). ``alpha`` > 0 is that of the Dirichlet shares. Masks have
    ``mask_size`` cells on each side (the authors: 8 for 32 pixels, 16 for 224), steps are smoothed with a standard deviation
    of ``sigma`` cells (1 and 2), ``sparsity`` >= 0 pulls masks to 0 and 1, ``steps`` >= 1 is the most that a row takes. The
    model runs in evaluation mode and stays as it was. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    check_type("model", model, nn.Module, "an nn.Module")
    x = check_tensor("images", images).detach()
    if x.ndim != 4 or not x.is_floating_point() or 0 in x.shape:
        raise ValueError(f"images must be floating (b, c, h, w), got {x.dtype} of shape {tuple(x.shape)}")
    b, _, height, width = x.shape
    check_type("key", key, Key, "a Key")
    sources, steps = check_count("sources", sources, 2, 256), check_count("steps", steps)
    mask_size = check_count("mask_size", mask_size, 1, min(height, width))
    alpha, sparsity = check_number("alpha", alpha, 0, 1e5, above=True), check_number("sparsity", sparsity, 0, 1e6)
    blur = gaussian(check_number("sigma", sigma, 0, 100)).to(x)
    partner = draw_blocks(key, b).partner()
    rows = np.empty((b, sources), np.int64)
    rows[:, 0] = np.arange(b)
    for j in range(1, sources):
        rows[:, j] = partner[rows[:, j - 1]]
    lam = dirichlet_weights(key.uniform(Stream.SHARES, (b, sources, 2)), alpha)
    with traceless(model) as teacher:
        problem = _problem(teacher, x, torch.from_numpy(rows).to(x.device), torch.from_numpy(lam).to(x), sparsity)
        z, done, logits = _solve(teacher, problem, mask_size, blur, steps)
    masks = to_host(_masks(z, height, width).float())[:, None]  # (b, 1, s, h, w)
    more = PlanSources(rows, masks.mean((3, 4), dtype=np.float64), masks)
    return SuperMixed(MixPlan.of_sources(more, height=height, width=width), lam, to_host(done), logits)


def _problem(
    teacher: Callable[..., Any], images: Tensor, rows: Tensor, lam: Float[Tensor, "b s"], sparsity: float
) -> _Problem:
    """What the teacher says of the images makes the targets; images of one class add."""
    with torch.no_grad():
        logits = check_tensor("what model returns", teacher(images))
    if logits.ndim != 2 or len(logits) != len(images) or not logits.isfinite().all():
        raise ValueError(f"model must return finite logits ({len(images)}, classes), got shape {tuple(logits.shape)}")
    classes = logits.argmax(1)[rows]  # (b, s)
    target = torch.zeros_like(logits, dtype=images.dtype).scatter_add_(1, classes, lam)
    wanted = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes, True)
    return _Problem(images[rows], target, wanted, sparsity)


def _solve(
    teacher: Callable[..., Any], problem: _Problem, size: int, blur: Float[Tensor, " taps"], steps: int
) -> tuple[Float[Tensor, "b s m m"], Bool[Tensor, " b"], Float[Tensor, "b classes"]]:
    """Steps of the rows that are not done yet, all from masks of equal shares."""
    b, s, _, height, width = problem.images.shape
    z = problem.images.new_zeros(b, s, size, size)
    done = torch.zeros(b, dtype=torch.bool, device=z.device)
    final = torch.empty_like(problem.target)
    for _ in range(steps):
        rows = (~done).nonzero()[:, 0]
        if not len(rows):
            break
        part = problem.of_rows(rows)
        moved = newton_step(teacher, part, z[rows], blur)
        with torch.no_grad():
            logits = teacher((_masks(moved, height, width)[:, :, None] * part.images).sum(1))
        z[rows], final[rows] = moved, logits.to(final.dtype)
        done[rows] = _shown(logits, part.wanted)
    return z, done, final


def newton_step(
    teacher: Callable[..., Any], problem: _Problem, z: Float[Tensor, "b s m m"], blur: Float[Tensor, " taps"]
) -> Float[Tensor, "b s m m"]:
    """z after a step of each row: along its smoothed gradient, as far as its slope would take to bring the loss to 0."""
    height, width = problem.images.shape[3:]
    z = z.detach().requires_grad_()
    masks = _masks(z, height, width)
    logits = teacher((masks[:, :, None] * problem.images).sum(1))
    apart = kl_div(logits.to(z.dtype).log_softmax(1), problem.target, reduction="none").sum(1)
    loss = apart + problem.sparsity * (masks * (1 - masks)).mean((1, 2, 3))
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    smooth = _smoothed(gradient, blur)
    slope = (gradient * smooth).sum((1, 2, 3))
    length = (loss.detach() / (slope + 1e-10)).clamp(_LEAST_STEP, _LONGEST_STEP)
    return z.detach() - length[:, None, None, None] * smooth


def _masks(z: Float[Tensor, "b s m m"], height: int, width: int) -> Float[Tensor, "b s h w"]:
    """The masks at every pixel; they sum to 1."""
    share = interpolate(z, (height, width), mode="bilinear").sigmoid()
    return share / share.sum(1, keepdim=True)


def _shown(logits: Float[Tensor, "b classes"], wanted: Bool[Tensor, "b classes"]) -> Bool[Tensor, " b"]:
    """Whether the wanted classes are those of the highest logits."""
    least = logits.masked_fill(~wanted, torch.inf).amin(1)
    return least > logits.masked_fill(wanted, -torch.inf).amax(1)


def gaussian(sigma: float) -> Float64[Tensor, " taps"]:
    """Weights of an odd number of cells that sum to 1."""
    reach = int(_REACH * sigma)
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (t / sigma) ** 2) if reach else torch.ones(1, dtype=torch.float64)
    return weight / weight.sum()


def _smoothed(x: Float[Tensor, "b s m m"], blur: Float[Tensor, " taps"]) -> Float[Tensor, "b s m m"]:
    """Blurred along rows and columns, nothing beyond the border."""
    flat, reach = x.flatten(0, 1)[:, None], len(blur) // 2
    flat = conv2d(flat, blur[None, None, :, None], padding=(reach, 0))
    return conv2d(flat, blur[None, None, None, :], padding=(0, reach)).view_as(x)
