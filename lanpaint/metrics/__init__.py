"""Metrics of how far samples are from the truth: distances between distributions, and image metrics."""

from lanpaint.metrics.distances import TwoSampleTest, energy_distance, mmd, sliced_wasserstein
from lanpaint.metrics.images import image_figures, perceptual_figures

__all__ = [
    "TwoSampleTest",
    "energy_distance",
    "image_figures",
    "mmd",
    "perceptual_figures",
    "sliced_wasserstein",
]
