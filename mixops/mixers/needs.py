"""What a place can give a mixer, against what the mixer needs: the one refusal, with its reason and the way out.

A loader has the images of a batch but no model that would find them salient; a plan that is drawn before the pixels are
there can look at nothing; a loader that works ahead keeps no batch that it mixed. Each such place asks here when it is
constructed.
"""

from __future__ import annotations

from collections.abc import Collection

from .base import Mixer

_INSTEAD = {  # of what is missing, the first counts
    "history": "history is the batch that was mixed before, so mix in the training step by mixer(images, labels, "
    "num_classes=..., history=...)",
    "saliency": "saliency is a model's, so mix in the training step by mixer(images, labels, num_classes=..., "
    "saliency=gradient_saliency(model, images, labels)), or give the mixer saliency='spectral', which needs no model",
    "images": "plans are drawn there before there are pixels, so mix where the images are, by mixer(images, labels, "
    "num_classes=...) or in an ImageLoader",
}


def refuse_needs(mixer: Mixer | None, given: Collection[str], place: str) -> None:
    """Raises ``ValueError`` if ``mixer`` needs what ``place`` does not give, saying what to use instead.

    ``given`` are names of ``Mixer.needs`` that the place has; no mixer needs nothing.
    """
    missing = set() if mixer is None else mixer.needs - set(given)
    if missing:
        instead = next(text for name, text in _INSTEAD.items() if name in missing)
        raise ValueError(f"mixer must need no {' and no '.join(sorted(missing))} in {place}, got {mixer!r}: {instead}")
