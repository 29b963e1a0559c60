"""One argument switches the dynamics or the solver: nothing else changes, and the answer does not."""

import pytest
import torch

import lanpaint as lp
from lanpaint.demo import digits_score, held_out_digits
from lanpaint.masks import MASKS
from lanpaint.names import DYNAMICS, SOLVERS, make_dynamics, make_solver
from lanpaint_toys.problems import PROBLEMS

COUNT = 4000


def _kl(steps, inner_steps, **options):
    """KL on gauss2, of samples whose floor is 5/(2 · 4000) = 6e-4 in expectation."""
    problem, generator = PROBLEMS["gaussian"](), torch.Generator().manual_seed(0)
    observation = lp.Observation(*problem.observe(COUNT, generator))
    options = {"expected_noise": 1.0, "spacing": "logsnr", **options}
    sampler = lp.LanPaint(problem.target, steps=steps, inner_steps=inner_steps, **options)
    return problem.divergence(sampler(observation, generator=generator))


@pytest.mark.parametrize("name", DYNAMICS)
def test_lanpaint_samples_the_conditional_with_any_dynamics(name):
    """The Replace method has 0.34 here; 0.004 is a few times what the bias of the slowest and coarsest leaves."""
    options = {"step_size": 0.03, "lam": 1.0} if name in ("langevin", "lml") else {}  # first order: a shorter step
    dynamics = make_dynamics(name, damping=4.0) if name == "lml" else make_dynamics(name)  # LML at 1 is slow along ε̂
    assert _kl(20, 40 if options else 20, dynamics=dynamics, **options) < 0.004


@pytest.mark.parametrize("name", SOLVERS)
def test_lanpaint_samples_the_conditional_with_any_solver(name):
    assert _kl(40, 5, solver=make_solver(name)) < 0.003


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("method", [lp.LanPaint, lp.LangevinPaint])
def test_the_same_object_runs_on_a_network(name, method):
    """Known pixels bit for bit, and a hole filled better than by what stands there in another image."""
    truth = held_out_digits(8)
    known = MASKS["box"](8, 8)
    paint = method(digits_score(), steps=8, inner_steps=2, dynamics=make_dynamics(name))
    x = paint(lp.Observation(truth, known), generator=lp.seeded(range(8)))
    assert torch.equal(x[..., known], truth[..., known])
    own, other = (float((x - t)[..., ~known].square().mean()) for t in (truth, truth.roll(1, 0)))
    assert own < other


def test_metropolis_corrects_the_inner_steps_where_the_density_is_known():
    problem, generator = PROBLEMS["gaussian"](), torch.Generator().manual_seed(0)
    observation = lp.Observation(*problem.observe(COUNT, generator))
    paint = lp.LangevinPaint(
        problem.target, steps=10, inner_steps=10, step_size=0.5, spacing="logsnr", dynamics=lp.MALA()
    )
    assert problem.divergence(paint(observation, generator=generator)) < 0.003
    with pytest.raises(ValueError, match="no log density"):
        lp.LangevinPaint(digits_score(), steps=2, dynamics=lp.MALA())((1, 1, 8, 8))


@pytest.mark.parametrize("make", [make_dynamics, make_solver])
def test_unknown_names_are_refused(make):
    with pytest.raises(ValueError, match=r"unknown .* 'magic'; expected one of"):
        make("magic")


def test_a_friction_is_passed_on_where_there_is_one():
    assert make_dynamics("fld", 3.0).friction == 3.0
    assert make_dynamics("ubu", 0.7).friction == 0.7
    with pytest.raises(ValueError, match="langevin has no friction"):
        make_dynamics("langevin", 1.0)
