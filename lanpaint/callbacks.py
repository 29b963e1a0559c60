"""Callbacks: look at a run, record it, stop it.

A :class:`Callback` has a hook at the start and end of the run, of a noise level and of an inner step. Each is given the
sampler and a :class:`Moment`, a read-only view of where the run stands. A hook may return a :class:`Stop` to end the
inner loop of the level (from the start of the level on; elsewhere there is none to end) or the whole run; a run that is
stopped returns the model's best guess x̂₀ so far. A hook that raises ends the run with its error, after ``on_run_end``
of every callback has been called, so nothing that a callback has written is lost. A callback that keeps figures of a
run keeps those of one: do not share it between runs that are stepped by hand at the same time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics import State
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation

if TYPE_CHECKING:
    from lanpaint.samplers.base import Sampler


class Stop(enum.Enum):
    """What a hook returns to end something early."""

    LEVEL = "level"
    RUN = "run"


class DivergenceError(FloatingPointError):
    """The state of a sampler is no longer finite, or ten thousand times larger than data and noise."""


@dataclass(frozen=True)
class Moment:
    """Where a run stands. Tensors are the run's own: look, do not write.

    Attributes:
        kind: ``"start"`` of a level, ``"inner"`` before and after an inner step, ``"outer"`` after the step to the next
            level and for the result of a run that was stopped.
        step: Outer step, from 0.
        inner: Inner steps made at this level.
        level: Noise level of ``x``; after an outer step, the level that was reached.
        x: State, shape (B, …).
        observation: What is known.
        prediction: The last evaluation of the model, or None before the first.
        drift: The drift of the inner steps, or None when there are none.
        state: State of the dynamics, or None outside the inner steps.
    """

    kind: Literal["start", "inner", "outer"]
    step: int
    inner: int
    level: NoiseLevel
    x: Tensor
    observation: Observation
    prediction: Prediction | None = None
    drift: Drift | None = None
    state: State | None = None

    @property
    def denoised(self) -> Tensor | None:
        """x̂₀ of the last evaluation, shape of x; costs no evaluation, and nothing when it is not asked for."""
        return None if self.prediction is None else self.prediction.denoised

    @property
    def momentum(self) -> Tensor | None:
        """Momentum of the dynamics, shape of x, where it has one."""
        return getattr(self.state, "momentum", None)


class Callback:
    """Base class: every hook does nothing. Override those that you need."""

    def on_run_start(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """Before the first level."""

    def on_run_end(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """After the last level, after a stop, and after an error."""

    def on_level_start(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """When a level has been entered, before its inner steps."""

    def on_level_end(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """After the outer step that leaves a level."""

    def on_inner_start(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """Before an inner step."""

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """After an inner step."""


class FiniteCheck(Callback):
    """Raises :class:`DivergenceError` as soon as a state is lost; every sampler has one.

    Lost is a state that is not finite, or that has an entry beyond ten thousand times the scale of the run: the larger
    of the largest √(α² + σ²) and the largest observed value. An unstable step multiplies the state by a constant each
    time, and in float64 would go on for hundreds of steps before it overflows. A run that passes has not diverged; that
    its steps are short enough to be accurate is another matter.

    On the CPU the state is checked after each inner step. Elsewhere that would wait for the device, so there it is
    checked after each outer step only.
    """

    _GROWTH = 1e4

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> None:
        """Checks on the CPU."""
        if moment.x.device.type == "cpu":
            self.check(sampler, moment)

    def on_level_end(self, sampler: Sampler, moment: Moment) -> None:
        """Checks everywhere."""
        self.check(sampler, moment)

    def check(self, sampler: Sampler, moment: Moment) -> None:
        """Raise :class:`DivergenceError` if the state of ``moment`` is lost."""
        scale = moment.observation.largest.clamp(min=sampler.scale)
        kept = moment.x.abs() <= self._GROWTH * scale  # False for NaN
        if bool(kept.all()):
            return
        lost = int((~kept).reshape(len(kept), -1).any(1).sum())
        finite = bool(torch.isfinite(moment.x).all())
        what = "has grown to ten thousand times the data and the noise" if finite else "is no longer finite"
        remedy = sampler.remedy
        if moment.prediction is not None and moment.prediction.is_lost:
            remedy = "the model returned NaN or infinite values at a finite state; check its weights, or its dtype"
        where = f"inner step {moment.inner} of " if moment.kind == "inner" else ""
        raise DivergenceError(
            f"the state {what} after {where}step {moment.step + 1} of {sampler.steps}, at {moment.level} "
            f"({lost} of {len(kept)} samples): {remedy}"
        )


class ProgressBar(Callback):
    """A progress bar on stderr, one tick per evaluation that the sampler has planned.

    Args:
        description: What stands in front of it.
    """

    def __init__(self, description: str = "sampling") -> None:
        self.description = description
        self._bar: Any = None

    def on_run_start(self, sampler: Sampler, moment: Moment) -> None:
        """Opens the bar."""
        from tqdm import tqdm

        self._bar = tqdm(total=sampler.steps + sum(sampler.allocation), desc=self.description, leave=False)

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> None:
        """Ticks."""
        self._bar.update(1)

    def on_level_end(self, sampler: Sampler, moment: Moment) -> None:
        """Ticks to where the level ends, early or not."""
        self._bar.update(moment.step + 1 + sum(sampler.allocation[: moment.step + 1]) - self._bar.n)

    def on_run_end(self, sampler: Sampler, moment: Moment) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


class TrajectoryRecorder(Callback):
    """Keeps copies of the state on the CPU, within a bound on memory.

    When the next copy would pass the bound, every second record is dropped and from then on only every second moment
    is kept, and so on: the whole run stays covered, evenly. The first and the last moment are always kept.

    Args:
        inner: Record after inner steps too, not only at starts and ends of levels.
        max_bytes: Bound on the copies' memory, for at least two records.

    Attributes:
        records: List of dictionaries with ``kind``, ``step``, ``inner``, ``level``, ``x`` and ``denoised``.

    Raises:
        ValueError: When ``max_bytes`` is not positive, or on recording when two records do not fit in it.
    """

    def __init__(self, inner: bool = True, max_bytes: int = 256 * 2**20) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {max_bytes}")
        self.inner, self.max_bytes = inner, max_bytes
        self._forget()

    def _forget(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._stride, self._seen = 1, 0
        self._kept: Moment | None = None

    def on_run_start(self, sampler: Sampler, moment: Moment) -> None:
        """Forgets the last run."""
        self._forget()

    def on_level_start(self, sampler: Sampler, moment: Moment) -> None:
        """Records the state as a level is entered."""
        self._record(moment)

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> None:
        """Records the state after an inner step."""
        if self.inner:
            self._record(moment)

    def on_level_end(self, sampler: Sampler, moment: Moment) -> None:
        """Records the state after the outer step."""
        self._record(moment)

    def on_run_end(self, sampler: Sampler, moment: Moment) -> None:
        """Makes sure that the last moment is there, the result of a stopped run included."""
        if self._kept is not None and self._kept is not moment:
            record = self._copy(moment)
            if self._bytes(self.records) + self._bytes([record]) > self.max_bytes:
                self.records.pop()
            self.records.append(record)
        self._kept = None

    def _record(self, moment: Moment) -> None:
        copies = 1 if moment.prediction is None else 2
        size = moment.x.numel() * moment.x.element_size()
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
            self.records.append(self._copy(moment))
            self._kept = moment

    @staticmethod
    def _bytes(records: list[dict[str, Any]]) -> int:
        held = (record[name] for record in records for name in ("x", "denoised"))
        return sum(t.numel() * t.element_size() for t in held if t is not None)

    @staticmethod
    def _copy(moment: Moment) -> dict[str, Any]:
        denoised = moment.denoised
        return {
            "kind": moment.kind,
            "step": moment.step,
            "inner": moment.inner,
            "level": moment.level,
            "x": moment.x.detach().to("cpu", copy=True),
            "denoised": None if denoised is None else denoised.detach().to("cpu", copy=True),
        }


class EarlyStop(Callback):
    """Ends the inner loop of a level when x̂₀ on the unknown part has stopped changing.

    The change of x̂₀ from one inner step to the next, root mean square over the unknown entries of the batch, is
    compared with ``threshold`` times the noise in units of the data, σ/α. Reads one number from the device per inner
    step. The batch stops as one.

    Args:
        threshold: Fraction of σ/α > 0 below which x̂₀ counts as settled.
        patience: Inner steps in a row that must be settled.

    Attributes:
        inner_steps: Inner steps made at each level of the last run.

    Raises:
        ValueError: For a threshold that is not positive or a patience below 1.
    """

    def __init__(self, threshold: float = 0.05, patience: int = 2) -> None:
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.threshold, self.patience = threshold, patience
        self.inner_steps: list[int] = []

    def on_run_start(self, sampler: Sampler, moment: Moment) -> None:
        """Forgets the last run."""
        self.inner_steps = []

    def on_level_start(self, sampler: Sampler, moment: Moment) -> None:
        """Forgets the last level."""
        self.inner_steps.append(0)
        self._previous: Tensor | None = None
        self._settled = 0

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> Stop | None:
        """Compares x̂₀ with the one before."""
        self.inner_steps[-1] = moment.inner
        denoised, previous = moment.denoised, self._previous
        self._previous = denoised
        if denoised is None or previous is None:
            return None
        level = moment.level.to(denoised)
        change = (denoised - previous) * (level.alpha * reciprocal(level.sigma))
        unknown = ((~moment.observation.known) & (level.sigma > 0).to(change.device)).to(change).expand_as(change)
        rms = float(((change**2 * unknown).sum() / unknown.sum().clamp(min=1)).sqrt())
        self._settled = self._settled + 1 if rms < self.threshold else 0
        return Stop.LEVEL if self._settled >= self.patience else None


class LightningLogger(Callback):
    """Writes figures of a run to any Lightning logger (CSV, TensorBoard, …), one row per moment.

    Args:
        logger: An object with Lightning's ``log_metrics(metrics, step)`` and ``save()``, for example
            ``lightning.pytorch.loggers.CSVLogger("runs")``. The step is the number of moments logged so far.

    The figures are ``sigma`` (σ/√(α² + σ²), mean over the level, from 1 for pure noise to 0), ``rms`` of the state in
    units of √(α² + σ²), ``change`` (root mean square of the change of x̂₀ since the last moment, in units of σ/α) and
    the outer and inner step.
    """

    def __init__(self, logger: Any) -> None:
        if not callable(getattr(logger, "log_metrics", None)):
            raise TypeError(f"logger must be a Lightning logger with log_metrics(), got {type(logger).__name__}")
        self.logger = logger

    def on_run_start(self, sampler: Sampler, moment: Moment) -> None:
        """Starts to count."""
        self._step = 0
        self._previous: Tensor | None = None

    def on_inner_end(self, sampler: Sampler, moment: Moment) -> None:
        """Logs an inner step."""
        self._log(moment)

    def on_level_end(self, sampler: Sampler, moment: Moment) -> None:
        """Logs an outer step."""
        self._log(moment)

    def on_run_end(self, sampler: Sampler, moment: Moment) -> None:
        """Has the logger write what it holds."""
        if callable(getattr(self.logger, "save", None)):
            self.logger.save()

    def _log(self, moment: Moment) -> None:
        level, x = moment.level, moment.x
        norm = (level.alpha**2 + level.sigma**2).sqrt()
        metrics = {
            "outer_step": moment.step,
            "inner_step": moment.inner,
            "sigma": float((level.sigma / norm).mean()),
            "rms": float((x / norm.to(x)).square().mean().sqrt()),
        }
        denoised = moment.denoised
        if denoised is not None and self._previous is not None and metrics["sigma"] > 0:
            ratio = cast_like(level.alpha * reciprocal(level.sigma), denoised)
            metrics["change"] = float(((denoised - self._previous) * ratio).square().mean().sqrt())
        self._previous = denoised
        self.logger.log_metrics(metrics, step=self._step)
        self._step += 1
