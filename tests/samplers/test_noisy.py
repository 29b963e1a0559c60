"""A measurement with noise: the posterior p(x, y) N(y_o; y₀, s²), by exact algebra on Gaussians, by sampling else."""

import functools
import itertools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.fields import BiG
from lanpaint.samplers import DPS, MCG, CoPaint, RePaint, TwistedSMC
from lanpaint.samplers.posterior_flow import PosteriorFlow
from lanpaint_toys import Gaussian, GaussianMixture
from tests.adapters import tiny
from tests.samplers.affine import DOUBLE, law

COV = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]], dtype=DOUBLE)
MEAN = torch.tensor([0.3, -0.2, 0.5], dtype=DOUBLE)
TARGET = Gaussian(MEAN.tolist(), COV.tolist())
KNOWN = torch.tensor([False, True, True])
VALUES = torch.tensor([0.0, 1.1, -0.4], dtype=DOUBLE)


def conditioned(mean, cov, values, variance, scale=1.0):
    """Mean and covariance of z given that ``values`` are scale · z[known] plus noise of a variance."""
    rows = torch.eye(3, dtype=DOUBLE)[KNOWN] * scale
    gain = cov @ rows.mT @ torch.linalg.inv(rows @ cov @ rows.mT + variance * torch.eye(len(rows), dtype=DOUBLE))
    return mean + gain @ (values[KNOWN] - rows @ mean), cov - gain @ rows @ cov


def divergence(got, true):
    """KL from a Gaussian to the true one, in nats."""
    inverse, off = torch.linalg.inv(true[1]), got[0] - true[0]
    product = inverse @ got[1]
    return float(0.5 * (product.trace() - len(off) + off @ inverse @ off - torch.logdet(product)))


@pytest.mark.parametrize("s", [0.3, 1.0])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_below_the_noise_of_the_measurement_the_field_is_the_score_of_the_posterior(s, ratio, lam):
    """z_t = α z₀ + σ ε and y_o = y_t/α + √(s² − σ²/α²) n: Gaussian conditioning of z_t on y_o."""
    level = lp.NoiseLevel(0.8, 0.8 * s * ratio)
    mean, cov = 0.8 * MEAN, 0.64 * COV + (0.8 * s * ratio) ** 2 * torch.eye(3, dtype=DOUBLE)
    mean, cov = conditioned(mean, cov, VALUES, s**2 * (1 - ratio**2), scale=1 / 0.8)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    observation = lp.Observation(VALUES.expand(5, 3), KNOWN, noise=s)
    expected = -(x - mean) @ torch.linalg.inv(cov)
    assert torch.allclose(BiG(TARGET, observation.at_level(level), lam)(x, level), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_samples_on_both_sides_of_the_noise_have_the_field_of_their_own_level(lam):
    ratios = torch.tensor([0.05, 0.5, 2.0, 8.0], dtype=DOUBLE)
    alone = [lp.NoiseLevel(0.8, 0.8 * 0.3 * float(ratio)) for ratio in ratios]
    together = lp.NoiseLevel(torch.full_like(ratios, 0.8), 0.8 * 0.3 * ratios).per_sample(2)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    observation = lp.Observation(VALUES.expand(4, 3), KNOWN, noise=0.3)
    got = BiG(TARGET, observation.at_level(together), lam)(x, together)
    for row, level in enumerate(alone):
        one = lp.Observation(VALUES[None], KNOWN, noise=0.3)
        assert torch.allclose(
            got[row : row + 1], BiG(TARGET, one.at_level(level), lam)(x[row : row + 1], level), atol=1e-10
        )


@pytest.mark.parametrize("s", [0.3, 1.0])
def test_the_flow_of_the_posterior_carries_it_to_clean_data_in_first_order(s):
    """From the exact distribution just below the noise of the measurement, by Euler steps: their map is affine."""
    errors = []
    for steps in (200, 400, 800):
        ratios = torch.linspace(0.8 * s, 0, steps + 1, dtype=DOUBLE).tolist()
        levels = [lp.NoiseLevel(1.0, ratio) for ratio in ratios]
        start = conditioned(MEAN, COV + ratios[0] ** 2 * torch.eye(3), VALUES, s**2 - ratios[0] ** 2)
        observation = lp.Observation(VALUES.expand(4, 3), KNOWN, noise=s)
        score, x = (
            PosteriorFlow(TARGET, observation.at_level(levels[0])),
            torch.cat([torch.zeros(1, 3), torch.eye(3)]).to(DOUBLE),
        )
        for here, there in itertools.pairwise(levels):
            x = lp.Euler().step(lp.SolverState(x), score, here, there, torch.zeros_like).x
        matrix = (x[1:] - x[0]).mT
        got = matrix @ start[0] + x[0], matrix @ start[1] @ matrix.mT
        true = conditioned(MEAN, COV, VALUES, s**2)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(got, true, strict=True)))
    assert errors[-1] < 2e-3
    assert all(0.8 < math.log2(a / b) < 1.2 for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("s", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_lanpaint_reaches_the_posterior_as_its_steps_get_finer(s, lam):
    """Exact mean and covariance of its result, without sampling."""
    true, errors = conditioned(MEAN, COV, VALUES, s**2), []
    for steps in (20, 40, 80):
        sampler = lp.LanPaint(TARGET, steps=steps, inner_steps=3, lam=lam, spacing="logsnr", expected_noise=0.3)
        errors.append(divergence(law(sampler, VALUES, KNOWN, functools.partial(lp.Observation, noise=s)), true))
    assert errors[-1] < 2e-3
    assert errors[0] > errors[1] > errors[2]


MIXTURE = GaussianMixture([[-0.6, -0.3], [0.9, 0.4]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, 0.0], [0.0, 0.2]]], [0.4, 0.6])


@pytest.mark.parametrize("s", [0.2, 1.0])
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: lp.LanPaint(MIXTURE, steps=50, spacing="logsnr", expected_noise=0.1), 8_000),
        (lambda: lp.LangevinPaint(MIXTURE, steps=60, inner_steps=10, spacing="logsnr", step_size=0.05), 8_000),
        (lambda: TwistedSMC(MIXTURE, particles=32, steps=30, spacing="logsnr"), 1_500),
    ],
    ids=["lanpaint", "langevin", "tds"],
)
def test_samples_of_a_mixture_follow_the_posterior(make, count, s):
    """The exact posterior: the mixture with a third coordinate y + s n, conditioned on that."""
    means = torch.cat([MIXTURE.means, MIXTURE.means[:, 1:]], 1)
    wide = torch.stack([torch.block_diag(c, torch.tensor(s**2)) for c in MIXTURE.full_cov])
    cov = wide + torch.nn.functional.pad(MIXTURE.full_cov[:, 1:, 1:], (2, 0, 2, 0))
    cov[:, 2, :2] = cov[:, :2, 2] = MIXTURE.full_cov[:, 1]
    exact = GaussianMixture(means, cov, MIXTURE.weights).conditional([0.0, 0.0, 0.2], [False, False, True])
    true = exact.sample(200_000, torch.Generator().manual_seed(1))
    observation = lp.Observation(torch.tensor([[0.0, 0.2]]).double().repeat(count, 1), torch.tensor([False, True]), s)
    got = make()(observation, generator=torch.Generator().manual_seed(0))
    for statistic in (lambda z: z, lambda z: z.square(), lambda z: (z > 0).double(), lambda z: z[:, :1] * z[:, 1:]):
        mine, exact_ones = statistic(got), statistic(true[:, :2])
        error = exact_ones.std(0) * math.sqrt(1 / count + 1 / 200_000)
        assert bool(((mine.mean(0) - exact_ones.mean(0)).abs() < 5 * error + 0.02 * exact_ones.std(0)).all())


@pytest.mark.parametrize("make", [lp.Replace, RePaint, MCG, CoPaint, lp.SMCDiff], ids=lambda m: m.__name__)
def test_a_sampler_that_needs_exact_values_says_so(make):
    noisy = lp.Observation(VALUES[None], KNOWN, noise=0.5)
    with pytest.raises(ValueError, match=r"takes no noise of a measurement \(noise=0\.5\); use LanPaint, or values"):
        make(TARGET, steps=2)(noisy)
    drawn = make(TARGET, steps=2)(lp.Observation(VALUES[None], KNOWN, jitter=0.5))
    assert torch.isfinite(drawn).all()


def test_dps_makes_the_same_steps_for_a_measurement_and_leaves_its_end_as_it_is():
    """Chung et al., Alg. 1: ζ takes the place of the noise."""
    sampler, start = DPS(TARGET, steps=5), torch.ones(4, 3, dtype=DOUBLE)
    noisy, exact = (
        list(sampler.iterate(lp.Observation(VALUES.expand(4, 3), KNOWN, noise=s), start=start)) for s in (0.5, 0.0)
    )
    assert all(torch.equal(one.x, other.x) for one, other in zip(noisy[:-1], exact[:-1], strict=True))
    assert torch.equal(noisy[-1].x[:, ~KNOWN], exact[-1].x[:, ~KNOWN])
    assert not bool((noisy[-1].x[:, KNOWN] == VALUES[KNOWN]).any())


def test_noise_and_jitter_are_two_things():
    with pytest.raises(ValueError, match=r"give noise \(of a measurement\) or jitter"):
        lp.Observation(VALUES[None], KNOWN, 0.5, jitter=0.5)
    for name in ("noise", "jitter"):
        with pytest.raises(ValueError, match=f"{name} must be a finite standard deviation of at least 0, got -1"):
            lp.Observation(VALUES[None], KNOWN, **{name: -1.0})


def test_a_level_at_just_the_noise_of_the_measurement_holds_the_known_part():
    level = lp.NoiseLevel(0.8, 0.8 * 0.5)
    observation = lp.Observation(VALUES[None], KNOWN, noise=0.5)
    assert observation.at_level(level) is observation
    drawn = observation.diffused(level, torch.ones(1, 3, dtype=DOUBLE))
    assert torch.allclose(drawn[:, KNOWN], 0.8 * VALUES[None, KNOWN], atol=1e-3)
    sampler = lp.LanPaint(TARGET, levels=[lp.NoiseLevel(0.6, 0.8), level, lp.NoiseLevel(1.0, 0.0)])
    assert torch.isfinite(sampler(observation, generator=torch.Generator().manual_seed(0))).all()


def test_in_a_pipeline_a_measurement_gives_the_posterior_too():
    """A network that knows N(0, 1) in every latent: the posterior is N(y_o/(1 + s²), s²/(1 + s²))."""
    made, s, kept = tiny.sd(), 0.5, {}
    signal = made.pipe.scheduler.alphas_cumprod
    made.pipe.unet.forward = lambda x, time, *_, **__: (
        (1 - signal[int(torch.as_tensor(time).reshape(-1)[0])]).sqrt() * x,
    )

    class Keep(lp.Callback):
        def on_level_end(self, sampler, state):
            kept["x"] = state.x

    def measured(latents):
        known = (torch.arange(latents[0].numel()) % 2 == 0).reshape(1, *latents.shape[1:])
        return lp.Observation(torch.ones(latents.shape), known, noise=s)

    sampler = functools.partial(lp.LanPaint, inner_steps=4, expected_noise=1.0, callbacks=[Keep()])
    generator = torch.Generator().manual_seed(0)
    with lp.bridged(made.pipe, sampler, measured) as bridge:
        made.pipe(
            num_inference_steps=30, num_images_per_prompt=8, generator=generator, output_type="latent", **made.call
        )
    assert bridge.planned == bridge.evaluations == 150
    y, x = kept["x"].flatten(1)[:, ::2], kept["x"].flatten(1)[:, 1::2]
    variance, count = s**2 / (1 + s**2), y.numel()
    for got, mean, true in ((y, 1 / (1 + s**2), variance), (x, 0.0, 1.0)):
        assert abs(float(got.mean()) - mean) < 5 * math.sqrt(true / count)
        assert abs(float(got.var()) - true) < 5 * true * math.sqrt(2 / count) + 0.02 * true
