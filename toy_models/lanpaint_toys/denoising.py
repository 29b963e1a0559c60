"""Training of a denoising network with Lightning; `lanpaint_toys.train` is the command line to it.

The objective is the unweighted one of DDPM (Ho et al., 2020, eq. 14, https://arxiv.org/abs/2006.11239),

    L = E_{t, x_0, eps} || y - f_theta(x_t, t) ||^2 / d,    x_t = alpha_t x_0 + sigma_t eps,

with ``t`` uniform over the scheduler's times, ``d`` the number of values in an image, and ``y`` the target. The
scheduler's settings say whether the target is the noise or a velocity (`lanpaint_toys.evaluation.noisy_and_target`).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from lanpaint_toys.evaluation import denoising_loss, image_losses, picture_grid, sample, spread_times


class Source(Protocol):
    """A source of training images.

    Attributes:
        images: All training images, ``(N, C, H, W)``.
    """

    @property
    def images(self) -> Tensor: ...  # noqa: D102

    def draw(self, count: int) -> Tensor:
        """Return images ``(count, C, H, W)`` drawn with PyTorch's global random numbers."""


class ImageData(LightningDataModule):
    """Training images, of which every step draws a batch, and the images to validate on.

    Args:
        training: Source of the training images.
        validation: Images ``(M, C, H, W)`` on which to log the loss of the averaged weights; may be empty.
        epoch_steps: Steps between two validations at the ends of epochs.
    """

    def __init__(self, training: Source, validation: Tensor, *, epoch_steps: int) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.epoch_steps = epoch_steps

    def train_dataloader(self) -> DataLoader:
        """Return a loader that only counts the steps."""
        # The order of a loader would start again when a run resumes. So each training step draws its images itself.
        return DataLoader(TensorDataset(torch.arange(self.epoch_steps)), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Return the validation images as one batch."""
        return DataLoader(TensorDataset(self.validation), batch_size=max(1, len(self.validation)))


class Reproducible(LightningModule):
    """A model in training. All random numbers of a training step depend on ``(seed, step, device)`` alone.

    This holds for images, times, noise and dropout. So a run that resumes from a checkpoint ends with the same weights
    as an uninterrupted run.

    Args:
        steps: Number of training steps, over which the learning rate falls to zero as a cosine. With None the run has
            no end, and the learning rate stays at its peak.
        batch_size: Images in each training step on each device, drawn with replacement.
        learning_rate: Peak of the learning rate.
        warmup_steps: Training steps in which the learning rate climbs to its peak.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the run.
    """

    def __init__(
        self,
        *,
        steps: int | None,
        batch_size: int,
        learning_rate: float,
        warmup_steps: int,
        weight_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.weight_decay = weight_decay
        self.seed = seed

    def begin_step(self) -> Tensor:
        """Seed the random numbers of this training step. Return its images ``(batch_size, C, H, W)`` on the CPU."""
        name = (
            (self.seed, self.global_step) if self.global_rank == 0 else (self.seed, self.global_step, self.global_rank)
        )
        torch.manual_seed(int(np.random.SeedSequence(name).generate_state(1)[0]))
        return self.trainer.datamodule.training.draw(self.batch_size)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, with a learning rate that climbs linearly and then stays constant or falls as a cosine."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.steps is None:
            schedule = get_constant_schedule_with_warmup(optimizer, self.warmup_steps)
        else:
            schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup_steps, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Denoising(Reproducible):
    """A network that learns to denoise images, or the latents that an autoencoder makes of images.

    Args:
        unet: The network, called as ``unet(x, t).sample``.
        scheduler: Defines the noise levels and the target.
        autoencoder: Makes the latents, and is not trained; None for a network that denoises images.
        validation_draws: Number of times at which the loss of each validation image is evaluated.
        settings: Those of `Reproducible`.

    Attributes:
        latent_scale: The factor that brings the autoencoder's latents to unit variance.
    """

    latent_scale: Tensor

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: Any,
        *,
        autoencoder: AutoencoderKL | None = None,
        validation_draws: int = 50,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.unet = unet
        self.scheduler = scheduler
        self.autoencoder = autoencoder
        if autoencoder is not None:
            autoencoder.requires_grad_(False)
            self.register_buffer("latent_scale", torch.tensor(float(autoencoder.config["scaling_factor"])))
        self.validation_draws = validation_draws

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the input of the network for clean images: the images, or their scaled latents ``(N, c, h, w)``."""
        if self.autoencoder is None:
            return images
        return self.autoencoder.encode(images).latent_dist.mode() * self.latent_scale

    def training_step(self, _: list[Tensor]) -> Tensor:
        """Return the loss of the batch that belongs to this step."""
        clean = self.encode(self.begin_step().to(self.device))
        times = spread_times(self.batch_size, self.scheduler).to(self.device)
        noise = torch.randn(clean.shape).to(self.device)
        loss = image_losses(self.unet, self.scheduler, clean, noise, times).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the denoising loss of the validation images."""
        (images,) = batch
        loss, standard_error = denoising_loss(
            self.unet, self.scheduler, self.encode(images), draws=self.validation_draws
        )
        self.log("validation_loss", loss, batch_size=len(images))
        self.log("validation_standard_error", standard_error, batch_size=len(images))

    def pictures(self, count: int) -> Tensor:
        """Return samples ``(count, C, H, W)``, always from the same noise."""
        samples = sample(self.unet, self.scheduler, count)
        if self.autoencoder is None:
            return samples
        with torch.no_grad():
            return self.autoencoder.decode(samples / self.latent_scale).sample


class MovingAverage(WeightAveraging):
    """A moving average of the weights that forgets the random initial weights sooner than Lightning's does.

    After ``n`` updates the decay is ``min(decay, (1 + n) / (10 + n))``. With a constant decay of 0.999 the initial
    weights would still have a share of 37 % after 1,000 steps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor) -> None:
        decay = min(self.decay, (1 + int(updates)) / (10 + int(updates)))
        get_ema_multi_avg_fn(decay)(averages, currents, updates)


class Checkpoints(Callback):
    """Keeps one checkpoint, the latest. A run resumes from it exactly.

    The checkpoint is written every ``every_steps`` training steps or ``every_minutes`` minutes, and at the last step.

    Args:
        path: The file. Lightning writes a new file and then moves it here. So a run that is killed while writing leaves
            the previous checkpoint.
        every_steps: Training steps between checkpoints.
        every_minutes: Minutes between checkpoints.
        last_step: The run's last step, if it has an end.
        max_minutes: Stop the run, with a checkpoint, so many minutes after it was started or resumed.
    """

    def __init__(
        self,
        path: Path,
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        last_step: int | None = None,
        max_minutes: float | None = None,
    ) -> None:
        self.path = path
        self.every_steps = every_steps
        self.every_minutes = math.inf if every_minutes is None else every_minutes
        self.last_step = last_step
        self.max_minutes = math.inf if max_minutes is None else max_minutes
        self.begun = self.written = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write the checkpoint, and end the run, if it is time."""
        now = time.monotonic()
        late, over = now - self.written >= 60 * self.every_minutes, now - self.begun >= 60 * self.max_minutes
        # The clocks of several devices differ. All devices must take part in writing a checkpoint, or none.
        late, over = trainer.strategy.broadcast((late, over))
        step = trainer.global_step
        trainer.should_stop |= over
        if late or over or step == self.last_step or (self.every_steps is not None and step % self.every_steps == 0):
            trainer.save_checkpoint(self.path)
            self.written = now


class Pictures(Callback):
    """Writes ``samples-STEP.png`` in a folder at each validation, from the averaged weights.

    Args:
        folder: Folder to write to.
        count: Number of pictures in the grid.
    """

    def __init__(self, folder: Path, count: int = 48) -> None:
        self.folder = folder
        self.count = count

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write the picture now, because after the validation the model no longer holds its averaged weights."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            grid = picture_grid(pl_module.pictures(self.count))  # type: ignore[operator]
            grid.save(self.folder / f"samples-{trainer.global_step:07d}.png")
