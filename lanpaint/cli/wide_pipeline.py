"""``lanpaint wide`` with a pipeline of diffusers: a picture of several windows, or a film of several."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.chain import Chain
from lanpaint.cli.canvas import Canvas
from lanpaint.observation import Observation
from lanpaint.painting.frames import FrameFolder
from lanpaint.painting.media import Media, check_media_output, write_media
from lanpaint.painting.task import Task
from lanpaint.pipeline_window import PipelineWindow

_RATE = 8.0  # frames per second of a film that is made from nothing


Sides = tuple[int | None, int | None]
"""Window and overlap, in pixels or in frames; None for the model's own."""
Told = Callable[[int, int], object]


def wide_picture(
    painter: Any, task: Task, canvas: Canvas, sides: Sides, order: Any, state: Path | None, told: Told
) -> tuple[Tensor, int]:
    """A canvas completed by a pipeline.

    Args:
        painter: The painter of the pipeline.
        task: The prompt, the seed and the settings.
        canvas: The canvas in colour.
        sides: Window and overlap in pixels; None for what the model was trained on, and for a quarter of that.
        order: As in :class:`~lanpaint.Chain`.
        state: The file of a run that goes on after a kill.
        told: Called after each window.

    Returns:
        The pixels, uint8 (1, 3, height, width), and the evaluations of the model.
    """
    window, overlap = sides
    paint = _window(painter, task, None if window is None else (window, window))
    if paint.frames is not None:
        raise ValueError(f"{painter.name} makes videos; give --frames, or a model of still images")
    shape = (1, *paint.canvas(*canvas.pixels.shape[-2:]))
    shared = min(paint.size) // 4 // paint.factor * paint.factor if overlap is None else overlap
    if shared % paint.factor:
        raise ValueError(f"--overlap must be a multiple of {paint.factor} for this model, got {shared}")
    chain = Chain(paint, paint.over(*paint.size), shared // paint.factor, order=order, on_window=told)
    chain.tiling.parts(shape)  # raises ValueError for a window larger than the canvas, before anything is encoded
    observation = paint.observe(canvas.pixels.float() / 255, canvas.known)
    cells = chain(observation, generator=torch.Generator().manual_seed(task.seed), state=state)
    return as_bytes(chain.decode(cells, paint.decode, paint.factor)), paint.evaluations


def check_film(
    media: Media | None, frames: int | None, size: Sides, padding: Sequence[int], order: str | None, output: Path
) -> None:
    """Raise ValueError for what a film cannot be asked for, before a model is loaded."""
    if any(padding) or order not in (None, "forward"):
        raise ValueError("a film is continued in time: leave --pad and --order out")
    if media is not None and any(size):
        raise ValueError("the frames of a film have the size of what is given; leave --width and --height out")
    if (size[0] is None) != (size[1] is None):
        raise ValueError("give both --width and --height of the frames, or none of the two")
    if media is not None and frames is not None and len(media.frames) > frames:
        raise ValueError(f"the film has {len(media.frames)} frames, more than --frames {frames}; give more")
    if media is not None and _painted_share(media, frames) == 0:
        raise ValueError("there is nothing to paint: give more --frames, or a mask with white in it")
    if output.suffix:
        check_media_output(output, video=True)
    elif output.exists() and not output.is_dir():
        raise ValueError(
            f"cannot write {output}: it is a file; give a folder for the frames, or .mp4, .gif, .png, .webp"
        )


def wide_film(
    painter: Any, task: Task, media: Media | None, size: tuple[int, int] | None, frames: int | None, sides: Sides,
    state: Path | None, output: Path, told: Told,
) -> str:  # fmt: skip
    """A film completed by a pipeline, strip after strip, in the memory of a few windows.

    Args:
        painter: The painter of the pipeline.
        task: The prompt, the seed and the settings.
        media: The frames that the film begins with, and what of them is painted; None for a film from nothing.
        size: (height, width) of a film from nothing; None for what the model was trained on.
        frames: Frames of the film; None for those that are given.
        sides: Window and overlap in frames; None for what the model was trained on, and for half of that.
        state: The file of a run that goes on after a kill. The frames that are finished lie beside it.
        output: A film, or a folder that the frames are written to.
        told: Called after each window.

    Returns:
        What was done, in a line.
    """
    if not painter.is_video:
        raise ValueError(f"{painter.name} makes still images; leave --frames out, or give a model of videos")
    count = frames if frames is not None or media is None else len(media.frames)
    assert count is not None
    window, overlap = sides
    paint = _window(painter, task, size if media is None else media.size, window)
    assert paint.frames is not None
    given = None if media is None else _Given(media, paint)
    height, width = paint.size
    with _folder(output, state, count) as folder:
        chain = Chain(paint, paint.over(), paint.frames // 2 if overlap is None else overlap, on_window=told)
        strips = chain.stream(
            (1, *paint.canvas(height, width, count)), generator=torch.Generator().manual_seed(task.seed), state=state,
            content=None if given is None else given.cells,
        )  # fmt: skip
        for number, (start, strip) in enumerate(strips):
            if number == 0:
                folder.check(start)
            made = as_bytes(_decoded(paint, strip))[0].transpose(0, 1)
            folder.write(start, made if given is None else given.pasted(start, made))
        if output.suffix:
            rate = _RATE if media is None or media.rate is None else media.rate
            write_media(output, folder, Media(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), rate=rate))
    if state is not None:
        state.unlink(missing_ok=True)
    painted = 1.0 if media is None else _painted_share(media, count)
    return f"{output}: {count} frames of {width}×{height}, {painted:.1%} painted, {paint.evaluations} NFE"


def _window(painter: Any, task: Task, size: tuple[int, int] | None, frames: int | None = None) -> PipelineWindow:
    """What paints the windows, without a bar for each."""
    painter.inpainter.pipe.set_progress_bar_config(disable=True)
    window: PipelineWindow = painter.window(task, size, frames)
    return window


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def _decoded(paint: PipelineWindow, strip: Tensor) -> Tensor:
    """The pixels of a strip, which is filled with its last frame to the length of a window."""
    assert paint.frames is not None
    count = strip.shape[2]
    filled = torch.cat([strip, strip[:, :, -1:].expand(-1, -1, paint.frames - count, -1, -1)], dim=2)
    return paint.decode(filled)[:, :, :count]


class _Given:
    """The frames that a film begins with."""

    def __init__(self, media: Media, paint: PipelineWindow) -> None:
        self._known = _known(media)
        self._frames, self._paint = media.frames.expand(-1, 3, -1, -1), paint

    def _cut(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The frames from ``start`` to ``stop`` and what of them is known; none where the film has ended."""
        frames = torch.zeros(stop - start, *self._frames.shape[1:], dtype=torch.uint8)
        known = torch.zeros(stop - start, *self._known.shape[1:], dtype=torch.bool)
        here = self._frames[start:stop]
        frames[: len(here)], known[: len(here)] = here, self._known[start:stop]
        return frames, known

    def cells(self, start: int, stop: int) -> Observation:
        """What is known of a window, as the pipeline encodes it."""
        frames, known = (part.transpose(0, 1)[None] for part in self._cut(start, stop))
        return self._paint.observe(frames.float() / 255, known)

    def pasted(self, start: int, made: Tensor) -> Tensor:
        """The frames (F, C, H, W) with what is known of them."""
        frames, known = self._cut(start, start + len(made))
        return torch.where(known, frames, made)


def _known(media: Media) -> Tensor:
    """Which pixels of the given frames are known, boolean (F, 1, H, W)."""
    change = torch.zeros(1, *media.size) if media.change is None else media.change
    return (change < 0.5)[:, None].expand(len(media.frames), 1, *media.size)


def _painted_share(media: Media, frames: int | None) -> float:
    """Share of the pixels of a film that are painted."""
    known = _known(media)
    return 1 - float(known.sum()) / ((frames or len(known)) * known[0].numel())


@contextmanager
def _folder(output: Path, state: Path | None, count: int) -> Iterator[FrameFolder]:
    """The folder of the finished frames: the output itself, or one that is deleted when the film is written."""
    if not output.suffix:
        yield FrameFolder(output, count)
    elif state is not None:
        folder = FrameFolder(state.with_name(f"{state.name}.frames"), count)
        yield folder
        folder.remove()
    else:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".lanpaint-", dir=output.absolute().parent))
        try:
            yield FrameFolder(made, count)
        finally:
            shutil.rmtree(made, ignore_errors=True)
