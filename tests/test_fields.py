import math

import pytest
import torch

from lanpaint import (
    VP,
    BiG,
    Decoupled,
    Drift,
    FastLangevin,
    LanPaint,
    NoiseLevel,
    NormalNoise,
    Observation,
    Prediction,
    Sampler,
    Score,
    uniform_log_snr,
)
from lanpaint.observation import Draws
from lanpaint.verification import affine_step
from lanpaint_toys import Gaussian, GaussianMixture

LEVEL = NoiseLevel(0.8, 0.6)


@pytest.fixture
def target():
    return GaussianMixture([[0.0, 1.0, -1.0], [1.0, -1.0, 0.5]], [0.3, 0.7], [0.4, 0.6])


@pytest.fixture
def x():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def observation(x):
    return Observation(torch.full_like(x, 0.4), torch.tensor([False, True, True]))


def test_guidance_minus_one_is_the_unconditional_score(target, observation, x):
    assert torch.equal(BiG(target, observation, lam=-1.0)(x, LEVEL), target.score(x, LEVEL))


def test_guidance_zero_is_the_decoupled_score(target, observation, x):
    """Eq. 7: the model's score on the unknown part, that of N(α y_o, σ²) on the known one."""
    expected = target.score(x, LEVEL).clone()
    expected[:, 1:] = (0.8 * 0.4 - x[:, 1:]) / 0.36
    assert torch.allclose(BiG(target, observation, lam=0.0)(x, LEVEL), expected, atol=1e-14)
    assert torch.allclose(Decoupled(target, observation)(x, LEVEL), expected, atol=1e-14)


@pytest.mark.parametrize("lam", [-0.5, 1.0, 8.0])
def test_big_score_is_equation_12(target, observation, x, lam):
    score = target.score(x, LEVEL)
    expected = score.clone()
    expected[:, 1:] = (1 + lam) * (0.8 * 0.4 - x[:, 1:]) / 0.36 - lam * score[:, 1:]
    assert torch.allclose(BiG(target, observation, lam)(x, LEVEL), expected, atol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_above_the_noise_of_a_measurement_its_variance_is_taken_from_the_level_s(target, x, lam):
    """p_t(y | y_o) = N(α y_o, σ² − α² s²)."""
    observation = Observation(torch.full_like(x, 0.4), torch.tensor([False, True, True]), noise=0.5)
    field = BiG(target, observation, lam)
    variance = 0.36 - 0.64 * 0.25
    score = target.score(x, LEVEL)
    expected = (1 + lam) * (0.8 * 0.4 - x[:, 1:]) / variance - lam * score[:, 1:]
    assert torch.allclose(field(x, LEVEL)[:, 1:], expected, atol=1e-12)
    assert torch.allclose(field.damping(LEVEL)[1], torch.tensor((1 + lam) / variance, dtype=torch.float64))


def test_damping_and_time_scale_are_those_of_algorithm_4(target, observation):
    field = BiG(target, observation, lam=8.0, expected_noise=0.5)
    unknown = 0.36 + 0.64 * 0.5
    assert torch.allclose(field.damping(LEVEL), torch.tensor([1 / unknown, 9 / 0.36], dtype=torch.float64))
    assert torch.allclose(field.time_scale(LEVEL), torch.tensor([unknown, 0.36], dtype=torch.float64))


def test_levels_per_sample_and_per_element_give_what_each_level_gives_alone(target, observation, x):
    field = BiG(target, observation, lam=3.0)
    alpha = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=torch.float64)
    per_sample = NoiseLevel(alpha, (1 - alpha**2).sqrt()).per_sample(2)
    together = field(x, per_sample)
    for i, a in enumerate(alpha.tolist()):
        alone = BiG(target, Observation(observation.values[i : i + 1], observation.known), lam=3.0)
        assert torch.allclose(together[i : i + 1], alone(x[i : i + 1], NoiseLevel(a, math.sqrt(1 - a * a))), atol=1e-12)
    assert field.damping(per_sample).shape == (2, 5, 1)
    spread = NoiseLevel(per_sample.alpha.expand(5, 3), per_sample.sigma.expand(5, 3))
    assert torch.allclose(field(x, spread), together, atol=1e-12)


def test_a_drift_remembers_its_last_evaluation(target, observation, x):
    field = BiG(target, observation)
    drift = field.drift(LEVEL, 0.1 * field.time_scale(LEVEL))
    assert drift.prediction is None
    drift(x)
    assert torch.equal(drift.prediction.denoised, target.denoised(x, LEVEL))


@pytest.mark.parametrize("lam", [-1.1, math.nan, math.inf])
def test_a_lam_below_minus_one_is_refused(target, observation, lam):
    with pytest.raises(ValueError, match=r"lam \(λ\) must be a number of at least −1"):
        BiG(target, observation, lam)


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_negative_expected_noise_is_refused(target, observation, noise):
    with pytest.raises(ValueError, match=r"expected_noise \(a\) must be"):
        BiG(target, observation, expected_noise=noise)


@pytest.mark.parametrize("friction", [1.0, 15.0, math.inf])
def test_guidance_minus_one_samples_the_unconditional_law_under_fast_langevin(friction):
    target = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    field = BiG(target, Observation(torch.ones(1, 2).double(), torch.tensor([False, True])), -1.0, expected_noise=0.4)
    drift = field.drift(LEVEL, 0.01 * field.time_scale(LEVEL))
    covariance = affine_step(FastLangevin(friction), drift, 2).stationary_covariance()[:2, :2]
    assert covariance == pytest.approx(torch.tensor([[1.0, 0.512], [0.512, 1.0]]).numpy(), abs=1e-3)  # α² C + σ²


def _clean_second_coordinate(steps):
    """Levels of which the first coordinate descends, the second being clean from the start."""
    levels = uniform_log_snr(VP.linear(), steps)
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    return [NoiseLevel(torch.cat([v.alpha.view(1), one]), torch.cat([v.sigma.view(1), zero])) for v in levels]


def test_entries_without_noise_stay_and_condition_the_others():
    """A level per coordinate: the probability flow of x given a clean y ends at N(0.8 y, 0.36)."""
    target = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    start = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).double()
    x = Sampler(target, levels=_clean_second_coordinate(2000))(Observation.none((2, 2), torch.float64), start=start)
    assert x[:, 1].tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert x[:, 0].tolist() == pytest.approx([0.8, 0.8 + 0.6], abs=5e-3)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "options",
    [*({"friction": f, "expected_noise": a} for f in (1.0, 15.0, math.inf) for a in (0.0, 1.0)), {"preset": "fast"}],
    ids=str,
)
def test_inner_steps_leave_entries_without_noise_alone(options, known):
    start = torch.tensor([[0.3, 1.0]]).double()
    paint = LanPaint(
        Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]]),
        levels=_clean_second_coordinate(4),
        **options,
    )
    for state in paint.iterate(Observation(start, torch.tensor([False, known])), start=start):
        assert float(state.x[0, 1]) == pytest.approx(1.0, abs=1e-12)
        assert math.isfinite(float(state.x[0, 0]))


@pytest.mark.parametrize("name", ["nothing known", "λ = −1", "known part held", "known part moves", "with draws"])
def test_a_drift_knows_its_density_where_it_is_the_gradient_of_one(target, x, name):
    """On the entries that move. With λ > −1 that is where the known part does not; draws pull beside the density."""
    known = torch.tensor([False, True, True])
    observation = Observation(torch.full_like(x, 0.4), known)
    if name == "nothing known":
        observation = Observation.none(x.shape, torch.float64)
    if name == "with draws":
        soft = Observation.soft(torch.full_like(x, 0.4), torch.tensor([0.0, 0.0, 0.5]).double())
        observation = soft.held(3, 4)
        at = torch.full_like(x, 0.2) * torch.tensor([0.0, 0.0, 1.0])
        observation.draws = Draws(torch.tensor([False, False, True]), at, NoiseLevel(0.5, 1.0))
    field = BiG(target, observation, lam=-1.0 if name == "λ = −1" else 8.0)
    step = 0.1 * field.time_scale(LEVEL)
    if name in ("known part held", "with draws"):
        step = torch.stack([step[0], torch.zeros_like(step[1])])
    drift = field.drift(LEVEL, step)
    assert (drift.log_density is None) == (name in ("known part moves", "with draws"))
    if drift.log_density is not None:
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(drift.log_density(point).sum(), point)
        moving = slice(0, 1) if name == "known part held" else slice(None)
        assert torch.allclose(drift(x)[:, moving], gradient[:, moving], atol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_released_entries_are_pulled_to_their_draw_as_by_the_transition_to_its_level(target, x, lam):
    """s_x + r (x_c − r x)/v with r = α_c/α, v = σ_c² − r² σ²; A = 1/(σ² + α² a) + r²/v. The known part stays BiG's."""
    soft = Observation.soft(torch.full_like(x, 0.4), torch.tensor([0.0, 1.0, 0.5]).double())
    observation = soft.held(3, 4)
    at = torch.full_like(x, 0.3) * torch.tensor([0.0, 0.0, 1.0])
    observation.draws = Draws(torch.tensor([False, False, True]), at, NoiseLevel(0.5, 1.0))
    field, score = BiG(target, observation, lam, expected_noise=0.7), target.score(x, LEVEL)
    ratio, variance = 0.5 / 0.8, 1.0 - (0.5 / 0.8 * 0.6) ** 2
    expected = score.clone()
    expected[:, 0] = (1 + lam) * (0.8 * 0.4 - x[:, 0]) / 0.36 - lam * score[:, 0]
    expected[:, 2] += ratio * (0.3 - ratio * x[:, 2]) / variance
    assert torch.allclose(field(x, LEVEL), expected, atol=1e-12)
    unknown = 0.36 + 0.64 * 0.7
    damping = field.damping(LEVEL).expand(2, 3)
    assert torch.allclose(damping[0], torch.full((3,), 1 / unknown).double())
    assert float(damping[1, 0]) == pytest.approx((1 + lam) / 0.36)
    assert float(damping[1, 2]) == pytest.approx(1 / unknown + ratio**2 / variance)
    scale = field.time_scale(LEVEL).expand(2, 3)
    assert float(scale[1, 2] * damping[1, 2]) == pytest.approx(1.0)  # A dτ = η


def test_an_entry_does_not_move_at_the_level_of_its_draw(target, x):
    soft = Observation.soft(torch.full_like(x, 0.4), torch.tensor([0.0, 1.0, 0.5]).double())
    observation = soft.held(3, 4)
    observation.draws = Draws(torch.tensor([False, False, True]), torch.zeros_like(x), LEVEL)
    field = BiG(target, observation)
    assert field.time_scale(LEVEL).expand(2, 3)[1].tolist() == pytest.approx([0.36, 0.36, 0.0])
    assert field.freedom(LEVEL).tolist() == [1.0, 1.0, 0.0]
    assert bool(torch.isfinite(field(x, LEVEL)).all())


def test_a_drift_of_two_regions_needs_their_axis():
    with pytest.raises(ValueError, match=r"with two regions time_step needs a leading axis of 2 .*, got \(\)"):
        Drift(torch.neg, [1.0, 2.0], 0.1, known=torch.tensor([False, True]))


@pytest.mark.parametrize("shape", [(), (4, 1), (4, 3), (1, 3)])
def test_a_quantity_of_two_regions_is_put_where_the_mask_says(shape):
    """With one level, one per sample or one per entry; alone, and as one of several coefficients."""
    known = torch.tensor([False, True, True])
    compact = torch.arange(1.0, 1 + 2 * math.prod(shape)).double().reshape(2, *shape)
    drift = Drift(torch.neg, compact, 2 * compact, known)
    expected = torch.where(known, compact[1].expand(4, 3), compact[0].expand(4, 3)).float()
    x = torch.zeros(4, 3)
    assert torch.equal(drift.broadcast(drift.damping, x).expand(4, 3), expected)
    one, two = drift.coefficients([drift.damping, drift.time_step], x)
    assert torch.equal(one.expand(4, 3), expected)
    assert torch.equal(two.expand(4, 3), 2 * expected)


def test_a_quantity_of_one_region_is_a_number_or_has_the_shape_of_its_level():
    x = torch.zeros(4, 3)
    (number,) = Drift(torch.neg, 0.3, 0.1).coefficients([torch.tensor(0.3).double()], x)
    assert isinstance(number, float)  # nothing is copied to the device of x
    assert number == pytest.approx(0.3, rel=1e-6)
    levels = torch.linspace(0.1, 0.4, 4).double()[:, None]
    drift = Drift(torch.neg, levels, levels)
    assert torch.equal(drift.broadcast(drift.damping, x), levels.float())
    assert drift.broadcast(torch.tensor(0.25).double(), torch.zeros(4, 3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("damping", "step", "told"),
    [
        ([1.0, -0.1], [0.1, 0.1], "damping must be above 0, got -0.1"),
        ([1.0, 0.0], [0.1, 0.1], "damping must be above 0, got 0"),
        ([1.0, math.nan], [0.1, 0.1], "damping must be above 0, got nan"),
        ([1.0, 2.0], [0.1, -0.2], "time_step must be at least 0, got -0.2"),
    ],
)
def test_one_wrong_number_among_several_is_refused(damping, step, told):
    known = torch.tensor([False, True])
    with pytest.raises(ValueError, match=told):
        Drift(torch.neg, damping, step, known)
    Drift(torch.neg, [1.0, 2.0], [0.1, 0.0], known)  # entries that are held


def test_where_nothing_is_known_the_field_is_the_score_on_one_region(target, x):
    field = BiG(target, Observation.none(x.shape, torch.float64), lam=8.0)
    drift = field.drift(LEVEL, 0.1 * field.time_scale(LEVEL))
    assert torch.equal(drift(x), target.score(x, LEVEL))
    assert drift.known is None
    assert drift.time_step.shape == ()
    assert float(drift.damping) == pytest.approx(1 / 0.36)


def test_the_decoupled_known_part_does_not_look_at_the_score(observation, x):
    field = Decoupled(lambda x, level: torch.where(observation.known, math.inf, -x), observation)
    expected = torch.where(observation.known, (0.8 * 0.4 - x) / 0.36, -x)
    assert torch.allclose(field(x, LEVEL), expected, atol=1e-14)


@pytest.mark.parametrize("lam", [-0.5, 0.0, 8.0])
@pytest.mark.parametrize("view", ["epsilon", "denoised", "v", "flow"])
def test_the_field_is_the_same_whatever_view_the_model_gives(target, observation, x, lam, view):
    class Viewed(Score):
        def predict(self, x, level):
            return Prediction(x, level, **{view: getattr(target.predict(x, level), view)})

    expected = BiG(target, observation, lam)(x, LEVEL)
    assert torch.allclose(BiG(Viewed(), observation, lam)(x, LEVEL), expected, rtol=1e-12, atol=1e-11)


def test_a_drift_computes_its_field_anew_for_states_of_another_dtype(target, observation, x):
    field = BiG(target, observation)
    drift = field.drift(LEVEL, 0.1 * field.time_scale(LEVEL))
    assert torch.equal(drift(x), field(x, LEVEL))
    assert torch.equal(drift(x.float()), field(x.float(), LEVEL))
    assert drift(x.float()).dtype == torch.float32


def test_coefficients_of_a_level_are_solved_once(target, observation, x, monkeypatch):
    calls = []
    solve = FastLangevin.solve_strang
    monkeypatch.setattr(FastLangevin, "solve_strang", lambda *given: calls.append(1) or solve(*given))
    field, noise, dynamics = BiG(target, observation), NormalNoise(torch.Generator().manual_seed(0)), FastLangevin()
    for level in (LEVEL, NoiseLevel(0.9, 0.3)):
        drift = field.drift(level, 0.1 * field.time_scale(level))
        state = dynamics.init(x, drift, noise)
        for _ in range(4):
            state = dynamics.step(state, drift, noise)
    assert len(calls) == 2
