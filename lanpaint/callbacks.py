"""Callbacks: objects that watch a run, record it, or stop it.

A :class:`Callback` has hooks at the start and the end of the run, of each noise level and of each inner step. A hook
gets the sampler and the present :class:`~lanpaint.SamplerState`. It may return a :class:`Stop`. ``Stop.LEVEL`` ends the
inner steps of the level. It has an effect from the start of the level to the last inner step. ``Stop.RUN`` ends the
run, which then returns the model's best guess x̂₀.

An error in a hook ends the run with that error. Before the run ends, ``on_run_end`` of every callback is called, so
nothing that a callback has written is lost.

A callback that records a run records one run at a time. Do not share it between runs that are stepped by hand at the
same time.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lanpaint.checks import check_real, check_whole, shown
from lanpaint.noise import cast_like, reciprocal
from lanpaint.plan import Plan
from lanpaint.sampler_state import SamplerState


class RunningSampler(Protocol):
    """The attributes of a running sampler that callbacks may use.

    Attributes:
        plan: The plan of the run.
        callbacks: The callbacks, in the order in which they are called.
        remedy: What to do when the state diverges, for the error message.
    """

    @property
    def plan(self) -> Plan: ...  # noqa: D102

    @property
    def callbacks(self) -> Sequence[Callback]: ...  # noqa: D102

    @property
    def remedy(self) -> str: ...  # noqa: D102


class Stop(enum.Enum):
    """What a hook returns to end the inner steps of a level (``LEVEL``) or the run (``RUN``) early."""

    LEVEL = "level"
    RUN = "run"


class DivergenceError(FloatingPointError):
    """Raised when the state of a sampler is no longer finite, or ten thousand times larger than data and noise."""


class Callback:
    """Base class of callbacks. Every hook does nothing; override the hooks that you need."""

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """Before the first level."""

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """After the last level, after a stop, and after an error."""

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """When a level has been entered, before its inner steps."""

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """After the outer step that leaves a level."""

    def on_inner_start(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """Before an inner step."""

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """After an inner step."""


def call_hooks(sampler: RunningSampler, hook: str, state: SamplerState) -> Stop | None:
    """Call a hook of every callback, and return the strongest request to stop: RUN, then LEVEL, then None.

    The hook ``on_run_end`` of every callback is called even if one of them raises, so that every callback can close its
    files. The first error is raised afterwards.
    """
    requests, error = [], None
    for callback in sampler.callbacks:
        try:
            request = getattr(callback, hook)(sampler, state)
        except Exception as raised:
            if hook != "on_run_end":
                raise
            error = error or raised
            continue
        if request is not None and not isinstance(request, Stop):
            name = type(callback).__name__
            raise TypeError(f"{hook} of {name} must return None, Stop.LEVEL or Stop.RUN, got {shown(request)}")
        requests.append(request)
    if error is not None:
        raise error
    return Stop.RUN if Stop.RUN in requests else Stop.LEVEL if Stop.LEVEL in requests else None


class FiniteCheck(Callback):
    """Raises :class:`DivergenceError` as soon as a run has diverged. Every sampler has this callback.

    A run has diverged when an entry of x is not finite, or larger than ten thousand times the scale of the run. The
    scale is the larger of the largest √(α² + σ²) and the largest observed value. (An unstable step multiplies the state
    by a constant each time. In float64 a run would go on for hundreds of steps before it overflows.) A run that passes
    the check has not diverged. Its steps may still be too long to be accurate.

    On the CPU x is checked after each inner step and each outer step. On a GPU a check after each inner step would wait
    for the device, so x is checked after each outer step only.
    """

    _GROWTH = 1e4

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Checks x if it is on the CPU."""
        if state.x.device.type == "cpu":
            self.check(sampler, state)

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Checks x on any device."""
        self.check(sampler, state)

    def check(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Raise :class:`DivergenceError` if the run has diverged at ``state``."""
        bound = self._GROWTH * max(sampler.plan.scale, state.observation.largest)
        if float(torch.linalg.vector_norm(state.x, math.inf)) <= bound:  # False for NaN
            return
        diverged = ~(state.x.abs() <= bound)
        count = int(diverged.reshape(len(diverged), -1).any(1).sum())
        finite = bool(torch.isfinite(state.x).all())
        what = "has grown to ten thousand times the data and the noise" if finite else "is no longer finite"
        remedy = sampler.remedy
        if state.prediction is not None and state.prediction.is_lost:
            remedy = "the model returned NaN or infinite values at a finite state; check its weights, or its dtype"
        where = f"inner step {state.inner} of " if state.kind == "inner" else ""
        raise DivergenceError(
            f"the state {what} after {where}step {state.step + 1} of {sampler.plan.steps}, at {state.level} "
            f"({count} of {len(diverged)} samples): {remedy}"
        )


class ProgressBar(Callback):
    """A progress bar on stderr, with one tick per evaluation of the plan.

    Args:
        description: Text in front of the bar.
    """

    def __init__(self, description: str = "sampling") -> None:
        self.description = description
        self._bar: Any = None

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Opens the bar."""
        from tqdm import tqdm

        visits = list(sampler.plan.visits(state.step))
        self._bar = tqdm(total=sum(visit.evaluations for visit in visits), desc=self.description, leave=False)
        self._visits, self._level_end = iter(visits), 0

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Looks up what the level costs."""
        self._visit = next(self._visits)
        self._level_start, self._level_end = self._level_end, self._level_end + self._visit.evaluations

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Ticks by the evaluations of an inner step."""
        inner = sampler.plan.inner_evaluations
        assert inner is not None
        made = inner[state.step] * state.inner // self._visit.inner_steps
        self._bar.update(self._level_start + made - self._bar.n)

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Ticks to the end of the level, also if its inner steps ended early."""
        self._bar.update(self._level_end - self._bar.n)

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


class TrajectoryRecorder(Callback):
    """Keeps copies of the state on the CPU, within a bound on memory.

    When the next copy would exceed the bound, every second record is dropped, and from then on only every second state
    is recorded. This repeats as often as needed. So the records always cover the whole run evenly. The first and the
    last state are always kept.

    Args:
        inner: Record after inner steps too, not only at starts and ends of levels.
        max_bytes: Bound on the memory of the copies, in bytes. At least two records must fit.

    Attributes:
        records: List of dictionaries with ``kind``, ``step``, ``inner``, ``level``, ``x`` and ``denoised``, as in
            :class:`~lanpaint.SamplerState`; ``x`` and ``denoised`` of shape (B, …) on the CPU.

    Raises:
        ValueError: When ``max_bytes`` is not positive; in a run, when two records do not fit in ``max_bytes``.
    """

    def __init__(self, inner: bool = True, max_bytes: int = 256 * 2**20) -> None:
        check_real("max_bytes", max_bytes)
        if not max_bytes > 0:
            raise ValueError(f"max_bytes must be positive, got {max_bytes}")
        self.inner, self.max_bytes = inner, max_bytes
        self._forget()

    def _forget(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._stride, self._seen = 1, 0
        self._kept: SamplerState | None = None

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Forgets the last run."""
        self._forget()

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Records the state when a level is entered."""
        self._record(state)

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Records the state after an inner step."""
        if self.inner:
            self._record(state)

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Records the state after the outer step."""
        self._record(state)

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Records the last state if it is not recorded yet, which may be the result of a stopped run."""
        if self._kept is not None and self._kept is not state:
            record = self._copy(state)
            if self._bytes(self.records) + self._bytes([record]) > self.max_bytes:
                self.records.pop()
            self.records.append(record)
        self._kept = None

    def _record(self, state: SamplerState) -> None:
        copies = 1 if state.prediction is None else 2
        size = state.x.numel() * state.x.element_size()
        if 2 * copies * size > self.max_bytes:
            raise ValueError(
                f"two records of {copies * size:,} bytes do not fit in max_bytes={self.max_bytes:,}; "
                "raise it or record a smaller batch"
            )
        index, self._seen = self._seen, self._seen + 1
        if index % self._stride:
            return
        while self._bytes(self.records) + copies * size > self.max_bytes:
            self.records = self.records[::2]
            self._stride *= 2
        if index % self._stride == 0:
            self.records.append(self._copy(state))
            self._kept = state

    @staticmethod
    def _bytes(records: list[dict[str, Any]]) -> int:
        tensors = (record[name] for record in records for name in ("x", "denoised"))
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    @staticmethod
    def _copy(state: SamplerState) -> dict[str, Any]:
        denoised = state.denoised
        return {
            "kind": state.kind,
            "step": state.step,
            "inner": state.inner,
            "level": state.level,
            "x": state.x.detach().to("cpu", copy=True),
            "denoised": None if denoised is None else denoised.detach().to("cpu", copy=True),
        }


class EarlyStop(Callback):
    """Ends the inner steps of a level when x̂₀ on the unknown part has stopped changing.

    The change of x̂₀ from one inner step to the next is the root mean square over the unknown entries of the batch. It
    is compared with ``threshold`` times σ/α, the noise in units of the data. All samples of the batch stop together.
    The comparison reads one number from the device per inner step, and waits for it.

    Args:
        threshold: Fraction of σ/α, above 0. x̂₀ counts as settled when it changes by less.
        patience: Number of inner steps in a row in which x̂₀ must be settled.

    Attributes:
        inner_steps: Inner steps made at each level of the last run.

    Raises:
        ValueError: For a threshold that is not positive or a patience below 1.
    """

    def __init__(self, threshold: float = 0.05, patience: int = 2) -> None:
        check_real("threshold", threshold)
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        check_whole("patience", patience, least=1)
        self.threshold, self.patience = threshold, patience
        self.inner_steps: list[int] = []

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Forgets the last run."""
        self.inner_steps = []

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Forgets the last level."""
        self.inner_steps.append(0)
        self._previous: Tensor | None = None
        self._settled = 0

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> Stop | None:
        """Compares x̂₀ with x̂₀ of the last inner step."""
        self.inner_steps[-1] = state.inner
        denoised, previous = state.denoised, self._previous
        self._previous = denoised
        if denoised is None or previous is None:
            return None
        level = state.level.to(denoised)
        change = (denoised - previous) * (level.alpha * reciprocal(level.sigma))
        unknown = ((~state.observation.known) & (level.sigma > 0).to(change.device)).to(change).expand_as(change)
        rms = float(((change**2 * unknown).sum() / unknown.sum().clamp(min=1)).sqrt())
        self._settled = self._settled + 1 if rms < self.threshold else 0
        return Stop.LEVEL if self._settled >= self.patience else None


class LightningLogger(Callback):
    """Writes metrics of a run to any Lightning logger (CSV, TensorBoard, …), one row per inner and outer step.

    The metrics of a row are

    - ``sigma``: σ/√(α² + σ²), mean over the level, from 1 for pure noise to 0 for clean data,
    - ``rms``: root mean square of the state, in units of √(α² + σ²),
    - ``change``: root mean square of the change of x̂₀ since the last row, in units of σ/α,
    - ``outer_step`` and ``inner_step``: numbers of the outer and the inner step.

    Args:
        logger: An object with Lightning's ``log_metrics(metrics, step)`` and ``save()``, for example
            ``lightning.pytorch.loggers.CSVLogger("runs")``. Its ``step`` is the number of the row, from 0.

    Raises:
        TypeError: For an object without ``log_metrics()``.
    """

    def __init__(self, logger: Any) -> None:
        if not callable(getattr(logger, "log_metrics", None)):
            raise TypeError(f"logger must be a Lightning logger with log_metrics(), got {type(logger).__name__}")
        self.logger = logger

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Starts counting rows from 0."""
        self._step = 0
        self._previous: Tensor | None = None

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Logs an inner step."""
        self._log(state)

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Logs an outer step."""
        self._log(state)

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Makes the logger save its rows."""
        if callable(getattr(self.logger, "save", None)):
            self.logger.save()

    def _log(self, state: SamplerState) -> None:
        level, x = state.level, state.x
        norm = (level.alpha**2 + level.sigma**2).sqrt()
        metrics = {
            "outer_step": state.step,
            "inner_step": state.inner,
            "sigma": float((level.sigma / norm).mean()),
            "rms": float((x / norm.to(x)).square().mean().sqrt()),
        }
        denoised = state.denoised
        if denoised is not None and self._previous is not None and metrics["sigma"] > 0:
            ratio = cast_like(level.alpha * reciprocal(level.sigma), denoised)
            metrics["change"] = float(((denoised - self._previous) * ratio).square().mean().sqrt())
        self._previous = denoised
        self.logger.log_metrics(metrics, step=self._step)
        self._step += 1
