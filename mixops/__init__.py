"""Mathematics of mixed-sample augmentation: keys, plans, mixers, matching, blending kernels, embedding MultiMix.

Works on arrays and tensors; knows nothing of DALI, FFCV, files or epochs.
"""

from .apply.images import mix_images
from .apply.label_maps import mix_label_maps
from .apply.targets import mix_targets, sparse_targets
from .augment import (
    AugmentPlan,
    AugMix,
    AutoAugment,
    ColorJitter,
    Cutout,
    GaussianBlur,
    RandAugment,
    RandomErasing,
    RandomGrayscale,
    RandomSolarize,
    ThreeAugment,
    TrivialAugmentWide,
    augment_images,
)
from .augment.crops import CenterCrop, PaddedRandomCrop, RandomResizedCrop, ResizeRandomCrop, Squash
from .embedding.align import Sinkhorn
from .embedding.history_loss import HistoryLoss
from .embedding.manifold import ManifoldMix
from .embedding.multimix import MultiMix
from .embedding.teacher import EmaTeacher
from .key import Key
from .losses import soft_cross_entropy
from .mixers.beta import Beta
from .mixers.cutmix import CutMix
from .mixers.fmix import FMix
from .mixers.gmix import GMix
from .mixers.hmix import HMix
from .mixers.mixup import MixUp
from .mixers.multi.dirichlet import DirichletMixUp
from .mixers.multi.zeta import ZetaMixUp
from .mixers.recursive import RecursiveMix
from .mixers.registry import parse_mixer
from .mixers.resizemix import ResizeMix
from .mixers.saliency.co_mixup import CoMixUp
from .mixers.saliency.gradient import gradient_saliency
from .mixers.saliency.puzzle import PuzzleMix
from .mixers.saliency.spectral import spectral_saliency
from .mixers.switch import Switch
from .pairing.matching import OptimalMatching
from .plan import MixPlan
from .plan_sources import PlanSources

__all__ = [
    "AugMix",
    "AugmentPlan",
    "AutoAugment",
    "Beta",
    "CenterCrop",
    "CoMixUp",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "DirichletMixUp",
    "EmaTeacher",
    "FMix",
    "GMix",
    "GaussianBlur",
    "HMix",
    "HistoryLoss",
    "Key",
    "ManifoldMix",
    "MixPlan",
    "MixUp",
    "MultiMix",
    "OptimalMatching",
    "PaddedRandomCrop",
    "PlanSources",
    "PuzzleMix",
    "RandAugment",
    "RandomErasing",
    "RandomGrayscale",
    "RandomResizedCrop",
    "RandomSolarize",
    "RecursiveMix",
    "ResizeMix",
    "ResizeRandomCrop",
    "Sinkhorn",
    "Squash",
    "Switch",
    "ThreeAugment",
    "TrivialAugmentWide",
    "ZetaMixUp",
    "augment_images",
    "gradient_saliency",
    "mix_images",
    "mix_label_maps",
    "mix_targets",
    "parse_mixer",
    "soft_cross_entropy",
    "sparse_targets",
    "spectral_saliency",
]
