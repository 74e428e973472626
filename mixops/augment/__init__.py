"""What happens to one image between its decoder and the mix: crops, flips, operations, erasing.

Laws draw from a key; executors draw nothing.
"""

from .augmix import AugMix
from .auto_augment import AutoAugment
from .color_jitter import ColorJitter
from .composition import Augmentation, as_augmentation
from .erasing import Cutout, RandomErasing
from .plan import AugmentPlan
from .rand_augment import RandAugment
from .registry import AUGMENTATIONS, parse_augment
from .single import GaussianBlur, RandomGrayscale, RandomSolarize
from .three_augment import ThreeAugment
from .timm_policies import TimmAugMix, TimmAutoAugment, TimmRandAugment
from .timm_strings import parse_timm
from .trivial_augment import TrivialAugmentWide

__all__ = [
    "AUGMENTATIONS",
    "AugMix",
    "AugmentPlan",
    "Augmentation",
    "AutoAugment",
    "ColorJitter",
    "Cutout",
    "GaussianBlur",
    "RandAugment",
    "RandomErasing",
    "RandomGrayscale",
    "RandomSolarize",
    "ThreeAugment",
    "TimmAugMix",
    "TimmAutoAugment",
    "TimmRandAugment",
    "TrivialAugmentWide",
    "as_augmentation",
    "parse_augment",
    "parse_timm",
]
