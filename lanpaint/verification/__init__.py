"""Check a dynamics: by exact algebra on a Gaussian, and by sampling on a distribution with rare modes."""

from lanpaint.verification.affine import (
    AffineStep,
    NotAffineError,
    ScriptedNoise,
    affine_step,
    gaussian_drift,
    limit_law,
    measured_order,
    settled,
    zero_noise,
)
from lanpaint.verification.checks import MEAN, PRECISION, spectral_radius, verify
from lanpaint.verification.report import Report

__all__ = [
    "MEAN",
    "PRECISION",
    "AffineStep",
    "NotAffineError",
    "Report",
    "ScriptedNoise",
    "affine_step",
    "gaussian_drift",
    "limit_law",
    "measured_order",
    "settled",
    "spectral_radius",
    "verify",
    "zero_noise",
]
