"""SMCDiff: on a Gaussian against the exact conditional of its chain, on mixtures against exact shares."""

import functools
import itertools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint_toys import Gaussian, GaussianMixture
from tests.adapters import tiny
from tests.samplers.affine import DOUBLE, Law, denoiser

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
KNOWN = torch.tensor([False, True, True])
VALUES = torch.tensor([0.0, 1.1, -0.4], dtype=DOUBLE)
# So few levels that the chain's conditional is another than the target's: what is tested is the weights.
LEVELS = [lp.NoiseLevel(math.sqrt(1 - sigma**2), sigma) for sigma in (0.97, 0.9, 0.75, 0.5, 0.0)]
LAST = torch.tensor([False, True])


def chain(levels):
    """Law of x₀ of DDPM with its small variance, and known entries drawn from N(x̂₀, σ²/α²) in the last step."""
    first = levels[0]
    state = Law(torch.zeros(3, dtype=DOUBLE), float(first.alpha**2 + first.sigma**2) * torch.eye(3, dtype=DOUBLE))
    for level, next_level in itertools.pairwise(levels):
        (alpha, sigma), (next_alpha, next_sigma) = level.numbers, next_level.numbers
        gain, offset = denoiser(TARGET, level)
        k = next_sigma * alpha / (sigma * next_alpha)
        noise_gain, noise_offset = (torch.eye(3) - alpha * gain) / sigma, -alpha * offset / sigma
        matrix = next_alpha * gain + next_sigma * k * noise_gain
        state = state.map(matrix, next_alpha * offset + next_sigma * k * noise_offset, next_sigma**2 * (1 - k**2))
    state.cov = state.cov + torch.diag(torch.where(KNOWN, (sigma / alpha) ** 2, 0.0).double())
    return state


@pytest.mark.parametrize("formalism", ["vp", "ve", "flow"])
@pytest.mark.parametrize(("particles", "threshold"), [(1, 0.5), (4, 0.5), (4, 1.0)])
def test_evidence_and_weighted_moments_are_unbiased_for_the_chains_conditional(particles, threshold, formalism):
    """Whatever K, the mean over groups is exact: within four standard errors, which are below 3 %."""
    scales = {"vp": lambda v: 1.0, "ve": lambda v: 1 / v.alpha, "flow": lambda v: 1 / (v.alpha + v.sigma)}
    levels = [level.rescale(scales[formalism](level)) for level in LEVELS]
    groups = 30_000 // particles
    sampler = lp.SMCDiff(TARGET, particles=particles, threshold=threshold, inner_steps=0, eta=1.0, levels=levels)
    out = sampler(lp.Observation(VALUES.expand(groups, 3), KNOWN), generator=torch.Generator().manual_seed(0))
    assert torch.equal(out[:, KNOWN], VALUES[KNOWN].expand(groups, -1))
    conditional, log_density = chain(levels).condition(KNOWN, VALUES)
    ratio = (sampler.cloud.log_evidence - log_density).exp()
    unknown = sampler.cloud.x.reshape(groups, -1, 3)[..., 0]
    mean, second = conditional.mean[0], conditional.cov[0, 0] + conditional.mean[0] ** 2
    weights = sampler.cloud.weights
    for estimates, truth in (
        (ratio, 1.0),
        (ratio * (weights * unknown).sum(1), mean),
        (ratio * (weights * unknown**2).sum(1), second),
    ):
        error = estimates.std() / math.sqrt(groups)
        assert error < 0.03
        assert abs(estimates.mean() - truth) < 4 * error


def test_a_path_begins_with_the_density_of_data_of_the_given_scale_over_that_it_was_drawn_from():
    """N(y; 0, α² · 3² + σ²) over N(y; α y_o, σ²), for each group once."""
    sampler = lp.SMCDiff(TARGET, particles=2, inner_steps=0, data_scale=3.0, levels=LEVELS)
    state = next(
        sampler.iterate(lp.Observation(VALUES.expand(4, 3), KNOWN), generator=torch.Generator().manual_seed(0))
    )
    y, (alpha, sigma) = state.x[::2], LEVELS[0].numbers
    data = torch.distributions.Normal(0.0, (9 * alpha**2 + sigma**2) ** 0.5).log_prob(y)
    drawn = torch.distributions.Normal(alpha * VALUES, sigma).log_prob(y)
    assert torch.allclose(state.memory.particles.log_resampled, (data - drawn)[:, KNOWN].sum(1), atol=1e-12)


def trapped(samples, generator):
    """Modes (∓2, ∓0.3) of standard deviation 0.15, y at its mode: at high noise it says next to nothing of x."""
    side = torch.where(torch.rand(samples, generator=generator) < 0.5, -1.0, 1.0)
    return GaussianMixture([[-2.0, -0.3], [2.0, 0.3]], 0.15**2), torch.stack([2 * side, 0.3 * side], 1)


def test_a_mode_that_the_known_part_decides_at_low_noise_is_found():
    """In 224 evaluations at most 2 % of x lie in the wrong mode, where LanPaint leaves a third."""
    generator = torch.Generator().manual_seed(0)
    target, values = trapped(2_000, generator)
    score = lp.CountedScore(target)
    observation = lp.Observation(values, LAST)
    x = lp.SMCDiff(score, steps=14, inner_steps=1)(observation, generator=generator)
    assert score.evaluations == 224
    wrong = float((x[:, 0] * values[:, 0] < 0).double().mean())
    assert wrong + 3 * math.sqrt(wrong * (1 - wrong) / len(x)) < 0.02
    single = lp.LanPaint(target, steps=20, inner_steps=10, preset="fast")(observation, generator=generator)
    assert (single[:, 0] * values[:, 0] < 0).double().mean() > 0.3


def test_a_known_part_that_says_nothing_leaves_all_weights_equal():
    """y is independent of x, so the weights of a group are equal, and shares of modes are not touched."""
    target = GaussianMixture(
        [[-1.0, 0.0], [1.5, 0.0]], torch.diag(torch.tensor([0.04, 1.0])).repeat(2, 1, 1), [0.8, 0.2]
    )
    values = torch.randn(3_000, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    sampler = lp.SMCDiff(target, particles=4, steps=24, inner_steps=1)
    x = sampler(lp.Observation(values, LAST), generator=torch.Generator().manual_seed(0))
    assert all(bool((ess > 4 - 1e-6).all()) for ess in sampler.cloud.ess)
    assert abs(float((x[:, 0] > 0.25).double().mean()) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 3_000)


def test_a_sample_does_not_depend_on_its_batch():
    values = VALUES.expand(3, 3) + torch.arange(3)[:, None]

    def seeds(numbers):
        return [torch.Generator().manual_seed(number) for number in numbers]

    sampler = lp.SMCDiff(TARGET, particles=3, steps=5)
    together = sampler(lp.Observation(values, KNOWN), generator=seeds([0, 1, 2]))
    alone = sampler(lp.Observation(values[1:2], KNOWN), generator=seeds([1]))
    assert torch.allclose(together[1:2], alone, atol=1e-12)


def test_a_given_start_begins_the_first_particle_of_each_group():
    start = torch.full((2, 3), 0.5, dtype=DOUBLE)
    sampler = lp.SMCDiff(TARGET, particles=3, steps=2)
    state = next(sampler.iterate(lp.Observation(VALUES.expand(2, 3), KNOWN), start=start))
    assert bool((state.x[::3, 0] == 0.5).all())
    assert bool((state.x.reshape(2, 3, 3)[:, 1:, 0] != 0.5).all())
    assert torch.equal(state.x[:, 1:], state.x[::3, 1:].repeat_interleave(3, 0))  # one known part for each group


def test_what_the_method_cannot_do_is_refused_with_one_line():
    travels = lp.Plan(LEVELS).with_time_travel(2, 1)
    for call, message in (
        (lambda: lp.SMCDiff(TARGET, plan=travels), "takes no plan with time travel"),
        (lambda: lp.SMCDiff(TARGET, solver=lp.Heun()), "SMCDiff makes its own outer steps and takes no solver"),
        (lambda: lp.SMCDiff(TARGET, particles=0), r"particles \(K\) must be a whole number of at least 1"),
        (lambda: lp.SMCDiff(TARGET, threshold=2.0), "threshold must be between 0 and 1"),
        (lambda: lp.SMCDiff(TARGET)(lp.Observation(VALUES[None], KNOWN, 0.5)), "takes no noise of a measurement"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_in_a_pipeline_it_makes_the_evaluations_that_it_declares_and_keeps_what_is_known():
    made = tiny.sd()
    known = {}

    def observe(latents):
        columns = torch.arange(latents.shape[-1]) < latents.shape[-1] // 2
        known["mask"], known["values"] = columns.expand(latents.shape), torch.full(latents.shape, 0.7)
        return lp.Observation(known["values"], columns)

    sampler = functools.partial(lp.SMCDiff, particles=3, inner_steps=1)
    with lp.bridged(made.pipe, sampler, observe) as bridge:
        out = made.pipe(num_inference_steps=4, num_images_per_prompt=2, output_type="latent", **made.call).images
    assert bridge.planned == bridge.evaluations == 3 * 4 * 2
    assert torch.equal(out[known["mask"]], known["values"][known["mask"]])


def test_an_interrupt_of_a_pipeline_gives_a_guess_that_keeps_what_is_known():
    made = tiny.sd()

    def interrupt(pipe, step, time, tensors):
        pipe._interrupt = True
        return {}

    def observe(latents):
        return lp.Observation(torch.full(latents.shape, 0.7), torch.arange(latents.shape[-1]) < 3)

    sampler = functools.partial(lp.SMCDiff, particles=3, inner_steps=0, eta=1.0)
    call = {**made.call, "callback_on_step_end": interrupt, "output_type": "latent", "num_images_per_prompt": 2}
    with lp.bridged(made.pipe, sampler, observe), pytest.warns(UserWarning, match="interrupted after 3 of 12"):
        out = made.pipe(num_inference_steps=4, **call).images
    assert out.shape[0] == 2
    assert bool((out[..., :3] == 0.7).all())
    assert bool(torch.isfinite(out).all())
