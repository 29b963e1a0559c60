"""What a time for each pixel costs: a forward pass of `TimeMapUNet` over that of the ordinary network, in one run.

`python docs/studies/async_cost.py [ROUNDS]` alternates the two, and prints the ratio of the least times of each. The
first call of a network makes its table of scales and shifts; its time stands apart.
"""

from __future__ import annotations

import sys
import time

import torch

from lanpaint.adapters.time_map import TimeMapUNet
from lanpaint_toys.asynchronous import holes
from lanpaint_toys.emoji import FLOW, load_unet
from lanpaint_toys.times import TIMES

KINDS = ("asyncpatch", "patchwise", "perlin", "path", "independent")


@torch.no_grad()
def seconds(network: torch.nn.Module, x: torch.Tensor, times: torch.Tensor) -> float:
    """Seconds of the processor for one call."""
    begun = time.process_time()
    network(x, times)
    return time.process_time() - begun


def main(rounds: int = 15) -> None:
    """Print the table."""
    unet = load_unet(FLOW)
    network = TimeMapUNet.from_unet(unet)
    x = torch.randn(1, 3, 32, 32)
    first = min(seconds(TimeMapUNet.from_unet(unet), x, torch.zeros(1, 1, 32, 32)) for _ in range(3))
    print(f"the first call for one picture: {1000 * first:.0f} ms\n")
    print("| pictures | map | ordinary, ms | with a map, ms | ratio |\n|---|---|---|---|---|")
    for batch in (1, 8):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, 3, 32, 32, generator=generator)
        maps = {
            "constant": torch.full((batch, 1, 32, 32), 437.0),
            "inpainting": 437.0 * holes((32, 32))[4].expand(batch, 1, 32, 32).contiguous(),
            **{name: 1000 * TIMES[name].draw(batch, (32, 32), generator) for name in KINDS},
        }
        one = torch.full((batch,), 437.0)
        for name, times in maps.items():
            both = [(seconds(unet, x, one), seconds(network, x, times)) for _ in range(rounds)]
            ordinary, mapped = (1000 * min(each) for each in zip(*both, strict=True))
            print(f"| {batch} | {name} | {ordinary:.1f} | {mapped:.1f} | {mapped / ordinary:.2f} |", flush=True)


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:2]))
