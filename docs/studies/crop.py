"""What a large photo costs with ``crop``: the time of a 2,048² picture with a small hole over that of its window alone.

    python docs/studies/crop.py

A small Stable Diffusion with random weights, whose evaluation takes about a fifth of a second on one core. Both runs
paint 128 × 128 pixels. The best of three runs counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import lanpaint as lp
from lanpaint.cost import small_pipeline


def best(run: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest time of a run in seconds, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print."""
    pipe, call = small_pipeline(64, 64)
    pipe.set_progress_bar_config(disable=True)
    inpaint = lp.Inpainter(pipe, inner_steps=2)
    side = inpaint.layout.native_side
    options = {"steps": 10, "output_type": "pt"}
    options |= {name: value for name, value in call.items() if name not in ("height", "width", "output_type")}
    photo, hole = torch.rand(3, 2048, 2048), torch.zeros(2048, 2048)
    hole[1000:1100, 1000:1100] = 1
    window, middle = torch.rand(3, side, side), torch.zeros(side, side)
    middle[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    whole = best(lambda: inpaint(photo, hole, crop=2, **options))
    alone = best(lambda: inpaint(window, middle, **options))
    print(f"2,048² with crop=2: {whole:.1f} s; its window alone, {side}²: {alone:.1f} s; ratio {whole / alone:.2f}")


if __name__ == "__main__":
    main()
