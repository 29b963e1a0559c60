"""``lanpaint demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lanpaint.cli.options import Seed

if TYPE_CHECKING:
    from torch import Tensor

    from lanpaint.score import Score

_NEXT = """what to try next:
  lanpaint demo --seed 1            other emoji, other fills
  lanpaint serve                    paint the mask in your browser
  lanpaint inpaint --help           your picture, your mask, your diffusers pipeline
  lanpaint verify fld               what a dynamics gets right, by exact algebra"""


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")] = Path("lanpaint-demo.png"),
    count: Annotated[int, typer.Option(help="Number of held-out digits; the PSNR is a mean over them.")] = 64,
    pictures: Annotated[int, typer.Option(min=1, max=64, help="Number of emoji, or of your own pictures.")] = 6,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder or zip of your own pictures, instead of emoji that the model has drawn."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Inpaint emoji and real held-out digits under the paper's four masks, offline, and draw the result."""
    from lanpaint.demo import MaskResult, digits_score, draw, emoji_pictures, emoji_score, held_out_digits, run
    from lanpaint.images import check_output

    check_output(output, (".png", ".pdf", ".svg", ".jpg"))
    print("digits first, then emoji: about a minute on two cores", flush=True)
    start = time.perf_counter()
    digits = held_out_digits(count)
    given = None if images is None else emoji_pictures(emoji_score(), pictures, images)

    seen: list[MaskResult] = []

    def report(result: MaskResult) -> None:
        cells = [f"{result.psnr[m]:5.2f} dB {result.nfe[m]:4d} NFE {result.seconds[m]:4.1f} s" for m in result.filled]
        print(f"{result.mask:<14}" + "  ".join(cells), flush=True)
        if not seen:
            draw([[result]], output)
            print(f"first picture: {output.resolve()}  ({time.perf_counter() - start:.0f} s)", flush=True)
        seen.append(result)

    def compare(score: Score, truth: Tensor, what: str) -> list[MaskResult]:
        print(f"{what}; PSNR on the hole, mean over {len(truth)}")
        print(f"{'mask':<14}{'Replace':>20}{'LanPaint':>22}")
        return run(score, truth, seed, report)

    on_digits = compare(digits_score(), digits, "held-out handwritten digits of 8×8 pixels")
    colour = emoji_score()
    emoji = emoji_pictures(colour, pictures, seed=seed) if given is None else given
    source = "emoji drawn by the model itself" if images is None else f"pictures from {images}"
    on_emoji = compare(colour, emoji, f"{source}, 32×32 pixels")
    draw([on_emoji, on_digits], output)
    print(f"picture: {output.resolve()}  ({time.perf_counter() - start:.0f} s in all)")
    print(_NEXT)
