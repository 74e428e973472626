"""CPU time of crop and resize on real photographs, beside Pillow and torch: ``python -m benchmarks.resize IMAGES``.

``IMAGES`` is a folder or a tar file of photographs. Windows are drawn by torchvision's ``RandomResizedCrop`` and cut out
before the clock starts; one thread resizes them to 224 x 224, all in every round, and its own CPU time is counted.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from loaders.bench.measure import Report, conditions, quartiles, relative, take_turns
from pipelines.resize import resize_rows
from pipelines.resize_kernel import FILTERS

ROOT = Path(__file__).parents[1]
SIZE = (224, 224)
SUFFIXES = (".jpeg", ".jpg", ".png")


def photographs(source: Path) -> Iterator[np.ndarray]:
    """The images of a folder or tar file as RGB."""
    if source.is_dir():
        files = (path.read_bytes() for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES)
    else:
        with tarfile.open(source) as tar:
            members = [member for member in tar if member.name.lower().endswith(SUFFIXES)]
            files = iter([tar.extractfile(member).read() for member in members])  # type: ignore[union-attr]
    for data in files:
        yield np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cut_windows(images: Iterator[np.ndarray]) -> list[np.ndarray]:
    """A window of each image, as torchvision draws it."""
    torch.manual_seed(0)
    cuts = []
    for image in images:
        shape = torch.empty(3, *image.shape[:2], device="meta")
        top, left, height, width = RandomResizedCrop.get_params(shape, [0.08, 1.0], [3 / 4, 4 / 3])
        cuts.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return cuts


def module_of(revision: str) -> ModuleType:
    """The kernel that this one has replaced, a loop over pixels and channels in numba, as it was in ``revision``."""
    command = ["git", "-C", str(ROOT), "show", f"{revision}:pipelines/pillow_resize.py"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    path = Path(tempfile.mkdtemp()) / "before.py"
    path.write_text(text.replace("mixops.kernels.jit", "mixops.runtime.jit"))
    spec = importlib.util.spec_from_file_location("before", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contestants(cuts: list[np.ndarray], name: str, before: ModuleType | None) -> dict[str, Callable[[], list[Any]]]:
    """Calls that resize all windows, and hand back what they made of them."""
    windows = np.array([(0, 0, *cut.shape[:2]) for cut in cuts], np.float64)
    flips = np.zeros(len(cuts), bool)
    pictures = [Image.fromarray(cut) for cut in cuts]
    pixels = [torch.from_numpy(cut).permute(2, 0, 1)[None] for cut in cuts]  # channels-last in memory
    cases: dict[str, Callable[[], list[Any]]] = {
        "Pillow": lambda: [picture.resize(SIZE[::-1], FILTERS[name]) for picture in pictures],
        "mixstage": lambda: list(resize_rows(cuts, windows, flips, SIZE, spill=False, filter=name)),
    }
    if name in ("bilinear", "bicubic"):
        interpolate = torch.nn.functional.interpolate
        cases["torch, tensors"] = lambda: [interpolate(x, SIZE, mode=name, antialias=True) for x in pixels]
    if name == "bilinear" and before is not None:
        sides = [max(cut.shape[axis] for cut in cuts) for axis in (0, 1)]
        scratch = before.workspace(*sides, SIZE)

        def loop() -> list[np.ndarray]:
            out = np.empty((len(cuts), *SIZE, 3), np.uint8)
            for i, cut in enumerate(cuts):
                before.resized_crop(cut, windows[i], False, False, out[i], *scratch)
            return list(out)

        cases["mixstage, before"] = loop
    return cases


def differing(found: list[Any], expected: list[Any]) -> tuple[float, int]:
    """The share of bytes that differ, and the largest difference."""
    arrays = [np.asarray(x[0].permute(1, 2, 0) if isinstance(x, torch.Tensor) else x).astype(int) for x in found]
    differences = np.stack([np.abs(a - np.asarray(b)) for a, b in zip(arrays, expected, strict=True)])
    return float((differences > 0).mean()), int(differences.max())


def cpu_time(call: Callable[[], object], images: int) -> Callable[[], float]:
    """A measurement of this thread's CPU time an image."""

    def measure() -> float:
        began = time.thread_time()
        call()
        return (time.thread_time() - began) / images

    call()  # compiles
    return measure


def run(source: Path, rounds: int, revision: str) -> Report:
    """Times every filter."""
    torch.set_num_threads(1)
    cuts = cut_windows(photographs(source))
    before = module_of(revision) if revision else None
    rows: list[list[Any]] = []
    for name in FILTERS:
        cases = contestants(cuts, name, before)
        expected = cases["Pillow"]()
        share = {case: differing(call(), expected) for case, call in cases.items()}
        ready = {case: lambda call=call: cpu_time(call, len(cuts)) for case, call in cases.items()}  # type: ignore[misc]
        seconds = take_turns(ready, rounds=rounds, describe=name)
        for case, taken in seconds.items():
            differ, most = share[case]
            times = relative({case: 1 / taken, "Pillow": 1 / seconds["Pillow"]}, case, "Pillow")
            rows.append([name, case, quartiles(1e3 * taken), times, f"{differ:.2%}", most])
    sides = np.array([cut.shape[:2] for cut in cuts]).mean(0)
    columns = [
        "filter",
        "contestant",
        "ms an image",
        "times as fast as Pillow",
        "bytes unlike Pillow's",
        "largest difference",
    ]
    notes = [
        f"CPU time of one thread, {len(cuts)} windows of {sides[0]:.0f} x {sides[1]:.0f} pixels on average, cut out before, "
        f"to {SIZE[0]} x {SIZE[1]}. Medians of {rounds} alternated rounds, quartiles in brackets. Pillow and torch make "
        "an image a result, mixstage a batch.",
    ]
    if before is not None:
        notes.append(f"*mixstage, before* is the kernel of commit {revision}, which made the pass across first always.")
    return Report("Crop and resize on the CPU", columns, rows, conditions(("pillow", "numba", "llvmlite")), notes)


def main(
    images: Annotated[Path, typer.Argument(help="A folder or a tar file of photographs.", exists=True)],
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    before: Annotated[str, typer.Option(help="A commit that had the kernel before, 94330ac for instance.")] = "",
    save: Annotated[Path | None, typer.Option(help="Folder for resize-cpu.md and .json.")] = None,
) -> None:
    """Times the resize of photographs on one thread."""
    report = run(images, rounds, before)
    report.show()
    if save is not None:
        report.save(save, "resize-cpu")


if __name__ == "__main__":
    typer.run(main)
