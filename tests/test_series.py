"""Completing sequences: the law of a gap, the place of the windows, known values, and what cannot be done."""

import functools

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.series import _sections, complete_series, mark_missing
from lanpaint_toys import Gaussian

LENGTH, RHO = 8, 0.8
UNITS = lp.Units(("speed",), (1.0,), (2.0,), unit=("m/s",), rate=10.0, largest=(8.0,))


def covariance(steps):
    apart = torch.arange(steps).double()
    return RHO ** (apart[:, None] - apart).abs()


class Process(lp.Score):
    """The exact score of a Markov process of one channel, in windows of eight steps."""

    channels, length, units = 1, LENGTH, UNITS

    def __init__(self):
        super().__init__()
        self.law = Gaussian([0.0] * LENGTH, covariance(LENGTH))

    def predict(self, x, level):
        answer = self.law.predict(x[:, 0], level)
        return lp.Prediction(x, level, denoised=answer.denoised[:, None], epsilon=answer.epsilon[:, None])


class Exact(lp.Sampler):
    """A sampler of the exact conditional of a window, so that what is left to test is the choice of windows."""

    def __call__(self, observation, *, generator):
        known = observation.known.expand(observation.shape)[0, 0]
        drawn = self.score.law.sample_conditional(observation.values[:, 0].double(), known, generator[0])
        return drawn[:, None].float()


def law_of(missing, seen, values):
    """Mean and covariance of missing steps given the steps that are seen, in the units of the values."""
    whole = covariance(len(values))
    gain = whole[missing][:, seen] @ torch.linalg.inv(whole[seen][:, seen])
    normal = (values[seen] - UNITS.offset[0]) / UNITS.scale[0]
    spread = whole[missing][:, missing] - gain @ whole[seen][:, missing]
    return UNITS.offset[0] + UNITS.scale[0] * gain @ normal, UNITS.scale[0] ** 2 * spread


@pytest.mark.parametrize(
    ("steps", "gap", "judged", "blind"),
    [
        (30, (12, 15), (12, 15), (0, 0)),  # in one window
        (
            30,
            (8, 25),
            (8, 17),
            (25, 30),
        ),  # longer than two windows: made from the left, and only the last sees the right
        (30, (0, 13), (0, 13), (0, 0)),  # from the right to the left
        (30, (20, 30), (20, 30), (0, 0)),
        (5, (2, 4), (2, 4), (0, 0)),  # a sequence shorter than the window
    ],
)
def test_a_gap_of_a_markov_process_has_the_law_given_what_its_windows_see(steps, gap, judged, blind):
    truth = 1 + 2 * torch.linspace(-1, 1.5, steps).double()
    missing, wanted, seen = (torch.zeros(steps, dtype=torch.bool) for _ in range(3))
    missing[slice(*gap)], wanted[slice(*judged)], seen[:] = True, True, True
    seen[slice(*gap)], seen[slice(*blind)] = False, False
    values = torch.where(missing, torch.nan, truth)[:, None]
    made = complete_series(values, Process(), Exact, count=4000, batch=4000)[:, wanted, 0]
    mean, spread = law_of(wanted, seen, truth)
    off = (made.mean(0) - mean).abs() / (spread.diagonal() / len(made)).sqrt()
    assert float(off.max()) < 4.5
    assert float((torch.cov(made.T) - spread).abs().max()) < 6 * 4 * (2 / len(made)) ** 0.5


def test_every_gap_is_seen_from_both_sides():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        steps, length = int(torch.randint(9, 60, (), generator=generator)), LENGTH
        overlap = int(torch.randint(0, 4, (), generator=generator))
        known = torch.rand(2, 3, steps, generator=generator) < 0.97
        if bool(known.all()):
            continue
        covered = torch.zeros(steps, dtype=torch.bool)
        for a, b, first, last, _ in _sections(known, length, overlap):
            assert 0 <= a <= max(first - overlap, 0)
            assert min(last + overlap, steps) <= b <= steps
            assert b - a >= length
            assert not covered[first:last].any()
            covered[first:last] = True
        assert bool(covered[(~known).flatten(0, 1).any(0)].all())


REPLACE = functools.partial(lp.Replace, steps=2)


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (30, 1), (2, 30, 1)])
def test_known_values_come_back_bit_for_bit_in_kind_and_dtype(kind, shape):
    values = np.random.default_rng(0).normal(size=shape)
    values[(slice(2, 4),) if values.ndim == 1 else (..., slice(2, 4), slice(None))] = np.nan
    values = torch.from_numpy(values).to(kind) if isinstance(kind, torch.dtype) else values.astype(kind)
    made = complete_series(values, Process(), REPLACE, count=2)
    assert type(made) is type(values)
    assert made.dtype == values.dtype
    assert made.shape == (2, *values.shape)
    made, given = np.asarray(made), np.asarray(values)
    assert not np.isnan(made).any()
    known = ~np.isnan(given)
    assert (made[:, known].tobytes()) == np.stack([given[known]] * 2).tobytes()
    assert (made[0, ~known] != made[1, ~known]).all()


def test_a_completion_depends_on_its_seed_and_not_on_the_batch():
    values = np.zeros((20, 1))
    values[6:9] = np.nan
    three = complete_series(values, Process(), REPLACE, count=3, seed=7)
    alone = complete_series(values, Process(), REPLACE, count=1, seed=9, batch=1)
    np.testing.assert_allclose(three[2], alone[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((20, 1), np.nan), "all values are missing"),
        (np.stack([np.full((20, 1), np.nan), np.zeros((20, 1))]), "all values are missing"),
        (np.zeros((20, 1)), "nothing is missing"),
        (np.full((20, 1), np.inf), "20 values are infinite"),
        (np.zeros((20, 3)), r"the model has 1 channels \(speed\), and the data 3"),
        (np.zeros((1, 20)), "transpose"),
        (np.zeros((0, 1)), "not be empty"),
        (np.zeros((2, 2, 20, 1)), r"\(T, C\) or \(N, T, C\)"),
    ],
)
def test_values_that_cannot_be_completed_are_told(values, told):
    with pytest.raises(ValueError, match=told):
        complete_series(values, Process(), REPLACE)


def test_arguments_that_do_not_fit_are_told():
    values = np.zeros((20, 1))
    values[3] = np.nan
    for options in ({"overlap": 8}, {"overlap": -1}, {"count": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            complete_series(values, Process(), REPLACE, **options)
    for wrong in (np.zeros((20, 1), dtype=int), [[0.0]], None):
        with pytest.raises(TypeError, match="floating-point"):
            complete_series(wrong, Process(), REPLACE)
    with pytest.raises(TypeError, match="must return a sampler"):
        complete_series(values, Process(), lambda score: 3)


def test_values_far_beyond_the_training_data_are_told():
    values = np.zeros((20, 1))
    values[3], values[5] = np.nan, 90.0
    with pytest.warns(UserWarning, match=r"speed has values up to 90.*up to 8 m/s; are the units the same"):
        complete_series(values, Process(), REPLACE)


def test_a_completion_beyond_the_range_of_numbers_is_no_result():
    values = np.zeros((20, 1), dtype=np.float16)
    values[3] = np.nan

    class Wild(Exact):
        def __call__(self, observation, *, generator):
            return 1e6 + super().__call__(observation, generator=generator)

    with pytest.raises(lp.DivergenceError, match="beyond the range of float16"):
        complete_series(values, Process(), Wild)


def test_parts_are_named_as_in_the_paper():
    values, names = np.zeros((10, 2)), ("a", "b")

    def lacking(*parts):
        return np.isnan(mark_missing(values, parts, names))

    assert [lacking(f"{part}-half")[:, 0].nonzero()[0].tolist() for part in ("first", "middle", "last")] == [
        [0, 1, 2, 3, 4],
        [2, 3, 4, 5, 6],
        [5, 6, 7, 8, 9],
    ]
    assert lacking("b").nonzero()[1].tolist() == [1] * 10
    assert lacking("3:5", "8:")[:, 1].nonzero()[0].tolist() == [3, 4, 8, 9]
    for part in ("c", "5:3", "3:11", "-1:2", "half", "", "1:2:3", ":x"):
        with pytest.raises(ValueError, match="missing"):
            lacking(part)


def test_units_go_there_and_back():
    generator = torch.Generator().manual_seed(0)
    values = 30 * torch.randn(4, 2, 50, generator=generator, dtype=torch.float64)
    for curve in ("linear", "arsinh"):
        units = lp.Units(("a", "b"), (1.0, -2.0), (0.5, 3.0), curve=curve, span=5.0)
        torch.testing.assert_close(units.restore(units.normalise(values)), values)
        assert bool((units.normalise(values).diff(dim=0).sign() == values.diff(dim=0).sign()).all())


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.0,)},
        {"scale": (1.0, 2.0)},
        {"span": 0.0},
        {"curve": "log"},
        {"offset": (np.inf,)},
        {"largest": (1, 2)},
    ],
)
def test_units_that_make_no_sense_are_told(wrong):
    with pytest.raises(ValueError, match=r"must|give"):
        lp.Units(**{"channels": ("a",), "offset": (0.0,), "scale": (1.0,), **wrong})
