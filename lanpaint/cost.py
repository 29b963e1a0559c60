"""What an inner step costs beside the network: time and memory of every dynamics, on a state of latent video size.

``python -m lanpaint.cost`` prints the table of docs/benchmarks.md. The unit of time is one elementwise product of two
tensors of the state's size into a third, timed in between and like the dynamics on memory that the caches do not hold.
Evaluations of the score and random numbers are left out: both are handed over ready-made.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from lanpaint.drift import Drift
from lanpaint.dynamics import HFHR, Dynamics, FastLangevin, Langevin, Preconditioned, Underdamped

SHAPE = (4, 16, 128, 128)
CASES: dict[str, Callable[[], Dynamics]] = {
    "`Langevin()`": Langevin,
    "`FastLangevin(inf, order=1)`, exact OU": lambda: FastLangevin(float("inf"), order=1),
    "`FastLangevin(inf)`, exact OU": lambda: FastLangevin(float("inf")),
    "`FastLangevin(order=1)`": lambda: FastLangevin(order=1),
    "`FastLangevin()`": FastLangevin,
    "`HFHR()`": HFHR,
    '`Underdamped(scheme="BAOAB")`': Underdamped,
    '`Underdamped(scheme="OBABO")`': lambda: Underdamped(scheme="OBABO"),
    '`Underdamped(scheme="UBU")`': lambda: Underdamped(scheme="UBU"),
    "`Preconditioned(FastLangevin(), P)`, P per pixel": lambda: Preconditioned(
        FastLangevin(), torch.linspace(0.5, 1.5, SHAPE[-1])
    ),
}


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside and still alive; ``peak`` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        out = function(*args, **(kwargs or {}))
        given = {id_of(a) for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and id_of(tensor) not in given:
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {key: value for key, value in self.alive.items() if not value[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def id_of(tensor: Tensor) -> int:
    """A number for the memory behind a tensor."""
    return int(tensor.untyped_storage()._cdata)


def measure(dynamics: Dynamics, repeats: int = 25) -> tuple[float, float]:
    """Median time of a step in products, and peak of extra memory in states, for an image with a mask."""
    generator = torch.Generator().manual_seed(0)
    pool = [torch.randn(SHAPE, generator=generator) for _ in range(12)]
    known = torch.rand(SHAPE[-2:], generator=generator) < 0.5
    ready = itertools.cycle(pool)
    drift = Drift(lambda x: pool[0], torch.tensor([1.0, 9.0]) / 0.64, torch.tensor([0.1, 0.1]), known)
    pairs = itertools.cycle(range(len(pool)))

    def noise(like: Tensor) -> Tensor:
        return next(ready)

    def product() -> Tensor:
        i = next(pairs)
        return pool[i] * pool[i - 5]

    def seconds(function: Callable[[], Any]) -> float:
        start = time.perf_counter()
        kept = function()
        elapsed = time.perf_counter() - start
        del kept
        return elapsed

    state = dynamics.init(pool[1], drift, noise)
    state = dynamics.step(state, drift, noise)  # the first one differs
    ratios = []
    for _ in range(repeats):
        unit = statistics.fmean(seconds(product) for _ in range(8))
        ratios.append(seconds(lambda: dynamics.step(state, drift, noise)) / unit)
    with PeakMemory() as memory:
        kept = dynamics.step(state, drift, lambda like: torch.zeros_like(like))
    del kept
    return statistics.median(ratios), memory.peak / (pool[0].numel() * 4)


def main() -> None:
    """Print the table, in a process whose allocator keeps its pages: to hand them back costs more than to add."""
    limits = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    if sys.platform == "linux" and not limits.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "lanpaint.cost"], {**os.environ, **limits})
    torch.set_num_threads(1)
    print("| dynamics | time of a step, in products | extra memory, in states |\n|---|---|---|", flush=True)
    for name, make in CASES.items():
        duration, memory = measure(make())
        print(f"| {name} | {duration:.1f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
