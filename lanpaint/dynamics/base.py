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

    A dynamics knows nothing of models, masks or diffusion. It sees a :class:`~lanpaint.drift.Drift`, and takes its
    random numbers from ``noise``, a function that returns standard normal numbers shaped as its argument. The sampler
    calls :meth:`init` at the first noise level, :meth:`warm_start` at every later one, and :meth:`step` once per inner
    step. What a state holds is what the dynamics remembers; coefficients that depend on the level alone are kept by the
    level's drift (:meth:`Drift.once <lanpaint.drift.Drift.once>`).
    """

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x, with auxiliary variables drawn from their stationary law."""
        return State(x)

    def warm_start(self, state: State, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x of a new noise level; ``state`` is the last one of the level before.

        It is :meth:`init`, unless a dynamics carries over what it has measured. Momenta are drawn anew, because their
        scale depends on the level.
        """
        return self.init(x, drift, noise)

    def evaluations(self, inner_steps: int) -> int:
        """Evaluations of the drift that so many inner steps at one level make, from :meth:`init` on."""
        return inner_steps

    @abstractmethod
    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """One step of length ``drift.time_step``; a new state, the old one unchanged."""
