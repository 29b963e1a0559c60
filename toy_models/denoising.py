"""Training of a noise-predicting network with Lightning; `toy_models.train` is the command line to it.

The objective is the unweighted one of DDPM (Ho et al., 2020, eq. 14, https://arxiv.org/abs/2006.11239):

    L = E_{t, x_0, eps} || eps - eps_theta(x_t, t) ||^2 / d,    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,

with ``t`` uniform over the scheduler's timesteps and ``d`` the number of values in an image.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from toy_models.evaluation import denoising_loss, image_losses, spread_timesteps


class Denoising(LightningModule):
    """A network that learns to predict the noise in an image.

    Everything random in a step (images, timesteps, noise, dropout) follows from ``(seed, step)`` alone. A run that
    resumes from a checkpoint therefore ends with the same weights as one that was never interrupted.

    Args:
        unet: The network, called as ``unet(x, t).sample``.
        scheduler: Defines the noise levels.
        images: Training images ``(N, C, H, W)``.
        validation: Images ``(M, C, H, W)`` on which to log the loss of the averaged weights; may be empty.
        steps: Length of the run, which sets the learning rate's decay.
        batch_size: Images in a step, drawn with replacement.
        learning_rate: Peak of the learning rate.
        warmup_steps: Steps in which the learning rate climbs to its peak, before it falls to zero as a cosine.
        weight_decay: Of AdamW.
        seed: Names the run.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: DDPMScheduler,
        images: Tensor,
        validation: Tensor,
        *,
        steps: int,
        batch_size: int,
        learning_rate: float,
        warmup_steps: int,
        weight_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.scheduler = scheduler
        self.images = images
        self.validation = validation
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.weight_decay = weight_decay
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        """Return a loader that only counts the steps."""
        # A loader's own order would start afresh when a run resumes, so `training_step` draws the images itself.
        return DataLoader(TensorDataset(torch.arange(self.steps)), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Return the validation images as one batch."""
        return DataLoader(TensorDataset(self.validation), batch_size=max(1, len(self.validation)))

    def training_step(self, _: list[Tensor]) -> Tensor:
        """Return the loss of the batch that belongs to this step."""
        torch.manual_seed(int(np.random.SeedSequence((self.seed, self.global_step)).generate_state(1)[0]))
        rows = torch.randint(len(self.images), (self.batch_size,))
        timesteps = spread_timesteps(self.batch_size, self.scheduler.config["num_train_timesteps"])
        noise = torch.randn(self.batch_size, *self.images.shape[1:])
        clean, noise, timesteps = (part.to(self.device) for part in (self.images[rows], noise, timesteps))
        loss = image_losses(self.unet, self.scheduler, clean, noise, timesteps).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the denoising loss of the validation images."""
        (images,) = batch
        loss, standard_error = denoising_loss(self.unet, self.scheduler, images)
        self.log("validation_loss", loss, batch_size=len(images))
        self.log("validation_standard_error", standard_error, batch_size=len(images))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, and a learning rate that climbs linearly and falls as a cosine."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup_steps, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class MovingAverage(WeightAveraging):
    """Lightning's moving average of the weights, which forgets the first, random weights sooner.

    After ``n`` updates the decay is ``min(decay, (1 + n) / (10 + n))``. With a constant 0.999 the initial weights would
    still weigh 37 % after 1,000 steps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor) -> None:
        decay = min(self.decay, (1 + int(updates)) / (10 + int(updates)))
        get_ema_multi_avg_fn(decay)(averages, currents, updates)
