"""LanPaint (Algorithm 4 of the paper).

Inner steps of fast Langevin dynamics move the known and the unknown part together, along the bidirectional guided (BiG)
score. The target is q_λ (Eq. 11), which is the exact conditional distribution at σ = 0. With N inner steps the method
takes N + 1 evaluations per outer step, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.dynamics import Dynamics, FastLangevin, SecantLangevin
from lanpaint.fields import BiG, FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.plan import check_whole, even, ramped
from lanpaint.samplers.langevin_sampler import LangevinSampler, check_step_size
from lanpaint.score import Score
from lanpaint.solvers import Solver

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"step_size": 0.15, "dynamics": lambda: FastLangevin(15.0), "spacing": "paper", "allocate": even},
    "fast": {"step_size": 2.0, "dynamics": SecantLangevin, "spacing": "logsnr", "allocate": ramped},
}
"""Name → settings: ``paper`` from Appendix A, ``fast`` from the measurements of docs/frontier.md."""


class LanPaint(LangevinSampler):
    """LanPaint (Alg. 4): exact conditional sampling by Langevin steps, without gradients of the model.

    Args:
        score: The model, as in :class:`Sampler`.
        preset: ``"paper"`` for the paper's settings (Appendix A). ``"fast"`` needs fewer evaluations for the same
            accuracy: levels even in log-SNR, more inner steps at less noise, η = 2, and a dynamics that measures the
            curvature for its step length (:class:`~lanpaint.SecantLangevin`). Other arguments override the preset.
        inner_steps: N ≥ 0, inner steps at each level, in the fast preset the average over levels; or a sequence of S
            numbers, one for each level, the noisiest level first.
        lam: λ > −1, the weight of BiG: how strongly the known part responds to the unknown part (Eq. 12). The paper
            calls λ a guidance scale, but λ has nothing to do with classifier-free guidance.
        step_size: η > 0. The time step dτ is η (σ² + α² a) on the unknown part and η σ² on the known part (Alg. 4).
            0.15 in the paper.
        friction: γ in (0, ∞], with Γ = γ² A (Eq. 126). If given, the dynamics is ``FastLangevin(friction)`` instead of
            the preset's. 15 in the paper.
        expected_noise: a ≥ 0: variance of one clean entry given all other entries (Eq. 121, where it is called α), in
            units of the data squared; 0 for images, 1 for unit Gaussians. Steps grow with a, see
            :class:`~lanpaint.BiG`.
        dynamics: The dynamics of the inner steps, instead of the preset's.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``step_size`` that is not a number, a ``dynamics`` that is no Dynamics, and as
            :class:`Sampler`.
        ValueError: For an unknown preset, N < 0, λ ≤ −1, η ≤ 0, γ ≤ 0 or a < 0, for both a friction and a dynamics, and
            as :class:`Sampler`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        preset: str = "paper",
        inner_steps: int | Sequence[int] = 5,
        lam: float = 8.0,
        step_size: float | None = None,
        friction: float | None = None,
        expected_noise: float = 0.0,
        dynamics: Dynamics | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
        chosen = PRESETS[preset]
        step_size = chosen["step_size"] if step_size is None else step_size
        check_step_size(step_size)
        check_real("lam (λ)", lam)
        if not lam > -1:
            raise ValueError(f"lam (λ) must exceed −1, got {lam}; at −1 nothing ties the known part to y_o")
        if dynamics is not None and friction is not None:
            raise ValueError("give friction or dynamics, not both; write dynamics=FastLangevin(friction=…)")
        if friction is not None:
            dynamics = FastLangevin(friction)
        numbers: int | Sequence[int] | Callable[[int], Sequence[int]] = inner_steps
        if not isinstance(inner_steps, Sequence):
            check_whole("inner_steps", inner_steps, least=0)
            numbers = partial(chosen["allocate"], inner_steps=inner_steps)
        solver = options.get("solver")
        has_levels = isinstance(solver, Solver) and solver.levels(options.get("steps", 20)) is not None
        if not has_levels and all(options.get(name) is None for name in ("spacing", "levels", "plan")):
            options["spacing"] = chosen["spacing"]
        dynamics = chosen["dynamics"]() if dynamics is None else dynamics
        super().__init__(score, dynamics=dynamics, inner_steps=numbers, **options)
        self.inner_steps = max(inner_steps, default=0) if isinstance(inner_steps, Sequence) else inner_steps
        self.step_size, self.lam, self.expected_noise = step_size, lam, expected_noise
        self.field(Observation.none((1,)))  # so that BiG checks its arguments now, not during a run

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do when the state diverges, for the error message."""
        expected = f" or expected_noise (a, now {self.expected_noise:g})" if self.expected_noise else ""
        return f"lower step_size (η, now {self.step_size:g}){expected}: the score varies faster than the step allows"

    def field(self, observation: Observation) -> BiG:
        """The BiG field (Eq. 12)."""
        return BiG(self.score, observation, self.lam, self.expected_noise)

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The BiG drift with the time steps of Alg. 4."""
        field = self.field(observation)
        return field.drift(level, self.step_size * field.time_scale(level))
