"""A U-Net of diffusers that takes a map of times, one for each pixel (AsyncPatch, Sec. 3.1 and Appendix E).

An ordinary U-Net turns its time into an embedding, and each residual block turns the embedding into one scale and one
shift for each channel (FiLM). Nothing in it needs the time to be the same everywhere. Here the embedding is computed
for each position of the map, and each block modulates each position by itself:

    block(h)[c, i] = (1 + scale_c(t_i)) norm(h)[c, i] + shift_c(t_i)

Inner layers see the map averaged over the pixels that each of their positions covers. The parameters are those of the
ordinary network, with the same names. So its weights fit, and a map that is constant gives its output.

A scale or a shift is a smooth function of time alone. So each block's function is tabulated once for the weights that
the network has, and its values at the positions are interpolated (:mod:`lanpaint.adapters.time_table`). Where gradients
of the weights are recorded, in other dtypes than float32, and for times outside [0, 1000], they are computed as they
are: once for each time that occurs at a resolution, and then copied to the positions that have it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from torch import Tensor, nn

from lanpaint.adapters.time_table import covers, grid, interpolated, neighbours

_TOLERANCE = 3e-5  # float32 itself errs by up to 1e-5: the phases of the embedding grow to a thousand radians


class _TimePyramid:
    """A map of times at every resolution of a U-Net, and what a block makes of it at each position.

    Args:
        times: The map, shape (B, 1, H, W), or (1, 1, H, W) for one map for all samples.
        embed: Times (U,) → embeddings (U, E), as the residual blocks take them.
        table: The blocks' scales and shifts to interpolate; None to compute them from ``embed``.
    """

    def __init__(self, times: Tensor, embed: Callable[[Tensor], Tensor], table: _Table | None = None) -> None:
        self.times, self.embed, self.table = times, embed, table
        self._levels: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def _level(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The embeddings that occur at a resolution and each position's number, or each position's rows and weights."""
        if size not in self._levels:
            times = self.times if self.times.shape[-2:] == size else F.adaptive_avg_pool2d(self.times, size)
            if self.table is not None:
                self._levels[size] = neighbours(times)
            else:
                values, numbers = torch.unique(times, return_inverse=True)
                self._levels[size] = self.embed(values), numbers.flatten()
        return self._levels[size]

    def modulation(self, block: _TimeMapBlock, size: tuple[int, int]) -> Tensor:
        """A block's modulation at each position of a resolution, shape (B, channels, h, w)."""
        if self.table is not None:
            numbers, weights = self._level(size)
            spread = interpolated(self.table.rows[block], numbers, weights)
        else:
            embeddings, numbers = self._level(size)
            spread = block.modulation(embeddings).index_select(0, numbers)
        return spread.view(len(self.times), *size, -1).permute(0, 3, 1, 2).contiguous()


class _TimeMapBlock(ResnetBlock2D):
    """A residual block whose scales and shifts differ from position to position."""

    def forward(self, input_tensor: Tensor, temb: Any, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(temb, Tensor):
            return super().forward(input_tensor, temb, *args, **kwargs)
        hidden = self.conv1(self.nonlinearity(self.norm1(input_tensor)))
        modulation = temb.modulation(self, (hidden.shape[-2], hidden.shape[-1]))
        if self.time_embedding_norm == "scale_shift":
            scale, shift = modulation.chunk(2, dim=1)
            hidden = torch.addcmul(shift, self.norm2(hidden), scale)
        else:
            hidden = self.norm2(hidden + modulation)
        hidden = self.conv2(self.dropout(self.nonlinearity(hidden)))
        if self.conv_shortcut is not None:
            input_tensor = self.conv_shortcut(input_tensor)
        return (input_tensor + hidden) / self.output_scale_factor

    def modulation(self, embeddings: Tensor) -> Tensor:
        """What the embeddings (U, E) do to the channels: factors and shifts, (U, 2C), or shifts alone, (U, C)."""
        made = self.time_emb_proj(embeddings if self.skip_time_act else self.nonlinearity(embeddings))
        if self.time_embedding_norm == "scale_shift":
            scale, shift = made.chunk(2, dim=1)
            made = torch.cat([1.0 + scale, shift], dim=1)
        return made


class _Table:
    """The modulation of each block of a network at the times of a table.

    Args:
        embed: Times (U,) → embeddings (U, E).
        blocks: The blocks.
        weights: The weights that all this follows from, in one tensor.

    Attributes:
        rows: Block → its table, (R, 2C) or (R, C).
        is_accurate: Whether the embeddings half-way between rows are interpolated as well as float32 has them.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor], blocks: Sequence[_TimeMapBlock], weights: Tensor) -> None:
        self.weights = weights
        times = grid(weights.device)
        between = ((times[1:] + times[:-1]) / 2)[2:-3]  # those with three rows at each side
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(weights.device.type, enabled=False):
            embeddings, exact = embed(times), embed(between)
            error = (interpolated(embeddings, *neighbours(between)) - exact).abs().max()
            self.is_accurate = bool(error <= _TOLERANCE * exact.abs().max())
            self.rows = {block: block.modulation(embeddings) for block in blocks} if self.is_accurate else {}

    def is_of(self, weights: Tensor) -> bool:
        """Whether the table follows from these weights."""
        return weights.device == self.weights.device and torch.equal(weights, self.weights)


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
        self._table: _Table | None = None
        self._blocks: list[_TimeMapBlock] = []
        for block in self.modules():
            if type(block) is ResnetBlock2D and block.upsample is None and block.downsample is None:
                block.__class__ = _TimeMapBlock  # the parameters stay; only what is done with the embedding differs
                self._blocks.append(block)
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
        times = (timestep[:1] if shared else timestep).detach()
        pyramid = _TimePyramid(times, self._embed, self._fresh_table() if covers(times) else None)
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

    def _fresh_table(self) -> _Table | None:
        """The table of the weights that the network has now. None where it is not to be used."""
        parts = (self.time_embedding, *(block.time_emb_proj for block in self._blocks))
        parameters = [parameter for part in parts for parameter in part.parameters()]
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            return None
        # Compared by value: versions and addresses miss what is written through `.data`, as averages of weights are.
        weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
        if weights.dtype != torch.float32:
            return None
        if self._table is None or not self._table.is_of(weights):
            self._table = _Table(self._embed, self._blocks, weights)
        return self._table if self._table.is_accurate else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}  # a copy makes its own


# diffusers reads the names of the arguments to save and to load a network.
functools.update_wrapper(TimeMapUNet.__init__, UNet2DModel.__init__)
