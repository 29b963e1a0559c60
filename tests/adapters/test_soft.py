"""Soft masks and strength in pipelines of diffusers."""

import itertools

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.scheduler_names import FLOW_SCHEDULERS, SCHEDULERS, named_scheduler
from lanpaint.demo import held_out_digits
from lanpaint_toys import Gaussian
from lanpaint_toys.digits import FOLDER
from tests.adapters import tiny


class Keep(lp.Callback):
    """Keeps the observation, the last state, and the steps that were made."""

    def on_run_start(self, sampler, state):
        self.observation, self.steps = state.observation, []

    def on_level_start(self, sampler, state):
        self.steps.append(state.step)

    def on_level_end(self, sampler, state):
        self.x = state.x


def _paint(made, mask, keep=None, **more):
    picture = torch.rand(made.channels, *made.size, generator=torch.Generator().manual_seed(0))
    picture = picture.transpose(0, 1) if len(made.size) == 3 else picture
    call = {name: value for name, value in made.call.items() if name not in ("height", "width", "num_frames")}
    inpaint = lp.Inpainter(made.pipe, inner_steps=1, callbacks=[keep] if keep else [])
    options = {"steps": 4, "generator": torch.Generator().manual_seed(0), "output_type": "np"}
    return picture, inpaint(picture, mask, **{**options, **call, **made.extra, **more})[0], inpaint.bridge


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_holds_greys_to_their_level_and_begins_where_the_first_is_released(family):
    made, keep, calls = tiny.FAMILIES[family](), Keep(), []
    mask = torch.zeros(made.size[-2:])
    width = mask.shape[1]
    mask[:, width // 4 :], mask[:, width // 2 :] = 0.5, 1.0
    for part in made.networks:
        getattr(made.pipe, part).register_forward_hook(lambda *_: calls.append(1))
    picture, painted, bridge = _paint(made, mask, keep, soft=True, strength=0.75)
    assert keep.steps == [1, 2, 3]
    assert len(calls) == made.calls_per_evaluation * bridge.planned == made.calls_per_evaluation * bridge.evaluations
    change = keep.observation.change.expand_as(keep.x)
    assert set(change.unique().tolist()) <= {0.0, 0.375, 0.75}
    known = change == 0
    assert known.any()
    assert torch.equal(keep.x[known], keep.observation.values[known])
    assert np.isfinite(painted).all()
    kept = torch.from_numpy(painted).movedim(-1, -3)[..., : width // 4]
    assert torch.equal(kept[0], picture[..., : width // 4])


DIFFUSION, FLOW = diffusers.DDIMScheduler(**tiny.SD), diffusers.FlowMatchEulerDiscreteScheduler()


@pytest.mark.parametrize(
    ("base", "name"), [*((DIFFUSION, name) for name in SCHEDULERS), *((FLOW, name) for name in FLOW_SCHEDULERS)]
)
def test_schedulers_begin_in_the_middle_with_the_state_of_the_level(base, name):
    """All data are one point, so the exact score keeps the state at the noise of its level, whatever the steps."""
    scheduler = named_scheduler(name, base)

    class Point(lp.Score):
        def predict(self, x, level):
            return lp.Prediction(x, level, denoised=torch.full_like(x, 0.7))

    sampler = lp.Sampler(Point(), solver=lp.DiffusersSolver(scheduler), steps=12)
    observation = lp.Observation.soft(torch.full((1, 1, 64, 64), 0.7), 0.5)
    states = [s for s in sampler.iterate(observation, generator=torch.Generator().manual_seed(0)) if s.kind == "outer"]
    assert len(states) == sampler.steps // 2
    for state in states[:-1]:
        alpha, sigma = state.level.numbers
        assert abs(float(state.x.std()) / sigma - 1) < 0.07
        assert abs(float(state.x.mean()) - 0.7 * alpha) < 0.07 * sigma + 1e-3


def test_in_pixels_the_mean_change_grows_with_the_grey_and_the_ends_are_exact():
    """A trained network: held-out digits with a grey for each two rows, in all orders of the greys."""
    truth, shades = (held_out_digits(48) + 1) / 2, torch.tensor([0.0, 0.2, 0.4, 1.0])
    orders = 2 * list(itertools.permutations(shades.tolist()))
    grey = torch.tensor(orders).repeat_interleave(2, 1)[:, :, None].expand(48, 8, 8)
    pipe = diffusers.DiffusionPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = named_scheduler("ddim", pipe.scheduler)
    for options in ({}, {"sampler": lp.Replace}, {"preset": "fast"}):
        inpaint = lp.Inpainter(pipe, **options)
        painted = inpaint(truth, grey, soft=True, steps=10, generator=lp.seeded(range(48)), output_type="np").images
        change = (torch.from_numpy(painted).movedim(-1, 1) - truth).abs()[:, 0]
        moved = torch.stack([change[grey == shade].mean() for shade in shades])
        assert moved[0] == 0
        assert (moved.diff() > 0.01).all(), (options, moved)


def test_the_crop_keeps_greys():
    made, keep = tiny.sd(), Keep()
    made.size = (64, 64)
    mask = torch.zeros(64, 64)
    mask[20:40, 20:40], mask[24:36, 24:36] = 0.5, 1.0
    picture, painted, _ = _paint(made, mask, keep, soft=True, crop=1.5)
    assert set(keep.observation.change.unique().tolist()) == {0.0, 0.5, 1.0}
    assert torch.equal(torch.from_numpy(painted[0]).movedim(-1, 0)[:, mask == 0], picture[:, mask == 0])


def test_edits_come_before_greys_are_read_and_may_leave_nothing():
    made = tiny.sd()
    dot = torch.zeros(16, 16)
    dot[8, 8] = 1
    picture, painted, _ = _paint(made, dot, grow=3)
    changed = (torch.from_numpy(painted[0]).movedim(-1, 0) != picture).any(0)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    assert torch.equal(changed, (rows - 8) ** 2 + (columns - 8) ** 2 <= 9)
    picture, painted, _ = _paint(made, 1 - dot, grow=3, invert=True)
    assert torch.equal((torch.from_numpy(painted[0]).movedim(-1, 0) != picture).any(0), changed)
    with pytest.raises(ValueError, match="nothing is left to paint after grow=-2"):
        _paint(made, dot, grow=-2)
    for strength in (0, 1.2, True, "0.5"):
        with pytest.raises(ValueError, match="strength must be a number above 0 and at most 1"):
            _paint(made, dot, strength=strength)


def test_another_weight_of_the_prompt_is_for_what_is_known_to_the_end():
    made = tiny.sd()
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    guidance = []
    for known_scale in (None, 7.5, 0.0):
        guidance.append(_paint(made, mask, strength=0.5, guidance_scale=7.5, known_guidance_scale=known_scale)[1])
    assert np.array_equal(guidance[0], guidance[1])
    assert not np.array_equal(guidance[0], guidance[2])
    everything = [
        _paint(made, torch.ones(16, 16), strength=0.5, known_guidance_scale=scale)[1] for scale in (None, 0.0)
    ]
    assert np.array_equal(*everything)  # nothing is known to the end


def test_a_pipeline_that_makes_sound_too_visits_the_levels_at_which_its_video_is_held():
    """Sound begins with noise, and each of its steps needs an evaluation. The video is released where it always is."""
    made, keep = tiny.ltx2(), Keep()
    mask = torch.ones(made.size[-2:])
    mask[:, : mask.shape[1] // 2] = 0
    _, latents, bridge = _paint(made, mask, keep, strength=0.5, output_type="latent")
    assert keep.steps == [0, 1, 2, 3]
    assert bridge.evaluations == bridge.planned == 8
    assert torch.isfinite(torch.as_tensor(latents)).all()
    change = keep.observation.change.expand_as(keep.x)
    assert torch.equal(keep.x[change == 0], keep.observation.values[change == 0])
    painted = keep.x[change == 0.5]
    again = Keep()
    _paint(made, mask, again, strength=1.0, output_type="latent")
    away = [(x - keep.observation.values[change == 0.5]).abs().mean() for x in (painted, again.x[change == 0.5])]
    assert away[0] < away[1]  # what was there is remembered


def test_held_levels_of_a_longer_run_change_nothing_after_the_release():
    """On a Gaussian: strength 0.5 from the first level and from the middle have the same law, to 5 standard errors."""
    target = Gaussian(mean=[0.0, 0.0], cov=[[1.0, 0.6], [0.6, 1.0]])
    paint = lp.Replace(target, steps=8)
    soft = lp.Observation.soft(torch.full((20_000, 2), 1.5), torch.tensor([0.0, 0.5]))
    short, long = (
        paint(observation, generator=torch.Generator().manual_seed(0))[:, 1]
        for observation in (soft, soft.from_first_level())
    )
    assert abs(float(short.mean() - long.mean())) < 5 * float(short.std()) * (2 / 20_000) ** 0.5
    assert abs(float(short.std() / long.std()) - 1) < 5 / 20_000**0.5
