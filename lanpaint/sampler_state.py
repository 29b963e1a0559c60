"""The one record that a run consists of: where it stands, and all that the sampler remembers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation

Kind = Literal["start", "inner", "outer"]


@dataclass(frozen=True)
class SamplerState:
    """Where a run stands. Its tensors are those of the run: read them, do not write to them.

    Attributes:
        x: The state, shape (B, …). It is held here and nowhere else.
        level: Noise level of ``x``. After an outer step it is the level that was reached.
        observation: What is known.
        prediction: The last evaluation of the model, or None before the first one.
        memory: All else that the sampler remembers: the solver's earlier predictions, the momentum of the dynamics, a
            second trajectory, weights of particles.
        kind: ``"start"`` of a level, ``"inner"`` before and after an inner step, ``"outer"`` after an outer step and
            for the result of a run that was stopped.
        step: Number of the outer step, from 0.
        inner: Inner steps made in this visit to the level.
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
        """x̂₀ of the last evaluation, shape of x. It costs no evaluation."""
        return None if self.prediction is None else self.prediction.denoised

    @property
    def momentum(self) -> Tensor | None:
        """Momentum of the dynamics, shape of x, where it has one."""
        return getattr(getattr(self.memory, "dynamics", None), "momentum", None)

    def at(self, kind: Kind, step: int, inner: int) -> SamplerState:
        """The state at this place of the run."""
        return replace(self, kind=kind, step=step, inner=inner)

    def without_prediction(self) -> SamplerState:
        """The state without its last prediction, whose memory is free for the next one."""
        return replace(self, prediction=None)
