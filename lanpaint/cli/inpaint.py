"""``lanpaint inpaint``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from lanpaint.cli.options import (
    Dynamics,
    ExpectedNoise,
    Friction,
    InnerSteps,
    Lam,
    Levels,
    Preset,
    Quiet,
    Seed,
    Solver,
    Steps,
    StepSize,
    find_device,
    find_dtype,
    quiet_libraries,
)
from lanpaint.names import SHIPPED, model_folder


def inpaint(
    image: Annotated[Path, typer.Argument(help="Image, 8 bits per channel; GIF or mp4 for a model of videos.")],
    mask: Annotated[
        Path | None,
        typer.Argument(
            help="Mask file: white is repainted. Left out: the image's transparent pixels are. For a video one mask, "
            "or a GIF or mp4 of one per frame."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the result goes (.png; videos also .gif and .mp4, with loss).")
    ] = ...,  # type: ignore[assignment]
    model: Annotated[
        str, typer.Option(help=f"{', '.join(SHIPPED)}; a folder of a diffusers pipeline or pixel model, or a hub id.")
    ] = "digits",
    prompt: Annotated[str | None, typer.Option(help="What to paint.", show_default=False)] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What not to paint.", show_default=False)] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Weight of the prompt [the pipeline's].", show_default=False)
    ] = None,
    known_guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="The same for the known part's score; 0 puts the prompt first [--guidance-scale: the image first].",
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Outer step of a pipeline: euler, dpm++, ddim, unipc, … [its own].", show_default=False),
    ] = None,
    control_image: Annotated[
        Path | None, typer.Option(help="Picture for a pipeline with a ControlNet.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other argument of the pipeline; may be repeated."),
    ] = None,
    pad: Annotated[
        str, typer.Option(help="Pixels to add and paint at the left, top, right and bottom: L,T,R,B.")
    ] = "0,0,0,0",
    feather: Annotated[int, typer.Option(min=0, help="Width of a soft seam on the known side, in pixels.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Results: out-1.png, … with seeds that count up.")] = 1,
    resize: Annotated[bool, typer.Option("--resize", help="Resize to the nearest size that the model takes.")] = False,
    steps: Steps = 20,
    inner_steps: InnerSteps = 5,
    lam: Lam = None,
    step_size: StepSize = None,
    friction: Friction = None,
    expected_noise: ExpectedNoise = None,
    preset: Preset = None,
    levels: Levels = None,
    dynamics: Dynamics = None,
    solver: Solver = None,
    seed: Seed = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, … [the GPU if there is one].", show_default=False)
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="What the network computes in: float32, float16 (fp16) or bfloat16 (bf16).")
    ] = "float32",
    offload: Annotated[bool, typer.Option("--offload", help="Keep on the GPU only what is in use.")] = False,
    quiet: Quiet = False,
) -> None:
    """Repaint the masked part of an image or video; the rest stays bit for bit.

    The model is an unconditional pixel-space model, or any text-to-image or text-to-video pipeline of diffusers:
    `lanpaint models` lists those that are tested.
    """
    from lanpaint.cli.media import check_media_output, read_media, write_media
    from lanpaint.cli.pipelines import is_pixel_model, parse_settings, pipeline_parts

    quiet_libraries()
    outputs = [output] if count == 1 else [output.with_stem(f"{output.stem}-{n + 1}") for n in range(count)]
    _check_names(outputs, image, mask)
    check_media_output(outputs[0], video=output.suffix.lower() in (".mp4", ".gif"))
    padding = _padding(pad)
    model = model_folder(model)
    parts = pipeline_parts(model)
    pixels = is_pixel_model(parts)
    sampler: dict[str, Any] = {
        "inner_steps": inner_steps,
        "lam": lam,
        "step_size": step_size,
        "friction": friction,
        "expected_noise": expected_noise,
        "preset": preset,
        "dynamics": dynamics,
    }
    prompts = {"prompt": prompt, "negative_prompt": negative_prompt, "guidance_scale": guidance_scale}
    own = {**prompts, "known_guidance_scale": known_guidance_scale, "scheduler": scheduler}
    given = {**own, "control_image": control_image, "set": settings or None, "offload": offload or None}
    _refuse(given if pixels else {"levels": levels, "solver": solver}, pixels)
    media = read_media(image, mask, still=pixels)
    if media.known is None and not any(padding):
        raise ValueError(f"{image} has no transparent pixels; give a mask file (white is repainted)")
    where, kind = find_device(device), find_dtype(dtype)
    painter: Any
    if pixels:
        from lanpaint.cli.pixel_models import PixelPainter

        painter = PixelPainter(
            model, where, kind, padding, resize, quiet, steps=steps, spacing=levels, solver=solver, **sampler
        )
    else:
        from lanpaint.cli.pipelines import PipelinePainter, load_pipeline

        call = {"num_inference_steps": steps, **prompts, **parse_settings(settings or ())}
        painter = PipelinePainter(
            load_pipeline(model, where, kind, offload, quiet), call, known_guidance_scale=known_guidance_scale,
            scheduler=scheduler, control_image=control_image, pad=padding, resize=resize, quiet=quiet, **sampler,
        )  # fmt: skip
    check_media_output(outputs[0], video=painter.is_video)
    media = painter.fit(media)
    known = torch.ones(()) if media.known is None else media.known
    if bool(known.all()) and not any(padding):
        print("note: nothing is repainted: no pixel of the mask is white (128 or above)", file=sys.stderr)
    for number, path in enumerate(outputs):
        before = painter.evaluations
        frames = painter.paint(media, seed + number, feather)
        write_media(path, frames, media.rate)
        share = 1 - float(known.float().mean()) * media.frames[0, 0].numel() / frames[0, 0].numel()
        print(f"{path}: {share:.1%} repainted, {painter.evaluations - before} NFE")


def _check_names(outputs: list[Path], image: Path, mask: Path | None) -> None:
    for given in (image, mask):
        for output in outputs:
            if given is not None and output.exists() and given.exists() and output.samefile(given):
                what = "image" if given is image else "mask"
                raise ValueError(f"the output {output} is the {what} itself; name another")


def _padding(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--pad takes four whole numbers, left,top,right,bottom, got {text!r}") from None
    if min(left, top, right, bottom) < 0:
        raise ValueError(f"--pad takes numbers of at least 0, got {text!r}")
    return left, top, right, bottom


def _refuse(options: dict[str, Any], pixels: bool) -> None:
    """Raise ValueError for options that this kind of model does not have."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if not given:
        return
    if pixels:
        raise ValueError(
            f"{' and '.join(given)}: for a pipeline, and this is a pixel-space model; leave it out, or give --model"
        )
    raise ValueError(f"{' and '.join(given)}: for a pixel-space model; a pipeline's levels are its --scheduler's")
