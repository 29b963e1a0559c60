"""``lanpaint demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lanpaint.cli.options import Seed, quiet_libraries


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")] = Path("lanpaint-demo.png"),
    count: Annotated[int, typer.Option(help="Held-out digits that the figures are a mean over.")] = 64,
    seed: Seed = 0,
) -> None:
    """Inpaint real held-out digits under the paper's four masks, offline, and draw the result."""
    from lanpaint.demo import MaskResult, digits_score, draw, held_out_digits, run
    from lanpaint.images import check_output

    quiet_libraries()
    check_output(output, (".png", ".pdf", ".svg", ".jpg"))
    start = time.perf_counter()
    truth, score = held_out_digits(count), digits_score()

    print(f"{len(truth)} held-out handwritten digits of 8×8 pixels; PSNR on the hole, mean over the digits")
    print(f"{'mask':<14}{'Replace':>20}{'LanPaint':>22}")

    def report(result: MaskResult) -> None:
        cells = [f"{result.psnr[m]:5.2f} dB {result.nfe[m]:4d} NFE {result.seconds[m]:4.1f} s" for m in result.filled]
        print(f"{result.mask:<14}" + "  ".join(cells), flush=True)

    results = run(score, truth, seed, report)
    draw(results, output)
    print(f"picture: {output.resolve()}  ({time.perf_counter() - start:.0f} s in all)")
