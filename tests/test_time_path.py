"""Time paths: every monotone path of levels leads to the same law, and entries that wait do not move."""

import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.verification import measured_order
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, law

TARGET = Gaussian(
    torch.tensor([0.2, -0.1, 0.3], dtype=DOUBLE),
    torch.tensor([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.9]], dtype=DOUBLE),
)
VALUES = torch.tensor([1.5, -0.7, 0.4], dtype=DOUBLE)
FIRST = torch.tensor([True, False, False])


def _alone(*order):
    return [torch.arange(3) == i for i in order]


def _walk(u, moves=(1, 0, 2, 2, 0, 1)):
    """A monotone walk: in each sixth of the path, one coordinate goes down by a half."""
    times = torch.ones(3, dtype=DOUBLE)
    for number, coordinate in enumerate(moves):
        times[coordinate] -= min(max(6 * u - number, 0.0), 1.0) / 2
    return times


def _smooth(path):
    """The path with times 3τ² − 2τ³, slow at both ends of each entry's way.

    There σ/α goes to ∞ and 0. With even steps the error of a second-order solver is n⁻² log n.
    """
    return lp.TimePath(lambda u: path(u) ** 2 * (3 - 2 * path(u)))


PATHS = {
    "synchronous": lp.TimePath.synchronous(),
    "autoregressive": lp.TimePath.autoregressive(_alone(2, 0, 1)),
    "random walk": lp.TimePath(_walk),
    "easy first": lp.TimePath.easy_first(torch.tensor([0.0, 1.0, 0.5]), 0.5),
    "curved": lp.TimePath.of_positions(lambda u, at: (1 - u) ** (0.7 + at[0]), (3,)),
}
SOLVERS = {
    "Euler": (lp.Euler(), 1),
    "DDIM, η = 1": (lp.DDIM(1.0), 1),
    "Heun": (lp.Heun(), 2),
    "2M": (lp.DPMSolver(2), 2),
    "3M": (lp.DPMSolver(3), 3),
}


def _error(got, target, unknown):
    mean, cov = got
    cov = cov[unknown][:, unknown]
    return max(float((mean[unknown] - target.mean).abs().max()), float((cov - target.full_cov[0]).abs().max()))


@pytest.mark.parametrize(("solver", "order"), SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_any_path_reaches_the_law_of_the_data_in_the_order_of_the_solver(path, solver, order):
    counts, errors = [48, 96], []
    none, everything = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    for steps in counts:
        sampler = lp.Sampler(TARGET, solver=solver, plan=_smooth(path).plan(lp.Flow(), steps))
        errors.append(_error(law(sampler, VALUES, none), TARGET, everything))
    assert measured_order(errors, [1 / count for count in counts]) > order - 0.3, errors
    assert errors[-1] < (0.2 if order == 1 else 0.02)


@pytest.mark.parametrize(("solver", "order"), SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("kind", [lp.Sampler, lp.Replace])
def test_the_inpainting_path_reaches_the_conditional_law(kind, solver, order):
    counts, errors = [24, 48], []
    for steps in counts:
        path = _smooth(lp.TimePath.inpainting(FIRST))
        sampler = kind(TARGET, solver=solver, plan=path.plan(lp.Flow(), steps))
        mean, cov = law(sampler, VALUES, FIRST)
        assert mean[0] == VALUES[0]
        assert float(cov[0].abs().max()) == 0
        errors.append(_error((mean, cov), TARGET.conditional(VALUES, FIRST), ~FIRST))
    assert measured_order(errors, [1 / count for count in counts]) > order - 0.3, errors
    assert errors[-1] < (0.15 if order == 1 else 0.02)


def test_known_entries_are_seen_by_the_model_at_every_step_as_they_are():
    plan = lp.TimePath.inpainting(FIRST).plan(lp.Flow(), 4)
    observation = lp.Observation(VALUES.expand(2, 3), FIRST)
    for kind in (lp.Sampler, lp.Replace):
        states = list(kind(TARGET, plan=plan).iterate(observation, generator=torch.Generator().manual_seed(0)))
        assert all(torch.equal(state.x[:, 0], observation.values[:, 0]) for state in states)


def test_a_path_that_starts_below_one_keeps_the_law_of_the_data():
    """From noisy data of exact law, at levels that differ, an ODE solver returns the data's law."""
    path = lp.TimePath.easy_first(torch.tensor([0.0, 1.0, 0.5]), 0.5).starting_at(torch.tensor([0.2, 0.9, 0.6]))
    errors, counts = [], [16, 32, 64]
    for steps in counts:
        plan = path.plan(lp.Flow(), steps)
        alpha, sigma = plan.levels[0].alpha, plan.levels[0].sigma
        assert sigma.tolist() == pytest.approx([0.2, 0.9, 0.6])
        starts = torch.cat([torch.zeros(1, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE)])
        sampler = lp.Sampler(TARGET, solver=lp.Heun(), plan=plan)
        out = sampler(lp.Observation.none((4, 3), DOUBLE), start=starts)
        matrix = (out[1:] - out[0]).mT
        noisy = torch.outer(alpha, alpha) * TARGET.full_cov[0] + torch.diag(sigma**2)
        mean, cov = matrix @ (alpha * TARGET.mean) + out[0], matrix @ noisy @ matrix.mT
        errors.append(_error((mean, cov), TARGET, torch.ones(3, dtype=torch.bool)))
    assert measured_order(errors, [1 / count for count in counts]) > 1.75
    assert errors[-1] < 2e-3


class Rude(lp.Score):
    """A model whose x̂₀ and ε̂ do not fit each other, nor the entries that are clean."""

    def predict(self, x, level):
        return lp.Prediction(x, level, denoised=torch.sin(3 * x) + 0.3, epsilon=torch.cos(x))


@pytest.mark.parametrize(
    "solver",
    [
        *(lp.Euler(), lp.DDIM(0.0), lp.DDIM(0.7), lp.DDIM(1.0), lp.DDPM(), lp.Heun(), lp.PNDM()),
        *(*map(lp.DPMSolver, (2, 3)), lp.DPMSolver(3, "epsilon"), *map(lp.UniPC, (2, 3))),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entries_whose_level_does_not_change_stay_bit_for_bit(solver, dtype):
    """Entries wait at no signal, at some noise and without noise; the last moves in all steps."""
    alphas = [[0.0, 0.6, 1.0, 0.1], [0.0, 0.6, 1.0, 0.5], [0.0, 0.6, 1.0, 0.7], [0.3, 0.8, 1.0, 0.9], [1.0] * 4]
    sigmas = [[1.0, 0.8, 0.0, 0.9], [1.0, 0.8, 0.0, 0.7], [1.0, 0.8, 0.0, 0.5], [0.9, 0.5, 0.0, 0.3], [0.0] * 4]
    levels = [lp.NoiseLevel(torch.tensor(a), torch.tensor(s)) for a, s in zip(alphas, sigmas, strict=True)]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    state, noise = solver.init(x, 4), lp.NormalNoise(torch.Generator().manual_seed(1))
    for step, (level, next_level) in enumerate(itertools.pairwise(levels)):
        before, state = state.x, solver.step(state, Rude(), level, next_level, noise)
        waits = [0, 1, 2] if step < 2 else [2]
        assert torch.equal(state.x[:, waits], before[:, waits])
        moves = [i for i in range(4) if i not in waits]
        assert not bool((state.x[:, moves] == before[:, moves]).any())
        assert bool(torch.isfinite(state.x).all())


def test_a_step_between_equal_levels_changes_nothing():
    level = lp.NoiseLevel(0.6, 0.8)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for solver in (lp.DDIM(1.0), lp.Heun(), lp.DPMSolver(2)):
        noise = lp.NormalNoise(torch.Generator().manual_seed(1))
        assert torch.equal(solver.step(solver.init(x, 1), Rude(), level, level, noise).x, x)


# --- The times


@pytest.mark.parametrize("u", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_times_are_those_of_the_paper(u):
    known = torch.tensor([[True, False], [False, False]])
    expected = [[0, 1 - u], [1 - u, 1 - u]]  # Eq. 4
    assert lp.TimePath.inpainting(known)(u).tolist() == pytest.approx(torch.tensor(expected))
    groups = 3
    got = lp.TimePath.autoregressive(_alone(0, 1, 2))(u)
    for k in (1, 2, 3):
        if u < (k - 1) / groups:
            time = 1
        elif u <= k / groups:
            time = groups * (k / groups - u)
        else:
            time = 0
        assert float(got[k - 1]) == pytest.approx(time)


def test_easy_entries_are_clean_first():
    path = lp.TimePath.easy_first(torch.tensor([0.0, 0.5, 1.0]), fastest=0.2)
    assert path(0.0).tolist() == [1, 1, 1]
    assert path(0.2).tolist() == pytest.approx([0, 1 - 0.2 / 0.6, 0.8])
    assert path(0.6).tolist() == pytest.approx([0, 0, 0.4])


@pytest.mark.parametrize("schedule", [lp.Flow(), lp.Flow(shift=3.0), lp.VP.linear(), lp.VE()])
def test_time_one_is_the_noisiest_level_and_time_zero_is_clean(schedule):
    levels = lp.TimePath.synchronous().plan(schedule, 5).levels
    first = schedule.level(schedule.first_time)
    assert (float(levels[0].alpha), float(levels[0].sigma)) == (float(first.alpha), float(first.sigma))
    assert (float(levels[-1].alpha), float(levels[-1].sigma)) == (1, 0)
    times = schedule.times(100)  # the schedule's own shift
    if isinstance(schedule, lp.Flow):
        assert float(schedule.at(0.5).sigma) == pytest.approx(float(schedule.shift / (1 + schedule.shift)))
    else:
        assert float(schedule.time(schedule.at(0.5))) == pytest.approx(float(times.mean()))


def test_patches_part_a_map_row_by_row():
    patches = lp.raster_patches((5, 4), 2)
    number = sum((i * patch for i, patch in enumerate(patches)), torch.zeros(5, 4, dtype=torch.long))
    assert number.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3], [4, 4, 5, 5]]
    assert torch.stack(patches).sum(0).eq(1).all()
    levels = lp.TimePath.autoregressive(patches).plan(lp.Flow(), 12).levels
    assert torch.equal(levels[2].sigma, 1 - patches[0].double())


def test_a_map_per_sample_samples_each_as_it_would_be_alone():
    known = torch.tensor([[True, False, False], [False, False, True]])
    observation = lp.Observation(VALUES.expand(2, 3), known)

    def run(known, rows):
        sampler = lp.Sampler(TARGET, solver=lp.Heun(), plan=lp.TimePath.inpainting(known).plan(lp.Flow(), 6))
        part = lp.Observation(observation.values[rows], observation.known[rows])
        return sampler(part, generator=lp.seeded(rows))

    both = run(known, [0, 1])
    for row in (0, 1):
        assert torch.allclose(both[row], run(known[row], [row])[0], atol=1e-12)


LEVELS = {"dtype": DOUBLE}


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: lp.TimePath(3), TypeError, "a time path is a function of u that gives times, got 3"),
        (lambda: lp.TimePath.inpainting(torch.ones(3)), TypeError, "known must be a boolean tensor, got torch.float32"),
        (lambda: lp.TimePath.autoregressive([]), TypeError, "groups must be a list of boolean masks"),
        (
            lambda: lp.TimePath.autoregressive([FIRST, FIRST[:2]]),
            ValueError,
            r"groups must be masks of one shape, got \(3,\) and \(2,\)",
        ),
        (lambda: lp.TimePath.autoregressive([FIRST, ~FIRST & FIRST]), ValueError, "group 1 has no entry; leave it out"),
        (
            lambda: lp.TimePath.autoregressive([FIRST, FIRST | ~FIRST]),
            ValueError,
            "groups overlap: 1 entries are in more than one of them",
        ),
        (
            lambda: lp.TimePath.autoregressive(_alone(0, 2)),
            ValueError,
            "groups leave gaps: 1 entries are in none of them",
        ),
        (
            lambda: lp.TimePath.easy_first(torch.tensor([0.0, 3.0])),
            ValueError,
            "difficulty must lie between 0 and 1, got 0 … 3",
        ),
        (lambda: lp.TimePath.easy_first(torch.zeros(2), 0.0), ValueError, "fastest must be above 0"),
        (lambda: lp.TimePath.synchronous().starting_at(1.5), ValueError, "first must lie between 0 and 1"),
        (
            lambda: lp.TimePath(lambda u: 2 - 2 * u).plan(lp.Flow(), 4),
            ValueError,
            "times at u = 0 must lie between 0 and 1, got 2 … 2",
        ),
        (
            lambda: lp.TimePath(lambda u: float("nan")).plan(lp.Flow(), 4),
            ValueError,
            "times at u = 0 must lie between 0 and 1, got nan",
        ),
        (lambda: lp.TimePath(lambda u: "x").plan(lp.Flow(), 4), TypeError, "times must be a number or a tensor"),
        (
            lambda: lp.TimePath(lambda u: abs(0.5 - u)).plan(lp.Flow(), 4),
            ValueError,
            "times must never rise with u, but one rises by 0.25 from u = 0.5 to 0.75",
        ),
        (
            lambda: lp.TimePath(lambda u: 1 - u / 2).plan(lp.Flow(), 4),
            ValueError,
            "times must be 0 at u = 1, where all is data; got up to 0.5",
        ),
        (
            lambda: lp.TimePath(lambda u: torch.zeros(2 if u else 3)).plan(lp.Flow(), 4),
            ValueError,
            r"the time maps of a path must have one shape, got \(3,\) and \(2,\)",
        ),
        (
            lambda: lp.TimePath.of_positions(lambda u, at: 1 - u + 0 * at, (3,)).plan(lp.Flow(), 4),
            ValueError,
            r"the path must give times of shape \(3,\), got \(1, 3\) at u = 0",
        ),
        (lambda: lp.TimePath.synchronous().plan("flow", 4), TypeError, r"schedule must be a Schedule such as Flow\(\)"),
        (lambda: lp.TimePath.synchronous().plan(lp.Flow(), 0), ValueError, "steps must be a whole number of at least"),
        (
            lambda: lp.Sampler(TARGET, plan=lp.TimePath.inpainting(FIRST[:2]).plan(lp.Flow(), 4))((2, 3)),
            ValueError,
            r"a level of shape \(2,\) does not broadcast to samples of shape \(2, 3\)",
        ),
        (lambda: lp.raster_patches((4, 4, 4), 2), ValueError, r"shape must be \(H, W\)"),
        (lambda: lp.raster_patches((4, 4), 0), ValueError, "size must be a whole number of at least 1"),
    ],
)
def test_a_wrong_path_is_refused_in_one_line(make, error, told):
    with pytest.raises(error, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)
