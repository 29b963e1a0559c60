"""Identities of the gradient-free methods: limits in which one is another, draw for draw, and what a step has."""

import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers.clean import ancestral
from tests.samplers.affine import DOUBLE, BasisNoise
from tests.samplers.reference_problem import COV, KNOWN, TARGET, VALUES, FlowMap, end, levels

START = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
NUMBERS = torch.randn(60, 4, 2, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
OBSERVATION = lp.Observation(VALUES.expand(4, 2), KNOWN)
NOTHING = lp.Observation.none((4, 2), DOUBLE)


class Recorded(lp.ScoreWrapper):
    """A score that keeps its predictions."""

    def rewrite(self, prediction):
        self.seen = [*getattr(self, "seen", []), prediction]
        return prediction


def numbers(skip=0):
    """The same random numbers for each run, without the first ones."""
    left = iter(NUMBERS[skip:])
    return lambda like: next(left).to(like)


def draw(make, observation=OBSERVATION, *, steps=6, score=TARGET, skip=0, start=START, formalism="vp", **options):
    """The end of a run from a given start with given random numbers, before known entries are set to y."""
    sampler = make(score, levels=levels(steps, formalism), **options)
    sampler.finish = lambda state, noise: state
    return sampler(observation, start=start, noise=numbers(skip))


def assert_same(one, other):
    assert torch.allclose(one, other, rtol=0, atol=1e-12), (one, other)


# The share-1 family


def test_five_methods_are_one_where_all_noise_is_drawn_anew():
    first = levels(6)[0]
    known = first.perturb(OBSERVATION.values, NUMBERS[0])
    start = torch.where(KNOWN, known, START)  # DDRM draws the known part at the start
    expected = draw(lp.DDRM, eta=1.0, eta_b=1.0)
    for make, options in (
        (lp.DDNM, {"form": "code", "eta": 1.0}),
        (lp.DDNM, {"form": "inversebench", "eta": 1.0}),
        (lp.DiffPIR, {"zeta": 1.0, "sigma_y": 0.0}),
        (lp.LATINO, {"sigma_y": 0.0}),
    ):
        assert_same(draw(make, skip=1, start=start, **options), expected)


def test_diffpir_without_noise_is_the_inversebench_form_of_ddnm():
    pir = draw(lp.DiffPIR, zeta=0.7**2, sigma_y=0.0)
    assert_same(pir, draw(lp.DDNM, form="inversebench", eta=0.7))
    assert not torch.allclose(pir, draw(lp.DDNM, form="code", eta=0.7))


def test_without_an_observation_ddnm_is_ddim():
    for form in ("paper", "code", "inversebench"):
        assert_same(draw(lp.DDNM, NOTHING, form=form, eta=0.0), draw(lp.Sampler, NOTHING))
    paper = draw(lp.DDNM, NOTHING, form="paper")
    assert_same(paper, draw(lp.Sampler, NOTHING, solver=lp.DDIM(1.0)))


@pytest.mark.parametrize("form", ["paper", "code", "inversebench"])
@pytest.mark.parametrize("s", [0.01, 0.3, 2.0, 10.0])
def test_noise_of_the_measurement_and_fresh_noise_of_ddnm_plus_add_up_to_that_of_the_step(form, s):
    """On the known entry, (∂x'/∂y)² s² and the variance that is drawn are τ² together; σ'² in the code form."""
    sampler = lp.DDNM(TARGET, form=form, levels=levels(5))
    start = torch.tensor([[0.3, -0.4]], dtype=DOUBLE)

    def steps(y, noise):
        values = torch.tensor([[0.0, y]], dtype=DOUBLE).expand(3, 2)
        observation = lp.Observation(values, KNOWN, noise=s)
        return [state.x for state in sampler.iterate(observation, start=start.expand(3, 2), noise=noise)][1::2]

    # The noise of the first step alone: row 1 and 2 are given a 1 in their first and second entry.
    x, other = (steps(y, BasisNoise())[0] for y in (1.0, 2.0))
    fresh, brought = x[2, 1] - x[0, 1], (other - x)[0, 1] * s
    level, next_level = sampler.levels[:2]
    tau = next_level.sigma if form == "code" else sampler.tau(level, next_level)
    assert abs(fresh**2 + brought**2 - tau**2) < 1e-12
    assert abs(brought) > 0
    assert fresh >= 0


@pytest.mark.parametrize("form", ["paper", "code", "inversebench"])
def test_ddnm_plus_leaves_the_noise_of_unknown_entries_as_it_is(form):
    """The published demo reduces the fresh noise of all entries."""
    exact, noisy = (
        [*lp.DDNM(TARGET, form=form, levels=levels(5)).iterate(observation, start=START, noise=numbers())][1].x
        for observation in (OBSERVATION, lp.Observation(VALUES.expand(4, 2), KNOWN, noise=0.3))
    )
    assert torch.equal(exact[:, 0], noisy[:, 0])
    assert not torch.allclose(exact[:, 1], noisy[:, 1])


def test_a_step_of_ddnm_s_code_is_that_of_ddrm_on_unknown_entries():
    """They differ in the noise of the known part alone."""
    first = levels(5)[0]
    start = torch.where(KNOWN, first.perturb(OBSERVATION.values, NUMBERS[0]), START)  # DDRM draws the known part
    null, rank = (
        [*sampler.iterate(OBSERVATION, start=start, noise=numbers(skip))][1].x
        for sampler, skip in ((lp.DDNM(TARGET, levels=levels(5)), 1), (lp.DDRM(TARGET, eta=0.85, levels=levels(5)), 0))
    )
    assert_same(null[:, 0], rank[:, 0])
    assert not torch.allclose(null[:, 1], rank[:, 1])


def test_time_travel_of_ddnm_repeats_blocks():
    sampler = lp.DDNM(TARGET, levels=levels(4), travel=2, travels=2)
    assert sampler.plan.order == (0, 1) * 3 + (2, 3) * 3
    assert sampler.plan.evaluations == 12


# DiffPIR and LATINO


def test_diffpir_moves_to_the_posterior_mean_of_its_likelihood_and_prior():
    level, s, lam = levels(6)[2], 0.3, 2.0
    score = Recorded(TARGET)
    sampler = lp.DiffPIR(score, levels=[level, lp.NoiseLevel(1.0, 0.0)], prior_weight=lam, zeta=1.0, sigma_y=s)
    sampler.finish = lambda state, noise: state
    x = sampler(OBSERVATION, start=START)
    guess = score.seen[0].denoised[:, 1]
    prior, likelihood = lam / level.relative_sigma**2, 1 / s**2  # precisions
    assert_same(x[:, 1], (prior * guess + likelihood * 1.0) / (prior + likelihood))
    assert_same(x[:, 0], score.seen[0].denoised[:, 0])


def test_a_likelihood_without_weight_guides_nothing():
    assert torch.allclose(draw(lp.DiffPIR, sigma_y=1e9), draw(lp.DiffPIR, NOTHING), atol=1e-9)
    assert torch.allclose(draw(lp.LATINO, sigma_y=1e9), draw(lp.LATINO, NOTHING), atol=1e-9)
    assert torch.allclose(draw(lp.DING, sigma_y=1e9), draw(lp.DING, NOTHING), atol=1e-9)


def test_latino_without_a_proximal_step_is_multistep_consistency_sampling():
    x, clean = START, FlowMap()
    for number, (level, next_level) in enumerate(zip(levels(6), levels(6)[1:], strict=False)):
        x = next_level.perturb(clean.predict(x, level).denoised, NUMBERS[number])
    assert_same(draw(lp.LATINO, score=FlowMap(), delta=0.0), x)


# DING


def test_without_noise_of_the_step_ding_is_ddim():
    class Still(lp.DING):
        def spread(self, level, next_level):
            return torch.zeros_like(next_level.sigma)

    assert_same(draw(Still), draw(lp.Sampler))


def test_a_sharp_likelihood_of_ding_takes_the_noise_of_the_proxy_and_draws_none():
    score = Recorded(TARGET)
    sampler = lp.DING(score, levels=levels(5), sigma_y=0.0)
    run = sampler.iterate(OBSERVATION, start=START, noise=numbers())
    state = [next(run), next(run)][1]
    at_x, at_proxy = score.seen
    next_level = sampler.levels[1]
    assert_same(state.x[:, 1], next_level.alpha * 1.0 + next_level.sigma * at_proxy.epsilon[:, 1])
    spread = next_level.sigma**2 / (next_level.alpha + next_level.sigma)
    mean = next_level.alpha * at_x.denoised + (next_level.sigma**2 - spread**2).sqrt() * at_x.epsilon
    assert_same(at_proxy.x, mean + spread * NUMBERS[0])
    assert_same(state.x[:, 0], (mean + spread * NUMBERS[1])[:, 0])  # independent of the proxy


# DAPS


def test_langevin_steps_of_daps_have_the_law_of_the_exact_draw_as_they_shrink():
    """A step is an AR(1) process: with A = 1/τ² + 1/r² its stationary variance is 2h/(1 − (1 − h A)²), 1/A at h → 0."""
    level, tau = levels(4)[2], 0.4
    for share in (0.5, 0.05):
        size = share * tau**2
        made = [
            lp.DAPS(
                TARGET,
                levels=[level, lp.NoiseLevel(1.0, 0.0)],
                ode_steps=1,
                tau=tau,
                langevin_steps=count,
                langevin_step_size=size,
            )
            for count in (0, 400)
        ]
        laws = []
        for sampler in made:
            sampler.finish = lambda state, noise: state
            rows = 1 + 2 * (1 + 400)
            out = sampler(
                lp.Observation(VALUES.expand(rows, 2), KNOWN),
                start=START[:1].expand(rows, 2).contiguous(),
                noise=BasisNoise(),
            )
            laws.append((out[0], (out[1:] - out[0]).square().sum(0)))
        exact, chain = laws
        assert torch.allclose(chain[0], exact[0], atol=1e-6)
        precision = torch.tensor([0.0, 1 / tau**2], dtype=DOUBLE) + 1 / level.relative_sigma**2
        assert torch.allclose(exact[1], 1 / precision)
        left = 1 - (1 - size * precision) ** 800  # the chain starts at one point
        assert torch.allclose(chain[1], left * 2 * size / (1 - (1 - size * precision) ** 2))
    assert torch.allclose(chain[1], exact[1], rtol=0.03)


@pytest.mark.parametrize(
    ("count", "passed"), [(6, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 2, 4, 6]), (1, [0, 6]), (9, range(7))]
)
def test_the_flow_of_daps_is_eulers_method_through_levels_of_the_plan(count, passed):
    """Without noise the first step is α' times the clean end of the flow, on the unknown part."""
    sampler = lp.DAPS(TARGET, levels=levels(6), ode_steps=count)
    run = sampler.iterate(OBSERVATION, start=START, noise=torch.zeros_like)
    state = [next(run), next(run)][1]
    euler = lp.Sampler(TARGET, levels=[levels(6)[number] for number in passed])(NOTHING, start=START)
    assert_same(state.x[:, 0] / state.level.alpha, euler[:, 0])


def test_daps_without_noise_of_x0_and_of_the_likelihood_is_latino_with_the_flow():
    """The draw of x₀ is its mean then, with y on the known entries; each other number is that of the next level."""
    fresh = iter(NUMBERS)
    calls = iter(range(100))
    sampler = lp.DAPS(FlowMap(), levels=levels(6), ode_steps=1, tau=0.0)
    sampler.finish = lambda state, noise: state
    x = sampler(OBSERVATION, start=START, noise=lambda like: next(fresh) if next(calls) % 2 else torch.zeros_like(like))
    assert_same(x, draw(lp.LATINO, score=FlowMap(), sigma_y=0.0))


def test_the_proximal_step_of_latino_is_the_mean_of_y_and_of_x0():
    """(x̂₀ + γ y)/(1 + γ) with γ = δ σ²/(c² s²), c² = α² + σ², in coordinates in which c is not 1."""
    level, s, delta = levels(6)[2].rescale(1.7), 0.3, 0.6
    score = Recorded(TARGET)
    sampler = lp.LATINO(score, levels=[level, lp.NoiseLevel(1.0, 0.0)], delta=delta, sigma_y=s)
    sampler.finish = lambda state, noise: state
    x, guess = sampler(OBSERVATION, start=START), score.seen[0].denoised
    gamma = delta * level.sigma**2 / ((level.alpha**2 + level.sigma**2) * s**2)
    assert_same(x[:, 1], (guess[:, 1] + gamma * 1.0) / (1 + gamma))
    assert_same(x[:, 0], guess[:, 0])


# FlowChef, blended


def test_flowchef_without_steps_is_ddim_and_several_steps_are_a_longer_one():
    assert_same(draw(lp.FlowChef, step_size=0.0), draw(lp.Sampler))
    assert_same(draw(lp.FlowChef, step_size=0.3, gradient_steps=4), draw(lp.FlowChef, step_size=1 - 0.7**4))


def test_flowchef_of_a_whole_step_is_y_and_the_velocity_on_the_known_part():
    score = Recorded(TARGET)
    run = lp.FlowChef(score, levels=levels(5, "flow")).iterate(OBSERVATION, start=START)
    state = [next(run), next(run)][1]
    assert_same(state.x[:, 1], 1.0 + state.level.sigma * score.seen[0].flow[:, 1])


def test_blended_is_replace_draw_for_draw():
    """Replace draws the known part as it enters a level, so its first number is the start's; both end with y."""
    start = torch.where(KNOWN, levels(6)[0].perturb(OBSERVATION.values, NUMBERS[0]), START)
    replaced = lp.Replace(TARGET, levels=levels(6))(OBSERVATION, start=START, noise=numbers())
    blended = draw(lp.Blended, skip=1, start=start)
    assert_same(blended, replaced)
    assert torch.equal(blended[:, 1], OBSERVATION.values[:, 1])


# RED-diff


def test_the_mean_gradient_of_red_diff_is_that_of_the_smoothed_density():
    """On N(0, C): E[ε̂ − ε] = α σ (α² C + σ²)⁻¹ μ. It is linear in ε, so the mean is its value at ε = 0."""
    sampler, point = lp.REDDiff(TARGET, levels=levels(6)), START
    for level in levels(6)[1:-1]:
        x = level.alpha * point
        got = sampler.gradient(x, point, level, TARGET.predict(x, level).epsilon)
        inverse = torch.linalg.inv(level.alpha**2 * COV + level.sigma**2 * torch.eye(2, dtype=DOUBLE))
        assert torch.allclose(got, level.relative_sigma * level.alpha * level.sigma * point @ inverse, atol=1e-12)


def test_the_point_of_red_diff_is_the_conditional_mean_at_little_noise():
    """With the mean of ε in place of draws; [(α² C + σ²)⁻¹ μ]ᵁ = 0 has the solution 0.8/(1 + σ²/α²)."""
    for sigma in (0.5, 0.01):
        level = lp.NoiseLevel(1.0, sigma)
        sampler = lp.REDDiff(TARGET, levels=[level] * 400 + [lp.NoiseLevel(1.0, 0.0)], learning_rate=0.02)
        x = sampler(OBSERVATION, noise=torch.zeros_like)
        assert torch.allclose(x[:, 0], torch.full((4,), 0.8 / (1 + sigma**2), dtype=DOUBLE), atol=1e-3)
        assert torch.equal(x[:, 1], OBSERVATION.values[:, 1])


def test_steps_of_red_diff_are_those_of_adam_on_the_error_of_the_prediction_without_its_noise():
    """Adam of PyTorch, β = (0.9, 0.99), on (σ/α)(ε̂ − ε) with ε̂ = σ (α² C + σ²)⁻¹ x; known entries are y."""
    point = torch.nn.Parameter(torch.where(KNOWN, OBSERVATION.values, 0.0))
    adam, x, fresh = torch.optim.Adam([point], lr=0.1, betas=(0.9, 0.99)), START, iter(NUMBERS)
    for level, next_level in itertools.pairwise(levels(6)):
        alpha, sigma = level.alpha, level.sigma
        seen = sigma * x @ torch.linalg.inv(alpha**2 * COV + sigma**2 * torch.eye(2, dtype=DOUBLE))
        point.grad = sigma / alpha * (seen - (x - alpha * point.detach()) / sigma)
        adam.step()
        point.data = torch.where(KNOWN, OBSERVATION.values, point.data)
        x = next_level.alpha * point.detach() + next_level.sigma * next(fresh)
    assert_same(draw(lp.REDDiff), point.detach())


# Noise of a measurement, levels without signal, errors


@pytest.mark.parametrize(
    ("make", "name"), [(lp.DING, "sigma_y"), (lp.DiffPIR, "sigma_y"), (lp.LATINO, "sigma_y"), (lp.DAPS, "tau")]
)
def test_noise_of_an_observation_takes_the_place_of_the_likelihoods_own(make, name):
    assert torch.allclose(end(make, 5, noise=0.3), end(make, 5, **{name: 0.3}), atol=1e-12)


def test_ancestral_noise_from_a_level_without_signal_is_all_that_there_is():
    assert ancestral(lp.NoiseLevel(0.0, 1.0), lp.NoiseLevel(0.1, 0.9)) == 0.9


ALL = [lp.DING, lp.DDNM, lp.DiffPIR, lp.DAPS, lp.PnPDM, lp.FlowChef, lp.Blended, lp.REDDiff, lp.LATINO]


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_flow_may_start_without_signal(make):
    options = {"iterations": 3} if make is lp.PnPDM else {}
    sampler = make(TARGET, steps=6, schedule=lp.Flow(), **options)
    assert sampler.levels[0].alpha == 0
    x = sampler(OBSERVATION, generator=torch.Generator().manual_seed(0))
    assert bool((x.abs() < 10).all())
    assert torch.equal(x[:, 1], OBSERVATION.values[:, 1])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lp.DING, {"kernel": "wide"}, "kernel must be one of paper, ancestral, got 'wide'"),
        (lp.DING, {"sigma_y": -1.0}, r"sigma_y \(σ_y\) must be at least 0 and finite, got -1.0"),
        (lp.DING, {"solver": lp.Heun()}, "DING makes its own outer steps and takes no solver"),
        (lp.DDNM, {"form": "svd"}, "form must be one of paper, code, inversebench, got 'svd'"),
        (lp.DDNM, {"eta": 1.5}, r"eta \(η\) must be between 0 and 1, got 1.5"),
        (lp.DDNM, {"travel": 0}, r"travel \(τ\) must be a whole number of at least 1"),
        (lp.DiffPIR, {"zeta": 2.0}, r"zeta \(ζ\) must be between 0 and 1"),
        (lp.DAPS, {"langevin_steps": 10, "tau": 0.0}, r"tau \(τ\) must be between 1e-09 and 1e\+100, got 0.0"),
        (lp.DAPS, {"ode_steps": 0}, r"ode_steps \(n\) must be a whole number of at least 1"),
        (lp.PnPDM, {"decay": 0.0}, r"decay \(d\) must be between 1e-09 and 1"),
        (lp.FlowChef, {"step_size": 3.0}, r"step_size \(κ\) must be between 0 and 2"),
        (lp.LATINO, {"delta": float("nan")}, r"delta \(δ\) must be at least 0 and finite, got nan"),
        (lp.REDDiff, {"learning_rate": float("inf")}, "learning_rate must be at least 0 and finite"),
    ],
)
def test_bad_settings_are_refused_with_one_line(make, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(TARGET, **options)
    assert len(str(caught.value).splitlines()) == 1
