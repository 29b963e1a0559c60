"""What a step may cost beside the network, where it does not depend on the machine."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lanpaint as lp
from lanpaint import cost

SHAPE = (2, 3, 16, 16)
FAMILY = {
    "langevin": (lp.Langevin(), 2.2),
    "ou": (lp.FastLangevin(math.inf), 6),
    "fld": (lp.FastLangevin(), 6),
    "hfhr": (lp.HFHR(), 6),
    "baoab": (lp.Underdamped(), 6),
    "obabo": (lp.Underdamped(scheme="OBABO"), 6),
    "ubu": (lp.Underdamped(scheme="UBU"), 6),
}


@pytest.mark.parametrize(("dynamics", "bound"), FAMILY.values(), ids=FAMILY)
def test_a_step_needs_few_tensors_of_the_state_s_size(dynamics, bound, monkeypatch):
    monkeypatch.setattr(cost, "SHAPE", SHAPE)
    _, extra = cost.measure(dynamics, repeats=1)
    assert 1 <= extra <= bound + 0.2  # coefficients are a sixth of an image here


def test_memory_is_counted_while_it_is_alive():
    with cost.PeakMemory() as memory:
        a = torch.ones(100)
        b = a + 1
        del a
        c = b * 2
        c.mul_(3)
        d = c.view(10, 10)
    assert memory.peak == 2 * 400
    assert d.shape == (10, 10)


class _Transcendental(TorchDispatchMode):
    """The largest tensor that exp, sin and their kind have been applied to."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__.rstrip("_")
        if name in ("exp", "expm1", "sqrt", "sin", "cos", "sinh", "cosh", "sinc", "div", "reciprocal", "pow"):
            sizes = [a.numel() for a in args if isinstance(a, torch.Tensor)]
            self.largest = max([self.largest, *sizes])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dynamics", [d for d, _ in FAMILY.values()], ids=FAMILY)
def test_coefficients_are_computed_on_the_level_s_shape(dynamics):
    """Two regions, one level for the batch: two numbers, whatever the size of the state."""
    known = torch.rand(SHAPE[-2:], generator=torch.Generator().manual_seed(0)) < 0.5
    drift = lp.Drift(torch.neg, [1.0, 9.0], [0.1, 0.05], known)
    noise = lp.NormalNoise(torch.Generator().manual_seed(0))
    with _Transcendental() as seen:
        state = dynamics.init(torch.zeros(SHAPE), drift, noise)
        for _ in range(3):
            state = dynamics.step(state, drift, noise)
    assert seen.largest <= 2
