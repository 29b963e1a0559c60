"""Watching a painter: a function that is told of each evaluation, sees previews, and can cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.checks import check_whole, shown
from lanpaint.noise import Prediction
from lanpaint.preview import Preview
from lanpaint.sampler_state import SamplerState
from lanpaint.score import CountedScore, Score

Watch = Callable[["Progress"], Any]


class Cancelled(Exception):  # noqa: N818
    """Raised out of a painter when the function that watches it has returned False."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Evaluations of the model made so far.
        total: Evaluations that the plan of the run declares. A run may make fewer.
        tasks: Numbers of the tasks that are painted in this run, from 0.
        pictures: What the model expects, x̂₀, with the known pixels in it: values in [0, 1], a tensor (C, H, W) for each
            of ``tasks``; of a pipeline a coarse estimate. None except every few outer steps, and for videos.
    """

    done: int
    total: int
    tasks: tuple[int, ...] = (0,)
    pictures: tuple[Tensor, ...] | None = None


class Watching(Callback):
    """Tells a function of the run of a sampler.

    Args:
        watch: Is called as ``watch(progress)`` after each evaluation, and with a preview every few outer steps. The run
            is cancelled if it returns False.
        every: Outer steps between two previews.
        tasks: Numbers of the tasks of the run.

    Raises:
        TypeError: For a ``watch`` that is no function.
        ValueError: For ``every`` below 1.
    """

    def __init__(self, watch: Watch, every: int = 5, tasks: tuple[int, ...] = (0,)) -> None:
        if not callable(watch):
            raise TypeError(f"watch must be a function of a lanpaint.Progress, got {shown(watch)}")
        check_whole("every", every, least=1)
        self.watch, self.every, self.tasks = watch, every, tasks
        self.done = self.total = 0

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Looks up what the run costs."""
        self.done, self.total = 0, sum(visit.evaluations for visit in sampler.plan.visits(state.step))

    def evaluated(self) -> None:
        """Counts an evaluation and tells of it."""
        self.done += 1
        self.tell()

    def tell(self, pictures: tuple[Tensor, ...] | None = None) -> None:
        """Call the function. Raises Cancelled if it returns False."""
        if self.watch(Progress(self.done, max(self.done, self.total), self.tasks, pictures)) is False:
            raise Cancelled("the run was cancelled")

    def preview(self) -> Preview:
        """The callback that shows pictures (n, C, H, W) to the function."""
        return Preview(lambda pictures, step: self.tell(tuple(pictures)), self.every)

    def score(self, score: Score) -> Score:
        """The score, whose evaluations are told."""
        return WatchedScore(score, self.evaluated)


class WatchedScore(CountedScore):
    """A counted score that calls a function after each evaluation.

    Args:
        score: The score.
        told: The function, or None.
    """

    def __init__(self, score: Score, told: Callable[[], None] | None = None) -> None:
        super().__init__(score)
        self.told = told

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The prediction, unchanged."""
        prediction = super().rewrite(prediction)
        if self.told is not None:
            self.told()
        return prediction
