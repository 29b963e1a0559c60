"""Any diffusers scheduler as a solver: the same samples as its own loop, in its own coordinates."""

import copy
import dataclasses
import inspect
import itertools
import re

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.reading import level_of
from lanpaint_toys import Gaussian

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
MEAN, COV = [0.4, -0.3], [[0.5, 0.2], [0.2, 0.3]]

# name → (class, settings): the schedulers of variance-preserving models
DIFFUSION = {
    "DDPM": ("DDPMScheduler", {"clip_sample": False}),
    "DDPM, v": ("DDPMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "DDIM, v, zero SNR": (
        "DDIMScheduler",
        {
            "clip_sample": False,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
    ),
    "DDIM, x₀": ("DDIMScheduler", {"clip_sample": False, "prediction_type": "sample"}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler, v": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "Euler, Karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "KDPM2": ("KDPM2DiscreteScheduler", {}),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M, Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {}),
    "DPM++ 3S": ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "LCM": ("LCMScheduler", {"clip_sample": False}),
    "TCD": ("TCDScheduler", {"clip_sample": False}),
    "PNDM": ("PNDMScheduler", {}),
    "PNDM, without Runge-Kutta steps": ("PNDMScheduler", {"skip_prk_steps": True}),
}
# KDPM2 asks its network at times between the trained ones, which are found by interpolating log σ.
LOOSE = {"KDPM2": 2e-3, "KDPM2 ancestral": 2e-3, "Euler, Karras": 2e-3, "DPM++ 2M, Karras": 2e-3}


def _make(name):
    kind, settings = DIFFUSION[name]
    kind = getattr(diffusers, kind)
    parts = inspect.signature(kind.__init__).parameters
    spacing = {name: value for name, value in LEADING.items() if name in parts and "timestep_spacing" not in settings}
    return kind(**BETAS, **spacing, **settings)


def _network(scheduler):
    """What an exact network predicts at (x, t) in variance-preserving coordinates, from the scheduler's ᾱ alone."""
    betas = scheduler.betas.double()
    bars = torch.cumprod(1 - betas, 0).numpy()
    log_sigma = np.log(np.sqrt((1 - bars) / bars.clip(min=1e-30)).clip(max=1e12))
    mean, cov = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(COV, dtype=torch.float64)

    def predict(x, time):
        ratio = np.exp(np.interp(float(time), np.arange(len(bars)), log_sigma))
        alpha, sigma = 1 / np.hypot(1, ratio), ratio / np.hypot(1, ratio)
        marginal = alpha**2 * cov + sigma**2 * torch.eye(2, dtype=torch.float64)
        x = x.double()
        epsilon = sigma * torch.linalg.solve(marginal, (x - alpha * mean).mT).mT
        denoised = mean + alpha * torch.linalg.solve(marginal, (x - alpha * mean).mT).mT @ cov
        kinds = {"epsilon": epsilon, "sample": denoised, "v_prediction": alpha * epsilon - sigma * denoised}
        return kinds[scheduler.config.prediction_type].float()

    return predict


def _by_hand(scheduler, network, x, steps, generator, **timesteps):
    """A pipeline's loop."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps, **timesteps)
    options = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    calls = 0
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(scaled, time), time, x, **options, return_dict=False)[0]
        calls += 1
    return x, calls


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("steps", [6, 7])
def test_samples_are_those_of_the_scheduler_s_own_loop(name, steps):
    scheduler = _make(name)
    before = copy.deepcopy(vars(scheduler))
    target = lp.CountedScore(Gaussian(mean=MEAN, cov=COV))
    sampler = lp.Sampler(target, steps=steps, solver=lp.DiffusersSolver(scheduler))
    first = sampler.levels[0]
    x = first.perturb(torch.zeros(64, 2), torch.randn(64, 2, generator=torch.Generator().manual_seed(0))).float()

    got = sampler((64, 2), start=x, generator=torch.Generator().manual_seed(1))
    expected, calls = _by_hand(scheduler, _network(scheduler), x, steps, torch.Generator().manual_seed(1))
    scale = expected.abs().max()
    assert (got - expected).abs().max() < LOOSE.get(name, 2e-5) * scale
    assert target.evaluations == calls
    assert vars(scheduler).keys() == before.keys()
    assert scheduler.num_inference_steps == before["num_inference_steps"]  # the scheduler itself was not touched


@pytest.mark.parametrize("kind", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_schedulers(kind, shift):
    scheduler = getattr(diffusers, kind)(shift=shift)
    target = Gaussian(mean=MEAN, cov=COV)
    mean, cov = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(COV, dtype=torch.float64)

    def network(x, time):
        s = float(time) / 1000
        marginal = (1 - s) ** 2 * cov + s**2 * torch.eye(2, dtype=torch.float64)
        whitened = torch.linalg.solve(marginal, (x.double() - (1 - s) * mean).mT).mT
        return (s * whitened - mean - (1 - s) * whitened @ cov).float()

    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    sampler = lp.Sampler(target, steps=6, solver=lp.DiffusersSolver(scheduler))
    expected, _ = _by_hand(scheduler, network, x, 6, None)
    assert (sampler((64, 2), start=x) - expected).abs().max() < 2e-5


def _marginal(sigma):
    """E[x₀ | x] of the Gaussian at x = x₀ + σ ε, as a function."""
    mean, cov = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(COV, dtype=torch.float64)
    gain = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(2, dtype=torch.float64))
    return lambda x: mean + (x.double() - mean) @ gain.mT


# Settings, the sign of the output, and what is subtracted from σ at the boundary.
PRECONDITIONED = {
    "EDMEulerScheduler": ({}, 1, 0.0),
    "EDMDPMSolverMultistepScheduler": ({}, 1, 0.0),
    "EDMEulerScheduler, v": ({"prediction_type": "v_prediction"}, -1, 0.0),
    "CMStochasticIterativeScheduler": ({"clip_denoised": False}, 1, 0.002),
}


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_preconditioned_schedulers(name):
    """The network's output F, with x̂₀ = c_skip x + c_out F, is read as the scheduler's own loop reads it."""
    settings, sign, least = PRECONDITIONED[name]
    scheduler = getattr(diffusers, name.split(",")[0])(**settings)

    def network(scaled, time):
        sigma = float(np.exp(4 * float(time) / (1000 if least else 1)))  # the times are ¼ log σ
        x = scaled.double() * np.hypot(sigma, 0.5)
        skip = 0.25 / ((sigma - least) ** 2 + 0.25)
        out = sign * (sigma - least) * 0.5 / np.hypot(sigma, 0.5)
        return ((_marginal(sigma)(x) - skip * x) / out).float()

    sampler = lp.Sampler(Gaussian(mean=MEAN, cov=COV), steps=6, solver=lp.DiffusersSolver(scheduler))
    x = float(sampler.levels[0].sigma) * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    expected, _ = _by_hand(scheduler, network, x, 6, torch.Generator().manual_seed(1))
    got = sampler((64, 2), start=x, generator=torch.Generator().manual_seed(1))
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()


def test_angles_are_levels_and_the_time_of_clean_data_is_not_evaluated():
    """TrigFlow: x = cos t · x₀ + sin t · σ_data ε with F = dx/dt; its list of times ends at t = 0."""
    scheduler = diffusers.SCMScheduler()
    options = {"intermediate_timesteps": None, "max_timesteps": 1.5}

    def network(x, time):
        t, x = float(time), x.double()
        mean, cov = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(COV, dtype=torch.float64)
        marginal = np.cos(t) ** 2 * cov + (0.5 * np.sin(t)) ** 2 * torch.eye(2, dtype=torch.float64)
        denoised = mean + (x - np.cos(t) * mean) @ (np.cos(t) * cov @ torch.linalg.inv(marginal)).mT
        return ((np.cos(t) * x - denoised) / np.sin(t)).float()

    target = lp.CountedScore(Gaussian(mean=MEAN, cov=COV))
    sampler = lp.Sampler(target, steps=4, solver=lp.DiffusersSolver(scheduler, **options))
    x = 0.5 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    made, generator = x, torch.Generator().manual_seed(1)
    scheduler.set_timesteps(4, **options)
    for time in scheduler.timesteps[:-1]:
        made = scheduler.step(network(made, time), time, made, generator=generator, return_dict=False)[0]
    got = sampler((64, 2), start=x, generator=torch.Generator().manual_seed(1))
    assert (got - made).abs().max() < 1e-4 * made.abs().max()
    assert target.evaluations == 4


def test_inverted_sigmas_are_levels_of_the_signal():
    """Flows whose σ grows from 0 to 1 while noise vanishes, with the velocity from noise to data."""
    plain = diffusers.FlowMatchEulerDiscreteScheduler()
    inverted = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    target = Gaussian(mean=MEAN, cov=COV)
    sigmas = np.linspace(1.0, 0.2, 5)
    one, other = (
        lp.Sampler(target, steps=5, solver=lp.DiffusersSolver(scheduler, sigmas=sigmas))((64, 2), start=x)
        for scheduler in (plain, inverted)
    )
    assert (one - other).abs().max() < 1e-4


def test_a_flow_whose_sigma_exceeds_one_is_variance_exploding():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True, num_train_timesteps=1)
    sigmas = [80.0, 20.0, 5.0, 1.0, 0.2]
    solver = lp.DiffusersSolver(scheduler, sigmas=sigmas)
    solver.scheduler.register_to_config(sigma_min=0.2, sigma_max=80.0)
    sampler = lp.Sampler(Gaussian(mean=MEAN, cov=COV), steps=5, solver=solver)
    assert [float(level.alpha) for level in sampler.levels] == [1.0] * 6
    x = 80 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    expected = x.double()
    for level, following in zip(sampler.levels, sampler.levels[1:], strict=False):
        sigma = float(level.sigma)
        velocity = (expected - _marginal(sigma)(expected)) / sigma
        expected = expected + (float(following.sigma) - sigma) * velocity
    assert (sampler((64, 2), start=x) - expected).abs().max() < 1e-3


def test_dynamic_shifting_takes_its_argument():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    low, high = (lp.DiffusersSolver(scheduler, mu=mu).levels(4) for mu in (0.5, 1.15))
    assert bool(low[2].sigma < high[2].sigma)
    with pytest.raises(ValueError, match="mu"):
        lp.DiffusersSolver(scheduler).levels(4)


@pytest.mark.parametrize("name", DIFFUSION)
def test_levels_are_where_the_scheduler_s_noise_is(name):
    """A clean image noised by the scheduler itself has the level's α and σ."""
    scheduler = _make(name)
    levels = lp.DiffusersSolver(scheduler).levels(6)
    scheduler.set_timesteps(6)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    time = scheduler.timesteps[:1]
    tolerance = {"rel": 1e-4, "abs": 2e-5}
    assert float(scheduler.add_noise(zero, one, time)) == pytest.approx(float(levels[0].sigma), **tolerance)
    assert float(scheduler.add_noise(one, zero, time)) == pytest.approx(float(levels[0].alpha), **tolerance)
    assert (float(levels[-1].alpha), float(levels[-1].sigma)) == (1, 0)


def test_lanpaint_runs_with_any_scheduler_and_keeps_what_is_known():
    observation = lp.Observation(torch.full((32, 2), 0.7), known=torch.tensor([False, True]))
    target = Gaussian(mean=MEAN, cov=COV)
    for name in DIFFUSION:
        paint = lp.LanPaint(target, steps=6, inner_steps=2, solver=lp.DiffusersSolver(_make(name)))
        x = paint(observation, generator=torch.Generator().manual_seed(0))
        assert torch.equal(x[:, 1], observation.values[:, 1])
        assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", ["DPM++ 2M", "Heun", "Euler"])
def test_lanpaint_with_a_scheduler_samples_the_conditional(name):
    """x | y = 0.7 on the Gaussian: mean 0.4 + 0.2/0.3 (0.7 + 0.3), variance 0.5 − 0.2²/0.3; bound 5 standard errors."""
    count = 20_000
    observation = lp.Observation(torch.full((count, 2), 0.7), known=torch.tensor([False, True]))
    kind, settings = DIFFUSION[name]
    scheduler = getattr(diffusers, kind)(**BETAS, use_karras_sigmas=True, **settings)
    paint = lp.LanPaint(
        Gaussian(mean=MEAN, cov=COV), steps=40, inner_steps=8, expected_noise=0.4, solver=lp.DiffusersSolver(scheduler)
    )
    x = paint(observation, generator=torch.Generator().manual_seed(0))[:, 0]
    mean, variance = 0.4 + 0.2 / 0.3, 0.5 - 0.2**2 / 0.3
    assert abs(float(x.mean()) - mean) < 5 * (variance / count) ** 0.5 + 0.005
    assert abs(float(x.var()) / variance - 1) < 5 * (2 / count) ** 0.5 + 0.02


@pytest.mark.parametrize("settings", [{}, {"skip_prk_steps": True}])
@pytest.mark.parametrize("first", [1, 2, 4, 6])
def test_pndm_may_begin_at_any_level(settings, first):
    """All data are one point, so ε is the same at all levels, and every method whose weights sum to 1 is exact."""
    solver = lp.DiffusersSolver(diffusers.PNDMScheduler(**BETAS, **LEADING, **settings, set_alpha_to_one=True))
    levels = solver.levels(10)  # the scheduler rounds half a step of an odd number of times
    point = torch.full((4, 2), 0.7)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))

    class Point(lp.Score):
        def predict(self, x, level):
            return lp.Prediction(x, level, denoised=point)

    state = solver.init(torch.zeros(4, 2), 10)
    state = dataclasses.replace(state, x=levels[first].perturb(point, noise).float())
    for level, next_level in itertools.pairwise(levels[first:]):
        state = solver.step(state, Point(), level, next_level, None)
        assert torch.allclose(state.x, next_level.perturb(point, noise).float(), atol=2e-5)


def test_two_runs_of_one_sampler_do_not_disturb_each_other():
    paint = lp.LanPaint(Gaussian(mean=MEAN, cov=COV), steps=5, solver=lp.DiffusersSolver(_make("DPM++ 3M")))
    observation = lp.Observation(torch.full((3, 2), 0.7), known=torch.tensor([False, True]))
    alone = paint(observation, generator=torch.Generator().manual_seed(0))
    runs = [paint.iterate(observation, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    moments = list(zip(*runs, strict=True))
    assert torch.equal(moments[-1][0].x, alone)
    assert torch.equal(moments[-1][1].x, alone)


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("ScoreSdeVeScheduler", {}, "ScoreSdeVeScheduler is no scheduler"),
        ("DDIMInverseScheduler", {}, "DDIMInverseScheduler fails a check with a known answer"),
        ("IPNDMScheduler", {}, "6 steps are too few for it"),
        ("AmusedScheduler", {"mask_token_id": 0}, "AmusedScheduler has no noise levels that are known here"),
        ("KarrasVeScheduler", {}, "KarrasVeScheduler is not supported: its step takes model_output, sigma_hat"),
    ],
)
def test_schedulers_that_are_not_understood_are_refused_in_one_line(kind, settings, told):
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        lp.Sampler(
            Gaussian(mean=MEAN, cov=COV),
            steps=6,
            solver=lp.DiffusersSolver(getattr(diffusers, kind)(**settings)),
        )
    assert len(str(caught.value).splitlines()) == 1


def test_a_thing_that_is_no_scheduler_is_refused():
    with pytest.raises(ValueError, match="int is no scheduler"):
        lp.DiffusersSolver(3)


def test_a_level_is_read_at_any_index():
    scheduler = diffusers.DDIMScheduler(**BETAS, **LEADING)
    scheduler.set_timesteps(5)
    level = level_of(scheduler, 3)
    bar = scheduler.alphas_cumprod[scheduler.timesteps[3]].double()
    assert float(level.alpha) == pytest.approx(float(bar.sqrt()))
    assert float(level.sigma) == pytest.approx(float((1 - bar).sqrt()))


MULTISTEP = ["DPM++ 2M", "DPM++ 2M, Karras", "DPM++ 3M", "UniPC", "DEIS", "LMS", "PNDM, without Runge-Kutta steps"]


def _fourth(name, change):
    """x after the fourth step of ten, where ``change`` was applied to x before it; and what a fresh run makes of it."""
    target = Gaussian(mean=MEAN, cov=COV)
    solver = lp.DiffusersSolver(_make(name))
    levels, noise = solver.levels(10), lp.NormalNoise(torch.Generator().manual_seed(0))
    state = solver.init(levels[0].perturb(torch.zeros(5, 2), torch.randn(5, 2)), 10)
    for level, next_level in itertools.pairwise(levels[:4]):
        state = solver.step(state, target, level, next_level, noise)
    state = dataclasses.replace(state, x=change(state.x))
    fresh = solver.step(dataclasses.replace(solver.init(state.x, 10)), target, *levels[3:5], noise)
    return solver.step(state, target, *levels[3:5], noise).x, fresh.x


@pytest.mark.parametrize("name", MULTISTEP)
def test_a_scheduler_forgets_where_a_sampler_has_moved_x(name):
    moved, fresh = _fourth(name, lambda x: x + 0.3)
    assert torch.equal(moved, fresh)


@pytest.mark.parametrize("name", MULTISTEP)
def test_a_scheduler_remembers_where_x_is_as_it_left_it(name):
    same, fresh = _fourth(name, torch.clone)
    assert not torch.allclose(same, fresh, atol=1e-5)


@pytest.mark.parametrize("name", ["DPM++ 2M, Karras", "UniPC"])
def test_with_inner_steps_at_each_level_a_multistep_scheduler_is_euler(name):
    target = Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.tensor([[0.0, 1.0]]).expand(50, 2), torch.tensor([False, True]))
    solver = lp.DiffusersSolver(_make(name))
    results = [
        lp.LanPaint(target, inner_steps=2, **kind)(observation, generator=torch.Generator().manual_seed(0))
        for kind in ({"solver": solver, "steps": 10}, {"solver": lp.Euler(), "levels": solver.levels(10)})
    ]
    assert torch.allclose(*results, atol=2e-3)
