"""Folders in diffusers' layout: what is loaded, and what is refused."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.noise import NoiseLevel
from lanpaint.schedules import VP, Flow
from lanpaint_toys.digits import FOLDER


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "model")


def _edit(path, **changes):
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_the_embedded_model_is_a_score_with_its_own_schedule():
    model = load_pixel_model(FOLDER)
    assert isinstance(model.schedule, VP)
    assert (model.channels, model.sample_size, model.predicts) == (1, (8, 8), "epsilon")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    level = model.schedule.level(300.0)
    with torch.no_grad():
        expected = model.unet(x, torch.full((2,), 300.0)).sample
        assert torch.allclose(model.epsilon(x, level), expected, atol=1e-5)


def test_a_model_that_is_moved_to_another_dtype_runs_in_it():
    model = load_pixel_model(FOLDER)
    x, level = torch.zeros(1, 1, 8, 8), model.schedule.level(300.0)
    before = model.epsilon(x, level)
    assert model.dtype == torch.float32
    assert model.to(torch.float64).dtype == torch.float64
    assert model.epsilon(x, level).dtype == torch.float32
    torch.testing.assert_close(model.epsilon(x, level), before, rtol=0, atol=1e-5)
    assert sum(1 for _ in model.parameters()) == sum(1 for _ in model.unet.parameters())


@pytest.mark.parametrize(
    "scheduler",
    ["ScoreSdeVeScheduler", "FlowMatchLCMScheduler", "EDMEulerScheduler", "KarrasVeScheduler", None],
)
def test_models_that_are_neither_variance_preserving_nor_flows_are_refused_by_name(folder, scheduler):
    _edit(folder / "scheduler" / "scheduler_config.json", _class_name=scheduler)
    with pytest.raises(ValueError, match=f"its scheduler has the class {scheduler}; supported: DDPMScheduler"):
        load_pixel_model(folder)


def test_a_flow_is_told_its_time_in_thousandths_and_keeps_its_shift(folder):
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}))
    model = load_pixel_model(folder)
    assert isinstance(model.schedule, Flow)
    assert model.schedule.shift == 3.0
    assert model.predicts == "flow"
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.unet(x, torch.full((2,), 300.0)).sample
        assert torch.allclose(model.velocity(x, NoiseLevel(0.7, 0.3)), expected, atol=1e-5)
        scaled = NoiseLevel(0.7 / 0.3, 1.0)  # another formalism's coordinates
        assert torch.allclose(model.denoised(x / 0.3, scaled), x - 0.3 * expected, atol=1e-5)


def test_every_scheduler_that_is_accepted_has_the_schedule_of_ddpm(folder):
    expected = load_pixel_model(folder).schedule.alphas_cumprod
    for scheduler in ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler"):
        _edit(folder / "scheduler" / "scheduler_config.json", _class_name=scheduler)
        assert torch.equal(load_pixel_model(folder).schedule.alphas_cumprod, expected)


@pytest.mark.parametrize("key", ["conv_out.bias", "mid_block.resnets.0.conv1.weight", "conv_in.weight"])
def test_missing_weights_are_not_made_up(folder, key):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights[key]
    save_file(weights, path)
    with pytest.raises(ValueError, match="missing_keys.*" + re.escape(key)):
        load_pixel_model(folder)


@pytest.mark.parametrize(
    ("part", "changes", "told"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "its unet has the class UNet2DConditionModel"),
        ("unet/config.json", {"num_class_embeds": 10}, "class-conditional|missing_keys"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class-conditional|missing_keys"),
        ("unet/config.json", {"block_out_channels": [16, 32]}, "cannot load"),
        ("unet/config.json", {"block_out_channels": []}, "cannot load"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "foo"}, "cannot load"),
        ("scheduler/scheduler_config.json", {"prediction_type": "colour"}, "prediction_type 'colour' is not one of"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}, "has vae, so it is not an unconditional"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_one_line(folder, part, changes, told):
    _edit(folder / part, **changes)
    with pytest.raises(ValueError, match=told) as caught:
        load_pixel_model(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["3", "{", ""])
def test_a_broken_index_is_named(folder, text):
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model_index.json (is not|must be a JSON object)"):
        load_pixel_model(folder)
