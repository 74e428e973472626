"""What training frameworks ask of a torch DataLoader and this loader does in another way: said where they ask.

A DataLoader is moved by another sampler, so frameworks take its ``sampler`` apart. This loader's position is a pair of
numbers, which ``state_dict``, ``load_state_dict`` and ``set_epoch(epoch, step)`` read and set.
"""

from __future__ import annotations

import gc
import logging
import sys
from types import FrameType
from typing import NoReturn

from .sampling import Sampling, Sequential

_log = logging.getLogger("mixstage")


class NoSampler:
    """Without the attributes ``sampler`` and ``batch_sampler``, as ``hasattr`` has it too; the error says what to write."""

    @property
    def sampler(self) -> NoReturn:
        raise AttributeError(_no("sampler"))

    @property
    def batch_sampler(self) -> NoReturn:
        raise AttributeError(_no("batch_sampler"))


def warn_if_unsaved(loader: object, sampling: Sampling) -> None:
    """Warn if an ``Accelerator`` of accelerate would save a run without the position of this loader.

    ``Accelerator.prepare`` gives back what it does not know, and ``save_state`` leaves it out. A loader that always shows
    the same has no position worth saving, and Hugging Face's Trainer saves none.
    """
    accelerate = sys.modules.get("accelerate")
    if isinstance(sampling, Sequential) or accelerate is None or "transformers.trainer" in sys.modules:
        return
    if not accelerate.state.is_initialized():
        return
    kinds = _with_subclasses(accelerate.Accelerator)
    accelerators = [one for one in gc.get_referrers(*kinds) if type(one) in kinds]  # an object refers to its class
    if accelerators and not any(saved is loader for one in accelerators for saved in one._custom_objects):
        _log.warning(
            "accelerator.save_state does not save where this ImageLoader is, and after load_state it begins anew; write "
            "accelerator.register_for_checkpointing(loader) before"
        )


def refuse_other_place(loader: object, epoch: int, step: int) -> None:
    """Raise ``RuntimeError`` if the Trainer of MosaicML Composer asks for an epoch and this loader would begin elsewhere.

    For whatever is no DataLoader, Composer saves no state and calls no ``set_epoch``. A Trainer that goes on begins one
    iterator for each epoch before, leaves it after a batch, and then reads the batches of the current epoch again;
    with ``spin_dataloaders=False`` it does neither. Both are right from one place only, which is compared here.
    """
    if "composer.trainer.trainer" not in sys.modules:
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != "composer.trainer.trainer":
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "_iter_dataloader":  # or iterators for epochs before: the last one counts
        return
    trainer = frame.f_locals["self"]
    if trainer.state.train_dataloader is not loader:
        return
    now = trainer.state.timestamp.epoch.value, trainer.state.timestamp.batch_in_epoch.value
    reads = trainer.spin_dataloaders and "train" not in trainer.state.dataset_resumption
    if (epoch, step) != ((now[0], 0) if reads else now):
        place = "0, 0" if reads else "trainer.state.timestamp.epoch.value, trainer.state.timestamp.batch_in_epoch.value"
        raise RuntimeError(
            f"Composer's Trainer goes on at batch {now[1]} of epoch {now[0]}, but this ImageLoader would begin "
            f"{'the epoch ' if reads else ''}at batch {step} of epoch {epoch}; write loader.set_epoch({place}) before "
            "trainer.fit() (docs/works-with.md)"
        )


def _with_subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(_with_subclasses, kind.__subclasses__()))


def _no(name: str) -> str:
    return (
        f"an ImageLoader has no {name}, so accelerate.skip_first_batches and a resumed transformers.Trainer cannot move it; "
        "write loader.set_epoch(epoch, step), with a Trainer in on_train_begin beside ignore_data_skip=True "
        "(docs/works-with.md)"
    )
