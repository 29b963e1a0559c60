"""Measure how much memory tensors take."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class PeakMemory(TorchDispatchMode):
    """A context that measures the memory of the tensors made inside it: ``peak`` is the largest number of bytes alive.

    ``peak`` is exact for up to a thousand tensors. Above that it is exact to 1 %: an exact count would look at all
    tensors after each operator, which takes time quadratic in their number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = 0  # bytes of all tensors in _made, including tensors that are freed already
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and count the tensors that it makes."""
        out = function(*args, **(kwargs or {}))
        inputs = {_id_of(a) for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and _id_of(tensor) not in inputs:
                storage = tensor.untyped_storage()
                _, before = self._made.get(storage._cdata, (None, 0))
                self._made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self._total += storage.nbytes() - before
        if self._total > self.peak * (1 if len(self._made) < 1000 else 1.01):
            self._made = {key: value for key, value in self._made.items() if not value[0].expired()}
            self._total = sum(size for _, size in self._made.values())
            self.peak = max(self.peak, self._total)
        return out


def _id_of(tensor: Tensor) -> int:
    """A number that identifies the memory of a tensor. Views of one tensor have the same number."""
    return int(tensor.untyped_storage()._cdata)
