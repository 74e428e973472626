"""``mixstage bench kernels``: the fused pass over the pixels, on the CPU or a GPU, beside a copy and other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ..figures import Json


def kernels(
    batch: Annotated[int, typer.Option(min=0, help="Images in a batch; 0: 64 on a CPU, 256 on a GPU.")] = 0,
    size: Annotated[int, typer.Option(min=1, help="Side of an image in pixels.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds.")] = 9,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU by default.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch on the CPU.")] = None,
    json_file: Json = None,
    chart: Annotated[Path | None, typer.Option(help="Write a bar chart to this PNG file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for kernels-DEVICE.md, .json and .png.")] = None,
) -> None:
    """Time the fused kernel against a copy, torchvision, timm, kornia and eager torch."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        from .kernels_cuda import run as run_cuda

        report = run_cuda(batch or 256, size, rounds)
        column = "share of a copy of the same bytes"
    else:
        from .kernels_cpu import run as run_cpu

        report = run_cpu(batch or 64, size, rounds, threads)
        column = "times copy"
    report.tell(json_file)
    charts = [] if chart is None else [chart]
    if save is not None:
        report.save(save, f"kernels-{device}")
        charts.append(save / f"kernels-{device}.png")
    for path in charts:
        report.chart(path, column, marker=1.0)


if __name__ == "__main__":
    typer.run(kernels)
