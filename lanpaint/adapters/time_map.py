"""A U-Net of diffusers that takes a map of times, one for each pixel (AsyncPatch, Sec. 3.1 and Appendix E).

An ordinary U-Net turns its time into an embedding, and each residual block turns the embedding into one scale and one
shift for each channel (FiLM). Nothing in it needs the time to be the same everywhere. Here the embedding is computed
for each position of the map, and each block modulates each position by itself:

    block(h)[c, i] = (1 + scale_c(t_i)) norm(h)[c, i] + shift_c(t_i)

Inner layers see the map averaged over the pixels that each of their positions covers. The parameters are those of the
ordinary network, with the same names. So its weights fit, and a map that is constant gives its output.

Few times of a map differ: known pixels have one time and unknown pixels another. So the embedding and the scales and
shifts are computed once for each time that occurs at a resolution, and then copied to the positions that have it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from torch import Tensor, nn


class _TimePyramid:
    """A map of times at every resolution of a U-Net, with the embedding of each time that occurs there.

    Args:
        times: The map, shape (B, 1, H, W), or (1, 1, H, W) for one map for all samples.
        embed: Times (U,) → embeddings (U, E), as the residual blocks take them.
    """

    def __init__(self, times: Tensor, embed: Callable[[Tensor], Tensor]) -> None:
        self.times, self.embed = times, embed
        self._levels: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def _level(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The embeddings (U, E) of the U times that occur at a resolution, and the number of each position's time."""
        if size not in self._levels:
            times = self.times if self.times.shape[-2:] == size else F.adaptive_avg_pool2d(self.times, size)
            values, numbers = torch.unique(times, return_inverse=True)
            self._levels[size] = self.embed(values), numbers.flatten()
        return self._levels[size]

    def project(self, block: ResnetBlock2D, size: tuple[int, int], offset: float) -> Tensor:
        """A block's projection of the embedding at each position of a resolution, shape (B, channels, h, w).

        ``offset`` is added to the first half of the channels.
        """
        embeddings, numbers = self._level(size)
        if not block.skip_time_act:
            embeddings = block.nonlinearity(embeddings)
        table = block.time_emb_proj(embeddings)
        if offset:
            table = torch.cat([table[:, : table.shape[1] // 2] + offset, table[:, table.shape[1] // 2 :]], 1)
        spread = table.t().contiguous().index_select(1, numbers)
        return spread.view(-1, len(self.times), *size).transpose(0, 1)


class _TimeMapBlock(ResnetBlock2D):
    """A residual block whose scales and shifts differ from position to position."""

    def forward(self, input_tensor: Tensor, temb: Any, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(temb, Tensor):
            return super().forward(input_tensor, temb, *args, **kwargs)
        hidden = self.conv1(self.nonlinearity(self.norm1(input_tensor)))
        size = (hidden.shape[-2], hidden.shape[-1])
        if self.time_embedding_norm == "scale_shift":
            scale, shift = temb.project(self, size, 1.0).chunk(2, dim=1)
            hidden = torch.addcmul(shift, self.norm2(hidden), scale)
        else:
            hidden = self.norm2(hidden + temb.project(self, size, 0.0))
        hidden = self.conv2(self.dropout(self.nonlinearity(hidden)))
        if self.conv_shortcut is not None:
            input_tensor = self.conv_shortcut(input_tensor)
        return (input_tensor + hidden) / self.output_scale_factor


class TimeMapUNet(UNet2DModel):
    """diffusers' ``UNet2DModel`` with a time for each pixel. It has the arguments and the parameters of that class.

    ``network(x, time).sample`` is the output at x, (B, C, H, W). ``time`` is a number or has the shape (B,), as for the
    ordinary network, or it is a map of shape (B, 1, H, W) or (1, 1, H, W), in the ordinary network's unit of time.

    ``save_pretrained`` and ``from_pretrained`` work as for every model of diffusers. A folder of it can be loaded as an
    ordinary ``UNet2DModel`` too, and then takes one time for each sample.

    Raises:
        ValueError: For a network with a block that is no residual block with a time embedding, and for a map of times
            whose shape does not fit x.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config: Any = self.config
        if config.time_embedding_type == "fourier" or self.class_embedding is not None:
            raise ValueError("a map of times needs a network without classes and without a Fourier embedding of time")
        for block in self.modules():
            if type(block) is ResnetBlock2D and block.upsample is None and block.downsample is None:
                block.__class__ = _TimeMapBlock  # the parameters stay; only what is done with the embedding differs
            elif getattr(block, "time_emb_proj", None) is not None:
                raise ValueError(f"a map of times needs blocks of ResnetBlock2D alone, got {type(block).__name__}")

    @classmethod
    def from_unet(cls, unet: UNet2DModel) -> TimeMapUNet:
        """A network with the configuration and a copy of the weights of an ordinary one, in its mode and dtype."""
        network = cls(**{name: value for name, value in unet.config.items() if not name.startswith("_")})
        network.load_state_dict(unet.state_dict())
        nn.Module.to(network, unet.device, unet.dtype)  # diffusers' own to() warns of a change of dtype
        return network.train(unet.training)

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> Any:
        """The output at ``sample``, (B, C, H, W); see the class."""
        if not isinstance(timestep, Tensor) or timestep.ndim <= 1:
            return super().forward(sample, timestep, class_labels, return_dict)
        batch, _, height, width = sample.shape
        if timestep.shape not in ((batch, 1, height, width), (1, 1, height, width)):
            raise ValueError(
                f"a map of times must have the shape {(batch, 1, height, width)} for x of shape {tuple(sample.shape)}, "
                f"got {tuple(timestep.shape)}"
            )
        config: Any = self.config
        if config.center_input_sample:
            sample = 2 * sample - 1.0
        shared = timestep.stride(0) == 0  # one map that was expanded to the batch
        pyramid = _TimePyramid((timestep[:1] if shared else timestep).detach(), self._embed)
        sample = self.conv_in(sample)
        skips: tuple[Tensor, ...] = (sample,)
        for block in self.down_blocks:
            sample, made = block(hidden_states=sample, temb=pyramid)
            skips += made
        if self.mid_block is not None:
            sample = self.mid_block(sample, pyramid)
        parts: Any = self.up_blocks
        for block in parts:
            count = len(block.resnets)
            sample, skips = block(sample, skips[-count:], pyramid), skips[:-count]
        sample = self.conv_out(self.conv_act(self.conv_norm_out(sample)))
        return UNet2DOutput(sample=sample) if return_dict else (sample,)

    def _embed(self, times: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(times).to(self.dtype))


# diffusers reads the names of the arguments to save and to load a network.
functools.update_wrapper(TimeMapUNet.__init__, UNet2DModel.__init__)
