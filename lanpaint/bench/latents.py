"""Held-out images under a mask of latent cells: pipelines of diffusers with an autoencoder, as benchmark targets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.latents import LatentLayout, as_batch
from lanpaint.adapters.networks import network_score
from lanpaint.bench.targets import Figures, ImageTarget, Notice
from lanpaint.painting.entries import read_manifest
from lanpaint.pasting import pasted, seam_weight
from lanpaint.schedules import Flow

FEATHER = 10
"""Pixels over which known pixels are pasted: the reach of BrushNet's blur of the mask, which is 21 pixels wide."""
_AT_ONCE = 16  # pictures that are encoded or decoded together


class LatentModel:
    """A pipeline's network as a score of latents, and its autoencoder.

    Args:
        pipe: A pipeline of a family of :data:`lanpaint.adapters.networks.FAMILIES` that makes pictures with an
            autoencoder: an unconditional latent pipeline, Stable Diffusion 1 to 3, SDXL, Flux, Qwen-Image.
        prompt: The prompt of all pictures; ignored by a pipeline without prompts.
        guidance_scale: Weight of classifier-free guidance, or the one that the network takes as an input (FLUX.1-dev);
            None for none.

    Attributes:
        score: The network. Samplers that ask for its predictions without guidance get them.
        side: Side of the pictures in pixels.
        cells: (C, h, w) of the latents as the autoencoder has them.

    Raises:
        ValueError: For a pipeline without autoencoder, or of another family.
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
            given |= _guidance(pipe, 1.0 if guidance_scale is None else guidance_scale)
        self.score = network_score(pipe, **given).requires_grad_(False)
        self.cells = self.layout.encode(torch.zeros(1, 3, self.side, self.side)).shape[1:]
        numbered = torch.arange(self.cells.numel()).reshape(1, *self.cells)
        self._places = self.layout.fold(numbered)[0]  # of the latents' entries in the autoencoder's layout
        if isinstance(self.score.schedule, Flow):
            self.score.schedule = Flow(_shift(pipe.scheduler, self._tokens()))

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
        """Latents (B, …) of images (B, 3, H, W) in [−1, 1], in the pipeline's layout, on the CPU."""
        encoded = torch.cat([self.layout.encode((part + 1) / 2).cpu() for part in images.split(_AT_ONCE)])
        return self.layout.fold(self.layout.normalise(encoded))

    def known(self, cells: Tensor) -> Tensor:
        """The known entries of a sample of latents, boolean, of known cells (h, w)."""
        return cells if self._places.shape == self.cells else cells.expand(self.cells).flatten()[self._places]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images in [−1, 1] of latents, on the CPU: :meth:`encode` undone, but for what the autoencoder loses."""
        vae: Any = self.layout.vae
        cells = torch.empty(len(latents), self.cells.numel())
        cells[:, self._places.flatten()] = latents.flatten(1).float().cpu()
        cells = cells.reshape(-1, *self.cells)
        zero = self.layout.normalise(torch.zeros_like(cells[:1]))
        slope = self.layout.normalise(torch.ones_like(cells[:1])) - zero  # normalise is affine
        encoded = as_batch((cells - zero) / slope, self.layout.dimensions)
        parts = [vae.decode(part.to(vae.device, vae.dtype)).sample for part in encoded.split(_AT_ONCE)]
        images = torch.cat([part.float().cpu() for part in parts]).clamp(-1, 1)
        return images.squeeze(2) if images.ndim == 5 else images

    def _tokens(self) -> int:
        """Tokens of a picture in a transformer."""
        if self._places.ndim == 2:
            return len(self._places)
        patch = getattr(getattr(self.layout.pipe, "transformer", None), "config", {}).get("patch_size", 1)
        return self.cells[-2] * self.cells[-1] // int(patch) ** 2


def _guidance(pipe: Any, scale: float) -> dict[str, Any]:
    """A weight of guidance as arguments of :func:`network_score`: under the name that this pipeline guides by."""
    network = getattr(pipe, "transformer", None)
    embeds = network is not None and network.config.get("guidance_embeds", False)
    if "true_cfg_scale" in inspect.signature(pipe.__call__).parameters and not embeds:
        return {"true_cfg_scale": scale, "negative_prompt": " "}
    return {"guidance_scale": scale}


def _shift(scheduler: Any, tokens: int) -> float:
    """The shift of a flow's times, which some schedulers let grow with the number of tokens of a picture."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting", False):
        return float(config.get("shift", config.get("flow_shift", 1.0)))
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
    return float(mu if config.get("time_shift_type") == "linear" else math.exp(mu))


class LatentTarget(ImageTarget):
    """A latent model and held-out images under a mask of its latent cells.

    Truth and samples are latents. The metrics are those of the decoded pictures against the images themselves.

    Args:
        name: Name of the target in results.
        model: The model.
        images: Held-out images (N, 3, H, W) in [−1, 1].
        cells: Boolean (h, w), True for the known cells.
        families: As in :class:`ImageTarget`.
        prompts: N prompts, one for each picture; None for the model's one prompt.
    """

    def __init__(
        self,
        name: str,
        model: LatentModel,
        images: Tensor,
        cells: Tensor,
        families: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, model.score, images, model.known(cells), families)
        self.model, self.cells, self.prompts = model, cells, prompts
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
        """The metrics of :class:`ImageTarget`; the hole is where the latent cells are unknown.

        Those that end in ``_pasted`` are of the pictures with the known pixels pasted into them, with a ramp of
        :data:`FEATHER` pixels.
        """
        images = self.images[: len(x) // fills].repeat_interleave(fills, 0)
        factor = images.shape[-1] // self.cells.shape[-1]
        pixels = self.cells.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        decoded = self.model.decode(x)
        figures = self._figures(decoded, images, pixels, notice, fills)
        if bool(pixels.any()):
            whole = pasted(decoded, images, seam_weight(pixels[None, None], FEATHER))
            judged = self._picture_figures(whole, images, pixels, notice, fills, with_fid=False)
            for name, value in judged.items():
                if name not in _OF_THE_HOLE:
                    figures[_renamed(name)] = value
        return figures


# What pasting does not change: the seam is that of the pixels of the hole.
_OF_THE_HOLE = {"psnr", "psnr_error", "seam", "seam_error"}


def _renamed(name: str) -> str:
    return f"{name.removesuffix('_error')}_pasted_error" if name.endswith("_error") else f"{name}_pasted"


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
