"""Moving tensors to a device without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def move_like(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in the dtype and on the device of ``like``. From the CPU to a GPU it does not wait for the GPU.

    A copy from ordinary memory waits until the GPU has finished all queued work. A copy from pinned memory is queued.
    """
    if tensor.device.type == "cpu" and like.device.type == "cuda":
        return tensor.to(like.dtype).pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like)


class Constants:
    """Constant tensors, in the dtype and on the device of what they meet. Each copy is made once and kept.

    Args:
        *tensors: The tensors, floating point.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    def like(self, x: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the dtype and on the device of ``x``."""
        where = x.dtype, x.device
        if where not in self._copies:
            with torch.inference_mode(False), torch.no_grad():  # a copy is used in later gradients too
                self._copies[where] = tuple(move_like(tensor, x) for tensor in self._tensors)
        return self._copies[where]
