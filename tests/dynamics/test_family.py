"""Every dynamics by the same exact algebra: law, order, momentum, and what each is a special case of."""

import math

import numpy as np
import pytest
import torch

from lanpaint import (
    HFHR,
    MALA,
    CountedScore,
    Drift,
    FastLangevin,
    Langevin,
    LMLangevin,
    NoiseLevel,
    NormalNoise,
    PartialRefresh,
    Preconditioned,
    SecantLangevin,
    Underdamped,
)
from lanpaint.verification import ScriptedNoise, affine_step, gaussian_drift, measured_order, zero_noise
from lanpaint_toys import Gaussian

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -1.0], dtype=torch.float64)
COV = np.linalg.inv(PRECISION.numpy())
A = 1.4
DENSE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)
ROOT = torch.linalg.cholesky(DENSE)

# name: (dynamics, order of the position's bias, variance of the momentum in units of its limit)
FAMILY = {
    "Langevin": (Langevin(), 1, None),
    "FLD, order 1": (FastLangevin(2.5, order=1), 1, 2.5**2 * A),
    "FLD, order 2": (FastLangevin(2.5), 2, 2.5**2 * A),
    "OU, order 1": (FastLangevin(math.inf, order=1), 1, None),
    "OU, order 2": (FastLangevin(math.inf), 2, None),
    "HFHR, order 1": (HFHR(2.5, psi=1.6, order=1), 1, 2.5**2 * A / 1.6),
    "HFHR, order 2": (HFHR(2.5, psi=1.6), 2, 2.5**2 * A / 1.6),
    "HFHR, γ = ∞": (HFHR(math.inf, psi=1.6), 2, None),
    "BAOAB": (Underdamped(0.3, 0.8, "BAOAB"), math.inf, 0.3 / A),
    "OBABO": (Underdamped(0.3, 0.8, "OBABO"), 2, 0.3 / A),
    "UBU": (Underdamped(0.3, 0.8, "UBU"), 2, 0.3 / A),
    "preconditioned Langevin": (Preconditioned(Langevin(), matrix=DENSE), 1, None),
    "preconditioned FLD": (Preconditioned(FastLangevin(2.5), matrix=DENSE), 2, 2.5**2 * A),
    "preconditioned HFHR": (Preconditioned(HFHR(2.5, psi=1.6, order=1), 0.7), 1, 2.5**2 * A / 1.6),
    "preconditioned BAOAB": (Preconditioned(Underdamped(0.3, 0.8), matrix=DENSE), math.inf, 0.3 / A),
}
every_dynamics = pytest.mark.parametrize(("dynamics", "order", "variance"), FAMILY.values(), ids=FAMILY)
STEPS = [0.04 / 2**k for k in range(5)]


DECLARED = {
    **{name: dynamics for name, (dynamics, _, _) in FAMILY.items()},
    "secant": SecantLangevin(),
    "refresh": PartialRefresh(),
    "MALA": MALA(),
    "LM-Langevin": LMLangevin(),
    "LM-Langevin, printed": LMLangevin(form="printed"),
}


@pytest.mark.parametrize("dynamics", DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize("inner_steps", [0, 1, 4])
def test_as_many_evaluations_are_made_as_are_declared(dynamics, inner_steps):
    level, score = NoiseLevel(0.8, 0.6), CountedScore(Gaussian(MEAN, COV))
    noise, x = NormalNoise(torch.Generator().manual_seed(0)), torch.zeros(3, 2, dtype=torch.float64)
    target = Gaussian(MEAN, COV)
    drift = Drift(lambda x: score.score(x, level), A, 0.1, log_density=lambda x: target.log_prob(x, level))
    state = dynamics.init(x, drift, noise)
    for _ in range(inner_steps):
        state = dynamics.step(state, drift, noise)
    assert score.evaluations == dynamics.evaluations(inner_steps)
    assert Preconditioned(dynamics, 0.5).evaluations(inner_steps) == score.evaluations


def _steps(dynamics):
    return {h: affine_step(dynamics, gaussian_drift(PRECISION, MEAN, A, h), 2) for h in STEPS}


@every_dynamics
def test_the_position_settles_at_the_law_with_a_bias_of_the_scheme_s_order(dynamics, order, variance):
    errors = []
    for step in _steps(dynamics).values():
        assert np.allclose(step.stationary_mean()[:2], MEAN.numpy(), atol=1e-10)
        errors.append(np.abs(step.block(step.stationary_covariance(), "x", "x") - COV).max())
    if math.isinf(order):  # BAOAB: the position's law is exact on a Gaussian
        assert max(errors) < 1e-13
    else:
        # FLD's position does better than its joint law, which is of order 2: see test_fast_langevin.
        assert measured_order(errors, STEPS) > order - 0.15
        if order == 1:
            assert measured_order(errors, STEPS) < 1.15
        assert errors[-1] < 0.01


@every_dynamics
def test_the_momentum_settles_at_its_variance_independent_of_the_position(dynamics, order, variance):
    """m of underdamped dynamics (Eq. 98), Γ of FLD (Eq. 158), Γ/Ψ of HFHR (Eq. 130), each in its coordinates."""
    step = affine_step(dynamics, gaussian_drift(PRECISION, MEAN, A, 1e-4), 2)
    names = [name for name in step.names if name.endswith("momentum")]
    assert len(names) == (variance is not None)
    for name in names:
        covariance = step.stationary_covariance()
        assert np.allclose(step.block(covariance, name, name), variance * np.eye(2), rtol=2e-3, atol=2e-3 * variance)
        assert np.abs(step.block(covariance, name, "x")).max() < 1e-3 * math.sqrt(variance)


@pytest.mark.parametrize("scheme", ["BAOAB", "OBABO", "UBU"])
@pytest.mark.parametrize(("mass", "friction"), [(0.02, 0.3), (1.0, 2.0), (5.0, 0.1)])
def test_underdamped_schemes_are_of_second_order_in_position_and_momentum(scheme, mass, friction):
    steps = [0.2 * math.sqrt(mass) / friction / 2**k for k in range(1, 6)]
    position, momentum = [], []
    for h in steps:
        step = affine_step(Underdamped(mass, friction, scheme), gaussian_drift(PRECISION, MEAN, A, h), 2)
        covariance = step.stationary_covariance()
        position.append(np.abs(step.block(covariance, "x", "x") - COV).max())
        momentum.append(np.abs(step.block(covariance, "momentum", "momentum") * A / mass - np.eye(2)).max())
    exact_position, exact_momentum = scheme == "BAOAB", scheme == "OBABO"
    for errors, exact in ((position, exact_position), (momentum, exact_momentum)):
        assert max(errors) < 1e-12 if exact else measured_order(errors, steps) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scheme", ["BAOAB", "OBABO"])
def test_splittings_are_stable_up_to_twice_the_period_of_the_stiffest_spring(scheme):
    """L t² < 4 m, L the largest curvature and t = γ τ, whatever the friction."""
    curvature = float(torch.linalg.eigvalsh(PRECISION)[-1])
    for friction in (0.1, 3.0):
        limit = 2 * math.sqrt(0.3 / A / curvature) / friction
        for factor, stable in ((0.999, True), (1.001, False)):
            drift = gaussian_drift(PRECISION, MEAN, A, factor * limit)
            assert (affine_step(Underdamped(0.3, friction, scheme), drift, 2).spectral_radius < 1) is stable


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("psi", [1.0, 1.6, 30.0])
def test_hfhr_is_exact_at_any_step_when_the_damping_is_the_precision(psi, order):
    for h in (1e-3, 0.3, 10.0):
        precision = A * torch.eye(2, dtype=torch.float64)
        step = affine_step(HFHR(2.5, psi=psi, order=order), gaussian_drift(precision, MEAN, A, h), 2)
        covariance = step.stationary_covariance()
        assert np.allclose(step.block(covariance, "x", "x"), np.eye(2) / A, atol=1e-9)
        assert np.allclose(step.block(covariance, "momentum", "momentum"), 2.5**2 * A / psi * np.eye(2), rtol=1e-9)


# --- The general form (Eq. 152), of which all are special cases


def _general(alpha, gamma, inverse_mass, matrix, precision=None):
    """Drift matrix and diffusion of Eq. 152 on a Gaussian: dz = M z dt, d⟨z zᵀ⟩ = D dt, for z = (x, v)."""
    zero, precision = np.zeros((2, 2)), PRECISION.numpy() if precision is None else precision
    drift = np.block(
        [
            [-alpha * matrix @ precision, inverse_mass * matrix],
            [-matrix @ precision, -gamma * inverse_mass * matrix],
        ]
    )
    return drift, np.block([[2 * alpha * matrix, zero], [zero, 2 * gamma * matrix]])


def _in_units(general, momentum, time):
    """With q = momentum · v and τ = time · t."""
    drift, diffusion = general
    scale = np.diag([1.0, 1.0, momentum, momentum])
    return scale @ drift @ np.linalg.inv(scale) / time, scale @ diffusion @ scale / time


def _generator(dynamics, h=1e-6):
    """Drift matrix and diffusion of (x, momentum) from one small step, what is remembered of the score eliminated."""
    step = affine_step(dynamics, gaussian_drift(PRECISION, torch.zeros(2).double(), A, h), 2)
    kept = [name for name in step.names if not name.startswith("inner.") and name in ("x", "momentum")]
    function = {"score": -PRECISION.numpy(), "centre": np.eye(2) - PRECISION.numpy() / A}
    rows = []
    for row in kept:
        blocks = [step.block(step.linear, row, name) for name in kept]
        blocks[0] = blocks[0] + sum(step.block(step.linear, row, c) @ k for c, k in function.items() if c in step.names)
        rows.append(blocks)
    index = np.concatenate([np.arange(2) + 2 * step.names.index(name) for name in kept])
    return (np.block(rows) - np.eye(len(index))) / h, (step.noise @ step.noise.T)[np.ix_(index, index)] / h


def _same_generator(dynamics, expected, tolerance=1e-3):
    for got, want in zip(_generator(dynamics), expected, strict=True):
        size = want.shape[0]
        assert np.allclose(got[:size, :size], want, atol=tolerance * np.abs(want).max()), (got, want)


IDENTITY = np.eye(2)


def test_langevin_is_the_general_form_without_inertia():
    """α = 1 and 1/m = 0."""
    drift, diffusion = _general(1.0, 0.0, 0.0, IDENTITY)
    _same_generator(Langevin(), (drift[:2, :2], diffusion[:2, :2]))


@pytest.mark.parametrize("scheme", ["BAOAB", "OBABO", "UBU"])
def test_underdamped_is_the_general_form_with_alpha_zero(scheme):
    """In the time τ = t/γ."""
    expected = _in_units(_general(0.0, 0.8, A / 0.3, IDENTITY), 1.0, 1 / 0.8)
    _same_generator(Underdamped(0.3, 0.8, scheme), expected)


@pytest.mark.parametrize("mass", [0.3, 1.0])
def test_the_position_of_underdamped_dynamics_knows_mass_and_friction_as_one(mass):
    """As γ²/m, in the time τ: the momentum differs by the factor √m alone."""
    one, other = (
        affine_step(Underdamped(m, 0.8 * math.sqrt(m)), gaussian_drift(PRECISION, MEAN, A, 0.3), 2)
        for m in (mass, 4 * mass)
    )
    assert np.allclose(one.block(one.linear, "x", "x"), other.block(other.linear, "x", "x"), atol=1e-13)
    assert np.allclose(
        2 * one.block(one.linear, "momentum", "x"), other.block(other.linear, "momentum", "x"), atol=1e-13
    )


def test_ubu_at_large_friction_is_an_overdamped_step_of_the_same_length():
    """Half a diffusion, a kick and half a diffusion: x' = (1 − τΛ)(x + √τ ξ) + √τ ξ'."""
    h, precision = 0.2, PRECISION.numpy()
    step = affine_step(Underdamped(1.0, 3e4, "UBU"), gaussian_drift(PRECISION, MEAN, A, h), 2)
    shrink = np.eye(2) - h * precision
    covariance = step.noise @ step.noise.T
    assert np.allclose(step.block(step.linear, "x", "x"), shrink, atol=1e-6)
    assert np.allclose(step.block(covariance, "x", "x"), h * (shrink @ shrink + np.eye(2)), atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("gamma", "mass"), [(1.3, 0.4), (0.5, 2.0)])
def test_fast_langevin_is_the_general_form_in_other_units(gamma, mass, order):
    """α = 0, q = γ v/m, τ = t/γ and Γ = γ²/m (Eq. 129 with Ψ = 1)."""
    friction = math.sqrt(gamma**2 / mass / A)
    expected = _in_units(_general(0.0, gamma, 1 / mass, IDENTITY), gamma / mass, 1 / gamma)
    _same_generator(FastLangevin(friction, order), expected)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("alpha", "gamma", "mass"), [(0.7, 1.3, 0.4), (3.0, 0.5, 2.0), (0.0, 1.0, 1.0)])
def test_hfhr_is_the_general_form_in_the_units_of_equation_129(alpha, gamma, mass, order):
    psi = alpha * gamma + 1
    friction = math.sqrt(gamma**2 / (mass * psi) / A)
    expected = _in_units(_general(alpha, gamma, 1 / mass, IDENTITY), gamma / (psi * mass), psi / gamma)
    _same_generator(HFHR(friction, psi=psi, order=order), expected)


def test_alpha_of_hfhr_is_that_of_equation_128_in_units_of_mass():
    """With m = 1/A: γ follows from Γ = γ_f² A = γ²/(m Ψ), and Ψ = 1 + α γ."""
    dynamics = HFHR(1.7, alpha=0.6)
    gamma = 1.7 * math.sqrt(dynamics.psi)
    assert dynamics.psi == pytest.approx(1 + 0.6 * gamma, rel=1e-12)
    expected = _in_units(_general(0.6, gamma, A, IDENTITY), gamma * A / dynamics.psi, dynamics.psi / gamma)
    _same_generator(dynamics, expected)


def test_preconditioned_langevin_is_equation_133():
    for dynamics in (
        Preconditioned(Langevin(), matrix=DENSE),
        Preconditioned(Langevin(), operator=(lambda x: x @ DENSE, lambda x: x @ _symmetric_root())),
    ):
        drift = gaussian_drift(PRECISION, torch.zeros(2).double(), A, 0.1)
        for x, noise, want in (
            (torch.eye(2), zero_noise, torch.eye(2) - 0.1 * PRECISION @ DENSE),  # rows: x' = x − 0.1 P Λ x
            (torch.zeros(2, 2), ScriptedNoise(0, torch.eye(2)), None),
        ):
            out = dynamics.step(dynamics.init(x.double(), drift, zero_noise), drift, noise).x
            if want is None:
                out, want = out.mT @ out, 0.2 * DENSE
            assert torch.allclose(out, want, atol=1e-12)


def _symmetric_root():
    values, vectors = torch.linalg.eigh(DENSE)
    return vectors @ torch.diag(values.sqrt()) @ vectors.mT


@pytest.mark.parametrize("order", [1, 2])
def test_preconditioned_fast_langevin_is_equation_145(order):
    """In the eigenbasis, in which the wrapped dynamics runs: d x_i = P_i q_i dτ, and so on."""
    dynamics = Preconditioned(FastLangevin(1.9, order), matrix=DENSE)
    h = 1e-6
    step = affine_step(dynamics, gaussian_drift(PRECISION, torch.zeros(2).double(), A, h), 2)
    values, vectors = (t.numpy() for t in torch.linalg.eigh(DENSE))
    gamma_big = 1.9**2 * A
    rotated = vectors.T @ PRECISION.numpy() @ vectors
    general = _in_units(_general(0.0, 1.0, gamma_big, np.diag(values), rotated), gamma_big, 1.0)  # γ = 1, m = 1/Γ
    names = ["inner.x", "inner.momentum"]
    index = np.concatenate([np.arange(2) + 2 * step.names.index(name) for name in names])
    linear = step.linear[np.ix_(index, index)]
    if order == 2:
        columns = np.arange(2) + 2 * step.names.index("inner.centre")
        linear[:, :2] += step.linear[np.ix_(index, columns)] @ (np.eye(2) - rotated / A)
    diffusion = (step.noise @ step.noise.T)[np.ix_(index, index)] / h
    assert np.allclose((linear - np.eye(4)) / h, general[0], atol=1e-3 * np.abs(general[0]).max())
    assert np.allclose(diffusion, general[1], atol=1e-3 * np.abs(general[1]).max())


# --- Reductions of one dynamics to another, exactly


def _run(dynamics, h=0.2, steps=3, factor=None, seed=0):
    """Positions of a few steps from the same random numbers."""
    noise = NormalNoise(torch.Generator().manual_seed(seed))
    step = h if factor is None else torch.tensor(factor, dtype=torch.float64) * h
    drift = gaussian_drift(PRECISION, MEAN, A, step)
    state = dynamics.init(torch.ones(5, 2, dtype=torch.float64), drift, noise)
    for _ in range(steps):
        state = dynamics.step(state, drift, noise)
    return state.x


@pytest.mark.parametrize("order", [1, 2])
def test_hfhr_with_psi_one_is_fast_langevin(order):
    """Two draws of each step then have no effect, so the laws are compared: maps and noise covariances."""
    hfhr, fld = (
        affine_step(d, gaussian_drift(PRECISION, MEAN, A, 0.3), 2)
        for d in (HFHR(2.5, psi=1.0, order=order), FastLangevin(2.5, order))
    )
    assert np.allclose(hfhr.linear, fld.linear, atol=1e-12)
    assert np.allclose(hfhr.noise @ hfhr.noise.T, fld.noise @ fld.noise.T, atol=1e-12)


@pytest.mark.parametrize("psi", [1.0, 2.0, 7.0])
def test_hfhr_with_infinite_friction_is_the_overdamped_limit_for_any_psi(psi):
    assert torch.equal(_run(HFHR(math.inf, psi=psi)), _run(FastLangevin(math.inf)))
    near, limit = (
        affine_step(d, gaussian_drift(PRECISION, MEAN, A, 0.3), 2)
        for d in (HFHR(1e4, psi=psi, order=1), FastLangevin(math.inf, order=1))
    )
    assert np.allclose(near.block(near.linear, "x", "x"), limit.linear, atol=1e-6)
    covariance = near.noise @ near.noise.T
    assert np.allclose(near.block(covariance, "x", "x"), limit.noise @ limit.noise.T, atol=1e-6)


@pytest.mark.parametrize(
    "dynamics",
    [Langevin(), FastLangevin(2.5), FastLangevin(math.inf), HFHR(2.5), Underdamped(), Underdamped(scheme="UBU")],
    ids=["Langevin", "FLD", "OU", "HFHR", "BAOAB", "UBU"],
)
def test_a_diagonal_preconditioner_is_a_step_per_coordinate(dynamics):
    factors = torch.tensor([0.3, 1.2], dtype=torch.float64)
    expected = _run(dynamics, factor=[0.3, 1.2])
    assert torch.allclose(_run(Preconditioned(dynamics, factors)), expected, atol=1e-13)
    turned = _run(Preconditioned(dynamics, matrix=torch.diag(factors)))
    assert torch.allclose(turned, expected, atol=1e-12)
    assert torch.allclose(_run(Preconditioned(dynamics, 0.5)), _run(dynamics, h=0.1), atol=1e-13)


def test_a_matrix_preconditioner_keeps_the_known_region_apart():
    """Its block of the unknown entries is used; known ones have their own step, 0 here."""
    matrix = torch.tensor([[2.0, 0.5, 0.3], [0.5, 1.0, 0.1], [0.3, 0.1, 0.7]], dtype=torch.float64)
    known = torch.tensor([False, True, False])
    drift = Drift(lambda x: -x, [1.0, 2.0], [0.1, 0.0], known)
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], dtype=torch.float64)
    dynamics = Preconditioned(Langevin(), matrix=matrix)
    out = dynamics.step(dynamics.init(x, drift, zero_noise), drift, zero_noise).x
    block = matrix[[0, 2]][:, [0, 2]]
    assert torch.allclose(out[:, [0, 2]], x[:, [0, 2]] - 0.1 * x[:, [0, 2]] @ block, atol=1e-13)
    assert torch.allclose(out[:, 1], x[:, 1], atol=1e-15)


@pytest.mark.parametrize("known", [None, torch.tensor([False, True, False, False])])
@pytest.mark.parametrize("dynamics", [Langevin(), FastLangevin(2.0), Underdamped()])
def test_a_step_of_length_0_is_the_identity_for_a_matrix_preconditioner(dynamics, known):
    """In more than two dimensions, where eigenvectors and their transpose differ."""
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wrapped = Preconditioned(dynamics, matrix=root @ root.mT + torch.eye(4))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    regions = (1.3, 0.0) if known is None else ([1.3, 0.7], [0.0, 0.0])
    drift = Drift(lambda x: -x, *regions, known)
    noise = NormalNoise(torch.Generator().manual_seed(4))
    state = wrapped.init(x, drift, noise)
    for _ in range(2):
        state = wrapped.step(state, drift, noise)
        assert torch.allclose(state.x, x, atol=1e-12)


@pytest.mark.parametrize("known", [None, torch.tensor([False, True])])
def test_a_matrix_preconditioner_gives_each_sample_the_step_of_its_own_level(known):
    steps = torch.tensor([[0.1], [0.3], [0.2]], dtype=torch.float64)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    dynamics = Preconditioned(FastLangevin(2.0), matrix=DENSE)

    def run(x, step):
        two = step if known is None else torch.stack([step, 0.5 * step])
        drift = Drift(lambda x: -x, 0.2 / two, two, known)
        state = dynamics.init(x, drift, torch.ones_like)
        for _ in range(2):
            state = dynamics.step(state, drift, torch.ones_like)
        return state.x

    together = run(x, steps)
    for row in range(3):
        assert torch.allclose(together[row], run(x[row : row + 1], steps[row, 0])[0], atol=1e-12)


@every_dynamics
def test_init_draws_the_momentum_from_its_stationary_distribution(dynamics, order, variance):
    """m of underdamped dynamics, Γ of FLD, Γ/Ψ of HFHR: read off with unit noise."""
    x = torch.zeros(1, 2, dtype=torch.float64)
    drift = gaussian_drift(PRECISION, MEAN, A, 0.1)
    state = dynamics.init(x, drift, torch.ones_like)
    momentum = state.momentum if isinstance(dynamics, Preconditioned) else getattr(state, "momentum", None)
    assert (momentum is None) == (variance is None)
    if variance is not None:
        assert torch.allclose(momentum.square(), torch.full_like(x, variance), rtol=1e-12)


def test_images_are_preconditioned_per_pixel():
    factors = torch.linspace(0.5, 1.5, 12).view(3, 4)
    drift = Drift(torch.neg, [1.0, 2.0], [0.1, 0.05], torch.eye(3, 4) > 0)
    x = torch.ones(2, 1, 3, 4, dtype=torch.float64)
    for dynamics in (FastLangevin(math.inf), HFHR(3.0), Underdamped()):
        wrapped = Preconditioned(dynamics, factors)
        state = wrapped.step(wrapped.init(x, drift, zero_noise), drift, zero_noise)
        assert state.x.shape == x.shape
    euler = Preconditioned(Langevin(), factors)
    out = euler.step(euler.init(x, drift, zero_noise), drift, zero_noise).x
    step = torch.where(torch.eye(3, 4) > 0, 0.05, 0.1) * factors
    assert torch.allclose(out, (1 - step.double()).expand_as(out), atol=1e-7)


BAD = {
    "mass": (lambda: Underdamped(mass=0.0), r"mass \(m\) must be a positive finite number, got 0"),
    "friction": (lambda: Underdamped(friction=math.inf), r"friction \(γ\) must be a positive finite number"),
    "scheme": (lambda: Underdamped(scheme="ABC"), "unknown scheme 'ABC'; expected one of BAOAB, OBABO, UBU"),
    "psi below 1": (lambda: HFHR(psi=0.5), r"psi \(Ψ\) must be a number of at least 1, got 0.5"),
    "psi infinite": (lambda: HFHR(psi=math.inf), r"Langevin\(\) is its limit"),
    "psi and alpha": (lambda: HFHR(psi=2.0, alpha=1.0), "not both"),
    "alpha": (lambda: HFHR(alpha=-1.0), r"alpha \(α\) must be a number of at least 0"),
    "nothing": (lambda: Preconditioned(Langevin()), "exactly one of"),
    "two": (lambda: Preconditioned(Langevin(), 1.0, matrix=DENSE), "exactly one of"),
    "not positive": (lambda: Preconditioned(Langevin(), torch.tensor([1.0, 0.0])), "must be positive, got 0"),
    "not square": (lambda: Preconditioned(Langevin(), matrix=torch.ones(2, 3)), r"shape \(d, d\), got \(2, 3\)"),
    "not symmetric": (lambda: Preconditioned(Langevin(), matrix=ROOT), "must be symmetric"),
    "indefinite": (
        lambda: Preconditioned(Langevin(), matrix=torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
        "positive definite, its smallest eigenvalue is -1",
    ),
    "a level per entry": (lambda: _run(Preconditioned(Langevin(), matrix=DENSE), factor=[1.0, 2.0]), "one per entry"),
    "too small": (lambda: _run(Preconditioned(Langevin(), matrix=torch.eye(3))), "a sample has 2 entries"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name):
    make, told = BAD[name]
    with pytest.raises(ValueError, match=told):
        make()
