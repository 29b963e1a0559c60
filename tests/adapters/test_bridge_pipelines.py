"""What users do in a call of a pipeline: windows and callbacks, threads and interrupts, sound, callers' own methods.

The pipelines are diffusers' own classes, built small. What is counted is counted by hooks on their networks.
"""

import contextlib
import copy
import functools
import gc
import itertools
import threading
import warnings
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback

import lanpaint as lp
from lanpaint.adapters.bridge import bridged
from lanpaint.samplers import DDRM
from lanpaint_toys import Gaussian
from tests.adapters import tiny
from tests.adapters.both_ways import score_of
from tests.adapters.test_bridge import COV, MEAN, PlainPipeline, _scheduler, _start

STEPS = 5


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


@functools.cache
def _family(name):
    return tiny.FAMILIES[name]()


@functools.cache
def _ltx2():
    return tiny.ltx2()


def _output(made, **more):
    call = {"num_inference_steps": STEPS, "output_type": "latent", "generator": _g(), **made.call}
    if made.extra:
        call["image"] = made.extra["control_image"]
    return made.pipe(**{**call, **more})


def _call(made, **more):
    return _output(made, **more)[0]


def _half(latents):
    """An observation of one half of latents of any layout."""
    known = torch.zeros(latents.shape, dtype=torch.bool)
    known[..., : latents.shape[-1] // 2] = True
    return lp.Observation(torch.randn(latents.shape, generator=_g(5)), known)


def _paint(inner_steps, **options):
    return functools.partial(lp.LanPaint, inner_steps=inner_steps, **options)


class Watched:
    """What a network is called with: one entry for each call, while it lasts."""

    def __init__(self, network, watch=lambda args, kwargs: True):
        self.network, self.watch, self.seen = network, watch, []

    def __enter__(self):
        self.hook = self.network.register_forward_pre_hook(
            lambda network, args, kwargs: self.seen.append(self.watch(args, kwargs)), with_kwargs=True
        )
        return self

    def __exit__(self, *_):
        self.hook.remove()


class Keep(lp.Callback):
    """Keeps the last state."""

    def on_level_end(self, sampler, state):
        self.x, self.observation = state.x, state.observation


# A share of the run stays a share


@pytest.mark.parametrize(("factor", "inner_steps"), [(1.0, 4), (0.5, 1), (0.5, 3)])
def test_an_adapter_acts_in_its_share_of_the_evaluations(factor, inner_steps):
    made = tiny.sdxl_adapter()

    def adapted(args, kwargs):
        return kwargs["down_intrablock_additional_residuals"] is not None

    with bridged(made.pipe, _paint(inner_steps), _half), Watched(made.pipe.unet, adapted) as watched:
        _call(made, num_inference_steps=4, adapter_conditioning_factor=factor)
    evaluations = 4 * (inner_steps + 1)
    assert watched.seen == [number < factor * evaluations for number in range(evaluations)]


def _guided_by_layers(made, **more):
    """Which of the evaluations had skip-layer guidance."""
    with Watched(made.pipe.transformer, lambda args, kwargs: kwargs.get("skip_layers") is not None) as watched:
        window = {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 0.6}
        _call(made, skip_guidance_layers=[0], **window, **more)
    return [number for number, skips in enumerate([*watched.seen[1:], False]) if skips and not watched.seen[number]]


def test_skip_layer_guidance_acts_in_its_share_of_the_evaluations():
    made = tiny.sd3(layers=2)
    untouched = _guided_by_layers(made)
    assert len(untouched) == 2  # steps 1 and 2: both ends are left out
    with bridged(made.pipe, _paint(0)):
        assert _guided_by_layers(made) == untouched
    with bridged(made.pipe, _paint(3), _half) as bridge:
        assert len(_guided_by_layers(made)) == 0.6 * bridge.planned - 1
    assert bridge.planned == 4 * STEPS


def test_a_controlnet_acts_in_its_share_of_the_evaluations():
    made = _family("Stable Diffusion + ControlNet")

    def residual(args, kwargs):
        return float(kwargs["down_block_additional_residuals"][0].abs().max()) > 0

    for inner_steps in (0, 3):
        with bridged(made.pipe, _paint(inner_steps), _half), Watched(made.pipe.unet, residual) as watched:
            _call(made, control_guidance_start=0.2, control_guidance_end=0.6)
        each = inner_steps + 1
        assert watched.seen == [each <= number < 3 * each for number in range(STEPS * each)]


# Step callbacks


@pytest.mark.parametrize("name", ["Stable Diffusion", "SDXL", "Flux", "Wan"])
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_callbacks_are_called_once_per_outer_step_and_see_the_number_of_outer_steps(name, inner_steps):
    made, seen = _family(name), []

    def callback(pipe, step, time, tensors):
        seen.append((step, pipe.num_timesteps))
        return {}

    with bridged(made.pipe, _paint(inner_steps), _half) as bridge:
        _call(made, callback_on_step_end=callback)
        assert made.pipe.num_timesteps == bridge.planned
    assert seen == [(step, STEPS) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("name", "callback"), [("Stable Diffusion", SDCFGCutoffCallback), ("SDXL", SDXLCFGCutoffCallback)]
)
@pytest.mark.parametrize("inner_steps", [0, 1, 5])
def test_guidance_is_cut_off_after_the_pipeline_s_own_share(name, callback, inner_steps):
    made = _family(name)
    cutoff = {"callback_on_step_end": callback(cutoff_step_ratio=0.4)}

    def is_guided(args, kwargs):
        return len(args[0]) == 2

    with Watched(made.pipe.unet, is_guided) as untouched:
        _call(made, **cutoff)
    assert sum(untouched.seen) == 3
    with bridged(made.pipe, _paint(inner_steps), _half), Watched(made.pipe.unet, is_guided) as inside:
        _call(made, **cutoff)
    assert inside.seen == [guided for guided in untouched.seen for _ in range(inner_steps + 1)]
    with Watched(made.pipe.unet, is_guided) as painting:
        _inpaint(made, inner_steps=inner_steps, **cutoff)
    assert painting.seen == inside.seen


def test_prompts_that_a_callback_changes_are_the_prompts_of_the_next_evaluation():
    made = _family("Stable Diffusion")

    def callback(pipe, step, time, tensors):
        return {"prompt_embeds": torch.full_like(tensors["prompt_embeds"], float(step))}

    more = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with (
        bridged(made.pipe, _paint(1), _half),
        Watched(made.pipe.unet, lambda args, kwargs: float(kwargs["encoder_hidden_states"].mean())) as watched,
    ):
        _call(made, **more)
    assert watched.seen[2:] == [step for step in range(STEPS - 1) for _ in range(2)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_a_callback_reaches_the_caller_and_leaves_the_pipeline_as_it_was(error):
    made = _family("Stable Diffusion")
    before = _held(made.pipe)

    def callback(pipe, step, time, tensors):
        raise error("mine")

    with pytest.raises(error, match="mine"):
        _inpaint(made, callback_on_step_end=callback)
    _assert_restored(made.pipe, before)


# The sampler's first request


class Elsewhere(lp.Sampler):
    """Evaluates at the state with noise added, before it does at the state itself."""

    def __init__(self, score, **options):
        super().__init__(score, **options)
        self.plan = replace(self.plan, outer_evaluations=[2] * self.steps)

    def elsewhere(self, state, visit, noise):
        return state.x + 0.3 * float(visit.level.sigma) * noise(state.x), visit.level

    def advance(self, state, visit, noise):
        there = self.score.predict(*self.elsewhere(state, visit, noise))
        here = self.score.predict(state.x, visit.level)
        clean, noisy = (there.denoised + here.denoised) / 2, (there.epsilon + here.epsilon) / 2
        return replace(state, x=visit.next_level.perturb(clean, noisy), level=visit.next_level, prediction=here)


class Between(Elsewhere):
    """Evaluates at a level between two, before it does at its own."""

    def elsewhere(self, state, visit, noise):
        here, there = visit.level, visit.next_level
        middle = lp.NoiseLevel((3 * here.alpha + there.alpha) / 4, (3 * here.sigma + there.sigma) / 4)
        size = (middle.alpha**2 + middle.sigma**2) / (here.alpha**2 + here.sigma**2)
        return state.x * float(size) ** 0.5, middle


@pytest.mark.parametrize("name", ["Stable Diffusion", "DDPM", "LDM"])
@pytest.mark.parametrize("method", [Elsewhere, Between])
def test_a_method_that_does_not_begin_at_its_start_gives_what_it_gives_on_the_network(name, method):
    made, inside, directly, starts = _family(name), Keep(), Keep(), []

    def known(latents):
        starts.append(latents.clone())
        return _half(latents)

    with bridged(made.pipe, functools.partial(method, callbacks=[inside]), known, generator=_g(1)) as bridge:
        _call(made, output_type="np")
    assert bridge.evaluations == bridge.planned == 2 * STEPS + (name != "Stable Diffusion")
    solver = lp.DiffusersSolver(made.pipe.scheduler)
    sampler = method(score_of(made), steps=STEPS, solver=solver, callbacks=[directly])
    sampler(_half(starts[0]), start=starts[0], generator=_g(1))
    assert (inside.x - directly.x).abs().max() < 2e-5 * directly.x.abs().max()


@pytest.mark.parametrize("name", ["DDIM", "Euler", "Flow Euler"])
@pytest.mark.parametrize("method", [Elsewhere, Between])
def test_a_method_that_does_not_begin_at_its_start_is_exact_on_a_gaussian(name, method):
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    pipe, start = PlainPipeline(target, scheduler), _start(scheduler, 8)
    with bridged(pipe, method, observation, generator=_g(1)):
        got = pipe((6, 4), 8, _g(0))
    direct = method(target, steps=8, solver=lp.DiffusersSolver(scheduler))
    expected = direct(observation, start=start, generator=_g(1))
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()


# Threads and nested calls


PHOTO = torch.randint(0, 256, (3, 16, 16), generator=_g(), dtype=torch.uint8)
RIGHT = torch.zeros(16, 16, dtype=torch.bool)
RIGHT[:, 8:] = True


def _inpaint(made, seed=0, **more):
    call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
    given = {"steps": STEPS, "inner_steps": 1, "output_type": "np", "generator": _g(seed), **call, **more}
    return lp.Inpainter(made.pipe)(PHOTO, RIGHT, **given)[0]


def _held(pipe):
    """What a pipeline is and holds, but for names that begin with a line, which its calls leave."""
    return type(pipe), {name: id(value) for name, value in vars(pipe).items() if not name.startswith("_")}


def _assert_restored(pipe, before):
    assert _held(pipe) == before
    assert "_lanpaint_bridge" not in vars(pipe)


def _in_threads(*functions):
    """What each gives in a thread of its own, or the error that it raises."""
    results = [None] * len(functions)

    def run(place):
        try:
            results[place] = functions[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_threads_that_share_a_pipeline_paint_what_they_paint_alone():
    made = tiny.sd()
    before = _held(made.pipe)
    alone = [_inpaint(made, seed) for seed in range(3)]
    together = _in_threads(*(functools.partial(_inpaint, made, seed) for seed in range(3)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    _assert_restored(made.pipe, before)


def test_a_thread_paints_after_another_has_failed():
    made = tiny.sd()
    before = _held(made.pipe)

    def fail(*_):
        raise ZeroDivisionError("mine")

    failed = _in_threads(functools.partial(_inpaint, made, callback_on_step_end=fail))[0]
    assert isinstance(failed, ZeroDivisionError)
    _assert_restored(made.pipe, before)
    assert np.array_equal(_in_threads(functools.partial(_inpaint, made))[0], _inpaint(made))


@pytest.mark.parametrize(
    ("nested", "told"),
    [
        (lambda made: _inpaint(made), "StableDiffusionPipeline paints already, and is asked to paint within that"),
        (lambda made: _call(made), "StableDiffusionPipeline is called within a call of its own"),
        (lambda made: _raise(_in_threads(lambda: _call(made))[0]), "StableDiffusionPipeline paints in another thread"),
    ],
    ids=["an Inpainter", "a call", "a call in another thread"],
)
def test_a_use_of_the_pipeline_within_a_run_is_told_in_one_line(nested, told):
    made = tiny.sd()
    before = _held(made.pipe)
    with pytest.raises(RuntimeError, match=told) as caught:
        _inpaint(made, callback_on_step_end=lambda *_: nested(made))
    assert len(str(caught.value).splitlines()) == 1
    _assert_restored(made.pipe, before)


def _raise(error):
    raise error


def test_another_pipeline_of_the_same_parts_may_be_made_and_called_within_a_run():
    """As the errors of the others advise: it holds the scheduler, not what stands in for it."""
    made, expected, others = tiny.sd(), _call(tiny.sd()), []

    def callback(pipe, step, time, tensors):
        other = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        others.append((other, _call(replace(made, pipe=other))))
        return {}

    alone = _inpaint(made)
    assert np.array_equal(_inpaint(made, callback_on_step_end=callback), alone)
    assert all(torch.equal(latents, expected) for _, latents in others)
    assert others[0][0].scheduler is made.pipe.scheduler


def test_an_exchanged_scheduler_within_a_block_is_told_in_one_line():
    made = tiny.sd()
    own = made.pipe.scheduler
    with bridged(made.pipe, _paint(1), _half):
        made.pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(made.pipe.scheduler.config)
        with pytest.raises(RuntimeError, match="was exchanged while") as caught:
            _call(made)
    assert len(str(caught.value).splitlines()) == 1
    assert made.pipe.scheduler is own


# Interrupts


@pytest.mark.parametrize("name", ["Stable Diffusion", "SD3", "Wan", "LTX"])
def test_an_interrupt_ends_the_run_with_the_model_s_best_guess(name):
    made, keep = _family(name), []

    def interrupt(pipe, step, time, tensors):
        if step == 2:
            pipe._interrupt = True
        return {}

    class Guess(lp.Callback):
        def on_level_end(self, sampler, state):
            keep.append((state.prediction.denoised, state.observation))

    told = f"{type(made.pipe).__name__} was interrupted after 9 of 15 evaluations"
    network = getattr(made.pipe, made.networks[0])
    with (
        bridged(made.pipe, _paint(2, callbacks=[Guess()]), _half) as bridge,
        Watched(network) as watched,
        pytest.warns(UserWarning, match=told),
    ):
        got = _call(made, callback_on_step_end=interrupt)
    assert bridge.evaluations == 9
    assert len(watched.seen) == 9 * made.calls_per_evaluation
    assert len(keep) == 3
    guess, observation = keep[-1]
    assert torch.equal(bridge._run.sample, observation.finish(guess))
    if name != "LTX":  # which lays out anew what it gives back
        known = observation.known.expand_as(got)
        assert torch.equal(got[known], observation.values[known])


# Copies of the scheduler


def test_the_sound_of_a_video_is_the_untouched_pipeline_s_bit_for_bit():
    made = _ltx2()
    expected = _output(made)
    for sampler in (lp.Replace, _paint(0)):
        with bridged(made.pipe, sampler):
            got = _output(made)
        assert torch.equal(got.frames, expected.frames)
        assert torch.equal(got.audio, expected.audio)


@pytest.mark.parametrize(
    ("sampler", "solver"),
    [(_paint(3), None), (_paint(3), lp.Euler()), (_paint(3), lp.Heun()), (lp.Replace, lp.Heun()), (DDRM, None)],
)
def test_sound_is_stepped_once_in_each_outer_step(sampler, solver):
    made = _ltx2()

    def sound(args, kwargs):
        return kwargs["audio_hidden_states"].clone()

    with bridged(made.pipe, sampler, _half, solver=solver) as bridge, Watched(made.pipe.transformer, sound) as watched:
        output = _output(made)
    assert torch.isfinite(output.audio).all()
    sounds = [each[:1] for each in watched.seen] + [output.audio.transpose(1, 2).flatten(2)]
    moved = [not torch.equal(one, other) for one, other in itertools.pairwise(sounds)]
    assert len(moved) == bridge.planned
    assert sum(moved) == STEPS
    if isinstance(sampler, functools.partial) and solver is None:
        assert moved == [number % 4 == 3 for number in range(4 * STEPS)]


class Travelling(lp.Replace):
    """Makes each pair of outer steps twice."""

    def __init__(self, score, **options):
        super().__init__(score, **options)
        self.plan = self.plan.with_time_travel(block=2, times=1)


def test_a_sampler_that_travels_back_is_told_where_sound_cannot():
    made = _ltx2()
    with pytest.raises(ValueError, match="cannot travel back in time") as caught, bridged(made.pipe, Travelling, _half):
        _output(made)
    assert len(str(caught.value).splitlines()) == 1


class WithSound(PlainPipeline):
    """Copies its scheduler before or after its times are set, as pipelines of video and sound do."""

    def __init__(self, target, scheduler, after):
        super().__init__(target, scheduler)
        self.after, self.sigmas = after, []

    def __call__(self, shape, steps, generator=None):
        other = copy.deepcopy(self.scheduler)
        other.set_timesteps(steps)
        self.scheduler.set_timesteps(steps)
        if self.after:
            other = copy.deepcopy(self.scheduler)
        x = self.prepare_latents(shape, generator)
        sound = torch.ones(shape)
        assert len(other.timesteps) == len(self.scheduler.timesteps)
        for number, time in enumerate(self.scheduler.timesteps):
            assert other.timesteps[number] == time
            if hasattr(other, "sigmas"):
                self.sigmas.append((float(other.sigmas[number]), float(self.scheduler.sigmas[number])))
            scaled = self.scheduler.scale_model_input(x, time) if hasattr(self.scheduler, "scale_model_input") else x
            x, sound = (
                scheduler.step(self.network(scaled, time), time, old, return_dict=False)[0]
                for scheduler, old in ((self.scheduler, x), (other, sound))
            )
        return x, sound


@pytest.mark.parametrize("name", ["DDIM", "Euler", "Heun", "Flow Euler", "Flow Heun"])
@pytest.mark.parametrize("after", [False, True])
def test_a_copy_of_the_scheduler_has_the_times_of_all_evaluations(name, after):
    pipe = WithSound(Gaussian(mean=MEAN, cov=COV), _scheduler(name), after)
    x, sound = pipe((6, 4), STEPS, _g())
    pipe.sigmas.clear()
    with bridged(pipe, _paint(0)):
        got, its_sound = pipe((6, 4), STEPS, _g())
    assert torch.equal(got, x)
    assert torch.equal(its_sound, sound)
    with bridged(pipe, _paint(2), _half) as bridge:
        pipe((6, 4), STEPS, _g())
    assert bridge.evaluations == bridge.planned
    assert all(one == other for one, other in pipe.sigmas)


# Lists of times that pipelines make beforehand


class Listed(PlainPipeline):
    """Takes all times from its scheduler before its loop."""

    def __call__(self, shape, steps, generator=None):
        self.scheduler.set_timesteps(steps)
        times = list(self.scheduler.timesteps)
        x = self.prepare_latents(shape, generator)
        for time in times:
            x = self.scheduler.step(self.network(x, time), time, x, return_dict=False)[0]
        return x


@pytest.mark.parametrize("name", ["DDIM", "Flow Euler"])
def test_times_that_were_listed_beforehand_are_those_of_the_evaluations(name):
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    stops = [lp.EarlyStop(threshold=0.5), lp.EarlyStop(threshold=0.5)]
    pipe = Listed(target, scheduler)
    with bridged(pipe, _paint(6, callbacks=stops[:1]), observation, generator=_g(1)) as bridge:
        got = pipe((6, 4), 8, _g(0))
    assert bridge.evaluations == bridge.planned == 7 * 8  # the rest is wasted
    direct = _paint(6, callbacks=stops[1:])(target, steps=8, solver=lp.DiffusersSolver(scheduler))
    expected = direct(observation, start=_start(scheduler, 8), generator=_g(1))
    assert sum(stops[0].inner_steps) == sum(stops[1].inner_steps) < 6 * 8
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()


class Copied(PlainPipeline):
    """Makes numbers of all times before its loop, which cannot follow the sampler any more."""

    def __call__(self, shape, steps, generator=None):
        self.scheduler.set_timesteps(steps)
        times = self.scheduler.timesteps.tolist()
        x = self.prepare_latents(shape, generator)
        for time in times:
            x = self.scheduler.step(self.network(x, time), time, x, return_dict=False)[0]
        return x


@pytest.mark.parametrize("name", ["DDIM", "Flow Euler"])
def test_times_that_were_copied_beforehand_give_the_sample_of_the_plan_or_are_told(name):
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    pipe, start = Copied(target, scheduler), _start(scheduler, 8)
    with bridged(pipe, _paint(2), observation, generator=_g(1)):
        got = pipe((6, 4), 8, _g(0))
    direct = _paint(2)(target, steps=8, solver=lp.DiffusersSolver(scheduler))
    expected = direct(observation, start=start, generator=_g(1))
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()
    for sampler in (_paint(4, callbacks=[Twice()]), Between):
        told = "Copied .*s at time"
        with pytest.raises(ValueError, match=told) as caught, bridged(pipe, sampler, observation):
            pipe((6, 4), 8, _g(0))
        assert len(str(caught.value).splitlines()) == 1


class Twice(lp.Callback):
    """Ends each level after two inner steps."""

    def on_inner_end(self, sampler, state):
        return lp.Stop.LEVEL if state.inner == 2 else None


@pytest.mark.parametrize("name", ["Z-Image", "Wan", "CogVideoX", "Wan, two transformers"])
def test_levels_that_end_early_give_the_sample_of_as_many_inner_steps(name):
    made, keep = _family(name), Keep()
    with bridged(made.pipe, _paint(2), _half, generator=_g(1)) as bridge:
        expected = _call(made)
    planned = bridge.planned
    with bridged(made.pipe, _paint(4, callbacks=[Twice(), keep]), _half, generator=_g(1)) as bridge:
        got = _call(made)
    assert torch.equal(got, expected)
    assert bridge.evaluations == planned < bridge.planned


def test_a_scheduler_with_arguments_of_its_own_is_refused_in_one_line():

    class Peculiar(diffusers.DDIMScheduler):
        def step(self, model_output, timestep, weather, sample, **options):
            return super().step(model_output, timestep, sample, **options)

    made = tiny.cogvideox()
    made.pipe.scheduler = Peculiar.from_config(made.pipe.scheduler.config)
    told = "Peculiar is not supported: its step takes model_output, timestep, weather"
    with pytest.raises(ValueError, match=told) as caught, bridged(made.pipe, _paint(1), _half):
        pytest.fail("the pipeline was to be refused before it is called")
    assert len(str(caught.value).splitlines()) == 1


# What is left after a run


def _left_for_the_collector(function):
    """Names of the types of lanpaint, tensors and greenlets that only the garbage collector frees after a call."""
    function()
    gc.collect()
    gc.disable()
    try:
        function()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(left) for left in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    tensors = [name for kind, name in zip(kinds, names, strict=True) if issubclass(kind, torch.Tensor)]
    return tensors + [name for name in names if name.startswith(("lanpaint.", "greenlet."))]


def test_the_search_for_what_is_left_finds_a_cycle_that_holds_a_tensor():
    def leak():
        cycle = {"tensor": torch.zeros(1), "keep": Keep()}
        cycle["self"] = cycle

    assert "torch.Tensor" in _left_for_the_collector(leak)


def _run_bridged(made, **options):
    solver = options.pop("solver", None)
    with bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=2, **options), _half, solver=solver):
        _output(made, num_inference_steps=3)


def _run_interrupted(made):
    def interrupt(pipe, step, time, tensors):
        pipe._interrupt = True
        return {}

    with warnings.catch_warnings(), bridged(made.pipe, _paint(2), _half):
        warnings.simplefilter("ignore")
        _output(made, num_inference_steps=3, callback_on_step_end=interrupt)


def _run_with_an_error(made):
    def fail(*_):
        raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        _inpaint(made, callback_on_step_end=fail)


def _run_with_a_bar(made):
    made.pipe.set_progress_bar_config(disable=False)
    try:
        _run_bridged(made)
    finally:
        made.pipe.set_progress_bar_config(disable=True)


LEAVING = {
    "the paper's preset": lambda: _run_bridged(_family("Stable Diffusion")),
    "the fast preset": lambda: _run_bridged(_family("Stable Diffusion"), preset="fast"),
    "an Inpainter": lambda: _inpaint(_family("Stable Diffusion")),
    "an Inpainter, fast": lambda: _inpaint(_family("Stable Diffusion"), preset="fast"),
    "known guidance": lambda: _inpaint(_family("Stable Diffusion"), known_guidance_scale=0.0),
    "a pipeline that shows its latents late": lambda: _run_bridged(_family("DDPM")),
    "a solver": lambda: _run_bridged(_family("Flux"), solver=lp.Heun()),
    "a level that ends early": lambda: _run_bridged(_family("Wan"), callbacks=[Twice()]),
    "sound": lambda: _run_bridged(_ltx2()),
    "a progress bar": lambda: _run_with_a_bar(_family("Stable Diffusion")),
    "an interrupt": lambda: _run_interrupted(_family("Stable Diffusion")),
    "an error": lambda: _run_with_an_error(_family("Stable Diffusion")),
}


@pytest.mark.parametrize("run", LEAVING)
def test_nothing_of_a_run_is_left_for_the_garbage_collector(run, capsys):
    assert _left_for_the_collector(LEAVING[run]) == []


# Arguments by which times are left out


@pytest.mark.parametrize(
    ("family", "kind", "more", "name"),
    [
        ("SDXL", None, {"denoising_end": 0.8}, "denoising_end=0.8"),
        ("SDXL", "StableDiffusionXLImg2ImgPipeline", {"denoising_start": 0.8, "strength": 1.0}, "denoising_start=0.8"),
        ("SDXL", "StableDiffusionXLImg2ImgPipeline", {}, "strength=0.3"),
        ("Stable Diffusion", "StableDiffusionImg2ImgPipeline", {}, "strength=0.8"),
        ("Stable Diffusion", "StableDiffusionImg2ImgPipeline", {"strength": 0.5}, "strength=0.5"),
        ("Flux", "FluxImg2ImgPipeline", {}, "strength=0.6"),
    ],
)
def test_arguments_that_leave_out_times_are_told_by_name_before_the_first_evaluation(family, kind, more, name):
    made = _other_kind(_family(family), kind)
    with (
        pytest.raises(ValueError, match=f"leaves out some of its times with {name}") as caught,
        bridged(made.pipe, _paint(1)),
        Watched(getattr(made.pipe, made.networks[0])) as watched,
    ):
        _call(made, **more)
    assert len(str(caught.value).splitlines()) == 1
    assert not watched.seen


def _other_kind(made, kind):
    if kind is None:
        return made
    extra = {"requires_safety_checker": False} if kind == "StableDiffusionImg2ImgPipeline" else {}
    pipe = getattr(diffusers, kind)(**made.pipe.components, **extra)
    call = {**made.call, "image": torch.rand(1, 3, *made.size, generator=_g(3))}
    if kind != "FluxImg2ImgPipeline":
        call = {name: value for name, value in call.items() if name not in ("height", "width")}
    return tiny.Tiny(pipe, call, made.size, made.networks)


@pytest.mark.parametrize(
    ("family", "kind", "more"),
    [
        ("SDXL", None, {"denoising_end": 1.0}),
        ("SDXL", "StableDiffusionXLImg2ImgPipeline", {"strength": 1.0}),
        ("Stable Diffusion", "StableDiffusionImg2ImgPipeline", {"strength": 1.0}),
        ("Flux", "FluxImg2ImgPipeline", {"strength": 1.0}),
    ],
)
def test_arguments_that_leave_out_nothing_are_taken(family, kind, more):
    made = _other_kind(_family(family), kind)
    expected = _call(made, **more)
    with bridged(made.pipe, _paint(0)):
        assert torch.equal(_call(made, **more), expected)
    with bridged(made.pipe, _paint(2), _half) as bridge:
        got = _call(made, **more)
    assert bridge.evaluations == 3 * STEPS
    observation = _half(got)
    assert torch.equal(got[observation.known], observation.values[observation.known])


# Bit for bit


@pytest.mark.parametrize("name", sorted(set(tiny.FAMILIES) - {"DDPM", "LDM"}))  # those do not run in bfloat16
def test_in_bfloat16_the_output_is_the_pipeline_s_bit_for_bit(name):
    made = tiny.FAMILIES[name]()
    made.pipe.to(torch.bfloat16)

    def cast(value):
        if isinstance(value, list):
            return [cast(one) for one in value]
        return value.to(torch.bfloat16) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    made.call = {key: value if "mask" in key else cast(value) for key, value in made.call.items()}
    expected = _call(made, num_inference_steps=3)
    with bridged(made.pipe, _paint(0)):
        got = _call(made, num_inference_steps=3)
    assert torch.equal(got, expected)
    assert torch.isfinite(expected).all()


# A solver of one's own


@pytest.mark.parametrize("name", ["Stable Diffusion", "SDXL", "Flux", "Wan", "DDPM"])
@pytest.mark.parametrize("solver", [lp.DPMSolver(), lp.Heun()], ids=["DPM-Solver", "Heun"])
def test_a_solver_runs_in_a_pipeline_as_planned_and_what_is_known_is_exact(name, solver):
    made, keep = _family(name), Keep()
    paint = _paint(1, callbacks=[keep])
    network = getattr(made.pipe, made.networks[0])
    with bridged(made.pipe, paint, _half, solver=solver) as bridge, Watched(network) as watched:
        _output(made, output_type="np")
    assert bridge.sampler.solver is solver
    outer = sum(solver.evaluations(bridge.sampler.levels))
    assert (outer > STEPS) is isinstance(solver, lp.Heun)
    assert bridge.evaluations == bridge.planned == STEPS + outer + (name == "DDPM")
    assert len(watched.seen) == made.calls_per_evaluation * bridge.planned
    known = keep.observation.known.expand(keep.x.shape)
    assert torch.equal(keep.x[known], keep.observation.values[known])


def test_a_solver_runs_in_an_inpainter():
    made = _family("Stable Diffusion")
    call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
    inpaint = lp.Inpainter(made.pipe, solver=lp.DPMSolver(), inner_steps=2)
    image = inpaint(PHOTO, RIGHT, steps=STEPS, output_type="pt", generator=_g(), **call).images[0]
    assert torch.equal(image[..., :8], PHOTO[..., :8].float() / 255)
    assert inpaint.bridge.evaluations == inpaint.bridge.planned == 3 * STEPS


@pytest.mark.parametrize("name", ["DDIM", "Euler", "Flow Euler"])
@pytest.mark.parametrize("solver", [lp.DPMSolver(), lp.Heun(), lp.DDIM(eta=1.0)], ids=["DPM", "Heun", "DDIM"])
def test_a_solver_in_a_pipeline_is_exact_on_a_gaussian(name, solver):
    scheduler, target = _scheduler(name), Gaussian(mean=MEAN, cov=COV)
    observation = lp.Observation(torch.full((6, 4), 0.7), torch.tensor([True, False, False, False]))
    pipe, start = PlainPipeline(target, scheduler), _start(scheduler, 8)
    with bridged(pipe, _paint(2), observation, solver=solver, generator=_g(1)):
        got = pipe((6, 4), 8, _g(0))
    levels = lp.DiffusersSolver(scheduler).levels(8)
    expected = _paint(2)(target, levels=levels, solver=solver)(observation, start=start, generator=_g(1))
    assert (got - expected).abs().max() < 2e-4 * expected.abs().max()


# What else users do


@pytest.mark.parametrize(
    ("scheduler", "more"),
    [
        ("Euler", {"timesteps": [900, 600, 300, 100]}),
        ("Euler", {"sigmas": [14.0, 3.0, 1.0, 0.2, 0.0]}),
        ("DDPM", {"timesteps": [900, 600, 300, 100]}),
        (None, {"guidance_scale": 1.0}),
        (None, {"num_images_per_prompt": 3}),
        (None, {"num_images_per_prompt": 2, "generator": [_g(1), _g(2)]}),
        (None, {"eta": 1.0}),
        (None, {"guidance_rescale": 0.7}),
        (None, {"return_dict": False}),
    ],
)
def test_what_a_caller_gives_is_taken_as_the_pipeline_takes_it(scheduler, more):
    made = tiny.sd() if scheduler is None else tiny.sd(_scheduler(scheduler))

    def given():  # generators are used up
        return {name: [_g(1), _g(2)] if name == "generator" else value for name, value in more.items()}

    expected = _call(made, **given())
    with bridged(made.pipe, _paint(0)):
        assert torch.equal(_call(made, **given()), expected)
        assert torch.equal(_call(made, **given()), expected)
    with bridged(made.pipe, _paint(2), lambda latents: _half(latents[:1])) as bridge:
        got = _call(made, **given())
    observation = _half(got[:1])
    assert torch.equal(got[:, observation.known[0]], observation.values[0][observation.known[0]].expand(len(got), -1))
    assert bridge.planned == bridge.evaluations == 3 * (4 if scheduler else STEPS)


def test_without_a_generator_the_global_one_gives_the_pipeline_its_numbers():
    made = _family("Stable Diffusion")
    state = torch.get_rng_state()
    try:
        torch.manual_seed(3)
        expected = _call(made, generator=None)
        after = torch.get_rng_state()
        torch.manual_seed(3)
        with bridged(made.pipe, _paint(0)):
            assert torch.equal(_call(made, generator=None), expected)
        torch.manual_seed(3)
        with bridged(made.pipe, _paint(2), _half):
            first = _call(made, generator=None)
            assert torch.equal(torch.get_rng_state(), after)
            assert not torch.equal(_call(made, generator=None), first)
    finally:
        torch.set_rng_state(state)
