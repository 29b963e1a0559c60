"""The random walks of AsyncPatch's bound: density, transition probabilities and fluid limit (App. B of the paper)."""

import pytest
import torch

from lanpaint import walks

DOUBLE = torch.float64


def _grid(tokens, low, high, step):
    line = torch.arange(low, high, step, dtype=DOUBLE).exp()
    return torch.stack(torch.meshgrid(*[line] * tokens, indexing="ij"), -1).reshape(-1, tokens)


@pytest.mark.parametrize(("tokens", "step"), [(1, 0.1), (2, 0.25), (3, 0.6)])
def test_the_density_of_times_integrates_to_the_number_of_tokens(tokens, step):
    """∫ q dt = N, by the trapezoidal rule in log h; dt = e^(−h) dh."""
    h = _grid(tokens, -34, 34, step)
    integral = (walks.log_density(h) - h.sum(-1) + h.log().sum(-1)).exp().sum() * step**tokens
    assert float(integral) == pytest.approx(tokens, rel=1e-5)


def test_the_density_is_equation_33():
    t = torch.tensor([[0.3, 0.8, 0.5], [0.01, 0.2, 0.99]], dtype=DOUBLE)
    left = 1 - t
    h = -left.log()
    expected = 2 * (left * h).sum(1) / (left.prod(1) * h.sum(1) ** 3)  # (N − 1)! = 2
    assert torch.allclose(walks.log_density(h).exp(), expected, rtol=1e-12)
    probabilities = left * h / (left * h).sum(1, keepdim=True)  # Eq. 29
    assert torch.allclose(walks.transition_probabilities(h), probabilities, rtol=1e-12)


def test_transition_probabilities_on_the_curve_do_not_know_the_weights():
    """Eq. 14 on the curve is Eq. 29, for any weights."""
    weights, clock = torch.tensor([[0.2, 1.5, 3.0], [1.0, 1.0, 1.0]], dtype=DOUBLE), torch.tensor(0.7, dtype=DOUBLE)
    times, _ = walks.fluid_limit(weights, clock)
    chance = weights * (1 - times)
    expected = chance / chance.sum(1, keepdim=True)
    assert torch.allclose(walks.transition_probabilities(-torch.log1p(-times)), expected, rtol=1e-12)


@pytest.mark.parametrize("tokens", [2, 3])
def test_walks_approach_the_curve_as_the_grid_becomes_finer(tokens):
    """The largest distance from the curve falls as K^(−1/2); Eq. 28 gives the physical time of a point."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, 1.0, 2.5], dtype=DOUBLE)[:tokens].expand(200, tokens)
    clock = torch.linspace(-6, 6, 4000, dtype=DOUBLE).exp()
    times, physical = walks.fluid_limit(weights[:1], clock)
    distances = []
    for resolution in (25, 100, 400):
        walk = walks.simulate(weights, resolution, generator)
        assert bool((walk.diff(dim=0) >= 0).all())
        assert torch.equal(walk[-1], torch.ones_like(walk[-1]))
        at = torch.searchsorted(physical, torch.arange(len(walk), dtype=DOUBLE) / resolution).clamp(max=len(clock) - 1)
        distances.append(float((walk - times[at][:, None]).abs().amax((0, 2)).mean()))
    assert distances[0] / distances[1] == pytest.approx(2, abs=0.3)
    assert distances[1] / distances[2] == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("tokens", [2, 3])
def test_the_places_that_walks_pass_have_the_density(tokens):
    """Means over time of walks with random weights are integrals against q, within the error of both."""
    generator = torch.Generator().manual_seed(1)
    count, resolution = 4000, 48
    weights = -torch.log(torch.rand(count, tokens, generator=generator, dtype=DOUBLE))
    walk = walks.simulate(weights, resolution, generator)
    middle = (walk[1:] + walk[:-1]) / 2
    step = 0.2 if tokens == 2 else 0.5
    h = _grid(tokens, -26, 12, step)
    mass = (walks.log_density(h) - h.sum(-1) + h.log().sum(-1)).exp() * step**tokens
    functions = (
        lambda t: t[..., 0] * t[..., 1],
        lambda t: (t[..., 0] - t[..., 1]) ** 2,
        lambda t: torch.exp(-3 * t.sum(-1)),
    )
    for function in functions:
        passed = function(middle).sum(0) / resolution
        expected = float((function(-torch.expm1(-h)) * mass).sum())
        error = float(passed.std()) / count**0.5
        assert abs(float(passed.mean()) - expected) < 4 * error + 0.02 / resolution * tokens, function


def test_directions_are_uniform_on_the_simplex():
    omega = walks.directions(20_000, 3, torch.Generator().manual_seed(0))
    assert torch.allclose(omega.sum(1), torch.ones(20_000, dtype=DOUBLE))
    bound = 5 / 20_000**0.5
    assert omega.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=bound)
    assert omega.square().mean(0).tolist() == pytest.approx([1 / 6] * 3, abs=bound)
