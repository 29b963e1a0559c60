"""A check of finished samples: do the unknown entries agree with the known ones, in the eyes of the model?

Let x₀ be a draw of the model's distribution, known entries included, and diffuse it to α x₀ + σ ε. Then the model's ε̂
is the conditional mean of ε, and ε − ε̂ is uncorrelated with every function of the state. So on any entries and level

    E⟨ε̂, ε − ε̂⟩ = 0.

This is Stein's identity for the model's score, with the score itself as the test function. Where x lies in a mode that
does not fit y, the model expects another y: ε̂ is ε + d with d along its mistake, and the mean is about −‖d‖². The
statistic of a sample sums this over levels and known entries, with the steps of γ = ln(σ²/α²) as weights. Its unit is
about two nats of p(y | x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NormalNoise
from lanpaint.schedules import VP
from lanpaint.score import Score, as_score
from lanpaint.spacings import uniform_log_snr


@dataclass(frozen=True)
class SteinCheck:
    """What :func:`stein_check` found.

    Attributes:
        statistics: One number for each sample, shape (B,), float64, on the CPU. Their mean is 0 for exact samples.
    """

    statistics: Tensor

    @property
    def mean(self) -> float:
        """Mean over the samples; below 0 where known and unknown entries do not fit."""
        return float(self.statistics.mean())

    @property
    def z(self) -> float:
        """The mean in units of its standard error, as the samples' own spread gives it: Student's t, B − 1 degrees."""
        error = float(self.statistics.std()) / math.sqrt(len(self.statistics))
        return self.mean / error if error else 0.0

    @property
    def is_off(self) -> bool:
        """Whether the mean is below 0 by more than three standard errors."""
        return self.z < -3

    def __repr__(self) -> str:
        verdict = "known and unknown entries do not fit" if self.is_off else "nothing found"
        return f"SteinCheck({len(self.statistics)} samples, mean {self.mean:.2f}, z {self.z:.1f}: {verdict})"


def stein_check(
    score: Score | Callable[[Tensor, NoiseLevel], Tensor],
    samples: Tensor,
    known: Observation | Tensor,
    *,
    evaluations: int = 20,
    generator: Generators = None,
) -> SteinCheck:
    """Check finished samples with ``evaluations`` evaluations of the score at noised copies of the samples.

    It sees that x lies in a mode that contradicts y in some of the samples (a run that was *trapped*). It needs several
    samples: restarts for one observation, or samples for several observations. For a diffusers pipeline take its
    network as the score (``network_score`` of :mod:`lanpaint.adapters.networks`), and latents as the samples.

    It cannot see wrong shares of modes that all fit y, nor errors of x that y does not depend on. It does not tell a
    wrong sample from an observation that is improbable under the model. So for a real picture and a model that was not
    trained on its like, compare the mean with that of another sampler's samples. The standard deviation of a statistic
    grows with the root of the number of known entries: the more are known, the more samples it takes.

    Args:
        score: The model.
        samples: Shape (B, …), B ≥ 2, floating point, with the known entries at their values.
        known: The observation, or which entries are known: boolean, broadcastable to the samples.
        evaluations: Number of levels, evenly spaced in log-SNR over the score's schedule, or linear VP.
        generator: As in :class:`Sampler`.

    Raises:
        ValueError: For fewer than two samples, or no known entry.
    """
    check_whole("evaluations", evaluations, least=2)
    if len(samples) < 2:
        raise ValueError(f"the check needs at least two samples, got {len(samples)}; draw several restarts")
    mask = known.known if isinstance(known, Observation) else known
    if not bool(mask.any()):
        raise ValueError("nothing is known, so there is nothing to check")
    model, noise = as_score(score), NormalNoise(generator)
    levels = uniform_log_snr(model.schedule or VP.linear(), evaluations)[:-1]
    logs = torch.stack([-level.log_snr for level in levels])
    steps = torch.diff(logs).abs().mean()
    statistics = torch.zeros(len(samples), dtype=torch.float64)
    model.reset()
    with torch.no_grad():
        for level in levels:
            fresh = noise(samples)
            estimate = model.predict(level.perturb(samples, fresh), level).epsilon
            product = torch.where(mask, estimate * (fresh - estimate), 0.0)
            statistics += float(steps) * product.flatten(1).sum(1, dtype=torch.float64).cpu()
    return SteinCheck(statistics)
