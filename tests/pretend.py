"""A GPU that is not there: tensors that say they are on one and compute on the CPU.

Under :class:`PretendDevice` a tensor that is made on ``"cuda"``, or computed from one, reports that device. Operators
refuse what a GPU refuses: operands on two devices, but for those of no dimensions on the CPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

torch._C._ensureCUDADeviceGuardSet()
_COPIES = ("_to_copy", "copy_", "_pin_memory", "is_pinned")


class Elsewhere(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, numbers):
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), dtype=numbers.dtype, device="cuda:0"
        )
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} on a tensor of PretendDevice outside of it")


class PretendDevice(TorchDispatchMode):
    """Computes what is on ``"cuda"`` on the CPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, Elsewhere) for tensor in tensors)
        if there and name not in _COPIES:
            for tensor in tensors:
                if not isinstance(tensor, Elsewhere) and tensor.ndim:
                    raise RuntimeError(
                        f"{function}: operands on two devices, one of shape {tuple(tensor.shape)} on cpu"
                    )
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        if name == "is_pinned":
            return False
        args, kwargs = tree_map(lambda a: a.numbers if isinstance(a, Elsewhere) else a, (args, kwargs))
        out = args[0].clone() if name == "_pin_memory" else function(*args, **kwargs)
        if name.endswith("_") and there:  # in place: the tensor that was given
            return tensors[0]
        return tree_map(lambda o: Elsewhere(o) if there and isinstance(o, torch.Tensor) else o, out)


class ReadyNoise:
    """Standard normal numbers on the device that take no operators."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, like):
        with _disable_current_modes():
            return Elsewhere(torch.randn(like.shape, generator=self.generator, dtype=like.dtype))
