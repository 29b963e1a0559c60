"""Time and memory that LanPaint costs in addition to the network: per step of each dynamics, and inside a pipeline.

``python -m lanpaint.cost`` prints the tables of docs/benchmarks.md. With ``--bridge`` it prints the pipeline tables
only.

Dynamics: time and memory of a step on a state of the size of video latents. The unit of time is one product: two
tensors of the size of the state are multiplied entry by entry into a third tensor. Products are timed between the
steps. Products and steps use memory that is not in the caches. Evaluations of the score and random numbers do not
count: both are prepared in advance.

Pipeline: LanPaint in a Stable Diffusion pipeline whose U-Net has random weights. The time of a whole run, from prompt
embeddings to latents, is divided by the time of the network's forward calls in that run. The same ratio is measured for
the untouched pipeline, with as many steps as the run has network calls. Times are process times on one thread, so that
other jobs do not count. Memory is the peak of live memory without the network, minus the peak of the untouched
pipeline, in units of the latents.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge import bridged
from lanpaint.drift import Drift
from lanpaint.dynamics import HFHR, Dynamics, FastLangevin, Langevin, Preconditioned, Underdamped
from lanpaint.memory import PeakMemory
from lanpaint.observation import Observation
from lanpaint.operators import OperatorCount
from lanpaint.samplers import LanPaint

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


def measure(dynamics: Dynamics, repeats: int = 25) -> tuple[float, float]:
    """Cost of a step of a dynamics, on a state with a mask.

    Returns:
        The median time of a step, in products, and the peak of additional memory, in units of the state.
    """
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
    state = dynamics.step(state, drift, noise)  # the first step at a level may differ from later steps
    ratios = []
    for _ in range(repeats):
        unit = statistics.fmean(seconds(product) for _ in range(8))
        ratios.append(seconds(lambda: dynamics.step(state, drift, noise)) / unit)
    with PeakMemory() as memory:
        kept = dynamics.step(state, drift, lambda like: torch.zeros_like(like))
    del kept
    return statistics.median(ratios), memory.peak / (pool[0].numel() * 4)


class Forward:
    """A context that times the forward calls of a network.

    Attributes:
        seconds: Process time of all forward calls, in seconds.
        calls: Number of forward calls.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.seconds, self.calls = network, 0.0, 0

    def __enter__(self) -> Forward:
        self._hooks = [
            self.network.register_forward_pre_hook(self._start),
            self.network.register_forward_hook(self._stop),
        ]
        return self

    def _start(self, *_: Any) -> None:
        self._began = time.process_time()

    def _stop(self, *_: Any) -> None:
        self.seconds += time.process_time() - self._began
        self.calls += 1

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()


def small_pipeline(width: int = 64, side: int = 32) -> tuple[Any, dict[str, Any]]:
    """A Stable Diffusion pipeline with random weights, and the arguments of a call of it.

    The call has classifier-free guidance, and latents of ``side`` × ``side``. ``width`` is the number of channels of
    the first block of the U-Net.
    """
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=side, block_out_channels=(width, 2 * width), layers_per_block=1, cross_attention_dim=32,
            attention_head_dim=8, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4)  # fmt: skip
    pipe: Any = StableDiffusionPipeline(
        vae, None, None, unet, DPMSolverMultistepScheduler(steps_offset=1), None, None, requires_safety_checker=False
    )
    pipe.unet.eval()
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 1, 8, 32, generator=generator)
    prompt = {"prompt_embeds": embeddings[0], "negative_prompt_embeds": embeddings[1]}
    size = {"height": 2 * side, "width": 2 * side}
    return pipe, {**prompt, **size, "guidance_scale": 5.0, "output_type": "latent"}


def _observation(side: int) -> Observation:
    known = torch.zeros(1, 1, side, side, dtype=torch.bool)
    known[..., side // 4 : side // 2, side // 4 : side // 2] = True
    return Observation(torch.zeros(1, 4, side, side), known)


@dataclass(frozen=True)
class BridgeTime:
    """Time of runs of a sampler inside a pipeline.

    Attributes:
        forward: Time of one network call, in milliseconds.
        calls: Network calls in a run.
        ratio: Time of a run divided by the time of its network calls.
        untouched: ``ratio`` of the pipeline without a sampler, with as many steps as the run has network calls.
    """

    forward: float
    calls: int
    ratio: float
    untouched: float

    @property
    def over_untouched(self) -> float:
        """Time of a run divided by the time of the untouched pipeline, for equal time of the network calls."""
        return self.ratio / self.untouched


def bridge_time(steps: int = 10, inner_steps: int = 5, repeats: int = 3, width: int = 64) -> BridgeTime:
    """Time of LanPaint inside a pipeline: medians over ``repeats`` runs, after one run that fills the caches."""
    pipe, call = small_pipeline(width)
    observation = _observation(call["height"] // 2)

    def run(steps: int, seed: int) -> tuple[Forward, float]:
        with Forward(pipe.unet) as forward:
            start = time.process_time()
            pipe(num_inference_steps=steps, generator=torch.Generator().manual_seed(seed), **call)
            return forward, (time.process_time() - start) / forward.seconds

    runs, untouched = [], []
    for repeat in range(repeats + 1):
        with bridged(pipe, partial(LanPaint, inner_steps=inner_steps), observation):
            runs.append(run(steps, repeat))
        calls = runs[-1][0].calls
        untouched.append(run(calls, repeat)[1])
    forwards = [1000 * forward.seconds / calls for forward, _ in runs[1:]]
    ratios = [ratio for _, ratio in runs[1:]]
    return BridgeTime(statistics.median(forwards), calls, statistics.median(ratios), statistics.median(untouched[1:]))


def bridge_memory(steps: int = 4, inner_steps: int = 5, side: int = 32) -> float:
    """Peak of live memory, without the network, minus the peak of the untouched pipeline, in float32 latents."""
    pipe, call = small_pipeline(8, side)
    pipe.unet.forward = lambda x, *_, **__: (torch.zeros_like(x),)  # memory of the network must not count

    def peak() -> int:
        with PeakMemory() as memory:
            pipe(num_inference_steps=steps, generator=torch.Generator().manual_seed(0), **call)
        return memory.peak

    untouched = peak()
    with bridged(pipe, partial(LanPaint, inner_steps=inner_steps), _observation(side)):
        painted = peak()
    return (painted - untouched) / (4 * 4 * side**2)


def bridge_operators(
    preset: str = "paper", scheduler: str | None = None, steps: int = 10, inner_steps: int = 5
) -> float:
    """Tensor operators per evaluation that a sampler inside a pipeline adds to the untouched pipeline.

    The run has 10 outer steps of 5 inner steps. The untouched pipeline has as many steps as the run has evaluations.
    Operators of the network do not count. All other operators count, also random numbers and arithmetic on single
    numbers.
    """
    import diffusers

    pipe, call = small_pipeline(8, 16)
    if scheduler is not None:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    pipe.unet.forward = lambda x, *_, **__: (torch.zeros_like(x),)

    def operators(steps: int) -> int:
        pipe(num_inference_steps=steps, generator=torch.Generator().manual_seed(0), **call)  # fills the caches
        with OperatorCount() as count:
            pipe(num_inference_steps=steps, generator=torch.Generator().manual_seed(0), **call)
        return count.total

    with bridged(pipe, partial(LanPaint, preset=preset), _observation(16)) as bridge:
        painted = operators(10)
        evaluations = bridge.evaluations
    return (painted - operators(evaluations)) / evaluations


def print_bridge() -> None:
    """Print the tables of a sampler inside a pipeline."""
    print("| U-Net forward | network calls | run / its network calls | untouched pipeline | run / untouched |")
    print("|---|---|---|---|---|")
    for width in (32, 64):
        took = bridge_time(width=width)
        numbers = f"{took.forward:.0f} ms | {took.calls} | {took.ratio:.3f} | {took.untouched:.3f}"
        numbers += f" | {took.over_untouched:.3f}"
        print(f"| {numbers} |", flush=True)
    print("\n| scheduler | tensor operators above the untouched pipeline's, for each evaluation: paper | fast |")
    print("|---|---|---|")
    for scheduler in ("EulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"):
        counts = [bridge_operators(preset, scheduler) for preset in ("paper", "fast")]
        print(f"| {scheduler} | {counts[0]:.1f} | {counts[1]:.1f} |", flush=True)
    print(f"\nMemory beside the untouched pipeline's, in latents: {bridge_memory(side=64):.1f}")


def main() -> None:
    """Print the tables, in a process whose allocator keeps its pages.

    By default the allocator gives pages back to the system, which takes longer than the products that are timed.
    """
    limits = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    if sys.platform == "linux" and not limits.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "lanpaint.cost", *sys.argv[1:]], {**os.environ, **limits})
    torch.set_num_threads(1)
    if "--bridge" in sys.argv[1:]:
        print_bridge()
        return
    print("| dynamics | time of a step, in products | extra memory, in states |\n|---|---|---|", flush=True)
    for name, make in CASES.items():
        duration, memory = measure(make())
        print(f"| {name} | {duration:.1f} | {memory:.1f} |", flush=True)
    print()
    print_bridge()


if __name__ == "__main__":
    main()
