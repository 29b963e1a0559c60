"""The presets: paper is the paper, and fast is faster, on targets that it was and was not chosen on."""

import pytest
import torch

import lanpaint as lp
from toy_models import Gaussian, GaussianMixture, gauss2
from toy_models.problems import PROBLEMS, gaussian_kl, histogram_kl


def _kl(target, known, divergence, count, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    values = target.sample(count, generator=generator)
    score = lp.CountedScore(target)
    x = lp.LanPaint(score, **options)(lp.Observation(values, known), generator=generator)
    return divergence(x), score.evaluations


def test_paper_is_the_default_and_has_the_paper_s_settings():
    paint = lp.LanPaint(Gaussian([0.0], [[1.0]]))
    assert (paint.lam, paint.step_size, paint.expected_noise) == (8.0, 0.15, 0.0)
    assert (type(paint.dynamics), paint.dynamics.friction, paint.dynamics.order) == (lp.FastLangevin, 15.0, 2)
    named = lp.LanPaint(Gaussian([0.0], [[1.0]]), preset="paper")
    assert [float(level.sigma) for level in named.levels] == [float(level.sigma) for level in paint.levels]
    assert [float(level.sigma) for level in paint.levels] == [
        float(level.sigma) for level in lp.uniform_time(lp.VP.linear(), 20)
    ]


def test_what_is_given_takes_the_preset_s_place():
    target = Gaussian([0.0], [[1.0]])
    paint = lp.LanPaint(target, preset="fast", step_size=0.5, friction=2.0, spacing="paper")
    assert (paint.step_size, paint.dynamics.friction) == (0.5, 2.0)
    assert float(paint.levels[1].sigma) == float(lp.uniform_time(lp.VP.linear(), 20)[1].sigma)
    levels = lp.uniform_time(lp.VP.linear(), 3)
    assert lp.LanPaint(target, preset="fast", levels=levels).levels == levels
    with pytest.raises(ValueError, match="unknown preset 'slow'; expected one of paper, fast"):
        lp.LanPaint(target, preset="slow")


def test_fast_samples_the_gaussian_problem_in_thirty_evaluations():
    """Its mean over seeds is 5e-4; a single run of 20,000 samples scatters by about as much. The paper's has 0.15."""
    problem = PROBLEMS["gaussian"]()
    kl, nfe = _kl(problem.target, problem.known, problem.divergence, 20_000, preset="fast", steps=5, inner_steps=5)
    assert nfe == 30
    assert kl < 0.002


def test_fast_is_better_than_paper_on_the_star_at_equal_evaluations():
    problem = PROBLEMS["star"]()
    settings = {"steps": 20, "inner_steps": 5}
    (fast, nfe), (paper, same) = (
        _kl(problem.target, problem.known, problem.divergence, 2000, preset=preset, **settings)
        for preset in ("fast", "paper")
    )
    assert nfe == same == 120
    assert fast < 0.6 * paper


@pytest.mark.parametrize("rho", [0.0, -0.99])
def test_fast_is_no_worse_than_paper_on_gaussians_it_was_not_chosen_on(rho):
    target, known = Gaussian([0.0, 0.0], [[1.0, rho], [rho, 1.0]]), torch.tensor([False, True])
    settings = {"steps": 10, "inner_steps": 5}
    fast, paper = (
        _kl(target, known, lambda s: gaussian_kl(s, target), 10_000, preset=preset, **settings)[0]
        for preset in ("fast", "paper")
    )
    assert fast < paper + 2 * 5 / 20_000  # twice the floor


def test_fast_does_not_diverge_where_the_law_is_flat_and_then_steep():
    """Narrow components far apart: a curvature measured between them says nothing of that within."""
    means = torch.tensor([[x, y] for x in (-6.0, -2.0, 2.0, 6.0) for y in (-1.0, 1.0)])
    target, known = GaussianMixture(means, 0.01**2), torch.tensor([False, True])
    kl, _ = _kl(target, known, lambda s: histogram_kl(s, target), 1000, preset="fast", steps=20, inner_steps=5)
    assert kl < 5


def test_inner_steps_of_the_fast_preset_grow_as_the_noise_falls():
    """As many in all; at level s of S in proportion to s, to rounding."""
    for steps, inner in ((20, 5), (7, 3), (2, 4), (1, 4), (5, 0)):
        fast = lp.LanPaint(Gaussian([0.0], [[1.0]]), preset="fast", steps=steps, inner_steps=inner).plan.inner_steps
        assert sum(fast) == steps * inner
        assert all(abs(n - 2 * inner * s / max(1, steps - 1)) <= 1 for s, n in enumerate(fast)) or steps == 1
        assert list(fast) == sorted(fast)
        paper = lp.LanPaint(Gaussian([0.0], [[1.0]]), steps=steps, inner_steps=inner)
        assert paper.plan.inner_steps == (inner,) * steps


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_inner_steps_may_be_given_for_each_level(preset):
    target = gauss2().target
    score = lp.CountedScore(target)
    sampler = lp.LanPaint(score, preset=preset, steps=4, inner_steps=(0, 3, 0, 2), progress=False)
    observation = lp.Observation(torch.ones(3, 2), torch.tensor([False, True]))
    kinds = [m.kind for m in sampler.iterate(observation, generator=torch.Generator().manual_seed(0))]
    level = ["start", "outer"]
    assert kinds == [*level, "start", *["inner"] * 3, "outer", *level, "start", *["inner"] * 2, "outer"]
    assert score.evaluations == 4 + 5
    for wrong, told in (
        ([1, 2], "one for each of 4 levels; got 2"),
        ([1, 2, 3, -1], "at least 0, got -1"),
        ([], "got 0"),
    ):
        with pytest.raises(ValueError, match=told):
            lp.LanPaint(target, preset=preset, steps=4, inner_steps=wrong)


def test_alike_at_every_level_is_what_one_number_means_in_the_paper_preset():
    observation = lp.Observation(torch.ones(5, 2), torch.tensor([False, True]))
    one, many = (
        lp.LanPaint(gauss2().target, steps=3, inner_steps=n)(observation, generator=torch.Generator().manual_seed(1))
        for n in (2, [2, 2, 2])
    )
    assert torch.equal(one, many)


def test_the_progress_bar_of_a_ramp_counts_every_evaluation(capsys):
    sampler = lp.LanPaint(gauss2().target, preset="fast", steps=4, inner_steps=3, progress=True)
    sampler(lp.Observation(torch.ones(5, 2), torch.tensor([False, True])))
    assert "/16" in capsys.readouterr().err
