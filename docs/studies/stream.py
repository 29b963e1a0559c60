"""Memory of a stream of frames, against its length: a table of docs/chains.md.

    python docs/studies/stream.py

Frames of 3×32×32 numbers from windows of 16 frames that share 8. A window is half of its first frame, and noise: only
the chain is measured. Memory is the peak of the tensors that are alive, with those of the window that is being made.
"""

from __future__ import annotations

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.memory import PeakMemory

WINDOW, OVERLAP, FRAME = 16, 8, (3, 32, 32)


def paint(observation: lp.Observation, generator: torch.Generator) -> Tensor:
    """A window: half of its first frame, and noise."""
    fresh = lp.NormalNoise(generator)(observation.values)
    return observation.replace_known(fresh + observation.values[:, :, :1] / 2, observation.values)


def main() -> None:
    """Print the table."""
    chain = lp.Chain(paint, (WINDOW, None, None), OVERLAP)
    unit = 4 * WINDOW * FRAME[0] * FRAME[1] * FRAME[2]
    print("| frames | canvas, in windows | peak, in windows |\n|---|---|---|")
    for frames in (16, 24, 100, 1_000, 10_000):
        count = 0
        with PeakMemory() as memory:
            shape = (1, FRAME[0], frames, *FRAME[1:])
            for _, strip in chain.stream(shape, generator=torch.Generator().manual_seed(0)):
                count += strip.shape[2]
        assert count == frames
        print(f"| {frames:,} | {frames / WINDOW:g} | {memory.peak / unit:.2f} |", flush=True)


if __name__ == "__main__":
    main()
