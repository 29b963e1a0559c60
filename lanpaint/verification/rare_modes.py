"""A distribution with rare modes, and what a dynamics makes of it, by sampling.

Some mistakes do not show on a Gaussian. A time step that depends on the state, without the correction term, samples
p(x)/h(x): on a Gaussian of one width that is p. So a dynamics is also run on a mixture. The chains start in the exact
distribution, and the time is long enough to lose it, if the dynamics does not keep it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics
from lanpaint.randomness import NormalNoise

# Modes of the clean x, their shares, and their standard deviation; the noise level (α, σ) at which the chains run. The
# known y is N(0, 1) and independent of x.
MODES, SHARES, WIDTH = (-2.0, 2.0, 0.0), (0.9, 0.09, 0.01), 0.1
ALPHA, SIGMA = 0.436, 0.9
# Time step in units of σ² (x) and of half of that (y), and number of steps. The time is about 10 relaxation times.
STEP, COUNT = 0.05, 200


@dataclass(frozen=True)
class Share:
    """A probability as it was measured.

    Attributes:
        got: Share of the chains.
        error: Its standard error, when the chains have the exact distribution.
        exact: The exact probability.
    """

    got: float
    error: float
    exact: float

    @property
    def is_off(self) -> bool:
        """Whether the share is off by more than 5 standard errors and 3 %, the bias of a first-order step."""
        return not abs(self.got - self.exact) <= 5 * self.error + 0.03 * self.exact


def mixture_drift() -> Drift:
    """The score, the log density, damping and time step of the mixture, for states (B, 2) with a known second entry."""
    means, logs = ALPHA * torch.tensor(MODES, dtype=torch.float64), torch.tensor(SHARES, dtype=torch.float64).log()
    x_variance, y_variance = (ALPHA * WIDTH) ** 2 + SIGMA**2, ALPHA**2 + SIGMA**2

    def log_terms(x: Tensor) -> Tensor:
        return logs.to(x) - (x[:, :1] - means.to(x)) ** 2 / (2 * x_variance)

    def score(z: Tensor) -> Tensor:
        x, y = z.split(1, 1)
        mean = (log_terms(x).softmax(1) * means.to(z)).sum(1, keepdim=True)
        return torch.cat([(mean - x) / x_variance, -y / y_variance], 1)

    def log_density(z: Tensor) -> Tensor:
        return log_terms(z[:, :1]).logsumexp(1) - z[:, 1] ** 2 / (2 * y_variance)

    damping = torch.tensor([1 / SIGMA**2, 1 / y_variance], dtype=torch.float64)
    time_step = STEP * torch.tensor([SIGMA**2, SIGMA**2 / 2], dtype=torch.float64)
    return Drift(score, damping, time_step, torch.tensor([False, True]), log_density)


def rare_shares(dynamics: Dynamics, chains: int = 20_000, seed: int = 5) -> dict[str, Share]:
    """Name of an event → its share after ``COUNT`` steps from exact starts.

    Args:
        dynamics: The dynamics.
        chains: Number of chains, each of shape (2,), float64.
        seed: Seed of the starts and of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = NormalNoise(generator)
    modes = torch.multinomial(torch.tensor(SHARES), chains, replacement=True, generator=generator)
    clean = torch.tensor(MODES, dtype=torch.float64)[modes]
    clean = torch.stack([clean, torch.zeros_like(clean)], 1)
    scale = torch.tensor([WIDTH, 1.0], dtype=torch.float64)
    z = ALPHA * (clean + scale * noise(clean)) + SIGMA * noise(clean)
    drift = mixture_drift()
    state = dynamics.init(z, drift, noise)
    for _ in range(COUNT):
        state = dynamics.step(state, drift, noise)
    x, y = state.x.unbind(1)
    x_deviation, y_deviation = math.sqrt((ALPHA * WIDTH) ** 2 + SIGMA**2), math.sqrt(ALPHA**2 + SIGMA**2)

    def above(bound: float) -> float:
        tails = (0.5 * math.erfc((bound - ALPHA * mode) / (x_deviation * math.sqrt(2))) for mode in MODES)
        return sum(share * tail for share, tail in zip(SHARES, tails, strict=True))

    events = {
        "x is near a rare mode": (x > ALPHA, above(ALPHA)),
        "x is in the lower half": (x < -2 * ALPHA, 1 - above(-2 * ALPHA)),
        "|y| is above its deviation": (y.abs() > y_deviation, math.erfc(1 / math.sqrt(2))),
    }
    return {
        name: Share(float(found.double().mean()), math.sqrt(exact * (1 - exact) / chains), exact)
        for name, (found, exact) in events.items()
    }
