"""Pictures of what a mixer does to a data set: sources, masks, results and label weights, from the real pipeline.

The sources and the results come from two loaders with one seed, one with the mixer and one without, so the picture shows
what the backend does and not a re-enactment of it.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
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
    from matplotlib.axes import Axes
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
    """Writes a PNG with ``rows`` rows a mixer, each filled with pairs: both sources, then mask and result of each output."""
    panels = max(2 + 2 * mixer.interpolations for mixer in mixers)
    figure = _figure([line for mixer in mixers for line in _lines(root, mixer, rows, panels, options)])
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def _lines(
    root: str | PathLike[str], mixer: Mixer, rows: int, panels: int, options: dict[str, Any]
) -> list[tuple[Mixer, list[Example]]]:
    """``rows`` rows of as many pairs as fit beside one another."""
    pairs = panels // (2 + 2 * mixer.interpolations)
    found = examples(root, mixer, rows=rows * pairs, **options)
    return [(mixer, found[start : start + pairs]) for start in range(0, len(found), pairs)]


def write_page(
    root: str | PathLike[str], mixers: Sequence[Mixer], out: str | PathLike[str], *, rows: int = 2, **options: Any
) -> None:
    """Writes one HTML file with a sheet for each mixer; the pictures are inside it, so that it can be opened anywhere."""
    sections = []
    for mixer in mixers:
        buffer = io.BytesIO()
        _figure(_lines(root, mixer, rows, 2 + 2 * mixer.interpolations, options)).savefig(buffer, dpi=80)
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


def _figure(lines: Sequence[tuple[Mixer, list[Example]]]) -> Figure:
    """A line of pictures for each entry, the mixer written above it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("previews need matplotlib: pip install 'mixstage[demo]'") from error
    columns = max(sum(2 + 2 * len(example.weights) for example in shown) for _, shown in lines)
    figure = Figure(figsize=(1.7 * columns, 2.4 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (mixer, shown) in zip(figure.subfigures(len(lines), squeeze=False)[:, 0], lines, strict=True):
        title = textwrap.fill(repr(mixer), 19 * columns)  # characters of this size that fit a column
        place.suptitle(title, x=0.005, ha="left", fontsize=9, parse_math=False)  # a dollar sign in a class name is one
        axes = list(place.subplots(1, columns, squeeze=False)[0])
        for example in shown:
            _draw(axes[: 2 + 2 * len(example.weights)], example)
            del axes[: 2 + 2 * len(example.weights)]
        for rest in axes:
            rest.axis("off")
    return figure


def _draw(axes: Sequence[Axes], example: Example) -> None:
    """The panels of one pair, each in a frame, so that a white mask is seen."""
    own, other = (textwrap.shorten(name, 18, placeholder="…") if " " in name else name[:18] for name in example.names)
    panels: list[tuple[str, Any]] = [(f"{own}\n", example.own), (f"{other}\n", example.other)]
    for k, (weight, mask, mixed) in enumerate(zip(example.weights, example.masks, example.mixed, strict=True)):
        output = f" {k + 1}" if len(example.weights) > 1 else ""
        panels += [(f"mask{output}\n", mask), (f"{own} {weight:.2f}\n{other} {1 - weight:.2f}", mixed)]
    for number, (axis, (title, picture)) in enumerate(zip(axes, panels, strict=True)):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else 255)
        axis.set_title(title, fontsize=8, parse_math=False)
        axis.set_anchor("N")  # pictures stand in one line, with a bar below or without
        axis.set_xticks([])
        axis.set_yticks([])
        for edge in axis.spines.values():
            edge.set(color="0.6", linewidth=0.8)
        height, width = picture.shape[:2]
        bar = height * 0.06
        axis.set_ylim(height - 0.5 + (2 * bar if number > 2 and number % 2 else 0), -0.5)
        if number > 2 and number % 2:  # the label as a bar under the picture: the own class first
            share = example.weights[(number - 3) // 2]
            axis.barh(height + bar, share * width, bar, left=-0.5, color="tab:blue")
            axis.barh(height + bar, (1 - share) * width, bar, left=share * width - 0.5, color="tab:orange")
            axis.set_xlim(-0.5, width - 0.5)
