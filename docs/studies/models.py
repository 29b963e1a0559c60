"""What a picture costs with each of the small models: the table of docs/benchmarks.md.

`python docs/studies/models.py` paints the right half of eight pictures with LanPaint, 20 steps of 5 inner steps, on all
cores; time is of the second run, memory the peak of tensors that are made in it, the network's weights not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.masks import MASKS
from lanpaint.memory import PeakMemory
from lanpaint_toys import digits, emoji

COUNT, STEPS, INNER = 8, 20, 5


def pixels(folder: Any) -> tuple[int, str, Callable[[], Any]]:
    """Parameters, size of a picture, and a run of a pixel model."""
    score = load_pixel_model(folder)
    height, width = score.sample_size
    observation = lp.Observation(torch.zeros(COUNT, score.channels, height, width), MASKS["half"](height, width))
    paint = lp.LanPaint(score, steps=STEPS, inner_steps=INNER)
    parameters = sum(p.numel() for p in score.unet.parameters())
    return parameters, f"{height} × {width}", lambda: paint(observation, generator=lp.seeded(range(COUNT)))


def latents(folder: Any) -> tuple[int, str, Callable[[], Any]]:
    """The same of a pipeline, encoding and decoding included."""
    pipe = emoji.load_latent_pipeline(folder)
    inpaint = lp.Inpainter(pipe, inner_steps=INNER)
    height, width = inpaint.layout.size or (0, 0)
    given = torch.full((COUNT, 3, height, width), 0.5), (~MASKS["half"](height, width)).float()
    parameters = sum(p.numel() for part in (pipe.unet, pipe.vqvae) for p in part.parameters())

    def run() -> Any:
        generators = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
        return inpaint(*given, batch_size=COUNT, steps=STEPS, generator=generators, output_type="np")

    return parameters, f"{height} × {width}", run


def main() -> None:
    """Print the table."""
    print(f"{torch.get_num_threads()} threads\n")
    print("| model | pixels | parameters | time a picture | memory a picture |\n|---|---|---|---|---|")
    kinds = {digits.FOLDER: pixels, emoji.PIXEL: pixels, emoji.FLOW: pixels, emoji.LATENT: latents}
    for folder, make in kinds.items():
        parameters, size, run = make(folder)
        run()
        start = time.perf_counter()
        run()
        seconds = (time.perf_counter() - start) / COUNT
        with PeakMemory() as memory:
            run()
        each = memory.peak / COUNT / 2**20
        print(f"| `{folder.name}` | {size} | {parameters / 1e6:.1f} M | {seconds:.2f} s | {each:.1f} MiB |")


if __name__ == "__main__":
    main()
