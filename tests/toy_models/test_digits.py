"""The digits, the model of them that ships with the repository, and the command that trains it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("diffusers")

from lanpaint_toys import digits, train
from lanpaint_toys.evaluation import spread_timesteps


def test_splits_share_no_image_and_hold_the_whole_data_set():
    from sklearn.datasets import load_digits

    parts = [digits.load_digits(split)[0] for split in ("train", "test")]
    both = torch.cat(parts).flatten(1)
    assert [len(part) for part in parts] == [1437, 360]
    assert len(both.unique(dim=0)) == len(both)  # no image twice, so none in both parts
    whole = torch.from_numpy(load_digits().data).float() / 8 - 1
    assert torch.equal(both.unique(dim=0), whole.unique(dim=0))  # `unique` sorts


def test_splits_hold_the_same_share_of_each_digit():
    train_labels, test_labels = (digits.load_digits(split)[1] for split in ("train", "test"))
    counts = train_labels.bincount() + test_labels.bincount()
    # Rounding moves each digit's count of test images by less than one.
    assert ((test_labels.bincount() - counts * 360 / 1797).abs() < 1).all()


def test_split_is_the_same_each_time():
    for split in ("train", "test"):
        for first, second in zip(digits.load_digits(split), digits.load_digits(split), strict=True):
            assert torch.equal(first, second)


def test_images_are_sixteenths_of_ink_between_minus_one_and_one():
    images, labels = digits.load_digits("train")
    assert (images.shape, images.dtype) == ((1437, 1, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((1437,), torch.int64)
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal(images * 8, (images * 8).round())


def test_unknown_split_is_told_in_one_line():
    with pytest.raises(ValueError, match=r"^split is 'valid', expected 'train' or 'test'$"):
        digits.load_digits("valid")


def test_shipped_folder_is_a_small_pipeline_of_diffusers():
    from diffusers import DDPMPipeline

    weights = digits.FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size <= 2 * 10**6
    pipeline = DDPMPipeline.from_pretrained(digits.FOLDER)
    assert {name: pipeline.scheduler.config[name] for name in train.SCHEDULER} == train.SCHEDULER
    assert pipeline.unet.dtype == torch.float32
    shipped = digits.load_unet().state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in pipeline.unet.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shipped_network_is_frozen_and_in_evaluation_mode(dtype):
    unet = digits.load_unet(dtype)
    assert not unet.training
    assert all(parameter.dtype == dtype and not parameter.requires_grad for parameter in unet.parameters())


def _wiener_losses(clean, noise, alpha_bar):
    """Loss of the linear predictor of the noise that is best for the training images' mean and covariance."""
    images = digits.load_digits("train")[0].flatten(1).double()
    noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
    covariance = alpha_bar * images.T.cov(correction=0) + (1 - alpha_bar) * torch.eye(64, dtype=torch.float64)
    centred = noisy.flatten(1).double() - alpha_bar.sqrt() * images.mean(0)
    predicted = (1 - alpha_bar).sqrt() * torch.linalg.solve(covariance, centred.T).T
    return (predicted - noise.flatten(1)).square().mean(1)


# The network's loss was 0.600, 0.552, 0.531, 0.619 and 0.811 of the Wiener filter's, each +- 0.01 (standard error over
# images) with eight noises an image. With the four below the error is 0.014 at most. A bound lies 0.05 above. At higher
# noise the linear predictor is nearly the best.
@pytest.mark.parametrize(("timestep", "share"), [(20, 0.65), (50, 0.60), (100, 0.58), (200, 0.67), (300, 0.86)])
def test_shipped_network_beats_the_best_linear_predictor_on_held_out_images(timestep, share):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**train.SCHEDULER)
    clean = digits.load_digits("test")[0].repeat(4, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(timestep))
    noisy = scheduler.add_noise(clean, noise, torch.tensor([timestep]))
    with torch.no_grad():
        predicted = digits.load_unet()(noisy, timestep).sample
    network = (predicted - noise).square().flatten(1).mean(1)
    wiener = _wiener_losses(clean, noise, scheduler.alphas_cumprod[timestep])
    assert network.mean() < share * wiener.mean()


def test_spread_timesteps_fall_one_into_each_part():
    drawn = spread_timesteps(8, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn // 125, torch.arange(8))


# Dropout is on and one step of the two runs below is a validation, since both could disturb the random numbers.
TINY = replace(train.RECIPES["digits"].defaults, steps=6, batch_size=4, dropout=0.1, validation_images=2)


def _weights(pipeline: Path) -> bytes:
    return (pipeline / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_run_that_resumes_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    pytest.importorskip("lightning")
    whole = _weights(train.train(TINY, tmp_path / "whole", checkpoint_every=2))
    # Left in the middle of the interval between two checkpoints, and then on a checkpoint.
    for stop_after in (3, 4):
        pipeline = train.train(TINY, tmp_path / "resumed", checkpoint_every=2, stop_after=stop_after)
        assert not pipeline.exists()
    assert _weights(train.train(TINY, tmp_path / "resumed", checkpoint_every=2)) == whole
    # A finished run writes the same pipeline again.
    assert _weights(train.train(TINY, tmp_path / "resumed", checkpoint_every=2)) == whole
    other = _weights(train.train(replace(TINY, seed=1), tmp_path / "other", checkpoint_every=2))
    assert other != whole


def test_run_refuses_to_go_on_with_other_settings(tmp_path):
    pytest.importorskip("lightning")
    train.train(TINY, tmp_path, checkpoint_every=2, stop_after=2)
    with pytest.raises(train.UserError, match=r"holds a run with learning_rate .*, not 0\.5: give that value"):
        train.train(replace(TINY, learning_rate=0.5), tmp_path)


def test_unreadable_checkpoint_is_told_in_one_line(tmp_path):
    pytest.importorskip("lightning")
    (tmp_path / "settings.json").write_text(json.dumps(vars(TINY)))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"cut off")
    with pytest.raises(train.UserError, match=r"^cannot read .*last\.ckpt; delete it to start anew \(.*\)$"):
        train.train(TINY, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["faces"], "'faces'"),
        (["digits", "--steps", "0"], "argument --steps: '0', expected a whole number from 1 on"),
        (["digits", "--batch-size", "many"], "argument --batch-size: 'many', expected a whole number from 1 on"),
        (["digits", "--learning-rate", "nan"], "argument --learning-rate: 'nan', expected a number above 0"),
        (["digits", "--dropout", "1"], "argument --dropout: '1', expected a number in [0, 1)"),
        (["digits", "--evaluate", "/nowhere"], "/nowhere is not the folder of a trained model"),
        (["digits", "--out", "/dev/null/run"], "cannot use the folder /dev/null/run"),
        (["digits", "--validation-images", "1437"], "1437 validation images, expected 0 to 1436"),
    ],
)
def test_mistake_on_the_command_line_is_told_in_one_line(arguments, told, capsys):
    pytest.importorskip("lightning")
    with pytest.raises(SystemExit) as left:
        train.main(arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_missing_lightning_is_told_with_the_extra_that_brings_it(tmp_path):
    # A new process: once imported, Lightning stays. None in sys.modules makes an import fail as a missing package does.
    code = "import sys; sys.modules['lightning'] = None; from lanpaint_toys import train; train.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "digits", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(train.__file__).parents[1])
    assert done.returncode == 2
    assert done.stderr == "python -m lanpaint_toys.train: error: this needs lightning: pip install lightning\n"
