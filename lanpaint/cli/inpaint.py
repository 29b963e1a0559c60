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
    Guidance,
    InnerSteps,
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


def inpaint(
    image: Annotated[Path, typer.Argument(help="Image file, 8 bits per channel.")],
    mask: Annotated[
        Path | None, typer.Argument(help="Mask file: white is repainted. Left out: the image's transparent pixels are.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the result goes (.png).")] = ...,  # type: ignore[assignment]
    model: Annotated[str, typer.Option(help="digits, a diffusers folder, or a hub id.")] = "digits",
    steps: Steps = 20,
    inner_steps: InnerSteps = 5,
    guidance: Guidance = None,
    step_size: StepSize = None,
    friction: Friction = None,
    expected_noise: ExpectedNoise = None,
    preset: Preset = None,
    levels: Levels = None,
    dynamics: Dynamics = None,
    solver: Solver = "euler",
    seed: Seed = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, … [the GPU if there is one].", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="What the network computes in: float32, float16, bfloat16.")] = "float32",
    quiet: Quiet = False,
) -> None:
    """Repaint the masked part of an image with an unconditional pixel-space model; the rest stays bit for bit."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.bench import make_sampler
    from lanpaint.images import check_output, read_mask, read_picture, to_pixels, write_picture
    from lanpaint.observation import Observation
    from lanpaint.randomness import seeded
    from lanpaint.score import CountedScore

    quiet_libraries()
    check_output(output)
    for given in (image, mask):
        if given is not None and output.exists() and given.exists() and output.samefile(given):
            raise ValueError(f"the output {output} is the {'image' if given is image else 'mask'} itself; name another")
    picture = read_picture(image)
    known = _known(picture, image, mask, read_mask)
    where = find_device(device)
    options: dict[str, Any] = {
        "guidance": guidance,
        "step_size": step_size,
        "friction": friction,
        "expected_noise": expected_noise,
        "preset": preset,
        "dynamics": dynamics,
        "solver": solver,
    }
    if model == "digits":
        from toy_models.digits import FOLDER

        source: str | Path = FOLDER
    else:
        source = model
    network = load_pixel_model(source, device=where, dtype=find_dtype(dtype))
    network.check_size(*picture.size)
    if picture.size != network.sample_size and all(network.sample_size):
        print(
            f"note: the model was trained on {network.sample_size[1]}×{network.sample_size[0]} images, "
            f"this one is {picture.size[1]}×{picture.size[0]}",
            file=sys.stderr,
        )
    if bool(known.all()):
        print("note: nothing is repainted: no pixel of the mask is white (128 or above)", file=sys.stderr)
    if mask is not None and picture.opaque is not None:
        print("note: the image's transparency is left out of the result", file=sys.stderr)
    picture = picture.with_channels(network.channels)
    score = CountedScore(network)
    sampler = make_sampler(
        "lanpaint",
        score,
        steps=steps,
        inner_steps=inner_steps,
        spacing=levels,
        progress=not quiet and sys.stderr is not None,
        **options,
    )
    observation = Observation(picture.values().to(where), known.to(where))
    x = sampler(observation, generator=seeded([seed]))
    write_picture(output, torch.where(known, picture.pixels, to_pixels(x[0])))
    print(f"{output}: {float((~known).float().mean()):.1%} repainted, {score.evaluations} NFE")


def _known(picture: Any, image: Path, mask: Path | None, read_mask: Any) -> torch.Tensor:
    if mask is None:
        if picture.opaque is None:
            raise ValueError(f"{image} has no transparent pixels; give a mask file (white is repainted)")
        return picture.opaque
    known: torch.Tensor = read_mask(mask)
    if tuple(known.shape) != picture.size:
        raise ValueError(
            f"the mask is {known.shape[1]}×{known.shape[0]} and the image {picture.size[1]}×{picture.size[0]}; "
            "resize the mask to the image"
        )
    return known
