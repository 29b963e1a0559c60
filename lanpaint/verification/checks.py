"""Checks of a dynamics: which distribution it leaves invariant, how exactly, and how fast it converges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.randomness import NormalNoise
from lanpaint.verification.affine import (
    AffineStep,
    NotAffineError,
    affine_step,
    gaussian_drift,
    measured_order,
    settled,
    zero_noise,
)
from lanpaint.verification.report import Report

# The Gaussian of the checks. Its axes are not the coordinate axes, and the damping is not its precision.
PRECISION = torch.tensor([[1.6, 0.5], [0.5, 0.7]], dtype=torch.float64)
MEAN = torch.tensor([0.4, -1.1], dtype=torch.float64)
DAMPING = 1.3
CONDITIONS = (1, 10, 100)
STEPS = [0.02 / 2**k for k in range(5)]


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
