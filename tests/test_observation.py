"""Observations: their checks, their Gaussian law at each level, and the known entries of a result."""

import math

import pytest
import torch

from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation

DOUBLE = torch.float64
VALUES = torch.tensor([[1.0, -2.0, 0.25], [3.0, 0.5, -0.125]], dtype=DOUBLE)
KNOWN = torch.tensor([True, False, True])
LEVELS = {
    "clean end": NoiseLevel(1.0, 1e-3),
    "batch": NoiseLevel(0.6, 0.8),
    "no signal": NoiseLevel(0.0, 1.0),
    "per sample": NoiseLevel(torch.tensor([[0.9], [0.2]], dtype=DOUBLE), torch.tensor([[0.3], [1.5]], dtype=DOUBLE)),
    "per element": NoiseLevel(torch.linspace(0.1, 1.0, 6, dtype=DOUBLE).reshape(2, 3), 0.7),
}
every_level = pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
every_noise = pytest.mark.parametrize("noise", [0.0, 0.3])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_values_that_are_not_floating_point_are_refused_with_what_to_do(dtype):
    with pytest.raises(TypeError, match=f"values must be a floating-point tensor, got {dtype}; images: map 0…255"):
        Observation(torch.ones(2, 3, dtype=dtype), KNOWN)


def test_values_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match="values must be a floating-point tensor, got list"):
        Observation([[1.0, 2.0, 3.0]], KNOWN)


@pytest.mark.parametrize("mask", [KNOWN.float(), KNOWN.to(torch.uint8)])
def test_mask_that_is_not_boolean_is_refused_with_what_to_do(mask):
    with pytest.raises(
        TypeError,
        match=f"known must be a boolean tensor .*, got {mask.dtype}; for a mask: known = mask < 0.5",
    ):
        Observation(VALUES, mask)


def test_mask_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"known must be a boolean tensor .*, got list"):
        Observation(VALUES, [True, False, True])


@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 1), (1, 2, 3), (5, 2, 3)])
def test_mask_that_does_not_broadcast_to_the_values_is_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"known must broadcast to the shape of values, got \(.*\) for \(2, 3\)"):
        Observation(VALUES, torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("values", [torch.tensor(1.0), torch.ones(0, 3)])
def test_values_without_a_batch_are_refused(values):
    with pytest.raises(ValueError, match=r"values must have shape \(B, …\) with B ≥ 1, got \("):
        Observation(values, torch.tensor(True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_known_values_that_are_not_finite_are_counted_and_refused(bad):
    values = VALUES.clone()
    values[:, 2] = bad
    with pytest.raises(ValueError, match="2 known values are NaN or infinite; mark those entries as unknown"):
        Observation(values, KNOWN)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_stands_at_unknown_entries_does_not_matter(bad):
    values = VALUES.clone()
    values[:, 1] = bad
    holes, whole = Observation(values, KNOWN), Observation(VALUES, KNOWN)
    assert torch.equal(holes.values, whole.values)
    level, noise = LEVELS["batch"], torch.ones(2, 3, dtype=DOUBLE)
    assert torch.equal(holes.diffused(level, noise), whole.diffused(level, noise))
    assert torch.equal(holes.finish(noise), whole.finish(noise))


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_noise_that_is_no_standard_deviation_is_refused(noise):
    with pytest.raises(ValueError, match=f"noise must be a finite standard deviation of at least 0, got {noise}"):
        Observation(VALUES, KNOWN, noise)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 2, 3), (5, 2, 3)])
def test_noise_that_does_not_broadcast_to_the_values_is_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"noise must broadcast to the shape of values, got \(.*\) for \(2, 3\)"):
        Observation(VALUES, KNOWN, torch.ones(shape))


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_noise_is_checked_where_something_is_known_and_ignored_elsewhere(bad):
    with pytest.raises(ValueError, match=f"noise must be finite standard deviations of at least 0, got {bad} at known"):
        Observation(VALUES, KNOWN, torch.tensor([0.1, 0.2, bad], dtype=DOUBLE))
    ignored = Observation(VALUES, KNOWN, torch.tensor([0.1, bad, 0.2], dtype=DOUBLE))
    assert ignored.noise.tolist() == [0.1, 0.0, 0.2]


def test_noise_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"noise must be a number or a dense floating-point tensor, got torch.int64"):
        Observation(VALUES, KNOWN, torch.tensor([1, 2, 3]))
    with pytest.raises(TypeError, match=r"a number or a dense floating-point tensor, got \[0.1, 0.2, 0.3"):
        Observation(VALUES, KNOWN, [0.1, 0.2, 0.3])


@pytest.mark.parametrize("noise", [torch.tensor([0.5, 7.0, 0.5]), torch.full((2, 3), 0.5), torch.tensor(0.5)])
def test_noise_that_is_the_same_for_all_known_entries_is_one_number(noise):
    assert Observation(VALUES, KNOWN, noise).noise.shape == ()
    assert Observation(VALUES, KNOWN, noise).noise == 0.5


@every_level
def test_each_entry_has_the_law_of_its_own_noise(level):
    noise = torch.tensor([0.0, 0.3, 1.5], dtype=DOUBLE)
    together = Observation(VALUES, torch.tensor(True), noise)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for i in range(3):
        alone = Observation(VALUES, torch.tensor(True), float(noise[i]))
        for of in (
            lambda each: each.score(x, level),
            lambda each: each.diffused(level, x),
            lambda each: each.finish(x),
        ):
            assert torch.equal(of(together)[:, i], of(alone)[:, i])
        here, there = together.at_level(level), alone.at_level(level)
        assert torch.equal(here.known.expand(2, 3)[:, i], there.known.expand(2, 3)[:, i])


def test_entries_with_little_noise_are_held_where_those_with_much_are_free():
    observation = Observation(VALUES, torch.tensor(True), torch.tensor([0.0, 0.3, 1.5], dtype=DOUBLE))
    here = observation.at_level(NoiseLevel(0.8, 0.6))
    assert here.known.tolist() == [True, True, False]
    assert here.draws.entries.tolist() == [False, False, True]
    assert not here.is_empty
    assert here.at_level(NoiseLevel(0.2, 0.98)) is observation
    assert observation.at_level(NoiseLevel(1.0, 0.0)).known.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_becomes_single_and_the_rest_stays(given, kept):
    observation = Observation(VALUES.to(given), KNOWN)
    assert observation.values.dtype == kept
    assert torch.equal(observation.values[:, KNOWN].double(), VALUES[:, KNOWN])  # exact in all four
    level = LEVELS["per sample"]
    x = torch.zeros(2, 3, dtype=kept)
    assert observation.diffused(level, x).dtype == observation.score(x, level).dtype == kept
    assert observation.finish(x).dtype == kept


def test_values_of_the_caller_are_neither_changed_nor_followed():
    values = VALUES.clone()
    observation = Observation(values, KNOWN)
    assert torch.equal(values, VALUES)
    values.fill_(9.0)
    assert torch.equal(observation.values[:, KNOWN], VALUES[:, KNOWN])


@pytest.mark.parametrize("known", [torch.tensor(True), torch.ones(2, 3, dtype=torch.bool)])
def test_everything_may_be_known(known):
    assert torch.equal(Observation(VALUES, known).finish(torch.zeros_like(VALUES)), VALUES)


@pytest.mark.parametrize(
    "observation",
    [Observation(VALUES * math.nan, torch.tensor(False)), Observation.none((2, 3), dtype=DOUBLE)],
    ids=["mask", "none"],
)
def test_nothing_may_be_known(observation):
    assert observation.shape == (2, 3)
    assert observation.values.dtype == DOUBLE
    assert torch.equal(observation.finish(VALUES), VALUES)
    assert torch.equal(observation.replace_known(VALUES, torch.zeros_like(VALUES)), VALUES)


def _variance(level, noise):
    """σ² − α² s², kept away from 0."""
    return torch.maximum(level.sigma**2 - level.alpha**2 * noise**2, 1e-6 * level.alpha**2 * noise**2)


@every_level
@every_noise
def test_score_is_the_gradient_of_the_log_density_of_the_diffused_observation(level, noise):
    observation = Observation(VALUES, torch.tensor(True), noise)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE).requires_grad_()
    deviation = _variance(level, noise).sqrt()
    density = torch.distributions.Normal((level.alpha * VALUES).expand(2, 3), deviation.expand(2, 3))
    (expected,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(observation.score(x.detach(), level), expected, rtol=1e-12, atol=1e-12)


@every_level
@every_noise
def test_diffused_observation_has_its_mean_and_its_standard_deviation(level, noise):
    observation = Observation(VALUES, torch.tensor(True), noise)
    mean = observation.diffused(level, torch.zeros_like(VALUES))
    torch.testing.assert_close(mean, level.alpha * VALUES, rtol=1e-14, atol=1e-14)
    for unit in (1.0, -2.0):
        away = observation.diffused(level, torch.full_like(VALUES, unit)) - mean
        variance = _variance(level, noise).expand(2, 3)
        torch.testing.assert_close(away, unit * variance.sqrt(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(observation.variance(level).expand(2, 3), variance, rtol=1e-14, atol=0)


def test_noise_of_the_observation_is_all_that_is_left_at_clean_data():
    clean = NoiseLevel(1.0, 0.0)
    unit = torch.ones_like(VALUES)
    assert torch.equal(Observation(VALUES, torch.tensor(True)).diffused(clean, unit), VALUES)
    noisy = Observation(VALUES, torch.tensor(True), noise=0.3)
    assert torch.equal(noisy.finish(unit), unit)  # known entries are the model's and the measurement's
    free = noisy.at_level(clean)
    assert free.is_empty
    assert torch.equal(free.draws.at, VALUES)
    assert free.at_level(NoiseLevel(0.6, 0.8)) is noisy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("known", [KNOWN, torch.tensor([[True], [False]]), torch.tensor([[False] * 3, [True] * 3])])
def test_finish_sets_known_entries_bit_for_bit_and_leaves_the_others(known, dtype):
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    mask = known.expand(2, 3)
    done = Observation(values, known).finish(x)
    assert torch.equal(done[mask], values[mask])
    assert torch.equal(done[~mask], x[~mask])


@pytest.mark.parametrize("unit", [0.0, 1.0, -2.0])
def test_draw_of_an_observation_with_jitter_is_an_exact_one_at_that_many_deviations(unit):
    noisy = Observation(VALUES, KNOWN, jitter=0.3)
    drawn = noisy.draw(lambda like: torch.full_like(like, unit))
    torch.testing.assert_close(drawn.values[:, KNOWN], VALUES[:, KNOWN] + 0.3 * unit, rtol=1e-14, atol=1e-14)
    assert drawn.noise == drawn.jitter == 0
    assert torch.equal(drawn.known, noisy.known)
    assert torch.equal(noisy.values[:, KNOWN], VALUES[:, KNOWN])  # the one that was drawn from is as it was


def test_exact_observation_is_its_own_draw_and_takes_no_random_numbers():
    def none_left(like):
        raise AssertionError("random numbers were asked for")

    observation = Observation(VALUES, KNOWN)
    assert observation.draw(none_left) is observation


def test_diffused_draws_follow_the_law_of_the_diffused_noisy_observation():
    """A measurement takes its noise away from the level's, and jitter adds to it."""
    level, s, values = NoiseLevel(0.6, 0.8), 0.5, torch.full((20_000, 1), 2.0, dtype=DOUBLE)
    noisy = Observation(values, torch.tensor(True), s)
    jittered = Observation(values, torch.tensor(True), jitter=s)
    generator = torch.Generator().manual_seed(0)

    def draw(like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    for observation, variance in ((noisy, 0.8**2 - (0.6 * s) ** 2), (jittered, 0.8**2 + (0.6 * s) ** 2)):
        samples = observation.draw(draw).diffused(level, draw(values))
        # Five standard errors of the mean and of the variance of 20,000 normal numbers.
        assert abs(float(samples.mean()) - 1.2) < 5 * math.sqrt(variance / 20_000)
        assert abs(float(samples.var()) - variance) < 5 * variance * math.sqrt(2 / 20_000)


def test_repr_says_how_much_is_known():
    assert repr(Observation(VALUES, KNOWN, noise=0.5)) == "Observation(shape=(2, 3), known=66.7%, noise=0.5)"
    text = "Observation(shape=(2, 3), known=66.7%, noise=0.25…0.5)"
    assert repr(Observation(VALUES, KNOWN, torch.tensor([0.25, 9.0, 0.5]))) == text
    text = "Observation(shape=(2, 3), known=66.7%, noise=0, jitter=0.5)"
    assert repr(Observation(VALUES, KNOWN, jitter=0.5)) == text


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_spread_is_the_standard_deviation_of_what_is_known(offset):
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 7.0, 9.0]], dtype=torch.float64) + offset
    known = torch.tensor([True, True, False])
    assert Observation(values, known).spread == pytest.approx(7**0.5)  # of 1, 2, 4, 7: 21/3
    assert Observation(torch.full((2, 3), offset), known).spread == 0
    assert Observation(values[:1], torch.tensor([True, False, False])).spread == 0
    assert Observation.none((2, 3)).spread == 0
