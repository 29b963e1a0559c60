"""Metrics of how far samples are from the truth: distances between distributions, and image metrics."""

from lanpaint.metrics.calibration import calibration, rank_shares
from lanpaint.metrics.distances import TwoSampleTest, energy_distance, mmd, sliced_wasserstein
from lanpaint.metrics.images import image_figures, perceptual_figures, seam_shift

__all__ = [
    "TwoSampleTest",
    "calibration",
    "energy_distance",
    "image_figures",
    "mmd",
    "perceptual_figures",
    "rank_shares",
    "seam_shift",
    "sliced_wasserstein",
]
