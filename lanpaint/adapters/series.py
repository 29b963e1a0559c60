"""Unconditional diffusers models of sequences as scores, with the units of their channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lanpaint.adapters.diffusers import UNetScore, load_unet_score
from lanpaint.units import FILE, Units


class SeriesModel(UNetScore):
    """An unconditional diffusers U-Net of sequences (B, C, T), in the network's numbers.

    Args:
        unet: A ``UNet1DModel``.
        scheduler: The scheduler that the U-Net was trained with, of diffusion or of rectified flow.
        units: What the network's numbers mean; None if they are the values themselves.

    Attributes:
        channels: Number of channels C.
        length: Steps T of the windows that the network was trained on.
        units: Names and units of the channels.

    Raises:
        ValueError: For a U-Net without a length, and units of another number of channels.
    """

    def __init__(self, unet: torch.nn.Module, scheduler: Any, units: Units | None = None) -> None:
        super().__init__(unet, scheduler)
        config: Any = unet.config
        if not isinstance(config.sample_size, int) or config.sample_size < 1:
            raise ValueError(f"the network must name the length of its windows, got sample_size {config.sample_size!r}")
        self.length: int = config.sample_size
        count = self.channels
        if units is None:
            units = Units(tuple(f"channel_{n}" for n in range(count)), (0.0,) * count, (1.0,) * count)
        if len(units.channels) != count:
            raise ValueError(f"the units are of {len(units.channels)} channels, and the network has {count}")
        self.units = units


def load_series_model(
    source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> SeriesModel:
    """An unconditional model of sequences, loaded from a folder or from the hub.

    Args:
        source: A folder in diffusers' layout whose ``unet`` is a ``UNet1DModel``, or a hub id. A ``series.json`` in the
            folder has the units (:class:`~lanpaint.units.Units`); without one the network takes the values themselves.
        device: The device that the model runs on.
        dtype: The dtype of its weights and computations.

    Raises:
        ValueError: When there is no such model, or it is of another kind.
    """
    from diffusers import UNet1DModel

    def make(unet: torch.nn.Module, scheduler: Any) -> SeriesModel:
        return SeriesModel(unet, scheduler, Units.load(source) if (Path(source) / FILE).is_file() else None)

    return load_unet_score(source, (UNet1DModel,), make, "sequence", device, dtype)
