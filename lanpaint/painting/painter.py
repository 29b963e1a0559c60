"""Painters: a model that turns tasks into results. The command line, a folder and a page all drive painters.

.. code-block:: python

    painter = lanpaint.open_painter("emoji-pixel")        # a shipped model, a folder, a hub id, or a pipeline object
    result = painter.paint(lanpaint.Task("photo.png", "mask.png", seed=3, settings={"steps": 10}))
    result.picture.save("painted.png")

    def watch(progress):                                  # after each evaluation, in the thread that paints
        print(progress.done, progress.total)
        if progress.pictures is not None:                 # every few outer steps: (C, H, W) in [0, 1]
            show(progress.pictures[0])
        return not cancelled                              # False cancels: paint raises Cancelled

    painter.paint(task, watch=watch, every=5)

A painter paints one batch at a time. A call from another thread waits for its turn.
"""

from __future__ import annotations

import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lanpaint.checks import check_whole, shown
from lanpaint.methods import usual_method
from lanpaint.painting.media import Media, read_media
from lanpaint.painting.task import Result, Settings, Task
from lanpaint.painting.watch import Watch, Watching

_LIBRARY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Prepared:
    """A task whose pictures are read.

    Attributes:
        task: The task.
        media: Its picture and how much may change, as the model takes them.
        key: Tasks of equal keys may be painted in one batch; None is for a batch of its own.
        notes: What the reader warned of.
    """

    task: Task
    media: Media
    key: Hashable = None
    notes: tuple[str, ...] = ()

    def repainted(self, width: int, height: int) -> float:
        """Share of the pixels that may have changed in a picture of this size: the size with what was padded."""
        change = self.media.change
        known = 1.0 if change is None else float((change == 0).float().mean())
        return 1 - known * self.media.frames[0, 0].numel() / (width * height)


class Painter(ABC):
    """A model that paints tasks. :func:`open_painter` makes one.

    Args:
        name: What errors call the model.
        spelled: How errors spell the name of a setting: ``str`` as it is, the command line as its flags.
        progress: Whether runs show a progress bar on stderr.

    Attributes:
        is_video: Whether the model makes videos.
        most: Tasks in one batch at most.
        usual: Tasks in one batch of a folder where none is asked for.
        usual_method: Name of the method of a task that names none.
    """

    is_video: bool = False
    most: int = 1
    usual: int = 1
    usual_method: str = usual_method(False)

    def __init__(self, name: str, *, spelled: Callable[[str], str] = str, progress: bool = False) -> None:
        self.name, self.spelled, self.progress = name, spelled, progress
        self._turn = threading.RLock()
        self._said: set[str] = set()

    def paint(self, task: Task, *, watch: Watch | None = None, every: int = 5) -> Result:
        """Paint a task.

        Args:
            task: The task.
            watch: Is called as ``watch(progress)`` with a :class:`~lanpaint.Progress` after each evaluation of the
                model, and every few outer steps with a preview. If it returns False, the run is cancelled.
            every: Outer steps between two previews.

        Raises:
            Cancelled: When ``watch`` has returned False.
            TypeError, ValueError: For pictures, masks and settings that are not understood, that do not fit each other
                or that this model does not take.
            lanpaint.DivergenceError: When the state diverged.
        """
        return self.paint_many([task], watch=watch, every=every)[0]

    def paint_many(self, tasks: Sequence[Task], *, watch: Watch | None = None, every: int = 5) -> list[Result]:
        """Paint several tasks, in batches of equal size and settings.

        A result depends on its own task alone: not on the batch, but for the network's rounding errors. All pictures
        are read first, so a task that cannot be read fails before anything is painted.

        Args:
            tasks: The tasks.
            watch: As in :meth:`paint`; ``progress.tasks`` says which tasks are being painted.
            every: As in :meth:`paint`.

        Returns:
            A result for each task, in their order.

        Raises:
            Cancelled, TypeError, ValueError, lanpaint.DivergenceError: As :meth:`paint`, by any one of the tasks.
        """
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(f"a painter paints a lanpaint.Task, got {shown(task)}")
        with self._turn:
            prepared = [self._read(task) for task in tasks]
            results: dict[int, Result] = {}
            for numbers in self._batches(prepared):
                watching = None if watch is None else Watching(watch, every, numbers)
                results |= zip(numbers, self._painted([prepared[n] for n in numbers], watching), strict=True)
            return [results[number] for number in range(len(tasks))]

    def attempt_many(self, tasks: Sequence[Task]) -> list[Result | Exception]:
        """Paint several tasks as :meth:`paint_many`, with an error in the place of the result of each task that fails.

        Where a batch fails, as for want of memory, its halves are painted, and in the end each task alone.
        """
        with self._turn:
            outcomes: dict[int, Result | Exception] = {}
            prepared: list[Prepared | None] = []
            for number, task in enumerate(tasks):
                try:
                    prepared.append(self._read(task))
                except Exception as error:
                    prepared.append(None)
                    outcomes[number] = error
            read = [number for number, one in enumerate(prepared) if one is not None]
            for numbers in self._batches([one for one in prepared if one is not None]):
                outcomes |= self._attempt(tuple(read[n] for n in numbers), prepared)
            return [outcomes[number] for number in range(len(tasks))]

    def _attempt(self, numbers: tuple[int, ...], prepared: Sequence[Prepared | None]) -> dict[int, Result | Exception]:
        failed: Exception
        try:
            batch = [one for n in numbers if (one := prepared[n]) is not None]
            return dict(zip(numbers, self._painted(batch, None), strict=True))
        except Exception as error:
            failed = error.with_traceback(None)  # which would hold the memory of the run
        if is_out_of_memory(failed) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(numbers) == 1:
            return {numbers[0]: failed}
        half = len(numbers) // 2
        return self._attempt(numbers[:half], prepared) | self._attempt(numbers[half:], prepared)

    def _batches(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, ...]]:
        groups: dict[Hashable, list[int]] = {}
        for number, one in enumerate(prepared):
            groups.setdefault(("alone", number) if one.key is None else one.key, []).append(number)
        for numbers in groups.values():
            for first in range(0, len(numbers), self.most):
                yield tuple(numbers[first : first + self.most])

    def _read(self, task: Task) -> Prepared:
        notes: list[str] = []
        with self._noting(notes):
            settings = task.checked.by(self.usual_method)
            task = replace(task, settings=settings)
            self.check(task)
            media = task.picture
            if not isinstance(media, Media):
                media = read_media(
                    task.picture, task.mask, not self.is_video, any(settings.pad), settings.soft, settings.edits
                )
            if media.change is None and not any(settings.pad):
                raise ValueError("there is nothing to paint: give a mask, a picture with transparent pixels, or pad")
            media, key = self.fitted(media, settings)
        return Prepared(task, media, None if key is None else (key, task.prompt), tuple(notes))

    def _painted(self, batch: list[Prepared], watching: Watching | None) -> list[Result]:
        notes: list[str] = []
        with self._noting(notes):
            start = time.perf_counter()
            made, evaluations = self.run(batch, watching)
            seconds = (time.perf_counter() - start) / len(batch)
        return [
            Result(
                tuple(pictures), evaluations, one.task.seed, (*one.notes, *notes), seconds,
                one.repainted(*pictures[0].size), one.media.rate, one.media.durations,
            )
            for one, pictures in zip(batch, made, strict=True)
        ]  # fmt: skip

    @contextmanager
    def _noting(self, notes: list[str]) -> Iterator[None]:
        """Collect the warnings of this library in ``notes``, and give each of them once."""
        caught: list[Any] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                yield
        finally:
            for one in caught:
                text = " ".join(str(one.message).split())
                is_ours = Path(one.filename).is_relative_to(_LIBRARY)
                if is_ours and text not in notes:
                    notes.append(text)
                if not is_ours or text not in self._said:
                    self._said.add(text)
                    warnings.showwarning(one.message, one.category, one.filename, one.lineno, one.file, one.line)

    # What each kind of painter gives

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What results depend on beside their tasks, as JSON has it: the model, its dtype, its scheduler."""

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raise ValueError for a prompt or settings that this model does not take. Nothing is read for that."""

    @abstractmethod
    def fitted(self, media: Media, settings: Settings) -> tuple[Media, Hashable]:
        """The picture as the model takes it, and the key of its batch."""

    @abstractmethod
    def run(self, batch: Sequence[Prepared], watching: Watching | None) -> tuple[list[list[Any]], int]:
        """The painted frames of each task of a batch as PIL images, and the evaluations that were made."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)


def open_painter(
    model: Any = "digits",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    scheduler: str | None = None,
    offload: bool = False,
    most: int | None = None,
    spelled: Callable[[str], str] = str,
    progress: bool = False,
) -> Painter:
    """The painter of a model.

    Args:
        model: The name of a shipped model (digits, emoji-pixel, emoji-flow, emoji-async, emoji-latent, textures), the
            folder of a diffusers pipeline or pixel model, a hub id, a pipeline object, or a
            :class:`~lanpaint.adapters.diffusers.PixelModel`. A painter is returned as it is.
        device: The device that the model runs on; None for the GPU if there is one. A pipeline object stays where it
            is.
        dtype: The dtype of the network.
        scheduler: Name of a scheduler that replaces the pipeline's, see ``lanpaint models``.
        offload: Whether only what is in use is kept on the GPU.
        most: Tasks in one batch at most: by default 64 of a pixel model and 1 of a pipeline, for each needs its memory.
        spelled: As in :class:`Painter`.
        progress: Whether runs show a progress bar on stderr.

    Raises:
        ValueError: For a model that is not found or not understood, for options of pipelines with a pixel model, and
            for ``most`` below 1.
        ImportError: When a package is missing that pipelines need.
    """
    from lanpaint.adapters.diffusers import PixelModel, load_pixel_model
    from lanpaint.names import model_folder
    from lanpaint.painting.pipeline import PipelinePainter, is_pixel_model, load_pipeline, pipeline_parts
    from lanpaint.painting.pixels import PixelPainter

    common: dict[str, Any] = {"spelled": spelled, "progress": progress}
    if most is not None:
        check_whole("most", most, least=1)
        common["most"] = most
    if isinstance(model, Painter):
        return model
    if isinstance(model, PixelModel):
        return PixelPainter(model, **common)
    if not isinstance(model, (str, Path)):
        return PipelinePainter(model, scheduler=scheduler, **common)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    source = model_folder(str(model))
    if is_pixel_model(pipeline_parts(source)):
        for name, value in (("scheduler", scheduler), ("offload", offload or None)):
            if value is not None:
                raise ValueError(f"{spelled(name)}: only for pipelines, and {model} is a pixel-space model")
        return PixelPainter(load_pixel_model(source, device=where, dtype=dtype), source=source, **common)
    pipe = load_pipeline(source, where, dtype, offload, progress, spelled)
    return PipelinePainter(pipe, scheduler=scheduler, source=source, **common)
