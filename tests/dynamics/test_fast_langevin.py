import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lanpaint import HFHR, Drift, FastLangevin
from lanpaint.verification import ScriptedNoise, affine_step, gaussian_drift, measured_order, settled, zero_noise

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -1.0], dtype=torch.float64)
COV = np.linalg.inv(PRECISION.numpy())
FRICTIONS = [0.5, 1.999, 2.0, 5.0, 15.0]


def covariance(dynamics, damping, step):
    return affine_step(dynamics, gaussian_drift(PRECISION, MEAN, damping, step), 2).stationary_covariance()


def bias(dynamics, damping, steps):
    """Largest errors of the stationary covariance: of the position, and of (position, momentum) in their own units."""
    position, joint = [], []
    for step in steps:
        cov = covariance(dynamics, damping, step)
        position.append(np.abs(cov[:2, :2] - COV).max())
        if not math.isinf(dynamics.friction):
            scale = np.array([1, 1] + [dynamics.friction * math.sqrt(damping)] * 2)
            exact = np.block([[COV, np.zeros((2, 2))], [np.zeros((2, 2)), np.eye(2)]])
            joint.append(np.abs(cov[:4, :4] / np.outer(scale, scale) - exact).max())
    return position, joint


def small_steps(friction):
    """Γ dτ is what has to be small; four halvings."""
    return [0.2 / max(1.0, friction**2) / 2**k for k in range(5)]


@pytest.mark.parametrize("damping", [0.7, 3.0])
@pytest.mark.parametrize("friction", FRICTIONS)
def test_first_order_bias_halves_when_step_halves(friction, damping):
    steps = small_steps(friction)
    position, joint = bias(FastLangevin(friction, order=1), damping, steps)
    assert measured_order(position, steps) == pytest.approx(1, abs=0.1)
    assert measured_order(joint, steps) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("damping", [0.7, 3.0])
@pytest.mark.parametrize("friction", FRICTIONS)
def test_second_order_bias_shrinks_fourfold_when_step_halves(friction, damping):
    """Order 2 in the joint law of (x, q); the position alone does better (3 is what comes out on a Gaussian)."""
    steps = small_steps(friction)
    position, joint = bias(FastLangevin(friction, order=2), damping, steps)
    assert measured_order(joint, steps) == pytest.approx(2, abs=0.15)
    assert measured_order(position, steps) > 2.7


@pytest.mark.parametrize("damping", [0.7, 3.0])
@pytest.mark.parametrize("order", [1, 2])
def test_overdamped_limit_has_the_order_of_its_scheme(order, damping):
    steps = [0.05 / 2**k for k in range(5)]
    position, _ = bias(FastLangevin(math.inf, order), damping, steps)
    assert measured_order(position, steps) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("friction", [*FRICTIONS, math.inf])
def test_exact_at_any_step_when_the_damping_is_the_precision(friction, order):
    """Eq. 121: C is then constant, and the oscillator is solved exactly: any dτ leaves p(x) N(q; 0, Γ) invariant."""
    precision = 1.7 * torch.eye(2, dtype=torch.float64)
    for step in (1e-3, 0.3, 10.0):
        one = affine_step(FastLangevin(friction, order), gaussian_drift(precision, MEAN, 1.7, step), 2)
        cov = one.stationary_covariance()
        assert np.allclose(cov[:2, :2], np.eye(2) / 1.7, rtol=1e-9, atol=1e-9)
        assert np.allclose(one.stationary_mean()[:2], MEAN.numpy(), atol=1e-9)
        if not math.isinf(friction):
            assert np.allclose(cov[2:4, 2:4], friction**2 * 1.7 * np.eye(2), rtol=1e-9, atol=1e-9)
            assert np.allclose(cov[:2, 2:4], 0, atol=1e-8 * friction)


@pytest.mark.parametrize("friction", [0.5, 15.0, math.inf])
def test_the_stationary_mean_is_exact_at_any_step(friction):
    for step in (0.01, 0.3):
        one = affine_step(FastLangevin(friction), gaussian_drift(PRECISION, MEAN, 1.0, step), 2)
        assert np.allclose(one.stationary_mean()[:2], MEAN.numpy(), atol=1e-10)


def test_huge_friction_is_the_overdamped_limit():
    maps = {}
    for friction in (1e2, 1e3, math.inf):
        one = affine_step(FastLangevin(friction), gaussian_drift(PRECISION, MEAN, 1.3, 0.2), 2)
        maps[friction] = one.stationary_covariance()[:2, :2]
    far, near = (np.abs(maps[f] - maps[math.inf]).max() for f in (1e2, 1e3))
    assert near < 1e-5
    assert far / near == pytest.approx(100, rel=0.2)  # first order in 1/Γ = 1/(γ² A)


def test_the_overdamped_limit_draws_fewer_random_numbers():
    counts = {}
    for friction, order in itertools.product((15.0, math.inf), (1, 2)):
        dynamics, drift = FastLangevin(friction, order), gaussian_drift(PRECISION, MEAN, 1.0, 0.1)
        state, counter = settled(dynamics, torch.zeros(1, 2, dtype=torch.float64), drift), ScriptedNoise()
        dynamics.step(state, drift, counter)
        counts[friction, order] = len(counter.shapes)
    assert counts == {(15.0, 1): 2, (15.0, 2): 3, (math.inf, 1): 1, (math.inf, 2): 2}


def test_one_evaluation_a_step():
    calls = []
    drift = Drift(lambda x: calls.append(1) or -x, 1.0, 0.1)
    dynamics = FastLangevin()
    state = dynamics.init(torch.zeros(1, 2), drift, zero_noise)
    assert not calls
    for count in (1, 2, 3):
        state = dynamics.step(state, drift, zero_noise)
        assert len(calls) == count


def test_momentum_starts_from_its_stationary_law():
    """Alg. 1: N(0, Γ) with Γ = γ² A, region by region."""
    drift = Drift(lambda x: -x, torch.tensor([4.0, 9.0]), torch.tensor([0.1, 0.1]), torch.tensor([[False, True]]))
    state = FastLangevin(friction=3.0).init(torch.zeros(1, 2, dtype=torch.float64), drift, torch.ones_like)
    assert torch.allclose(state.momentum, torch.tensor([[6.0, 9.0]], dtype=torch.float64))


def test_the_second_half_step_uses_the_old_constant():
    """Alg. 3 by hand: with the new C in the second half the result would differ by half the kick."""
    dynamics, drift = FastLangevin(friction=1.0), Drift(lambda x: -2.0 * x, 0.5, 0.4)
    x, q, old = (torch.tensor([[v]], dtype=torch.float64) for v in (1.0, 0.3, 5.0))
    damping = 0.5
    state = replace(settled(dynamics, x, drift), x=x, momentum=q, centre=old / damping)
    a = dynamics.solve(torch.tensor(damping), torch.tensor(0.2))

    def half(x, q):
        f = old - damping * x
        return x + a.position_momentum * q + a.position_force * f, a.momentum_momentum * q + a.momentum_force * f

    middle, rate = half(x, q)
    new = -2.0 * middle + damping * middle
    end, rate = half(middle, rate + 0.5 * (new - old) * 0.4)  # Γ = γ² A = 0.5
    out = dynamics.step(state, drift, zero_noise)
    assert torch.allclose(out.x, end, atol=1e-14)
    assert torch.allclose(out.momentum, rate, atol=1e-14)
    assert torch.allclose(damping * out.centre, new, atol=1e-14)


@pytest.mark.parametrize(
    "dynamics",
    [FastLangevin(1.0), FastLangevin(15.0), FastLangevin(math.inf), HFHR(2.0, psi=1.7)],
    ids=["γ = 1", "γ = 15", "γ = ∞", "HFHR"],
)
def test_a_strang_step_is_half_a_solution_a_kick_and_half_a_solution(dynamics):
    """Map and noise of Alg. 3, composed here from those of the exact solution over half the time."""
    damping, time = torch.tensor(1.3, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    psi, inert = getattr(dynamics, "psi", 1.0), not math.isinf(dynamics.friction)

    def half(z, noise):  # z = (x, q, C₀, C)
        x, q, old, _ = z
        x, q = dynamics.solve(damping, time / 2).advance(x, q if inert else None, old - damping * x, noise)
        return x, q if inert else torch.zeros_like(x), old, z[3]

    def by_hand(z, noise):
        x, q, old, new = half(z, noise)
        change = (new - old) * time
        x = x + ((1 - 1 / psi) * change if inert else change)
        q = q + (dynamics.friction**2 * damping * change / psi if inert else 0)
        return half((x, q, old, new), noise)[:2]

    def ours(z, noise):
        strang, (x, q, old, new) = dynamics.solve_strang(damping, time), z
        middle, handed = strang.first(x, q if inert else None, old / damping, noise)
        x, q, centre = strang.second(middle, handed, old / damping, new - damping * middle, noise)  # s = C − A x
        assert torch.allclose(centre, new / damping, atol=1e-14)
        return x, q if inert else torch.zeros_like(x)

    unit = torch.eye(4, dtype=torch.float64)
    maps, covariances = [], []
    for step in (by_hand, ours):
        maps.append(torch.stack(step(tuple(unit), zero_noise)))
        counter = ScriptedNoise()
        step(tuple(torch.zeros(4, 1, dtype=torch.float64)), counter)
        columns = []
        for draw in range(len(counter.shapes)):
            z = tuple(torch.zeros(4, 1, dtype=torch.float64))
            columns.append(torch.stack(step(z, ScriptedNoise(draw, torch.ones(1, dtype=torch.float64)))))
        noise = torch.cat(columns, dim=1)
        covariances.append(noise @ noise.mT)
    assert torch.allclose(*maps, atol=1e-13)
    assert torch.allclose(*covariances, rtol=1e-12, atol=1e-13)


def test_regions_do_not_see_each_other():
    """Two regions in one state step as two states would, each with its own A and dτ."""
    known = torch.tensor([[False, True]])
    damping, step = torch.tensor([1.0, 9.0]), torch.tensor([0.2, 0.05])
    joint = affine_step(FastLangevin(3.0), Drift(lambda x: -1.5 * x, damping, step, known), 2)
    for i in range(2):
        alone = affine_step(FastLangevin(3.0), Drift(lambda x: -1.5 * x, float(damping[i]), float(step[i])), 1)
        assert np.allclose(joint.linear[i::2, i::2], alone.linear, atol=1e-14)
        assert np.allclose(joint.linear[i::2, 1 - i :: 2], 0)
        noise = joint.noise @ joint.noise.T
        assert np.allclose(noise[i::2, i::2], alone.noise @ alone.noise.T, atol=1e-14)


def test_states_are_immutable_and_steps_do_not_write_to_them():
    dynamics, drift = FastLangevin(), Drift(lambda x: -x, 1.0, 0.1)
    state = settled(dynamics, torch.ones(2, 3), drift)
    before = {n: getattr(state, n).clone() for n in ("x", "momentum", "centre")}
    dynamics.step(state, drift, torch.ones_like)
    assert all(torch.equal(before[n], getattr(state, n)) for n in before)
    with pytest.raises(AttributeError):
        state.x = torch.zeros(2, 3)


@pytest.mark.parametrize("friction", [0.0, -1.0, math.nan])
def test_a_friction_that_is_not_positive_is_refused(friction):
    with pytest.raises(ValueError, match=r"friction \(γ\) must be positive"):
        FastLangevin(friction)


def test_an_order_other_than_one_and_two_is_refused():
    with pytest.raises(ValueError, match="order must be 1"):
        FastLangevin(order=3)
