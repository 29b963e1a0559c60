"""An error head: how wrong a frozen network is at each pixel (AsyncPatch, Papa et al., 2026, Sec. 5.5).

The head sees what the network sees, and its answer: the noisy picture, x̂₀ and the map of times. It predicts the squared
error of the network's velocity, its mean over channels, at each pixel. A small convolutional network learns it from
clean pictures in little time. The network's weights do not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lanpaint.noise import NoiseLevel
from lanpaint.score import Score


class ErrorHead(nn.Module):
    """Predicts the squared error of a network's velocity at each pixel.

    Args:
        channels: Channels C of the pictures.
        width: Channels of the hidden layers.
    """

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels + 1, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=4, dilation=4),
            nn.SiLU(),
            nn.Conv2d(width, 1, 1),
        )

    def log_error(self, noisy: Tensor, denoised: Tensor, times: Tensor) -> Tensor:
        """Logarithm of the expected squared error, (B, 1, H, W).

        Args:
            noisy: The state, (B, C, H, W).
            denoised: The network's x̂₀ there, (B, C, H, W).
            times: Times from 0 to 1, broadcastable to (B, 1, H, W).
        """
        times = times.to(noisy).expand(len(noisy), 1, *noisy.shape[2:])
        log_error: Tensor = self.layers(torch.cat([noisy, denoised, times], 1))
        return log_error


@torch.no_grad()
def collect(score: Score, clean: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """State, x̂₀, times and squared errors of a network on a batch, at the levels of a rectified flow.

    Args:
        score: The network, as a score that takes levels per pixel.
        clean: Pictures (B, C, H, W).
        times: Maps of times above 0, (B, 1, H, W).
        noise: Standard normal, shape of ``clean``.
    """
    level = NoiseLevel(1 - times.double(), times.double())
    noisy = level.perturb(clean, noise)
    denoised = score.predict(noisy, level).denoised
    return noisy, denoised, times, ((denoised - clean) / times).square().mean(1, keepdim=True)


def fit_head(head: ErrorHead, data: Sequence[Tensor], *, steps: int = 600, seed: int = 0) -> float:
    """Train a head on what `collect` gave, in place. Return the mean loss of the last tenth of the steps.

    With s the predicted logarithm and e² the error, the loss is e² exp(−s) + s. Its least mean is at exp(s) = E[e²].
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    noisy, denoised, times, errors = data
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(noisy), (32,), generator=generator)
        log_error = head.log_error(noisy[rows], denoised[rows], times[rows])
        loss = (errors[rows] * torch.exp(-log_error) + log_error).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)
