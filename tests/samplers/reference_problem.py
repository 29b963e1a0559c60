"""The reference problem R: a Gaussian of two entries with correlation 0.8, the second one known and 1.

Its S levels lie on a circle, θ = 0.999 (π/2)(1 − k/S), and the last one is clean. A sampler whose coefficients do not
depend on x is an affine map of its random numbers there, so its law is known without sampling. The law is that before
known entries are set to their values.
"""

import math

import torch

import lanpaint as lp
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, law

COV = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=DOUBLE)
TARGET = Gaussian([0.0, 0.0], COV.tolist())
KNOWN = torch.tensor([False, True])
VALUES = torch.tensor([0.0, 1.0], dtype=DOUBLE)
FORMALISMS = {
    "vp": lambda level: 1.0,
    "ve": lambda level: 1 / level.alpha,
    "flow": lambda level: 1 / (level.alpha + level.sigma),
}


def levels(steps, formalism="vp"):
    """The S + 1 levels of R, noisiest first."""
    angles = [0.999 * math.pi / 2 * (1 - k / steps) for k in range(steps)]
    circle = [lp.NoiseLevel(math.cos(angle), math.sin(angle)) for angle in angles]
    return [level.rescale(FORMALISMS[formalism](level)) for level in circle] + [lp.NoiseLevel(1.0, 0.0)]


def end(make, steps, *, score=TARGET, noise=0.0, formalism="vp", **options):
    """Means (unknown, known) and variances (unknown, known) of a sampler at the end of R, as one tensor (4,)."""
    sampler = make(score, levels=levels(steps, formalism), **options)
    sampler.finish = lambda state, noise: state
    mean, cov = law(sampler, VALUES, KNOWN, lambda values, known: lp.Observation(values, known, noise=noise))
    return torch.cat([mean, cov.diagonal()])


def assert_row(make, steps, row, **options):
    """The law at the end of R is the row's, to its printed digits."""
    got = end(make, steps, **options)
    assert torch.allclose(got, torch.tensor(row, dtype=DOUBLE), rtol=0, atol=6e-6), got


def assert_invariant(make, steps=7, **options):
    """The law at the end of R does not depend on the coordinates: variance preserving, exploding, or rectified flow.

    Each random number has the same effect, too: the two laws are compared as sets of draws with the same numbers.
    """
    results = []
    for formalism in FORMALISMS:
        sampler = make(TARGET, levels=levels(steps, formalism), **options)
        observation = lp.Observation(VALUES.expand(3, 2), KNOWN)
        results.append(sampler(observation, generator=torch.Generator().manual_seed(0)))
    for other in results[1:]:
        assert torch.allclose(other, results[0], rtol=1e-12, atol=1e-12), (other, results[0])


class FlowMap(lp.Score):
    """A score whose x̂₀ is the clean end of the exact probability flow on R, C^{1/2} (α² C + σ²)^{-1/2} x."""

    def predict(self, x, level):
        value, vectors = torch.linalg.eigh(COV)
        alpha, sigma = level.alpha.double(), level.sigma.double()
        gain = (value / (alpha**2 * value + sigma**2)).sqrt()
        return lp.Prediction(x, level, denoised=x @ (vectors * gain) @ vectors.mT)
