"""Small image folders and .beton files for the tests of FFCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from loaders.cli.convert import convert
from pipelines.ffcv.beton import Beton

SIZES = ((40, 60), (61, 47), (33, 33), (70, 52), (48, 90))  # (height, width)


def picture(seed: int, height: int, width: int) -> Image.Image:
    """Something like a photograph: large soft shapes, some grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 3, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


def write_folder(root: Path, per_class: int = 7) -> Path:
    """Three classes of ``per_class`` images of several sizes, JPEG but for a PNG, a grey and a CMYK one."""
    for label, name in enumerate(("cat", "dog", "owl")):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            image = picture(100 * label + i, *SIZES[(label + i) % len(SIZES)])
            if i == 1:
                image.save(root / name / f"{i:03}.png")
                continue
            image.convert({2: "L", 3: "CMYK"}.get(i, "RGB")).save(root / name / f"{i:03}.jpg", quality=92)
    return root


def write_beton(folder: Path, out: Path, **options: float) -> Path:
    """The folder as a .beton file."""
    convert(folder, out, **options)  # type: ignore[arg-type]
    return out


def damage(path: Path, sample: int, at: float = 0.5, value: bytes = b"\x00" * 40) -> None:
    beton = Beton(path)
    images = beton.images("image")
    with open(path, "r+b") as file:
        file.seek(int(images.pointer[sample] + at * images.size[sample]))
        file.write(value)


def without_checksums(path: Path) -> Path:
    """The file as FFCV would have written it: the annotations' magic word is gone."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"mixstage")
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    return path
