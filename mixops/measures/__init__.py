"""What papers report of a trained model beside its accuracy, as functions of its outputs or of the model itself.

Nothing here trains or loads anything; ``mixstage evaluate`` prints all of it for a checkpoint.
"""

from .attacks import fgsm, pgd
from .background import corrupt_background
from .calibration import Reliability, expected_calibration_error, reliability
from .geometry import alignment, uniformity
from .gradients import GradientMoments, gradient_moments
from .out_of_distribution import Detection, detection

__all__ = [
    "Detection",
    "GradientMoments",
    "Reliability",
    "alignment",
    "corrupt_background",
    "detection",
    "expected_calibration_error",
    "fgsm",
    "gradient_moments",
    "pgd",
    "reliability",
    "uniformity",
]
