"""Mathematics of mixed-sample augmentation: keys, plans, mixers, matching, blending kernels, embedding MultiMix."""

from .apply import mix_images
from .cutmix import CutMix
from .fmix import FMix
from .gmix import GMix
from .hmix import HMix
from .key import Key
from .manifold import ManifoldMix
from .matching import OptimalMatching
from .mixup import MixUp
from .multimix import MultiMix
from .plan import MixPlan
from .puzzle import PuzzleMix
from .saliency import gradient_saliency
from .segmentation import mix_label_maps
from .switch import Switch
from .targets import mix_targets, soft_cross_entropy, sparse_targets
from .teacher import EmaTeacher

__all__ = [
    "CutMix",
    "EmaTeacher",
    "FMix",
    "GMix",
    "HMix",
    "Key",
    "ManifoldMix",
    "MixPlan",
    "MixUp",
    "MultiMix",
    "OptimalMatching",
    "PuzzleMix",
    "Switch",
    "gradient_saliency",
    "mix_images",
    "mix_label_maps",
    "mix_targets",
    "soft_cross_entropy",
    "sparse_targets",
]
