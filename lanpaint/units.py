"""Units of sequences: what a person measures (metres per second squared, degrees, euros) and what a network takes.

    z = f((v - offset)/scale)/span        f(u) = u, or f(u) = arsinh u

The inverse hyperbolic sine is linear near 0 and logarithmic far from it. So quiet and violent movements are of similar
size to the network, and both signs are treated alike. A folder of a model keeps its units in ``series.json``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE = "series.json"
CURVES = ("linear", "arsinh")


@dataclass(frozen=True)
class Units:
    """Names and units of the channels of a sequence, and the way from values to the network's numbers and back.

    Args:
        channels: Names of the C channels.
        offset: The value that becomes 0, one for each channel.
        scale: The unit in which a channel is counted, one for each channel, above 0.
        curve: f above: ``"linear"`` or ``"arsinh"``.
        span: The number above 0 by which all is divided at the end.
        unit: Name of the unit of each channel, for messages and figures; may be empty.
        rate: Steps in a second; None where time has another unit.
        largest: Largest magnitude of each channel in the training data; empty where nobody knows.

    Raises:
        ValueError: For lists of different lengths, a scale or span that is not above 0, and an unknown curve.

    Example:
        >>> units = Units(("speed",), offset=(1.0,), scale=(2.0,))
        >>> units.normalise(torch.tensor([[5.0]])), units.restore(torch.tensor([[2.0]]))
        (tensor([[2.]]), tensor([[5.]]))
    """

    channels: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    curve: str = "linear"
    span: float = 1.0
    unit: tuple[str, ...] = ()
    rate: float | None = None
    largest: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.channels)
        for name in ("channels", "offset", "scale", "unit", "largest"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != count and not (name in ("unit", "largest") and not values):
                raise ValueError(f"{name} must have one entry for each of {count} channels, got {len(values)}")
        numbers = (*self.offset, *self.scale, self.span, *self.largest, *(() if self.rate is None else (self.rate,)))
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise ValueError("offset, scale, span, rate and largest must be finite numbers")
        if not count or min(self.scale) <= 0 or self.span <= 0:
            raise ValueError("give at least one channel, and scale and span above 0")
        if self.curve not in CURVES:
            raise ValueError(f"curve must be one of {', '.join(CURVES)}, got {self.curve!r}")

    def normalise(self, values: Tensor) -> Tensor:
        """The network's numbers for values (…, C, T), of the same shape and dtype."""
        offset, scale = self._columns(values)
        counted = (values - offset) / scale
        return (torch.asinh(counted) if self.curve == "arsinh" else counted) / self.span

    def restore(self, numbers: Tensor) -> Tensor:
        """The values of the network's numbers (…, C, T): the inverse of :meth:`normalise`."""
        offset, scale = self._columns(numbers)
        counted = numbers * self.span
        return (torch.sinh(counted) if self.curve == "arsinh" else counted) * scale + offset

    def save(self, folder: str | Path) -> None:
        """Write ``series.json`` in a folder."""
        (Path(folder) / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Units:
        """The units in the ``series.json`` of a folder.

        Raises:
            ValueError: When there is no such file, or it holds something else.
        """
        path = Path(folder) / FILE
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            return cls(**found)
        except FileNotFoundError as error:
            raise ValueError(f"{folder} has no {FILE}, which names the channels and units of a model") from error
        except (TypeError, ValueError, OSError) as error:
            raise ValueError(f"cannot read {path}: {str(error).splitlines()[0]}") from error

    def _columns(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if values.ndim < 2 or values.shape[-2] != len(self.channels):
            raise ValueError(f"values must have the shape (…, {len(self.channels)}, T), got {tuple(values.shape)}")
        return values.new_tensor(self.offset)[:, None], values.new_tensor(self.scale)[:, None]
