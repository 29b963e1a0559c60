"""Inpainting as a schedule: known entries at time 0. The law on a Gaussian, the maps that a model gets, the command."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model, takes_time_maps
from lanpaint.cli import main
from lanpaint.methods import find_method
from lanpaint_toys import Gaussian, digits, recipes
from tests.samplers.affine import DOUBLE, law

TARGET = Gaussian(
    torch.tensor([0.2, -0.1, 0.3], dtype=DOUBLE),
    torch.tensor([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.9]], dtype=DOUBLE),
)
VALUES = torch.tensor([1.5, -0.7, 0.4], dtype=DOUBLE)
FIRST = torch.tensor([True, False, False])
EXACT = TARGET.conditional(VALUES, FIRST)


def _error(sampler):
    mean, cov = law(sampler, VALUES, FIRST)
    assert mean[0] == VALUES[0]
    assert float(cov[0].abs().max()) == 0
    cov = cov[~FIRST][:, ~FIRST]
    return max(float((mean[~FIRST] - EXACT.mean).abs().max()), float((cov - EXACT.full_cov[0]).abs().max()))


def test_it_is_the_plan_of_the_inpainting_path():
    steps, flow = 6, lp.Flow()
    levels = [flow.level(1 - n / steps) for n in range(steps + 1)]
    observation = lp.Observation(VALUES.expand(4, 3), FIRST)
    path = lp.TimePath.inpainting(FIRST).plan(flow, steps)
    got, expected = (
        sampler(observation, generator=torch.Generator().manual_seed(0))
        for sampler in (lp.AsyncPaint(TARGET, levels=levels), lp.Replace(TARGET, plan=path))
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_without_inner_steps_the_error_falls_with_the_steps():
    few, many = (_error(lp.AsyncPaint(TARGET, steps=steps, schedule=lp.Flow())) for steps in (20, 80))
    assert many < few / 2.5
    assert many < 0.05


def test_inner_steps_bring_a_level_to_the_conditional_law_of_its_noisy_states():
    """From N(0, 1/2) at the level (1/2, 1/2), one outer step gives x̂₀, whose law is known if x_t has its own."""
    levels = [lp.Flow().level(0.5), lp.Flow().level(0.0)]
    unknown, cov = ~FIRST, EXACT.full_cov[0]
    expected = cov / 2 @ torch.linalg.inv(cov / 4 + torch.eye(2) / 4) @ cov / 2
    errors = []
    for steps in (0, 50):
        sampler = lp.AsyncPaint(TARGET, levels=levels, inner_steps=steps, step_size=0.4, dynamics=lp.FastLangevin(4.0))
        mean, got = law(sampler, VALUES, FIRST)
        errors.append(
            (float((mean[unknown] - EXACT.mean).abs().max()), float((got[unknown][:, unknown] - expected).norm()))
        )
    assert errors[0][0] > 0.2
    assert errors[1][0] < 0.01
    assert errors[1][1] < 0.05 * float(expected.norm())


@pytest.mark.parametrize("inner_steps", [0, 2])
def test_the_plan_says_its_evaluations(inner_steps):
    score = lp.CountedScore(TARGET)
    sampler = lp.AsyncPaint(score, steps=5, inner_steps=inner_steps)
    sampler(lp.Observation(VALUES.expand(2, 3), FIRST))
    assert score.evaluations == sampler.plan.evaluations == 5 * (1 + inner_steps)


class _Recorder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.times = []

    def forward(self, x, time):
        self.times.append(time)
        return 0.5 * x


def test_a_network_sees_known_pixels_at_time_0_and_all_others_at_the_time_of_the_step():
    network, known = _Recorder(), torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    known[0, :, 1:, :2], known[1, :, :, 3] = True, True
    score = lp.NetworkScore(network, "flow", lp.Flow(), time_maps=True)
    observation = lp.Observation(torch.randn(2, 3, 4, 4), known)
    out = lp.AsyncPaint(score, steps=3)(observation, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out[known], observation.values[known])
    times = lp.Flow().times(3).float()
    for time, made in zip(times, network.times, strict=True):
        torch.testing.assert_close(made, torch.where(known[:, :1], 0.0, time))
    known[0, 0] = True  # one channel more
    with pytest.raises(ValueError, match="one time for all channels"):
        lp.AsyncPaint(score, steps=3)(lp.Observation(torch.randn(2, 3, 4, 4), known))
    one_time = lp.NetworkScore(network, "flow", lp.Flow())
    with pytest.raises(ValueError, match="needs a network with a time for each pixel"):
        lp.AsyncPaint(lp.CountedScore(one_time), steps=3)
    path = lp.TimePath.inpainting(known[:1, :1]).plan(lp.Flow(), 3)
    with pytest.raises(ValueError, match="give a plan of one level each"):
        lp.AsyncPaint(score, plan=path)


def test_soft_entries_wait_at_the_level_of_their_release():
    change = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    observation = lp.Observation.soft(VALUES.expand(500, 3), change)
    states = list(lp.AsyncPaint(TARGET, steps=8).iterate(observation, generator=torch.Generator().manual_seed(0)))
    waiting = [state.x[:, 1] for state in states if state.kind == "start" and state.step < 4]
    assert all(torch.equal(x, waiting[0]) for x in waiting)
    assert torch.equal(states[-1].x[:, 0], observation.values[:, 0])
    assert float((states[-1].x[:, 1] - waiting[0]).abs().mean()) > 0.01


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lanpaint", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recipe = recipes.RECIPES["digits-async"]
    path = tmp_path_factory.mktemp("model")
    recipe.save(recipe.make_module(recipe.defaults), path)
    return path


def test_the_command_uses_the_schedule_by_itself_for_a_model_with_time_maps(folder, tmp_path, capsys, monkeypatch):
    assert takes_time_maps(folder)
    assert not takes_time_maps(digits.FOLDER)
    assert not takes_time_maps("no/such/folder")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    call = ["inpaint", tmp_path / "picture.png", tmp_path / "mask.png", "-o", tmp_path / "out.png", "--steps", 3]
    for more, evaluations in (([], 3), (["--inner-steps", 2], 9), (["--method", "lanpaint"], 18)):
        assert _run(monkeypatch, *call, "--model", folder, "--quiet", *more) == 0
        assert f"50.0% repainted, {evaluations} NFE" in capsys.readouterr().out
        made = np.array(Image.open(tmp_path / "out.png"))
        assert np.array_equal(made[:, :4], pixels[:, :4])
    assert _run(monkeypatch, *call, "--model", digits.FOLDER, "--method", "async", "--quiet") == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("lanpaint: AsyncPaint needs a network with a time for each pixel")
    assert "\n" not in told


def test_it_is_found_by_name_with_its_options():
    method = find_method("async")
    assert {"inner_steps", "step_size"} <= set(method.options())
    assert isinstance(method.sampler(TARGET, steps=4, inner_steps=2), lp.AsyncPaint)


def test_a_random_network_runs_as_a_score_of_pictures(folder):
    model = load_pixel_model(folder)
    assert lp.AsyncPaint(model, steps=2)((2, 1, 8, 8)).shape == (2, 1, 8, 8)
