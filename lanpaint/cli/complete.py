"""``lanpaint complete``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lanpaint.checks import check_whole
from lanpaint.cli.inpaint import check_names
from lanpaint.cli.options import (
    Device,
    Dtype,
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
    progress_bar,
    with_method_flags,
)
from lanpaint.methods import find_method
from lanpaint.names import SEQUENCES, model_folder

_FITTED = "fitted"


@with_method_flags
def complete(
    data: Annotated[
        Path,
        typer.Argument(
            help="Sequence to complete: .csv, or .npy of shape (T, C) or (N, T, C). A row is a step in time and a "
            "column a channel. NaN, or an empty cell, is missing. Or .bvh, the motion of a skeleton."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the result goes: .csv or .npy; of a skeleton .bvh.")
    ] = ...,  # type: ignore[assignment]
    missing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="What is missing besides: first-half, middle-half, last-half, steps A:B, or the name of a channel or "
            "joint; may be repeated.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of a CSV that are the model's channels, in its order: a,b,c. Others are kept as they are "
            "[the columns named as the model's channels, or all].",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(SEQUENCES)}; fitted, a Gaussian process that is fitted to what is known; a folder of a "
            "model of sequences, or a hub id [motion; of a skeleton fitted].",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of results: out-1.csv, …, with seeds that count up.")
    ] = 1,
    overlap: Annotated[
        int | None,
        typer.Option(help="Steps that windows of a long gap share [a quarter of a window].", show_default=False),
    ] = None,
    method: MethodName = "lanpaint",
    steps: Steps = 20,
    levels: Levels = None,
    solver: SolverName = None,
    option: Pairs = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "float32",
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Complete a sequence of any length, such as a motion or a sensor's record; known values stay as they are.

    The model is an unconditional model of sequences. Values are in the model's units.
    """
    from lanpaint.adapters.series import load_series_model
    from lanpaint.fitted import FittedGaussian
    from lanpaint.series import check_channels, complete_series, mark_missing
    from lanpaint.skeletons import ENDING, Skeleton, check_skeleton_output
    from lanpaint.tables import check_table_output

    of_skeleton = data.suffix.lower() == ENDING
    outputs = [output] if count == 1 else [output.with_stem(f"{output.stem}-{n + 1}") for n in range(count)]
    for path in outputs:
        (check_skeleton_output if of_skeleton else check_table_output)(path)
    check_names(outputs, {"data": data})
    check_whole("steps", steps, least=1)
    chosen = find_method(method)
    texts = given_texts(flags, option)
    chosen.refuse(texts)
    options: dict[str, Any] = {name: chosen.options()[name].parse(text) for name, text in texts.items()}
    source = model or (_FITTED if of_skeleton else "motion")
    where: dict[str, Any] = {"device": find_device(device), "dtype": find_dtype(dtype)}
    folder = None if source == _FITTED else model_folder(source, (*SEQUENCES, _FITTED))
    expected = () if folder is None else _named_channels(folder)
    table = None if expected is None else _read(data, columns, expected)  # before the network, which takes longer
    score: Any = None if folder is None else load_series_model(folder, **where)
    if table is None:
        table = _read(data, columns, score.units.channels)
    if score is not None:
        check_channels(table.values, score)  # before parts of it are named
        if isinstance(table, Skeleton):
            table.check_names(score.units.channels)
    channels = table.names or (_numbered(table.values) if score is None else score.units.channels)
    values = mark_missing(table.values, missing or (), channels)
    if score is None:
        score = FittedGaussian(values, channels).to(where["device"])
    with progress_bar("windows", quiet) as told:
        made = complete_series(
            values,
            score,
            lambda each: chosen.sampler(each, steps=steps, spacing=levels, solver=solver, **options),
            count=count,
            overlap=overlap,
            seed=seed,
            on_window=told,
        )
    for path, result in zip(outputs, made, strict=True):
        table.write(path, result, ~np.isnan(values), channels)
        print(f"{path}: {'×'.join(map(str, values.shape))}, {np.isnan(values).mean():.1%} completed")


def _named_channels(folder: str) -> tuple[str, ...] | None:
    """The names of a model's channels; None where the whole model has to be loaded to know them."""
    from lanpaint.units import Units

    try:
        return Units.load(folder).channels
    except ValueError:
        return None


def _read(data: Path, columns: str | None, expected: tuple[str, ...]) -> Any:
    """The sequences in a file, of a model with the expected channels."""
    from lanpaint.skeletons import ENDING, read_skeleton
    from lanpaint.tables import read_table

    if data.suffix.lower() != ENDING:
        return read_table(data, None if columns is None else [name.strip() for name in columns.split(",")], expected)
    if columns is not None:
        raise ValueError(f"--columns: the columns of a CSV have names, and {data} is a BVH file; leave --columns out")
    return read_skeleton(data)


def _numbered(values: np.ndarray) -> tuple[str, ...]:
    """Names for the channels of an array."""
    return tuple(f"channel_{n}" for n in range(values.shape[-1] if values.ndim > 1 else 1))
