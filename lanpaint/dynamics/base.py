"""The interface of a dynamics: a pair of pure functions on an immutable state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class State:
    """All that a dynamics remembers between two steps.

    Attributes:
        x: Position, shape (B, …).
    """

    x: Tensor


class Dynamics(ABC):
    """A stochastic differential equation with a numerical step, whose law at stationarity has the drift as its score.

    A dynamics knows nothing of models, masks or diffusion: it sees a :class:`~lanpaint.drift.Drift`, and takes its
    random numbers from ``noise``, a function that returns standard normal numbers shaped as its argument. The sampler
    calls :meth:`init` when a noise level is entered and :meth:`step` once per inner step.
    """

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x, with auxiliary variables drawn from their stationary law."""
        return State(x)

    def warm_start(self, state: State, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x of a new noise level, ``state`` being the last of the level before: :meth:`init`.

        For a dynamics that learns on the way. Momenta are drawn anew, since their scale is another.
        """
        return self.init(x, drift, noise)

    def evaluations(self, inner_steps: int) -> int:
        """Evaluations of the drift that so many inner steps at one level make, from :meth:`init` on."""
        return inner_steps

    @abstractmethod
    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """One step of length ``drift.time_step``; a new state, the old one unchanged."""
