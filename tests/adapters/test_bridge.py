"""A sampler inside an unmodified pipeline: the pipeline's own result without one, a plan that is kept, an end that is.

The plain pipeline below has the loop of diffusers' pipelines around a network that is exact for a Gaussian; what goes
through it is compared with the same sampler on the Gaussian itself. The tiny pipelines are diffusers' own.
"""

import copy
import functools
import inspect
import sys

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.bridge import apart_from, bridged
from lanpaint.samplers import DDRM, DPS, RePaint
from lanpaint_toys import Gaussian
from tests.adapters import tiny

LEADING = tiny.SD
TRAILING = {**tiny.SD_BETAS, "steps_offset": 1, "timestep_spacing": "trailing"}
V_ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}

SCHEDULERS = {
    "DDPM": ("DDPMScheduler", LEADING),
    "DDPM, v": ("DDPMScheduler", {**LEADING, "prediction_type": "v_prediction"}),
    "DDIM": ("DDIMScheduler", LEADING),
    "DDIM, trailing, v, zero SNR": ("DDIMScheduler", {**TRAILING, **V_ZERO}),
    "Euler": ("EulerDiscreteScheduler", LEADING),
    "Euler, trailing, v, zero SNR": ("EulerDiscreteScheduler", {**TRAILING, **V_ZERO}),
    "Euler, Karras": ("EulerDiscreteScheduler", {**LEADING, "use_karras_sigmas": True}),
    "Euler, exponential": ("EulerDiscreteScheduler", {**LEADING, "use_exponential_sigmas": True}),
    "Euler, beta": ("EulerDiscreteScheduler", {**LEADING, "use_beta_sigmas": True}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", LEADING),
    "Heun": ("HeunDiscreteScheduler", LEADING),
    "KDPM2": ("KDPM2DiscreteScheduler", LEADING),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", LEADING),
    "LMS": ("LMSDiscreteScheduler", LEADING),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", LEADING),
    "DPM++ 2M, Karras": ("DPMSolverMultistepScheduler", {**LEADING, "use_karras_sigmas": True}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {**LEADING, "algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", tiny.SD_BETAS),
    "UniPC": ("UniPCMultistepScheduler", LEADING),
    "DEIS": ("DEISMultistepScheduler", LEADING),
    "LCM": ("LCMScheduler", {**tiny.SD_BETAS, "steps_offset": 1}),
}
FLOWS = {
    "Flow Euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "Flow Heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "Flow DPM++ 2M": (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ),
    "Flow UniPC": (
        "UniPCMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ),
}


def _scheduler(name):
    kind, settings = {**SCHEDULERS, **FLOWS}[name]
    kind = getattr(diffusers, kind)
    known = inspect.signature(kind.__init__).parameters
    if not set(settings) <= set(known):
        pytest.skip(f"{kind.__name__} of diffusers {diffusers.__version__} has no {set(settings) - set(known)}")
    clip = {"clip_sample": False} if "clip_sample" in known else {}
    return kind(**settings, **clip)


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def sd():
    return tiny.sd()


def _call(tiny_pipe, steps=4, generator=None, **more):
    call = {"num_inference_steps": steps, "output_type": "latent", "generator": generator or _g(), **tiny_pipe.call}
    return tiny_pipe.pipe(**{**call, **more})[0]


def _left_known(shape, seed=5):
    known = torch.zeros(shape, dtype=torch.bool)
    known[..., : shape[-1] // 2] = True
    return lp.Observation(torch.randn(shape, generator=_g(seed)), known)


def _with_scheduler(tiny_pipe, scheduler):
    changed = copy.copy(tiny_pipe)
    changed.pipe = copy.copy(tiny_pipe.pipe)
    vars(changed.pipe)["scheduler"] = scheduler
    return changed


class Counted:
    """Counts the calls of a network while it lasts."""

    def __init__(self, network):
        self.network, self.calls = network, 0

    def __enter__(self):
        self.hook = self.network.register_forward_hook(self._tick)
        return self

    def _tick(self, *_):
        self.calls += 1

    def __exit__(self, *_):
        self.hook.remove()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_without_a_mask_and_inner_steps_the_result_is_the_pipeline_s_bit_for_bit(sd, name):
    pipe = _with_scheduler(sd, _scheduler(name))
    with Counted(pipe.pipe.unet) as alone:
        expected = _call(pipe)
    for sampler in (lp.Replace, functools.partial(lp.LanPaint, inner_steps=0)):
        generator = _g()
        with bridged(pipe.pipe, sampler) as bridge, Counted(pipe.pipe.unet) as counted:
            got = _call(pipe, generator=generator)
        assert torch.equal(got, expected)
        assert counted.calls == alone.calls == bridge.planned == bridge.evaluations
        assert bridge.outer_steps == bridge.sampler.steps


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_known_latents_are_exact_and_the_network_is_called_as_planned(sd, name):
    pipe = _with_scheduler(sd, _scheduler(name))
    with Counted(pipe.pipe.unet) as alone:
        _call(pipe)
    observation = _left_known((1, 4, 8, 8))
    paint = functools.partial(lp.LanPaint, inner_steps=2)
    with bridged(pipe.pipe, paint, observation) as bridge, Counted(pipe.pipe.unet) as counted:
        got = _call(pipe)
    known = observation.known
    assert torch.equal(got[known], observation.values[known])
    assert torch.isfinite(got).all()
    assert counted.calls == bridge.planned == bridge.evaluations == alone.calls + 2 * bridge.sampler.steps


class PlainPipeline:
    """The loop of a text-to-image pipeline around an exact network for a Gaussian."""

    def __init__(self, target, scheduler):
        self.target, self.scheduler = target, scheduler

    def prepare_latents(self, shape, generator=None):
        return torch.randn(shape, generator=generator) * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def level(self, time):
        if "low" in type(self.scheduler).__name__ or getattr(self.scheduler.config, "use_flow_sigmas", False):
            s = float(time) / self.scheduler.config.num_train_timesteps
            return lp.NoiseLevel(1 - s, s)
        return lp.VP(self.scheduler.alphas_cumprod).level(float(time))

    def network(self, x, time):
        prediction = self.target.predict(x.double(), self.level(time))
        flow = type(self.scheduler).__name__.startswith("Flow")
        kinds = {"epsilon": "epsilon", "v_prediction": "v", "flow_prediction": "flow", "sample": "denoised"}
        return getattr(prediction, "flow" if flow else kinds[self.scheduler.config.prediction_type]).float()

    def __call__(self, shape, steps, generator=None, draws=None):
        takes = draws is not None and "generator" in inspect.signature(self.scheduler.step).parameters
        options = {"generator": draws} if takes else {}
        self.scheduler.set_timesteps(steps)
        x = self.prepare_latents(shape, generator)
        for time in self.scheduler.timesteps:
            scaled = self.scheduler.scale_model_input(x, time) if hasattr(self.scheduler, "scale_model_input") else x
            x = self.scheduler.step(self.network(scaled, time), time, x, return_dict=False, **options)[0]
        return x


def _start(scheduler, steps):
    """The first latents of the plain pipeline."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    return PlainPipeline(None, scheduler).prepare_latents((6, 4), _g(0))


MEAN, COV = [0.4, -0.3, 0.1, 0.2], torch.tensor([[0.5, 0.2], [0.2, 0.3]]).repeat(2, 2) + 0.3 * torch.eye(4)


@pytest.mark.parametrize("name", [*SCHEDULERS, *FLOWS])
def test_samples_are_those_of_the_same_sampler_on_the_model_itself(name):
    """The same draws, levels, coordinates and scaling, in every scheduler: to the error of float32."""
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)
    pipe = PlainPipeline(target, scheduler)
    known = torch.tensor([True, False, False, False])
    observation = lp.Observation(torch.full((6, 4), 0.7), known)
    paint = functools.partial(lp.LanPaint, inner_steps=3, expected_noise=0.5)
    draws = _g(1)  # of the sampler and of a scheduler that draws
    with bridged(pipe, paint, observation, generator=draws):
        got = pipe((6, 4), 8, _g(0), draws)

    start = _start(scheduler, 8)
    direct = paint(target, steps=8, solver=lp.DiffusersSolver(scheduler))
    expected = direct(observation, start=start, generator=_g(1))
    # Times between the trained ones are found by interpolating log σ there and the angle here, or are rounded there.
    loose = name.startswith(("KDPM2", "Flow DPM", "Flow Uni")) or "Euler, " in name or "Karras" in name
    assert (got - expected).abs().max() < (1e-2 if loose else 2e-4) * expected.abs().max()


class Midpoint(lp.Solver):
    """A user's own: evaluates halfway between two levels, where the pipeline has no time of its own."""

    def evaluations(self, levels):
        return [2] * (len(levels) - 1)

    def step(self, state, score, level, next_level, noise):
        first = score.predict(state.x, level)
        middle = lp.NoiseLevel((level.alpha + next_level.alpha) / 2, (level.sigma + next_level.sigma) / 2)
        second = score.predict(middle.perturb(first.denoised, first.epsilon), middle)
        return lp.SolverState(next_level.perturb(second.denoised, second.epsilon), second)


@pytest.mark.parametrize("name", ["DDIM", "Euler", "Flow Euler"])
def test_a_sampler_may_ask_at_levels_that_the_scheduler_does_not_visit(name):
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)

    def make(score, levels=None, solver=None, steps=None):
        levels = levels or solver.levels(steps)
        return lp.Replace(score, levels=levels, solver=Midpoint())

    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    pipe = PlainPipeline(target, scheduler)
    with bridged(pipe, make, observation, generator=_g(1)) as bridge:
        got = pipe((6, 4), 5, _g(0))
    assert bridge.evaluations == 10
    start = _start(scheduler, 5)
    levels = lp.DiffusersSolver(scheduler).levels(5)
    expected = lp.Replace(target, levels=levels, solver=Midpoint())(observation, start=start, generator=_g(1))
    assert (got - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("sampler", [lp.Replace, RePaint, lp.LangevinPaint, lp.LanPaint, DDRM])
def test_every_sampler_that_needs_no_gradient_runs(sd, sampler):
    observation = _left_known((1, 4, 8, 8))
    with bridged(sd.pipe, sampler, observation) as bridge, Counted(sd.pipe.unet) as counted:
        got = _call(sd, steps=3)
    assert torch.equal(got[observation.known], observation.values[observation.known])
    assert counted.calls == bridge.planned


def test_a_sampler_that_needs_a_gradient_is_told_before_the_pipeline_runs(sd):
    with bridged(sd.pipe, DPS), Counted(sd.pipe.unet) as counted, pytest.raises(ValueError, match="network adapter"):
        _call(sd)
    assert counted.calls == 0


class Twice(lp.Langevin):
    """A user's own dynamics, of two evaluations a step."""

    def step(self, state, drift, noise):
        drift(state.x)
        return super().step(state, drift, noise)


class Declared(Twice):
    """The same, which says so."""

    def evaluations(self, inner_steps):
        return 2 * inner_steps


class Hesitant(Declared):
    """The same, whose evaluations depend on the data: two at most."""

    def step(self, state, drift, noise):
        return (super() if float(state.x.sum()) > 0 else lp.Langevin()).step(state, drift, noise)


def test_more_evaluations_than_declared_are_told_with_what_declares_them(sd):
    paint = functools.partial(lp.LanPaint, inner_steps=2, dynamics=Twice())
    told = r"LanPaint asks for evaluation 13 of its score and declares 12; evaluations\(\) of its dynamics"
    with bridged(sd.pipe, paint), pytest.raises(ValueError, match=told):
        _call(sd)


def test_declared_evaluations_may_be_made_or_not(sd):
    observation = _left_known((1, 4, 8, 8))
    for dynamics in (Declared(), Hesitant()):
        paint = functools.partial(lp.LanPaint, inner_steps=2, dynamics=dynamics)
        with bridged(sd.pipe, paint, observation) as bridge, Counted(sd.pipe.unet) as counted:
            got = _call(sd)
        assert torch.equal(got[observation.known], observation.values[observation.known])
        assert bridge.planned == 4 * (2 * 2 + 1)
        assert counted.calls == bridge.evaluations <= bridge.planned
    assert bridge.evaluations < bridge.planned


class StopAt(lp.Callback):
    def __init__(self, stop):
        self.stop, self.ended = stop, 0

    def on_inner_end(self, sampler, state):
        return self.stop if state.step == 1 else None

    def on_run_end(self, sampler, state):
        self.ended += 1


@pytest.mark.parametrize(("stop", "made"), [(lp.Stop.LEVEL, 4 + 2 + 4 + 4), (lp.Stop.RUN, 4 + 1 + 1)])
def test_a_callback_may_end_a_level_or_the_run_early(sd, stop, made):
    """No evaluation is made that is not asked for, and the sample is that of the sampler alone."""
    observation, stopped = _left_known((1, 4, 8, 8)), StopAt(stop)
    paint = functools.partial(lp.LanPaint, inner_steps=3, callbacks=[stopped])
    with bridged(sd.pipe, paint, observation) as bridge, Counted(sd.pipe.unet) as counted:
        got = _call(sd)
    assert torch.equal(got[observation.known], observation.values[observation.known])
    assert counted.calls == bridge.evaluations == made
    assert (bridge.planned, stopped.ended) == (16, 1)


def test_early_stop_runs_in_a_pipeline_and_gives_what_it_gives_outside_of_one():
    scheduler, target = _scheduler("DDIM"), Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    stops = [lp.EarlyStop(threshold=0.5), lp.EarlyStop(threshold=0.5)]
    paints = [functools.partial(lp.LanPaint, inner_steps=6, callbacks=[stop]) for stop in stops]
    with bridged(PlainPipeline(target, scheduler), paints[0], observation, generator=_g(1)) as bridge:
        got = bridge._pipe((6, 4), 8, _g(0))
    direct = paints[1](target, steps=8, solver=lp.DiffusersSolver(scheduler))
    expected = direct(observation, start=_start(scheduler, 8), generator=_g(1))
    assert stops[0].inner_steps == stops[1].inner_steps
    assert bridge.evaluations == sum(stops[0].inner_steps) + 8 < bridge.planned
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_pipeline_is_the_same_object_after_an_error_or_an_interrupt(sd, error):
    pipe, ended = sd.pipe, StopAt(None)

    def interrupt(*_):
        if bridge.evaluations == 4:
            raise error("in mid-run")

    before, config = dict(vars(pipe)), dict(pipe.config)
    scheduler = copy.deepcopy(vars(pipe.scheduler))
    hook = pipe.unet.register_forward_hook(interrupt)
    try:
        paint = functools.partial(lp.LanPaint, callbacks=[ended])
        with pytest.raises(error, match="in mid-run"), bridged(pipe, paint) as bridge:
            _call(sd)
    finally:
        hook.remove()
    own = {name: value for name, value in vars(pipe).items() if name in before and not name.startswith("_")}
    assert all(own[name] is before[name] for name in own)
    assert "prepare_latents" not in vars(pipe)
    assert "progress_bar" not in vars(pipe)
    assert dict(pipe.config) == config
    assert str(vars(pipe.scheduler)) == str(scheduler)
    assert ended.ended == 1  # the sampler's own callbacks got to close what they hold


def test_an_error_in_the_sampler_reaches_the_caller(sd):
    class Broken(lp.Callback):
        def on_level_end(self, sampler, state):
            raise ZeroDivisionError("mine")

    broken = functools.partial(lp.Replace, callbacks=[Broken()])
    with pytest.raises(ZeroDivisionError, match="mine"), bridged(sd.pipe, broken):
        _call(sd)


def test_the_stand_in_is_of_the_scheduler_s_class_with_its_signatures(sd):
    own = sd.pipe.scheduler
    with bridged(sd.pipe, lp.Sampler):
        stand_in = sd.pipe.scheduler
        assert stand_in is not own
        assert isinstance(stand_in, type(own))
        assert type(stand_in) is type(own)
        for name in ("step", "set_timesteps"):
            assert inspect.signature(getattr(stand_in, name)) == inspect.signature(getattr(own, name))
        assert stand_in.config == own.config
    assert sd.pipe.scheduler is own


@pytest.mark.parametrize("make", [tiny.sd, tiny.flux])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_pipelines_give_the_same_bits_and_the_sampler_keeps_float32(make, dtype):
    made = make(dtype=dtype)
    expected = _call(made)
    with bridged(made.pipe, lp.Replace):
        assert torch.equal(_call(made), expected)

    class Dtypes(lp.Callback):
        def on_inner_end(self, sampler, state):
            assert state.x.dtype == torch.float32

    observation = _left_known(expected.shape)
    with bridged(made.pipe, functools.partial(lp.LanPaint, callbacks=[Dtypes()]), observation):
        got = _call(made, steps=2)
    assert got.dtype == expected.dtype
    assert torch.equal(got[observation.known], observation.values[observation.known].to(dtype))


def test_a_pipeline_that_shows_its_first_latents_late_is_the_same_in_coordinates_of_its_own():
    """Latent diffusion draws in its call, and scales its input before the first step of the scheduler."""
    made = tiny.ldm()
    made = _with_scheduler(made, diffusers.EulerDiscreteScheduler(**tiny.SD_BETAS))
    expected = _call(made, output_type="np")
    with bridged(made.pipe, lp.Replace) as bridge:
        assert np.array_equal(_call(made, output_type="np"), expected)
    assert bridge.evaluations == 4
    observation = _left_known((1, 3, 8, 8))
    with bridged(made.pipe, lp.Replace, observation) as bridge:
        _call(made)
    assert bridge.evaluations == bridge.planned == 5


def test_calls_within_one_block_are_runs_of_their_own(sd):
    with bridged(sd.pipe, lp.LanPaint, _left_known((1, 4, 8, 8))):
        first, second, other = _call(sd), _call(sd), _call(sd, steps=3)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_pipeline_s_generator_gives_the_numbers_that_it_gives_alone(sd):
    pipe = _with_scheduler(sd, _scheduler("Euler ancestral"))
    alone, inside = _g(3), _g(3)
    _call(pipe, generator=alone)
    with bridged(pipe.pipe, lp.LanPaint, _left_known((1, 4, 8, 8))):
        _call(pipe, generator=inside)
    assert torch.equal(alone.get_state(), inside.get_state())


def test_the_sampler_s_numbers_follow_the_pipeline_s_generator_and_its_state():
    like, generator = torch.zeros(2, 3), _g(3)
    first, again = apart_from(generator)(like), apart_from(generator)(like)
    torch.randn(1, generator=generator)
    assert torch.equal(first, again)
    assert not torch.equal(first, apart_from(generator)(like))
    several = apart_from([_g(3), _g(4)])(like)
    assert torch.equal(several[1], apart_from([_g(4)])(like[:1])[0])
    state = torch.get_rng_state()
    apart_from(None)(like)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_generator_per_image_makes_images_independent_of_their_batch():
    two = tiny.sd(images=2)
    one = tiny.sd(images=1)
    observation = _left_known((1, 4, 8, 8))
    with bridged(two.pipe, lp.LanPaint, observation):
        both = _call(two, generator=[_g(1), _g(2)])
    two.call = {**two.call, **{name: value[1:] for name, value in two.call.items() if isinstance(value, torch.Tensor)}}
    with bridged(two.pipe, lp.LanPaint, observation):
        second = _call(two, generator=[_g(2)])
    assert one.call["height"] == two.call["height"]
    assert torch.allclose(both[1:], second, atol=1e-4)


def test_latents_of_the_caller_are_used_and_not_written_to(sd):
    latents = torch.randn(1, 4, 8, 8, generator=_g(9))
    before = latents.clone()
    expected = _call(sd, latents=latents)
    with bridged(sd.pipe, lp.Sampler):
        assert torch.equal(_call(sd, latents=latents), expected)
    with bridged(sd.pipe, lp.LanPaint, _left_known((1, 4, 8, 8))):
        _call(sd, latents=latents)
    assert torch.equal(latents, before)


def test_gradient_modes_of_pipeline_sampler_and_caller_are_their_own(sd):
    modes = []

    class Modes(lp.Callback):
        def on_inner_end(self, sampler, state):
            modes.append(torch.is_grad_enabled())

    class Recording(PlainPipeline):  # does not turn gradients off
        def network(self, x, time):
            assert torch.is_grad_enabled()
            if len(modes) > 4:
                raise RuntimeError("enough")
            return super().network(x, time)

    pipe = Recording(Gaussian(mean=MEAN, cov=COV), _scheduler("DDIM"))
    paint = functools.partial(lp.LanPaint, callbacks=[Modes()])
    with pytest.raises(RuntimeError, match="enough"), bridged(pipe, paint):
        pipe((6, 4), 3)
    assert modes
    assert not any(modes)
    assert torch.is_grad_enabled()


def test_inference_mode_and_the_caller_s_gradient_mode_are_left_alone(sd):
    expected = _call(sd)
    with torch.inference_mode(), bridged(sd.pipe, lp.Replace):
        assert torch.equal(_call(sd), expected)
    with bridged(sd.pipe, lp.Replace):
        _call(sd)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("scheduler", "told"),
    [
        (diffusers.KarrasVeScheduler(), "KarrasVeScheduler is not supported: its step takes"),
        (
            diffusers.AmusedScheduler(mask_token_id=0),
            "AmusedScheduler has no noise levels that are known here: it has neither sigmas nor alphas_cumprod",
        ),
        (diffusers.DDIMInverseScheduler(), "DDIMInverseScheduler fails a check with a known answer"),
    ],
)
def test_schedulers_that_are_not_understood_are_refused_in_one_line(sd, scheduler, told):
    pipe = _with_scheduler(sd, scheduler)
    with pytest.raises(ValueError, match=told) as caught, bridged(pipe.pipe, lp.LanPaint):
        _call(pipe)
    assert len(str(caught.value).splitlines()) == 1


def test_bad_input_is_told_in_one_line(sd):
    observation = _left_known((1, 4, 8, 8))
    cases = [
        (
            TypeError,
            "must be a pipeline of diffusers with a scheduler to stand in for, got object",
            lambda: bridged(object(), lp.LanPaint),
        ),
        (TypeError, "functools.partial", lambda: bridged(sd.pipe, lp.LanPaint(Gaussian(mean=[0.0], cov=[[1.0]])))),
        (ValueError, "not both", lambda: bridged(sd.pipe, lp.LanPaint, generator=_g(), noise=torch.zeros_like)),
    ]
    for error, told, make in cases:
        with pytest.raises(error, match=told) as caught, make():
            pass
        assert len(str(caught.value).splitlines()) == 1
    for error, told, sampler, known, more in [
        (TypeError, "it made 3", lambda score, **_: 3, None, {}),
        (ValueError, "step_size", functools.partial(lp.LanPaint, step_size=-1.0), None, {}),
        (ValueError, r"shape \(1, 4, 4, 4\) and the pipeline's latents \(1, 4, 8, 8\)", lp.LanPaint,
         _left_known((1, 4, 4, 4)), {}),
        (ValueError, "changed its latents between two evaluations", lp.LanPaint, observation,
         {"callback_on_step_end": lambda pipe, i, t, tensors: {"latents": tensors["latents"] + 1}}),
    ]:  # fmt: skip
        with pytest.raises(error, match=told) as caught, bridged(sd.pipe, sampler, known):
            _call(sd, **more)
        assert len(str(caught.value).splitlines()) == 1


def test_a_pipeline_that_leaves_out_times_is_told_by_the_argument_s_name_before_it_runs():
    made = tiny.sdxl()
    told = "StableDiffusionXLPipeline leaves out some of its times with denoising_end=0.4; .* leave denoising_end out"
    with Counted(made.pipe.unet) as counted, pytest.raises(ValueError, match=told), bridged(made.pipe, lp.LanPaint):
        _call(made, steps=5, denoising_end=0.4)
    assert counted.calls == 0


def test_a_pipeline_that_ends_early_without_a_word_is_told():
    class Short(PlainPipeline):
        def __call__(self, steps):
            self.scheduler.set_timesteps(steps)
            x = self.prepare_latents((6, 4))
            for time in list(self.scheduler.timesteps)[:5]:
                x = self.scheduler.step(self.network(x, time), time, x, return_dict=False)[0]
            return x

    pipe = Short(Gaussian(mean=MEAN, cov=COV), _scheduler("DDIM"))
    with pytest.raises(RuntimeError, match="Short ended after 5 of 18 evaluations"), bridged(pipe, lp.LanPaint):
        pipe(3)


def test_a_missing_greenlet_is_named_with_what_installs_it(sd, monkeypatch):
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(ImportError, match="pip install greenlet"), bridged(sd.pipe, lp.LanPaint):
        pass


@pytest.mark.parametrize("make", [tiny.ddpm, tiny.ldm])
def test_a_generator_determines_the_sample_of_a_pipeline_that_draws_in_its_call(make):
    """Such a pipeline hands its generator to nobody. The global generator has no part in the sample."""
    made = make()
    shape = (1, 1, 8, 8) if make is tiny.ddpm else (1, 3, 8, 8)
    pictures = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]), bridged(made.pipe, lp.LanPaint, _left_known(shape)):
            torch.manual_seed(seed)
            call = {"num_inference_steps": 2, "output_type": "np", **made.call}
            pictures.append(made.pipe(generator=_g(), **call)[0])
    assert np.array_equal(*pictures)
