"""Pictures of what a mixer does to a data set: sources, masks, results and label weights, from the real pipeline.

The sources and the results come from two loaders with one seed, one with the mixer and one without, so the picture shows
what the backend does and not a re-enactment of it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from mixops.mixers.base import Mixer

from ..image_loader import ImageLoader
from ..printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Example:
    """One pair with its k results."""

    own: UInt8[np.ndarray, "h w 3"]
    other: UInt8[np.ndarray, "h w 3"]
    masks: Float64[np.ndarray, "k h w"]
    mixed: UInt8[np.ndarray, "k h w 3"]
    weights: Float64[np.ndarray, " k"]
    names: tuple[str, str]


def examples(root: str | PathLike[str], mixer: Mixer, *, rows: int = 1, seed: int = 0, **options: Any) -> list[Example]:
    """The ``rows`` most evenly mixed pairs of two classes in the first batch; ``options`` are those of ``ImageLoader``."""
    plain = {"mean": None, "std": None, "dtype": torch.uint8, "device": "cpu", "seed": seed, **options}
    plain.setdefault("batch_size", 2 * mixer.matching.k if mixer.matching else 16)
    plain.setdefault("drop_last", False)  # a small folder has one batch, too
    with ImageLoader(root, **plain) as before, ImageLoader(root, mixer=mixer, **plain) as after:
        sources, labels = next(iter(before))
        mixed, _ = next(iter(after))
        plan = after.plan(0, 0, images=sources)
        classes = after.classes
    pixels = sources.permute(0, 2, 3, 1).numpy()
    results = mixed.permute(0, 2, 3, 1).reshape(plan.batch_size, plan.interpolations, *pixels.shape[1:]).numpy()
    masks = np.broadcast_to(plan.mask(), (plan.batch_size, plan.interpolations, *pixels.shape[1:3]))
    alike = labels.numpy() == labels.numpy()[plan.partner]  # two classes show more than one
    even = np.argsort(np.abs(plan.weight.mean(1) - 0.5) + alike, kind="stable")[:rows]
    found = []
    for i in even:
        j = plan.partner[i]
        names = (printable(classes[int(labels[i])]), printable(classes[int(labels[j])]))
        found.append(Example(pixels[i], pixels[j], masks[i], results[i], plan.weight[i], names))
    return found


def draw_sheet(
    root: str | PathLike[str], mixers: Sequence[Mixer], out: str | PathLike[str], *, rows: int = 1, **options: Any
) -> None:
    """Writes a PNG with ``rows`` rows a mixer: both sources, then mask and result of each output with its label weights."""
    shown = [(mixer, example) for mixer in mixers for example in examples(root, mixer, rows=rows, **options)]
    figure = _figure(shown)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def write_page(
    root: str | PathLike[str], mixers: Sequence[Mixer], out: str | PathLike[str], *, rows: int = 2, **options: Any
) -> None:
    """Writes one HTML file with a sheet for each mixer; the pictures are inside it, so that it can be opened anywhere."""
    sections = []
    for mixer in mixers:
        buffer = io.BytesIO()
        _figure([(mixer, example) for example in examples(root, mixer, rows=rows, **options)]).savefig(buffer, dpi=80)
        data = base64.b64encode(buffer.getvalue()).decode()
        name = html.escape(repr(mixer))
        sections.append(f'<section><h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{data}"></section>')
    style = "body{font-family:sans-serif;margin:2em}img{max-width:100%}h2{font-size:1em}"
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>mixstage preview</title><style>{style}</style>'
        f"<h1>{html.escape(printable(str(root)))}</h1>{''.join(sections)}</html>"
    )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(page, encoding="utf-8")


def _figure(shown: Sequence[tuple[Mixer, Example]]) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("previews need matplotlib: pip install 'mixstage[demo]'") from error
    outputs = max(len(example.weights) for _, example in shown)
    columns = 2 + 2 * outputs
    figure = Figure(figsize=(1.9 * columns, 2.35 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    text: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a dollar sign in a class name is one
    for row, (mixer, example) in zip(grid, shown, strict=True):
        row[0].set_title(f"{mixer!r}\n{example.names[0]}", loc="left", **text)
        row[0].imshow(example.own)
        row[1].set_title(example.names[1], **text)
        row[1].imshow(example.other)
        for k, weight in enumerate(example.weights):
            row[2 + 2 * k].imshow(example.masks[k], cmap="gray", vmin=0, vmax=1)
            row[2 + 2 * k].set_title("mask" if len(example.weights) == 1 else f"mask {k}", **text)
            axes = row[3 + 2 * k]
            axes.imshow(example.mixed[k])
            axes.set_title(f"{example.names[0]} {weight:.2f}   {example.names[1]} {1 - weight:.2f}", **text)
            height, width = example.masks[k].shape
            bar = height * 0.06  # the label as a bar under the picture: the own class first
            axes.barh(height + bar / 2, weight * width, bar, left=-0.5, color="tab:blue")
            axes.barh(height + bar / 2, (1 - weight) * width, bar, left=weight * width - 0.5, color="tab:orange")
            axes.set_xlim(-0.5, width - 0.5)
            axes.set_ylim(height + bar, -0.5)
    return figure
