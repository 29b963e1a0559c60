import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import torch

from lanpaint import Drift
from lanpaint.dynamics.oscillator import OrnsteinUhlenbeck, Oscillator

GAMMA_TAU = [1e-6, 1e-4, 1e-2, 0.1, 0.5, 1.0, 2.9, 3.1, 10.0, 33.75, 100.0, 1e3, 1e4]
DELTA = [-1e4, -300.0, -1.0, -0.1, -1e-9, 0.0, 1e-9, 1e-3, 0.2, 0.249, 0.251, 0.9, 1 - 4 / 225, 1 - 1e-9, 1.0]
NAMES = ("position_momentum", "position_force", "momentum_momentum", "momentum_force", "xx", "xq", "qq")


def reference(gamma: float, damping: float, tau: float) -> dict[str, mp.mpf]:
    """Mean map and covariance by matrix exponentials in high precision, from the numbers as they are."""
    h = gamma * tau / 2
    mp.mp.dps = int(min(340, 40 + 0.6 * h))
    gamma, damping, tau = mp.mpf(gamma), mp.mpf(damping), mp.mpf(tau)
    # z = (x, q, f) with f the constant force C at x = 0
    mean = mp.expm(mp.matrix([[0, 1, 0], [-gamma * damping, -gamma, gamma], [0, 0, 0]]) * tau, method="taylor")
    # d/dτ of (Σxx, Σxq, Σqq, 1)
    lyapunov = mp.matrix(
        [
            [0, 2, 0, 0],
            [-gamma * damping, -gamma, 1, 0],
            [0, -2 * gamma * damping, -2 * gamma, 2 * gamma**2],
            [0, 0, 0, 0],
        ]
    )
    cov = mp.expm(lyapunov * tau, method="taylor")
    return {
        "position_momentum": mean[0, 1],
        "position_force": mean[0, 2],
        "momentum_momentum": mean[1, 1],
        "momentum_force": mean[1, 2],
        "xx": cov[0, 3],
        "xq": cov[1, 3],
        "qq": cov[2, 3],
    }


def envelope(gamma: float, damping: float, tau: float, exact: dict[str, mp.mpf]) -> dict[str, mp.mpf]:
    """A bound on each entry that does not cross zero where the entry does.

    Entries that never cross zero are their own envelope.
    """
    h, kappa = mp.mpf(gamma) * tau / 2, 4 * mp.mpf(damping) / gamma
    delta = 1 - kappa
    omega = h * mp.sqrt(abs(delta))
    decay = mp.exp(-h if delta < 0 else -h * kappa / (1 + mp.sqrt(delta)))
    bounds = dict(exact)
    if delta >= 0.25:  # the absolute values of the two exponentials in G'
        root = mp.sqrt(delta)
        bounds["momentum_momentum"] = decay / (2 * root) * (mp.exp(-2 * omega) * (1 + root) + kappa / (1 + root))
    elif delta >= 0:  # cosh and sinh parts
        sinhc = mp.sinh(omega) / omega if omega else mp.mpf(1)
        bounds["momentum_momentum"] = mp.exp(-h) * (mp.cosh(omega) + h * sinhc)
    else:
        sine = decay * min(1, 1 / omega)
        bounds["position_momentum"] = tau * sine
        bounds["momentum_force"] = 2 * h * sine
        bounds["momentum_momentum"] = decay + h * sine
        bounds["position_force"] = 2 * h * tau * min(mp.mpf(1) / 2, 1 / (h**2 * kappa))
        bounds["xq"] = (mp.mpf(gamma) * tau * sine) ** 2
    return bounds


def computed(gamma: torch.Tensor, damping: torch.Tensor, tau: torch.Tensor, dtype: torch.dtype) -> dict[str, float]:
    drift = Drift(lambda x: x, 1.0, 1.0)
    o = Oscillator.solve(gamma, damping, tau).broadcast(drift, torch.zeros(1, dtype=dtype))
    l11, l21, l22 = o.position_noise, o.momentum_shared_noise, o.momentum_noise
    return {
        "position_momentum": float(o.position_momentum),
        "position_force": float(o.position_force),
        "momentum_momentum": float(o.momentum_momentum),
        "momentum_force": float(o.momentum_force),
        "xx": float(l11) ** 2,
        "xq": float(l11) * float(l21),
        "qq": float(l21) ** 2 + float(l22) ** 2,
    }


@pytest.mark.parametrize("gamma_tau", GAMMA_TAU)
@pytest.mark.parametrize(("dtype", "bound", "floor"), [(torch.float64, 1e-10, 1e-250), (torch.float32, 1e-4, 1e-30)])
def test_mean_and_covariance_agree_with_high_precision_matrix_exponentials(gamma_tau, dtype, bound, floor):
    worst = {}
    for delta, tau in itertools.product(DELTA, (1.0, 0.02)):
        gamma = torch.tensor(gamma_tau / tau, dtype=dtype)
        damping, time = gamma * (1 - delta) / 4, torch.tensor(tau, dtype=dtype)
        numbers = [float(t) for t in (gamma, damping, time)]
        exact = reference(*numbers)
        bounds = envelope(*numbers, exact)
        ours = computed(gamma, damping, time, dtype)
        for name in NAMES:
            error = abs(mp.mpf(ours[name]) - exact[name]) / max(bounds[name], mp.mpf(floor))
            worst[name] = max(worst.get(name, (0.0,)), (float(error), delta, tau))
    assert all(entry[0] <= bound for entry in worst.values()), worst


def test_covariance_is_positive_semidefinite_everywhere():
    rng = np.random.default_rng(0)
    gamma_tau = torch.from_numpy(10 ** rng.uniform(-6, 4, 20_000))
    delta = torch.from_numpy(
        np.where(rng.random(20_000) < 0.5, rng.uniform(-2, 1, 20_000), -(10 ** rng.uniform(-9, 4, 20_000)))
    )
    o = Oscillator.solve(gamma_tau, gamma_tau * (1 - delta) / 4, torch.ones_like(delta))
    for factor in (o.position_noise, o.momentum_shared_noise, o.momentum_noise):
        assert bool(torch.isfinite(factor).all())
    assert bool((o.position_noise > 0).all())
    assert bool((o.momentum_noise >= 0).all())
    # The factor is real, so Σ is semidefinite; that its corner is the true one shows that nothing had to be clamped.
    stationary = 2 * gamma_tau > 80  # (Γτ > 40: fully relaxed where the slow rate is not small)
    relaxed = stationary & (delta < 0)
    assert torch.allclose((o.momentum_shared_noise**2 + o.momentum_noise**2)[relaxed], gamma_tau[relaxed], rtol=1e-9)


@pytest.mark.parametrize("tau", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0, 1e3])
def test_extreme_times_are_ordinary_inputs(tau, damping):
    o = Oscillator.solve(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, damping, tau)))
    assert all(math.isfinite(float(getattr(o, n))) for n in o.__dataclass_fields__)
    if tau == 0.0:
        assert float(o.momentum_momentum) == 1.0
        assert float(o.position_noise) == float(o.position_force) == float(o.momentum_noise) == 0.0
    if tau == 1e12 and damping > 0:  # forgotten: x' ~ N(C/A, 1/A), q' ~ N(0, Γ)
        assert float(o.position_force) == pytest.approx(1 / damping, rel=1e-12)
        assert float(o.position_noise) ** 2 == pytest.approx(1 / damping, rel=1e-12)
        assert float(o.momentum_noise) ** 2 == pytest.approx(1.0, rel=1e-12)
        assert abs(float(o.position_momentum)) < 1e-100


def test_ornstein_uhlenbeck_is_the_limit_of_infinite_friction():
    damping, time = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    limit = OrnsteinUhlenbeck.solve(damping, time)
    # closed form of Eq. 110's solution, by mpmath
    for i, a in enumerate(damping.tolist()):
        assert float(limit.position_force[i]) == pytest.approx(float((1 - mp.exp(-a * mp.mpf(0.7))) / a), rel=1e-14)
        variance = float((1 - mp.exp(-2 * a * mp.mpf(0.7))) / a)
        assert float(limit.position_noise[i]) ** 2 == pytest.approx(variance, rel=1e-14)
    errors = []
    for friction in (1e4, 1e6, 1e8):
        o = Oscillator.solve(torch.tensor(friction), damping, time)
        errors.append(float((o.position_force - limit.position_force).abs().max()))
        assert torch.allclose(o.position_noise**2, limit.position_noise**2, rtol=20 / friction)
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.05)  # first order in 1/Γ
    assert errors[2] == pytest.approx(errors[1] / 100, rel=0.05)


def test_ornstein_uhlenbeck_without_damping_is_brownian_motion_with_drift():
    o = OrnsteinUhlenbeck.solve(torch.tensor(0.0), torch.tensor(0.3, dtype=torch.float64))
    assert float(o.position_force) == pytest.approx(0.3)
    assert float(o.position_noise) == pytest.approx(math.sqrt(0.6))


def test_two_half_times_are_one_whole_time():
    """The exact solution is a semigroup: mean maps multiply, covariances add up."""
    gamma, damping, tau = 3.0, torch.tensor([0.2, 0.75, 5.0, 200.0], dtype=torch.float64), 0.8

    def blocks(time):
        o = Oscillator.solve(torch.tensor(gamma, dtype=torch.float64), damping, torch.tensor(time, dtype=torch.float64))
        rows = [
            torch.stack([1 - damping * o.position_force, o.position_momentum], -1),
            torch.stack([-damping * o.momentum_force, o.momentum_momentum], -1),
        ]
        zero = torch.zeros_like(damping)
        factor = torch.stack(
            [torch.stack([o.position_noise, zero], -1), torch.stack([o.momentum_shared_noise, o.momentum_noise], -1)],
            -2,
        )
        return torch.stack(rows, -2), factor @ factor.mT

    half_map, half_cov = blocks(tau / 2)
    whole_map, whole_cov = blocks(tau)
    assert torch.allclose(half_map @ half_map, whole_map, rtol=0, atol=1e-13)
    assert torch.allclose(half_map @ half_cov @ half_map.mT + half_cov, whole_cov, rtol=1e-12, atol=1e-13)
