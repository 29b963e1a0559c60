"""SyncSDE and ALM against formulas that are derived by hand, in variance-preserving units, on a Gaussian.

With data N(m, C) the model's noise is ε̂(x) = σ (α² C + σ²)⁻¹ (x − α m): a matrix B and a vector. So one step of ALM,
the printed Eq. 1, 2 and 12, is a few lines of linear algebra. M is the mask of unknown entries.
"""

import functools
import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers.partner import invert
from lanpaint_toys import Gaussian, GaussianMixture
from tests.adapters import tiny
from tests.samplers.affine import law
from tests.samplers.reference_problem import assert_invariant

DOUBLE = torch.float64
MEAN = torch.tensor([0.3, -0.2, 0.5], dtype=DOUBLE)
COV = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.5]], dtype=DOUBLE)
TARGET = Gaussian(MEAN, COV)
KNOWN = torch.tensor([False, True, False])
M = torch.diag((~KNOWN).double())
K = torch.eye(3, dtype=DOUBLE) - M
VALUES = torch.tensor([0.0, 0.7, 0.0], dtype=DOUBLE)
START = torch.tensor([0.4, -1.1, 0.9], dtype=DOUBLE)
LEVELS = lp.uniform_time(lp.VP.linear(), 3)


def zeros(like):
    return torch.zeros_like(like)


def noise_of(x, level):
    """ε̂(x) of the Gaussian."""
    alpha, sigma = level.numbers
    return sigma * torch.linalg.solve(alpha**2 * COV + sigma**2 * torch.eye(3, dtype=DOUBLE), x - alpha * MEAN)


def first_step(sampler):
    """The state after the first outer step from START, with all random numbers 0."""
    observation = lp.Observation(VALUES[None], KNOWN)
    states = sampler.iterate(observation, start=START[None], noise=zeros)
    return next(state.x[0] for state in states if state.kind == "outer")


def by_hand(
    level, after, *, w1=1.0, w2=0.005, decay=1.0, pull=1.0, halved=1.0, scale=1.0, reuse=False, ahead=None, updates=1
):
    """Eq. 1 (or Eq. 9, several times) and Eq. 2 from START in the units of the levels."""
    alpha, sigma = level.numbers
    x = alpha * VALUES  # forward diffusion with the noise 0
    y = START
    for _ in range(updates):
        at_y, blend = noise_of(y, level), K @ x + M @ y
        at_blend = noise_of(blend, level)
        y = y + decay * scale / updates * M @ (halved * w1 * (at_y - at_blend) - w2 * at_blend)
    epsilon = at_y if reuse else noise_of(y, level)
    alpha_next, sigma_next = after.numbers
    stepped = alpha_next * (y - sigma * epsilon) / alpha + sigma_next * epsilon
    return stepped + pull * w1 * K @ ((x if ahead is None else ahead) - y)


def ddpm_sigma(level, after):
    bar, bar_next = level.numbers[0] ** 2, after.numbers[0] ** 2
    return ((1 - bar_next) / (1 - bar)) ** 0.5 * (1 - bar / bar_next) ** 0.5


CASES = {
    "printed": ({}, {}),
    "SyncSDE is ALM without updates": ({"w2": 0.0, "last_share": 1.0}, {"decay": 0.0}),
    "pull that does not decay": ({"pull_decay": False}, {"pull": 1.0}),
    "updates that do not decay": ({"decay": False}, {"decay": 1.0}),
    "X at the next level": ({"pull_next": True}, {"ahead": LEVELS[1].numbers[0] * VALUES}),
    "reused ε": ({"reuse": True}, {"reuse": True}),
    "the factor that Eq. 9 drops": ({"scaled": True}, {"scale": 1 / LEVELS[0].numbers[1]}),
    "iterative": ({"iterations": 4}, {"updates": 4}),
    "no conditional term": ({"contrast": 0.0, "w2": 0.1}, {"halved": 0.0, "w2": 0.1}),
    "other weights": ({"w1": 0.5, "w2": 0.3}, {"w1": 0.5, "w2": 0.3}),
}


@pytest.mark.parametrize(("options", "formula"), CASES.values(), ids=CASES.keys())
def test_one_step_is_the_printed_formula(options, formula):
    sampler = lp.ALM(TARGET, levels=LEVELS, partner="fixed", **options)
    s = ddpm_sigma(*LEVELS[:2])
    expected = by_hand(*LEVELS[:2], **{"decay": s, "pull": s, **formula})
    assert torch.allclose(first_step(sampler), expected, rtol=0, atol=1e-12)


def test_one_step_of_a_flow_is_the_printed_formula():
    """Eq. 23 to 27: ε = Y + (1 − t) v, w₁' = 0.5 w₁, and both weights times t⁴."""
    levels = [lp.NoiseLevel(1 - t, t) for t in (0.8, 0.3, 0.0)]
    sampler = lp.ALM(TARGET, levels=levels, partner="fixed", coordinates="flow", w1=0.9, w2=0.1)
    expected = by_hand(*levels[:2], w1=0.9, w2=0.1, decay=0.8**4, pull=0.8**4, halved=0.5)
    assert torch.allclose(first_step(sampler), expected, rtol=0, atol=1e-12)


def test_the_terms_of_an_update_can_be_taken_alone():
    """Without both it is SyncSDE; by default w₁' is w₁, and w₁/2 for a flow."""
    options = {"levels": LEVELS, "partner": "fixed", "w1": 0.8}
    alone, sync = lp.ALM(TARGET, w2=0.0, contrast=0.0, **options), lp.SyncSDE(TARGET, **options)
    assert torch.equal(first_step(alone), first_step(sync))
    for coordinates, share in (("diffusion", 1.0), ("flow", 0.5)):
        options["coordinates"] = coordinates
        same = lp.ALM(TARGET, contrast=share * 0.8, **options)
        assert torch.equal(first_step(same), first_step(lp.ALM(TARGET, **options)))


def test_updates_remember_their_own_predictions_and_none_of_an_earlier_run():
    """The corrected predictions of the updates follow those without guidance, and two runs are alike."""
    conditional = Gaussian(MEAN + 0.4, COV)
    guided = lp.LML(lp.GuidedScore(conditional, TARGET, 3.0), 0.5)
    options = {"levels": LEVELS, "partner": "fixed", "w2": 0.3}

    def run(sampler):
        return sampler(lp.Observation(VALUES[None], KNOWN), start=START[None], noise=zeros)

    sampler = lp.ALM(guided, **options)
    first = run(sampler)
    assert torch.equal(first, run(sampler))
    by_itself = lp.LML(lp.GuidedScore(conditional, TARGET, 3.0), 0.5)
    assert torch.equal(first, run(lp.ALM(by_itself, unguided=lp.LML(conditional, 0.5), **options)))
    assert not torch.allclose(first, run(lp.ALM(by_itself, unguided=by_itself, **options)), atol=1e-4)


def test_a_flow_model_is_told_by_its_schedule_and_may_start_without_signal():
    def network(x, time):
        return x.sign() * time.view(-1, 1).to(x)

    score = lp.NetworkScore(network, "flow", lp.Flow())
    observation = lp.Observation(VALUES.expand(2, 3), KNOWN)
    for options in ({}, {"reuse": True}, {"partner": "fresh"}, {"precision": "constant"}):
        sampler = lp.ALM(score, steps=3, **options)
        assert sampler.flow
        assert bool(torch.isfinite(sampler(observation, generator=torch.Generator().manual_seed(0))).all())


def test_eq28_with_ancestral_steps_moves_the_mean_by_the_variance_times_the_score():
    """DDPM's mean is (Y + β s)/√(1 − β), with β = 1 − ᾱ/ᾱ' and s = −ε̂/σ + (w₁/σ_t²)(X − Y) where known."""
    level, after = LEVELS[:2]
    (alpha, sigma), alpha_next = level.numbers, after.numbers[0]
    beta = 1 - (alpha / alpha_next) ** 2
    score = -noise_of(START, level) / sigma + 0.1 / ddpm_sigma(level, after) ** 2 * K @ (alpha * VALUES - START)
    expected = (START + beta * score) / (1 - beta) ** 0.5
    sampler = lp.SyncSDE(
        TARGET, levels=LEVELS, partner="fixed", precision="eq28", w1=0.1, pull_decay=False, solver=lp.DDIM(eta=1.0)
    )
    assert torch.allclose(first_step(sampler), expected, rtol=0, atol=1e-12)


def test_a_constant_precision_is_syncsde_as_its_own_paper_has_it():
    """x' = (α'/α) x − σ γ ε̂ + (γ/λ)(X − x) with γ = α'/α − σ'/σ (Lee et al., 2025)."""
    level, after = LEVELS[:2]
    (alpha, sigma), (alpha_next, sigma_next) = level.numbers, after.numbers
    gamma = alpha_next / alpha - sigma_next / sigma
    expected = alpha_next / alpha * START - sigma * gamma * noise_of(START, level)
    expected = expected + gamma / 0.2 * K @ (alpha * VALUES - START)
    sampler = lp.SyncSDE(TARGET, levels=LEVELS, partner="fixed", precision="constant", w1=5.0, pull_decay=False)
    assert torch.allclose(first_step(sampler), expected, rtol=0, atol=1e-12)


def test_inversion_of_standard_normal_data_is_a_product_of_factors():
    """For N(0, I) ε̂ = σ x. With ε̂ taken at the next level, one step is x → (α'/α)(x − σ σ' x) + σ'² x."""
    trajectory = invert(lp.as_score(Gaussian([0.0], [[1.0]])), torch.ones(1, 1, dtype=DOUBLE), LEVELS)
    x, found = 1.0, [1.0]
    for clean, noisy in zip(LEVELS[:0:-1], LEVELS[-2::-1], strict=True):
        (alpha, sigma), (alpha_next, sigma_next) = clean.numbers, noisy.numbers
        x = alpha_next / alpha * (x - sigma * sigma_next * x) + sigma_next**2 * x
        found.insert(0, x)
    assert torch.allclose(torch.cat(trajectory).flatten(), torch.tensor(found, dtype=DOUBLE), rtol=0, atol=1e-12)


def test_the_contrast_of_a_gaussian_does_not_depend_on_what_is_unknown_so_iterating_is_no_better():
    """ε̂(Y) − ε̂(E) = B K (Y − X). With w₂ = 0 all N updates are the same, and one update of N times the size is all."""
    options = {"levels": LEVELS, "partner": "fixed", "w2": 0.0}
    once, often = (first_step(lp.ALM(TARGET, iterations=n, **options)) for n in (1, 7))
    assert torch.allclose(once, often, rtol=0, atol=1e-14)
    mixture = GaussianMixture([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]], [COV.tolist()] * 2, [0.5, 0.5])
    options["levels"] = [lp.NoiseLevel(1 - t, t) for t in (0.4, 0.2, 0.0)]
    once, often = (first_step(lp.ALM(mixture, iterations=n, **options)) for n in (1, 7))
    assert not torch.allclose(once, often, rtol=0, atol=1e-6)


def test_the_updates_shrink_the_variance_by_the_product_of_their_contractions():
    """Independent N(0, 1) entries: w₁ does nothing, and x is multiplied by 1 − w₂ s σ before each step of DDIM."""
    target, levels = Gaussian([0.0, 0.0], torch.eye(2).tolist()), lp.uniform_time(lp.VP.linear(), 8)
    known = torch.tensor([False, True])
    values = torch.tensor([0.0, 0.5], dtype=DOUBLE)
    _, cov = law(lp.ALM(target, levels=levels, w2=0.4), values, known)
    factor = 1.0
    for level, after in itertools.pairwise(levels):
        (alpha, sigma), (alpha_next, sigma_next) = level.numbers, after.numbers
        factor *= (1 - 0.4 * ddpm_sigma(level, after) * sigma) * (alpha_next * alpha + sigma_next * sigma)
    assert abs(float(cov[0, 0]) - factor**2) < 1e-12


def test_guidance_is_left_out_of_the_updates_and_kept_in_the_step():
    """Sec. 4.1: Eq. 9 takes the conditional score, Eq. 2 the guided one."""
    plain, other = lp.CountedScore(TARGET), lp.CountedScore(Gaussian(-MEAN, COV))
    sampler = lp.ALM(lp.GuidedScore(plain, other, 3.0), levels=LEVELS, partner="fixed")
    sampler(lp.Observation(VALUES[None], KNOWN), generator=torch.Generator().manual_seed(0))
    assert (plain.evaluations, other.evaluations) == (9, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"w1": -1.0}, "w1"),
        ({"w2": float("nan")}, "w2"),
        ({"iterations": 0}, "iterations"),
        ({"last_share": 1.5}, "last_share"),
        ({"partner": "ddim"}, "inversion, fixed, fresh"),
        ({"precision": "eq5"}, "eq4, constant, eq28"),
        ({"coordinates": "ve"}, "auto, diffusion, flow"),
        ({"reuse": True, "solver": lp.Heun()}, "one evaluation"),
    ],
)
def test_what_alm_cannot_take_is_told(options, told):
    with pytest.raises(ValueError, match=told):
        lp.ALM(TARGET, **options)


def test_eq28_overshoots_at_the_end_of_few_steps_and_says_what_to_do():
    """Its pull on the state is w₁ α' σ²/(α σ'²) with ancestral steps: above 2 where the noise falls fast."""
    sampler = lp.SyncSDE(TARGET, levels=LEVELS, precision="eq28", solver=lp.DDIM(eta=1.0), w1=1000.0)
    with pytest.raises(lp.DivergenceError, match="lower w1"):
        sampler(lp.Observation(VALUES[None], KNOWN), generator=torch.Generator().manual_seed(0))


def test_inversion_refuses_a_soft_observation_and_forward_diffusion_takes_it():
    soft = lp.Observation.soft(VALUES.expand(2, 3), torch.tensor([1.0, 0.0, 0.5]))
    with pytest.raises(ValueError, match='partner="fixed"'):
        lp.ALM(TARGET, steps=4)(soft)
    assert lp.ALM(TARGET, steps=4, partner="fixed")(soft).shape == (2, 3)


@pytest.mark.parametrize("method", [lp.SyncSDE, lp.ALM, functools.partial(lp.ALM, partner="fixed", reuse=True)])
def test_a_pipeline_runs_them_through_the_bridge(method):
    made, kept = tiny.sd(), {}

    class Keep(lp.Callback):
        def on_level_end(self, sampler, state):
            kept["x"], kept["values"], kept["known"] = state.x, state.observation.values, state.observation.known

    def half(latents):
        values = torch.linspace(-1, 1, latents.numel()).reshape(latents.shape)
        return lp.Observation(values, (torch.arange(latents.shape[-1]) < 3).expand(latents.shape))

    sampler = functools.partial(method, callbacks=[Keep()])
    with lp.bridged(made.pipe, sampler, half) as bridge:
        made.pipe(num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="latent", **made.call)
    assert bridge.planned == bridge.evaluations
    assert torch.equal(kept["x"][..., :3], kept["values"][..., :3])
    assert bool(torch.isfinite(kept["x"]).all())


@pytest.mark.parametrize("coordinates", ["diffusion", "flow"])
@pytest.mark.parametrize(
    "options", [{}, {"pull_next": True}, {"precision": "constant"}, {"precision": "eq28"}, {"partner": "inversion"}]
)
def test_the_coordinates_of_the_model_change_nothing(coordinates, options):
    """The formulas are those of one formalism; in a model of another one x, X_t and the updates are rescaled alike."""
    options = {"partner": "fixed", "coordinates": coordinates, "w1": 0.3} | options
    for make in (lp.SyncSDE, functools.partial(lp.ALM, iterations=2, scaled=True)):
        assert_invariant(functools.partial(make, **options))
