"""How much memory tensors take."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside and still alive; ``peak`` is the most there were.

    Exact up to a thousand tensors, and to 1 % above that, where looking at all of them after each operator would take
    the square of their number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = 0  # of those in _made, dead ones included
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        out = function(*args, **(kwargs or {}))
        given = {_id_of(a) for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and _id_of(tensor) not in given:
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
    """A number for the memory behind a tensor."""
    return int(tensor.untyped_storage()._cdata)
