"""Solvers: order of convergence where the solution is known in closed form, and the schedulers of diffusers."""

import itertools
import math

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.verification import measured_order, zero_noise
from lanpaint_toys import Gaussian, GaussianMixture

VARIANCE = torch.tensor([1.5, 0.2, 4.0], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
TARGET = Gaussian(MEAN, torch.diag(VARIANCE))
COORDINATES = {
    "VP": lambda r: 1 / math.sqrt(1 + r * r),
    "VE": lambda r: 1.0,
    "flow": lambda r: 1 / (1 + r),
}
SOLVERS = {
    "Euler": (lp.Euler(), 1),
    "DDIM": (lp.DDIM(), 1),
    "Heun": (lp.Heun(), 2),
    "2M": (lp.DPMSolver(2), 2),
    "3M": (lp.DPMSolver(3), 3),
    "DPM-Solver 2M": (lp.DPMSolver(2, "epsilon"), 2),
    "DPM-Solver 3M": (lp.DPMSolver(3, "epsilon"), 3),
    "PNDM": (lp.PNDM(), 2),
    "UniPC-2": (lp.UniPC(2), 3),
    "UniPC-2, bh1": (lp.UniPC(2, "bh1"), 3),
    "UniPC-3": (lp.UniPC(3), 3),
}


def _levels(steps, coordinates, first=4.0, last=0.15):
    """Evenly in log(σ/α)."""
    scale = COORDINATES[coordinates]
    return [lp.NoiseLevel(scale(r), scale(r) * r) for r in np.geomspace(first, last, steps + 1)]


def _with_a_fine_start(levels):
    """Two steps of h² before the others: a multistep method of order 3 starts with less, whose error h² would stay."""
    first, second = (float(v.log_snr) for v in levels[:2])
    fine = [first + k * (second - first) ** 2 for k in (1, 2)]
    ratios = [math.exp(-value / 2) for value in fine]
    scale = float(levels[0].alpha)
    between = [lp.NoiseLevel(scale, scale * r) for r in ratios]
    return [levels[0], *between, *levels[1:]]


def _integrate(solver, levels, x, noise=zero_noise):
    state = solver.init(x, len(levels) - 1)
    for level, next_level in itertools.pairwise(levels):
        state = solver.step(state, TARGET, level, next_level, noise)
    return state.x


TIED = [lp.NoiseLevel(a, s) for a, s in ((0.0, 1.0), (0.6, 0.8), (0.6, 0.8), (0.9, 0.4), (1.0, 0.1), (1.0, 0.0))]
BY_ENTRY = [  # the first entry starts without signal, the second is clean one step before the others
    lp.NoiseLevel(torch.tensor(a).double(), torch.tensor(s).double())
    for a, s in (
        ([0.0, 0.5, 0.5], [1.0, 1.0, 1.0]),
        ([0.6, 0.9, 0.6], [0.8, 0.4, 0.8]),
        ([0.9, 1.0, 0.9], [0.4, 0.0, 0.4]),
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    )
]


class Halved(lp.Score):
    """A model that knows x̂₀ and ε̂ at every level, without signal or noise as well."""

    def predict(self, x, level):
        return lp.Prediction(x, level, denoised=0.5 * x, epsilon=0.8 * x)


@pytest.mark.parametrize("solver", [s for s, _ in SOLVERS.values()] + [lp.DDPM()], ids=[*SOLVERS, "DDPM"])
@pytest.mark.parametrize("levels", [_levels(4, "VP"), TIED, BY_ENTRY], ids=["VP", "ends and ties", "by entry"])
def test_as_many_evaluations_are_made_as_are_declared(solver, levels):
    score, made = lp.CountedScore(Halved()), []
    x = torch.ones(2, 3, dtype=torch.float64)
    state = solver.init(x, len(levels) - 1)
    for level, next_level in itertools.pairwise(levels):
        before = score.evaluations
        state = solver.step(state, score, level, next_level, zero_noise)
        made.append(score.evaluations - before)
    assert made == solver.evaluations(levels)


def test_heun_declares_one_evaluation_where_it_takes_an_euler_step():
    assert lp.Heun().evaluations(TIED) == [1, 1, 2, 2, 1]  # no signal, no change of level, …, no noise
    assert lp.Heun().evaluations(BY_ENTRY) == [2, 2, 1]


def _flow_of_the_gaussian(x, level, next_level):
    """z = x/α has variance c + r² at every r = σ/α, and the flow scales it about the mean with its deviation."""
    r, s = (float(v.sigma / v.alpha) for v in (level, next_level))
    z = MEAN + (x / level.alpha - MEAN) * ((VARIANCE + s * s) / (VARIANCE + r * r)).sqrt()
    return z * next_level.alpha


CONVERGING = {name: pair for name, pair in SOLVERS.items() if name not in ("UniPC-2, bh1", "UniPC-3")}


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize(("solver", "order"), CONVERGING.values(), ids=CONVERGING)
def test_solvers_converge_in_their_order_to_the_closed_form(solver, order, coordinates):
    errors, counts = [], [20, 40, 80, 160, 320]
    for count in counts:
        levels = _levels(count, coordinates)
        x = torch.linspace(-5, 5, 21, dtype=torch.float64)[:, None].expand(-1, 3) * levels[0].alpha
        out = _integrate(solver, _with_a_fine_start(levels) if order == 3 else levels, x)
        errors.append(float((out - _flow_of_the_gaussian(x, levels[0], levels[-1])).abs().max()))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.1), slopes


@pytest.mark.parametrize(("solver", "order"), SOLVERS.values(), ids=SOLVERS)
def test_coordinates_do_not_change_a_solution(solver, order):
    x = torch.linspace(-5, 5, 7, dtype=torch.float64)[:, None].expand(-1, 3)
    outs = []
    for name in COORDINATES:
        levels = _levels(9, name)
        outs.append(_integrate(solver, levels, x * levels[0].alpha) / levels[-1].alpha)
    assert torch.allclose(outs[0], outs[1], atol=1e-12)
    assert torch.allclose(outs[0], outs[2], atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [(lp.Euler(), 6), (lp.DDIM(0.5), 6), (lp.DDPM(), 6), (lp.Heun(), 11), (lp.DPMSolver(3), 6)],
)
def test_evaluations_of_a_run(solver, evaluations):
    counted = lp.CountedScore(TARGET)
    lp.Sampler(counted, solver=solver, steps=6)((2, 3))
    assert counted.evaluations == evaluations


# --- Steps that add noise: exact algebra in one dimension


def _final_law(solver, count, variance=0.3):
    """Mean and variance of the result for exact Gaussian input: the step is affine, so no sampling."""
    target = Gaussian([0.7], [[variance]])
    levels = [*_levels(count, "VP", 30.0, 0.01), lp.NoiseLevel(1.0, 0.0)]
    mean, spread = levels[0].alpha * 0.7, levels[0].alpha ** 2 * variance + levels[0].sigma ** 2
    x, xi = torch.tensor([[[0.0], [1.0], [0.0]], [[0.0], [0.0], [1.0]]], dtype=torch.float64)
    for level, next_level in itertools.pairwise(levels):
        stepped = solver.step(lp.SolverState(x), target, level, next_level, lambda like: xi).x
        offset, slope, scatter = (stepped - torch.tensor([[0.0], [1.0], [1.0]]) * stepped[0]).flatten().tolist()
        mean, spread = slope * mean + offset, slope**2 * spread + scatter**2
    return float(mean), float(spread)


@pytest.mark.parametrize("solver", [lp.DDIM(0.3), lp.DDIM(1.0), lp.DDPM()], ids=["η = 0.3", "η = 1", "DDPM"])
def test_steps_that_add_noise_reach_the_data_s_law_in_first_order(solver):
    counts = [100, 200, 400, 800]
    laws = [_final_law(solver, count) for count in counts]
    assert measured_order([abs(m - 0.7) for m, _ in laws], [1 / n for n in counts]) > 0.8
    assert measured_order([abs(v - 0.3) for _, v in laws], [1 / n for n in counts]) == pytest.approx(1, abs=0.2)
    assert laws[-1][1] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_a_ddpm_step_is_equation_35(coordinates):
    """x' = (x + s β)/√(1 − β) + √β ε in variance-preserving coordinates."""
    here, there = _levels(1, "VP", 1.3, 1.2)
    beta = 1 - (here.alpha / there.alpha) ** 2
    x, xi = torch.tensor([[0.3, -2.0, 1.0]]).double(), torch.tensor([[0.5, 1.0, -2.0]]).double()
    expected = (x + TARGET.score(x, here) * beta) / (1 - beta).sqrt() + beta.sqrt() * xi
    a, b = _levels(1, coordinates, 1.3, 1.2)
    out = lp.DDPM().step(lp.SolverState(x * a.alpha / here.alpha), TARGET, a, b, lambda like: xi).x
    assert torch.allclose(out * there.alpha / b.alpha, expected, atol=1e-12)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("solver", [lp.DDPM(), lp.DDIM(0.7), lp.DDIM(1.0)])
def test_the_step_to_clean_data_adds_no_noise(solver, coordinates):
    x = torch.tensor([[0.3, -2.0, 1.0]]).double()
    here, clean = _levels(1, coordinates, 1.3, 1.2)[0], lp.NoiseLevel(1.0, 0.0)
    out = solver.step(lp.SolverState(x), TARGET, here, clean, torch.ones_like).x
    assert torch.allclose(out, TARGET.predict(x, here).denoised, atol=1e-12)


def test_ddim_scatters_as_published():
    """σ_t(η) = η √((1 − ᾱ')/(1 − ᾱ)) √(1 − ᾱ/ᾱ'), and the rest of the noise is ε̂ (Song et al., 2020, Eq. 12, 16)."""
    here, there = _levels(1, "VP", 1.3, 0.6)
    a, b = float(here.alpha**2), float(there.alpha**2)
    spread = 0.4 * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
    x, xi = torch.tensor([[0.3, -2.0, 1.0]]).double(), torch.tensor([[0.5, 1.0, -2.0]]).double()
    guess = TARGET.predict(x, here)
    expected = math.sqrt(b) * guess.denoised + math.sqrt(1 - b - spread**2) * guess.epsilon + spread * xi
    out = lp.DDIM(0.4).step(lp.SolverState(x), TARGET, here, there, lambda like: xi).x
    assert torch.allclose(out, expected, atol=1e-12)


# --- Ends: no signal, no noise, a level per sample or entry

MIXTURE = GaussianMixture([[-1.0, 0.3], [1.5, 0.0]], [0.3, 0.5], [0.4, 0.6])


MULTISTEP = [lp.DPMSolver(2), lp.DPMSolver(3), lp.DPMSolver(3, "epsilon"), lp.PNDM(), lp.UniPC(2), lp.UniPC(3)]


@pytest.mark.parametrize("solver", [lp.Euler(), lp.DDIM(0.7), lp.DDPM(), lp.Heun(), *MULTISTEP])
def test_solvers_start_without_signal_and_end_without_noise(solver):
    x = lp.Sampler(MIXTURE, solver=solver, schedule=lp.Flow(), steps=12)(
        lp.Observation.none((4, 2), torch.float64), generator=torch.Generator().manual_seed(0)
    )
    assert bool(torch.isfinite(x).all())
    assert float(MIXTURE.log_prob(x).mean()) > -6


@pytest.mark.parametrize("solver", [lp.DDIM(0.7), lp.DDPM(), lp.Heun(), *MULTISTEP])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_level_per_sample_gives_what_each_gives_alone(solver, dtype):
    first, second = (lp.uniform_log_snr(schedule, 5) for schedule in (lp.VP.linear(), lp.VP.cosine()))
    both = [
        lp.NoiseLevel(torch.stack([a.alpha, b.alpha]), torch.stack([a.sigma, b.sigma])).per_sample(2)
        for a, b in zip(first, second, strict=True)
    ]
    both[-1] = lp.NoiseLevel(1.0, 0.0)
    start = torch.tensor([[0.4, -1.0], [1.0, 0.2]], dtype=dtype)

    def run(levels, rows):
        observation = lp.Observation.none((len(rows), 2), dtype)
        generators = lp.seeded(rows)
        sampler = lp.Sampler(MIXTURE, solver=solver, levels=levels)
        return sampler(observation, start=start[rows], generator=generators)

    together = run(both, [0, 1])
    assert together.dtype == dtype
    for row, levels in enumerate((first, second)):
        assert torch.allclose(together[row], run(levels, [row])[0], atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("solver", [lp.DDIM(0.7), lp.DDPM(), lp.Heun(), *MULTISTEP[1:]])
def test_entries_without_noise_stay(solver):
    levels = [
        lp.NoiseLevel(torch.tensor([v.alpha, 1.0]).double(), torch.tensor([v.sigma, 0.0]).double())
        for v in lp.uniform_log_snr(lp.VP.linear(), 6)
    ]
    start = torch.tensor([[0.4, -1.0]], dtype=torch.float64)
    x = lp.Sampler(MIXTURE, solver=solver, levels=levels)(lp.Observation.none((1, 2), torch.float64), start=start)
    assert float(x[0, 1]) == pytest.approx(-1.0, abs=1e-12)
    assert math.isfinite(float(x[0, 0]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: lp.DDIM(1.5), r"eta \(η\) must lie between 0 and 1, got 1.5"),
        (lambda: lp.DDIM(-0.1), r"eta \(η\) must lie between 0 and 1"),
        (lambda: lp.DPMSolver(1), "order must be 2 or 3, got 1; order 1 is Euler"),
        (lambda: lp.DPMSolver(2, "v"), r"form must be denoised \(DPM-Solver\+\+\) or epsilon \(DPM-Solver\), got 'v'"),
        (lambda: lp.UniPC(4), "order must be 2 or 3, got 4; order 1 is Euler"),
        (lambda: lp.UniPC(2, "bh3"), r"bh must be bh1 \(B = h\) or bh2 \(B = 1 − e\^\(−h\)\), got 'bh3'"),
    ],
)
def test_bad_arguments_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()


# --- Against diffusers, on the same ε̂


def network(x, time):
    """Some smooth function of x and time; its own schedule is Stable Diffusion's."""
    return torch.tanh(x * (0.5 + time.view(-1, 1, 1, 1) / 2000)) + 0.1 * x.flip(-1)


SCORE = lp.NetworkScore(network, "epsilon", lp.VP.scaled_linear())
CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ZERO = {**CONFIG, "final_sigmas_type": "zero"}
PAIRS = {
    "DDIM": (lp.DDIM(), diffusers.DDIMScheduler(**CONFIG, clip_sample=False)),
    "Euler": (lp.Euler(), diffusers.EulerDiscreteScheduler(**CONFIG)),
    "Euler, Karras": (lp.Euler(), diffusers.EulerDiscreteScheduler(**CONFIG, use_karras_sigmas=True)),
    "Heun": (lp.Heun(), diffusers.HeunDiscreteScheduler(**CONFIG)),
    "2M": (lp.DPMSolver(2), diffusers.DPMSolverMultistepScheduler(**ZERO, lower_order_final=False)),
    "2M, Karras": (lp.DPMSolver(2), diffusers.DPMSolverMultistepScheduler(**ZERO, use_karras_sigmas=True)),
    "flow": (lp.Euler(), diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
}


@pytest.mark.parametrize(("ours", "scheduler"), PAIRS.values(), ids=PAIRS)
def test_our_solvers_are_the_schedulers_of_diffusers(ours, scheduler):
    theirs = lp.DiffusersSolver(scheduler)
    levels = theirs.levels(20)
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = start * (levels[0].alpha ** 2 + levels[0].sigma ** 2).sqrt()
    observation = lp.Observation.none(start.shape, torch.float64)
    score = SCORE
    if "FlowMatch" in type(scheduler).__name__:
        score = lp.NetworkScore(network, "flow", lp.Flow())
    expected = lp.Sampler(score, solver=theirs, steps=20)(observation, start=start)
    got = lp.Sampler(score, solver=ours, levels=levels)(observation, start=start)
    assert float(expected.std()) > 0.1
    assert float((got - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_is_that_of_diffusers(eta):
    scheduler = diffusers.DDIMScheduler(**CONFIG, clip_sample=False)
    scheduler.set_timesteps(10)
    levels = lp.DiffusersSolver(scheduler).levels(10)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i in range(9):
        xi = torch.randn(x.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        epsilon = SCORE.epsilon(x, levels[i])
        expected = scheduler.step(epsilon, scheduler.timesteps[i], x, eta=eta, variance_noise=xi).prev_sample
        got = lp.DDIM(eta).step(lp.SolverState(x), SCORE, levels[i], levels[i + 1], lambda like: xi).x  # noqa: B023
        assert float((got - expected).abs().max()) < 1e-5
        x = expected


def test_ddpm_is_that_of_diffusers_with_its_large_variance():
    scheduler = diffusers.DDPMScheduler(**CONFIG, clip_sample=False, variance_type="fixed_large")
    scheduler.set_timesteps(1000)
    levels = lp.DiffusersSolver(scheduler).levels(1000)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for i in range(0, 990, 110):
        epsilon = SCORE.epsilon(x, levels[i])
        seeded = torch.Generator().manual_seed(i)
        expected = scheduler.step(epsilon, scheduler.timesteps[i], x, generator=seeded).prev_sample
        noise = lp.NormalNoise(torch.Generator().manual_seed(i))
        got = lp.DDPM().step(lp.SolverState(x), SCORE, levels[i], levels[i + 1], noise).x
        assert float((got - expected).abs().max()) < 1e-5
