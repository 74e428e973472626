"""ImageLoader: the place of ``DataLoader(ImageFolder(...), collate_fn=MixUp)``, with DALI, FFCV or torchvision inside.

Everything random is a function of (seed, epoch, step, row), so the state is a position, and every backend, number of
threads and resumed run gives the same batches, up to the rounding of decoders and resize filters.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, as_augmentation
from mixops.augment.crop_plan import CropLaw
from mixops.augment.flips import Flip
from mixops.key import Key
from mixops.mixers.base import Mixer
from mixops.plan import MixPlan
from mixops.runtime.checks import check_count

from .arguments import (
    RATIO,
    SCALE,
    check_batch_size,
    check_group,
    check_mixing,
    check_num_classes,
    check_plain,
    choose_candidates,
    choose_labels,
    choose_sampling,
    crop_law,
    data_colours,
    default_threads,
    find_device,
    find_stream,
    output_size,
)  # fmt: skip
from .array_limits import channels_of, check_arrays, default_crop, default_flip
from .backends.base import Backend, BackendConfig, find_backend
from .bad_files import BadFiles, OnError
from .classes import NamedClasses
from .description import describe
from .epoch import Epoch
from .frameworks import NoSampler, refuse_other_place, warn_if_unsaved
from .multi_crop import NamedCrops, named_crops, refuse_beside
from .output import Output
from .position import Position
from .ranks import find_rank, warn_if_alone
from .schedule import Schedule
from .segmentation import check_maps, ignore_index
from .sizes import BatchSizes, FixedSize, Sizes
from .sources.base import Opened, Source
from .sources.label_maps import LabelMaps
from .sources.registry import open_source
from .state import LoaderState, run_config
from .stats import LoaderStats, Meter
from .step import UNMIXED, StepPlan, StepPlanner
from .transform import Transform


class ImageLoader(FixedSize, NamedClasses, NoSampler):
    """Iterates over batches of a data set, one epoch for each ``iter``.

    Each batch is (images, targets): float images (b * k, 3, height, width) with k the mixer's interpolations, and float
    targets (b * k, classes), or the labels, int64 (b,) in general, without a mixer. Of ``LabelMaps`` the targets are
    (b * k, classes, height, width), or class numbers (b, height, width).

    ``root`` is a path (folder, shards, manifest, .beton: see ``loaders.sources``), a ``Source`` such as ``Arrays(images,
    labels)``, or a map-style data set of torch's, without a transform, or of the Hugging Face library ``datasets``.
    ``batch_size`` is that of one rank. ``size`` is the output's side, or (height, width); ``Sizes`` and ``BatchSizes``
    change both in the course of the epochs. ``device`` is "cuda" where there is one. ``rank`` and ``world_size`` are from
    ``torch.distributed`` when they are needed unless given. ``split="train"`` crops at random within ``scale`` and
    ``ratio`` and flips with probability ``flip``, 0.5; "val" resizes the shorter side to ``val_resize`` (default ``size /
    0.875``), crops the centre and neither shuffles nor drops by default. ``crop`` is another law, such as
    ``PaddedRandomCrop(4)``; ``crops={"global": (2, 224, law), "local": (8, 96, law, augment)}`` are several of every image,
    which is decoded once, and make images a dictionary of (count * b, 3, h, w). ``augment`` is a policy such as
    ``TrivialAugmentWide()``, one of timm's strings ("rand-m9-mstd0.5-inc1"), or a list of these, ``RandomErasing`` last:
    done with Pillow's bytes between flip and mix. Then ``transform(images, generator)`` has uint8 (b, 3, h, w) on the
    device, and a generator that the key has seeded. ``mix_group`` rows are mixed with one another (default: those of one
    rank); fixed, mixing does not depend on the number of ranks. ``indices`` are the samples to choose from. ``weights``
    draws them in that proportion ("balanced": every class alike). ``repeats`` views of a sample are in a batch: "dealt" over
    the ranks as by timm's sampler, or "together" on one. ``views`` of every image are given, as a tuple. ``on_error="skip"``
    puts other samples in the place of files that cannot be decoded, at most ``max_bad`` of them; "raise" stops at the first.
    ``smoothing`` is that of mixed targets, by default the mixer's. ``mean`` and ``std`` are on the scale [0, 1];
    ``mean=None, std=None, dtype=torch.uint8`` gives plain pixels. ``targets="sparse"`` are pairs for ``soft_cross_entropy``.
    ``batch="named"`` adds labels, samples and plan, "dict" has the keys of Hugging Face's trainers; ``ids`` adds the
    samples. ``decode="fast"`` decodes JPEGs whose crop is twice the output at a fraction of their size, not on "dali".
    ``prefetch`` batches are made ahead; no wait exceeds ``timeout`` s. ``mixup_enabled = False`` unmixes later epochs.

    Raises ``ValueError`` or ``TypeError`` naming the argument, ``ImportError`` for a backend that is not installed. While
    iterating, ``RuntimeError`` names a bad file and ``TimeoutError`` what was waited for.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Source | Any,
        *,
        backend: Literal["dali", "ffcv", "torchvision"] = "dali",
        batch_size: int | BatchSizes,
        size: int | tuple[int, int] | Sizes = 224,
        mixer: Mixer | None = None,
        device: str | torch.device | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        num_threads: int | None = None,
        drop_last: bool | None = None,
        shuffle: bool | None = None,
        on_error: OnError = "raise",
        max_bad: int = 100,
        split: Literal["train", "val"] = "train",
        scale: tuple[float, float] = SCALE,
        ratio: tuple[float, float] = RATIO,
        flip: float | None = None,
        vertical_flip: float = 0.0,
        crop: CropLaw | None = None,
        crops: Mapping[str, Any] | None = None,
        augment: Any = None,
        transform: Transform | None = None,
        val_resize: int | None = None,
        indices: Sequence[int] | None = None,
        weights: Sequence[float] | Literal["balanced"] | None = None,
        repeats: int = 1,
        repeat_mode: Literal["dealt", "together"] = "dealt",
        views: int = 1,
        mix_group: int | None = None,
        smoothing: float | None = None,
        mean: Sequence[float] | None = IMAGENET_MEAN,
        std: Sequence[float] | None = IMAGENET_STD,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        targets: Literal["dense", "sparse"] = "dense",
        batch: Literal["tuple", "dict", "named"] = "tuple",
        ids: bool = False,
        decode: Literal["exact", "fast"] = "exact",
        prefetch: int = 2,
        timeout: float = 300.0,
    ) -> None:
        self._kind, self._fast = find_backend(backend, decode), decode == "fast"
        self._named = named_crops(crops)
        if self._named:
            refuse_beside(
                mixer=(mixer, None), size=(size, 224), crop=(crop, None), augment=(augment, None), scale=(scale, SCALE),
                ratio=(ratio, RATIO), val_resize=(val_resize, None), views=(views, 1),
            )  # fmt: skip
            size, crop = self._named[0].size, self._named[0].law
        self._size = output_size(size)
        train = split == "train"
        smoothing = check_mixing(split, mixer, smoothing)
        num_threads = default_threads() if num_threads is None else num_threads
        check_plain(
            num_threads=num_threads, prefetch=prefetch, views=views, repeats=repeats, repeat_mode=repeat_mode, rank=rank,
            mix_group=mix_group, world_size=world_size, on_error=on_error, max_bad=max_bad, drop_last=drop_last,
            shuffle=shuffle, targets=targets, batch=batch, ids=ids, dtype=dtype, memory_format=memory_format,
            timeout=timeout, transform=transform,
        )  # fmt: skip
        self.backend, self.mixer, self.mixup_enabled = backend, mixer, True
        self.batch_size, self._batch_sizes = check_batch_size(batch_size), batch_size
        self.device = find_device(device)
        self._crop = crop_law(split, self._size, default_crop(root, split, crop), scale, ratio, val_resize)
        self._augmentation = as_augmentation(augment, interpolation=self._crop.interpolation)
        largest = (self._size.largest, self._size.largest) if isinstance(self._size, Sizes) else self._size
        plain = NamedCrops("", views, largest, self._crop, self._augmentation)
        check_arrays(root, self.device, self._named or (plain,), mean, std, dtype)
        check_maps(root, self._augmentation, smoothing, views, self._named)
        self._colours = data_colours(mean, std, channels_of(root))
        turns = Flip(default_flip(root, flip), vertical_flip)  # also of validation: its errors now
        self._flip = turns if train else Flip(0.0)
        self._rank, self._world_size, self._seed = rank, world_size, Key(seed).seed
        self._drop_last = train if drop_last is None else drop_last
        self._num_threads, self._prefetch, self._timeout = num_threads, prefetch, timeout
        self.dataset: Opened = open_source(root, timeout=timeout)
        self._candidates = choose_candidates(indices, len(self.dataset))
        labels = choose_labels(self.dataset.labels, self._candidates, targets, weights)
        together = (mix_group or self.batch_size // repeats) if repeat_mode == "together" else None
        self._sampling = choose_sampling(train if shuffle is None else shuffle, weights, labels, repeats, together)
        self._mix_group, self._views = together if repeats > 1 and together else mix_group, views
        self._output = Output(
            torch.from_numpy(self.dataset.labels), check_num_classes(mixer, self.num_classes), self.device, mean, std, dtype,
            memory_format, smoothing, views, targets, batch, ids, transform, self._named, ignore_index(root),
        )  # fmt: skip
        self._bad = BadFiles(self.dataset.name, on_error, max_bad)
        self._bad.known.update(self.dataset.broken)
        self._engine: tuple[BackendConfig, Backend] | None = None
        self._position = Position()
        _ = self.schedule  # its errors now, not later

    @property
    def schedule(self) -> Schedule:
        """The schedule of this rank; rank and world size are looked up anew each time."""
        rank, world_size = find_rank(self._rank, self._world_size)
        samples = len(self.dataset if self._candidates is None else self._candidates)
        schedule = Schedule(
            samples, self.batch_size * world_size, self._seed, self._sampling, self._drop_last, rank, world_size,
            self._mix_group,
        )  # fmt: skip
        check_group(self.mixer, schedule, "batch_size" if self._mix_group is None else "mix_group")
        return schedule

    def __len__(self) -> int:
        """Steps of the next epoch, or of the one that is running."""
        return self._steps(self._position.next()[0])

    def _steps(self, epoch: int) -> int:
        return len(self._planner().schedule_of(epoch))

    def draw(self, epoch: int, step: int) -> StepPlan:
        """The plan of a step on this rank, given the bad files found so far; nothing is decoded for it."""
        return self._planner().draw(epoch, step, self._bad.known)

    def plan(self, epoch: int, step: int, images: UInt8[Tensor, "b 3 h w"] | None = None) -> MixPlan:
        """The mixing of a step on this rank. A matching needs the step's ``images`` as decoded. Raises ``ValueError``."""
        if (plan := self._planner().mix(epoch, step, images)) is None:
            raise ValueError("mixer must be given for a plan, got None")
        return plan

    def _planner(self) -> StepPlanner:
        mixer = self.mixer if self.mixup_enabled or self.mixer is None else UNMIXED
        return StepPlanner(
            self.schedule, self.dataset.sizes, self._size, self._crop, self._flip, mixer, self._candidates,
            self._batch_sizes if isinstance(self._batch_sizes, BatchSizes) else None, self._views, self._augmentation,
            *self._colours, self._named, isinstance(self.dataset, LabelMaps), self._fast,
        )  # fmt: skip

    def __iter__(self) -> Generator[Any, None, None]:
        """An epoch, begun when its first batch is asked for: an iterator that nobody uses does not count as one."""
        config, backend = self._open()
        warn_if_alone(config.planner.schedule.world_size)
        refuse_other_place(self, *(place := self._position.begin(self._steps)))
        running = Epoch(config, backend, self._output, *place)
        self._position.follow(running)
        yield from running

    def set_epoch(self, epoch: int, step: int | None = None) -> None:
        """The epoch of the next iterator; setting the one that is next anyway changes nothing, also after a resume.

        With a ``step`` it begins there, as a DataLoader does after accelerate's ``skip_first_batches(loader, step)``.
        """
        if step is None:
            self._position.set_epoch(epoch)
        else:
            self._position.resume(Key(0, epoch).epoch, check_count("step", step, 0, self._steps(epoch)))

    def __repr__(self) -> str:
        executor = f"{self.backend}, {self._num_threads} threads, {self._prefetch} batches ahead"
        return describe(self.dataset, self._planner(), self._output, executor, self._position.next())

    def _open(self) -> tuple[BackendConfig, Backend]:
        planner, was = self._planner(), self._engine and self._engine[0].planner
        if was is None or (was.schedule, was.mixer) != (planner.schedule, planner.mixer):
            warn_if_unsaved(self, self._sampling)
            device, stream = find_stream(self.device)
            config = BackendConfig(
                self.dataset, planner, self._bad, device, stream, self._num_threads, self._prefetch, self._timeout
            )
            self._engine = config, self._kind(config)
        return self._engine  # type: ignore[return-value]  # made if it was None

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch is, as small JSON values; to be taken while iterating, or between epochs."""
        return LoaderState(*self._position.next(), self._config()).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next iterator begin where ``state`` was taken, with the identical next batch.

        Backend, threads, prefetching and number of ranks may differ. Raises ``ValueError`` naming what must not and does.
        """
        loaded = LoaderState.from_dict(state)
        loaded.check(self._config())
        if loaded.step > (steps := self._steps(loaded.epoch)):
            raise ValueError(f"state must have a step of at most {steps}, got {loaded.step}")
        self._position.resume(loaded.epoch, loaded.step)

    def _config(self) -> dict[str, Any]:
        return run_config(self.dataset, self._planner(), self.mixer, self._output.transform)

    def stats(self) -> LoaderStats:
        """Figures of the epoch that is running, or of the last one."""
        if (running := self._position.running) is not None:
            return running.stats()
        return (self._position.meter or Meter(*self._position.next())).stats(0, len(self._bad.reported))

    def close(self) -> None:
        """End whatever is running, and give everything back; the state stays that of the last batch that was delivered."""
        if (running := self._position.running) is not None:
            running.close()
        if self._engine is not None:
            self._engine[1].close()
            self._engine = None

    def __enter__(self) -> ImageLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
