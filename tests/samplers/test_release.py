"""Soft observations: what is held at each level, what is released, and the law of what comes out."""

import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, Law, denoiser, law

TARGET = Gaussian(
    torch.tensor([0.2, -0.1, 0.3], dtype=DOUBLE),
    torch.tensor([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.9]], dtype=DOUBLE),
)
VALUES = torch.tensor([1.5, -0.7, 0.4], dtype=DOUBLE)
SIX = lp.uniform_log_snr(lp.VP.linear(), 6)
METHODS = {
    "sampler": lp.Sampler,
    "replace": lp.Replace,
    "repaint": lp.RePaint,
    "langevin": lp.LangevinPaint,
    "lanpaint": lp.LanPaint,
    "lanpaint fast": lambda score, **o: lp.LanPaint(score, preset="fast", **o),
    "lanpaint hfhr": lambda score, **o: lp.LanPaint(score, dynamics=lp.HFHR(), step_size=0.1, **o),
    "lanpaint baoab": lambda score, **o: lp.LanPaint(score, dynamics=lp.Underdamped(), step_size=0.1, **o),
    "ddrm": lp.DDRM,
    "dps": lambda score, **o: lp.DPS(score, step_size=0.3, **o),
    "mcg": lp.MCG,
    "copaint": lp.CoPaint,
    "copaint tt": lambda score, **o: lp.CoPaint(score, travel=4, travels=1, **o),
    "pigdm": lambda score, **o: lp.PiGDM(score, weight="bayes", **o),
    "mmps": lp.MMPS,
    "tmpd": lp.TMPD,
    "mgps": lp.MGPS,
    "flowdps": lp.FlowDPS,
    "blended": lp.Blended,
    "ding": lp.DING,
    "ddnm": lp.DDNM,
    "diffpir": lp.DiffPIR,
    "daps": lambda score, **o: lp.DAPS(score, ode_steps=2, **o),
    "pnpdm": lambda score, **o: lp.PnPDM(score, iterations=2, rho=0.3, **o),
    "flowchef": lp.FlowChef,
    "latino": lp.LATINO,
    "reddiff": lp.REDDiff,
    "mcgdiff": lambda score, **o: lp.MCGDiff(score, particles=4, **o),
    "fpssmc": lambda score, **o: lp.FPSSMC(score, particles=4, **o),
    "tds": lambda score, **o: lp.TwistedSMC(score, particles=8, **o),
}


def _euler(state, level, next_level):
    """The law after an Euler step, from the exact denoiser."""
    gain, offset = denoiser(TARGET, level)
    ratio = next_level.sigma / level.sigma
    matrix = next_level.alpha * gain + ratio * (torch.eye(3, dtype=DOUBLE) - level.alpha * gain)
    return state.map(matrix, (next_level.alpha - ratio * level.alpha) * offset)


def _drawn(level):
    return level.alpha * VALUES, torch.full((3,), float(level.sigma) ** 2, dtype=DOUBLE)


@pytest.mark.parametrize("strength", [0.5, 0.34])
def test_one_strength_for_all_is_diffuse_then_sample(strength):
    sampler = lp.Sampler(TARGET, levels=SIX)
    mean, cov = law(sampler, VALUES, strength, lp.Observation.soft)
    first = {0.5: 3, 0.34: 4}[strength]
    at, variance = _drawn(SIX[first])
    state = Law(at, torch.diag(variance))
    for level, next_level in itertools.pairwise(SIX[first:]):
        state = _euler(state, level, next_level)
    assert torch.allclose(mean, state.mean)
    assert torch.allclose(cov, state.cov)


def test_each_entry_is_held_to_its_release_and_free_after_it():
    change = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    mean, cov = law(lp.Replace(TARGET, levels=SIX), VALUES, change, lp.Observation.soft)
    first = SIX[0]
    state = Law(torch.zeros(3, dtype=DOUBLE), (first.alpha**2 + first.sigma**2) * torch.eye(3, dtype=DOUBLE))
    for step, (level, next_level) in enumerate(itertools.pairwise(SIX)):
        held = torch.tensor([True, step <= 3, False])  # the half is drawn once more as it is released
        state = _euler(state.replace(held, *_drawn(level)), level, next_level)
    state = state.replace(torch.tensor([True, False, False]), VALUES, torch.zeros(3, dtype=DOUBLE))
    assert torch.allclose(mean, state.mean)
    assert torch.allclose(cov, state.cov)


@pytest.mark.parametrize("name", METHODS)
def test_the_change_grows_with_what_may_change_and_the_ends_are_exact(name):
    change = torch.tensor([0.0, 0.04, 0.25, 0.5, 0.75, 1.0])
    target = Gaussian(torch.zeros(6), 0.9 * torch.eye(6, dtype=DOUBLE) + 0.1)
    values = torch.full((600, 6), 3.0)
    values[:, 5] = torch.nan  # what is wholly painted is never read
    sampler = METHODS[name](target, levels=lp.uniform_time(lp.Flow(first_time=0.99), 20))
    x = sampler(lp.Observation.soft(values, change), generator=torch.Generator().manual_seed(1))
    assert torch.equal(x[:, :2], values[:, :2])  # less than one of 20 steps is none
    moved = (x - 3).abs().mean(0)
    assert (moved[1:5].diff() > 0.15).all(), moved
    assert moved[5] > moved[4] - 0.15  # inner steps may have forgotten all of the value before its last quarter
    other = lp.Observation.soft(values.nan_to_num(7.0), change)
    assert torch.equal(x, sampler(other, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", METHODS)
def test_a_soft_observation_of_ends_alone_is_an_ordinary_one(name):
    values, known = VALUES.expand(4, 3), torch.tensor([True, False, True])
    got, expected = (
        METHODS[name](TARGET, steps=4)(observation, generator=torch.Generator().manual_seed(0))
        for observation in (lp.Observation.soft(values, (~known).double()), lp.Observation(values, known))
    )
    assert torch.equal(got, expected)


@pytest.mark.parametrize("name", METHODS)
def test_levels_at_which_all_is_held_are_not_evaluated(name):
    score = lp.CountedScore(TARGET)
    sampler = METHODS[name](score, steps=8)
    observation = lp.Observation.soft(VALUES.expand(2, 3), torch.tensor([0.5, 0.1, 0.25], dtype=DOUBLE))
    starts = [state.step for state in sampler.iterate(observation) if state.kind == "start"]
    assert min(starts) == 4
    assert score.evaluations == sum(visit.evaluations for visit in sampler.plan.visits(4)) < sampler.plan.evaluations


def test_a_run_that_stops_early_keeps_what_is_held_there():
    class Halfway(lp.Callback):
        def on_level_end(self, sampler, state):
            return lp.Stop.RUN if state.step == 3 else None

    sampler = lp.LanPaint(TARGET, steps=8, callbacks=[Halfway()])
    change = torch.tensor([0.0, 0.3, 0.9], dtype=DOUBLE)
    x = sampler(lp.Observation.soft(VALUES[None], change), generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[0, :2], VALUES[:2])
    assert x[0, 2] != VALUES[2]


def test_a_sample_does_not_depend_on_its_batch():
    change = torch.tensor([[0.0, 0.5, 1.0], [0.7, 0.0, 1.0]], dtype=DOUBLE)
    sampler = lp.LanPaint(TARGET, steps=6)
    both = sampler(lp.Observation.soft(VALUES.expand(2, 3), change), generator=lp.seeded([3, 4]))
    for row in range(2):
        alone = sampler(lp.Observation.soft(VALUES[None], change[row]), generator=lp.seeded([3 + row]))
        assert torch.allclose(both[row], alone[0], rtol=1e-12, atol=1e-12)


def test_a_soft_observation_with_jitter_is_drawn_once():
    change = torch.tensor([0.0, 0.1, 1.0], dtype=DOUBLE)
    observation = lp.Observation.soft(torch.zeros(4000, 3, dtype=DOUBLE), change, jitter=2.0)
    x = lp.Replace(TARGET, steps=5)(observation, generator=torch.Generator().manual_seed(0))
    assert (x[:, :2].std(0) - 2).abs().max() < 5 * 2 / (2 * 4000) ** 0.5


def _given_the_draw(change, levels, seen=(0, 1)):
    """The exact law where each entry is diffused to the level of its release, and then all are sampled given that."""
    releases = lp.Observation.soft(VALUES[None], change).releases(len(levels) - 1).long()
    seen = torch.tensor(seen)
    alpha = torch.stack([levels[releases[i]].alpha for i in seen])
    sigma = torch.stack([levels[releases[i]].sigma for i in seen])
    cov = TARGET.full_cov[0]
    gain = cov[:, seen] * alpha @ torch.linalg.inv(alpha[:, None] * cov[seen][:, seen] * alpha + torch.diag(sigma**2))
    mean = TARGET.mean + gain @ (alpha * (VALUES - TARGET.mean).flatten()[seen])
    posterior = cov - gain @ (alpha[:, None] * cov[seen])
    return mean.flatten(), posterior + gain @ torch.diag(sigma**2) @ gain.mT


def test_with_a_level_for_each_entry_the_law_is_exact_given_the_draw():
    change = torch.tensor([0.0, 0.4, 1.0], dtype=DOUBLE)
    errors = []
    for steps in (40, 80):
        plan = lp.Plan(lp.uniform_log_snr(lp.VP.linear(), steps)).with_release(change)
        sampler = lp.Sampler(TARGET, plan=plan, solver=lp.DDIM(1.0))  # a solver that draws noise: x₀ given the draw
        mean, cov = law(sampler, VALUES, change, lp.Observation.soft)
        exact_mean, exact_cov = _given_the_draw(change, lp.uniform_log_snr(lp.VP.linear(), steps))
        assert torch.allclose(mean, exact_mean, atol=1e-3)
        errors.append((cov - exact_cov).abs().max())
    assert errors[1] < 0.6 * errors[0] < 0.12  # the solver is of first order


@pytest.mark.parametrize("make", [lp.LanPaint, lp.LangevinPaint])
def test_inner_steps_do_not_forget_what_was_drawn(make):
    """The more of them, the nearer is the law to x₀ given the draw; without the draw it would be that of the model."""
    change = torch.full((3,), 0.55, dtype=DOUBLE)
    levels = lp.uniform_log_snr(lp.VP.linear(), 30)
    exact_mean, exact_cov = _given_the_draw(change, levels, seen=[0, 1, 2])
    errors = []
    for inner_steps in (0, 30):
        sampler = make(TARGET, levels=levels, inner_steps=inner_steps, dynamics=lp.FastLangevin(order=1))
        mean, cov = law(sampler, VALUES, change, lp.Observation.soft)
        errors.append(torch.stack([(mean - exact_mean).abs().max(), (cov - exact_cov).abs().max()]))
    assert (errors[1] < 0.5 * errors[0]).all(), errors


def test_an_entry_that_waits_at_its_level_does_not_move():
    change = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    plan = lp.Plan(SIX, inner_steps=2).with_release(change)
    sampler = lp.LanPaint(TARGET, plan=plan)
    observation = lp.Observation.soft(VALUES.expand(4, 3), change)
    states = list(sampler.iterate(observation, generator=torch.Generator().manual_seed(0)))
    waiting = [state.x[:, 1] for state in states if state.step < 3 and state.kind != "start"]
    assert all(torch.equal(x, waiting[0]) for x in waiting)
    assert not torch.equal(waiting[0], states[-1].x[:, 1])
    assert all(torch.allclose(state.x[:, 0], observation.values[:, 0]) for state in states)  # clean all along


def test_what_was_released_is_remembered_as_it_was_drawn_with_the_level_of_its_draw():
    observation = lp.Observation.soft(VALUES.expand(2, 3), torch.tensor([0.0, 0.34, 0.67], dtype=DOUBLE))
    run = lp.Replace(TARGET, levels=SIX).iterate(observation, generator=torch.Generator().manual_seed(0))
    seen = {state.step: state for state in run if state.kind == "start"}
    assert sorted(seen) == [2, 3, 4, 5]  # the first release is before step 2, the second before step 4
    released = {2: {2: 2}, 3: {2: 2}, 4: {2: 2, 1: 4}, 5: {2: 2, 1: 4}}
    for step, entries in released.items():
        draws = seen[step].observation.draws
        assert draws.entries.tolist() == [entry in entries for entry in range(3)]
        for entry, at in entries.items():
            assert torch.equal(draws.at[:, entry], seen[at].x[:, entry])
            assert (draws.level.alpha[entry], draws.level.sigma[entry]) == (SIX[at].alpha, SIX[at].sigma)


def test_entries_that_wait_from_the_start_are_drawn_before_the_others_move():
    """With a level for each entry, an entry that may change by half is at its own level from the first visit on."""
    change = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    sampler = lp.Replace(TARGET, plan=lp.Plan(SIX).with_release(change))
    observation = lp.Observation.soft(VALUES.expand(20_000, 3), change)
    first = next(iter(sampler.iterate(observation, generator=torch.Generator().manual_seed(0))))
    alpha, sigma = SIX[3].numbers
    assert torch.allclose(first.x[:, 0], observation.values[:, 0])
    assert abs(float(first.x[:, 1].mean()) - alpha * -0.7) < 5 * sigma / 20_000**0.5
    assert abs(float(first.x[:, 1].std()) - sigma) < 5 * sigma / 40_000**0.5
    assert first.observation.known.expand(3).tolist() == [True, False, False]  # the sampler has nothing to do with it


def test_what_is_no_change_is_refused():
    values = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="change must be a number or a floating-point tensor"):
        lp.Observation.soft(values, torch.tensor([True, False, True]))
    for change in (1.5, -0.1, float("nan"), torch.tensor([0.0, 2.0, 0.0])):
        with pytest.raises(ValueError, match=r"change must lie between 0 \(known\) and 1"):
            lp.Observation.soft(values, change)
    with pytest.raises(ValueError, match="broadcast"):
        lp.Observation.soft(values, torch.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        lp.Observation.soft(torch.full((1, 2), torch.nan), torch.tensor([0.5, 1.0]))
    plan = lp.Plan(SIX).with_release(torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="differ from entry to entry already"):
        plan.with_release(torch.tensor([0.0, 1.0]))
