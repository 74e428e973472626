"""A folder of synthetic JPEGs that cost a decoder what ImageNet's do: 500 x 375 pixels, about 100 kB.

Photographs have spectra that fall with the frequency; so have these: random phases under 1 / f**1.1, the colours
alike but for a share of their own. White noise would cost several times as much to decode, smooth gradients a fraction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mixops import Key
from mixops.key import Stream

from ..processors import usable_processors
from ..sources.progress import Turn, run_with_progress

_HEIGHT, _WIDTH, _QUALITY = 375, 500, 89
_CHUNK = 16


def write_photos(root: Path, count: int, classes: int = 8) -> Path:
    """Writes ``count`` images to class folders under ``root`` unless they are there; shows progress."""

    def write(chunk: np.ndarray, turn: Turn) -> int:
        for i in chunk.tolist():
            path = root / f"{i % classes:03d}" / f"{i:06d}.jpg"
            turn(str(path))
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                Image.fromarray(photo(i)).save(part, "JPEG", quality=_QUALITY)
                part.rename(path)
        return len(chunk)

    numbers = np.arange(count)
    threads = usable_processors()
    run_with_progress(write, np.split(numbers, range(_CHUNK, count, _CHUNK)), count, "writing photographs", threads)
    return root


def photo(number: int) -> UInt8[np.ndarray, "375 500 3"]:
    """One picture, a function of its number."""
    phases = Key(number).uniform(Stream.ORDER, (4, _HEIGHT, _WIDTH // 2 + 1))
    frequency = np.hypot(np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.irfft2(np.exp(2j * np.pi * phases) * frequency**-1.1, (_HEIGHT, _WIDTH))
    waves /= waves.std(axis=(1, 2), keepdims=True)
    colours = waves[0] + 0.35 * waves[1:]
    return np.clip(128 + 52 * colours, 0, 255).astype(np.uint8).transpose(1, 2, 0)
