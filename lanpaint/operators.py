"""How many operators a computation runs, and which operators wait for the device.

A program puts operators into the queue of a GPU and runs ahead of it. An operator that reads a number from the GPU, or
copies to the GPU from memory that is not pinned, stops the program until the queue is empty.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators that read their result, or the shape of their result, from the device.
_READS = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2", "item", "bincount")
_COPIES = ("_to_copy", "copy_")


class OperatorCount(TorchDispatchMode):
    """A context that counts the operators that run in it, and lists the operators that wait for the device.

    An operator waits if it

    - reads numbers of a tensor on a device (``float(x)``, ``bool(x)``, ``torch.equal``),
    - copies between the CPU and a device, unless it copies from pinned memory with ``non_blocking=True``,
    - is a ``torch.where`` of tensors on a device and a 0-d CPU tensor, which it copies to the device. (Arithmetic
      passes a 0-d CPU tensor to the device as a number, without waiting.)

    On the CPU nothing waits, so ``waits`` stays empty there.

    Attributes:
        counts: Name of an operator, such as ``aten.mul.Tensor`` → how often it ran.
        waits: The operators that waited, in order, each with the reason.

    Example:
        >>> import torch
        >>> from lanpaint.operators import OperatorCount
        >>> with OperatorCount() as count:
        ...     x = torch.ones(3) * 2
        >>> count.total, count.waits
        (2, [])
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.waits: list[str] = []
        self._pinned: list[StorageWeakRef] = []

    @property
    def total(self) -> int:
        """Operators so far."""
        return sum(self.counts.values())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        self.counts[str(function)] += 1
        reason = self._why_it_waits(name, args, kwargs)
        if reason:
            self.waits.append(f"{function}: {reason}")
        out = function(*args, **kwargs)
        if isinstance(out, Tensor) and (name == "_pin_memory" or kwargs.get("pin_memory")):
            self._pinned = [storage for storage in self._pinned if not storage.expired()]
            self._pinned.append(StorageWeakRef(out.untyped_storage()))
        return out

    def _why_it_waits(self, name: str, args: Any, kwargs: Any) -> str | None:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_cpu = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        on_device = len(on_cpu) < len(tensors)
        if name in _READS and on_device:
            return "reads the device"
        if name in _COPIES:
            source = tensors[-1]
            here, there = source.device, torch.device(kwargs.get("device") or tensors[0].device)
            # A non-blocking copy to the CPU counts as one that waits, because its numbers are of no use before.
            if here.type != there.type and not (
                there.type != "cpu" and (kwargs.get("non_blocking") or args[2:3] == (True,)) and self._is_pinned(source)
            ):
                return f"copies {tuple(source.shape)} from {here.type} to {there.type}"
        if name == "where" and on_device and on_cpu:
            return "copies an operand of no dimensions to the device"
        return None

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.is_pinned() or StorageWeakRef(tensor.untyped_storage()) in self._pinned
