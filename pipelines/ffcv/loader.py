"""FFCV with every mixer, and without its silence: ``MixLoader`` in the place of ``ffcv.loader.Loader``.

    MixLoader("train.beton", batch_size=256, order=OrderOption.RANDOM, seed=0, mixer=HMix(r=0.75), pipelines={
        "image": [RandomResizedCropRGBImageDecoder((224, 224)), ToTensor(), ToDevice(device), ToTorchImage(),
                  MixImage(mean, std, dtype=torch.float16)],
        "label": [IntDecoder(), ToTensor(), ToDevice(device), MixLabel(1000)]})

Decoders, transforms and orders stay the user's and FFCV's. The loader draws the plan of a batch from
``Key(seed, epoch, step, rank)`` and runs the stages of images before those of labels, whose order FFCV leaves open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
from ffcv.loader import Loader, OrderOption
from ffcv.loader.loader import DEFAULT_OS_CACHE
from ffcv.pipeline import PipelineSpec
from ffcv.pipeline.compiler import Compiler
from ffcv.transforms import ToTorchImage
from jaxtyping import Int64

from mixops.key import Key
from mixops.mixers.base import Mixer
from mixops.runtime.checks import check_count, check_indices
from mixops.runtime.ranks import process_group
from mixops.runtime.threads import run_sliced

from ..bad_file import BadFile
from .arguments import check_arguments
from .batch import Batch
from .beton import IMAGE, Beton
from .compiled import compiled_code_kept
from .crop import PlannedCrop
from .epoch import Batches, EpochThread
from .graph import allocate, ordered_stages, pipeline_of
from .stages import AugmentImage, MixImage, MixLabel, MixStage


class MixLoader(Loader):
    """FFCV's ``Loader`` with a mixer, whose errors reach the training loop.

    Takes all arguments of ``ffcv.loader.Loader`` and yields what it yields; with K outputs a pair, the outputs of
    pipelines that hold ``MixImage`` or ``MixLabel`` have batch_size * K rows, row b * K + k being output k of pair b.
    ``mixer=None`` mixes nothing, for validation. ``seed`` is that of the order and of the mixing, 0 if not given. ``rank``
    is that of ``torch.distributed`` if not given, 0 without it. ``verify`` reads each record before it is decoded and
    compares it with its checksum (``mixstage convert`` writes them), or else checks its header and its end.

    Batches may be kept as long as one likes. Raises ``ValueError`` for pipelines without ``MixImage`` where there is a
    mixer, and ``RuntimeError``, while iterating, from whatever a stage raised or a record has wrong.
    """

    def __init__(
        self,
        fname: str | os.PathLike[str],
        batch_size: int,
        num_workers: int = -1,
        os_cache: bool = DEFAULT_OS_CACHE,
        order: Any = OrderOption.SEQUENTIAL,
        distributed: bool = False,
        seed: int | None = None,
        indices: Sequence[int] | None = None,
        pipelines: Mapping[str, Any] | None = None,
        custom_fields: Mapping[str, Any] | None = None,
        drop_last: bool = True,
        batches_ahead: int = 3,
        recompile: bool = False,
        *,
        mixer: Mixer | None = None,
        rank: int | None = None,
        verify: bool = True,
    ) -> None:
        check_arguments(
            fname=fname, batch_size=batch_size, num_workers=num_workers, os_cache=os_cache, order=order,
            distributed=distributed, seed=seed, pipelines=pipelines, custom_fields=custom_fields, drop_last=drop_last,
            batches_ahead=batches_ahead, recompile=recompile, mixer=mixer, rank=rank, verify=verify,
        )  # fmt: skip
        self.mixer, self.verify, self._rank = mixer, verify, rank
        self.last: Batch | None = None
        self._step = 0
        own = _own_copies(pipelines or {}, mixer)
        fname, custom = os.fspath(fname), dict(custom_fields or {})
        if not custom:
            self._beton = Beton(fname)  # says what is wrong with a file where FFCV has an AssertionError or IndexError
            indices = _chosen(indices, self._beton)
        with compiled_code_kept():
            super().__init__(
                fname, batch_size, num_workers, os_cache, order, distributed, seed or 0, indices, own, custom, drop_last,
                batches_ahead, recompile,
            )  # fmt: skip
        if custom:
            self._beton = Beton(fname, self.reader.metadata.dtype)
            if indices is not None:
                self.indices = _chosen(indices, self._beton)
        fields = dict.fromkeys(self.graph.root_nodes.values())
        self._images = [self._beton.images(name) for name in fields if self._beton.types[name] == IMAGE]
        decoders = {node.id: node.decoder for node in self.graph.root_nodes}
        self.crops = {node: decoder for node, decoder in decoders.items() if isinstance(decoder, PlannedCrop)}
        self._pipelines = [pipeline_of(leaf) for leaf in self.graph.leaf_nodes.values()]

    def key(self, epoch: int, step: int) -> Key:
        """The key that a batch's plan is drawn from."""
        if self._rank is not None:
            return Key(self.seed, epoch, step, self._rank)
        group = process_group()
        return Key(self.seed, epoch, step, 0 if group is None else group[0])

    def seek(self, epoch: int, step: int = 0) -> None:
        """Makes the next iteration begin at a step of an epoch, with the batches that it would have had there."""
        self.next_epoch, self._step = check_count("epoch", epoch, 0, 2**64 - 1), check_count("step", step, 0, len(self))

    def __iter__(self) -> Batches:
        self._beton.check_replaced()
        Compiler.set_num_threads(self.num_workers)
        epoch, step = self.next_epoch, self._step
        order = self.next_traversal_order()[: len(self) * self.batch_size][step * self.batch_size :]
        self.next_epoch, self._step = epoch + 1, 0
        if self.recompile:
            self.generate_code()
        return Batches(self, EpochThread(self, order, epoch, step))

    def generate_code(self) -> None:
        """FFCV's, with our order of stages and our memory."""
        self.graph.group_operations = partial(ordered_stages, self.graph)
        self.graph.allocate_memory = partial(allocate, self.graph)
        with compiled_code_kept():
            super().generate_code()

    def filter(self, field_name: str, condition: Any) -> NoReturn:
        """Not offered: FFCV's ``filter`` makes a loader without a mixer."""
        raise NotImplementedError(
            "MixLoader has no filter: filter an ffcv.Loader and pass its indices to MixLoader(indices=)"
        )

    def check_records(self, ids: Int64[np.ndarray, " b"]) -> None:
        """Raises ``RuntimeError``, naming the sample, if a record of the batch is not what was written."""
        self._beton.check_length()
        if self.verify:
            run_sliced(self._check, len(ids), ids)

    def _check(self, start: int, stop: int, ids: Int64[np.ndarray, " b"]) -> None:
        sample = -1
        try:
            for images in self._images:
                for sample in ids[start:stop].tolist():
                    self._beton.read(images, sample)
        except BadFile as error:
            raise RuntimeError(f"{self.name(sample)}: {error}") from error

    def name(self, sample: int) -> str:
        """What to call a sample in a message: its number, and the file it was made from where that is known."""
        return self._beton.name(sample)

    def deliver(self, batch: Batch, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the training loop gets of a batch; ``last`` then is that batch, its ids, key and plan."""
        self.last = batch
        return tuple(_rows(x, stages) for x, stages in zip(outputs, self._pipelines, strict=True))


def _chosen(indices: Any, beton: Beton) -> Any:
    """The samples of a subset; FFCV's compiled code would read beyond the file for others. None is all of them."""
    return None if indices is None else check_indices("indices", indices, beton.samples)


def _own_copies(pipelines: Mapping[str, Any], mixer: Mixer | None) -> dict[str, Any]:
    """The pipelines in lists of our own, for FFCV takes the decoders out of those it is given; tells the stages K."""
    own = {name: list(spec) if isinstance(spec, Sequence) else spec for name, spec in pipelines.items()}
    images = 0
    for spec in own.values():
        mixed = False
        for stage in spec.transforms if isinstance(spec, PipelineSpec) else spec or ():
            if mixed and isinstance(stage, AugmentImage):
                raise ValueError("pipelines must have AugmentImage before MixImage, got it behind")
            mixed = mixed or isinstance(stage, MixImage)
            if isinstance(stage, MixStage):
                stage.interpolations = 1 if mixer is None else mixer.interpolations
                images += isinstance(stage, MixImage)
    if mixer is not None and not images:
        raise ValueError("pipelines must hold a MixImage where there is a mixer, got none")
    return own


def _rows(x: Any, stages: list[Any]) -> Any:
    """K results stacked in one row of a batch become K rows; a view, but of ``ToTorchImage(channels_last=False)``."""
    for i, stage in enumerate(stages):
        if isinstance(stage, MixLabel):
            return x.reshape(-1, stage.num_classes)
        if isinstance(stage, MixImage):
            k = stage.interpolations or 1
            if k == 1:
                return x
            if stage.planes or any(isinstance(later, ToTorchImage) for later in stages[i:]):
                return x.unflatten(2, (k, -1)).transpose(1, 2).flatten(0, 1)  # (b, c, k * h, w) -> (b * k, c, h, w)
            return x.reshape(len(x) * k, -1, *x.shape[2:])  # (b, k * h, w, c) -> (b * k, h, w, c)
    return x
