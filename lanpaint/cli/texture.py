"""``lanpaint texture``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lanpaint.checks import check_whole
from lanpaint.cli.inpaint import check_names, refuse_of_pipelines
from lanpaint.cli.options import (
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
    progress_bar,
    with_method_flags,
)
from lanpaint.methods import find_method, usual_method
from lanpaint.names import SHIPPED, model_folder

_PIXELS = [name for name in SHIPPED if name != "emoji-latent"]  # a pipeline, without a ControlNet
_SIDE, _SIZE = 768, 1024  # of a view and of the texture (ALM, Appendix B.4)


@with_method_flags
def texture(
    mesh: Annotated[Path, typer.Argument(help="Mesh: .obj, .ply, .stl, .glb, .off, …")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the mesh with its texture goes: .glb.")] = ...,  # type: ignore[assignment]
    model: Annotated[
        str,
        typer.Option(
            help=f"Folder or hub id of a pipeline with a ControlNet for depth; or {', '.join(_PIXELS)}, or a "
            "folder of a pixel model, which do not see the depth."
        ),
    ] = "emoji-pixel",
    controlnet: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a ControlNet for depth, if --model has none.", show_default=False),
    ] = None,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = None,
    guidance_scale: GuidanceScale = None,
    scheduler: Scheduler = None,
    settings: CallSettings = None,
    size: Annotated[
        int | None,
        typer.Option(help=f"Side of the texture [{_SIZE}; a pixel model: twice --side].", show_default=False),
    ] = None,
    latents: Annotated[
        int | None,
        typer.Option(
            help="Hand views on in a texture of latents of this side, 1536 in the paper [as pictures].",
            show_default=False,
        ),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(
            help=f"Side of a view in pixels [{_SIDE}; a pixel model: what it was trained on]. A pixel model paints "
            "larger views by windows.",
            show_default=False,
        ),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AZIMUTH,ELEVATION",
            help="A view, in degrees; may be repeated [eight around at elevation 0, and 0,30 and 180,30].",
        ),
    ] = None,
    up: Annotated[str, typer.Option(help="Axis of the mesh that points upwards: y or z.")] = "y",
    background: Annotated[
        str | None,
        typer.Option(help="Colour beside the mesh, white or #rrggbb [each view paints one].", show_default=False),
    ] = None,
    widest_angle: Annotated[
        float, typer.Option(help="Angle from its normal, in degrees, at which a view still paints the surface.")
    ] = 75.0,
    views: Annotated[
        Path | None,
        typer.Option(help="Folder for the views and the texture as .png.", show_default=False),
    ] = None,
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
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Paint a texture on a mesh, view after view; each view completes what earlier views left.

    A mesh without texture coordinates gets charts. What no view saw takes the nearest colour on the surface.
    """
    from lanpaint.adapters.diffusers import takes_time_maps
    from lanpaint.cli.pipelines import check_sampling, parse_settings
    from lanpaint.images import check_output
    from lanpaint.painting import Settings
    from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts
    from lanpaint.texture import Surface, bake_views, disagreement, paint_surface, read_mesh, write_glb

    check_output(output, (".glb",))
    check_names([output], {"mesh": mesh})
    check_whole("steps", steps, least=1)
    cameras = [_camera(text) for text in camera or ()] or None
    beside = None if background is None else _colour(background)
    model = model_folder(model)
    pixels = is_pixel_model(pipeline_parts(model))
    chosen = find_method(method or usual_method(pixels and takes_time_maps(model)))
    of_pipelines = {"negative_prompt": negative_prompt, "guidance_scale": guidance_scale}
    if pixels:
        others = {"prompt": prompt, **of_pipelines, "controlnet": controlnet, "scheduler": scheduler}
        others |= {"latents": latents}
        refuse_of_pipelines({**others, "set": settings or None, "offload": offload or None})
    else:
        check_sampling(chosen, levels)
        if latents is not None and beside is not None:
            raise ValueError("--background: views of latents have none; leave it out, or leave --latents out")
    texts = given_texts({"inner_steps": inner_steps, **flags}, option)
    chosen.refuse(texts, dynamics)
    if solver is not None and not pixels:
        chosen.refuse(["solver"])
    asked = Settings(
        method=chosen.name, steps=steps, levels=levels, dynamics=dynamics, solver=solver,
        options={name: chosen.options(dynamics)[name].parse(text) for name, text in texts.items()},
        arguments=parse_settings(settings or ()), **of_pipelines,  # type: ignore[arg-type]
    )  # fmt: skip
    found = read_mesh(mesh, up)  # type: ignore[arg-type]
    where, kind = find_device(device), find_dtype(dtype)
    complete: Any
    if pixels:
        complete, channels, trained, evaluations = _of_pixels(model, asked, side, where, kind)
        beside = beside if beside is None or channels == 3 else (sum(beside) / 3,) * channels
        side = trained if side is None else side
    else:
        channels, side = 3, _SIDE if side is None else side
        latent_surface = None if latents is None else Surface(found, latents)
        complete = _of_pipeline(
            model, controlnet, asked, prompt, scheduler, offload, where, kind, quiet, side, latent_surface
        )
        evaluations = lambda: complete.evaluations  # noqa: E731
    surface = Surface(found, (2 * side if pixels else _SIZE) if size is None else size)
    angle: dict[str, Any] = {"widest_angle": widest_angle}
    with progress_bar("views", quiet) as shown:
        common: dict[str, Any] = {"cameras": cameras, "seed": seed, "on_view": shown, **angle}
        if latents is None:
            painted = paint_surface(surface, complete, side=side, channels=channels, background=beside, **common)
            count = painted.painted_views
        else:
            cells = paint_surface(
                complete.surface, complete, side=complete.cells[-1], channels=complete.cells[0], **common
            )
            count = cells.painted_views
            painted = bake_views(surface, cells.cameras, complete.decode(cells.pictures), **angle)
    write_glb(output, found, painted.texture)
    if views is not None:
        _write_views(views, painted)
    apart = disagreement(surface, painted) * 127.5
    seen = float(painted.seen.sum()) / float(surface.chart.sum())
    print(
        f"{output}: {count} of {len(painted.cameras)} views painted, {seen:.1%} of the surface seen, "
        f"views {apart:.1f} of 255 apart, {evaluations()} NFE"
    )


def _of_pixels(
    model: str, asked: Any, side: int | None, device: Any, dtype: Any
) -> tuple[Callable[[Any], Any], int, int, Callable[[], int]]:
    """What completes a view with a pixel model, its channels, the side that it was trained on, and its evaluations."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.score import CountedScore
    from lanpaint.texture import BySampler
    from lanpaint.windowed import WindowedScore

    network = load_pixel_model(model, device=device, dtype=dtype)
    trained = min(size for size in network.sample_size) or side or 64
    side = trained if side is None else side
    check_whole("--side", side, least=1)
    if side < trained or (side == trained and side % network.multiple):
        raise ValueError(f"--side must be at least {trained}, on which the model was trained, got {side}")
    counted = CountedScore(network)
    score = counted if side == trained else WindowedScore(counted, (trained, trained), trained // 4)
    sampler = asked.found_method.sampler(
        score, steps=asked.steps, spacing=asked.levels, dynamics=asked.dynamics, solver=asked.solver, **asked.options
    )
    return BySampler(sampler, device), network.channels, trained, lambda: counted.rows


def _of_pipeline(
    model: str, controlnet: str | None, asked: Any, prompt: str | None, scheduler: str | None, offload: bool,
    device: Any, dtype: Any, quiet: bool, side: int, latents: Any,
) -> Any:  # fmt: skip
    """What completes a view with a pipeline: its picture, or, with a surface of latents, its latents."""
    from lanpaint.cli.pipelines import as_flag
    from lanpaint.painting.pipeline import PipelinePainter, load_pipeline
    from lanpaint.texture import ByLatents, ByPainter

    pipe = load_pipeline(model, device, dtype, offload, not quiet, as_flag, controlnet)
    painter = PipelinePainter(pipe, scheduler=scheduler, source=model, spelled=as_flag, progress=not quiet)
    return ByPainter(painter, prompt, asked) if latents is None else ByLatents(latents, painter, side, prompt, asked)


def _camera(text: str) -> Any:
    from lanpaint.texture import Camera

    try:
        azimuth, elevation = (float(part) for part in text.split(","))
        return Camera(azimuth, elevation)
    except ValueError as error:
        told = str(error) if "must be" in str(error) else "for example 45,30"
        raise ValueError(f"--camera takes AZIMUTH,ELEVATION in degrees, got {text!r}; {told}") from None


def _colour(text: str) -> tuple[float, ...]:
    """A colour as values in [−1, 1]."""
    from PIL import ImageColor

    try:
        return tuple(value / 127.5 - 1 for value in ImageColor.getcolor(text, "RGB"))  # type: ignore[union-attr]
    except ValueError:
        raise ValueError(f"--background takes a colour such as white or #ffcc00, got {text!r}") from None


def _write_views(folder: Path, painted: Any) -> None:
    from lanpaint.images import as_image, to_pixels, write_picture

    write_picture(folder / "texture.png", as_image(to_pixels(painted.texture)))
    for number, picture in enumerate(painted.pictures, 1):
        write_picture(folder / f"view-{number:02}.png", as_image(to_pixels(picture)))
