"""What happens to one image between its decoder and the mix: crops, flips, operations, erasing.

Laws draw from a key; executors draw nothing.
"""

from .apply import augment_images
from .composition import Augmentation, as_augmentation
from .erasing import Cutout, RandomErasing
from .plan import AugmentPlan
from .policies.augmix import AugMix
from .policies.auto_augment import AutoAugment
from .policies.color_jitter import ColorJitter
from .policies.rand_augment import RandAugment
from .policies.single import GaussianBlur, RandomGrayscale, RandomSolarize
from .policies.three_augment import ThreeAugment
from .policies.trivial_augment import TrivialAugmentWide
from .registry import AUGMENTATIONS, parse_augment
from .timm.policies import TimmAugMix, TimmAutoAugment, TimmRandAugment
from .timm.strings import parse_timm

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
    "augment_images",
    "parse_augment",
    "parse_timm",
]
