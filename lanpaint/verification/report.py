"""The results of the checks of a dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lanpaint.verification.rare_modes import Share


@dataclass
class Report:
    """The results of :func:`verify`. Print it to read them.

    The time step is dτ, the length of one inner step.

    Attributes:
        name: Class of the dynamics.
        evaluations: Evaluations of the score in each step.
        affine: Whether the step is affine, so that the exact algebra applies.
        position_bias: Time step → largest error of the stationary covariance of x.
        bias_order: Order of that error in the time step; ∞ where the error is 0.
        mean_error: Error of the stationary mean of x at the smallest time step.
        variables: Name of each variable other than x → (stationary variance, largest covariance with x), both at the
            smallest time step.
        convergence_order: Order in the time step of the covariance between x and the x of a fixed time later.
        radii: Condition number → (spectral radius per evaluation at a time step of 0.15/A, smallest spectral radius per
            evaluation over all time steps, time step of the smallest radius).
        limits: Condition number → largest stable time step in units of 1/A; ∞ when every time step tried is stable.
        start_error: Largest error of the covariances after :meth:`~lanpaint.dynamics.Dynamics.init` and one step from
            exact positions, in units of the stationary variances, at a very short time step.
        rare: Event → its share on a distribution with rare modes (:mod:`lanpaint.verification.rare_modes`).
        sampled: For a step that is not affine: (variance of x after 30 steps, standard error of the variance). The true
            variance is 1.
        problems: One line for each problem found. Empty when there is none.
    """

    name: str
    evaluations: float = math.nan
    affine: bool = True
    position_bias: dict[float, float] = field(default_factory=dict)
    bias_order: float = math.nan
    mean_error: float = math.nan
    variables: dict[str, tuple[float, float]] = field(default_factory=dict)
    convergence_order: float = math.nan
    radii: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    limits: dict[int, float] = field(default_factory=dict)
    start_error: float = math.nan
    rare: dict[str, Share] = field(default_factory=dict)
    sampled: tuple[float, float] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __str__(self) -> str:
        def order(value: float) -> str:
            return "exact at any step" if math.isinf(value) else f"order {value:.2f} in the step"

        found = f"{len(self.problems)} problem{'s'[: len(self.problems) > 1]}"
        lines = [f"{self.name}: {'all well' if self.passed else found}"]
        lines += [f"  problem      {problem}" for problem in self.problems]
        lines += [f"  evaluations  {self.evaluations:g} a step"]
        if self.affine and self.position_bias:
            step, bias = next(iter(self.position_bias.items()))
            lines += [
                f"  law of x     p(x), bias {order(self.bias_order)} ({bias:.1e} at {step:g}); mean off by "
                f"{self.mean_error:.0e}",
            ]
            lines += [
                f"  {name:<12} variance {variance:.5g}, covariance with x {cross:.0e}"
                for name, (variance, cross) in self.variables.items()
            ]
            lines += [f"  convergence  {order(self.convergence_order)}"]
            columns = [("condition", "radius per evaluation at 0.15/A", "best (at step)", "stable below")]
            for condition, (radius, best, at) in self.radii.items():
                limit = self.limits[condition]
                below = "any step tried" if math.isinf(limit) else f"{limit:.3g}/A"
                columns.append((f"{condition}", f"{radius:.4f}", f"{best:.4f} ({at:.3g}/A)", below))
            lines += [f"  {row[0]:<12} {row[1]:<34} {row[2]:<18} {row[3]}" for row in columns]
        if self.sampled is not None:
            lines.append(
                f"  law of x     by sampling: variance {self.sampled[0]:.4f} ± {self.sampled[1]:.4f}, exact is 1"
            )
        lines += [
            f"  {'rare modes' if number == 0 else '':<12} {name}: {share.got:.4f} ± {share.error:.4f}, exact is "
            f"{share.exact:.4f}"
            for number, (name, share) in enumerate(self.rare.items())
        ]
        return "\n".join(lines)

    __repr__ = __str__
