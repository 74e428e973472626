"""Small image folders with everything that is awkward about real ones, made from a seed."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

# (width, height): square, wide, tall, smaller than the output, larger, one so narrow that no crop of torchvision's fits
_SIZES = [(64, 64), (90, 60), (60, 90), (33, 41), (128, 96), (20, 120), (97, 61)]


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    """A smooth colourful RGB picture, unlike any other seed's."""
    return _drawn(seed, width, height).copy()


@lru_cache(maxsize=2048)
def _drawn(seed: int, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def awkward(seed: int) -> tuple[str, bytes]:
    """(file name, contents) of one good image; seeds go round all kinds."""
    width, height = _SIZES[seed % len(_SIZES)]
    image = picture(seed, width, height)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: turn right; nobody does
    kinds = [
        ("rgb.jpg", lambda: encoded(image)),
        ("grey.jpeg", lambda: encoded(image.convert("L"))),
        ("cmyk.jpg", lambda: encoded(image.convert("CMYK"))),
        ("rotated.jpg", lambda: encoded(image, exif=rotated)),
        ("progressive.JPG", lambda: encoded(image, progressive=True)),
        ("plain.png", lambda: encoded(image, "PNG")),
        ("alpha.png", lambda: encoded(_with_alpha(image), "PNG")),
        ("palette.png", lambda: encoded(image.quantize(64), "PNG")),
        ("grey.png", lambda: encoded(image.convert("L"), "PNG")),
        ("png_named.jpg", lambda: encoded(image, "PNG")),
        ("plain.bmp", lambda: encoded(image, "BMP")),
        ("plain.tif", lambda: encoded(image, "TIFF")),
        ("plain.webp", lambda: encoded(image, "WEBP")),
        ("lossless.webp", lambda: encoded(image, "WEBP", lossless=True)),
        ("plain.ppm", lambda: encoded(image, "PPM")),
        ("grey.pgm", lambda: encoded(image.convert("L"), "PPM")),
        ("chroma.jpg", lambda: encoded(image, subsampling=0)),
    ]
    name, make = kinds[seed % len(kinds)]
    return f"{seed:05d}_{name}", make()


def _with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(128)
    return image


def make_folder(root: Path, count: int, classes: int = 3, seed: int = 0) -> Path:
    """An image folder of ``count`` awkward images, dealt to class folders."""
    for i in range(count):
        name, data = awkward(seed + i)
        folder = root / f"class {i % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return root


def make_jpeg_folder(root: Path, count: int, classes: int = 5, seed: int = 0) -> Path:
    """An image folder of ``count`` small JPEGs; quick to make."""
    for i in range(count):
        folder = root / f"{i % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        width, height = _SIZES[(seed + i) % len(_SIZES)]
        (folder / f"{i:05d}.jpg").write_bytes(encoded(picture(seed + i, width, height)))
    return root


def damage(path: Path, kind: str) -> None:
    """Turn a good JPEG file into a bad one of a kind of ``DAMAGE``."""
    data = path.read_bytes()
    path.unlink()
    if kind == "missing":
        return
    if kind == "folder":
        path.mkdir()
        return
    scan = data.index(b"\xff\xda")
    contents = {
        "garbage": lambda: np.random.default_rng(len(data)).integers(0, 256, len(data), dtype=np.uint8).tobytes(),
        "html": lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
        "header only": lambda: data[:30],
        "half": lambda: data[: (scan + len(data)) // 2],
        "empty": lambda: b"",
        "bit rot": lambda: _rot(data, scan),
        "icon": lambda: encoded(picture(len(data)), "ICO"),
        "zero-sized": lambda: _with_frame_size(data, 0, 0),
        "wrong size": lambda: _with_frame_size(data, 8, 8),
        "html inside": lambda: data[:2] + b"<html>404 Not Found</html>" * 20 + data[-2:],
        "wrong extension": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n",
    }
    path.write_bytes(contents[kind]())


DAMAGE = (
    "garbage", "html", "header only", "half", "empty", "missing", "bit rot", "icon", "zero-sized", "wrong size",
    "html inside", "wrong extension", "folder",
)  # fmt: skip


def _rot(data: bytes, scan: int) -> bytes:
    """Flipped bits in the segment lengths and tables before the scan: a header that can no longer be walked."""
    rotten = bytearray(data)
    for i in range(4, scan, 7):
        rotten[i] ^= 0xA5
    return bytes(rotten)


def _with_frame_size(data: bytes, height: int, width: int) -> bytes:
    frame = data.index(b"\xff\xc0")  # baseline
    return data[: frame + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[frame + 9 :]


def undecodable(data):
    """A JPEG whose header can be walked and whose end is there, but whose frame asks for a table that is not."""
    table = data.index(b"\xff\xc0") + 12  # the first component's quantisation table
    return data[:table] + b"\x03" + data[table + 1 :]
