"""Sequences with gaps: motion, sensors, any channels over time. What is missing is NaN, and it is completed.

A gap is completed in the window of the model around it, which sees as much before the gap as after it. A gap that is
longer than a window is completed by a :class:`~lanpaint.Chain` of windows, from the side on which something is known.
A sequence shorter than the window is completed as a part of it: what lies outside is unknown, and is thrown away, which
is exact marginalisation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lanpaint.adapters.series import SeriesModel
from lanpaint.callbacks import DivergenceError
from lanpaint.chain import Chain, Order
from lanpaint.checks import check_whole, shown
from lanpaint.fitted import FittedGaussian
from lanpaint.observation import Observation
from lanpaint.randomness import seeded
from lanpaint.samplers import LanPaint, Sampler
from lanpaint.tiling import starts

HALVES = ("first-half", "middle-half", "last-half")
"""Names of the parts that are missing in the three tasks of ALM, Sec. 4.4."""

_MOST_COUNT = 10_000
_BEYOND = 3.0  # times the largest value of the training data; more is a slip in the units

Values = TypeVar("Values", np.ndarray, Tensor)


def mark_missing(values: np.ndarray, parts: Sequence[str], channels: Sequence[str]) -> np.ndarray:
    """The sequences with NaN in the parts that texts name.

    Args:
        values: (T, C), (N, T, C) or (T,); floating point.
        parts: Texts. Each is ``"first-half"``, ``"middle-half"`` or ``"last-half"``; steps ``"A:B"``, from A up to
            B − 1, counted from 0, where A or B may be left out; or the name of a channel, or of all channels whose
            names go on with a dot: the joint ``"Hips"`` is ``"Hips.x"`` and so on.
        channels: Names of the C channels.

    Raises:
        ValueError: For any other text, and steps outside of the sequence.
    """
    steps = values.shape[-2] if values.ndim > 1 else len(values)
    missing = np.zeros((steps, len(channels)), dtype=bool)
    for part in parts:
        named = [n for n, channel in enumerate(channels) if channel == part or channel.startswith(f"{part}.")]
        if named:
            missing[:, named] = True
        else:
            missing[_steps_of(part, steps, channels)] = True
    return np.where(missing if values.ndim > 1 else missing[:, 0], values.dtype.type(np.nan), values)


def _steps_of(part: str, steps: int, channels: Sequence[str]) -> slice:
    half = steps // 2
    begin = {"first-half": 0, "middle-half": steps // 4, "last-half": steps - half}
    if part in begin:
        return slice(begin[part], begin[part] + half)
    first, colon, last = (text.strip() for text in part.partition(":"))
    if not colon or not all(text.isdecimal() for text in (first, last) if text):
        names = ", ".join(dict.fromkeys(channel.rpartition(".")[0] or channel for channel in channels))
        raise ValueError(f"missing {part!r} is none of {', '.join(HALVES)}, steps A:B, or a channel ({names})")
    a, b = int(first or 0), int(last or steps)
    if not 0 <= a < b <= steps:
        raise ValueError(f"missing {part!r} names no steps of a sequence of {steps}; give A:B with 0 ≤ A < B ≤ {steps}")
    return slice(a, b)


def complete_series(
    values: Values,
    model: SeriesModel | FittedGaussian,
    method: Callable[[Any], Sampler] = LanPaint,
    *,
    count: int = 1,
    overlap: int | None = None,
    seed: int = 0,
    batch: int = 64,
    on_window: Callable[[int, int], object] | None = None,
) -> Values:
    """Complete sequences whose missing entries are NaN.

    Args:
        values: Sequences (T, C) or (N, T, C) in the units of the model, floating point; (T,) for a model of one
            channel. NaN marks what is missing. An array of NumPy, or a tensor.
        model: The model, see :func:`load_series_model`; or one that is fitted to what is known,
            ``FittedGaussian(values)``.
        method: A class of samplers, or any function of a score that returns a sampler:
            ``functools.partial(lp.ALM, steps=40)``.
        count: Number of completions of each sequence.
        overlap: Steps that the windows of a long gap share, and steps that are seen beside it; by default a quarter of
            the model's window.
        seed: Completion k of sequence n has the random numbers of the seed ``seed + k N + n``.
        batch: Sequences that are completed at a time.
        on_window: Called after each window with the number of finished windows and of all windows.

    Returns:
        The completions, shape (count, …) with the shape of ``values`` behind, of its kind and dtype. Known entries are
        equal to ``values`` bit for bit.

    Raises:
        TypeError: For values that are neither an array nor a tensor of floating-point numbers.
        ValueError: For a shape that does not fit the model, values that are infinite, all missing or none missing, and
            an overlap that is not below the window.
        DivergenceError: When a completion leaves the range of numbers.

    Warns:
        UserWarning: When known values are far larger than those that the model was trained on.

    Example:
        >>> import numpy as np, lanpaint as lp
        >>> from lanpaint_toys import motion
        >>> model = lp.load_series_model(motion.FOLDER)
        >>> values = np.zeros((100, 6), dtype=np.float32)
        >>> values[40:60] = np.nan
        >>> complete_series(values, model, lambda score: lp.Replace(score, steps=2), count=3).shape
        (3, 100, 6)
    """
    given = _checked(values, model)
    check_whole("count", count, least=1, most=_MOST_COUNT)
    check_whole("batch", batch, least=1)
    overlap = model.length // 4 if overlap is None else overlap
    check_whole("overlap", overlap, least=0)
    if overlap >= model.length:
        raise ValueError(f"the overlap must be below the model's window, got {overlap} of {model.length} steps")
    known = ~torch.isnan(given)  # (N, C, T)
    _warn_of_units(given, model)
    device = next((one.device for one in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    rows = model.units.normalise(given).float().repeat(count, 1, 1)
    mask = known.repeat(count, 1, 1)
    seeds = range(seed, seed + len(rows))
    sections = _sections(known, model.length, overlap)
    parts = [slice(at, at + batch) for at in range(0, len(rows), batch)]
    total = len(parts) * sum(len(starts(b - a, model.length, overlap)) for a, b, *_ in sections)
    sampler, done = method(model), 0
    if not isinstance(sampler, Sampler):
        raise TypeError(f"method must return a sampler, got {shown(sampler)}")

    def shown_window(*_: int) -> None:
        nonlocal done
        done += 1
        if on_window is not None:
            on_window(done, total)

    made = rows.clone()
    for part in parts:
        generators = seeded(seeds[part])
        for a, b, first, last, order in sections:
            inside = slice(max(a, 0), min(b, rows.shape[-1]))
            padding = (inside.start - a, b - inside.stop)
            here = torch.nn.functional.pad(made[part, :, inside], padding, value=torch.nan)
            seen = torch.nn.functional.pad(mask[part, :, inside], padding, value=False)
            chain = Chain(sampler, model.length, overlap, order=order, on_window=shown_window)
            filled = chain(Observation(here.to(device), seen.to(device)), generator=generators).cpu()
            made[part, :, first:last] = filled[..., first - a : last - a]
            mask[part, :, first:last] = True
    restored = model.units.restore(made.double()).unflatten(0, (count, -1)).mT.reshape(count, *values.shape)
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):
            completed = np.where(np.isnan(values), restored.numpy().astype(values.dtype), values)
    else:
        completed = torch.where(torch.isnan(values), restored.to(values), values)
    if not np.isfinite(np.asarray(completed if isinstance(completed, np.ndarray) else completed.cpu())).all():
        raise DivergenceError(
            f"some completed values are beyond the range of {values.dtype}; the model does not suit the data, or take "
            "more steps"
        )
    return completed


def check_channels(values: np.ndarray | Tensor, model: SeriesModel | FittedGaussian) -> None:
    """Raise ValueError unless the shape of sequences fits the model; see :func:`complete_series`."""
    shape = tuple(values.shape)
    if len(shape) == 1 and shape[0] and model.channels == 1:
        return
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"values must have the shape (T, C) or (N, T, C) and not be empty, got {shape}")
    if shape[-1] != model.channels:
        hint = "; the axes seem exchanged: transpose them" if shape[-2] == model.channels else ""
        names = ", ".join(model.units.channels)
        raise ValueError(
            f"the model has {model.channels} channels ({names}), and the data {shape[-1]}"
            f"{hint or '; give data of these channels, or another model (fitted takes any channels)'}"
        )


def _checked(values: Any, model: SeriesModel | FittedGaussian) -> Tensor:
    """The values as (N, C, T) in float64 on the CPU."""
    if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating):
        given = torch.from_numpy(values.astype(np.float64))
    elif isinstance(values, Tensor) and values.is_floating_point():
        given = values.detach().cpu().double()
    else:
        raise TypeError(f"values must be an array or a tensor of floating-point numbers, got {shown(values)}")
    check_channels(given, model)
    if given.ndim == 1:
        given = given[:, None]
    missing = torch.isnan(given)
    if bool(torch.isinf(given).any()):
        raise ValueError(f"{int(torch.isinf(given).sum())} values are infinite; make them NaN if they are missing")
    if bool(missing.flatten(-2).all(-1).any()):
        raise ValueError("all values are missing (NaN); give a sequence in which something is known")
    if not bool(missing.any()):
        raise ValueError("nothing is missing: no value is NaN; make NaN what is to be completed, or name it as missing")
    return (given if given.ndim == 3 else given[None]).mT


def _warn_of_units(given: Tensor, model: SeriesModel | FittedGaussian) -> None:
    for channel, unit, largest, row in zip(
        model.units.channels, model.units.unit, model.units.largest, given.transpose(0, 1).flatten(1), strict=False
    ):
        most = float(row.nan_to_num().abs().max())
        if most > _BEYOND * largest:
            text = f"{channel} has values up to {most:.3g}, and the model was trained on values up to {largest:.3g}"
            warnings.warn(f"{text} {unit}; are the units the same?", stacklevel=3)
            return


def _sections(known: Tensor, length: int, overlap: int) -> list[tuple[int, int, int, int, Order]]:
    """Sections [a, b) of sequences (N, C, T), what is kept of each, [first, last), and its order of windows.

    What is kept is a gap, or several near to each other. A section has ``overlap`` steps on both sides of it, and at
    least ``length`` steps. It lies within the sequence if that is long enough.
    """
    steps = known.shape[-1]
    if steps <= length:
        before = (length - steps) // 2
        return [(-before, length - before, 0, steps, "forward")]
    gaps: list[list[int]] = []
    for step in (~known).flatten(0, 1).any(0).nonzero()[:, 0].tolist():
        # One window sees both gaps, or their sections would overlap.
        if gaps and (step - gaps[-1][0] < length - 2 * overlap or step - gaps[-1][1] < overlap):
            gaps[-1][1] = step + 1
        else:
            gaps.append([step, step + 1])
    found: list[tuple[int, int, int, int, Order]] = []
    for first, last in gaps:
        more = max(length - (last - first + 2 * overlap), 0)
        a, b = first - overlap - more // 2, last + overlap + more - more // 2
        a, b = max(a - max(b - steps, 0), 0), min(b + max(-a, 0), steps)
        found.append((a, b, first, last, "backward" if first == 0 and last < steps else "forward"))
    return found
