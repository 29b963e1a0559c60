"""Check a dynamics by exact algebra: which distribution it leaves invariant, how exactly, and how fast it converges.

The score of a Gaussian is affine. So a step of most dynamics is an affine map of its state z (position, momentum, …),

    z' = F z + b + N ξ,

where ξ are the standard normal numbers that the step draws. F, b and N are read from the code, by calling it with zeros
and unit vectors. All else is linear algebra, without sampling:

- The stationary covariance solves Σ = F Σ Fᵀ + N Nᵀ.
- The order of the bias is the order in which the error of Σ shrinks as the time step goes to 0.
- The spectral radius of F is the factor by which one step contracts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.randomness import NoiseSource, NormalNoise

Path = tuple[str, ...]


class ScriptedNoise:
    """A noise source that returns zeros, except in the draw number ``draw`` (from 0), where row i is ``units[i]``.

    Attributes:
        shapes: Shape of each draw so far.
    """

    def __init__(self, draw: int = -1, units: Tensor | None = None) -> None:
        self.draw, self.units = draw, units
        self.shapes: list[torch.Size] = []

    def __call__(self, like: Tensor) -> Tensor:
        """The next draw, of the shape of ``like``."""
        numbers = torch.zeros_like(like)
        if len(self.shapes) == self.draw and self.units is not None:
            numbers = self.units.to(like).reshape(like.shape)
        self.shapes.append(like.shape)
        return numbers


def zero_noise(like: Tensor) -> Tensor:
    """A noise source that returns zeros."""
    return torch.zeros_like(like)


class NotAffineError(ValueError):
    """Raised when a step is not affine on a Gaussian: it accepts and rejects, or it is not linear in the score."""


@dataclass(frozen=True)
class AffineStep:
    """One step of a dynamics on a Gaussian: z' = F z + b + N ξ. z has k variables with d entries each, in sequence.

    Attributes:
        linear: F, shape (kd, kd).
        offset: b, shape (kd,).
        noise: N, shape (kd, number of random numbers in a step).
        names: Names of the k variables. The first is the position, ``x``.
    """

    linear: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    names: tuple[str, ...]

    @property
    def spectral_radius(self) -> float:
        """Largest magnitude of an eigenvalue of F. Below 1, the distribution converges by this factor in each step."""
        return float(np.abs(np.linalg.eigvals(self.linear)).max())

    def stationary_covariance(self) -> np.ndarray:
        """The stationary covariance: the solution of Σ = F Σ Fᵀ + N Nᵀ.

        Raises:
            ValueError: When the step is not a contraction.
        """
        import scipy.linalg

        if not self.spectral_radius < 1:
            raise ValueError(f"the step is not a contraction: its spectral radius is {self.spectral_radius:.4g}")
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(self.linear, self.noise @ self.noise.T))

    def stationary_mean(self) -> np.ndarray:
        """The stationary mean: the fixed point of z' = F z + b."""
        return np.asarray(np.linalg.solve(np.eye(len(self.offset)) - self.linear, self.offset))

    def block(self, matrix: np.ndarray, row: str, column: str) -> np.ndarray:
        """The (d, d) block of a (kd, kd) matrix for the variables named ``row`` and ``column``."""
        dim = len(self.offset) // len(self.names)
        i, j = self.names.index(row) * dim, self.names.index(column) * dim
        return matrix[i : i + dim, j : j + dim]


def gaussian_drift(precision: Tensor, mean: Tensor, damping: float, step: float) -> Drift:
    """A drift: the score −Λ (x − m) of a Gaussian, its log density, the damping A and the time step dτ = ``step``."""

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (((x - mean) @ precision) * (x - mean)).flatten(1).sum(1)

    return Drift(lambda x: -(x - mean) @ precision, damping, step, log_density=log_density)


def settled(dynamics: Dynamics, x: Tensor, drift: Drift) -> State:
    """A state after one step without noise. Some dynamics have all their variables only after the first step."""
    return dynamics.step(dynamics.init(x, drift, zero_noise), drift, zero_noise)


def _leaves(record: Any, shape: torch.Size, path: Path = ()) -> dict[Path, Tensor]:
    """Path → tensor, for the tensors of shape ``shape`` in a record and in the records inside it."""
    found: dict[Path, Tensor] = {}
    for item in fields(record):
        key, value = (*path, item.name), getattr(record, item.name)
        if isinstance(value, Tensor) and value.shape == shape:
            found[key] = value
        elif is_dataclass(value) and not isinstance(value, type):
            found |= _leaves(value, shape, key)
    return found


def _with(record: Any, path: Path, value: Tensor) -> Any:
    """The record with the tensor at ``path`` replaced."""
    name, *rest = path
    return replace(record, **{name: _with(getattr(record, name), tuple(rest), value) if rest else value})


def affine_step(dynamics: Dynamics, drift: Drift, dim: int) -> AffineStep:
    """F, b and N of one step of ``dynamics`` on a Gaussian drift in ``dim`` dimensions, in float64.

    The variables are the tensors of the position's shape in the state, except those that a step returns unchanged.

    Raises:
        NotAffineError: When the step is not affine.
    """
    start = torch.zeros(1, dim, dtype=torch.float64)
    state = settled(dynamics, start, drift)
    after = _leaves(dynamics.step(state, drift, zero_noise), start.shape)
    before = _leaves(state, start.shape)
    paths = [path for path, value in after.items() if path in before and value is not before[path]]
    paths.sort(key=lambda path: path != ("x",))
    size = len(paths) * dim

    def advance(z: Tensor, noise: NoiseSource) -> Tensor:
        moved = state
        for path, part in zip(paths, z.split(dim, dim=1), strict=True):
            moved = _with(moved, path, part)
        found = _leaves(dynamics.step(moved, drift, noise), torch.Size((len(z), dim)))
        return torch.cat([found[path] for path in paths], dim=1)

    counter = ScriptedNoise()
    offset = advance(torch.zeros(1, size, dtype=torch.float64), counter)
    linear = advance(torch.eye(size, dtype=torch.float64), zero_noise) - offset
    columns = [
        advance(
            torch.zeros(shape.numel(), size, dtype=torch.float64),
            ScriptedNoise(draw, torch.eye(shape.numel(), dtype=torch.float64)),
        )
        - offset
        for draw, shape in enumerate(counter.shapes)
    ]
    noise = torch.cat(columns) if columns else torch.zeros(1, size, dtype=torch.float64)
    affine = AffineStep(linear.mT.numpy(), offset[0].numpy(), noise.mT.numpy(), tuple(".".join(path) for path in paths))
    # Compare with a step from random points with random noise. It differs if the step is not affine.
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(7, size, generator=generator, dtype=torch.float64)
    drawn: list[Tensor] = []

    def random(like: Tensor) -> Tensor:
        drawn.append(torch.randn(like.shape, generator=generator, dtype=like.dtype))
        return drawn[-1]

    got = advance(z, random)
    xi = torch.cat([draw.reshape(len(z), -1) for draw in drawn], dim=1) if drawn else torch.zeros(7, 1).double()
    expected = z @ linear + offset + (xi @ noise if xi.shape[1] == len(noise) else math.nan)
    if not bool(((got - expected).abs() <= 1e-8 * (1 + expected.abs().amax())).all()):
        raise NotAffineError(f"a step of {type(dynamics).__name__} is not affine on a Gaussian")
    return affine


def limit_law(drift: Drift, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the stationary distribution of dz = P f(z) dτ + √(2P) dW, for an affine f.

    Overdamped dynamics with the drift f converges to this distribution as all time steps go to 0. The diagonal matrix P
    holds the time step of each entry. Only the ratios of these time steps matter. If f is not a gradient, as the BiG
    score is not, the distribution depends on the ratios.

    Raises:
        ValueError: When f does not draw back to a fixed point.
    """
    import scipy.linalg

    zero, unit = torch.zeros(1, dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)
    offset = drift(zero)
    slope = (drift(unit) - offset).mT.numpy()
    speeds = drift.broadcast(drift.time_step, zero).expand(1, dim)[0].numpy()
    pull = speeds[:, None] * slope
    if not np.linalg.eigvals(pull).real.max() < 0:
        raise ValueError("the drift does not draw back to a fixed point, so there is no stationary distribution")
    mean = -np.linalg.solve(slope, offset[0].numpy())
    return mean, np.asarray(scipy.linalg.solve_continuous_lyapunov(pull, -2 * np.diag(speeds)))


def measured_order(errors: Sequence[float], steps: Sequence[float]) -> float:
    """Order of the errors in the time step: the slope of log error against log time step.

    ∞ when all errors are rounding errors.
    """
    if max(errors) < 1e-11:
        return math.inf
    return float(np.polyfit(np.log(steps), np.log(np.maximum(errors, 1e-300)), 1)[0])


# The Gaussian of the checks. Its axes are not the coordinate axes, and the damping is not its precision.
PRECISION = torch.tensor([[1.6, 0.5], [0.5, 0.7]], dtype=torch.float64)
MEAN = torch.tensor([0.4, -1.1], dtype=torch.float64)
DAMPING = 1.3
CONDITIONS = (1, 10, 100)
STEPS = [0.02 / 2**k for k in range(5)]


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
            lines += ["  condition    radius per evaluation at 0.15/A    best (at step)      stable below"]
            for condition, (radius, best, at) in self.radii.items():
                limit = self.limits[condition]
                below = "any step tried" if math.isinf(limit) else f"{limit:.3g}/A"
                lines.append(f"  {condition:<12} {radius:<33.4f}  {best:.4f} ({at:.3g}/A)".ljust(68) + f" {below}")
        if self.sampled is not None:
            lines.append(
                f"  law of x     by sampling: variance {self.sampled[0]:.4f} ± {self.sampled[1]:.4f}, exact is 1"
            )
        return "\n".join(lines)

    __repr__ = __str__


def verify(dynamics: Dynamics) -> Report:
    """A report on a dynamics, by exact algebra, in seconds: ``print(lanpaint.verify(MyDynamics()))``.

    The report answers these questions:

    - Which distribution does the dynamics leave invariant, and of what order in the time step is its bias?
    - In what order in the time step does it converge to the continuous dynamics that it discretises?
    - How much does one evaluation contract, and what is the largest stable time step? This is measured on Gaussians of
      condition number 1, 10 and 100, with largest curvature 1 and damping A = 1.
    - Is the result the same for the same random numbers? Do old states and the global generator stay unchanged?
    - Does it take tensors of any shape and dtype, on the CPU and on a CUDA device if there is one?
    - Do entries with a time step of 0 stay where they are?

    If a step is not affine (Metropolis), the distribution is measured by sampling.

    Args:
        dynamics: An instance, as a sampler takes it for its argument ``dynamics``.

    Returns:
        A :class:`Report`: print it, or read its attributes.

    Raises:
        TypeError: For any object that is not a Dynamics.
    """
    if not isinstance(dynamics, Dynamics):
        raise TypeError(f"verify takes an instance of a Dynamics, got {dynamics!r:.60}")
    report = Report(type(dynamics).__name__)
    for check in (_check_evaluations, _check_purity, _check_shapes, _check_law):
        try:
            check(dynamics, report)
        except Exception as error:  # whatever a step raises becomes a problem in the report
            report.problems.append(f"{check.__name__[7:]}: {type(error).__name__}: {error}")
    if report.affine and not report.problems:
        _check_contraction(dynamics, report)
    return report


def _check_evaluations(dynamics: Dynamics, report: Report) -> None:
    calls = 0
    plain = gaussian_drift(PRECISION, MEAN, DAMPING, 0.1)

    def counted(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(x)

    drift = Drift(counted, DAMPING, 0.1, log_density=plain.log_density)
    state = settled(dynamics, torch.zeros(1, 2, dtype=torch.float64), drift)
    calls, count = 0, 4
    for _ in range(count):
        state = dynamics.step(state, drift, zero_noise)
    report.evaluations = calls / count
    if not calls:
        report.problems.append("a step does not evaluate the score")


def _check_purity(dynamics: Dynamics, report: Report) -> None:
    drift = gaussian_drift(PRECISION, MEAN, DAMPING, 0.1)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before, kept = torch.random.get_rng_state(), x.clone()

    def run() -> tuple[State, State, Tensor]:
        noise = NormalNoise(torch.Generator().manual_seed(2))
        state = dynamics.init(x, drift, noise)
        state = dynamics.step(state, drift, noise)
        copy = state.x.clone()
        return state, dynamics.step(state, drift, noise), copy

    (state, new, copy), (_, again, _) = run(), run()
    if not torch.equal(before, torch.random.get_rng_state()):
        report.problems.append("draws from the global generator; take random numbers from noise(x)")
    if not torch.equal(new.x, again.x):
        report.problems.append("gives different results with the same random numbers")
    if not torch.equal(state.x, copy) or not torch.equal(x, kept):
        report.problems.append("a step writes to the state that it was given")
    if torch.equal(state.x, new.x):
        report.problems.append("a step does not move")


def _check_shapes(dynamics: Dynamics, report: Report) -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    generator = torch.Generator().manual_seed(3)
    for device in devices:
        for shape in ((), (2,), (2, 3), (2, 3, 4), (2, 1, 3, 4), (2, 1, 2, 3, 4)):
            for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                x = torch.randn(shape, generator=generator, dtype=torch.float32).to(device, dtype)
                known = torch.arange(shape[-1], device=device) == 0 if len(shape) > 1 else None
                for mask in (None, known):
                    two = mask is not None
                    damping, step = torch.tensor([[1.0, 0.1], [2.0, 0.0]]).mT
                    drift = Drift(
                        torch.neg,
                        damping if two else damping[0],
                        step if two else step[0],
                        mask,
                        log_density=lambda x: -0.5 * (x.flatten(1).square().sum(1) if x.ndim > 1 else x.square()),
                    )
                    noise = NormalNoise(generator)
                    try:
                        state = dynamics.init(x, drift, noise)
                        for _ in range(2):
                            state = dynamics.step(state, drift, noise)
                    except Exception as error:  # reported with the shape that it fails for
                        what = f"{tuple(shape)}, {dtype}, {device}{', two regions' if two else ''}"
                        report.problems.append(f"fails for x of {what}: {type(error).__name__}: {error}")
                        return
                    if state.x.shape != x.shape or state.x.dtype != dtype or state.x.device.type != device:
                        report.problems.append(
                            f"turns x of {tuple(shape)}, {dtype} into x of {tuple(state.x.shape)}, {state.x.dtype}"
                        )
                        return
                    if not bool(torch.isfinite(state.x).all()):
                        report.problems.append(f"gives NaN or infinite values for x of {dtype}")
                        return
                    if two and not torch.allclose(state.x[..., 0], x[..., 0]):
                        report.problems.append("moves entries whose time step is 0")
                        return


def _check_law(dynamics: Dynamics, report: Report) -> None:
    truth = np.linalg.inv(PRECISION.numpy())
    try:
        steps = {h: affine_step(dynamics, gaussian_drift(PRECISION, MEAN, DAMPING, h), 2) for h in STEPS}
    except NotAffineError:
        report.affine = False
        _check_law_by_sampling(dynamics, report)
        return
    unstable = [h for h, step in steps.items() if not step.spectral_radius < 1]
    if unstable:
        report.problems.append(
            f"does not converge on a Gaussian at a time step of {unstable[0]:g}/A: the distribution grows or stays"
        )
        return
    covariances = {h: step.stationary_covariance() for h, step in steps.items()}
    errors = {h: float(np.abs(steps[h].block(cov, "x", "x") - truth).max()) for h, cov in covariances.items()}
    report.position_bias, report.bias_order = errors, measured_order(list(errors.values()), STEPS)
    means = [float(np.abs(step.stationary_mean()[:2] - MEAN.numpy()).max()) for step in steps.values()]
    report.mean_error = means[-1]
    smallest = STEPS[-1]
    for name in steps[smallest].names[1:]:
        variance = steps[smallest].block(covariances[smallest], name, name)
        cross = steps[smallest].block(covariances[smallest], name, "x")
        report.variables[name] = float(np.trace(variance)) / 2, float(np.abs(cross).max())
    if report.bias_order < 0.7 or errors[smallest] > 0.05:
        report.problems.append(
            f"does not leave p(x) invariant: the covariance is off by {errors[smallest]:.2g} at a time step of "
            f"{smallest:g}, and this error does not vanish with the time step (order {report.bias_order:.2f})"
        )
    if report.mean_error > 1e-8 and measured_order(means, STEPS) < 0.7:
        report.problems.append(
            f"the mean of x is off by {report.mean_error:.2g}, and this error does not vanish with the time step"
        )
    report.convergence_order = _convergence_order(steps)
    if report.convergence_order < 0.7:
        report.problems.append(f"does not converge as the time step goes to 0 (order {report.convergence_order:.2f})")


def _convergence_order(steps: dict[float, AffineStep], time: float = 0.64) -> float:
    """Order in the time step of the covariance between x and the x of ``time`` later, in the stationary distribution.

    Each time step is compared with half of it, so the exact covariance is not needed.
    """
    results = []
    for h, step in steps.items():
        later = np.linalg.matrix_power(step.linear, round(time / h)) @ step.stationary_covariance()
        results.append(step.block(later, "x", "x"))
    changes = [float(np.abs(a - b).max()) for a, b in itertools.pairwise(results)]
    return measured_order(changes, list(steps)[:-1])


def _check_law_by_sampling(dynamics: Dynamics, report: Report, count: int = 40_000) -> None:
    generator = torch.Generator().manual_seed(4)
    noise = NormalNoise(generator)
    identity = torch.eye(2, dtype=torch.float64)
    drift = gaussian_drift(identity, torch.zeros(2, dtype=torch.float64), 1.0, 0.8)
    state = dynamics.init(torch.randn(count, 2, generator=generator, dtype=torch.float64), drift, noise)
    for _ in range(30):
        state = dynamics.step(state, drift, noise)
    variance, error = float(state.x.square().mean()), math.sqrt(2 / (2 * count))
    report.sampled = variance, error
    if abs(variance - 1) > 5 * error:
        report.problems.append(
            f"does not leave p(x) invariant at a time step of 0.8: the variance is {variance:.4f}, expected 1"
        )


def spectral_radius(dynamics: Dynamics, condition: float, step: float) -> float:
    """Spectral radius of one step on a Gaussian of precisions 1 and 1/condition, with damping A = 1.

    ``step`` is the time step in units of 1/A.
    """
    precision = torch.diag(torch.tensor([1.0, 1 / condition], dtype=torch.float64))
    return affine_step(dynamics, gaussian_drift(precision, torch.zeros(2).double(), 1.0, step), 2).spectral_radius


def _check_contraction(dynamics: Dynamics, report: Report) -> None:
    per_evaluation = 1 / report.evaluations
    grid = np.geomspace(1e-2, 1e2, 25)
    for condition in CONDITIONS:
        radii = [spectral_radius(dynamics, condition, h) for h in grid]
        best = int(np.argmin(radii))
        at_default = spectral_radius(dynamics, condition, 0.15)
        report.radii[condition] = at_default**per_evaluation, radii[best] ** per_evaluation, float(grid[best])
        report.limits[condition] = _stability_limit(dynamics, condition, grid, radii)


def _stability_limit(dynamics: Dynamics, condition: float, grid: np.ndarray, radii: list[float]) -> float:
    unstable = [i for i, value in enumerate(radii) if not value < 1]
    if not unstable:
        return math.inf
    if unstable[0] == 0:
        return 0.0
    low, high = float(grid[unstable[0] - 1]), float(grid[unstable[0]])
    for _ in range(12):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spectral_radius(dynamics, condition, middle) < 1 else (low, middle)
    return low
