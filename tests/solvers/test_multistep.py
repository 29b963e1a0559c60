"""Multistep solvers: exact on polynomials, their order, the schemes of diffusers, and anew where x was changed."""

import dataclasses
import itertools
import math

import diffusers
import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

import lanpaint as lp
from lanpaint.names import make_solver
from lanpaint.solvers import multistep
from lanpaint.verification import zero_noise
from lanpaint_toys import Gaussian, GaussianMixture
from tests.samplers.affine import law
from tests.solvers.test_solvers import (
    CONFIG,
    MEAN,
    SCORE,
    TARGET,
    _flow_of_the_gaussian,
    _integrate,
    _levels,
    network,
)

DOUBLE = torch.float64
ALL = {
    "2M": lp.DPMSolver(2),
    "3M": lp.DPMSolver(3),
    "DPM-Solver 2M": lp.DPMSolver(2, "epsilon"),
    "DPM-Solver 3M": lp.DPMSolver(3, "epsilon"),
    "PNDM": lp.PNDM(),
    "UniPC-2": lp.UniPC(2),
    "UniPC-2, bh1": lp.UniPC(2, "bh1"),
    "UniPC-3": lp.UniPC(3),
}
every_solver = pytest.mark.parametrize("solver", ALL.values(), ids=ALL)


# --- Exact algebra


@pytest.mark.parametrize("exponent", [1e-9, 1e-3, 0.5, 0.999, 1.001, 4.0, 40.0, -1e-3, -0.999, -1.001, -9.0])
def test_moments_are_the_integrals(exponent):
    found = multistep.moments(torch.tensor([exponent], dtype=DOUBLE), 4)
    for k, value in enumerate(found):
        expected = quad(lambda t, k=k: exponent * math.exp((t - 1) * exponent) * t**k, 0, 1, epsabs=0, epsrel=1e-13)[0]
        assert float(value) == pytest.approx(expected, rel=1e-12)


class Polynomial(lp.Score):
    """x̂₀ is a polynomial in λ = log(α/σ), or ε̂ is one in λ or in r = σ/α, whatever x is."""

    def __init__(self, view, variable, coefficients):
        super().__init__()
        self.view, self.variable, self.coefficients = view, variable, coefficients

    def __call__(self, ratio):
        at = -math.log(ratio) if self.variable == "λ" else ratio
        return float(np.polynomial.polynomial.polyval(at, self.coefficients))

    def predict(self, x, level):
        value = torch.full_like(x, self(float(level.sigma / level.alpha)))
        return lp.Prediction(x, level, **{self.view: value})

    def flow(self, x, level, next_level):
        """The exact flow, by quadrature over r: d(x/σ) = −x̂₀ dr/r², d(x/α) = ε̂ dr."""
        r, s = (float(v.sigma / v.alpha) for v in (level, next_level))
        if self.view == "denoised":
            change = quad(lambda u: -self(u) / u**2, r, s, epsabs=1e-13, epsrel=1e-13)[0]
            return (x / level.sigma + change) * next_level.sigma
        return (x / level.alpha + quad(self, r, s, epsabs=1e-13, epsrel=1e-13)[0]) * next_level.alpha


UNEVEN = [lp.NoiseLevel(1 / (1 + r), r / (1 + r)) for r in (5.0, 3.1, 2.7, 1.2, 0.8, 0.3, 0.21)]
EVEN = [lp.NoiseLevel(1.0, r) for r in (5.0, 4.2, 3.4, 2.6, 1.8, 1.0)]


@pytest.mark.parametrize(
    ("solver", "score", "levels", "steps_before"),
    [
        (lp.DPMSolver(3), Polynomial("denoised", "λ", [0.3, -1.0, 0.7]), UNEVEN, 2),
        (lp.DPMSolver(3, "epsilon"), Polynomial("epsilon", "λ", [0.3, -1.0, 0.7]), UNEVEN, 2),
        (lp.UniPC(3), Polynomial("denoised", "λ", [0.3, -1.0, 0.7]), UNEVEN, 2),
        (lp.PNDM(), Polynomial("epsilon", "r", [0.3, -1.0, 0.7, -0.2]), EVEN, 3),
    ],
    ids=["3M", "DPM-Solver 3M", "UniPC-3", "PNDM"],
)
def test_a_step_is_exact_where_the_prediction_is_a_polynomial(solver, score, levels, steps_before):
    """3M integrates a parabola in λ on uneven levels, and PNDM a cubic in r on even ones."""
    state = solver.init(torch.tensor([[0.4, -2.0]], dtype=DOUBLE), len(levels) - 1)
    for number, (level, next_level) in enumerate(itertools.pairwise(levels)):
        before, state = state.x, solver.step(state, score, level, next_level, zero_noise)
        exact = score.flow(before, level, next_level)
        if number >= steps_before:
            if isinstance(solver, lp.UniPC):  # from the corrected state, of which the Euler step is kept
                exact = exact + next_level.sigma / level.sigma * (_before(state, level, next_level) - before)
            assert torch.allclose(state.x, exact, rtol=0, atol=1e-12)


def _before(state, level, next_level):
    """The corrected state at ``level``, from UniPC's Euler step to ``next_level``."""
    clean = state.prediction.denoised
    return (state.euler - next_level.alpha * clean) / next_level.sigma * level.sigma + level.alpha * clean


@pytest.mark.parametrize(("order", "coefficients"), [(2, [0.3, -1.0, 0.7]), (3, [0.3, -1.0, 0.7, -0.2])])
def test_the_corrector_of_unipc_integrates_one_degree_more_than_its_predictor(order, coefficients):
    solver, score = lp.UniPC(order), Polynomial("denoised", "λ", coefficients)
    state, corrected = solver.init(torch.tensor([[0.4, -2.0]], dtype=DOUBLE), 6), []
    for level, next_level in itertools.pairwise(UNEVEN):
        predicted, state = state.x, solver.step(state, score, level, next_level, zero_noise)
        corrected.append(_before(state, level, next_level))
        if len(corrected) > order + 1:
            exact = score.flow(corrected[-2], UNEVEN[len(corrected) - 2], level)
            assert torch.allclose(corrected[-1], exact, rtol=0, atol=1e-12)
            assert not torch.allclose(predicted, exact, rtol=0, atol=1e-4)


# --- Order


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (lp.DPMSolver(3), 3),
        (lp.DPMSolver(3, "epsilon"), 3),
        (lp.UniPC(2), 3),
        (lp.UniPC(3), 4),
        (lp.UniPC(3, "bh1"), 4),
    ],
)
def test_with_exact_predictions_to_begin_with_a_solver_has_its_full_order(solver, order):
    errors, counts = [], [80, 160]
    for count in counts:
        levels = _levels(count, "VP")
        paths = [torch.linspace(-5, 5, 21, dtype=DOUBLE)[:, None].expand(-1, 3) * levels[0].alpha]
        for level, next_level in itertools.pairwise(levels[:4]):
            paths.append(_flow_of_the_gaussian(paths[-1], level, next_level))
        view = getattr(solver, "form", "denoised")
        predictions = [getattr(TARGET.predict(x, v), view) for x, v in zip(paths, levels, strict=False)][:3]
        history = [(v, level.log_snr / 2) for v, level in zip(predictions, levels, strict=False)]
        state = dataclasses.replace(solver.init(paths[-1], count), history=tuple(reversed(history[4 - order :])))
        if isinstance(solver, lp.UniPC):
            state = dataclasses.replace(state, history=tuple(reversed(history)))
        for level, next_level in itertools.pairwise(levels[3:]):
            state = solver.step(state, TARGET, level, next_level, zero_noise)
        errors.append(float((state.x - _flow_of_the_gaussian(paths[0], levels[0], levels[-1])).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2), errors


MIXTURE = GaussianMixture([[-1.0], [1.5]], [0.3, 0.5], [0.4, 0.6])


@pytest.fixture(scope="module")
def mixture_flow():
    """Starts z at r = 4, and where the flow of the mixture takes them at r = 0.15, by scipy."""
    starts = np.linspace(-6, 6, 7)

    def slope(r, z):
        return MIXTURE.predict(torch.tensor(z)[:, None], lp.NoiseLevel(1.0, float(r))).epsilon[:, 0].numpy()

    solved = solve_ivp(slope, (4.0, 0.15), starts, method="DOP853", rtol=1e-11, atol=1e-12)
    return torch.tensor(starts)[:, None], torch.tensor(solved.y[:, -1])[:, None]


@pytest.mark.parametrize(
    ("solver", "order"),
    [(ALL["2M"], 2), (ALL["DPM-Solver 2M"], 2), (ALL["PNDM"], 2), (ALL["UniPC-2"], 3), (ALL["UniPC-3"], 3)],
)
def test_solvers_have_their_order_on_a_mixture(solver, order, mixture_flow):
    errors = []
    for count in (80, 160):
        levels, state = _levels(count, "VE"), solver.init(mixture_flow[0], count)
        for level, next_level in itertools.pairwise(levels):
            state = solver.step(state, MIXTURE, level, next_level, zero_noise)
        errors.append(float((state.x - mixture_flow[1]).abs().max()))
    assert math.log2(errors[0] / errors[1]) > order - 0.3, errors


def test_pndm_loses_its_order_where_steps_alternate_in_length():
    """The weights are those of even steps: of order 2 where r is a smooth function of the level's number."""
    slopes = {}
    for short in (1.0, 0.3):
        errors = []
        for count in (100, 200):
            lengths = np.tile([short, 2 - short], count // 2) * math.log(4.0 / 0.15) / count
            ratios = 4.0 * np.exp(-np.concatenate([[0.0], lengths.cumsum()]))
            levels = [lp.NoiseLevel(1.0, r) for r in ratios]
            x = torch.linspace(-5, 5, 5, dtype=DOUBLE)[:, None].expand(-1, 3)
            out = _integrate(lp.PNDM(), levels, x)
            errors.append(float((out - _flow_of_the_gaussian(x, levels[0], levels[-1])).abs().max()))
        slopes[short] = math.log2(errors[0] / errors[1])
    assert slopes[1.0] == pytest.approx(2, abs=0.1)
    assert slopes[0.3] == pytest.approx(1, abs=0.1)


# --- Against diffusers, on the same predictions at the same levels


def _levels_of(sigmas, flow=False):
    if flow:
        return [lp.NoiseLevel(1 - float(s), float(s)) for s in sigmas]
    return [lp.NoiseLevel(1 / math.sqrt(1 + float(s) ** 2), float(s) / math.sqrt(1 + float(s) ** 2)) for s in sigmas]


def _both(ours, scheduler, count=12, score=SCORE):
    """States after each step of both, from the same start: ours, and those of the scheduler."""
    flow = score is not SCORE
    scheduler.set_timesteps(count)
    levels = _levels_of(scheduler.sigmas, flow)
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    x, state, pairs = start, ours.init(start, count), []
    for time, (level, next_level) in zip(scheduler.timesteps, itertools.pairwise(levels), strict=True):
        output = score.predict(x, level).flow if flow else score.predict(x, level).epsilon
        x = scheduler.step(output, time, x).prev_sample
        state = ours.step(state, score, level, next_level, zero_noise)
        pairs.append((state.x, x))
    return pairs


def _agree(pairs):
    return [float((a - b).abs().max() / b.abs().max()) < 1e-5 for a, b in pairs]


UNIPC = diffusers.UniPCMultistepScheduler
SIGMAS = {**CONFIG, "lower_order_final": False, "final_sigmas_type": "sigma_min"}


@pytest.mark.parametrize("bh", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [2, 3])
def test_unipc_is_that_of_diffusers(order, bh):
    assert all(_agree(_both(lp.UniPC(order, bh), UNIPC(**SIGMAS, solver_order=order, solver_type=bh))))


def test_unipc_is_that_of_diffusers_in_the_coordinates_of_a_flow_and_to_clean_data():
    score = lp.NetworkScore(network, "flow", lp.Flow())
    scheduler = UNIPC(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction", solver_order=2)
    pairs = _both(lp.UniPC(2), scheduler, score=score)
    assert all(_agree(pairs))
    assert float(pairs[-1][1].std()) > 0.1


def test_3m_is_unipc_3_of_diffusers_without_its_corrector():
    scheduler = UNIPC(**SIGMAS, solver_order=3, disable_corrector=list(range(20)))
    assert all(_agree(_both(lp.DPMSolver(3), scheduler)))


@pytest.mark.parametrize(("form", "kind"), [("denoised", "dpmsolver++"), ("epsilon", "dpmsolver")])
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_is_that_of_diffusers_but_for_a_factor_of_3m(order, form, kind, monkeypatch):
    """Theirs of order 3 has half of the second derivative. With that put into ours they agree, and are not exact."""
    theirs = diffusers.DPMSolverMultistepScheduler(**SIGMAS, solver_order=order, algorithm_type=kind)
    assert all(_agree(_both(lp.DPMSolver(order, form), theirs))) == (order == 2)
    if order == 3:
        moments = multistep.moments

        def halved(exponent, count):
            return [m / 2 if k == 2 else m for k, m in enumerate(moments(exponent, count))]

        monkeypatch.setattr(multistep, "moments", halved)
        assert all(_agree(_both(lp.DPMSolver(order, form), theirs)))
        score = Polynomial(form, "λ", [0.0, 0.0, 1.0])
        state = lp.DPMSolver(3, form).init(torch.zeros(1, 1, dtype=DOUBLE), 4)
        for level, next_level in itertools.pairwise(UNEVEN[:4]):
            before, state = state.x, lp.DPMSolver(3, form).step(state, score, level, next_level, zero_noise)
        assert abs(float(state.x - score.flow(before, level, next_level))) > 0.01


def test_pndm_is_that_of_diffusers_after_its_first_step():
    """Theirs makes the first step twice, the second time by Heun's method. From there the states agree."""
    scheduler = diffusers.PNDMScheduler(**CONFIG, skip_prk_steps=True, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    products = [scheduler.alphas_cumprod[t] for t in range(900, -1, -100)]
    levels = [lp.NoiseLevel(float(a) ** 0.5, (1 - float(a)) ** 0.5) for a in products] + [lp.NoiseLevel(1.0, 0.0)]
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    state = lp.PNDM().step(lp.PNDM().init(x, 10), SCORE, levels[0], levels[1], zero_noise)
    for number, time in enumerate(scheduler.timesteps):
        level = levels[0] if number == 0 else levels[max(number - 1, 1)]
        x = scheduler.step(SCORE.epsilon(x, level), time, x).prev_sample
        if number == 1:
            state = dataclasses.replace(state, x=x, reached=None)  # the history is kept
        if number > 1:
            state = lp.PNDM().step(state, SCORE, levels[number - 1], levels[number], zero_noise)
            assert float((state.x - x).abs().max()) < 1e-5 * float(x.abs().max())
    assert number == 10


# --- Where a sampler has changed x


@every_solver
def test_a_sample_that_was_changed_begins_anew_and_the_others_go_on(solver):
    levels = _levels(9, "flow")
    start = torch.tensor([[1.0, -2.0, 0.5], [2.0, 0.0, 1.0], [-1.0, 1.0, 3.0]], dtype=DOUBLE)

    def run(x, levels, changes=()):
        state = solver.init(x, len(levels) - 1)
        for number, (level, next_level) in enumerate(itertools.pairwise(levels)):
            if number in changes:
                state = dataclasses.replace(state, x=state.x + torch.tensor([[0.0], [0.3], [0.0]], dtype=DOUBLE))
            state = solver.step(state, TARGET, level, next_level, zero_noise)
        return state.x

    changed = run(start, levels, changes=(4,))
    moved = run(start, levels[:5]) + torch.tensor([[0.0], [0.3], [0.0]], dtype=DOUBLE)
    assert torch.allclose(changed[[0, 2]], run(start, levels)[[0, 2]], rtol=0, atol=1e-12)
    assert torch.allclose(changed[1], run(moved, levels[4:])[1], rtol=0, atol=1e-12)


@every_solver
def test_a_new_tensor_of_the_same_values_is_no_change(solver):
    """Replace makes a new x at each level, though nothing may be known."""
    nothing = lp.Observation.none((3, 3), DOUBLE)
    plain, copied = (
        kind(TARGET, steps=6, solver=solver)(nothing, generator=torch.Generator().manual_seed(0))
        for kind in (lp.Sampler, lp.Replace)
    )
    assert torch.equal(plain, copied)


@every_solver
def test_with_inner_steps_the_law_is_that_of_the_first_order_step(solver):
    """Kept predictions are of another state: 2M then had a KL of 0.36 where Euler has 0.013, and 3M one of 13."""
    target = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    values, known = torch.tensor([0.0, 1.0], dtype=DOUBLE), torch.tensor([False, True])
    mean, cov = law(lp.LanPaint(target, steps=4, inner_steps=2, solver=solver), values, known)
    euler = law(lp.LanPaint(target, steps=4, inner_steps=2), values, known)
    assert torch.allclose(mean, euler[0], rtol=0, atol=1e-12)
    assert torch.allclose(cov, euler[1], rtol=0, atol=1e-12)


# --- Names, and corrected predictions


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("2m", lp.DPMSolver, {"order": 2, "form": "denoised"}),
        ("3m", lp.DPMSolver, {"order": 3, "form": "denoised"}),
        ("dpm2m", lp.DPMSolver, {"order": 2, "form": "epsilon"}),
        ("dpm3m", lp.DPMSolver, {"order": 3, "form": "epsilon"}),
        ("pndm", lp.PNDM, {}),
        ("unipc2", lp.UniPC, {"order": 2, "bh": "bh2"}),
        ("unipc3", lp.UniPC, {"order": 3, "bh": "bh2"}),
    ],
)
def test_a_name_makes_the_solver(name, kind, settings):
    made = make_solver(name)
    assert type(made) is kind
    assert vars(made) == settings


def test_a_wrong_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"unknown solver 'unipc'; expected one of euler, .*pndm, unipc2, unipc3"):
        make_solver("unipc")


@every_solver
def test_corrected_predictions_are_taken_at_the_same_cost(solver):
    def run(score):
        counted = lp.CountedScore(score)
        x = lp.Sampler(counted, steps=6, solver=solver)(
            lp.Observation.none((3, 3), DOUBLE), generator=torch.Generator().manual_seed(0)
        )
        assert counted.evaluations == 6
        return x

    assert torch.equal(run(lp.LML(TARGET, beta=0.0)), run(TARGET))
    corrected = run(lp.LML(TARGET, beta=1.0))
    assert not torch.allclose(corrected, run(TARGET), atol=1e-3)
    assert float((corrected - MEAN).abs().max()) < 20
