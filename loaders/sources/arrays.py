"""Images that are decoded already, in one array: CIFAR and its kind in memory, larger sets as memory-mapped .npy files.

Nothing is decoded, so every backend goes straight to the crop. A data set that fits a GPU may stay there: then a batch is
cut out on the GPU, and only the plan is sent to it. Planes are whatever has the axes (c, h, w): spectrograms, bands of a
satellite. They are cut out, flipped and mixed as images are; what resizes or augments pictures of 8 bits is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from mixops.runtime.checks import check_choice, check_type, shown

from .base import Listing
from .labels import as_labels

_PLANES = ("uint8", "float16", "float32")  # what is mixed without a loss


class Arrays(Listing):
    """Images as one uint8 array (n, h, w, 3), or (n, h, w) and (n, h, w, 1) for grey ones, and their labels.

    ``images`` is an array, a tensor, or the path of an .npy file, which is mapped into memory and read as it is needed; it
    must keep its length meanwhile. ``labels`` are class numbers, class names, weights (n, classes), or the path of an .npy
    file of them; ``classes`` their names. With ``layout="NCHW"`` images are planes (n, c, h, w) of any number, uint8,
    float16 or float32. A tensor on a GPU stays there, and what is given is moved to ``device`` where that is given; the
    loader's device must be the same. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    decoded = True

    def __init__(
        self,
        images: Any,
        labels: Any,
        classes: Sequence[str] | None = None,
        *,
        layout: Literal["NHWC", "NCHW"] = "NHWC",
        device: str | torch.device | None = None,
    ) -> None:
        self.planes = check_choice("layout", layout, ("NHWC", "NCHW")) == "NCHW"
        self._path = os.fspath(images) if isinstance(images, (str, os.PathLike)) else None
        self.images: Shaped[np.ndarray | Tensor, "n h w c"] = _moved(_as_images(images, self.planes), device)
        count, height, width, _ = self.images.shape
        numbers, names = as_labels(labels.cpu() if isinstance(labels, Tensor) else labels, classes, count=count)
        super().__init__(
            root="" if self._path is None else str(Path(self._path).absolute()),
            files=np.arange(count).astype("S"),
            labels=numbers,
            sizes=np.broadcast_to(np.array([height, width], np.int64), (count, 2)),
            classes=names,
        )

    @property
    def device(self) -> torch.device | None:
        """Where a tensor of them is kept; None for an array of the host's."""
        return self.images.device if isinstance(self.images, Tensor) else None

    def name(self, sample: int) -> str:
        """The number of a sample, and the file that it is in."""
        return f"image {sample}" + (f" of {self.root}" if self.root else "")

    def read(self, sample: int) -> Shaped[np.ndarray, "h w c"]:
        """The pixels; a look at the array's own memory unless that is a device's."""
        image = self.images[sample]
        return image.cpu().numpy() if isinstance(image, Tensor) else image


def _as_images(images: Any, planes: bool) -> Shaped[np.ndarray | Tensor, "n h w c"]:
    """Any of the forms as a look at it with three channels, or as many as there are planes."""
    found: Any
    if isinstance(images, (str, os.PathLike)):
        found = _mapped(images)
    else:
        found = images if isinstance(images, Tensor) and images.device.type != "cpu" else np.asarray(images)
    dtype = str(found.dtype).removeprefix("torch.")
    if planes:
        if dtype not in _PLANES:
            raise TypeError(f"images must be one of {', '.join(_PLANES)} under layout='NCHW', got {dtype}")
        if found.ndim != 4 or 0 in found.shape:
            raise ValueError(f"images must be of shape (n, c, h, w) under layout='NCHW', got {tuple(found.shape)}")
        return found.permute(0, 2, 3, 1) if isinstance(found, Tensor) else found.transpose(0, 2, 3, 1)
    if dtype != "uint8":
        raise TypeError(f"images must be uint8, got {dtype}; what is normalised before it is mixed loses precision")
    shape = tuple(found.shape)
    found = found[..., None] if found.ndim == 3 else found
    if found.ndim != 4 or found.shape[3] not in (1, 3) or 0 in found.shape:
        raise ValueError(f"images must be of shape (n, h, w, 3) or (n, h, w), got {shape}")
    if found.shape[3] == 3:
        return found
    three = (*found.shape[:3], 3)
    return found.expand(three) if isinstance(found, Tensor) else np.broadcast_to(found, three)


def _mapped(path: str | os.PathLike[str]) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, ValueError) as error:  # also of a file that was cut off
        raise ValueError(f"images must be a whole .npy file, got {os.fspath(path)!r}: {error}") from error
    if not isinstance(found, np.ndarray):
        raise ValueError(f"images must be an .npy file, which holds one array, got {os.fspath(path)!r}")
    return found


def _moved(images: Any, device: str | torch.device | None) -> Any:
    """``images`` on a device, there when this returns; without one they stay where they are."""
    if device is None:
        there = images
    else:
        check_type("device", device, (str, torch.device), "'cpu', 'cuda', a torch.device or None")
        try:
            there = torch.tensor(images).to(device) if isinstance(images, np.ndarray) else images.to(device)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"device must be one that there is and that holds the images, got {shown(device)}: {error}"
            ) from error
    if isinstance(there, Tensor) and there.is_cuda:
        torch.cuda.synchronize(there.device)  # once: loaders have streams of their own
    return there
