"""Dirichlet weights of MultiMix tuples, as the gammas they are made of.

``lambda = g / sum(g)`` with ``g_i ~ Gamma(alpha)`` is Dirichlet(alpha). The streamed loss takes the gammas as they are
and divides once, at the end. A draw names its numbers by counters (seed, epoch, step, rank, position, tuple, sample),
so a position can be made alone, again, and on any number of threads, with the same result; nothing of the size of all
positions is kept. torch's gamma takes 70 to 90 ns a number on the CPU, where it would be most of the loss; the kernel
here takes 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt32
from torch import Tensor

from ..key import Key, Stream
from ..runtime.checks import check_count, check_range, shown

Weights: TypeAlias = Callable[[int, int], Tensor]
"""Positive tuple weights of positions ``start`` to ``stop``, (stop - start, n, m); rows need not sum to 1."""

Alpha: TypeAlias = float | tuple[float, float]
_LEAST_ALPHA = 0.01  # below it float32 gammas underflow and a tuple's vertex is lost
_MOST_ALPHA = (
    1e5  # weights of a tuple then differ by 0.3 %: nothing is interpolated any more, and float32 tells no more apart
)
_LEAST = 1e-37


@dataclass(frozen=True, eq=False)
class CounterGammas:
    """Gamma variates on the CPU, float32, made when they are asked for.

    ``alpha`` holds the concentration of each position and tuple, ``words`` the three words that name the step.
    """

    alpha: Float32[np.ndarray, "r n"]
    samples: int
    words: UInt32[np.ndarray, " 3"]

    def __call__(self, start: int, stop: int) -> Float32[Tensor, "p n m"]:
        from ..kernels.gamma import exponential_rows, gamma_rows
        from ..runtime.threads import run_sliced

        tuples = self.alpha.shape[1]
        out = torch.empty(stop - start, tuples, self.samples)
        rows = out.numpy().reshape(-1, self.samples)  # (p, n, m) -> (p * n, m)
        alpha = self.alpha[start:stop].reshape(-1)
        if (alpha == 1).all():
            run_sliced(exponential_rows, len(rows), start * tuples, self.words, rows)
        else:
            run_sliced(gamma_rows, len(rows), alpha, start * tuples, self.words, rows)
        return out


def gammas(
    source: Key | torch.Generator,
    *,
    positions: int,
    tuples: int,
    samples: int,
    alpha: Alpha,
    device: torch.device | str = "cpu",
) -> Weights:
    """Draws gammas whose rows, divided by their sums, are Dirichlet weights: one concentration a tuple.

    ``alpha`` in [0.01, 1e5] is one number or the ends of a uniform distribution (MultiMix, appendix A.1: [0.5, 2]); beyond
    1e5 all weights of a tuple are the same to three digits. Off the CPU torch draws, and a key seeds a generator of the
    device; a generator must be the CPU's or of the device. The draws of devices differ. Raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """
    low, high = check_alpha(alpha)
    if not isinstance(source, (Key, torch.Generator)):
        raise TypeError(f"key must be a Key or a torch.Generator, got {shown(source)}")
    positions, tuples, samples = (
        check_count(name, value) for name, value in (("positions", positions), ("tuples", tuples), ("samples", samples))
    )
    device = torch.device(device)
    if isinstance(source, torch.Generator) and source.device.type not in ("cpu", device.type):
        raise ValueError(f"generator must be on the CPU or on {device}, got one on {source.device}")
    if device.type != "cpu":
        return _on_device(source, (positions, tuples, samples), low, high, device)
    if isinstance(source, torch.Generator):
        source = Key(int(torch.randint(2**63 - 1, (), generator=source)))
    concentrations = low + (high - low) * source.uniform(Stream.TUPLES, (positions, tuples), start=4)
    words = source.words(Stream.TUPLES, 2).view(np.uint32)[:3]
    return CounterGammas(concentrations.astype(np.float32), samples, words)


def dirichlet(
    source: Key | torch.Generator, *, positions: int = 1, tuples: int, samples: int, alpha: Alpha = (0.5, 2.0)
) -> Float32[Tensor, "r m n"]:
    """Interpolation matrices Lambda whose columns are Dirichlet, one for each position (MultiMix, section 3.2)."""
    g = gammas(source, positions=positions, tuples=tuples, samples=samples, alpha=alpha)(0, positions)
    return normalised(g).mT


def normalised(g: Float[Tensor, "p n m"]) -> Float[Tensor, "p n m"]:
    """Rows divided by their sums."""
    return g / g.sum(-1, keepdim=True)


def check_alpha(alpha: Any) -> tuple[float, float]:
    """The ends of the range of concentrations: ``alpha``, a number or a pair."""
    pair = isinstance(alpha, (tuple, list, np.ndarray, Tensor))
    return check_range("alpha", alpha if pair else (alpha, alpha), _LEAST_ALPHA, _MOST_ALPHA)


def _on_device(
    source: Key | torch.Generator, shape: tuple[int, int, int], low: float, high: float, device: torch.device
) -> Weights:
    if isinstance(source, Key) or source.device.type == "cpu":
        if isinstance(source, Key):
            seed = int(source.words(Stream.TUPLES, 1)[0] >> np.uint64(1))
        else:
            seed = int(torch.randint(2**63 - 1, (), generator=source))
        source = torch.Generator(device).manual_seed(seed)
    if low == high == 1:
        g = torch.empty(shape, device=device).exponential_(generator=source)
    else:
        alpha = torch.empty(*shape[:2], 1, device=device).uniform_(low, high, generator=source)
        # what torch.distributions.Gamma samples with; the distribution itself takes no generator
        g = torch._standard_gamma(alpha.expand(shape).contiguous(), generator=source)
    g.clamp_min_(_LEAST)
    return lambda start, stop: g[start:stop]
