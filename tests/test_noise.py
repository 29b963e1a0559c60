"""Noise levels and the five views of a prediction."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lanpaint.noise import VIEWS, NoiseLevel, Prediction

DOUBLE = torch.float64


def _double(*values):
    return torch.tensor(values, dtype=DOUBLE)


def _views(x0, epsilon, level):
    """x and its five views by their definitions, for x₀ and ε that are known."""
    alpha, sigma = level.alpha, level.sigma
    return alpha * x0 + sigma * epsilon, {
        "score": -epsilon / sigma,
        "denoised": x0,
        "epsilon": epsilon,
        "v": alpha * epsilon - sigma * x0,
        "flow": epsilon - x0,
    }


# --- NoiseLevel


@pytest.mark.parametrize("name", ["alpha", "sigma"])
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, -math.inf])
def test_negative_or_not_finite_values_are_refused_by_name(name, bad):
    with pytest.raises(ValueError, match=rf"^{name} must be finite and non-negative, got \[{bad}\]"):
        NoiseLevel(**{"alpha": 1.0, "sigma": 1.0, name: bad})


def test_one_bad_value_among_good_ones_is_refused():
    with pytest.raises(ValueError, match="sigma must be finite and non-negative"):
        NoiseLevel(1.0, _double(0.5, 0.1, -1e-3))


@pytest.mark.parametrize("name", ["alpha", "sigma"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_tensors_that_are_not_floating_point_are_refused_with_their_dtype(name, dtype):
    with pytest.raises(TypeError, match=rf"^{name} must be a floating-point tensor or a number, got dtype {dtype}"):
        NoiseLevel(**{"alpha": 1.0, "sigma": 1.0, name: torch.ones(3, dtype=dtype)})


def test_shapes_that_do_not_broadcast_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=re.escape("got shapes (3,) and (4,)")):
        NoiseLevel(torch.ones(3), torch.ones(4))


def test_alpha_and_sigma_share_the_broadcast_shape():
    level = NoiseLevel(torch.ones(3, 1), torch.ones(4))
    assert level.shape == level.alpha.shape == level.sigma.shape == (3, 4)


@pytest.mark.parametrize("number", [1, 1.0])
def test_numbers_become_zero_dimensional_double_tensors(number):
    level = NoiseLevel(number, 0)
    assert level.shape == ()
    assert level.alpha.dtype == level.sigma.dtype == DOUBLE


def test_level_cannot_be_changed():
    with pytest.raises(AttributeError):
        NoiseLevel(1.0, 0.5).alpha = torch.tensor(2.0)


@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_per_sample_puts_the_batch_first_and_ones_behind_it(ndim):
    level = NoiseLevel(_double(1.0, 0.8, 0.6), _double(0.0, 0.6, 0.8)).per_sample(ndim)
    assert level.shape == (3,) + (1,) * (ndim - 1)
    assert torch.equal(level.alpha.flatten(), _double(1.0, 0.8, 0.6))
    assert torch.equal(level.sigma.flatten(), _double(0.0, 0.6, 0.8))


@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_per_sample_takes_only_a_vector(shape):
    with pytest.raises(ValueError, match=re.escape(f"takes a level of shape (B,), got {shape}")):
        NoiseLevel(torch.ones(shape), 1.0).per_sample(4)


@pytest.mark.parametrize("factor", [3.0, _double(0.5, 2.0)])
def test_rescaling_scales_both_and_keeps_what_does_not_depend_on_units(factor):
    level = NoiseLevel(_double(0.8, 0.3), _double(0.6, 0.9))
    scaled = level.rescale(factor)
    assert torch.equal(scaled.alpha, level.alpha * factor)
    assert torch.equal(scaled.sigma, level.sigma * factor)
    torch.testing.assert_close(scaled.log_snr, level.log_snr, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(scaled.relative_sigma, level.relative_sigma, rtol=1e-14, atol=0)


def test_rescaling_by_a_negative_factor_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        NoiseLevel(1.0, 1.0).rescale(-1.0)


def test_log_snr_is_the_logarithm_of_the_power_ratio_and_infinite_at_the_ends():
    assert NoiseLevel(3.0, 0.5).log_snr == pytest.approx(math.log(36.0), rel=1e-15)
    assert NoiseLevel(1.0, 0.0).log_snr == math.inf
    assert NoiseLevel(0.0, 1.0).log_snr == -math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (2, 1), (2, 3)])
def test_double_precision_level_does_not_change_the_dtype_of_a_state(dtype, shape):
    level = NoiseLevel(torch.full(shape, 0.8, dtype=DOUBLE), torch.full(shape, 0.6, dtype=DOUBLE))
    x = torch.ones(2, 3, dtype=dtype)
    assert level.perturb(x, x).dtype == dtype
    for given_view in VIEWS:
        prediction = Prediction(x, level, **{given_view: x})
        assert {getattr(prediction, view).dtype for view in VIEWS} == {dtype}


def test_perturb_is_the_forward_process():
    clean, epsilon = _double([1.0, -2.0], [0.5, 4.0]), _double([0.3, 0.1], [-1.0, 2.0])
    level = NoiseLevel(_double([0.5], [2.0]), _double([1.0, 3.0], [0.0, 0.25]))
    expected = _double([0.5 + 0.3, -1.0 + 0.3], [1.0, 8.0 + 0.5])
    torch.testing.assert_close(level.perturb(clean, epsilon), expected, rtol=1e-15, atol=1e-15)


def test_perturbing_rescaled_is_rescaling_perturbed():
    generator = torch.Generator().manual_seed(0)
    clean, epsilon = torch.randn(2, 5, 3, generator=generator, dtype=DOUBLE)
    level, factor = NoiseLevel(0.8, 0.6), _double(0.1, 1.0, 7.0)
    expected = factor * level.perturb(clean, epsilon)
    torch.testing.assert_close(level.rescale(factor).perturb(clean, epsilon), expected, rtol=1e-14, atol=1e-14)


def test_repr_gives_numbers_for_one_level_and_the_shape_of_many():
    assert repr(NoiseLevel(0.8, 0.6)) == "NoiseLevel(alpha=0.8, sigma=0.6)"
    assert repr(NoiseLevel(torch.ones(2, 1), 0.6)) == "NoiseLevel(shape=(2, 1))"


# --- Prediction

BATCH = (3, 2, 4)
SHAPES = {"batch": (), "per sample": (3, 1, 1), "per token": (3, 1, 4), "per element": BATCH}


@st.composite
def _levels(draw):
    """Levels of every formalism and granularity, with σ and α at most a factor 10 apart."""
    seed = draw(st.integers(0, 2**32))
    shape = draw(st.sampled_from(list(SHAPES.values())))
    uniform = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    ratio = 10 ** (2 * uniform[0] - 1)  # σ/α
    formalism = draw(st.sampled_from(["VP", "VE", "flow", "general"]))
    norm = {
        "VP": torch.sqrt(1 + ratio**2),
        "VE": torch.ones_like(ratio),
        "flow": 1 + ratio,
        "general": 10 ** (2 * uniform[1] - 1),
    }[formalism]
    return NoiseLevel(1 / norm, ratio / norm)


@given(level=_levels(), seed=st.integers(0, 2**32))
@settings(deadline=None, derandomize=True, max_examples=60)
@pytest.mark.parametrize("given_view", VIEWS)
def test_any_view_gives_all_others(given_view, level, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, epsilon = torch.randn(2, *BATCH, generator=generator, dtype=DOUBLE)
    x, views = _views(x0, epsilon, level)
    prediction = Prediction(x, level, **{given_view: views[given_view]})
    for name, expected in views.items():
        # Rounding of 1e-16 is amplified at most by max(1, σ, α)/min(σ, α)² < 1e3, relative to the largest entry.
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(getattr(prediction, name) / scale, expected / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pair", [("denoised", "epsilon"), ("score", "denoised")])
def test_two_views_are_both_kept_and_give_the_rest(pair):
    generator = torch.Generator().manual_seed(1)
    x0, epsilon = torch.randn(2, *BATCH, generator=generator, dtype=DOUBLE)
    level = NoiseLevel(0.3, 1.7)
    x, views = _views(x0, epsilon, level)
    prediction = Prediction(x, level, **{name: views[name] for name in pair})
    assert all(getattr(prediction, name) is views[name] for name in pair)
    for name, expected in views.items():
        torch.testing.assert_close(getattr(prediction, name), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("given_view", ["flow", "denoised", "v"])
def test_pure_noise_is_no_obstacle_to_views_that_speak_of_clean_data(given_view, shape):
    generator = torch.Generator().manual_seed(2)
    x0, epsilon = torch.randn(2, *BATCH, generator=generator, dtype=DOUBLE)
    level = NoiseLevel(torch.zeros(shape, dtype=DOUBLE), torch.full(shape, 1.5, dtype=DOUBLE))
    x, views = _views(x0, epsilon, level)
    prediction = Prediction(x, level, **{given_view: views[given_view]})
    for name, expected in views.items():
        torch.testing.assert_close(getattr(prediction, name), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("given_view", ["flow", "epsilon", "v"])
def test_clean_data_is_no_obstacle_to_views_that_speak_of_noise(given_view):
    generator = torch.Generator().manual_seed(3)
    x0, epsilon = torch.randn(2, *BATCH, generator=generator, dtype=DOUBLE)
    level = NoiseLevel(0.7, 0.0)
    x = 0.7 * x0
    views = {"denoised": x0, "epsilon": epsilon, "v": 0.7 * epsilon, "flow": epsilon - x0}
    prediction = Prediction(x, level, **{given_view: views[given_view]})
    for name, expected in views.items():
        torch.testing.assert_close(getattr(prediction, name), expected, rtol=0, atol=1e-12)


@given(level=_levels(), factor=st.floats(0.1, 10.0), seed=st.integers(0, 2**32))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_rescaling_the_state_scales_the_score_inversely_and_keeps_clean_data_and_noise(level, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, epsilon = torch.randn(2, *BATCH, generator=generator, dtype=DOUBLE)
    x, views = _views(x0, epsilon, level)
    scaled = Prediction(factor * x, level.rescale(factor), score=views["score"] / factor)
    for name in ("denoised", "epsilon", "flow"):
        torch.testing.assert_close(getattr(scaled, name), views[name], rtol=0, atol=1e-11)


@pytest.mark.parametrize("names", [[], ["noise"], ["score", "velocity"]])
def test_missing_or_unknown_view_is_refused_with_the_names_of_all(names):
    with pytest.raises(ValueError, match=", ".join(VIEWS)) as refused:
        Prediction(torch.zeros(2), NoiseLevel(1.0, 1.0), **{name: torch.zeros(2) for name in names})
    assert str(refused.value).endswith("got " + (", ".join(names) or "none"))
