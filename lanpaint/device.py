"""Moving tensors to a device without waiting for the device."""

from __future__ import annotations

from torch import Tensor


def move_like(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in the dtype and on the device of ``like``. From the CPU to a GPU it does not wait for the GPU.

    A copy from ordinary memory waits until the GPU has finished all queued work. A copy from pinned memory is queued.
    """
    if tensor.device.type == "cpu" and like.device.type == "cuda":
        return tensor.to(like.dtype).pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like)
