"""One set of images as folder, files, archives, tables, .beton and array: the same batch for one key, on every backend.

    python -m tests.support.same_images cifar10/train --count 1000

What holds the files is compared with the folder on the same backend, to the bit. What holds pixels (Pillow's) is compared
with the folder on the torchvision backend, to the bit, whatever backend shows it. Between the two lies the decoder alone:
DALI's differs from Pillow's by a grey level, libffcv's, which takes a faster transform, by a few. The images must have one
size, as CIFAR's; crops, flips and CutMix move pixels and leave them as they are.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from loaders import ImageLoader
from loaders.backends.base import BACKENDS
from loaders.sources import Files, Folder
from mixops import CutMix, PaddedRandomCrop

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests are no package
from support.source_cases import DECODED, ENCODED

FILES = (
    "files",
    "tar of folders",
    "tar of .cls",
    "zip of folders",
    "parquet",
    "arrow",
    "TFRecord",
    "RecordIO",
    "LMDB of folders",
)
PIXELS = ("arrays", "npy", ".beton of raw pixels")
ALLOWED = {"dali": 1, "ffcv": 12, "torchvision": 0}  # grey levels that decoders may differ by
Batches = list[tuple[Tensor, Tensor, Tensor]]  # images, targets, ids


@dataclass(frozen=True)
class Difference:
    """How far the batches of a source on a backend are from those that they are compared with."""

    source: str
    backend: str
    grey_levels: int  # the most of any pixel
    allowed: int
    same_labels: bool  # targets and samples

    @property
    def good(self) -> bool:
        """Whether it is no more than it may be."""
        return self.same_labels and self.grey_levels <= self.allowed


def differences(
    folder: Path, place: Path, backends: Sequence[str] = BACKENDS, *, size: int = 32, batch_size: int = 16
) -> Iterator[Difference]:
    """The sources of an image folder of one size, made in ``place``, on all ``backends``."""
    roots: dict[str, Any] = {"folder": folder}
    for name in (*FILES, *PIXELS):
        inside = place / name.replace(" ", "_")
        inside.mkdir()
        roots[name] = (ENCODED | DECODED)[name].make(Folder(folder), inside)
    pillows = batches(folder, "torchvision", size, batch_size)
    for backend in backends:
        files = batches(folder, backend, size, batch_size)
        yield _difference("folder, beside Pillow's decoder", backend, files, pillows, ALLOWED[backend])
        for name, root in roots.items():
            expected = pillows if name in PIXELS else files
            yield _difference(name, backend, batches(root, backend, size, batch_size), expected, 0)


def batches(root: Any, backend: str, size: int, batch_size: int) -> Batches:
    """The first steps of an epoch, and the first of the next, as bytes."""
    found = []
    with ImageLoader(
        root, backend=backend, batch_size=batch_size, size=size, crop=PaddedRandomCrop(4), mixer=CutMix(), seed=7, ids=True,
        device="cpu", num_threads=2, mean=None, std=None, dtype=torch.uint8,
    ) as loader:  # fmt: skip
        for _ in range(2):
            found += [(images.clone(), targets, ids) for images, targets, ids in islice(loader, 3)]
    return found


def _difference(name: str, backend: str, found: Batches, expected: Batches, allowed: int) -> Difference:
    pairs = list(zip(found, expected, strict=True))
    most = max(int((images.int() - right.int()).abs().max()) for (images, _, _), (right, _, _) in pairs)
    same = all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in pairs)
    return Difference(name, backend, most, allowed, same)


def main(
    folder: Annotated[Path, typer.Argument(help="A folder of class folders, all images of one size.")],
    count: Annotated[int, typer.Option(help="How many of its images are taken, evenly over the folder.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 128,
) -> None:
    """Shows the largest difference of every source and backend; exits with 1 if one is larger than it may be."""
    console = Console()
    source = Folder(folder)
    chosen = [i * len(source) // count for i in range(min(count, len(source)))]
    with tempfile.TemporaryDirectory(prefix="same-images-") as place:
        part = Path(place) / "folder"
        for number in chosen:
            path = Path(source.name(number))
            (part / path.parent.name).mkdir(parents=True, exist_ok=True)
            (part / path.parent.name / path.name).symlink_to(path.absolute())
        height, width = Files([source.name(chosen[0])], [0]).sizes[0].tolist()
        if height != width:
            raise typer.BadParameter(f"folder must hold square images of one size, got {height} x {width}")
        cases = len(BACKENDS) * (len(FILES) + len(PIXELS) + 2)
        found = list(track(differences(part, Path(place), size=height, batch_size=batch_size), total=cases, console=console))
    table = Table("source", "backend", "grey levels apart", "may be", "labels and samples")
    for one in found:
        table.add_row(
            one.source, one.backend, f"{'' if one.good else '[red]'}{one.grey_levels}", str(one.allowed),
            "equal" if one.same_labels else "[red]differ",
        )  # fmt: skip
    console.print(table)
    console.print(f"{sum(one.good for one in found)} of {len(found)} as they must be, of {len(chosen)} images")
    if not all(one.good for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
