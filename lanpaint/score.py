"""Scores: what a diffusion or flow model knows, behind one method.

A :class:`Score` answers ``score(x, level)`` = ∇_x log p(x) for the law of x = α x₀ + σ ε, whatever network, formula or
combination stands behind it. Its other views come for free through :meth:`Score.predict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import VIEWS, NoiseLevel, Prediction, View, cast_like
from lanpaint.schedules import Schedule


def _check_gradient(x: Tensor, answer: Tensor) -> None:
    """A cut graph is told at the model's door: past it x̂₀ depends on x besides, and has a gradient that is wrong."""
    if torch.is_grad_enabled() and x.requires_grad and not answer.requires_grad:
        raise ValueError(
            "the model gives no gradient (it runs under no_grad, or returns detached values); let it record one, or "
            "use a sampler that needs none, such as LanPaint"
        )


class Score:
    """The score of a family of noisy laws. Subclasses override :meth:`score`, or :meth:`predict` if they know more.

    Attributes:
        schedule: The noise schedule that the model was made for, or None when every level is as good as any other.
    """

    schedule: Schedule | None = None

    @property
    def needs_signal(self) -> bool:
        """Whether x̂₀ is lost at α = 0, pure noise: so it is where the score or ε̂ is all that is known."""
        return type(self).predict is Score.predict

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """∇_x log p(x) at ``level``: shape and dtype of x, in units of 1/x."""
        return self.predict(x, level).score

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One evaluation at x (any shape) and ``level``, with all its views."""
        if type(self).score is Score.score:
            raise TypeError(f"{type(self).__name__} must override score(x, level) or predict(x, level)")
        score = self.score(x, level)
        if not isinstance(score, Tensor) or score.shape != x.shape:
            what = f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(f"the score must be a tensor of x's shape {tuple(x.shape)}, got {what}")
        _check_gradient(x, score)
        return Prediction(x, level, score=score.to(x.dtype))

    def denoised(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Posterior mean E[x₀ | x], shape of x."""
        return self.predict(x, level).denoised

    def epsilon(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Posterior mean E[ε | x], shape of x."""
        return self.predict(x, level).epsilon

    def velocity(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Rectified flow's velocity E[ε − x₀ | x], shape of x."""
        return self.predict(x, level).flow


class _FunctionScore(Score):
    def __init__(self, function: Callable[[Tensor, NoiseLevel], Tensor]) -> None:
        self._function = function

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self._function(x.clone(), level)  # which may write to it


def as_score(score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> Score:
    """A :class:`Score` of a Score, of its bound ``score`` method, or of any function ``f(x, level)`` that is a score.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(score, Score):
        return score
    owner = getattr(score, "__self__", None)
    if isinstance(owner, Score):
        if getattr(score, "__name__", "") == "score":
            return owner  # Gaussian(...).score and Gaussian(...) mean the same, and the latter knows more views
        raise TypeError(f"{getattr(score, '__name__', 'this method')} is not a score; give the Score itself")
    if isinstance(score, type):
        raise TypeError(f"expected a Score, got the class {score.__name__}; make an instance of it first")
    if isinstance(score, torch.nn.Module):
        raise TypeError(
            f"{type(score).__name__} is a network; wrap it: NetworkScore(network, predicts='epsilon', schedule=…)"
        )
    if callable(score):
        return _FunctionScore(score)
    raise TypeError(f"expected a Score or a function score(x, level), got {type(score).__name__}")


class NetworkScore(Score):
    """A trained network as a score.

    The network is called as ``network(x, time)`` with x in its own coordinates and dtype and ``time`` of shape (B,);
    it returns a tensor shaped as x, or a tuple that begins with one, or an object with a ``sample`` attribute
    (diffusers' conventions). Levels of another formalism than the network's are rescaled on the way in and out, so any
    sampler runs in any coordinates. A level beyond the schedule's ends is evaluated at the end.

    Args:
        network: The network, or any function with its signature. Bind further conditioning with functools.partial, and
            another clock with a function: ``lambda x, time: network(x, 1000 * time)``.
        predicts: Which view it was trained to predict: ``"epsilon"``, ``"v"`` (diffusion's velocity), ``"flow"``
            (rectified flow's velocity), ``"denoised"`` (x₀) or ``"score"``.
        schedule: The schedule it was trained with; gives the network's time and coordinates.
        dtype: The dtype that the network runs in; by default that of its first floating-point parameter, else x's.
            The state keeps its own dtype: the cast is at the network's door.

    Raises:
        TypeError: For a network that is not callable or returns no tensor, and a schedule that is none.
        ValueError: For an unknown ``predicts``, a level that varies within a sample, or an output of another shape.
    """

    def __init__(
        self, network: Callable[..., Any], predicts: View, schedule: Schedule, dtype: torch.dtype | None = None
    ) -> None:
        if predicts not in VIEWS:
            raise ValueError(f"predicts must be one of {', '.join(VIEWS)}, got {predicts!r}")
        if not callable(network):
            raise TypeError(f"network must be called as network(x, time), got {type(network).__name__}")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule such as VP.linear(), got {schedule!r:.60}")
        if dtype is None and isinstance(network, torch.nn.Module):
            dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)
        self.network, self.predicts, self.dtype = network, predicts, dtype
        self.schedule: Schedule = schedule

    @property
    def needs_signal(self) -> bool:
        """True for networks that predict the score or ε."""
        return self.predicts in ("score", "epsilon")

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One call of the network, x of shape (B, …) and one level for the batch or per sample."""
        batch = x.shape[0]
        if level.alpha.numel() != 1 and level.shape != (batch,) + (1,) * (x.ndim - 1):
            raise ValueError(
                "this network takes one noise level per batch or per sample, that is of shape () or "
                f"{(batch,) + (1,) * (x.ndim - 1)}, got {tuple(level.shape)}"
            )
        time = self.schedule.time(level).reshape(-1)
        own = self.schedule.level(time)
        # By a factor that is 1 when the level already is the network's: only σ/α has to agree.
        norm = torch.sqrt(level.alpha**2 + level.sigma**2)
        factor = torch.sqrt(own.alpha**2 + own.sigma**2).reshape(norm.shape) / norm
        factor = cast_like(factor, x)
        state = x * factor
        dtype = self.dtype or x.dtype
        clock_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        if time.device.type == "cpu" and len(time) == 1:
            clock = torch.full((batch,), float(time), dtype=clock_dtype, device=x.device)
        else:
            clock = time.to(x.device, clock_dtype).expand(batch)
        output = self.network(state.to(dtype, copy=True), clock)  # a copy: the network may write to it
        output = output[0] if isinstance(output, tuple) and output else getattr(output, "sample", output)
        if not isinstance(output, Tensor):
            raise TypeError(f"the network returned {type(output).__name__}; expected a tensor shaped as x")
        output = output.to(x.dtype)
        if output.shape != x.shape:
            raise ValueError(
                f"the network returned shape {tuple(output.shape)} for x of shape {tuple(x.shape)}; "
                "a network that also predicts its variance must be cut to its mean"
            )
        _check_gradient(x, output)
        if self.predicts == "score":
            return Prediction(x, level, score=output * factor)
        if self.predicts == "v":  # the one view whose meaning depends on the coordinates
            own_view = Prediction(state, level.rescale(factor), v=output)
            return Prediction(x, level, denoised=own_view.denoised, epsilon=own_view.epsilon)
        return Prediction(x, level, **{self.predicts: output})


class GuidedScore(Score):
    """Classifier-free guidance of two scores: s = s_u + w (s_c − s_u).

    Args:
        conditional: Score given the prompt or class, s_c.
        unconditional: Score without it (or with the negative prompt), s_u.
        scale: Guidance weight w as diffusers counts it: 1 is the conditional score, 0 the unconditional one. In Ho &
            Salimans, 2022, Eq. 6, the weight is w − 1.
    """

    def __init__(self, conditional: Score, unconditional: Score, scale: float) -> None:
        self.conditional, self.unconditional = as_score(conditional), as_score(unconditional)
        self.scale = float(scale)
        if not math.isfinite(self.scale):
            raise ValueError(f"scale (w) must be a finite number, got {scale}")
        self.schedule = self.conditional.schedule or self.unconditional.schedule

    @property
    def needs_signal(self) -> bool:
        """True if one of the two does."""
        return self.conditional.needs_signal or self.unconditional.needs_signal

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """Two evaluations, one of each score."""
        conditional, unconditional = self.conditional.predict(x, level), self.unconditional.predict(x, level)
        views = {
            view: torch.lerp(getattr(unconditional, view), getattr(conditional, view), self.scale)
            for view in ("denoised", "epsilon")
        }
        return Prediction(x, level, **views)


class CountedScore(Score):
    """Counts the evaluations of a score: the NFE that benchmarks report.

    Args:
        score: The score to count; all views of one evaluation count once.

    Attributes:
        evaluations: Calls so far.
        rows: Samples in those calls: particles of one sample count each.
    """

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> None:
        self._score = as_score(score)
        self.schedule = self._score.schedule
        self.evaluations = self.rows = 0

    @property
    def needs_signal(self) -> bool:
        """That of the score."""
        return self._score.needs_signal

    @property
    def log_prob(self) -> Callable[..., Tensor]:
        """The log density of the score, where it has one; not counted."""
        log_prob: Callable[..., Tensor] = self._score.log_prob  # type: ignore[attr-defined]
        return log_prob

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One counted evaluation."""
        self.evaluations += 1
        self.rows += len(x)
        return self._score.predict(x, level)
