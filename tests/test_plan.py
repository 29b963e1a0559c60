"""Plans: what a run is going to do, known before it is done."""

import pytest
import torch

import lanpaint as lp
from lanpaint_toys import gauss2

LEVELS = lp.uniform_log_snr(lp.VP.linear(), 4)


def test_visits_follow_the_order_and_say_what_each_costs():
    plan = lp.Plan(LEVELS, inner_steps=[0, 1, 2, 3], order=[0, 1, 0, 1, 2, 3], inner_evaluations=[0, 2, 4, 6])
    visits = list(plan.visits())
    assert [visit.step for visit in visits] == [0, 1, 0, 1, 2, 3]
    assert [visit.inner_steps for visit in visits] == [0, 1, 0, 1, 2, 3]
    assert [visit.evaluations for visit in visits] == [1, 3, 1, 3, 5, 7]
    assert plan.evaluations == 20
    assert all(visit.level is LEVELS[visit.step] and visit.next_level is LEVELS[visit.step + 1] for visit in visits)


def test_no_inner_steps_are_a_number_of_inner_steps():
    plan = lp.Plan(LEVELS, inner_steps=0)
    assert plan.inner_steps == (0, 0, 0, 0)
    assert lp.Plan(LEVELS).with_inner_steps(0).inner_steps == (0, 0, 0, 0)
    for make in (lp.LanPaint, lp.LangevinPaint, lp.RePaint):
        sampler = make(gauss2().target, levels=LEVELS, inner_steps=0)
        assert sampler.plan.evaluations == 4


def test_time_travel_repeats_blocks():
    assert lp.Plan(LEVELS).with_time_travel(3, 1).order == (0, 1, 2, 0, 1, 2, 3, 3)
    assert lp.Plan(LEVELS).with_time_travel(2, 0).order == (0, 1, 2, 3)


def test_a_level_for_each_entry_is_checked_entry_by_entry():
    one, half = torch.ones(2), torch.tensor([1.0, 0.5])
    clean, noisy = lp.NoiseLevel(one, 0 * one), lp.NoiseLevel(one, half)
    assert lp.Plan([noisy, clean]).steps == 1
    for last in ([0.0, 0.1], [0.1, 0.0]):
        with pytest.raises(ValueError, match="the last one clean"):
            lp.Plan([noisy, lp.NoiseLevel(one, torch.tensor(last))])
    with pytest.raises(ValueError, match="it rises from level 0 to 1"):
        lp.Plan([noisy, lp.NoiseLevel(one, torch.tensor([0.9, 0.6])), clean])


METHODS = {
    "sampler": lp.Sampler,
    "Heun": lambda score, **o: lp.Sampler(score, solver=lp.Heun(), **o),
    "replace": lp.Replace,
    "repaint": lambda score, **o: lp.RePaint(score, inner_steps=2, **o),
    "repaint, Heun": lambda score, **o: lp.RePaint(score, inner_steps=2, solver=lp.Heun(), **o),
    "lanpaint": lambda score, **o: lp.LanPaint(score, inner_steps=3, **o),
    "lanpaint, fast, Heun": lambda score, **o: lp.LanPaint(score, preset="fast", solver=lp.Heun(), **o),
    "langevin": lp.LangevinPaint,
    "MALA": lambda score, **o: lp.LangevinPaint(score, dynamics=lp.MALA(), **o),
    "ddrm": lp.DDRM,
    "mcg": lp.MCG,
    "dps": lp.DPS,
    "copaint": lambda score, **o: lp.CoPaint(score, travel=2, travels=1, **o),
    "blended, Heun": lambda score, **o: lp.Blended(score, solver=lp.Heun(), **o),
    "ding": lp.DING,
    "ddnm": lambda score, **o: lp.DDNM(score, travel=2, travels=1, **o),
    "diffpir": lp.DiffPIR,
    "daps": lambda score, **o: lp.DAPS(score, ode_steps=3, **o),
    "pnpdm": lambda score, **o: lp.PnPDM(score, iterations=4, rho=1.0, **o),
    "flowchef": lp.FlowChef,
    "latino": lp.LATINO,
    "reddiff": lp.REDDiff,
    "pigdm": lp.PiGDM,
    "pigdm, bayes, Heun": lambda score, **o: lp.PiGDM(score, weight="bayes", solver=lp.Heun(), **o),
    "mmps": lambda score, **o: lp.MMPS(score, iterations=3, **o),
    "tmpd": lp.TMPD,
    "mgps": lambda score, **o: lp.MGPS(score, midpoint=0.75, inner_steps=2, **o),
    "mgdm": lambda score, **o: lp.MGDM(score, sweeps=2, inner_steps=1, **o),
    "flowdps": lp.FlowDPS,
    "mcgdiff": lambda score, **o: lp.MCGDiff(score, particles=3, **o),
    "fpssmc": lambda score, **o: lp.FPSSMC(score, particles=3, **o),
    "tds": lambda score, **o: lp.TwistedSMC(score, particles=3, **o),
    "syncsde": lp.SyncSDE,
    "syncsde, fixed noise": lambda score, **o: lp.SyncSDE(score, partner="fixed", **o),
    "alm": lp.ALM,
    "alm, reused ε": lambda score, **o: lp.ALM(score, reuse=True, last_share=0.5, **o),
    "alm, iterative": lambda score, **o: lp.ALM(score, iterations=3, partner="fresh", **o),
    "smcdiff": lambda score, **o: lp.SMCDiff(score, particles=3, inner_steps=2, **o),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("steps", [1, 4])
def test_every_method_makes_as_many_evaluations_as_it_declares(name, steps):
    score = lp.CountedScore(gauss2().target)
    sampler = METHODS[name](score, steps=steps)
    observation = lp.Observation(torch.ones(2, 2, dtype=torch.float64), gauss2().known)
    sampler(observation, generator=torch.Generator().manual_seed(0))
    assert score.evaluations == sampler.plan.evaluations


def test_a_plan_takes_the_place_of_levels_and_inner_steps():
    plan = lp.Plan(LEVELS, inner_steps=[4, 0, 0, 1], order=[0, 1, 0, 1, 2, 3])
    given = lp.LanPaint(gauss2().target, plan=plan)
    assert given.plan.inner_steps == (4, 0, 0, 1)
    assert given.plan.evaluations == 4 + 1 + 1 + 4 + 1 + 1 + 1 + 2
    assert lp.LanPaint(gauss2().target, plan=lp.Plan(LEVELS)).plan.inner_steps == (5, 5, 5, 5)
    observation = lp.Observation(torch.ones(3, 2, dtype=torch.float64), gauss2().known)
    steps = [state.step for state in given.iterate(observation) if state.kind == "outer"]
    assert steps == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: lp.Plan([1.0, 2.0]),
            TypeError,
            r"levels must be a list of NoiseLevel\(alpha, sigma\), got",
        ),
        (lambda: lp.Plan(LEVELS[:-1]), ValueError, "the last one clean"),
        (
            lambda: lp.Plan([LEVELS[1], LEVELS[0], LEVELS[-1]]),
            ValueError,
            "σ/α must never rise along levels, but it rises from level 0 to 1",
        ),
        (lambda: lp.Plan(LEVELS, inner_steps=[1, 2]), ValueError, "inner_steps .* one for each of 4 levels; got 2"),
        (lambda: lp.Plan(LEVELS, inner_steps=-1), ValueError, "inner_steps must be a whole number .* got -1"),
        (lambda: lp.Plan(LEVELS, outer_evaluations=[1]), ValueError, "outer_evaluations .* got 1"),
        (lambda: lp.Plan(LEVELS, order=[0, 2, 3]), ValueError, "order skips from outer step 0 to 2"),
        (lambda: lp.Plan(LEVELS, order=[0, 1, 2]), ValueError, "outer steps from 0 to 3, first and last"),
        (lambda: lp.Plan(LEVELS, order=[]), ValueError, r"outer steps from 0 to 3, first and last, got \[\]"),
        (lambda: lp.Plan(LEVELS).with_time_travel(0, 1), ValueError, "travel .* at least 1, got 0"),
        (lambda: lp.Sampler(lambda x, v: -x, plan=LEVELS), TypeError, "plan must be an instance of Plan"),
        (lambda: lp.Sampler(lambda x, v: -x, plan=lp.Plan(LEVELS), levels=LEVELS), ValueError, "levels and plan"),
    ],
)
def test_plans_that_cannot_be_followed_are_refused_with_one_line(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
