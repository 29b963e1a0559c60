"""MGPS and MGDM: the bridge, the fit against the exact product, the law of R, and the invariance of a Gibbs sweep."""

import itertools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers import MGDM, MGPS
from lanpaint.samplers.midpoint import CLEAN, bridge
from tests.samplers.affine import DOUBLE, BasisNoise, denoiser
from tests.samplers.reference_problem import COV, KNOWN, TARGET, VALUES, assert_row, end, levels

EYE = torch.eye(2, dtype=DOUBLE)
LEVELS = [lp.NoiseLevel(0.95, 0.2), lp.NoiseLevel(0.8, 0.7), lp.NoiseLevel(0.5, 1.3)]


def product(mean, variance, level, values, noise):
    """Mean (B, 2) and covariance (2, 2) of N(mean, variance I) N(y; A x̂₀(x), s²), with x̂₀ affine on R."""
    gain, offset = denoiser(TARGET, level)
    row = gain[1:]
    precision = EYE / variance + row.mT @ row / noise**2
    covariance = torch.linalg.inv(precision)
    pull = mean / variance + (values[..., 1:] - offset[1]) @ row / noise**2
    return pull @ covariance, covariance


class Exact:
    """The exact product in place of the fit."""

    def draw_fit(self, mean, variance, level, observation, noise):
        observation = observation.whole
        centre, covariance = product(mean, variance, level, observation.values, observation.noise)
        return centre + noise(mean) @ torch.linalg.cholesky(covariance).mT


class ExactMGPS(Exact, MGPS):
    pass


def test_the_law_of_mgps_with_the_exact_product_at_the_end_of_problem_r_is_the_published_one():
    assert_row(ExactMGPS, 20, (0.75142, 0.99986, 0.31792, 0.00010), noise=0.01)
    assert_row(ExactMGPS, 200, (0.76319, 0.99994, 0.38543, 0.00025), noise=0.01)


def test_the_law_of_mgps_is_the_same_in_every_coordinates():
    reference = end(ExactMGPS, 20, noise=0.01)
    for formalism in ("ve", "flow"):
        assert torch.allclose(end(ExactMGPS, 20, noise=0.01, formalism=formalism), reference, rtol=0, atol=1e-10)


def test_a_bridge_and_the_state_at_its_end_compose_to_the_forward_process():
    """x₂ of the bridge with x₃ drawn from x₁ has the mean and variance of the forward step from x₁ to x₂."""
    first, middle, last = LEVELS
    ratio = float(last.alpha / first.alpha)
    spread = float(last.sigma**2 - (ratio * first.sigma) ** 2)
    zero, one = torch.zeros(1, 1, dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE)
    of_first = float(bridge(first, middle, last, one, zero)[0])
    of_last = float(bridge(first, middle, last, zero, one)[0])
    variance = float(bridge(first, middle, last, one, one)[1])
    step = float(middle.alpha / first.alpha)
    assert of_first + of_last * ratio == pytest.approx(step, abs=1e-12)
    assert variance + of_last**2 * spread == pytest.approx(float(middle.sigma**2) - (step * 0.2) ** 2, abs=1e-12)


def test_a_bridge_ends_at_its_ends():
    x, y = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    for at, expected in ((LEVELS[0], x), (LEVELS[2], y)):
        mean, variance = bridge(LEVELS[0], at, LEVELS[2], x, y)
        assert torch.allclose(mean, expected)
        assert abs(float(variance)) < 1e-15
    assert torch.equal(bridge(CLEAN, CLEAN, CLEAN, x, y)[0], x)


def test_the_optimum_of_the_fit_is_the_mean_of_the_product_and_one_over_the_diagonal_of_its_precision():
    """Drawn with ξ = ±1 in turn on both entries, whose average gradient is exact for a linear x̂₀ on each entry."""
    level, variance, noise = LEVELS[1], torch.tensor(0.3, dtype=DOUBLE), 0.5
    mean = torch.tensor([[0.3, -0.4]], dtype=DOUBLE).expand(4000, 2)
    sampler = MGPS(TARGET, inner_steps=400, step_size=0.01, levels=levels(4))
    observation = lp.Observation(VALUES.expand(4000, 2), KNOWN, noise=noise)
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.draw_fit(mean, variance, level, observation, lp.NormalNoise(generator))
    centre, covariance = product(mean[:1], variance, level, VALUES[None], noise)
    narrow = 1 / torch.linalg.inv(covariance).diagonal()
    error = (narrow / 4000).sqrt()
    assert bool(((drawn.mean(0) - centre[0]).abs() < 4 * error + 0.01).all())
    assert torch.allclose(drawn.var(0), narrow, rtol=0.12)


@pytest.mark.parametrize("guided", [True, False])
def test_a_sweep_of_mgdm_with_exact_parts_keeps_the_joint_law(guided):
    """π(x₀, x_s, x_t) ∝ p(x₀) q(x_s | x₀) q(x_t | x_s) N(y; A x̂₀(x_s), s²), exactly, mean and covariance."""
    grid = levels(6)
    number, level, noise = 3, levels(6)[1], 0.4 if guided else 1e6
    at = grid[number]
    gain, offset = denoiser(TARGET, at)
    ahead, back = float(at.alpha), float(level.alpha / at.alpha)
    spread = float(level.sigma**2) - (back * float(at.sigma)) ** 2
    s_cov = ahead**2 * COV + float(at.sigma**2) * EYE
    joint = torch.zeros(6, 6, dtype=DOUBLE)
    blocks = [[COV, ahead * COV, ahead * back * COV], [None, s_cov, back * s_cov], [None, None, None]]
    blocks[2][2] = back**2 * s_cov + spread * EYE
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        joint[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = blocks[i][j]
        joint[2 * j : 2 * j + 2, 2 * i : 2 * i + 2] = blocks[i][j].mT
    row = torch.zeros(1, 6, dtype=DOUBLE)
    row[:, 2:4] = gain[1:]
    seen = joint @ row.mT / (row @ joint @ row.mT + noise**2)
    mean, cov = (seen * (1.0 - offset[1])).squeeze(1), joint - seen @ row @ joint

    class Gibbs(Exact, MGDM):
        def cleaned(self, x, number, noise):
            spread = torch.linalg.inv(torch.linalg.inv(COV) + float(at.alpha**2 / at.sigma**2) * EYE)
            return x @ gain.mT + offset + noise(x) @ torch.linalg.cholesky(spread).mT

    class Basis:
        """Row 0 gets zeros; rows 5 and on a 1 for each random number in turn."""

        def __init__(self):
            self.drawn = 4

        def __call__(self, like):
            out = torch.zeros_like(like)
            for column in range(2):
                self.drawn += 1
                out[self.drawn, column] = 1
            return out

    starts = torch.zeros(11, 4, dtype=DOUBLE)
    starts[1:5] = torch.eye(4, dtype=DOUBLE)
    observation = lp.Observation(VALUES.expand(11, 2), KNOWN, noise=noise)
    after = torch.cat(
        Gibbs(TARGET, levels=grid).sweep(starts[:, :2], starts[:, 2:], level, number, observation, Basis()), 1
    )
    shift, matrix, scatter = after[0], (after[1:5] - after[0]).mT, (after[5:] - after[0]).mT
    kept = [0, 1, 4, 5]
    assert torch.allclose(matrix @ mean[kept] + shift, mean, atol=1e-8)
    assert torch.allclose(matrix @ cov[kept][:, kept] @ matrix.mT + scatter @ scatter.mT, cov, atol=1e-8)


def test_clean_data_of_mgdm_are_drawn_by_ancestral_steps():
    """Draws of q(x' | x₀, x) at x₀ = x̂₀: mean α' x̂₀ + σ' k ε̂, variance σ'² (1 − k²), with k = α σ'/(σ α')."""
    grid, number = levels(8), 2
    drawn = MGDM(TARGET, levels=grid, ancestral_steps=3).cleaned
    assert MGDM(TARGET, levels=grid, ancestral_steps=3)._down(number) == [2, 4, 6, 8]
    mean, matrix, cov = torch.zeros(2, dtype=DOUBLE), EYE, torch.zeros(2, 2, dtype=DOUBLE)
    for here, there in ((grid[2], grid[4]), (grid[4], grid[6]), (grid[6], grid[8])):
        gain, offset = denoiser(TARGET, here)
        kept = float(here.alpha * there.sigma / (here.sigma * there.alpha))
        to_noise = float(there.sigma) * kept / float(here.sigma)
        step = float(there.alpha) * gain + to_noise * (EYE - float(here.alpha) * gain)
        mean = step @ mean + (float(there.alpha) - to_noise * float(here.alpha)) * offset
        matrix, cov = step @ matrix, step @ cov @ step.mT + float(there.sigma) ** 2 * (1 - kept**2) * EYE
    starts = torch.cat([torch.zeros(1, 2, dtype=DOUBLE), EYE, torch.zeros(6, 2, dtype=DOUBLE)])
    basis = BasisNoise()
    basis.drawn = 2  # rows 3 and on get the random numbers
    out = drawn(starts, number, basis)
    assert torch.allclose(out[0], mean, atol=1e-12)
    assert torch.allclose((out[1:3] - out[0]).mT, matrix, atol=1e-12)
    scatter = out[3:] - out[0]
    assert torch.allclose(scatter.mT @ scatter, cov, atol=1e-12)


def test_the_outer_step_of_mgdm_is_the_bridge_from_x0_to_x():
    """Without sweeps x₀ is x̂₀ of the first level; x' has mean α' x₀ + σ' k (x − α x₀)/σ and variance σ'² (1 − k²)."""
    grid, start = levels(5), torch.tensor([[0.3, -0.7], [1.2, 0.1]], dtype=DOUBLE)
    observation = lp.Observation(VALUES.expand(2, 2), KNOWN)
    run = MGDM(TARGET, levels=grid, sweeps=0).iterate(observation, start=start, noise=torch.ones_like)
    states, clean = list(itertools.islice(run, 4)), TARGET.denoised(start, grid[0])
    for at, (level, after) in ((0, grid[:2]), (2, grid[1:3])):
        kept = level.alpha * after.sigma / (level.sigma * after.alpha)
        mean = after.alpha * clean + after.sigma * kept * (states[at].x - level.alpha * clean) / level.sigma
        expected = mean + after.sigma * (1 - kept**2).sqrt()
        assert torch.allclose(states[at + 1].x, expected, atol=1e-12)


@pytest.mark.parametrize("make", [MGPS, lambda *given, **o: MGDM(*given, sweeps=2, **o)])
def test_guidance_draws_the_known_part_to_the_observation(make):
    """Without guidance, by a measurement of next to no weight, the known part is that of the prior."""
    observation, far = (lp.Observation(torch.full((400, 2), 2.0), KNOWN, noise=noise) for noise in (0.1, 1e3))
    means = []
    for seen in (observation, far):
        x = make(TARGET, levels=levels(20), inner_steps=5)(seen, generator=torch.Generator().manual_seed(0))
        means.append(x.mean(0))
    assert float(means[0][1]) > float(means[1][1]) + 0.5
    assert math.isfinite(float(means[0][0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MGPS(TARGET, midpoint=1.5), r"midpoint \(η\) must lie between 0 and 1, got 1.5"),
        (lambda: MGPS(TARGET, noise_floor=0.0), r"noise_floor \(s\) must be a positive"),
        (lambda: MGPS(TARGET, inner_steps=-1), "inner_steps must be a whole number of at least 0"),
        (lambda: MGDM(TARGET, sweeps=-1), r"sweeps \(R\) must be a whole number of at least 0"),
        (lambda: MGDM(TARGET, ancestral_steps=0), r"ancestral_steps \(D\) must be a whole number of at least 1"),
        (lambda: MGDM(TARGET, solver=lp.Heun()), "MGDM makes its own outer steps"),
    ],
)
def test_bad_settings_are_refused_with_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
