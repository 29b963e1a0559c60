"""LanPaint (Algorithm 4 of the paper).

Inner steps of fast Langevin dynamics move known and unknown part together, along the bidirectional guided (BiG) score.
The target is q_λ (Eq. 11), the exact conditional at σ = 0. An outer step takes N + 1 evaluations and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.dynamics import Dynamics, FastLangevin, PartialRefresh
from lanpaint.fields import BiG, FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.data_scale import chooses_levels, in_units
from lanpaint.samplers.langevin_sampler import LangevinSampler
from lanpaint.samplers.presets import check_settings, fast_start, fast_time_step, find_preset
from lanpaint.score import Score


class LanPaint(LangevinSampler):
    """LanPaint (Alg. 4): exact conditional sampling by Langevin steps, without gradients of the model.

    Args:
        score: The model, as in :class:`Sampler`.
        preset: ``"paper"`` for the paper's settings (Appendix A). ``"fast"`` needs fewer evaluations for the same
            accuracy: other levels, more inner steps at less noise, long steps. ``"lanpaint2"``, ``"lanpaint2-rising"``:
            readings of LanPaint 2's settings (docs/frontier.md). Other arguments override the preset.
        inner_steps: N ≥ 0, inner steps at each level, in the fast preset the average over levels; or a sequence of S
            numbers, one for each level, the noisiest level first.
        lam: λ > −1, the weight of BiG: how strongly the known part responds to the unknown part (Eq. 12). 8 in the
            paper, 20 in the fast preset. The paper calls λ a guidance scale, but it is no classifier-free guidance.
        step_size: η > 0. The time step dτ is η (σ² + α² a) on the unknown part and η σ² on the known part (Alg. 4).
            0.15 in the paper. In the fast preset 1; there dτ is at most 1.36 η σ²: unstable from η = 1.47.
        friction: γ in (0, ∞], with Γ = γ² A (Eq. 126), of ``FastLangevin(friction)`` as the dynamics. 15 in the paper.
        expected_noise: a ≥ 0: variance of one clean entry given all other entries (Eq. 121, where it is called α), in
            units of the data squared; 0 for images, 1 for unit Gaussians. See :class:`~lanpaint.BiG`.
        dynamics: The dynamics of the inner steps, instead of the preset's.
        data_scale: s > 0, the standard deviation of the clean data, for the fast preset: its levels, inner steps,
            steps and first state are in units of s. By default 1; or the standard deviation of the batch's known values
            if that is above 4, and the preset chooses the levels.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``step_size`` that is no number, a ``dynamics`` that is no Dynamics, and as :class:`Sampler`.
        ValueError: For an unknown preset, N < 0, λ ≤ −1, η ≤ 0, γ ≤ 0, a < 0, s ≤ 0, or friction beside a dynamics.

    Warns:
        UserWarning: When the known values of a run with the fast preset have a standard deviation above 4 s still.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        preset: str = "paper",
        inner_steps: int | Sequence[int] = 5,
        lam: float | None = None,
        step_size: float | None = None,
        friction: float | None = None,
        expected_noise: float = 0.0,
        dynamics: Dynamics | None = None,
        data_scale: float | None = None,
        **options: Any,
    ) -> None:
        chosen = find_preset(preset)
        step_size = chosen["step_size"] if step_size is None else step_size
        lam = chosen["lam"] if lam is None else lam
        check_settings(lam, step_size, scale := 1.0 if data_scale is None else data_scale)
        if dynamics is not None and friction is not None:
            raise ValueError("give friction or dynamics, not both; write dynamics=FastLangevin(friction=…)")
        if friction is not None:
            dynamics = FastLangevin(friction)
        numbers: Any = inner_steps
        if not isinstance(inner_steps, Sequence):
            check_whole("inner_steps", inner_steps, least=0)
            numbers = partial(chosen["allocate"], inner_steps=inner_steps, scale=scale)
        if chooses := chooses_levels(options):
            options["spacing"] = chosen["spacing"](scale)
        dynamics = chosen["dynamics"](lam) if dynamics is None else dynamics
        super().__init__(score, dynamics=dynamics, inner_steps=numbers, **options)
        self.inner_steps = max(inner_steps, default=0) if isinstance(inner_steps, Sequence) else inner_steps
        self.preset, self.step_size, self.data_scale = preset, step_size, scale
        chooses = chooses and data_scale is None and preset == "fast"
        self._fit = partial(in_units, numbers, options.get("schedule")) if chooses else None
        self.lam, self.expected_noise = lam, expected_noise
        self.field(Observation.none((1,)))  # so that BiG checks its arguments now, not during a run

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do when the state diverges, for the error message."""
        expected = f" or expected_noise (a, now {self.expected_noise:g})" if self.expected_noise else ""
        return f"lower step_size (η, now {self.step_size:g}){expected}: the score varies faster than the step allows"

    def fitted(self, observation: Observation) -> LanPaint:
        """This sampler, or a copy in units of wide known values, if neither their scale nor levels were given."""
        return self if self._fit is None else self._fit(self, observation)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level: ``start``, or drawn from N(0, α² + σ²), in the fast preset N(0, α² s² + σ²)."""
        state = super().begin(observation, noise, start)
        return fast_start(state, self.data_scale, start is None) if self.preset == "fast" else state

    def field(self, observation: Observation) -> BiG:
        """The BiG field (Eq. 12)."""
        return BiG(self.score, observation, self.lam, self.expected_noise)

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The BiG drift with the time steps of Alg. 4, or those of the fast preset with its own dynamics."""
        field = self.field(observation)
        if self.preset == "fast" and isinstance(self.dynamics, PartialRefresh):
            return field.drift(level, fast_time_step(field, level, self.step_size, self.data_scale))
        return field.drift(level, self.step_size * field.time_scale(level))
