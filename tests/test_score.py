"""Scores: networks of every prediction type, guidance, counting, rewriting, modules, and what counts as a score."""

import copy
import functools
import pickle
from dataclasses import dataclass

import pytest
import torch

import lanpaint as lp
from lanpaint.noise import VIEWS, NoiseLevel, Prediction
from lanpaint.schedules import VE, VP, Flow
from lanpaint.score import CountedScore, GuidedScore, NetworkScore, Score, ScoreWrapper, as_score
from lanpaint_toys.gaussian import Gaussian, GaussianMixture

DOUBLE = torch.float64
TARGET = GaussianMixture(
    means=[[1.0, -2.0, 0.5], [-1.0, 0.0, 2.0]],
    cov=[
        [[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]],
        [[0.7, 0.0, 0.2], [0.0, 0.4, 0.0], [0.2, 0.0, 1.0]],
    ],
    weights=[0.3, 0.7],
)
# Times that float32, in which a network gets its time, holds exactly: whole ones and short binary fractions.
SCHEDULES = {
    "VP": (VP.linear(), [0.0, 1.0, 250.0, 613.5, 999.0]),
    "VE": (VE(0.01, 50.0), [0.0, 0.125, 0.5, 0.75, 1.0]),
    "flow": (Flow(), [0.0625, 0.25, 0.5, 0.75, 0.984375]),
    "shifted flow": (Flow(shift=3.0), [0.0625, 0.25, 0.5, 0.75, 0.984375]),
}
every_formalism = pytest.mark.parametrize(("schedule", "times"), SCHEDULES.values(), ids=SCHEDULES)
every_view = pytest.mark.parametrize("view", VIEWS)


def _exact_network(view, schedule):
    """What a perfectly trained network would be: x in the schedule's coordinates and its time, of shape (B,)."""

    def network(x, time):
        assert time.shape == x.shape[:1]
        return getattr(TARGET.predict(x, schedule.level(time).per_sample(x.ndim)), view)

    return network


def _states(level, count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TARGET.sample(count, generator, level)


def _assert_same_prediction(got, expected, tolerance=1e-9):
    for view in VIEWS:
        want = getattr(expected, view)
        scale = max(1.0, float(want.abs().max()))
        torch.testing.assert_close(getattr(got, view) / scale, want / scale, rtol=0, atol=tolerance, msg=view)


# --- NetworkScore


@every_formalism
@every_view
def test_exact_network_gives_the_exact_score_at_its_own_levels(view, schedule, times):
    score = NetworkScore(_exact_network(view, schedule), view, schedule)
    for time in times:
        level = schedule.level(time)
        x = _states(level)
        _assert_same_prediction(score.predict(x, level), TARGET.predict(x, level))


@every_formalism
@every_view
def test_exact_network_gives_the_exact_score_in_any_other_coordinates(view, schedule, times):
    score = NetworkScore(_exact_network(view, schedule), view, schedule)
    own = schedule.level(times[2])
    for factor in (0.1, float(1 / own.alpha), float(1 / (own.alpha + own.sigma)), 20.0):
        level = own.rescale(factor)
        x = _states(level)
        _assert_same_prediction(score.predict(x, level), TARGET.predict(x, level))


@every_formalism
@every_view
def test_each_sample_may_have_its_own_level_and_coordinates(view, schedule, times):
    score = NetworkScore(_exact_network(view, schedule), view, schedule)
    factors = torch.tensor([1.0, 0.3, 5.0, 1.0, 2.0], dtype=DOUBLE)
    level = schedule.level(torch.tensor(times, dtype=DOUBLE)).rescale(factors).per_sample(2)
    x = _states(level)
    _assert_same_prediction(score.predict(x, level), TARGET.predict(x, level))
    for row in range(5):  # and is not touched by the other samples
        alone = NoiseLevel(level.alpha[row, 0], level.sigma[row, 0])
        alone = score.score(x[row : row + 1], alone)
        torch.testing.assert_close(score.score(x, level)[row], alone[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("view", ["denoised", "flow", "v"])
def test_network_that_speaks_of_clean_data_is_exact_at_pure_noise(view):
    score = NetworkScore(_exact_network(view, Flow()), view, Flow())
    level = NoiseLevel(0.0, 3.0)
    x = _states(level)
    _assert_same_prediction(score.predict(x, level), TARGET.predict(x, level))


def test_network_sees_its_own_coordinates_and_one_time_per_sample():
    seen = []

    def network(x, time):
        seen.append((x, time))
        return torch.zeros_like(x)

    schedule = VP.linear()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    own = schedule.level(400.0)
    NetworkScore(network, "epsilon", schedule).score(x * 7, own.rescale(7.0))
    state, time = seen[0]
    torch.testing.assert_close(state, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(time, torch.full((4,), 400.0, dtype=DOUBLE))


class _Recording(torch.nn.Module):
    """Records what dtypes come in, and predicts no noise at all in its own dtype."""

    def __init__(self, dtype):
        super().__init__()
        self.register_buffer("index", torch.arange(3))  # an integer buffer and parameter must not decide the dtype
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=dtype))
        self.seen = []

    def forward(self, x, time):
        self.seen.append((x.dtype, time.dtype))
        return x * self.weight


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_network_runs_in_its_own_dtype_and_the_state_keeps_its_own(network_dtype, x_dtype):
    network = _Recording(network_dtype)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=x_dtype)
    schedule = VP.linear()
    level = schedule.level(torch.tensor([10.0, 500.0])).per_sample(2)
    prediction = NetworkScore(network, "epsilon", schedule).predict(x, level)
    assert network.seen == [(network_dtype, torch.float32)]
    assert {getattr(prediction, view).dtype for view in VIEWS} == {x_dtype}
    # ε̂ = 0, so x̂₀ = x/α: with a state that had been rounded to the network's dtype this would be off by 1e-3.
    torch.testing.assert_close(prediction.denoised, x / level.alpha.to(x_dtype), rtol=1e-6, atol=0)


def test_dtype_can_be_given_for_a_network_that_has_no_parameters():
    seen = []

    def network(x, time):
        seen.append(x.dtype)
        return x

    level = VP.linear().level(100.0)
    score = NetworkScore(network, "epsilon", VP.linear(), dtype=torch.bfloat16).score(torch.ones(2, 3), level)
    assert seen == [torch.bfloat16]
    assert score.dtype == torch.float32
    NetworkScore(network, "epsilon", VP.linear()).score(torch.ones(2, 3, dtype=DOUBLE), level)
    assert seen[1:] == [DOUBLE]


def test_output_may_be_a_tuple_that_begins_with_it():
    level, x = VP.linear().level(300.0), torch.ones(2, 3)
    score = NetworkScore(lambda x, time: (x, "more"), "epsilon", VP.linear())
    assert torch.equal(score.epsilon(x, level), x)


def test_score_of_another_shape_is_refused_and_of_another_dtype_is_cast():
    level, x = VP.linear().level(300.0), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"tensor of x's shape \(2, 3\), got shape \(2,\)"):
        as_score(lambda x, level: x.sum(1)).predict(x, level)
    with pytest.raises(ValueError, match=r"tensor of x's shape \(2, 3\), got tuple"):
        as_score(lambda x, level: (x, x)).predict(x, level)
    assert as_score(lambda x, level: x.double()).predict(x, level).score.dtype == torch.float32


def test_output_may_be_an_object_with_a_sample():
    from diffusers.models.unets.unet_2d import UNet2DOutput

    schedule = VP.linear()
    plain = _exact_network("epsilon", schedule)
    wrapped = NetworkScore(lambda x, time: UNet2DOutput(sample=plain(x, time)), "epsilon", schedule)
    level = schedule.level(300.0)
    x = _states(level)
    assert torch.equal(wrapped.score(x, level), NetworkScore(plain, "epsilon", schedule).score(x, level))


@pytest.fixture(scope="module")
def unet():
    from diffusers import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    return network.eval().requires_grad_(False)


def test_unet_of_diffusers_is_a_score_in_any_coordinates_and_at_one_level_per_sample(unet):
    schedule = VP.linear()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([900.0, 30.0])
    score = NetworkScore(unet, "epsilon", schedule)
    own = schedule.level(times).per_sample(4)
    expected = unet(x, times).sample
    assert float(expected.std()) > 0.1  # it says something
    torch.testing.assert_close(score.epsilon(x, own), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(score.score(x, own), -expected / own.sigma.float(), rtol=1e-4, atol=1e-4)
    exploding = own.rescale(1 / own.alpha)
    scaled = score.epsilon(x / own.alpha.float(), exploding)
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-4)
    for row in range(2):
        alone = score.epsilon(x[row : row + 1], schedule.level(times[row]))
        torch.testing.assert_close(alone[0], expected[row], rtol=0, atol=1e-5)


def test_unet_of_diffusers_in_bfloat16_stays_near_itself_in_float32(unet):
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    level = VP.linear().level(500.0)
    half = NetworkScore(copy.deepcopy(unet).to(torch.bfloat16), "epsilon", VP.linear()).epsilon(x, level)
    whole = NetworkScore(unet, "epsilon", VP.linear()).epsilon(x, level)
    assert half.dtype == torch.float32
    assert 0 < float((half - whole).norm() / whole.norm()) < 0.05  # 2⁻⁸ a rounding, in a dozen layers


@pytest.mark.parametrize("shape", [(4, 3), (3,), (4,), (1, 3)])
def test_level_that_varies_within_a_sample_is_refused_with_the_shapes_that_fit(shape):
    score = NetworkScore(_exact_network("epsilon", VP.linear()), "epsilon", VP.linear())
    with pytest.raises(ValueError, match=r"of shape \(\) or \(4, 1\), got \(" + ", ".join(map(str, shape))):
        score.score(torch.zeros(4, 3, dtype=DOUBLE), NoiseLevel(torch.full(shape, 0.8), torch.full(shape, 0.6)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (4, 1)])
def test_single_level_of_any_shape_is_taken(shape):
    score = NetworkScore(_exact_network("epsilon", VP.linear()), "epsilon", VP.linear())
    own = VP.linear().level(200.0)
    x = _states(own, count=4)
    level = NoiseLevel(own.alpha.expand(shape), own.sigma.expand(shape))
    torch.testing.assert_close(score.score(x, level), TARGET.score(x, own), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 6), (4,), (1, 3)])
def test_output_of_another_shape_is_refused_with_both_shapes(shape):
    score = NetworkScore(lambda x, time: torch.zeros(shape), "epsilon", VP.linear())
    with pytest.raises(ValueError, match=r"returned shape \(.*\) for x of shape \(4, 3\)"):
        score.score(torch.zeros(4, 3), VP.linear().level(1.0))


def test_unknown_prediction_type_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=", ".join(VIEWS) + ", got 'noise'"):
        NetworkScore(torch.nn.Identity(), "noise", VP.linear())


# --- GuidedScore

OTHER = Gaussian([0.5, 0.5, -1.0], 2.0)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.3, 1.0, 7.5])
@every_view
def test_guidance_extrapolates_from_the_unconditional_score_in_every_view(view, scale):
    guided = GuidedScore(TARGET, OTHER, scale)
    for level in (NoiseLevel(0.6, 0.8), NoiseLevel(1.0, 12.0), NoiseLevel(0.9, 0.1)):
        x = _states(level)
        conditional, unconditional = (getattr(s.predict(x, level), view) for s in (TARGET, OTHER))
        expected = unconditional + scale * (conditional - unconditional)
        size = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(getattr(guided.predict(x, level), view) / size, expected / size, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scale", "alone"), [(0.0, OTHER), (1.0, TARGET)])
def test_guidance_of_zero_and_one_is_one_of_the_two_scores_without_rounding(scale, alone):
    level = NoiseLevel(0.6, 0.8)
    x = _states(level)
    guided, alone = GuidedScore(TARGET, OTHER, scale).predict(x, level), alone.predict(x, level)
    assert torch.equal(guided.denoised, alone.denoised)
    assert torch.equal(guided.epsilon, alone.epsilon)


def test_guidance_works_at_pure_noise():
    level = NoiseLevel(0.0, 1.0)
    x = _states(level)
    guided = GuidedScore(TARGET, OTHER, 3.0).predict(x, level)
    mean = (TARGET.weights[:, None] * TARGET.means).sum(0)
    expected = (OTHER.mean + 3.0 * (mean - OTHER.mean)).expand_as(x)
    torch.testing.assert_close(guided.denoised, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided.score, -x, rtol=0, atol=1e-12)


def test_every_score_has_a_part_without_guidance_and_wrappers_wrap_it():
    """It is the conditional score of a guided one, in the same wrappers; of any other it is the score itself."""
    other = Gaussian([0.0, 1.0, 0.0], torch.eye(3))
    guided, x, level = GuidedScore(TARGET, other, 5.0), torch.randn(2, 3, dtype=DOUBLE), NoiseLevel(0.8, 0.6)
    assert guided.unguided is TARGET
    assert TARGET.unguided is TARGET
    wrapped = lp.LML(lp.WindowedScore(guided, 3, 0), 0.5)
    torch.testing.assert_close(wrapped.unguided.predict(x, level).denoised, TARGET.predict(x, level).denoised)
    torch.testing.assert_close(wrapped.predict(x, level).denoised, guided.predict(x, level).denoised)
    assert wrapped.unguided.beta == 0.5
    plain = lp.LML(TARGET, 0.5)
    assert plain.unguided is plain


def test_evaluations_without_guidance_count_too():
    counted = CountedScore(GuidedScore(TARGET, Gaussian([0.0] * 3, torch.eye(3)), 5.0))
    x, level = torch.randn(2, 3, dtype=DOUBLE), NoiseLevel(0.8, 0.6)
    counted.predict(x, level)
    counted.unguided.predict(x, level)
    assert (counted.evaluations, counted.rows) == (2, 4)


def test_guidance_costs_one_evaluation_of_each_score_and_keeps_their_schedule():
    schedule = Flow(3.0)
    conditional = CountedScore(NetworkScore(_exact_network("flow", schedule), "flow", schedule))
    unconditional = CountedScore(OTHER)
    for pair in ((conditional, unconditional), (unconditional, conditional)):
        guided = GuidedScore(*pair, 2.0)
        assert guided.schedule is schedule
    guided.score(torch.zeros(2, 3, dtype=DOUBLE), schedule.level(0.5))
    assert (conditional.evaluations, unconditional.evaluations) == (1, 1)


# --- CountedScore


@pytest.mark.parametrize("method", ["score", "denoised", "epsilon", "velocity", "predict"])
def test_every_kind_of_evaluation_counts_once(method):
    counted = CountedScore(TARGET)
    level = NoiseLevel(0.6, 0.8)
    for calls in (1, 2, 3):
        got = getattr(counted, method)(_states(level), level)
        assert counted.evaluations == calls
    if method != "predict":
        assert torch.equal(got, getattr(TARGET, method)(_states(level), level))


def test_all_views_of_one_evaluation_count_once():
    counted, level = CountedScore(TARGET.score), NoiseLevel(0.6, 0.8)
    prediction = counted.predict(_states(level), level)
    for view in VIEWS:
        getattr(prediction, view)
    assert counted.evaluations == 1


def test_counting_keeps_the_schedule():
    schedule = VE()
    assert CountedScore(NetworkScore(_exact_network("score", schedule), "score", schedule)).schedule is schedule
    assert CountedScore(TARGET).schedule is None


# --- Score and as_score


def test_score_and_its_bound_method_are_the_score_itself():
    assert as_score(TARGET) is TARGET
    assert as_score(TARGET.score) is TARGET
    counted = CountedScore(TARGET)
    assert as_score(counted.score) is counted


def test_function_of_state_and_level_is_a_score_with_all_views():
    score = as_score(lambda x, level: -x / (level.alpha**2 + level.sigma**2))  # of a unit Gaussian
    level = NoiseLevel(0.6, 0.4)
    x = _states(level)
    assert isinstance(score, Score)
    assert score.schedule is None
    _assert_same_prediction(score.predict(x, level), Gaussian([0.0] * 3, 1.0).predict(x, level), 1e-12)


def test_velocity_is_the_expected_noise_less_the_expected_data():
    level = NoiseLevel(0.3, 0.7)
    x = _states(level)
    expected = TARGET.epsilon(x, level) - TARGET.denoised(x, level)
    torch.testing.assert_close(TARGET.velocity(x, level), expected, rtol=0, atol=1e-12)


def test_bare_network_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"Linear is a network; wrap it: NetworkScore\(network, predicts="):
        as_score(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("thing", [3, None, "score", torch.zeros(2)])
def test_what_cannot_be_called_is_no_score(thing):
    with pytest.raises(TypeError, match=f"expected a Score or a function .*, got {type(thing).__name__}"):
        as_score(thing)


def test_subclass_that_overrides_neither_method_is_told_so():
    class Empty(Score):
        pass

    for method in ("score", "predict", "denoised"):
        with pytest.raises(TypeError, match=r"Empty must override score\(x, level\) or predict\(x, level\)"):
            getattr(Empty(), method)(torch.zeros(2, 3), NoiseLevel(1.0, 1.0))


# --- ScoreWrapper

COV = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=DOUBLE)
MEAN = torch.tensor([1.5, -0.5], dtype=DOUBLE)
CENTRED, MOVED = Gaussian([0.0, 0.0], COV), Gaussian(MEAN, COV)


class Moved(ScoreWrapper):
    """The score of N(m, C) from that of N(0, C): ε̂' = ε̂ − σ (α² C + σ²)⁻¹ α m."""

    def rewrite(self, prediction):
        alpha, sigma = prediction.level.alpha, prediction.level.sigma
        pull = torch.linalg.solve(alpha**2 * COV + sigma**2 * torch.eye(2, dtype=DOUBLE), alpha * MEAN)
        return Prediction(prediction.x, prediction.level, epsilon=prediction.epsilon - sigma * pull)


class Momentum(ScoreWrapper):
    """ε̂' = ε̂ + β (ε̂ − the ε̂ of the evaluation before)."""

    def __init__(self, score):
        super().__init__(score)
        self.last = None

    def reset(self):
        super().reset()
        self.last = None

    def rewrite(self, prediction):
        epsilon = prediction.epsilon
        last, self.last = self.last, epsilon
        new = epsilon if last is None else epsilon + 0.3 * (epsilon - last)
        return Prediction(prediction.x, prediction.level, epsilon=new)


class Shrunk(ScoreWrapper):
    """x̂₀' = x̂₀/2."""

    def rewrite(self, prediction):
        return Prediction(prediction.x, prediction.level, denoised=prediction.denoised / 2)


OBSERVATION = lp.Observation(torch.full((16, 2), 0.7, dtype=DOUBLE), torch.tensor([False, True]))
SAMPLERS = {
    "Euler": functools.partial(lp.Sampler, solver=lp.Euler()),
    "DDIM": functools.partial(lp.Sampler, solver=lp.DDIM(0.5)),
    "DDPM": functools.partial(lp.Sampler, solver=lp.DDPM()),
    "Heun": functools.partial(lp.Sampler, solver=lp.Heun()),
    "DPM-Solver++ 2M": functools.partial(lp.Sampler, solver=lp.DPMSolver(2)),
    "DPM-Solver++ 3M": functools.partial(lp.Sampler, solver=lp.DPMSolver(3)),
    "Langevin": functools.partial(lp.LanPaint, dynamics=lp.Langevin(), step_size=0.05),
    "fast Langevin": functools.partial(lp.LanPaint, dynamics=lp.FastLangevin()),
    "underdamped": functools.partial(lp.LanPaint, dynamics=lp.Underdamped()),
    "secant": functools.partial(lp.LanPaint, dynamics=lp.SecantLangevin()),
    "gradients": lp.MCG,
}
every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)


def _draw(sampler):
    return sampler(OBSERVATION, generator=torch.Generator().manual_seed(0))


@every_sampler
def test_rewritten_epsilon_gives_the_samples_of_the_law_it_belongs_to(make):
    rewritten, exact, before = (_draw(make(score, steps=8)) for score in (Moved(CENTRED), MOVED, CENTRED))
    torch.testing.assert_close(rewritten, exact, rtol=0, atol=1e-12)
    assert float((exact - before).abs().max()) > 0.1


@pytest.mark.parametrize("shape", [(), (5, 1)])
def test_rewritten_prediction_has_all_views_at_its_x_and_level(shape):
    level = NoiseLevel(torch.full(shape, 0.6, dtype=DOUBLE), torch.full(shape, 0.8, dtype=DOUBLE))
    x = _states(level)
    prediction = Shrunk(TARGET).predict(x, level)
    assert prediction.x is x
    assert prediction.level.shape == shape
    _assert_same_prediction(prediction, Prediction(x, level, denoised=TARGET.denoised(x, level) / 2), 1e-12)


def test_wrapper_takes_over_schedule_and_needs_signal_but_no_log_density():
    for view, schedule in (("epsilon", VP.linear()), ("flow", Flow(3.0))):
        network = NetworkScore(_exact_network(view, schedule), view, schedule)
        wrapper = Shrunk(network)
        assert wrapper.schedule is schedule
        assert wrapper.needs_signal is network.needs_signal
    assert not hasattr(Shrunk(TARGET), "log_prob")
    assert CountedScore(TARGET).log_prob == TARGET.log_prob
    assert not hasattr(CountedScore(Shrunk(TARGET)), "log_prob")


def test_epsilon_alone_is_refused_at_pure_noise_and_clean_data_are_not():
    clean = _draw(lp.Sampler(Shrunk(CENTRED), schedule=Flow(), steps=4))  # whose first level has α = 0
    assert bool(torch.isfinite(clean).all())
    with pytest.raises(ValueError, match=r"Moved.rewrite gave only epsilon at α = 0.*set needs_signal = True"):
        _draw(lp.Sampler(Moved(CENTRED), schedule=Flow(), steps=4))

    class Both(Moved):
        def rewrite(self, prediction):
            epsilon = super().rewrite(prediction).epsilon
            return Prediction(prediction.x, prediction.level, epsilon=epsilon, score=-epsilon)

    with pytest.raises(ValueError, match=r"Both.rewrite gave only epsilon and score at α = 0"):
        _draw(lp.Sampler(Both(CENTRED), schedule=Flow(), steps=4))

    class Honest(Moved):
        needs_signal = True

    with pytest.raises(ValueError, match="the first level has α = 0"):
        lp.Sampler(Honest(CENTRED), schedule=Flow(), steps=4)
    level = NoiseLevel(0.0, 1.0)  # where ε̂ is known, whatever is not
    x = torch.ones(2, 2, dtype=DOUBLE)
    torch.testing.assert_close(Honest(CENTRED).epsilon(x, level), x, rtol=0, atol=1e-12)


def test_wrapper_without_rewrite_and_rewrite_without_result_are_told_so():
    class Empty(ScoreWrapper):
        pass

    class Forgetful(ScoreWrapper):
        def rewrite(self, prediction):
            prediction.epsilon * 2

    level, x = NoiseLevel(0.6, 0.8), torch.zeros(2, 3, dtype=DOUBLE)
    with pytest.raises(TypeError, match=r"Empty must override rewrite\(prediction\)"):
        Empty(TARGET).predict(x, level)
    with pytest.raises(TypeError, match=r"Forgetful.rewrite must return a Prediction, got NoneType"):
        Forgetful(TARGET).predict(x, level)


def test_rewrite_that_cuts_the_gradient_is_refused():
    class Detached(ScoreWrapper):
        def rewrite(self, prediction):
            return Prediction(prediction.x, prediction.level, epsilon=prediction.epsilon.detach())

    with pytest.raises(ValueError, match="the model gives no gradient"):
        _draw(lp.MCG(Detached(CENTRED), steps=2))


@pytest.mark.parametrize(
    "around",
    [
        lambda score: score,
        CountedScore,
        lambda score: GuidedScore(score, CENTRED, 2.0),
        lambda score: Shrunk(GuidedScore(CENTRED, CountedScore(score), 2.0)),
    ],
)
def test_run_after_a_reset_is_the_first_run_again(around):
    score = around(Momentum(CENTRED))
    sampler = lp.LanPaint(score, steps=3, inner_steps=2)
    first = _draw(sampler)
    score.reset()
    assert torch.equal(_draw(sampler), first)


def test_reset_reaches_scores_in_lists_and_forgets_nothing_else():
    class Mean(Score):
        def __init__(self, scores):
            self.scores = torch.nn.ModuleList(scores)

        def predict(self, x, level):
            return self.scores[0].predict(x, level)

    momentum = Momentum(CENTRED)
    counted = CountedScore(Mean([momentum, CENTRED]))
    x, level = torch.ones(3, 2, dtype=DOUBLE), NoiseLevel(0.6, 0.8)
    counted.predict(x, level)
    assert momentum.last is not None
    counted.reset()
    assert momentum.last is None
    assert (counted.evaluations, counted.rows) == (1, 3)


def test_counts_around_and_inside_of_a_wrapper_agree():
    inside = CountedScore(CENTRED)
    around = CountedScore(Moved(inside))
    _draw(lp.LanPaint(around, steps=3, inner_steps=2))
    assert around.evaluations == inside.evaluations == 9
    assert around.rows == inside.rows == 9 * 16


# --- Scores are modules


class Plain(Score):
    """A score as a user would write it: with a network, and no super().__init__()."""

    def __init__(self, network):
        self.network = network

    def score(self, x, level):
        return self.network(x)


@dataclass(eq=False)
class Record(Score):
    network: torch.nn.Module

    def score(self, x, level):
        return self.network(x)


class Late(NetworkScore):
    """Assigns a network before super().__init__()."""

    def __init__(self, network):
        self.encoder = network
        super().__init__(self.predict_noise, "epsilon", VP.linear())

    def predict_noise(self, x, time):
        return self.encoder(x)


class Timed(torch.nn.Linear):
    """A network with the signature of one, and further conditioning."""

    def __init__(self):
        super().__init__(3, 3)
        torch.nn.init.eye_(self.weight)

    def forward(self, x, time, factor=1.0):
        return factor * super().forward(x)


HOLDERS = {
    "NetworkScore": lambda: NetworkScore(Timed(), "epsilon", VP.linear()),
    "partial": lambda: NetworkScore(functools.partial(Timed(), factor=2.0), "epsilon", VP.linear()),
    "guided": lambda: GuidedScore(NetworkScore(Timed(), "v", VP.linear()), TARGET, 2.0),
    "counted and rewritten": lambda: CountedScore(Shrunk(NetworkScore(Timed(), "flow", Flow()))),
    "without super().__init__()": lambda: Plain(torch.nn.Linear(3, 3)),
    "dataclass": lambda: Record(torch.nn.Linear(3, 3)),
    "before super().__init__()": lambda: Late(torch.nn.Linear(3, 3)),
}
every_holder = pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
LEVEL = VP.linear().level(300.0)


@every_holder
def test_network_in_a_score_is_seen_moved_saved_and_copied(make):
    score, x = make(), torch.ones(2, 3)
    assert sum(parameter.numel() for parameter in score.parameters()) == 12
    assert len(score.state_dict()) == 2
    before = score.score(x, LEVEL)
    assert torch.equal(copy.deepcopy(score).score(x, LEVEL), before)
    other = make()
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    assert not torch.equal(other.score(x, LEVEL), before)
    other.load_state_dict(score.state_dict())
    assert torch.equal(other.score(x, LEVEL), before)
    assert score.to(DOUBLE) is score
    assert {parameter.dtype for parameter in score.parameters()} == {DOUBLE}
    torch.testing.assert_close(score.score(x.double(), LEVEL).float(), before)
    assert torch.equal(score(x.double(), LEVEL).score, score.score(x.double(), LEVEL))
    assert len(repr(score)) < 80
    assert "\n" not in repr(score)


@pytest.mark.parametrize("bind", [lambda network: network, lambda network: functools.partial(network, factor=2.0)])
def test_dtype_follows_the_network_unless_it_was_given(bind):
    network = Timed()
    score = NetworkScore(bind(network), "epsilon", VP.linear())
    fixed = NetworkScore(bind(network), "epsilon", VP.linear(), dtype=torch.float32)
    assert score.dtype == torch.float32
    score.to(torch.bfloat16)
    assert (score.dtype, fixed.dtype) == (torch.bfloat16, torch.float32)
    assert score.score(torch.ones(2, 3), LEVEL).dtype == torch.float32
    assert NetworkScore(lambda x, time: x, "epsilon", VP.linear()).dtype is None


@pytest.mark.parametrize("make", [HOLDERS["NetworkScore"], HOLDERS["counted and rewritten"]])
def test_lightning_places_and_saves_the_network_in_a_score(make, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Painter(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.score = make()

        def predict_step(self, batch):
            return self.score(batch, LEVEL).denoised, {parameter.dtype for parameter in self.parameters()}

    painter = Painter()
    expected = copy.deepcopy(painter).double().score.denoised(torch.ones(2, 3, dtype=DOUBLE), LEVEL)
    trainer = lightning.Trainer(
        accelerator="cpu", precision="64-true", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    ((denoised, dtypes),) = trainer.predict(painter, torch.utils.data.DataLoader(torch.ones(2, 3, dtype=DOUBLE), 2))
    assert dtypes == {DOUBLE}
    torch.testing.assert_close(denoised, expected)
    assert {name.split(".")[0] for name in painter.state_dict()} == {"score"}


def test_formula_keeps_double_precision_and_has_no_parameters():
    score, x = copy.deepcopy(TARGET), _states(LEVEL)
    before = score.score(x, LEVEL)
    score.half().to("meta")
    assert torch.equal(score.score(x, LEVEL), before)
    assert not list(score.parameters())
    assert not score.state_dict()
    assert torch.equal(pickle.loads(pickle.dumps(score)).score(x, LEVEL), before)
    assert repr(CountedScore(score)) == "CountedScore(GaussianMixture())"
    assert len({score, TARGET}) == 2


def test_network_under_a_name_of_the_class_is_refused():
    class Mine(Score):
        def __init__(self, score):
            self.score = score

    with pytest.raises(AttributeError, match=r"Mine.score exists already.*choose another"):
        Mine(TARGET)


# --- without guidance

GUIDED = GuidedScore(MOVED, CENTRED, 3.0)
X, LEVEL = torch.randn(4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)), NoiseLevel(0.6, 0.8)


class Mixed(Score):
    """A score that holds others in a list, without a wrapper."""

    def __init__(self, *parts):
        self.parts = torch.nn.ModuleList(parts)

    def score(self, x, level):
        return sum(part.score(x, level) for part in self.parts)


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (lambda score: score, MOVED),
        (CountedScore, MOVED),
        (lambda score: Shrunk(CountedScore(score)), Shrunk(MOVED)),
        (lambda score: GuidedScore(score, CENTRED, 2.0), MOVED),
        (lambda score: lp.InputGuidance(score, torch.tensor([True, False]), 1.0), MOVED),
        (lambda score: Mixed(score, CENTRED), Mixed(MOVED, CENTRED)),
        (lambda score: lp.WindowedScore(score, window=2, overlap=0), MOVED),
    ],
    ids=["itself", "counted", "rewritten", "twice", "by the input", "in a list", "windows"],
)
def test_the_unguided_form_of_a_score_has_no_guidance_wherever_it_was(around, expected):
    score = around(GUIDED)
    torch.testing.assert_close(score.unguided.score(X, LEVEL), expected.score(X, LEVEL), rtol=0, atol=1e-12)
    assert (score.score(X, LEVEL) - expected.score(X, LEVEL)).abs().max() > 0.1


def test_a_score_without_guidance_is_its_own_unguided_form():
    for score in (MOVED, CountedScore(MOVED), Mixed(MOVED), NetworkScore(torch.nn.Identity(), "epsilon", VP.linear())):
        assert score.unguided is score


def test_evaluations_without_guidance_are_counted_with_the_others():
    counted = CountedScore(GUIDED)
    counted.score(X, LEVEL)
    counted.unguided.score(X, LEVEL)
    counted.unguided.unguided.score(X, LEVEL)
    assert (counted.evaluations, counted.rows) == (3, 12)
    counted = CountedScore(GUIDED)
    sampler = lp.ALM(counted, steps=5)
    sampler(OBSERVATION, generator=torch.Generator().manual_seed(0))
    assert counted.evaluations == sampler.plan.evaluations


def test_a_network_that_guides_itself_tells_how_it_is_without_guidance():
    class Times(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x, time):
            return self.factor * x

    class Guiding(Times):
        unguided = Times(2.0)

    def function(x, time):
        return 3 * x

    function.unguided = lambda x, time: 2 * x
    level = VP.linear().level(0.5)
    for network in (Guiding(3.0), function):
        score = NetworkScore(network, "epsilon", VP.linear())
        torch.testing.assert_close(score.unguided.epsilon(X, level), 2 * X)
        torch.testing.assert_close(score.epsilon(X, level), 3 * X)


def test_what_remembers_is_reset_in_its_unguided_form_too():
    sampler = lp.ALM(Momentum(GUIDED), steps=5)
    assert torch.equal(_draw(sampler), _draw(sampler))
