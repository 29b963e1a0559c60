"""``lanpaint inpaint``."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from lanpaint.checks import check_whole
from lanpaint.cli.options import (
    FOLDERS,
    CallSettings,
    Device,
    Dtype,
    DynamicsName,
    GuidanceScale,
    InnerSteps,
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
    with_method_flags,
)
from lanpaint.methods import find_method, usual_method
from lanpaint.names import SHIPPED, model_folder
from lanpaint.painting.entries import MANIFESTS
from lanpaint.painting.watch import Progress

_MOST_PAD = 10_000  # pixels at one side; more is a slip


@with_method_flags
def inpaint(
    image: Annotated[
        Path,
        typer.Argument(
            help="Image, 8 bits per channel; GIF or mp4 for a model of videos. A folder of images, or a manifest: .csv "
            "or .jsonl with picture, and where wanted mask, prompt, seed, settings, output in each row."
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Argument(
            help="Mask file: white is repainted. Without a mask, the image's transparent pixels are repainted. For a "
            "video, one mask for all frames, or a GIF or mp4 with a mask for each frame. For a folder, one mask for "
            "all, or a folder with a mask of the same name for each image."
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where the result goes: .png, .webp, .tif or .bmp, with loss .jpg; of a video .png or .webp, with "
            "loss .gif or .mp4. For a folder, the folder of the results; given again, the run goes on.",
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
        typer.Option(
            help="Weight of the prompt at the known part; 0 puts the prompt first [--guidance-scale: the image first].",
            show_default=False,
        ),
    ] = None,
    scheduler: Scheduler = None,
    control_image: Annotated[
        Path | None, typer.Option(help="Picture for a pipeline with a ControlNet.", show_default=False)
    ] = None,
    settings: CallSettings = None,
    pad: Annotated[
        str, typer.Option(help="Pixels to add and paint at the left, top, right and bottom: L,T,R,B.")
    ] = "0,0,0,0",
    feather: Annotated[
        int, typer.Option(min=0, max=1000, help="Width of a soft seam on the known side, in pixels.")
    ] = 0,
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of results: out-1.png, …, with seeds that count up.")
    ] = 1,
    crop: Annotated[
        float | None,
        typer.Option(
            help="Paint the surroundings of the hole alone, this many times its size, at the model's size; for large "
            "pictures.",
            show_default=False,
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Share of the steps in which the hole may change; below 1 it keeps something.")
    ] = 1.0,
    soft_mask: Annotated[
        bool, typer.Option("--soft-mask", help="Grey is how much may change [128 and above of 255 is repainted].")
    ] = False,
    grow: Annotated[int, typer.Option(help="Pixels by which to grow the mask; below 0 it shrinks.")] = 0,
    blur: Annotated[
        float, typer.Option(help="Blur of the mask, a standard deviation in pixels; for --soft-mask.")
    ] = 0.0,
    invert_mask: Annotated[bool, typer.Option("--invert-mask", help="Black is repainted, and white kept.")] = False,
    match_colour: Annotated[
        bool, typer.Option("--match-colour", help="Match the colours of the fill to what surrounds it; for latents.")
    ] = False,
    preview: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Write the picture as it is so far to OUTPUT-preview.png, every N outer steps.",
            show_default=False,
        ),
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", hidden=True, help="Does nothing: every size is kept.")] = False,
    method: PictureMethod = None,
    steps: Steps = 20,
    inner_steps: InnerSteps = None,
    levels: Levels = None,
    dynamics: DynamicsName = None,
    solver: SolverName = None,
    option: Pairs = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "float32",
    offload: Offload = False,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images of one size painted at a time [16; with a pipeline 1].",
            rich_help_panel=FOLDERS,
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Paint the I-th of N parts [all].", rich_help_panel=FOLDERS, show_default=False
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare what is there already by content, and paint anew what differs.",
            rich_help_panel=FOLDERS,
        ),
    ] = False,
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Repaint the masked part of an image, a video or a folder of images; all other pixels stay bit for bit.

    The model is an unconditional pixel-space model, or any text-to-image or text-to-video pipeline of diffusers.
    `lanpaint models` lists the tested pipelines.
    """
    from lanpaint.adapters.diffusers import takes_time_maps
    from lanpaint.cli.pipelines import as_flag, check_sampling, parse_settings
    from lanpaint.given import checked_strength
    from lanpaint.images import FORMATS, check_transparency
    from lanpaint.painting import Settings, Task, open_painter
    from lanpaint.painting.media import VIDEO_OUTPUTS, check_media_output, read_media, write_media
    from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts

    if resize:
        print("note: --resize does nothing any more: a picture of any size is painted and keeps it", file=sys.stderr)
    is_folder = image.is_dir() or image.suffix.lower() in MANIFESTS
    of_folders = {"batch": batch is not None, "shard": shard is not None, "verify": verify}
    _refuse_by_kind(is_folder, {"count": count > 1, "preview": preview is not None}, of_folders)
    outputs = [output] if count == 1 else [output.with_stem(f"{output.stem}-{n + 1}") for n in range(count)]
    previews = [] if preview is None else [path.with_name(f"{path.stem}-preview.png") for path in outputs]
    check_names([*outputs, *previews], {"image": image, "mask": mask, "control image": control_image})
    check_whole("steps", steps, least=1)
    check_whole("--seed of the first result", seed, least=0, most=2**32 - count)
    checked_strength(strength)
    check_finite({"--guidance-scale": guidance_scale, "--known-guidance-scale": known_guidance_scale})
    if not is_folder:
        check_media_output(outputs[0], video=output.suffix.lower() in (".mp4", ".gif"))
    elif output.suffix.lower() in (*FORMATS, *VIDEO_OUTPUTS):
        what = "a folder" if image.is_dir() else "a manifest"
        raise ValueError(f"the image {image} is {what}, whose results go into a folder; {output} names a file")
    padding = padding_of(pad)
    model = model_folder(model)
    pixels = is_pixel_model(pipeline_parts(model))
    chosen = find_method(method or usual_method(pixels and takes_time_maps(model)))
    of_pipelines: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "guidance_scale": guidance_scale,
        "known_guidance_scale": known_guidance_scale,
    }
    if pixels:
        others = {"scheduler": scheduler, "control_image": control_image, "set": settings or None}
        refuse_of_pipelines(
            {**of_pipelines, **others, "offload": offload or None, "match_colour": match_colour or None}
        )
    else:
        check_sampling(chosen, levels)
    texts = given_texts({"inner_steps": inner_steps, **flags}, option)
    chosen.refuse(texts, dynamics)
    options = {name: chosen.options(dynamics)[name].parse(text) for name, text in texts.items()}
    if solver is not None and not pixels:
        chosen.refuse(["solver"])
    of_pipelines.pop("prompt")
    # These raise errors of the user's input, so they come before a large model is loaded.
    asked = Settings(
        method=method, steps=steps, levels=levels, dynamics=dynamics, solver=solver, options=options,
        control_image=control_image, arguments=parse_settings(settings or ()), pad=padding, feather=feather, crop=crop,
        strength=strength, soft=soft_mask, grow=grow, blur=blur, invert=invert_mask, match_colour=match_colour,
        **of_pipelines,
    )  # fmt: skip
    opened = functools.partial(
        open_painter, model, device=find_device(device), dtype=find_dtype(dtype), scheduler=scheduler, offload=offload,
        spelled=as_flag,
    )  # fmt: skip
    if is_folder:
        from lanpaint.cli.folder import inpaint_folder

        inpaint_folder(image, mask, output, opened, prompt, seed, asked, batch, shard, verify, quiet)
        return
    media = read_media(image, mask, pixels, any(padding), soft_mask, asked.edits)
    check_transparency(output, media.keeps_transparency)
    if media.change is None and not any(padding):
        raise ValueError(f"{image} has no transparent pixels; give a mask file (white is repainted)")
    painter = opened(progress=not quiet)
    check_media_output(outputs[0], video=painter.is_video)
    if preview is not None and painter.is_video:
        raise ValueError("--preview: for still images, and this model makes videos; leave it out")
    for number, path in enumerate(outputs):
        task = Task(media, prompt=prompt, seed=seed + number, settings=asked)
        watch = None if preview is None else _writer(previews[number])
        result = painter.paint(task, watch=watch, every=preview or 1)
        write_media(path, result.pictures, result)
        print(f"{path}: {result.repainted:.1%} repainted, {result.evaluations} NFE")


def _writer(path: Path) -> Callable[[Progress], None]:
    """A function that writes the previews of a run to a file."""
    from lanpaint.images import as_image, write_picture

    def write(progress: Progress) -> None:
        if progress.pictures is not None:
            write_picture(path, as_image((progress.pictures[0] * 255).round().to(torch.uint8)))

    return write


def check_names(outputs: list[Path], inputs: dict[str, Path | None]) -> None:
    """Raise ValueError if an output is one of the inputs."""
    for what, path in inputs.items():
        for output in outputs:
            if path is not None and _is_same(output, path):
                raise ValueError(f"the output {output} is the {what} itself; name another")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or has a name that no file can have
        return False


def _refuse_by_kind(is_folder: bool, of_pictures: dict[str, bool], of_folders: dict[str, bool]) -> None:
    for name, given in (of_pictures if is_folder else of_folders).items():
        if given:
            raise ValueError(f"--{name}: only for {'one picture' if is_folder else 'a folder'}; leave it out")


def check_finite(numbers: dict[str, float | None]) -> None:
    """Raise ValueError for a number that is not finite."""
    for flag, number in numbers.items():
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{flag} must be a finite number, got {number}")


def padding_of(text: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels, from the text of ``--pad``."""
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--pad takes four whole numbers, left,top,right,bottom, got {text!r}") from None
    if not 0 <= min(left, top, right, bottom) <= max(left, top, right, bottom) <= _MOST_PAD:
        raise ValueError(f"--pad takes numbers from 0 to {_MOST_PAD:,}, got {text!r}")
    return left, top, right, bottom


def refuse_of_pipelines(options: dict[str, Any]) -> None:
    """Raise ValueError if one of these options, which only pipelines have, was given for a pixel-space model."""
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if flags:
        raise ValueError(
            f"{' and '.join(flags)}: only for pipelines, and this is a pixel-space model; leave it out, or give --model"
        )
