"""Moving tensors to a device without waiting for it."""

from __future__ import annotations

from torch import Tensor


def move_like(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in the dtype and on the device of ``like``; from the CPU to a GPU without waiting for it.

    A copy from ordinary memory waits until all that was queued on the GPU is done. One from pinned memory is queued.
    """
    if tensor.device.type == "cpu" and like.device.type == "cuda":
        return tensor.to(like.dtype).pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like)
