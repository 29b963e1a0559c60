"""``lanpaint restore``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.cli.inpaint import check_names
from lanpaint.cli.options import (
    Device,
    Dtype,
    DynamicsName,
    InnerSteps,
    Levels,
    MethodName,
    Pairs,
    Quiet,
    Seed,
    SolverName,
    Steps,
    find_device,
    find_dtype,
    given_texts,
    with_method_flags,
)
from lanpaint.degradations import OPERATORS, PICTURES
from lanpaint.images import Picture, as_image, check_output, read_picture, to_pixels, write_picture
from lanpaint.linear import LinearOperator
from lanpaint.methods import find_method
from lanpaint.names import SHIPPED, model_folder


@with_method_flags
def restore(
    image: Annotated[
        Path,
        typer.Argument(
            help="What was measured, as a picture of 8 bits per channel: a small picture for pool2 and pool4, a grey "
            "one for grey, a blurred one for blur, the red channel as a grey picture for red."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where the result goes: .png, .webp, .tif or .bmp, with loss .jpg.",
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]
    operator: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(PICTURES)}: means of 2 × 2 or 4 × 4 pixels, luma, a Gaussian blur of 1.5 pixels with "
            "periodic edges, the red channel.",
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]
    model: Annotated[
        str, typer.Option(help=f"{', '.join(SHIPPED)}; a folder of a pixel model, or a hub id. No latents.")
    ] = "digits",
    noise: Annotated[
        float,
        typer.Option(help="Standard deviation of the picture's noise, for values in [−1, 1]."),
    ] = 0.0,
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of results: out-1.png, …, with seeds that count up.")
    ] = 1,
    method: MethodName = "lanpaint",
    steps: Steps = 20,
    inner_steps: InnerSteps = None,
    levels: Levels = None,
    dynamics: DynamicsName = None,
    solver: SolverName = None,
    option: Pairs = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "float32",
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Restore a picture from what is left of it: resolution, colours, sharpness or channels.

    The result is a sample given the measurement. Measured again, it gives the measurement, up to rounding and to
    colours that a picture cannot show.
    """
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts
    from lanpaint.randomness import seeded
    from lanpaint.score import CountedScore

    outputs = [output] if count == 1 else [output.with_stem(f"{output.stem}-{n + 1}") for n in range(count)]
    check_names(outputs, {"image": image})
    for path in outputs:
        check_output(path)
    if operator not in PICTURES:
        raise ValueError(f"unknown operator {operator!r}; expected one of {', '.join(PICTURES)}")
    check_whole("steps", steps, least=1)
    check_whole("--seed of the first result", seed, least=0, most=2**32 - count)
    noise = check_between("--noise", noise, 0, 1)
    chosen = find_method(method)
    texts = given_texts({"inner_steps": inner_steps, **flags}, option)
    chosen.refuse(texts, dynamics)
    options: dict[str, Any] = {name: chosen.options(dynamics)[name].parse(text) for name, text in texts.items()}
    picture = read_picture(image)
    if picture.opaque is not None:
        raise ValueError(f"{image} has transparent pixels, and all of a measurement is known; flatten it first")
    folder = model_folder(model)
    if not is_pixel_model(pipeline_parts(folder)):
        raise ValueError(f"{model} is a pipeline, and an operator is one of pixels; give a pixel-space --model")
    network = load_pixel_model(folder, device=find_device(device), dtype=find_dtype(dtype))
    degradation = _operator_of(operator, (network.channels, *network.sample_size), model)
    values = _measurement(image, picture, operator, degradation).to(find_device(device))
    score = CountedScore(network)
    sampler = chosen.sampler(
        degradation.rotated(score), steps=steps, spacing=levels, dynamics=dynamics, solver=solver,
        progress=not quiet and sys.stderr is not None, **options,
    )  # fmt: skip
    observation = degradation.observe(values, noise=noise)
    for number, path in enumerate(outputs):
        before = score.evaluations
        x = degradation.unrotate(sampler(observation, generator=seeded([seed + number])))
        pixels = to_pixels(x)[0]
        away = (degradation(Picture(pixels).values()) - values.cpu()).abs().max() * 127.5
        write_picture(path, picture.origin.given_back(as_image(pixels)))
        open_part = 1 - float(degradation.known.double().mean())
        print(
            f"{path}: {open_part:.1%} restored, {score.evaluations - before} NFE; measured again it differs by at most "
            f"{float(away):.1f} of 255"
        )


def _operator_of(name: str, shape: tuple[int, int, int], model: str) -> LinearOperator:
    """The operator for pictures of a model. Raises ValueError where it does not suit them."""
    if not all(shape[1:]):
        raise ValueError(f"{model} does not say for what size of pictures it was trained; give another --model")
    try:
        made = OPERATORS[name](shape)
    except ValueError as error:
        raise ValueError(f"the operator {name} does not suit {model}: {error}") from error
    if bool(made.known.all()):
        raise ValueError(
            f"the operator {name} does not suit {model}: it takes nothing from pictures of {shape[0]} channel"
        )
    return made


def _measurement(path: Path, picture: Picture, name: str, operator: LinearOperator) -> Tensor:
    """What was measured, in [−1, 1]. Raises ValueError for a picture of another size, or of too many colours."""
    _, channels, height, width = operator(torch.zeros(1, *operator.shape)).shape
    if picture.size != (height, width):
        raise ValueError(
            f"{path} is {picture.size[1]}×{picture.size[0]}, and {name} makes pictures of {width}×{height} of the "
            f"model's {operator.shape[2]}×{operator.shape[1]}; give a picture of {width}×{height}"
        )
    if channels == 1 and bool((picture.pixels != picture.pixels[:1]).any()):
        raise ValueError(f"{path} has colours, and {name} makes grey pictures of the model's; convert it to grey first")
    return picture.with_channels(channels).values()
