"""DPM-Solver++ (Lu et al., 2022, arXiv:2211.01095) and DPM-Solver (Lu et al., 2022, arXiv:2206.00927), multistep.

Both extrapolate predictions of earlier steps in λ = log(α/σ), DPM-Solver++ those of x̂₀, DPM-Solver those of ε̂. With
h = λ' − λ, and D₁, D₂ the first two derivatives of x̂₀ times h and h², estimated by divided differences, a step of
DPM-Solver++ is (its Alg. 2 and Appendix B)

    first order       (σ'/σ) x + α' (1 − e^(−h)) x̂₀                                    which is DDIM
    second, 2M        … + α' (1 − e^(−h)) D₁ / 2
    third, 3M         … + α' ((e^(−h) − 1)/h + 1) D₁ + α' (1/2 − (e^(−h) − 1 + h)/h²) D₂

DPM-Solver has (α'/α) x, ε̂, −σ' and −h in the places of (σ'/σ) x, x̂₀, α' and h. Its paper
has single-step schemes of several evaluations too, which are not here. :mod:`lanpaint.solvers.multistep` has the
integrals.

The published code of 3M, and diffusers after it, uses the second divided difference as D₂, which is half of the second
derivative. That makes the published method second order. Here D₂ is the second derivative, and 3M is third order.
"""

from __future__ import annotations

from torch import Tensor

from lanpaint.noise import NoiseLevel
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still
from lanpaint.solvers.multistep import Form, MultistepState, beyond_first_order


class DPMSolver(Solver):
    """DPM-Solver++ and DPM-Solver, multistep: 2M and 3M (Lu et al., 2022). One evaluation per step.

    The first steps have a lower order, because there is no history yet. A step that starts at α = 0 or ends at σ = 0
    has a lower order too, and so has the first step of an entry after steps in which its level did not change. A sample
    that was changed since the last step, by inner steps or known values, begins anew with a first-order step.

    Args:
        order: 2 (2M) or 3 (3M). The default 2 suits models with classifier-free guidance, and 3 suits models without.
        form: ``"denoised"`` extrapolates x̂₀, which is DPM-Solver++. ``"epsilon"`` extrapolates ε̂, which is DPM-Solver.

    Raises:
        ValueError: For an order other than 2 and 3, and for another form.
    """

    def __init__(self, order: int = 2, form: Form = "denoised") -> None:
        if not isinstance(order, int) or order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {order!r}; order 1 is Euler()")
        if form not in ("denoised", "epsilon"):
            raise ValueError(f"form must be denoised (DPM-Solver++) or epsilon (DPM-Solver), got {form!r}")
        self.order, self.form = order, form

    def init(self, x: Tensor, steps: int) -> MultistepState:
        """The state at the first level, without history."""
        return MultistepState(x)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> MultistepState:
        """The state at ``next_level``, by a step of the highest order that the history allows."""
        assert isinstance(state, MultistepState)
        history, prediction = state.recalled(), score.predict(state.x, level)
        now = getattr(prediction, self.form), level.log_snr / 2
        euler = next_level.perturb(prediction.denoised, prediction.epsilon)
        x = euler + beyond_first_order(now, history, next_level, self.form)
        x = keep_still(x, state.x, level, next_level)
        return MultistepState(x, prediction, (now, *history)[: self.order - 1], x)
