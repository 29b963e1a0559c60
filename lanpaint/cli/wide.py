"""``lanpaint wide``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.cli.inpaint import check_finite, check_names, padding_of, refuse_of_pipelines
from lanpaint.cli.options import (
    CallSettings,
    Device,
    Dtype,
    GuidanceScale,
    Levels,
    NegativePrompt,
    Offload,
    Pairs,
    PictureMethod,
    Prompt,
    Quiet,
    Scheduler,
    Seed,
    SolverName,
    Steps,
    find_device,
    find_dtype,
    given_texts,
    progress_bar,
    with_method_flags,
)
from lanpaint.methods import find_method, usual_method
from lanpaint.names import SHIPPED, model_folder

if TYPE_CHECKING:
    from lanpaint.cli.canvas import Canvas

_MOST_PIXELS = 100_000  # along one side, and frames; more is a slip
_ORDERS = ("forward", "backward", "outward", "average")


@with_method_flags
def wide(
    image: Annotated[Path | None, typer.Argument(help="Picture or film to extend; without one, all is made.")] = None,
    mask: Annotated[Path | None, typer.Argument(help="Mask of the picture: white is repainted too.")] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where the result goes: .png, .webp, .tif or .bmp, with loss .jpg; of a film .png or .webp, with loss "
            ".gif or .mp4, or a folder for its frames.",
        ),
    ] = ...,  # type: ignore[assignment]
    model: Annotated[
        str, typer.Option(help=f"{', '.join(SHIPPED)}; a folder of a diffusers pipeline or pixel model, or a hub id.")
    ] = "digits",
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = None,
    guidance_scale: GuidanceScale = None,
    known_guidance_scale: Annotated[
        float | None,
        typer.Option(help="Weight of the prompt at the known part [--guidance-scale].", show_default=False),
    ] = None,
    scheduler: Scheduler = None,
    settings: CallSettings = None,
    width: Annotated[int | None, typer.Option(help="Width of the result [the picture's].", show_default=False)] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the result [the picture's].", show_default=False)
    ] = None,
    pad: Annotated[
        str, typer.Option(help="Pixels to add at the left, top, right and bottom, in place of a size: L,T,R,B.")
    ] = "0,0,0,0",
    frames: Annotated[
        int | None,
        typer.Option(help="Frames of a film, for a model of videos [the film's].", show_default=False),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Side of a window in pixels; of a film, its frames [what the model was trained on].",
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Pixels that neighbours share [a quarter of a window]; of a film, frames [half of a window].",
            show_default=False,
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="forward, backward, outward (from what is known), or average: all windows at once, for pixel models "
            "[outward; of a film forward].",
            show_default=False,
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="File from which a run goes on after a kill; deleted at the end. The frames of a film lie beside it.",
            show_default=False,
        ),
    ] = None,
    method: PictureMethod = None,
    steps: Steps = 20,
    levels: Levels = None,
    solver: SolverName = None,
    option: Pairs = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "float32",
    offload: Offload = False,
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Make or extend a picture or a film that is larger than the model's window, by overlapping windows.

    The model is an unconditional pixel-space model, or a pipeline of diffusers: a text-to-image one, or a text-to-video
    one with a latent frame for each frame. Latents are passed on from window to window. Given pixels stay bit for bit.
    """
    from lanpaint.adapters.diffusers import load_pixel_model, takes_time_maps
    from lanpaint.cli.canvas import Canvas
    from lanpaint.cli.pipelines import as_flag, check_sampling, parse_settings
    from lanpaint.cli.wide_pipeline import check_film, wide_film, wide_picture
    from lanpaint.images import as_image, check_output, write_picture
    from lanpaint.painting import Settings, Task, open_painter
    from lanpaint.painting.media import read_media
    from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts

    check_names([output], {"image": image, "mask": mask, "state": state})
    for name, value in {"--width": width, "--height": height, "--frames": frames, "--window": window}.items():
        if value is not None:
            check_whole(name, value, least=1, most=_MOST_PIXELS)
    check_whole("steps", steps, least=1)
    if order is not None and order not in _ORDERS:
        raise ValueError(f"--order must be one of {', '.join(_ORDERS)}, got {order!r}")
    if order == "average" and state is not None:
        raise ValueError("--state: all windows are painted at once with --order average; leave it out")
    check_finite({"--guidance-scale": guidance_scale, "--known-guidance-scale": known_guidance_scale})
    padding = padding_of(pad)
    source = model_folder(model)
    pixels = is_pixel_model(pipeline_parts(source))
    chosen = find_method(method or usual_method(pixels and takes_time_maps(source)))
    texts = given_texts(flags, option)
    chosen.refuse(texts)
    options: dict[str, Any] = {name: chosen.options()[name].parse(text) for name, text in texts.items()}
    of_prompts: dict[str, Any] = {
        "negative_prompt": negative_prompt, "guidance_scale": guidance_scale,
        "known_guidance_scale": known_guidance_scale,
    }  # fmt: skip
    if pixels:
        others = {"scheduler": scheduler, "set": settings or None, "offload": offload or None, "frames": frames}
        refuse_of_pipelines({"prompt": prompt, **of_prompts, **others})
    else:
        check_sampling(chosen, levels)
        if order == "average":
            raise ValueError("--order average: only for pixel models; a pipeline paints one window at a time")
    media = None if image is None else read_media(image, mask, still=pixels, mask_may_be_empty=True)
    is_film = frames is not None or (media is not None and media.rate is not None)
    canvas = None if is_film else Canvas.laid(media, width, height, padding)
    if is_film:
        check_film(media, frames, (width, height), padding, order, output)
    else:
        check_output(output)
    where: dict[str, Any] = {"device": find_device(device), "dtype": find_dtype(dtype)}
    if pixels:
        assert canvas is not None
        score = load_pixel_model(source, **where)
        sampler = chosen.sampler, {**options, "steps": steps, "spacing": levels, "solver": solver}
        canvas = canvas.of_channels(score.channels)
        made, evaluations = _painted(sampler, score, canvas, (window, overlap), order or "outward", seed, state, quiet)
    else:
        asked = Settings(
            method=chosen.name, steps=steps, solver=solver, options=options, arguments=parse_settings(settings or ()),
            **of_prompts,
        )  # fmt: skip
        task = Task(None, prompt=prompt, seed=seed, settings=asked)
        painter = open_painter(source, scheduler=scheduler, offload=offload, spelled=as_flag, **where)
        with progress_bar("windows", quiet) as told:
            if canvas is None:
                size = None if width is None or height is None else (height, width)
                print(wide_film(painter, task, media, size, frames, (window, overlap), state, output, told))
                return
            canvas = canvas.of_channels(3)
            made, evaluations = wide_picture(painter, task, canvas, (window, overlap), order or "outward", state, told)
    write_picture(output, as_image(torch.where(canvas.known, canvas.pixels, made)[0]))
    if state is not None:
        state.unlink(missing_ok=True)
    print(f"{output}: {made.shape[-1]}×{made.shape[-2]}, {canvas.painted:.1%} painted, {evaluations} NFE")


def _painted(
    sampler: tuple[Any, dict[str, Any]], score: Any, canvas: Canvas, sides: tuple[int | None, int | None], order: Any,
    seed: int, state: Path | None, quiet: bool,
) -> tuple[Tensor, int]:  # fmt: skip
    """A canvas completed by a pixel model.

    Args:
        sampler: Makes the sampler of a score, and its options.
        score: The pixel model.
        canvas: The canvas, in the model's channels.
        sides: Window and overlap in pixels; None for what the model was trained on, and for a quarter of that.
        order: As in :class:`~lanpaint.Chain`, or average.
        seed: Seed of the random numbers.
        state: The file of a run that goes on after a kill.
        quiet: Whether no progress bar is shown.

    Returns:
        The pixels, uint8 (1, C, height, width), and the evaluations of the model, of one window each.
    """
    from lanpaint.chain import Chain
    from lanpaint.images import to_pixels
    from lanpaint.observation import Observation
    from lanpaint.score import CountedScore
    from lanpaint.windowed import WindowedScore

    window, overlap = sides
    side = window or score.sample_size[0] or min(canvas.pixels.shape[-2:])
    if side % score.multiple:
        raise ValueError(f"--window must be a multiple of {score.multiple} for this model, got {side}")
    shared = side // 4 if overlap is None else overlap
    device = next(score.parameters()).device
    observation = Observation((canvas.pixels.float() / 127.5 - 1).to(device), canvas.known.to(device))
    generator = torch.Generator().manual_seed(seed)
    make, options = sampler
    counted = CountedScore(score)
    if order == "average":
        whole = WindowedScore(counted, (side, side), shared)
        whole.tiling.parts(observation.shape)  # raises ValueError for a window larger than the canvas
        made = make(whole, progress=not quiet and sys.stderr is not None, **options)(observation, generator=generator)
        return to_pixels(made).cpu(), counted.rows
    with progress_bar("windows", quiet) as told:
        chain = Chain(make(counted, **options), (side, side), shared, order=order, on_window=told)
        return to_pixels(chain(observation, generator=generator, state=state)).cpu(), counted.rows
