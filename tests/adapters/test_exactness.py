"""How exact the bridge is: levels between those of a list, what counts as one level, the state's dtype, the check."""

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.bridge import bridged
from lanpaint.adapters.bridge.times import Places
from lanpaint.adapters.schedulers import same_noise
from tests.adapters import tiny


def _euler():
    scheduler = diffusers.EulerDiscreteScheduler(**tiny.SD)
    scheduler.set_timesteps(10)
    return scheduler


def test_a_level_between_those_of_a_variance_exploding_list_keeps_its_noise_and_has_a_time_between():
    """σ/α stays, α is 1, and the time is where log σ of the trained levels, interpolated by numpy, has that value."""
    scheduler = _euler()
    bars = scheduler.alphas_cumprod.double().numpy()
    trained = 0.5 * np.log((1 - bars) / bars)
    for ratio in (0.3, 2.0, 7.0):
        level = lp.NoiseLevel(1 / np.hypot(1, ratio), ratio / np.hypot(1, ratio))
        place = Places(scheduler).of(level)
        assert place.index is None
        alpha, sigma = place.level.numbers
        assert alpha == 1
        assert sigma == pytest.approx(ratio, rel=1e-6)
        assert place.factor * level.numbers[0] == pytest.approx(1, rel=1e-6)
        assert place.time == pytest.approx(np.interp(np.log(ratio), trained, np.arange(len(bars))), abs=0.02)


@pytest.mark.parametrize("off", [0.03, 0.01, 1e-4])
def test_a_level_near_one_of_the_list_is_not_taken_for_it(off):
    scheduler = _euler()
    places = Places(scheduler)
    sigma = float(scheduler.sigmas[4])
    assert places.of(lp.NoiseLevel(1.0, sigma)).index == 4
    near = places.of(lp.NoiseLevel(1.0, sigma * (1 + off)))
    assert near.index is None
    assert near.level.numbers[1] == pytest.approx(sigma * (1 + off), rel=1e-6)


def test_levels_are_the_same_up_to_the_rounding_of_float32():
    level = lp.NoiseLevel(0.8, 0.6)
    for off, same in ((0.0, True), (2e-7, True), (5e-6, False), (1e-4, False)):
        assert same_noise(level, lp.NoiseLevel(0.8, 0.6 * (1 + off))) is same
        assert same_noise(level, lp.NoiseLevel(0.8 * (1 + off), 0.6)) is same
        several = [lp.NoiseLevel(torch.tensor([0.8, 0.8 * (1 + x)]), torch.tensor([0.6, 0.6])) for x in (0.0, off)]
        assert same_noise(*several) is (off < 1e-6)


class _Changed(diffusers.DDIMScheduler):
    """A scheduler whose last or first step moves the mean of its result, or whose first scales what differs from it."""

    shift, early, factor = 0.0, 0.0, 1.0

    def step(self, model_output, timestep, sample, **more):
        result = list(super().step(model_output, timestep, sample, **more))
        if timestep == self.timesteps[-1]:
            result[0] = result[0] + self.shift
        elif timestep == self.timesteps[0]:
            mean = result[0].mean()
            result[0] = mean + self.early + self.factor * (result[0] - mean)
        return tuple(result)


@pytest.mark.parametrize("changed", [{"shift": 0.1}, {"shift": -0.1}, {"early": 0.6}, {"factor": 0.4}, {"factor": 2.3}])
def test_a_scheduler_that_errs_by_a_little_fails_the_check_with_a_known_answer(changed):
    kind = type("Changed", (_Changed,), changed)
    with pytest.raises(ValueError, match="fails a check with a known answer"):
        lp.DiffusersSolver(kind(**tiny.SD, clip_sample=False)).levels(6)
    lp.DiffusersSolver(type("Unchanged", (_Changed,), {})(**tiny.SD, clip_sample=False)).levels(6)


def test_the_state_of_a_pipeline_in_16_bits_is_float32_from_step_to_step():
    """What an inner step has moved is no number of 16 bits, and the outer step does not make one of it."""
    made = tiny.sd()
    made.pipe.to(torch.bfloat16)
    known = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    states = []

    class Keep(lp.Callback):
        def on_level_end(self, sampler, state):
            states.append(state.x[~known])

    def sampler(score, **more):
        return lp.LanPaint(score, inner_steps=1, callbacks=[Keep()], **more)

    call = {
        n: v.bfloat16() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for n, v in made.call.items()
    }
    with bridged(made.pipe, sampler, lp.Observation(torch.zeros(1, 4, 8, 8), known)):
        made.pipe(num_inference_steps=3, output_type="latent", generator=torch.Generator().manual_seed(0), **call)
    assert len(states) == 3
    for x in states:
        assert x.dtype == torch.float32
        assert (x != x.bfloat16().float()).float().mean() > 0.9
