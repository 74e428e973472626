"""``mixstage check``: reads a whole data set with all cores and lists the files that a loader could not use.

Every file is read to its end, its markers walked, its checksums compared where its format has some, and its pixels decoded
with Pillow, whose JPEG decoder is the one DALI and FFCV use on the CPU. Bits that rotted inside the image data without
breaking its coding show in the picture only; no decoder can tell.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from ..figures import Json, write_json
from ..printable import printable
from ..processors import usable_processors
from ..sources.base import Source
from ..sources.plain import read_pixels, read_plain
from ..sources.progress import Turn, run_with_progress
from ..sources.registry import open_source

_CHUNK = 64


def check(
    root: Annotated[Path, typer.Argument(help="Data set to read: a folder of class folders, tar shards, a .beton file.")],
    decode: Annotated[bool, typer.Option(help="Decode plain JPEGs too, which finds more and takes longer.")] = True,
    num_threads: Annotated[int, typer.Option(help="Threads that read; 0 takes all cores.")] = 0,
    json_file: Json = None,
) -> None:
    """Read every image of a data set and list the bad ones; the exit code is 1 if there are any."""
    if num_threads < 0:
        raise ValueError(f"num_threads must be at least 0, got {num_threads}")
    began = time.perf_counter()
    source = open_source(root)
    bad = find_bad(source, decode=decode, num_threads=num_threads or usable_processors())
    seconds = time.perf_counter() - began
    files = {printable(source.name(sample)): reason for sample, reason in bad.items()}
    for name, reason in files.items():
        typer.echo(f"{name}: {reason}", err=json_file == Path("-"))
    typer.echo(
        f"{len(source)} images in {len(source.classes)} classes read in {seconds:.1f} s, {len(bad)} of them bad", err=True
    )
    write_json(json_file, {"root": printable(str(root)), "images": len(source), "seconds": seconds, "bad": files})
    raise typer.Exit(1 if bad else 0)


def find_bad(source: Source, *, decode: bool, num_threads: int) -> dict[int, str]:
    """The bad samples of a data set with reasons, by id; a bar on a terminal shows how far it is."""
    bad: dict[int, str] = {}
    read = read_pixels if decode else read_plain

    def check_chunk(chunk: Int64[np.ndarray, " c"], turn: Turn) -> int:
        for sample in chunk.tolist():
            turn(source.name(sample))
            try:
                read(source, sample)
            except BadFile as reason:
                bad[sample] = str(reason)
        return len(chunk)

    chunks = np.split(np.arange(len(source)), range(_CHUNK, len(source), _CHUNK))
    run_with_progress(check_chunk, chunks, len(source), "reading images", num_threads)
    return dict(sorted(bad.items()))
