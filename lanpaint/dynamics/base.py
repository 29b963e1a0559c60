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
    """The base class of dynamics: a stochastic differential equation with a numerical step.

    The score of its stationary distribution is the drift. A dynamics knows nothing of models, masks or diffusion. It
    sees a :class:`~lanpaint.drift.Drift`. It takes random numbers from ``noise``, a function that returns standard
    normal numbers of the shape of its argument. The sampler calls :meth:`init` at the first noise level,
    :meth:`warm_start` at every later level, and :meth:`step` once per inner step.

    The state holds all that the dynamics remembers. Coefficients that depend on the level alone are kept by the drift
    of the level (:meth:`Drift.once <lanpaint.drift.Drift.once>`).

    Attributes:
        order: The order in the time step that the bias of x has on a Gaussian, as the dynamics claims it. None claims
            nothing. :func:`lanpaint.verify` measures it.
    """

    order: float | None = None

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x, shape (B, …), with auxiliary variables drawn from their stationary distribution."""
        return State(x)

    def warm_start(self, state: State, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at position x of a new noise level; ``state`` is the last state at the level before.

        By default it is :meth:`init`. A dynamics that measures something may carry the measurement over. Momenta are
        drawn anew, because their scale depends on the level.
        """
        return self.init(x, drift, noise)

    def evaluations(self, inner_steps: int) -> int:
        """Evaluations of the drift at one level, by :meth:`init` and ``inner_steps`` calls of :meth:`step`."""
        return inner_steps

    @abstractmethod
    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """The state after one step of length ``drift.time_step``. The old ``state`` is not changed."""
