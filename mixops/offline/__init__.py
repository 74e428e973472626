"""Mixing that a loader cannot do: by a style network, by a teacher's gradients, by transport of the pixels' mass.

Small and exact, not fast. Draws are functions of a key and apart from the pixels, and labels come from plans, as everywhere.
"""

from .barycentres import opt_trans_mix
from .style_cut_mix import StyleCutMix, StyleCutPlan, mix_styles_in_boxes
from .style_mix import StyleMix, StylePlan, mix_styles
from .style_statistics import adaptive_instance_norm, class_gammas, class_style_distances, style_vectors
from .teacher_masks import SuperMixed, super_mix

__all__ = [
    "StyleCutMix",
    "StyleCutPlan",
    "StyleMix",
    "StylePlan",
    "SuperMixed",
    "adaptive_instance_norm",
    "class_gammas",
    "class_style_distances",
    "mix_styles",
    "mix_styles_in_boxes",
    "opt_trans_mix",
    "style_vectors",
    "super_mix",
]
