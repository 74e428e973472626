"""The contestants of ``mixstage bench pipeline``: each opens a loader as its users write it and yields one epoch to call.

All of them crop at random to one size, flip, normalise and give float32 NCHW batches on the device (what differs is said at
each), shuffle, drop the last partial batch, and have the same cores.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.mixers.base import Mixer

from ..backends.base import is_installed
from ..image_loader import ImageLoader
from ..sources.registry import open_source

Batches = Callable[[], Any]  # an epoch: an iterable of (images, targets)
Stages = Callable[[], tuple[list[Any], list[Any]]]  # v2 transforms of PIL images, and of normalised tensors
_MEAN255 = [255 * value for value in IMAGENET_MEAN]
_STD255 = [255 * value for value in IMAGENET_STD]


@dataclass(frozen=True)
class Setting:
    """What all contestants are given."""

    folder: Path
    beton: Path
    batch_size: int
    size: int
    cores: int
    device: str


def own_backend() -> str:
    """The backend of this package that is measured where one is enough: DALI where it is installed, else torchvision's."""
    return "dali" if is_installed("nvidia.dali") else "torchvision"


@contextmanager
def mixstage(setting: Setting, backend: Any, mixer: Mixer | None, augment: Any = None) -> Generator[Batches, None, None]:
    """This package's loader."""
    root = setting.beton if backend == "ffcv" else setting.folder
    with ImageLoader(
        root, backend=backend, batch_size=setting.batch_size, size=setting.size, mixer=mixer, device=setting.device,
        num_threads=setting.cores, augment=augment,
    ) as loader:  # fmt: skip
        yield lambda: loader


class V2Mix:
    """torchvision's collate with mixup or CutMix by turns, as its documentation has it."""

    def __init__(self, classes: int) -> None:
        from torchvision.transforms import v2

        self._mix = v2.RandomChoice([v2.MixUp(num_classes=classes), v2.CutMix(num_classes=classes)])

    def __call__(self, batch: Any) -> Any:
        """Collates and mixes."""
        return self._mix(*torch.utils.data.default_collate(batch))


@contextmanager
def torchvision_loader(setting: Setting, mixing: bool, stages: Stages | None = None) -> Generator[Batches, None, None]:
    """``DataLoader(ImageFolder)`` with v2 transforms, as many worker processes as there are cores."""
    dataset = _image_folder(setting, stages)
    loader: Any = torch.utils.data.DataLoader(
        dataset, setting.batch_size, shuffle=True, drop_last=True, num_workers=setting.cores, persistent_workers=True,
        pin_memory=setting.device != "cpu", multiprocessing_context="spawn", # forking a process with threads may hang
        collate_fn=V2Mix(len(dataset.classes)) if mixing else None,
    )  # fmt: skip

    def epoch() -> Generator[tuple[Tensor, Tensor], None, None]:
        for images, targets in loader:
            yield images.to(setting.device, non_blocking=True), targets.to(setting.device, non_blocking=True)

    try:
        yield epoch
    finally:
        if loader._iterator is not None:
            loader._iterator._shutdown_workers()


@contextmanager
def torchvision_dataset(setting: Setting) -> Generator[Batches, None, None]:
    """The items of the same data set, one after the other in this thread, as many as whole batches have; no batches."""
    dataset = _image_folder(setting, None)
    count = len(dataset) // setting.batch_size * setting.batch_size
    yield lambda: (dataset[i] for i in torch.randperm(len(dataset))[:count].tolist())


def _image_folder(setting: Setting, stages: Stages | None) -> Any:
    """``ImageFolder`` with v2 transforms."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    before, behind = ([], []) if stages is None else stages()
    transform = v2.Compose([
        v2.RandomResizedCrop(setting.size, antialias=True), v2.RandomHorizontalFlip(), *before, v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD), *behind,
    ])  # fmt: skip
    return ImageFolder(setting.folder, transform)


@contextmanager
def plain_dali(setting: Setting, decode_only: bool) -> Generator[Batches, None, None]:
    """DALI as in its own ImageNet example, without mixing; with ``decode_only`` just the decoded images, not cropped."""
    from nvidia import dali
    from nvidia.dali import fn, types
    from nvidia.dali.plugin.pytorch import DALIClassificationIterator, LastBatchPolicy

    gpu = setting.device != "cpu"
    source = open_source(setting.folder)  # DALI's own reader lists no nested folders
    files, numbers, count = [source.name(i) for i in range(len(source))], source.labels.tolist(), len(source)

    @dali.pipeline_def(batch_size=setting.batch_size, num_threads=setting.cores, device_id=0 if gpu else None, seed=0)
    def graph() -> Any:
        data, labels = fn.readers.file(files=files, labels=numbers, random_shuffle=True, name="reader")
        where = "mixed" if gpu else "cpu"
        if decode_only:
            images = fn.decoders.image(data, device=where, output_type=types.RGB)
            return images.shape(device="cpu"), labels  # the pixels stay where they are
        images = fn.decoders.image_random_crop(
            data, device=where, output_type=types.RGB, random_area=[0.08, 1.0], random_aspect_ratio=[0.75, 4 / 3]
        )
        images = fn.resize(images, size=[setting.size, setting.size], antialias=True)
        images = fn.crop_mirror_normalize(
            images, dtype=types.FLOAT, output_layout="CHW", mean=_MEAN255, std=_STD255, mirror=fn.random.coin_flip()
        )
        return images, labels

    pipe = graph()
    pipe.build()
    if decode_only:
        yield lambda: (pipe.run() for _ in range(count // setting.batch_size))
        return
    iterator = DALIClassificationIterator(
        pipe, reader_name="reader", last_batch_policy=LastBatchPolicy.DROP, auto_reset=True
    )
    yield lambda: ((batch[0]["data"], batch[0]["label"]) for batch in iterator)


@contextmanager
def plain_ffcv(setting: Setting, mixing: bool) -> Generator[Batches, None, None]:
    """FFCV's own loader; with ``mixing`` its own ``ImageMixup`` and ``LabelMixup``, one lambda a batch."""
    import numpy as np
    from ffcv import transforms
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption

    mix: list[Any] = [transforms.ImageMixup(1.0, True)] if mixing else []
    mix_labels: list[Any] = [transforms.LabelMixup(1.0, True)] if mixing else []
    normalise = transforms.NormalizeImage(np.array(_MEAN255), np.array(_STD255), np.float32)
    move: list[Any] = [transforms.ToDevice(torch.device(setting.device))] if setting.device != "cpu" else []
    image: list[Any] = [
        RandomResizedCropRGBImageDecoder((setting.size, setting.size)), transforms.RandomHorizontalFlip(), *mix, normalise,
        transforms.ToTensor(), transforms.ToTorchImage(), *move,
    ]  # fmt: skip
    loader = Loader(
        str(setting.beton), setting.batch_size, num_workers=setting.cores, order=OrderOption.RANDOM, drop_last=True,
        pipelines={"image": image, "label": [IntDecoder(), *mix_labels, transforms.ToTensor(), *move]}, os_cache=True,
    )  # fmt: skip
    yield lambda: loader
