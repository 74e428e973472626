"""Mathematics of mixed-sample augmentation: keys, plans, mixers, matching, blending kernels, embedding MultiMix."""

from .apply import mix_images
from .cutmix import CutMix
from .gmix import GMix
from .hmix import HMix
from .key import Key
from .matching import OptimalMatching
from .mixup import MixUp
from .plan import MixPlan
from .switch import Switch
from .targets import mix_targets, soft_cross_entropy, sparse_targets

__all__ = [
    "CutMix",
    "GMix",
    "HMix",
    "Key",
    "MixPlan",
    "MixUp",
    "OptimalMatching",
    "Switch",
    "mix_images",
    "mix_targets",
    "soft_cross_entropy",
    "sparse_targets",
]
