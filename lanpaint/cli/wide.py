"""``lanpaint wide``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.cli.inpaint import check_names, padding_of, sampling_flag
from lanpaint.cli.options import (
    OWN,
    SAMPLING,
    Device,
    Dtype,
    Pairs,
    Quiet,
    Seed,
    find_device,
    find_dtype,
    given_texts,
    with_method_flags,
)
from lanpaint.methods import METHODS, find_method
from lanpaint.names import SHIPPED, SOLVERS, model_folder
from lanpaint.plan import MOST_STEPS

_MOST_PIXELS = 100_000  # along one side; more is a slip


@with_method_flags
def wide(
    image: Annotated[Path | None, typer.Argument(help="Picture to extend; without one, all is made.")] = None,
    mask: Annotated[Path | None, typer.Argument(help="Mask of the picture: white is repainted too.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the result goes: .png, .webp, .tif or .bmp, with loss .jpg.")
    ] = ...,  # type: ignore[assignment]
    model: Annotated[
        str, typer.Option(help=f"{', '.join(SHIPPED)} (in pixels); a folder of a pixel model, or a hub id.")
    ] = "digits",
    width: Annotated[int | None, typer.Option(help="Width of the result [the picture's].", show_default=False)] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the result [the picture's].", show_default=False)
    ] = None,
    pad: Annotated[
        str, typer.Option(help="Pixels to add at the left, top, right and bottom, in place of a size: L,T,R,B.")
    ] = "0,0,0,0",
    window: Annotated[
        int | None, typer.Option(help="Side of a window in pixels [what the model was trained on].", show_default=False)
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that neighbours share [a quarter of a window].", show_default=False)
    ] = None,
    order: Annotated[
        str, typer.Option(help="forward, backward, outward (from what is known), or average: all windows at once.")
    ] = "outward",
    state: Annotated[
        Path | None,
        typer.Option(help="File from which a run goes on after a kill; deleted at the end.", show_default=False),
    ] = None,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}, or {OWN}.", rich_help_panel=SAMPLING)
    ] = "lanpaint",
    steps: Annotated[int, typer.Option(max=MOST_STEPS, help="Outer steps S.", rich_help_panel=SAMPLING)] = 20,
    levels: Annotated[
        str | None,
        sampling_flag("Spacing of the noise levels: paper, logsnr, karras or focused [paper; fast: focused]."),
    ] = None,
    solver: Annotated[
        str | None, sampling_flag(f"Solver of the outer steps: {', '.join(SOLVERS)}, or {OWN} [euler].")
    ] = None,
    option: Pairs = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "float32",
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Make or extend a picture that is larger than the model's window, by overlapping windows.

    The model is an unconditional pixel-space model. Given pixels stay bit for bit.
    """
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.images import as_image, check_output, to_pixels, write_picture
    from lanpaint.observation import Observation

    check_output(output)
    check_names([output], {"image": image, "mask": mask, "state": state})
    for name, value in {"--width": width, "--height": height}.items():
        if value is not None:
            check_whole(name, value, least=1, most=_MOST_PIXELS)
    orders = ("forward", "backward", "outward", "average")
    if order not in orders:
        raise ValueError(f"--order must be one of {', '.join(orders)}, got {order!r}")
    if order == "average" and state is not None:
        raise ValueError("--state: all windows are painted at once with --order average; leave it out")
    check_whole("steps", steps, least=1)
    padding = padding_of(pad)
    chosen = find_method(method)
    texts = given_texts(flags, option)
    chosen.refuse(texts)
    options: dict[str, Any] = {name: chosen.options()[name].parse(text) for name, text in texts.items()}
    options |= {"steps": steps, "spacing": levels, "solver": solver}
    pixels, change = _picture(image, mask)
    where = _sides(None if pixels is None else (pixels.shape[-2], pixels.shape[-1]), width, height, padding)
    score = load_pixel_model(model_folder(model), device=find_device(device), dtype=find_dtype(dtype))
    side = score.sample_size[0] or min(where[:2]) if window is None else window
    check_whole("--window", side, least=1)
    if side % score.multiple:
        raise ValueError(f"--window must be a multiple of {score.multiple} for this model, got {side}")
    shared = side // 4 if overlap is None else overlap
    canvas, known = _canvas(pixels, change, where, score.channels)
    if bool(known.all()):
        raise ValueError("there is nothing to paint: give --width, --height or --pad, or a mask with white in it")
    observation = Observation((canvas.float() / 127.5 - 1).to(find_device(device)), known.to(find_device(device)))
    generator = torch.Generator().manual_seed(seed)
    made, evaluations = _painted(chosen, score, options, observation, side, shared, order, generator, state, quiet)
    result = torch.where(known, canvas, to_pixels(made).cpu())[0]
    write_picture(output, as_image(result))
    if state is not None:
        state.unlink(missing_ok=True)
    print(f"{output}: {where[1]}×{where[0]}, {float((~known).float().mean()):.1%} painted, {evaluations} NFE")


def _painted(
    chosen: Any, score: Any, options: dict[str, Any], observation: Any, side: int, shared: int,
    order: Literal["forward", "backward", "outward"] | str, generator: torch.Generator, state: Path | None, quiet: bool,
) -> tuple[Tensor, int]:  # fmt: skip
    """The canvas in [−1, 1], and the evaluations of the model, of one window each."""
    from tqdm.auto import tqdm

    from lanpaint.chain import Chain
    from lanpaint.score import CountedScore
    from lanpaint.windowed import WindowedScore

    counted = CountedScore(score)
    progress = not quiet and sys.stderr is not None
    if order == "average":
        canvas = WindowedScore(counted, (side, side), shared)
        canvas.tiling.parts(observation.shape)
        return chosen.sampler(canvas, progress=progress, **options)(observation, generator=generator), counted.rows
    sampler = chosen.sampler(counted, **options)
    with tqdm(desc="windows", disable=not progress) as bar:

        def shown(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        chain = Chain(sampler, (side, side), shared, order=order, on_window=shown)  # type: ignore[arg-type]
        return chain(observation, generator=generator, state=state), counted.rows


def _picture(image: Path | None, mask: Path | None) -> tuple[Tensor | None, Tensor | None]:
    """The pixels (C, H, W), uint8, and which of them are painted, boolean (H, W)."""
    from lanpaint.painting.media import read_media

    if image is None:
        return None, None
    media = read_media(image, mask, still=True, mask_may_be_empty=True)
    return media.frames[0], None if media.change is None else media.change[0] >= 0.5


def _sides(
    size: tuple[int, int] | None, width: int | None, height: int | None, padding: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Height and width of the canvas, and where the picture's top and left lie on it."""
    left, top, right, bottom = padding
    if size is None:
        if any(padding) or width is None or height is None:
            raise ValueError("without a picture, give --width and --height, and no --pad")
        return height, width, 0, 0
    if any(padding) and (width is not None or height is not None):
        raise ValueError("--pad or --width and --height say how large the result is; give one of the two")
    tall, broad = (
        (size[0] + top + bottom) if height is None else height,
        (size[1] + left + right) if width is None else width,
    )
    if tall < size[0] or broad < size[1]:
        raise ValueError(f"the picture is {size[1]}×{size[0]}, larger than the result of {broad}×{tall}; give more")
    return tall, broad, top, left


def _canvas(
    pixels: Tensor | None, change: Tensor | None, where: tuple[int, int, int, int], channels: int
) -> tuple[Tensor, Tensor]:
    """The canvas with the picture in its place, uint8 (1, C, H, W), and what is known of it, (1, 1, H, W)."""
    from lanpaint.images import Picture

    height, width, top, left = where
    canvas, known = torch.zeros(1, channels, height, width, dtype=torch.uint8), torch.zeros(1, 1, height, width).bool()
    if pixels is not None:
        pixels = Picture(pixels).with_channels(channels).pixels
        at = (..., slice(top, top + pixels.shape[-2]), slice(left, left + pixels.shape[-1]))
        canvas[at] = pixels
        known[at] = True if change is None else ~change
    return canvas, known
