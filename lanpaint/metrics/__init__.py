"""Metrics of how far samples are from the truth: distances between distributions, and image metrics."""

from lanpaint.metrics.calibration import calibration, rank_shares
from lanpaint.metrics.distances import TwoSampleTest, energy_distance, mmd, sliced_wasserstein
from lanpaint.metrics.images import image_figures, perceptual_figures, seam_shift
from lanpaint.metrics.series import bend_ratio, diversity_ratio, join_ratio

__all__ = [
    "TwoSampleTest",
    "bend_ratio",
    "calibration",
    "diversity_ratio",
    "energy_distance",
    "image_figures",
    "join_ratio",
    "mmd",
    "perceptual_figures",
    "rank_shares",
    "seam_shift",
    "sliced_wasserstein",
]
