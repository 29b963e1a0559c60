"""Held-out images under a mask of latent cells: pipelines of diffusers with an autoencoder, as benchmark targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.latents import LatentLayout
from lanpaint.adapters.networks import network_score
from lanpaint.bench.targets import Figures, ImageTarget, Notice
from lanpaint.painting.entries import read_manifest
from lanpaint.painting.pipeline import load_pipeline

_AT_ONCE = 16  # pictures that are encoded or decoded together


class LatentModel:
    """A pipeline's network as a score of latents, and its autoencoder.

    Args:
        pipe: A pipeline of a family of :data:`lanpaint.adapters.networks.FAMILIES` whose latents have the layout of its
            autoencoder's: an unconditional latent pipeline, Stable Diffusion 1 to 3, and what is built alike.
        prompt: The prompt of all pictures; ignored by a pipeline without prompts.
        guidance_scale: Weight of classifier-free guidance; None for none.

    Attributes:
        score: The network.
        side: Side of the pictures in pixels.

    Raises:
        ValueError: For a pipeline without autoencoder, of another family, or with latents of another layout.
    """

    def __init__(self, pipe: Any, prompt: str | None = None, guidance_scale: float | None = None) -> None:
        self.layout = LatentLayout(pipe)
        if self.layout.vae is None or self.layout.is_video:
            raise ValueError(
                f"{type(pipe).__name__} has no autoencoder of pictures; give a latent pipeline of pictures"
            )
        self.side = self.layout.native_side
        given: dict[str, Any] = {}
        if hasattr(pipe, "encode_prompt"):
            given = {"prompt": prompt or "", "height": self.side, "width": self.side}
            given |= {"guidance_scale": 1.0 if guidance_scale is None else guidance_scale}
        self.score = network_score(pipe, **given).requires_grad_(False)

    def read(self, prompts: Sequence[str]) -> None:
        """Take these prompts in place of the one: one for each row of the batches that follow.

        Raises:
            ValueError: For a pipeline that takes no prompts, or a modular one.
        """
        network = self.score.network
        if not hasattr(self.layout.pipe, "encode_prompt") or not hasattr(network, "encode"):
            raise ValueError(f"{type(self.layout.pipe).__name__} takes no prompt for each picture; give one for all")
        network.encode(list(prompts))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [−1, 1], on the CPU."""
        encoded = torch.cat([self.layout.encode((part + 1) / 2).cpu() for part in images.split(_AT_ONCE)])
        latents = self.layout.fold(self.layout.normalise(encoded))
        if latents.shape != encoded.shape:
            raise ValueError(f"{type(self.layout.pipe).__name__} packs its latents, which this benchmark does not undo")
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images in [−1, 1] of latents, on the CPU: :meth:`encode` undone, but for what the autoencoder loses."""
        vae: Any = self.layout.vae
        zero = self.layout.normalise(torch.zeros_like(latents[:1]))
        slope = self.layout.normalise(torch.ones_like(latents[:1])) - zero  # normalise is affine
        encoded = (latents - zero) / slope
        parts = [vae.decode(part.to(vae.device, vae.dtype)).sample for part in encoded.split(_AT_ONCE)]
        return torch.cat([part.float().cpu() for part in parts]).clamp(-1, 1)


class LatentTarget(ImageTarget):
    """A latent model and held-out images under a mask of its latent cells.

    Truth and samples are latents. The metrics are those of the decoded pictures against the images themselves.

    Args:
        name: Name of the target in results.
        model: The model.
        images: Held-out images (N, 3, H, W) in [−1, 1].
        known: Boolean (h, w), True for the known cells.
        families: As in :class:`ImageTarget`.
        prompts: N prompts, one for each picture; None for the model's one prompt.
    """

    def __init__(
        self,
        name: str,
        model: LatentModel,
        images: Tensor,
        known: Tensor,
        families: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, model.score, images, known, families)
        self.model, self.prompts = model, prompts
        self._latents = torch.zeros(0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The latents of the first ``count`` images."""
        if len(self._latents) < count:
            self._latents = self.model.encode(self.images[:count])
        return self._latents[:count]

    def attend(self, places: Sequence[int]) -> None:
        """The prompts are those of these pictures."""
        if self.prompts is not None:
            self.model.read([self.prompts[place] for place in places])

    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """The metrics of :class:`ImageTarget`; the hole is where the latent cells are unknown."""
        images = self.images[: len(x) // fills].repeat_interleave(fills, 0)
        factor = images.shape[-1] // self.known.shape[-1]
        pixels = self.known.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        return self._figures(self.model.decode(x), images, pixels, notice, fills)


def load_latent_model(
    folder: str, device: str = "cpu", prompt: str | None = None, guidance_scale: float | None = None
) -> LatentModel:
    """A latent model from a folder in diffusers' layout or from the hub.

    Raises:
        ValueError: When it cannot be loaded, and as :class:`LatentModel`.
    """
    pipe = load_pipeline(folder, torch.device(device), torch.float32, offload=False, progress=False)
    return LatentModel(pipe, prompt, guidance_scale)


def read_prompts(manifest: str | Path, pictures: Sequence[str]) -> list[str]:
    """The prompts of pictures, in their order.

    Args:
        manifest: A ``.csv`` or ``.jsonl`` with a row for each picture: its name in the folder, ``picture``, and
            ``prompt``.
        pictures: The names.

    Raises:
        ValueError: When it cannot be read, or has no prompt for a picture.
    """
    rows = [row for _, row in read_manifest(Path(manifest))]
    prompts = {str(row.get("picture")): str(row["prompt"]) for row in rows if "prompt" in row}
    missing = [name for name in pictures if name not in prompts]
    if missing:
        raise ValueError(
            f"{manifest} has no prompt for {len(missing)} of {len(pictures)} pictures, such as {missing[0]}; "
            "give a row with picture and prompt for each"
        )
    return [prompts[name] for name in pictures]
