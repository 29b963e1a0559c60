"""The textures of scikit-image as training data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.names import model_folder
from lanpaint_toys import recipes, textures

pytest.importorskip("skimage")


def test_held_out_columns_are_in_no_training_window():
    whole, train, test = (textures.load_textures(split) for split in ("all", "train", "test"))
    assert whole.shape == (3, 1, 256, 256)
    assert torch.equal(torch.cat([train, test], dim=-1), whole)
    assert float(whole.abs().max()) <= 1
    with pytest.raises(ValueError, match="'half'"):
        textures.load_textures("half")


def test_windows_on_a_grid_are_cut_where_they_say():
    windows = textures.grid_windows(textures.load_textures("train"))
    assert windows.shape == (3 * 4 * 3, 1, 64, 64)
    assert torch.equal(windows[12 + 4], textures.load_textures("train")[1, :, 64:128, 64:128])


def test_random_windows_are_parts_of_a_texture_or_mirrored():
    pictures = torch.arange(2 * 70 * 80.0).reshape(2, 1, 70, 80)
    torch.manual_seed(0)
    for window in textures.RandomWindows(pictures).draw(20):
        steps = window[0, 0, 1:] - window[0, 0, :-1]
        assert set(steps.tolist()) in ({1.0}, {-1.0})
        assert set((window[0, 1:, 0] - window[0, :-1, 0]).tolist()) == {80.0}


def test_the_recipe_trains_on_the_training_part_and_judges_by_both():
    recipe = recipes.RECIPES["textures"]
    data = recipe.make_data(recipe.defaults, None)
    assert data.training.textures.shape == (3, 1, 256, 192)
    training, held_out = recipe.sources(None)
    assert (len(training), len(held_out)) == (36, 12)
    with pytest.raises(recipes.UserError, match="validation"):
        recipe.make_data(replace(recipe.defaults, validation_images=2), None)


def test_the_network_takes_any_size_and_no_attention_looks_across_a_window():
    unet = recipes.RECIPES["textures"].make_unet().eval()
    assert not any("to_q" in name for name, _ in unet.named_parameters())
    with torch.no_grad():
        assert unet(torch.zeros(1, 1, 32, 72), torch.tensor(5)).sample.shape == (1, 1, 32, 72)


def test_the_shipped_weights_denoise_held_out_windows_better_than_any_linear_map_of_a_pixel():
    """At equal signal and noise, the best linear map of a pixel of variance v leaves v/(1 + v) of it per pixel."""
    weights = model_folder("textures")
    assert (Path(weights) / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size <= 4 * 10**6
    score, windows = load_pixel_model(weights), textures.grid_windows(textures.load_textures("test"))
    level = lp.NoiseLevel(torch.tensor(0.5**0.5), torch.tensor(0.5**0.5))
    with torch.no_grad():
        x = level.perturb(windows, torch.randn(windows.shape, generator=torch.Generator().manual_seed(0)))
        error = (score.predict(x, level).denoised - windows).square().mean()
    variance = windows.square().mean()
    assert float(error) < 0.75 * float(variance / (1 + variance))
