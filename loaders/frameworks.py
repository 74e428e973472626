"""What training frameworks ask of a torch DataLoader and this loader does in another way: said where they ask.

A DataLoader is moved by another sampler, so frameworks take its ``sampler`` apart. This loader's position is a pair of
numbers, which ``state_dict``, ``load_state_dict`` and ``set_epoch(epoch, step)`` read and set.
"""

from __future__ import annotations

import gc
import logging
import sys
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
    accelerators = [one for one in gc.get_objects() if issubclass(type(one), accelerate.Accelerator)]
    if accelerators and not any(saved is loader for one in accelerators for saved in one._custom_objects):
        _log.warning(
            "accelerator.save_state does not save where this ImageLoader is, and after load_state it begins anew; write "
            "accelerator.register_for_checkpointing(loader) before"
        )


def _no(name: str) -> str:
    return (
        f"an ImageLoader has no {name}, so accelerate.skip_first_batches and a resumed transformers.Trainer cannot move it; "
        "write loader.set_epoch(epoch, step), with a Trainer in on_train_begin beside ignore_data_skip=True "
        "(docs/works-with.md)"
    )
