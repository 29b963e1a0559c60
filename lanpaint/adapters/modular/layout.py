"""Where pictures lie in the latents of a modular pipeline, learnt from the blocks after its loop.

These blocks turn latents into what the decoder takes: they unfold tokens, order axes, scale and shift. All of that is
affine with one latent for each number that the decoder takes. So a few probes tell it whole: zeros give the shift, ones
the scale, and the digits of its own place in each latent tell where it goes. No network is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge.call import CALLED_BY
from lanpaint.adapters.latents import CellRule, LatentLayout, wholly_known
from lanpaint.adapters.modular.blocks import after, decoder_input
from lanpaint.masks import by_shade
from lanpaint.observation import Observation

_BASE = 16  # small, so that digits survive a decoder's input of 8 significant bits


class ModularLayout(LatentLayout):
    """How a modular pipeline lays out pictures in its latents.

    Args:
        pipe: The pipeline.
        cell_rule: As of :class:`~lanpaint.adapters.latents.LatentLayout`.

    Attributes:
        tail: The blocks after the loop, and the state with which it starts. By default those of the call in which the
            pipeline is.
    """

    def __init__(self, pipe: Any, cell_rule: CellRule = wholly_known) -> None:
        super().__init__(pipe, cell_rule)
        self.tail: tuple[list[Any], Any] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """None: the size is an argument of the call."""
        return None

    def _takes_size(self) -> bool:
        """Whether the network has more channels than the decoder: it folds cells into tokens."""
        network = getattr(self.pipe, "transformer", None)
        channels = getattr(getattr(network, "config", None), "in_channels", None)
        config = getattr(self.vae, "config", {})
        own = next((config[name] for name in ("z_dim", "latent_channels") if config.get(name)), None)
        return isinstance(channels, int) and isinstance(own, int) and channels > own

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] as input of the VAE, in [−1, 1] unless the pipeline's processor says otherwise."""
        settings = getattr(self.processor, "config", {})
        return 2 * pictures - 1 if settings.get("do_normalize", True) else pictures

    def normalise(self, latents: Tensor) -> Tensor:
        """The latents themselves: the probes tell scale and shift."""
        return latents

    def _encoded_as(self, pictures: Tensor, dimensions: int) -> Tensor:
        """What the VAE makes of pictures, with an axis of frames where it decodes one."""
        stills = pictures.ndim < dimensions
        own, self.is_video = self.is_video, dimensions == 5
        try:
            encoded = self.encode(pictures.unsqueeze(2) if stills else pictures)
        finally:
            self.is_video = own
        return encoded.squeeze(2) if stills else encoded

    def observation(self, pictures: Tensor, change: Tensor, latents: Tensor) -> Observation:
        """The observation of the latents at which the pipeline's loop starts.

        Args:
            pictures: (n, C, [frames,] height, width) in [0, 1].
            change: How much each pixel may change, (n, 1, [frames,] height, width), floating point from 0 (known) to
                1 (painted).
            latents: The latents with which the pipeline starts, (B, …). Their shape and device are used.

        Returns:
            An observation of batch n, in the layout of ``latents``, float32.

        Raises:
            ValueError: When the decoder takes something else than the encoder gives, and when the blocks after the loop
                do more than to scale, shift and move numbers.
        """
        name = type(self.pipe).__name__
        if self.tail is None:
            bridge = vars(self.pipe)[CALLED_BY]
            blocks, state = after(self.pipe._blocks, bridge.loop), bridge.state
        else:
            blocks, state = self.tail
        shift, scale, place = learn(lambda probe: decoder_input(self.pipe, blocks, state, probe), latents, name)
        encoded = self._encoded_as(pictures, shift.ndim)
        squeezed = shift.squeeze(2) if shift.ndim == encoded.ndim + 1 else shift
        if encoded.shape[1:] != squeezed.shape[1:]:
            raise ValueError(
                f"{name} decodes {tuple(shift.shape[1:])} and its pictures encode to {tuple(encoded.shape[1:])}: check "
                "height, width and frames"
            )
        cells = by_shade(lambda known: self.cell_rule(known, tuple(encoded.shape[2:])), change)
        moves = scale.flatten() != 0
        values = (encoded.flatten(1) - shift.flatten()) / torch.where(moves, scale.flatten(), 1)
        clean = torch.zeros(len(encoded), math.prod(latents.shape[1:]), device=encoded.device)
        changed = torch.ones_like(clean)  # what the decoder is not given is not known
        for whole, part in ((clean, values), (changed, cells.to(values).expand(encoded.shape).flatten(1))):
            whole[:, place.flatten()[moves]] = part[:, moves]
        clean, changed = (whole.reshape(-1, *latents.shape[1:]).to(latents.device) for whole in (clean, changed))
        return Observation.soft(clean, changed)


def learn(tail: Callable[[Tensor], Tensor], latents: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Shift, scale and place of what a decoder takes: z = shift + scale · latents[place].

    Args:
        tail: From latents to what the decoder takes.
        latents: Shape (B, …), of which shape, dtype and device are used.
        name: Of the pipeline, for errors.

    Returns:
        Three tensors of the shape of z of one picture. ``place`` counts in the latents of one picture. Where the scale
        is 0 no latent has a share.

    Raises:
        ValueError: When z is something else.
    """

    def probe(values: Tensor) -> Tensor:
        row = values.to(latents.device, latents.dtype).reshape(1, *latents.shape[1:])
        return tail(row.expand(latents.shape).clone())[:1].float()

    count = math.prod(latents.shape[1:])
    shift = probe(torch.zeros(count))
    scale = probe(torch.ones(count)) - shift
    moves = scale.abs() > 1e-6
    scale = torch.where(moves, scale, 0)
    place, numbers = torch.zeros_like(scale), torch.arange(count)
    for power in range(max(1, math.ceil(math.log(count, _BASE)))):
        digit = (probe(numbers // _BASE**power % _BASE) - shift) / torch.where(moves, scale, 1)
        if bool(((digit - digit.round()).abs() > 0.3)[moves].any()):
            raise ValueError(
                f"{name} mixes its latents before it decodes them, so where a picture lies in them is not known; give "
                "bridged an observation of its latents"
            )
        place += digit.round() * _BASE**power
    return shift, scale, torch.where(moves, place, 0).long().clamp(0, count - 1)
