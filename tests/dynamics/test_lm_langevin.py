"""LML as a dynamics: which law each form keeps, by quadrature over the law and the random numbers of one step."""

import itertools
import math

import numpy as np
import pytest
import torch

import lanpaint as lp

DOUBLE = torch.float64
NODES, WEIGHTS = (torch.tensor(part) for part in np.polynomial.hermite_e.hermegauss(16))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def gaussian(step, precision=1.0, damping=1.0):
    matrix = torch.as_tensor(precision, dtype=DOUBLE)
    return lp.Drift(lambda x: -(x @ matrix if matrix.ndim else x * matrix), damping, step)


def grid(dim):
    """Nodes (n, dim) and weights (n,) of N(0, I) in ``dim`` dimensions."""
    nodes = torch.cartesian_prod(*[NODES] * dim).view(-1, dim)
    return nodes, torch.stack([part.prod() for part in torch.cartesian_prod(*[WEIGHTS] * dim).view(-1, dim)])


def change(dynamics, drift, starts, function):
    """E[f(x')] − f(x) at each start (n, d), exact in the random numbers of the step."""
    noise, weights = grid(starts.shape[1])
    x = starts.repeat_interleave(len(noise), 0)
    drawn = noise.repeat(len(starts), 1)
    state = dynamics.step(dynamics.init(x, drift, lambda like: drawn), drift, lambda like: drawn)
    return (function(state.x).view(len(starts), -1) @ weights) - function(starts)


def radius(x):
    return x.square().sum(1)


def radial(dim, narrow, density):
    """Starts on an axis, and weights of the radial law ``density(r)`` exp(−½ ``narrow`` r²) in ``dim`` dimensions."""
    r = (torch.arange(150, dtype=DOUBLE) + 0.5) * 10 / 150 / math.sqrt(narrow)
    weights = r ** (dim - 1) * density(r) * torch.exp(-0.5 * narrow * r**2)
    starts = torch.zeros(len(r), dim, dtype=DOUBLE)
    starts[:, 0] = r
    return starts, weights / weights.sum()


@pytest.mark.parametrize(("dim", "damping"), [(1, 0.5), (1, 3.0), (2, 0.8), (2, 2.0)])
@pytest.mark.parametrize("power", [1, 2])
def test_the_printed_form_keeps_the_law_that_its_docstring_names_and_not_p(dim, damping, power):
    """Per unit of time, the moments r² and r⁴ change by O(dτ) in that law, and by a number in N(0, I)."""
    dynamics, strength = lp.LMLangevin(damping, "printed"), dim * damping
    laws = radial(dim, 1 - (dim - 1) / strength, lambda r: strength + r**2), radial(dim, 1.0, torch.ones_like)
    rates = {
        step: [
            float(change(dynamics, gaussian(step), starts, lambda x: radius(x) ** power) @ weights) / step
            for starts, weights in laws
        ]
        for step in (0.02, 0.01)
    }
    assert rates[0.01][0] == pytest.approx(rates[0.02][0] / 2, rel=0.1, abs=1e-6)
    assert rates[0.01][1] > 0.1
    assert abs(rates[0.01][1] - rates[0.02][1]) < 0.1 * rates[0.01][1]


@pytest.mark.parametrize("damping", [0.6, 1.0, 5.0])
def test_the_corrected_form_keeps_p_to_first_order_on_any_gaussian(damping):
    """All second moments of a Gaussian whose axes are not the coordinate axes."""
    precision = torch.tensor([[1.6, 0.5], [0.5, 0.7]], dtype=DOUBLE)
    root = torch.linalg.cholesky(torch.linalg.inv(precision))
    nodes, weights = grid(2)
    keep = weights > 1e-7
    starts, weights = nodes[keep] @ root.mT, weights[keep] / weights[keep].sum()
    rates = []
    for step in (0.01, 0.005):
        drift = gaussian(step, precision, 1.3)
        moments = (lambda x: x[:, 0] ** 2, lambda x: x[:, 0] * x[:, 1], lambda x: x[:, 1] ** 2)
        rates.append([float(change(lp.LMLangevin(damping), drift, starts, each) @ weights) / step for each in moments])
    for coarse, fine in zip(*rates, strict=True):
        assert abs(fine) < 0.6 * abs(coarse) + 1e-3
        assert abs(fine) < 0.02


def test_below_a_damping_of_d_minus_1_the_printed_form_runs_away_and_the_corrected_form_stays():
    sizes = {}
    for form in ("printed", "corrected"):
        generator = torch.Generator().manual_seed(0)
        noise = lp.NormalNoise(generator)
        x, drift = torch.randn(500, 8, generator=generator, dtype=DOUBLE), gaussian(0.05)
        dynamics = lp.LMLangevin(0.5, form)
        state = dynamics.init(x, drift, noise)
        seen = []
        for _ in range(4):
            for _ in range(60):
                state = dynamics.step(state, drift, noise)
            seen.append(float(state.x.square().mean()))
        sizes[form] = seen
    assert all(after > before + 1 for before, after in itertools.pairwise(sizes["printed"]))
    assert all(abs(size - 1) < 0.15 for size in sizes["corrected"])


@pytest.mark.parametrize("exponent", [1.0, 0.5, -0.5])
def test_a_power_of_d_is_that_of_the_dense_matrix(exponent):
    generator = torch.Generator().manual_seed(0)
    direction, vector = torch.randn(2, 3, 2, 2, generator=generator, dtype=DOUBLE).unbind()
    found = lp.LMLangevin(0.7).power(exponent, direction, vector)
    for v, w, got in zip(direction.flatten(1), vector.flatten(1), found.flatten(1), strict=True):
        values, vectors = torch.linalg.eigh(torch.linalg.inv(torch.outer(v, v) / 2.8 + torch.eye(4)))
        assert torch.allclose(got, vectors @ (values**exponent * (vectors.mT @ w)))
    still = torch.zeros_like(direction)
    assert torch.equal(lp.LMLangevin(0.7).power(exponent, still, vector), vector)


@pytest.mark.parametrize("form", ["printed", "corrected"])
def test_a_large_damping_is_langevin_and_a_scale_of_x_changes_nothing(form):
    generator = torch.Generator().manual_seed(0)
    x, fresh = torch.randn(2, 5, 3, generator=generator, dtype=DOUBLE).unbind()
    drift = gaussian(0.1)
    plain, damped = (
        each.step(each.init(x, drift, lambda like: fresh), drift, lambda like: fresh).x
        for each in (lp.Langevin(), lp.LMLangevin(1e9, form))
    )
    assert torch.allclose(plain, damped, atol=1e-8)
    dynamics, wide = lp.LMLangevin(0.5, form), gaussian(0.1 * 49, 1 / 49, 1 / 49)
    near = dynamics.step(dynamics.init(x, drift, lambda like: fresh), drift, lambda like: fresh).x
    far = dynamics.step(dynamics.init(7 * x, wide, lambda like: fresh), wide, lambda like: fresh).x
    assert torch.allclose(far, 7 * near)


def test_verify_sees_that_the_printed_form_samples_another_law():
    report = lp.verify(lp.LMLangevin(form="printed"))
    assert any("does not leave p(x) invariant" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"damping": 0.0}, r"damping \(λ\) must be a positive finite number, got 0.0"),
        ({"form": "mirror"}, "unknown form 'mirror'; expected one of corrected, printed"),
    ],
)
def test_bad_settings_are_told_in_one_line(options, told):
    with pytest.raises(ValueError, match=told):
        lp.LMLangevin(**options)
