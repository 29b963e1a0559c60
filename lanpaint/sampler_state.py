"""The state of a run: x, its noise level, and all that the sampler remembers, in one immutable record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation

Kind = Literal["start", "inner", "outer"]


@dataclass(frozen=True)
class SamplerState:
    """The state of a run after a step. The run goes on with these tensors: read them, but do not write to them.

    Attributes:
        x: The noisy samples, shape (B, …). No other object of the run holds them.
        level: Noise level of ``x``. After an outer step it is the level that was reached.
        observation: The known part.
        prediction: The last evaluation of the model, or None before the first evaluation.
        memory: Whatever else the sampler remembers: for example earlier predictions for the solver, the momentum of the
            dynamics, or weights of particles.
        kind: ``"start"`` when a level was entered, ``"inner"`` before and after an inner step, ``"outer"`` after an
            outer step and for the result of a run that was stopped.
        step: Number of the outer step, from 0.
        inner: Number of inner steps made in this visit to the level.
    """

    x: Tensor
    level: NoiseLevel
    observation: Observation
    prediction: Prediction | None = None
    memory: Any = None
    kind: Kind = "start"
    step: int = 0
    inner: int = 0

    @property
    def denoised(self) -> Tensor | None:
        """x̂₀ of the last evaluation, shape of x; None without one. It costs no evaluation."""
        return None if self.prediction is None else self.prediction.denoised

    @property
    def momentum(self) -> Tensor | None:
        """Momentum of the dynamics at this level, shape of x; None where there is none, and after an outer step."""
        if self.kind == "outer":  # the memory still has the momentum of the level that was left
            return None
        return getattr(getattr(self.memory, "dynamics", None), "momentum", None)

    def at(self, kind: Kind, step: int, inner: int) -> SamplerState:
        """The state with ``kind``, ``step`` and ``inner`` replaced."""
        return replace(self, kind=kind, step=step, inner=inner)

    def without_prediction(self) -> SamplerState:
        """The state without its last prediction, so that the memory of the prediction can be freed."""
        return replace(self, prediction=None)
