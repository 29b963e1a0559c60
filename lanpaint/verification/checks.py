"""Checks of a dynamics: which distribution it leaves invariant, how exactly, and how fast it converges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from lanpaint.checks import shown
from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.randomness import NormalNoise
from lanpaint.verification.affine import (
    AffineStep,
    NotAffineError,
    affine_start,
    affine_step,
    gaussian_drift,
    measured_order,
    settled,
    zero_noise,
)
from lanpaint.verification.rare_modes import rare_shares
from lanpaint.verification.report import Report

# The Gaussian of the checks. Its axes are not the coordinate axes, and the damping is not its precision.
PRECISION = torch.tensor([[1.6, 0.5], [0.5, 0.7]], dtype=torch.float64)
MEAN = torch.tensor([0.4, -1.1], dtype=torch.float64)
DAMPING = 1.3
SECOND = torch.tensor([False, True])  # the known entry of two regions
CONDITIONS = (1, 10, 100)
STEPS = [0.02 / 2**k for k in range(5)]
SHORT = 1e-6  # a time step after which the momentum is still that of init


def one_region(step: float) -> Drift:
    """The drift of the checks at a time step dτ."""
    return gaussian_drift(PRECISION, MEAN, DAMPING, step)


def two_regions(step: float) -> Drift:
    """The drift of the checks with a known entry, which has a damping and a time step of its own."""
    ratios = torch.tensor([1.0, 0.6], dtype=torch.float64)
    return gaussian_drift(PRECISION, MEAN, DAMPING * ratios, step * ratios, SECOND)


def verify(dynamics: Dynamics) -> Report:
    """A report on a dynamics, in seconds: ``print(lanpaint.verify(MyDynamics()))``.

    The report answers these questions:

    - Which distribution does the dynamics leave invariant, and of what order in the time step is its bias? Is that the
      order that it claims? This is exact algebra on a Gaussian of one region, and of two.
    - Does ``init`` draw momenta and other variables from their stationary distribution?
    - Which distribution does it sample where p is no Gaussian? This is measured on a mixture with rare modes, by
      sampling (:mod:`lanpaint.verification.rare_modes`).
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
        raise TypeError(f"verify takes an instance of a Dynamics, got {shown(dynamics)}")
    report = Report(type(dynamics).__name__)
    for check in (_check_evaluations, _check_purity, _check_shapes, _check_law):
        try:
            check(dynamics, report)
        except Exception as error:  # whatever a step raises becomes a problem in the report
            report.problems.append(f"{check.__name__[7:]}: {type(error).__name__}: {error}")
    if not report.problems:
        _check_rare_modes(dynamics, report)
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
    try:
        steps = {h: affine_step(dynamics, one_region(h), 2) for h in STEPS}
    except NotAffineError:
        report.affine = False
        _check_law_by_sampling(dynamics, report)
        return
    found = _stationary(steps, "", report)
    if found is None:
        return
    covariances, errors, means = found
    report.position_bias, report.bias_order = errors, measured_order(list(errors.values()), STEPS)
    report.mean_error = means[-1]
    smallest = STEPS[-1]
    for name in steps[smallest].names[1:]:
        variance = steps[smallest].block(covariances[smallest], name, name)
        cross = steps[smallest].block(covariances[smallest], name, "x")
        report.variables[name] = float(np.trace(variance)) / 2, float(np.abs(cross).max())
    claimed = dynamics.order
    if claimed is not None and report.bias_order < claimed - 0.3:
        report.problems.append(
            f"claims order {claimed:g} in the time step, but the bias of x is of order {report.bias_order:.2f}"
        )
    report.convergence_order = _convergence_order(steps)
    if report.convergence_order < 0.7:
        report.problems.append(f"does not converge as the time step goes to 0 (order {report.convergence_order:.2f})")
    _check_start(dynamics, report)
    if not report.problems:
        _stationary({h: affine_step(dynamics, two_regions(h), 2) for h in STEPS}, " where an entry is known", report)


def _stationary(
    steps: dict[float, AffineStep], where: str, report: Report
) -> tuple[dict[float, np.ndarray], dict[float, float], list[float]] | None:
    """Covariances, their errors and the errors of the means, by time step; None where a step is unstable.

    A stationary distribution that is not p becomes a problem in the report.
    """
    unstable = [h for h, step in steps.items() if not step.spectral_radius < 1]
    if unstable:
        report.problems.append(
            f"does not converge on a Gaussian at a time step of {unstable[0]:g}/A{where}: the distribution grows or "
            "stays"
        )
        return None
    truth, smallest = np.linalg.inv(PRECISION.numpy()), STEPS[-1]
    covariances = {h: step.stationary_covariance() for h, step in steps.items()}
    errors = {h: float(np.abs(steps[h].block(cov, "x", "x") - truth).max()) for h, cov in covariances.items()}
    order = measured_order(list(errors.values()), STEPS)
    if order < 0.7 or errors[smallest] > 0.05:
        report.problems.append(
            f"does not leave p(x) invariant{where}: the covariance is off by {errors[smallest]:.2g} at a time step of "
            f"{smallest:g}, and this error does not vanish with the time step (order {order:.2f})"
        )
    means = [float(np.abs(step.stationary_mean()[:2] - MEAN.numpy()).max()) for step in steps.values()]
    if means[-1] > 1e-8 and measured_order(means, STEPS) < 0.7:
        report.problems.append(
            f"the mean of x is off by {means[-1]:.2g}{where}, and this error does not vanish with the time step"
        )
    return covariances, errors, means


def _check_start(dynamics: Dynamics, report: Report) -> None:
    """Whether ``init`` draws from the stationary distribution: a level has a few steps, too few to forget a start."""
    drift, truth = one_region(SHORT), np.linalg.inv(PRECISION.numpy())
    step, start = affine_step(dynamics, drift, 2), affine_start(dynamics, drift, 2)
    stationary = step.stationary_covariance()
    covariance = start.linear @ truth @ start.linear.T + start.noise @ start.noise.T
    scale = np.sqrt(np.maximum(np.diag(stationary), 1e-300))
    report.start_error = float(np.abs((covariance - stationary) / np.outer(scale, scale)).max())
    if report.start_error > 0.02:
        worst = max(step.names, key=lambda name: _share_off(step, covariance, stationary, name))
        report.problems.append(
            f"init does not draw from the stationary distribution: the variance of {worst} is off by "
            f"{_share_off(step, covariance, stationary, worst):.2g} of the stationary variance"
        )


def _share_off(step: AffineStep, got: np.ndarray, expected: np.ndarray, name: str) -> float:
    """The relative error of the variance of a variable."""
    found, true = (float(np.trace(step.block(covariance, name, name))) for covariance in (got, expected))
    return abs(found - true) / max(true, 1e-300)


def _check_rare_modes(dynamics: Dynamics, report: Report) -> None:
    report.rare = rare_shares(dynamics)
    for name, share in report.rare.items():
        if share.is_off:
            report.problems.append(
                f"samples another distribution where p is no Gaussian: the share where {name} is {share.got:.4f} ± "
                f"{share.error:.4f}, exact is {share.exact:.4f}"
            )


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
