"""Figure 4 of "A Unified Analysis of Mixed Sample Data Augmentation" (arXiv 2203.08437) for all mixers, beside exact counts.

A mixer regularises the product of the gradients at pixels j and k by a_jk = E[(1 - M_j)(1 - M_k)] (eq. 9). Shown is the mean
of a_(i, i + d) over all i for each distance d = (dy, dx), at a fixed lambda. The upper row takes the library's masks for
every centre there is; the lower row is the exact count

    boxes:      (1 - w)^2 + w (1 - w) (P[i in box] + P[i + d in box]) + w^2 P[both in box]   with w the blend outside
    Gaussians:  (1 / n) sum_p exp(-a ((i - p)^2 + (i + d - p)^2)) on either axis

of which eq. 10 and 11 are the limits for many pixels and for bumps that no border cuts. Run

    python examples/coefficients.py --out coefficients.png
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mixstage.mixops import CutMix, GMix, HMix, Key, MixUp
from mixstage.mixops.masks import dense_masks
from mixstage.mixops.mixers.beta import UnitDraws
from mixstage.mixops.mixers.fmix import cut_fields, low_frequency_fields

FIELDS = 2000  # random masks of FMix, which has no centre to count over


def measured(masks: np.ndarray) -> np.ndarray:
    """Mean of (1 - M_i)(1 - M_(i + d)) over masks (m, n, n) and pixels, for d from (0, 0) to (n - 1, n - 1)."""
    n = masks.shape[-1]
    power = np.zeros((2 * n, n + 1))
    for part in np.array_split(masks, 16):  # padded to twice the side, nothing wraps around
        power += (np.abs(np.fft.rfft2(1 - part, (2 * n, 2 * n))) ** 2).sum(0)
    total = np.fft.irfft2(power)[:n, :n]
    pairs = n - np.arange(n)
    return total / (len(masks) * pairs[:, None] * pairs)


def every_centre(mixer: Any, lam: float, n: int) -> np.ndarray:
    """The masks of a mixer for each of the n * n pixels as the centre."""
    cy, cx = (np.indices((n, n)).reshape(2, -1) + 0.5) / n
    params = mixer.masks(UnitDraws(Key(), np.full((n * n, 1), lam), cy, cx), n, n)
    return dense_masks(params[:, 0], n, n)


def random_fields(lam: float, n: int) -> np.ndarray:
    """Masks of FMix."""
    fields = low_frequency_fields(Key(), FIELDS, n, n)
    return cut_fields(fields, np.full((FIELDS, 1), lam))[0][:, 0]


def counted_boxes(share: float, outside: Callable[[np.ndarray], Any], n: int) -> np.ndarray:
    """a for boxes of sides sqrt(share) * n, clipped; ``outside`` is the weight of the own image around an area."""
    half = int(n * np.sqrt(share)) // 2
    centre, d = np.arange(n)[:, None], np.arange(n)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, n)
    pairs = n - d
    both = np.maximum(high - low - d, 0) / pairs  # (centres, d): share of i with i and i + d in the box
    first = np.maximum(np.minimum(high, pairs) - low, 0) / pairs
    second = (np.maximum(high - d, 0) - np.maximum(low - d, 0)) / pairs
    w = np.broadcast_to(outside((high - low) * (high - low).T / n**2), (n, n))

    def mean(weight: np.ndarray, share: np.ndarray) -> np.ndarray:
        return share.T @ weight @ share / n**2

    return np.mean((1 - w) ** 2) + mean(w * (1 - w), first) + mean(w * (1 - w), second) + mean(w * w, both)


def counted_bumps(spread: float, n: int) -> np.ndarray:
    """a for 1 - M = exp(-pi d^2 / (spread n^2)), cut by the border."""
    a = np.pi / (spread * n**2)
    i, p = np.arange(n)[:, None], np.arange(n)
    bump = np.exp(-a * (i - p) ** 2)
    pair = bump @ bump.T / n
    line = np.array([np.diagonal(pair, d).mean() for d in range(n)])
    return line[:, None] * line


def coefficients(lam: float, n: int, r: float) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """For each mixer a(d) from its masks and counted, None where nothing is known to count."""
    mixup = measured(every_centre(MixUp(), lam, n)), np.full((n, n), (1 - lam) ** 2)
    cutmix = measured(every_centre(CutMix(), lam, n)), counted_boxes(1 - lam, lambda area: 1.0, n)
    paper_outside = lam / (1 - (1 - lam) * r)
    return {
        "mixup": mixup,
        "CutMix": cutmix,
        "mixup or CutMix": ((mixup[0] + cutmix[0]) / 2, (mixup[1] + cutmix[1]) / 2),
        f"HMix, paper, r = {r:g}": (
            measured(every_centre(HMix(r=r, convention="paper"), lam, n)),
            counted_boxes((1 - lam) * r, lambda area: paper_outside, n),
        ),
        f"HMix, r = {r:g}": (
            measured(every_centre(HMix(r=r), lam, n)),
            counted_boxes((1 - lam) * r, lambda area: lam / (1 - area), n),
        ),
        "GMix, paper": (
            measured(every_centre(GMix(convention="paper"), lam, n)),
            counted_bumps(2 * (1 - lam), n),
        ),
        "GMix": (
            measured(every_centre(GMix(), lam, n)),
            counted_bumps(1 - lam, n) if lam >= 0.5 else None,  # below, the own image is the bump
        ),
        "FMix": (measured(random_fields(lam, n)), None),
    }


def draw(found: dict[str, tuple[np.ndarray, np.ndarray | None]], lam: float, out: Path) -> None:
    """Writes the figure as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * len(found), 4.6), layout="constrained")
    axes = figure.subplots(2, len(found))
    for column, (name, pair) in enumerate(found.items()):
        for row, a in enumerate(pair):
            ax = axes[row, column]
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(name)
            if a is None:
                ax.set_box_aspect(1)
                ax.text(0.5, 0.5, "nothing to count", ha="center", va="center", transform=ax.transAxes)
                continue
            whole = np.concatenate([a[:, :0:-1], a], 1)  # a(-d) = a(d): mirrored to all four quadrants
            whole = np.concatenate([whole[:0:-1], whole])
            n = len(a) - 1
            picture = ax.imshow(whole, vmin=0, vmax=0.5, cmap="magma", extent=(-n, n, n, -n))
    axes[0, 0].set_ylabel("from the masks")
    axes[1, 0].set_ylabel("counted")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    figure.suptitle(f"mean of a(i, i + d) over i, for d up to the image's sides; lambda = {lam:g}")
    figure.savefig(out)


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("coefficients.png"),
    lam: Annotated[float, typer.Option(min=0.01, max=0.99, help="The mixing parameter.")] = 0.5,
    side: Annotated[int, typer.Option(min=2, help="Side of the images in pixels.")] = 64,
    r: Annotated[float, typer.Option(min=0, max=1, help="The box's share of HMix.")] = 0.5,
) -> None:
    """Draws the regularisation coefficients of all mixers beside the exact counts."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    with console.status("counting over all centres"):
        found = coefficients(lam, side, r)
    table = Table(
        "mixer", "a(0)", "a at half a side", "largest difference from the count", title=f"{side}x{side}, lambda = {lam}"
    )
    for name, (a, exact) in found.items():
        gap = "-" if exact is None else f"{np.abs(a - exact).max():.1e}"
        table.add_row(name, f"{a[0, 0]:.4f}", f"{a[side // 2, 0]:.4f}", gap)
    console.print(table)
    draw(found, lam, out)
    console.print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
