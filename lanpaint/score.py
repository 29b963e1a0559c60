"""Scores: what a diffusion or flow model knows, behind one method.

A :class:`Score` gives ∇_x log p(x) for the law of x = α x₀ + σ ε, whether a network, a formula or a combination of
scores computes it. :meth:`Score.predict` gives the same evaluation in all five views of :mod:`lanpaint.noise`.

A score is a :class:`torch.nn.Module`, and the networks and scores that it holds are its submodules. So ``.to()``,
``parameters()``, ``state_dict()`` and Lightning see them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lanpaint.noise import VIEWS, NoiseLevel, Prediction, View, cast_like
from lanpaint.schedules import Schedule

if TYPE_CHECKING:
    from typing_extensions import Self


def _check_gradient(x: Tensor, answer: Tensor) -> None:
    """Raise ValueError if a gradient in x is recorded and the model's answer is detached from x.

    Without this check x̂₀ would still have a gradient, through x alone. That gradient is wrong.
    """
    if torch.is_grad_enabled() and x.requires_grad and not answer.requires_grad:
        raise ValueError(
            "the model gives no gradient (it runs under no_grad, or returns detached values); let it record one, or "
            "use a sampler that needs none, such as LanPaint"
        )


def _outermost_scores(module: nn.Module) -> Iterator[Score]:
    """The scores below a module, without those that another score below it holds."""
    for part in module._modules.values():
        if isinstance(part, Score):
            yield part
        elif part is not None:
            yield from _outermost_scores(part)


class Score(nn.Module):
    """The score of a family of noisy laws. Subclasses override :meth:`score`, or :meth:`predict` if they know more.

    A subclass may assign networks and other scores to attributes, also without calling ``super().__init__()``. They
    become submodules. Calling a score is calling :meth:`predict`.

    Attributes:
        schedule: The noise schedule that the model was made for, or None when every level is as good as any other.

    Raises:
        AttributeError: When a network or score is assigned to a name that the class uses, such as ``score``.
    """

    schedule: Schedule | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A score that can hold networks, even if its class never calls ``super().__init__()``."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def __init__(self) -> None:
        # __new__ has called nn.Module.__init__. A second call would drop the networks that were assigned since.
        pass

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) and hasattr(type(self), name):  # reading it would find the class's attribute
            raise AttributeError(
                f"{type(self).__name__}.{name} exists already, so a network or score cannot be kept under that name; "
                "choose another one"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        """The class, and in brackets what it holds: in one line, whatever the size of the network."""
        held = (repr(part) if isinstance(part, Score) else type(part).__name__ for part in self._modules.values())
        return f"{type(self).__name__}({', '.join(held)})"

    @property
    def needs_signal(self) -> bool:
        """Whether x̂₀ is unknown at α = 0 (pure noise). True where the model gives only the score or ε̂."""
        return type(self).predict is Score.predict

    def reset(self) -> None:
        """Forget what earlier runs have left. A sampler calls it at the start of a run.

        By default it resets the scores that this one holds. A score that remembers something from evaluation to
        evaluation overrides it, clears its memory and calls ``super().reset()``.
        """
        for score in _outermost_scores(self):
            score.reset()

    def forward(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """:meth:`predict`."""
        return self.predict(x, level)

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
        return self._function(x.clone(), level)  # a copy: the function may write to it


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
            return owner  # Gaussian(...).score means Gaussian(...), which knows more views
        raise TypeError(f"{getattr(score, '__name__', 'this method')} is not a score; give the Score itself")
    if isinstance(score, type):
        raise TypeError(f"expected a Score, got the class {score.__name__}; make an instance of it first")
    if isinstance(score, nn.Module):
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
            another clock with a function: ``lambda x, time: network(x, 1000 * time)``. ``.to()`` and ``parameters()``
            see a torch.nn.Module and a partial of one. They do not see a network inside another function.
        predicts: Which view it was trained to predict: ``"epsilon"``, ``"v"`` (diffusion's velocity), ``"flow"``
            (rectified flow's velocity), ``"denoised"`` (x₀) or ``"score"``.
        schedule: The schedule it was trained with; gives the network's time and coordinates.
        dtype: The dtype of x in the network's calls. By default that of the network's first floating-point parameter
            at each call, else x's. The prediction is cast back, so the sampler's state keeps its own dtype.

    Raises:
        TypeError: For a network that is not callable or returns no tensor, and a schedule that is none.
        ValueError: For an unknown ``predicts``, a level that varies within a sample, or an output of another shape.
    """

    network: Callable[..., Any]
    schedule: Schedule

    def __init__(
        self, network: Callable[..., Any], predicts: View, schedule: Schedule, dtype: torch.dtype | None = None
    ) -> None:
        if predicts not in VIEWS:
            raise ValueError(f"predicts must be one of {', '.join(VIEWS)}, got {predicts!r}")
        if not callable(network):
            raise TypeError(f"network must be called as network(x, time), got {type(network).__name__}")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule such as VP.linear(), got {schedule!r:.60}")
        self.network, self.predicts, self.schedule = network, predicts, schedule
        function = network
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, nn.Module) and function is not network:
            self.bound_network = function  # a submodule: inside of a partial it would not be seen
        self._given_dtype = dtype

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the network runs in, after ``.to(dtype)`` the new one; None if it takes that of x."""
        if self._given_dtype is not None:
            return self._given_dtype
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), None)

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
        # Levels of one σ/α differ by a factor: 1 where the level is in the network's own coordinates.
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
        if self.predicts == "v":  # the only view whose meaning depends on the coordinates
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
        """True if one of the two scores needs it."""
        return self.conditional.needs_signal or self.unconditional.needs_signal

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """Two evaluations, one of each score."""
        conditional, unconditional = self.conditional.predict(x, level), self.unconditional.predict(x, level)
        views = {
            view: torch.lerp(getattr(unconditional, view), getattr(conditional, view), self.scale)
            for view in ("denoised", "epsilon")
        }
        return Prediction(x, level, **views)


class ScoreWrapper(Score):
    """A score that rewrites the prediction of another one. Every solver, dynamics and pipeline then sees the new one.

    A subclass overrides :meth:`rewrite`. One that saves evaluations, such as a cache, overrides :meth:`Score.predict`
    and asks ``self.wrapped`` when it has to. One that remembers earlier predictions clears them in :meth:`Score.reset`.

    ``schedule`` and ``needs_signal`` are those of the wrapped score. ``log_prob`` is not taken over, because the log
    density of a rewritten score is not known.

    Args:
        score: The score to wrap: a :class:`Score` or a function ``score(x, level)``.

    Attributes:
        wrapped: The wrapped score.

    Example:
        >>> class Contrast(ScoreWrapper):
        ...     def rewrite(self, prediction):
        ...         return Prediction(prediction.x, prediction.level, denoised=1.1 * prediction.denoised)
    """

    wrapped: Score

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> None:
        super().__init__()
        self.wrapped = as_score(score)
        self.schedule = self.wrapped.schedule

    @property
    def needs_signal(self) -> bool:
        """That of the wrapped score. Override it with True if ``rewrite`` gives only ``epsilon`` or ``score``."""
        return self.wrapped.needs_signal

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The new prediction, at the x and level of the old one.

        Give one view, ``Prediction(prediction.x, prediction.level, epsilon=new)``, and the others follow from it:

        - ``epsilon`` or ``score``: x̂₀ = (x − σ ε̂)/α changes by σ/α times as much as ε̂, and at α = 0 it is unknown.
          Flow models, and all pipelines of flow models, start at α = 0. Rewrite another view there.
        - ``denoised``: ε̂ = (x − α x̂₀)/σ loses digits where σ is small, and is 0 at σ = 0.
        - ``v``, ``flow``: both x̂₀ and ε̂ are known at every level.

        Give ``denoised`` and ``epsilon`` both, if both are known. Return ``prediction`` itself to change nothing.
        Leave its tensors as they are.

        Args:
            prediction: The wrapped score's prediction, with views shaped as x.
        """
        raise TypeError(f"{type(self).__name__} must override rewrite(prediction)")

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One evaluation of the wrapped score, rewritten.

        Raises:
            TypeError: When ``rewrite`` returns something else than a Prediction.
            ValueError: When ``rewrite`` gives only ``epsilon`` or ``score`` at α = 0 although ``needs_signal`` is
                False, and when it detaches the prediction from x while a gradient is recorded.
        """
        before = self.wrapped.predict(x, level)
        prediction = self.rewrite(before)
        if prediction is before:
            return before
        name = type(self).__name__
        if not isinstance(prediction, Prediction):
            raise TypeError(f"{name}.rewrite must return a Prediction, got {type(prediction).__name__}")
        for view in prediction._given.values():
            _check_gradient(x, view)
        if not self.needs_signal and prediction._given.keys() <= {"epsilon", "score"}:
            alpha = level.alpha  # read on the CPU only: elsewhere that would wait for the device
            if alpha.device.type == "cpu" and bool((alpha == 0).any()):
                raise ValueError(
                    f"{name}.rewrite gave only {' and '.join(prediction._given)} at α = 0, where that does not "
                    "determine x̂₀; give denoised, v or flow, or set needs_signal = True and start at a level with α > 0"
                )
        return prediction


class CountedScore(ScoreWrapper):
    """Counts the evaluations of a score: the NFE that benchmarks report.

    Args:
        score: The score to count; all views of one evaluation count once.

    Attributes:
        evaluations: Calls so far, of all runs.
        rows: Samples in those calls: particles of one sample count each.
    """

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> None:
        super().__init__(score)
        self.evaluations = self.rows = 0

    @property
    def log_prob(self) -> Callable[..., Tensor]:
        """The log density of the score, where it has one; not counted."""
        log_prob: Any = self.wrapped.log_prob
        return log_prob

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The prediction itself, counted."""
        self.evaluations += 1
        self.rows += len(prediction.x)
        return prediction
