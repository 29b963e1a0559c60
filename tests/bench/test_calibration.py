"""Calibration: its numbers at exact samples and at samples that are wrong in a known way; budgets; new targets."""

import math
from dataclasses import replace

import pytest
import scipy.stats
import torch

import lanpaint as lp
from lanpaint.bench import METHODS, Result, Settings, expand, make_target, run
from lanpaint.bench.grid import evaluations_of
from lanpaint.metrics import calibration, rank_shares
from lanpaint_toys.calibration import conditional_ranks, exact_calibration, rank_kl
from lanpaint_toys.problems import PROBLEMS

KNOWN = torch.tensor([False, True])
HALF, NINETY = 0.6744897501960817, 1.6448536269514722  # quantiles of the normal law at 3/4 and 0.95


def _groups(scale=1.0, shift=0.0, observations=4000, fills=19, correlation=0.8):
    """Truths of ``gaussian`` and fills whose conditional deviation and mean are off by ``scale`` and ``shift``."""
    truth = PROBLEMS["gaussian"]().draw(observations, torch.Generator().manual_seed(0)).repeat_interleave(fills, 0)
    noise = torch.randn(len(truth), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = truth.clone()
    x[:, 0] = correlation * truth[:, 1] + 0.6 * (scale * noise + shift)
    return x, truth


def _normal(z):
    return 0.5 * (1 + math.erf(z / 2**0.5))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 0.7)])
def test_exact_calibration_of_fills_that_are_too_narrow_too_wide_or_off(scale, shift):
    """The shares and moments of N(shift, scale²) against N(0, 1), by hand; errors of four in a thousand samples."""
    x, truth = _groups(scale, shift)
    found = exact_calibration(x, truth, KNOWN, PROBLEMS["gaussian"]().target, 19)
    for name, bound in (("mass50", HALF), ("mass90", NINETY)):
        share = _normal((bound - shift) / scale) - _normal((-bound - shift) / scale)
        assert found[name] == pytest.approx(share, abs=0.008)
    assert found["width"] == pytest.approx(scale**2 + shift**2, rel=0.03)
    assert found["mmse_gap"] == pytest.approx(shift**2, abs=0.03)
    assert (found["pit"] < 3.5e-4) == (scale == 1 and shift == 0)  # 1.25e-4 ± 0.4e-4, as χ²


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_calibration_by_the_truth_alone_agrees(scale):
    """The truth has no part in making the fills. Its share in their interval is that of N(0, 1) in N(0, scale²)'s."""
    x, truth = _groups(scale)
    found = calibration(x, truth, KNOWN, 19)
    assert found["spread"] == pytest.approx(scale / math.sqrt((1 + scale**2 / 19) / (1 + 1 / 19)), rel=0.05)
    if scale == 1:
        assert found["cover50"] == pytest.approx(0.5, abs=0.035)  # 4 √(0.25/4000)
        assert found["cover90"] == pytest.approx(0.9, abs=0.02)
        assert found["rank"] < 0.05
    else:
        assert (found["cover90"] < 0.7) == (scale < 1)
        assert found["rank"] > 0.1
    assert calibration(x[::19], truth[::19], KNOWN, 1) == {}


def test_copies_of_one_fill_have_no_spread_and_copies_of_the_truth_no_bias():
    _, truth = _groups(observations=50)
    copies = calibration(truth, truth, KNOWN, 19)
    assert copies["cover90"] == 0.0  # half of each tie on either side: the ranks are 0 and 19
    assert copies["spread"] == 0.0


@pytest.mark.parametrize("name", ["far", "laplace", "student", "thin"])
def test_exact_samples_of_a_new_problem_are_at_its_floor(name):
    problem = PROBLEMS[name]()
    truth = problem.draw(4000, torch.Generator().manual_seed(3))
    exact = problem.target.sample_conditional(truth, problem.known, torch.Generator().manual_seed(4))
    ranks = conditional_ranks(exact, problem.known, problem.target)
    assert rank_kl(ranks) < 3 * 19 / 8000
    moved = exact.clone()
    moved[:, 0] = moved[:, 0].abs()
    assert rank_kl(conditional_ranks(moved, problem.known, problem.target)) > 0.1


@pytest.mark.parametrize(
    ("name", "law"), [("laplace", scipy.stats.laplace(scale=0.5)), ("student", scipy.stats.t(3, scale=0.5))]
)
def test_increments_have_the_heavy_tails_of_their_law(name, law):
    """The distribution function of the mixture against that of scipy, into the tails."""
    mixture = PROBLEMS[name]().target
    for x in (0.3, 1.0, 2.0, 4.0):
        beyond = float(mixture.weights @ torch.special.ndtr(-x / mixture.full_cov[:, 0, 0].sqrt()))
        assert beyond == pytest.approx(law.sf(x), rel=0.1), x


def test_samples_in_the_wrong_mode_are_counted():
    problem = PROBLEMS["far"]()
    truth = problem.draw(6000, torch.Generator().manual_seed(0))
    exact = exact_calibration(truth, truth, problem.known, problem.target)
    assert exact["wrong_mode"] < 0.02
    x = truth.clone()
    x[:, 0] = 2.0  # all in the mode that should have 30 %
    assert exact_calibration(x, truth, problem.known, problem.target)["wrong_mode"] == pytest.approx(0.7, abs=0.02)


def test_a_run_with_several_fills_keeps_their_observation_together():
    row, x = run(Settings("gaussian", samples=190, fills=19, steps=4, inner_steps=1))
    known = x[:, 1].reshape(10, 19)
    assert torch.equal(known, known[:, :1].expand(-1, 19))
    assert len(known[:, 0].unique()) == 10
    assert {"cover50", "spread", "mmse_gap", "mass90"} <= row.figures.keys() & row.floors.keys()
    row, x = run(Settings("digits:box", "replace", samples=20, fills=2, steps=2))
    assert torch.equal(x[0, :, :2], x[1, :, :2])
    assert not torch.equal(x[0], x[1])
    assert {"psnr_mean", "spread", "seam"} <= row.figures.keys()
    with pytest.raises(ValueError, match="samples must be a multiple of fills, got 20 samples and 3 fills"):
        Settings("gaussian", samples=20, fills=3).complete()


def test_a_budget_of_evaluations_is_spent_and_never_exceeded():
    runs = expand({"target": "gaussian", "method": "all", "evaluations": [8, 60], "inner_steps": 5, "particles": 4})
    for settings in runs:
        spent, more = (
            evaluations_of(settings.sampler(make_target("gaussian"), steps=steps))
            for steps in (settings.steps, settings.steps + 1)
        )
        assert any(spent <= budget < more for budget in (8, 60))
        if settings.particles is not None and spent > 8:  # what is made, particles and all, is what was counted
            assert run(replace(settings, samples=10))[0].nfe == spent
    assert {run.method for run in runs if run.particles is not None} >= {"tds", "mcgdiff", "fpssmc", "smcdiff"}
    dear = set(METHODS) - {settings.method for settings in runs}
    for method in dear:  # a single step costs more than the budget
        with pytest.raises(ValueError, match=f"60 evaluations suffice for no step of {method}"):
            expand({"target": "gaussian", "method": method, "evaluations": 60})
    assert {"replace", "lanpaint", "tds"} <= set(METHODS) - dear
    with pytest.raises(ValueError, match="3 evaluations suffice for no step of lanpaint"):
        expand({"target": "gaussian", "evaluations": 3})
    with pytest.raises(ValueError, match="steps follow from evaluations"):
        expand({"target": "gaussian", "evaluations": 3, "steps": 2})


@pytest.mark.parametrize("name", ["digits:pool2", "digits:sense", "digits:blur"])
def test_a_target_behind_an_operator_keeps_what_was_measured(name):
    row, x = run(Settings(name, samples=10, steps=3, inner_steps=1))
    target = make_target(name)
    assert row.figures["residual"] < 1e-5
    truth = target.images[:10]
    torch.testing.assert_close(target.operator(target.operator.unrotate(x)), target.operator(truth), atol=1e-5, rtol=0)
    assert row.figures["psnr"] == row.figures["psnr_whole"] > 5


def test_an_operator_that_does_not_suit_a_model_is_told():
    with pytest.raises(ValueError, match="the operator grey does not suit digits: a grey picture has no colours"):
        make_target("digits:grey")
    assert isinstance(lp.Grey((3, 8, 8)), lp.LinearOperator)


@pytest.mark.parametrize(("scale", "shape"), [(1.0, "flat"), (0.5, "ends"), (2.0, "middle")])
def test_the_histogram_of_ranks_is_flat_or_leans_to_the_side_that_is_wrong(scale, shape):
    """Of the truth among fills that are too narrow the ends are higher; of wide samples' own ranks too."""
    x, truth = _groups(scale, observations=1500)
    of_truth = rank_shares(x, truth, KNOWN, 19)
    own = make_target("gaussian").ranks(x, truth, 19)
    assert of_truth.shape == own.shape == (20,)
    assert float(of_truth.sum()) == pytest.approx(1)
    ends, middle = of_truth[[0, -1]].mean(), of_truth[9:11].mean()
    own_ends, own_middle = own[[0, -1]].mean(), own[9:11].mean()
    if shape == "flat":
        torch.testing.assert_close(of_truth, torch.full_like(of_truth, 0.05), atol=0.03, rtol=0)
    else:
        assert (ends > 2 * middle) == (shape == "ends")
        assert (own_ends > 2 * own_middle) == (shape == "middle")
    row, _ = run(Settings("gaussian", method="replace", steps=2, samples=40, fills=4))
    assert sum(row.ranks) == pytest.approx(1, abs=1e-3)
    assert Result.from_json(row.as_json()).ranks == row.ranks
