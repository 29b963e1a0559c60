"""Training on pictures: resuming, exporting, judging; what the objectives aim at."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("lightning")

from lanpaint_toys import emoji, recipes, train, trained
from lanpaint_toys.evaluation import (
    nearest_distances,
    noisy_and_target,
    picture_grid,
    reconstruction_error,
    sample,
    spread_times,
)

TINY_UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}
TINY_AUTOENCODER = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 2,
    "layers_per_block": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 2,
}
NAMES = ("emoji-pixel", "emoji-flow", "emoji-async", "emoji-autoencoder", "emoji-latent")


@pytest.fixture
def tiny(monkeypatch):
    """Replace the recipes by ones that train in a second; return their settings by name."""
    changes = {
        "emoji-pixel": {"unet": {**TINY_UNET, "in_channels": 3, "out_channels": 3}, "size": 8},
        "emoji-flow": {"unet": {**TINY_UNET, "in_channels": 3, "out_channels": 3}, "size": 8},
        "emoji-async": {"unet": {**TINY_UNET, "in_channels": 3, "out_channels": 3}, "size": 8},
        "emoji-autoencoder": {"autoencoder": TINY_AUTOENCODER, "size": 16},
        "emoji-latent": {
            "unet": {**TINY_UNET, "in_channels": 2, "out_channels": 2},
            "autoencoder": TINY_AUTOENCODER,
            "size": 16,
        },
    }
    for name in NAMES:
        settings = replace(recipes.RECIPES[name].defaults, batch_size=2, dropout=0.0, validation_images=2)
        recipe = replace(recipes.RECIPES[name], defaults=settings, epoch_steps=5, **changes[name])
        monkeypatch.setitem(recipes.RECIPES, name, recipe)
    return {name: recipes.RECIPES[name].defaults for name in NAMES}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a folder of 60 emoji, of which some families are held out."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        pixels = torch.randint(256, (4, 4, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).resize((16, 16)).save(folder / f"emoji_u{0x1F400 + number:x}.png")
    return folder


def _weights(pipeline: Path) -> bytes:
    return (pipeline / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def _train(settings, out, pictures, **arguments):
    return train.train(settings, out, sources=train.Sources(data=pictures), **arguments)


# Dropout is on, and the runs below are left amid an epoch of 5 steps and on its end, where there is a validation.
def test_run_on_pictures_that_resumes_ends_with_the_weights_of_an_uninterrupted_run(tiny, pictures, tmp_path):
    settings = replace(tiny["emoji-pixel"], steps=12, dropout=0.1)
    whole = _weights(_train(settings, tmp_path / "whole", pictures, checkpoint_every=3))
    for stop_after in (4, 5, 10):
        pipeline = _train(settings, tmp_path / "resumed", pictures, checkpoint_every=3, stop_after=stop_after)
        assert not pipeline.exists()
    assert _weights(_train(settings, tmp_path / "resumed", pictures, checkpoint_every=3)) == whole
    assert sorted(file.name for file in (tmp_path / "whole" / "samples").iterdir())[0] == "samples-0000003.png"
    # Only the content of the data counts, so a copy of them elsewhere is as good; other data are refused.
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in pictures.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert _weights(_train(settings, tmp_path / "resumed", copy, checkpoint_every=3)) == whole
    next(copy.iterdir()).unlink()
    with pytest.raises(train.UserError, match="holds a run with data "):
        _train(settings, tmp_path / "resumed", copy)


def test_run_without_an_end_stops_when_its_time_is_up_and_goes_on_from_there(tiny, pictures, tmp_path):
    for expected_at_least in (1, 2):
        pipeline = _train(tiny["emoji-pixel"], tmp_path, pictures, max_minutes=1e-6)
        assert pipeline.is_dir()
        checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] >= expected_at_least
    rates = [group["lr"] for state in checkpoint["optimizer_states"] for group in state["param_groups"]]
    assert rates == [pytest.approx(2 / 200 * tiny["emoji-pixel"].learning_rate)]  # still climbing, by 1/200 a step


def test_export_gives_the_averaged_weights_of_a_run_under_way(tiny, pictures, tmp_path):
    _train(tiny["emoji-pixel"], tmp_path, pictures, checkpoint_every=3, stop_after=4)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    assert train.export("emoji-pixel", tmp_path, tmp_path / "shipped") == 3
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before
    averaged = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    unet = emoji.load_unet(tmp_path / "shipped")
    assert unet.dtype == torch.float32
    for name, value in unet.state_dict().items():
        assert torch.equal(value, averaged[f"unet.{name}"].half().float())


def test_pixel_pipeline_loads_in_diffusers_and_samples(tiny, pictures, tmp_path):
    from diffusers import DDIMPipeline, DiffusionPipeline
    from safetensors.torch import load_file

    folder = _train(replace(tiny["emoji-pixel"], steps=2), tmp_path, pictures)
    stored = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert isinstance(pipeline, DDIMPipeline)
    assert pipeline.scheduler.config["prediction_type"] == "v_prediction"
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 8, 8, 3)


def test_flow_begins_with_other_weights_and_samples_by_euler_in_diffusers(tiny, pictures, tmp_path):
    from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler

    _train(tiny["emoji-pixel"], tmp_path / "pixel", pictures, checkpoint_every=2, stop_after=2)
    sources = train.Sources(data=pictures, init=tmp_path / "pixel")
    settings = replace(tiny["emoji-flow"], learning_rate=1e-12)  # too little to move a weight
    folder = train.train(settings, tmp_path / "flow", sources=sources, max_minutes=1e-6)
    train.export("emoji-pixel", tmp_path / "pixel", tmp_path / "pixel" / "pipeline")
    old, new = (emoji.load_unet(place).state_dict() for place in (tmp_path / "pixel" / "pipeline", folder))
    assert all(torch.allclose(value, new[name], atol=1e-3) for name, value in old.items())
    assert json.loads((tmp_path / "flow" / "settings.json").read_text())["init"]
    # A run that goes on needs the first weights no more.
    _train(settings, tmp_path / "flow", pictures, max_minutes=1e-6)

    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 8, 8, 3)


def test_network_with_a_time_for_each_pixel_takes_the_weights_of_a_flow_and_resumes(tiny, pictures, tmp_path):
    from lanpaint.adapters.time_map import TimeMapUNet

    flow = _train(replace(tiny["emoji-flow"], steps=1), tmp_path / "flow", pictures)
    sources = train.Sources(data=pictures, init=flow)
    settings = replace(tiny["emoji-async"], learning_rate=1e-12)  # too little to move a weight
    folder = train.train(settings, tmp_path / "async", sources=sources, max_minutes=1e-6)
    old, new = (trained.load_trained(place).unet for place in (flow, folder))
    assert isinstance(new, TimeMapUNet)
    assert all(torch.allclose(value, new.state_dict()[name], atol=1e-3) for name, value in old.state_dict().items())
    settings = replace(tiny["emoji-async"], steps=6, weighting="elbo", times="path")
    whole = _weights(_train(settings, tmp_path / "whole", pictures, checkpoint_every=3))
    _train(settings, tmp_path / "resumed", pictures, checkpoint_every=3, stop_after=4)
    assert _weights(_train(settings, tmp_path / "resumed", pictures, checkpoint_every=3)) == whole
    with pytest.raises(train.UserError, match="times path, not mixed"):
        _train(replace(settings, times="mixed"), tmp_path / "whole", pictures)


def test_latent_pipeline_brings_its_autoencoder_and_loads_in_diffusers(tiny, pictures, tmp_path):
    from diffusers import DiffusionPipeline, LDMPipeline

    first = _train(tiny["emoji-autoencoder"], tmp_path / "autoencoder", pictures, max_minutes=1e-6)
    autoencoder = trained.load_autoencoder(first)
    assert autoencoder.config["scaling_factor"] > 0
    sources = train.Sources(data=pictures, autoencoder=tmp_path / "autoencoder")
    train.train(tiny["emoji-latent"], tmp_path / "latent", sources=sources, max_minutes=1e-6)
    folder = _train(tiny["emoji-latent"], tmp_path / "latent", pictures, max_minutes=1e-6)  # goes on without it
    model = trained.load_trained(folder)
    assert model.autoencoder is not None
    assert model.autoencoder.config["scaling_factor"] == pytest.approx(autoencoder.config["scaling_factor"])
    for name, value in autoencoder.state_dict().items():
        assert torch.equal(value, model.autoencoder.state_dict()[name])
    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert isinstance(pipeline, LDMPipeline)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 16, 16, 3)
    images = torch.zeros(2, 3, 16, 16)
    assert model.encode(images).shape == (2, 2, 8, 8)
    assert model.decode(model.encode(images)).shape == images.shape


def test_worth_of_weights_is_printed(tiny, pictures, tmp_path, capsys):
    folder = _train(replace(tiny["emoji-pixel"], steps=2), tmp_path, pictures)
    capsys.readouterr()
    train.main(["emoji-pixel", "--evaluate", str(folder), "--data", str(pictures)])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("train loss ")
    assert second.startswith("test  loss ")
    assert third.startswith("distance to the nearest training image: samples ")
    folder = _train(replace(tiny["emoji-autoencoder"], steps=2), tmp_path / "autoencoder", pictures)
    capsys.readouterr()
    train.main(["emoji-autoencoder", "--evaluate", str(folder), "--data", str(pictures)])
    assert capsys.readouterr().out.count(" loss ") == 2


def test_mistakes_are_told_in_one_line(tiny, pictures, tmp_path, capsys):
    _train(replace(tiny["emoji-pixel"], steps=2), tmp_path / "pixel", pictures)
    pixel, nowhere, run = str(tmp_path / "pixel"), str(tmp_path / "nowhere"), ["--out", str(tmp_path / "run")]
    data = ["--data", str(pictures)]
    capsys.readouterr()
    for arguments, told in (
        (["emoji-pixel", *run], "data are not part of the repository: give --data FOLDER_OR_ZIP"),
        (["emoji-pixel", *run, "--data", nowhere], "nowhere does not exist"),
        (["emoji-pixel", *run, *data, "--init", nowhere], "nowhere is not the folder of a trained model"),
        (["emoji-pixel", *run, *data, "--validation-images", "61"], "61 validation images, expected 0 or 2 to"),
        (["emoji-pixel", *run, *data, "--max-minutes", "0"], "'0', expected a number above 0"),
        (["emoji-pixel", *run, "--export"], "holds no checkpoint to export: train first"),
        (["emoji-flow", "--out", pixel, "--export"], "holds a run of emoji-pixel, not emoji-flow"),
        (["emoji-latent", *run, *data], "needs its autoencoder: train emoji-autoencoder"),
        (["emoji-latent", *run, *data, "--autoencoder", nowhere], "nowhere is not the folder of an autoencoder"),
        (["emoji-autoencoder", "--evaluate", nowhere, *data], "nowhere is not the folder of an autoencoder"),
    ):
        with pytest.raises(SystemExit) as left:
            train.main(arguments)
        error = capsys.readouterr().err
        assert (left.value.code, error.count("\n")) == (2, 1), error
        assert told in error


def test_losses_without_tensorboard_go_to_a_table_and_a_line_says_so(tiny, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    _train(replace(tiny["emoji-pixel"], steps=5), tmp_path, pictures)
    assert "pip install tensorboard" in capsys.readouterr().err
    table = (tmp_path / "log" / "version_0" / "metrics.csv").read_text()
    assert "train_loss" in table
    assert "validation_loss" in table


class _Answer:
    def __init__(self, value):
        self.sample = value


class _BestForGaussian(torch.nn.Module):
    """The minimiser of an objective when images are N(mean, variance): linear in x_t, known in closed form."""

    def __init__(self, scheduler, mean, variance):
        super().__init__()
        self.scheduler, self.mean, self.variance = scheduler, mean, variance
        self.config = {"sample_size": 4, "in_channels": 3}
        self.device = torch.device("cpu")

    def levels(self, t):
        t = torch.as_tensor(t).view(-1, 1, 1, 1)
        if type(self.scheduler).__name__.startswith("FlowMatch"):
            return 1 - t / 1000, t / 1000
        return self.scheduler.alphas_cumprod[t].sqrt(), (1 - self.scheduler.alphas_cumprod[t]).sqrt()

    def forward(self, x, t):
        alpha, sigma = self.levels(t)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        clean = self.mean + gain * (x - alpha * self.mean)
        if type(self.scheduler).__name__.startswith("FlowMatch"):
            # E[eps | x] from x = alpha x_0 + sigma eps; where sigma is 0 eps is independent of x
            noise = sigma * (x - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
            return _Answer(noise - clean)
        noise = sigma * (x - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        return _Answer(alpha * noise - sigma * clean)


@pytest.mark.parametrize("name", ["emoji-pixel", "emoji-flow"])
def test_minimiser_of_the_objective_on_a_gaussian_is_the_conditional_mean_of_the_velocity(name):
    scheduler = recipes.RECIPES[name].make_scheduler()
    generator = torch.Generator().manual_seed(0)
    mean, variance = 0.5, 0.3
    clean = mean + variance**0.5 * torch.randn(4000, 1, 4, 4, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    times = spread_times(len(clean), scheduler, generator)
    noisy, target = noisy_and_target(scheduler, clean, noise, times)
    best = _BestForGaussian(scheduler, mean, variance)
    residual = target - best(noisy, times).sample
    # The minimiser's residual is orthogonal to every function of (x_t, t): here 1, t, x_t and t x_t. A mean over 64,000
    # values of size 1 has a standard error of 0.004 at most.
    t = (times / 1000).view(-1, 1, 1, 1)
    for function in (torch.ones_like(noisy), t, noisy, t * noisy):
        assert (residual * function).mean().abs() < 0.016
    # So any other answer does worse, by the mean square of the difference.
    worse = (residual - 0.1 * noisy).square().mean() - residual.square().mean()
    assert worse == pytest.approx(0.01 * noisy.square().mean().item(), abs=0.003)


@pytest.mark.parametrize("name", ["emoji-pixel", "emoji-flow"])
def test_samples_of_the_minimiser_have_the_law_of_the_data(name):
    scheduler = recipes.RECIPES[name].make_scheduler()
    x = sample(_BestForGaussian(scheduler, 0.5, 0.3), scheduler, 400, steps=100)
    # 19,200 values: the mean's standard error is 0.004, the variance's 0.003; 100 steps of first order add 0.01.
    assert x.mean().item() == pytest.approx(0.5, abs=0.02)
    assert x.var().item() == pytest.approx(0.3, abs=0.025)


def test_flow_runs_straight_from_image_to_noise():
    scheduler = recipes.RECIPES["emoji-flow"].make_scheduler()
    clean, noise = torch.full((3, 1, 2, 2), 2.0), torch.full((3, 1, 2, 2), -1.0)
    noisy, target = noisy_and_target(scheduler, clean, noise, torch.tensor([0.0, 250.0, 1000.0]))
    torch.testing.assert_close(noisy[:, 0, 0, 0], torch.tensor([2.0, 1.25, -1.0]))
    assert (target == -3).all()


def test_unknown_target_is_told():
    from diffusers import DDPMScheduler

    with pytest.raises(ValueError, match="prediction_type is 'sample', expected 'epsilon' or 'v_prediction'"):
        noisy_and_target(
            DDPMScheduler(prediction_type="sample"), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.tensor([5])
        )


def test_nearest_distance_is_that_of_the_nearest_image():
    data = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    images = torch.stack([torch.full((3, 2, 2), 0.9), torch.full((3, 2, 2), -0.25), torch.zeros(3, 2, 2)])
    torch.testing.assert_close(nearest_distances(images, data), torch.tensor([0.1, 0.25, 0.0]))


def test_reconstruction_error_of_a_constant_offset_is_the_offset():
    def autoencoder(images):
        return _Answer(images + 0.25)

    error, standard_error = reconstruction_error(autoencoder, torch.zeros(20, 3, 4, 4))
    assert (error, standard_error) == (pytest.approx(0.25), pytest.approx(0, abs=1e-7))


def test_picture_grid_shows_the_images_in_reading_order():
    images = torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    grid = picture_grid(images, columns=2, gap=1, zoom=1)
    assert grid.size == (7, 7)
    assert [grid.getpixel(place)[0] for place in ((1, 1), (4, 1), (1, 4), (4, 4))] == [0, 128, 255, 200]


@pytest.mark.parametrize("name", [*NAMES, "digits"])
def test_network_of_a_recipe_fits_the_limit_on_shipped_weights(name):
    module = recipes.RECIPES[name].make_module(recipes.RECIPES[name].defaults)
    assert 2 * sum(parameter.numel() for parameter in module.parameters()) <= 16e6


def test_precision_is_bfloat16_only_where_the_device_has_it(monkeypatch):
    assert train.Hardware().trainer_arguments()["precision"] == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert train.Hardware(device="cuda", devices=4, strategy="ddp").trainer_arguments() == {
        "accelerator": "gpu",
        "devices": 4,
        "strategy": "ddp",
        "precision": "bf16-mixed",
    }
    assert train.Hardware(device="cuda", precision="32-true").trainer_arguments()["precision"] == "32-true"


@pytest.mark.parametrize("folder", [emoji.PIXEL], ids=lambda folder: folder.name)
def test_shipped_weights_are_small_halves_and_load(folder):
    from diffusers import DiffusionPipeline
    from safetensors import safe_open

    files = list(folder.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 16e6
    for file in files:
        with safe_open(file, "pt") as stored:
            assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118
    assert (folder / "README.md").is_file()
    pipeline = DiffusionPipeline.from_pretrained(folder)
    recipe = recipes.RECIPES[folder.name]
    scheduler = recipe.make_scheduler()
    assert {name: pipeline.scheduler.config[name] for name in recipe.scheduler[1]} == recipe.scheduler[1]
    assert type(pipeline.scheduler) is type(scheduler)
    assert all(torch.isfinite(value).all() for value in emoji.load_unet(folder).state_dict().values())
