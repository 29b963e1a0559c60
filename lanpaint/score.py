"""Scores: one interface for all diffusion and flow models.

A :class:`Score` gives ∇_x log p(x) for the distribution of x = α x₀ + σ ε. A network, a formula or a combination of
other scores may compute it. :meth:`Score.predict` gives one evaluation in all five views of :mod:`lanpaint.noise`.

A score is a :class:`torch.nn.Module`, and the networks and scores that it holds are its submodules. So ``.to()``,
``parameters()``, ``state_dict()`` and Lightning see them.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lanpaint.checks import check_dtype, check_real, shown
from lanpaint.noise import VIEWS, NoiseLevel, Prediction, View, cast_like
from lanpaint.schedules import Flow, Schedule

if TYPE_CHECKING:
    from typing_extensions import Self

Module = TypeVar("Module", bound=nn.Module)


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
    """The scores inside a module, without the scores that are inside one of these."""
    for part in module._modules.values():
        if isinstance(part, Score):
            yield part
        elif part is not None:
            yield from _outermost_scores(part)


def _without_guidance(module: nn.Module) -> nn.Module:
    """The module with the unguided form of each score that it holds; itself where that changes nothing."""
    if isinstance(module, Score):
        return module.unguided
    return _holding(module, _unguided_parts(module))


def _unguided_parts(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of a module that are another one without guidance, by name."""
    parts = {name: (part, _without_guidance(part)) for name, part in module._modules.items() if part is not None}
    return {name: other for name, (part, other) in parts.items() if other is not part}


def _holding(module: Module, parts: dict[str, nn.Module]) -> Module:
    """A copy of a module that holds other parts, and shares the rest with it; the module itself without any."""
    if not parts:
        return module
    other = copy.copy(module)
    vars(other)["_modules"] = {**module._modules, **parts}
    return other


class Score(nn.Module):
    """The score of the noisy data at every noise level.

    A subclass overrides :meth:`score`, or :meth:`predict` if it knows other views, too. It may assign networks and
    other scores to attributes, also without calling ``super().__init__()``. They become submodules. Calling a score is
    calling :meth:`predict`.

    Attributes:
        schedule: The noise schedule that the model was made for, or None if the score is valid at every level.

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
        """One line: the class, and in brackets the classes of the networks and the scores that it holds."""
        held = (repr(part) if isinstance(part, Score) else type(part).__name__ for part in self._modules.values())
        return f"{type(self).__name__}({', '.join(held)})"

    @property
    def needs_signal(self) -> bool:
        """Whether x̂₀ is unknown at α = 0 (pure noise). True if the model gives only the score or ε̂."""
        return type(self).predict is Score.predict

    @property
    def is_flow(self) -> bool:
        """Whether the model was made for rectified flow, as far as that is known."""
        return isinstance(self.schedule, Flow)

    @property
    def unguided(self) -> Score:
        """This score without the classifier-free guidance in it; the score itself where there is none.

        A sampler asks for it where its method takes the model's own score, as the updates of ALM do. By default it is
        the same score over the unguided forms of the scores that it holds: a copy that shares all networks.
        """
        return _holding(self, _unguided_parts(self))

    def reset(self) -> None:
        """Forget all that this score remembers of earlier runs. A sampler calls it at the start of a run.

        By default it resets the scores that this score holds. A score that remembers something between evaluations
        overrides it, clears its memory and calls ``super().reset()``.
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
        """One evaluation at x (any shape) and ``level``, with all five views."""
        if type(self).score is Score.score:
            raise TypeError(f"{type(self).__name__} must override score(x, level) or predict(x, level)")
        score = self.score(x, level)
        if (
            not isinstance(score, Tensor)
            or score.shape != x.shape
            or score.is_complex()
            or score.device != x.device
            or score.layout is not x.layout
        ):
            what = type(score).__name__
            if isinstance(score, Tensor):
                what = f"shape {tuple(score.shape)}, {score.dtype} on {score.device}"
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
    """A :class:`Score`, from a Score, from the bound method ``score`` of a Score, or from a function ``f(x, level)``.

    Raises:
        TypeError: For any other object.
    """
    if isinstance(score, Score):
        return score
    owner = getattr(score, "__self__", None)
    if isinstance(owner, Score):
        if getattr(score, "__name__", "") == "score":
            return owner  # Gaussian(...).score stands for Gaussian(...), which gives all views, not only the score
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

    The network is called as ``network(x, time)``, with x in the network's coordinates and dtype, and ``time`` of shape
    (B,). It returns a tensor shaped as x, a tuple whose first element is such a tensor, or an object with such a tensor
    as its ``sample`` attribute (diffusers' conventions).

    A sampler may use levels of any formalism: x is rescaled to the network's coordinates, and the prediction is
    converted back. A level noisier or cleaner than all levels of the schedule is evaluated at the schedule's nearest
    end.

    Args:
        network: The network, or any function with the signature above. Bind further conditioning with
            functools.partial. If the network counts time otherwise than the schedule, give a function:
            ``lambda x, time: network(x, 1000 * time)``. ``.to()`` and ``parameters()`` see a torch.nn.Module and a
            partial of one. They do not see a network inside another function.
        predicts: Which view the network was trained to predict: ``"epsilon"``, ``"v"`` (diffusion's velocity),
            ``"flow"`` (rectified flow's velocity), ``"denoised"`` (x₀) or ``"score"``.
        schedule: The schedule that the network was trained with. It gives the network's time and coordinates.
        dtype: The dtype of x in the network's calls. By default the dtype of the network's first floating-point
            parameter at the time of the call, or the dtype of x for a network without parameters. The prediction is
            cast back, so the dtype of the sampler's state does not change.
        time_maps: Whether the network takes a time for each pixel. Then x is (B, C, …), a level may vary over all axes
            but the channels, and for such a level the network is called with a map of times of shape (B, 1, …). For one
            level per batch or per sample ``time`` keeps the shape (B,).

    Raises:
        TypeError: For a network that is not callable or returns no tensor, and a ``schedule`` that is not a Schedule.
        ValueError: For an unknown ``predicts``, a level that the network cannot take, or an output whose shape is not
            that of x.
    """

    network: Callable[..., Any]
    schedule: Schedule

    def __init__(
        self,
        network: Callable[..., Any],
        predicts: View,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
        *,
        time_maps: bool = False,
    ) -> None:
        if not isinstance(predicts, str) or predicts not in VIEWS:
            raise ValueError(f"predicts must be one of {', '.join(VIEWS)}, got {predicts!r}")
        if not callable(network):
            raise TypeError(f"network must be called as network(x, time), got {type(network).__name__}")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule such as VP.linear(), got {shown(schedule)}")
        if dtype is not None:
            check_dtype(dtype)
        self.network, self.predicts, self.schedule = network, predicts, schedule
        self.time_maps = bool(time_maps)
        function = network
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, nn.Module) and function is not network:
            self.bound_network = function  # becomes a submodule; torch does not look inside a partial
        self._given_dtype = dtype

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype in which the network is called now; None if it is the dtype of x. ``.to(dtype)`` changes it.

        A ``dtype`` that was given to the constructor does not change.
        """
        if self._given_dtype is not None:
            return self._given_dtype
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), None)

    @property
    def unguided(self) -> Score:
        """The score of the network's ``unguided``, for a network that guides itself and has that attribute."""
        network = getattr(self.network, "unguided", None)
        if network is None:
            return super().unguided
        other = copy.copy(self)
        vars(other)["_modules"] = {name: part for name, part in self._modules.items() if name != "network"}
        vars(other).pop("network", None)  # where it is a function
        other.network = network
        return other

    @property
    def needs_signal(self) -> bool:
        """True for networks that predict the score or ε."""
        return self.predicts in ("score", "epsilon")

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The prediction of one call of the network at x, shape (B, …), and ``level``."""
        batch = x.shape[0]
        is_map = level.alpha.numel() != 1 and level.shape != (batch,) + (1,) * (x.ndim - 1)
        if is_map:
            level = self._checked_map(x, level)
        time = self.schedule.time(level)
        time = time if is_map else time.reshape(-1)
        network_level = self.schedule.level(time)
        # Two levels with the same σ/α differ by a factor. It is 1 if the level is in the network's coordinates already.
        norm = torch.sqrt(level.alpha**2 + level.sigma**2)
        factor = torch.sqrt(network_level.alpha**2 + network_level.sigma**2).reshape(norm.shape) / norm
        factor = cast_like(factor, x)
        state = x * factor
        dtype = self.dtype or x.dtype
        clock_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        if is_map:
            clock = time.to(x.device, clock_dtype).expand(batch, 1, *x.shape[2:])
        elif time.device.type == "cpu" and len(time) == 1:
            clock = torch.full((batch,), float(time), dtype=clock_dtype, device=x.device)
        else:
            clock = time.to(x.device, clock_dtype).expand(batch)
        output = self.network(state.to(dtype, copy=True), clock)  # a copy: the network may write to it
        output = output[0] if isinstance(output, tuple) and output else getattr(output, "sample", output)
        if not isinstance(output, Tensor) or output.is_complex():
            what = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(f"the network returned {what}; expected a tensor shaped as x, of real numbers")
        output = output.to(x.dtype)
        if output.shape != x.shape:
            raise ValueError(
                f"the network returned shape {tuple(output.shape)} for x of shape {tuple(x.shape)}; "
                "if it also predicts a variance, give a function that returns its mean only"
            )
        _check_gradient(x, output)
        if self.predicts == "score":
            return Prediction(x, level, score=output * factor)
        if self.predicts == "v":  # the only view whose meaning depends on the coordinates
            rescaled = Prediction(state, level.rescale(factor), v=output)
            return Prediction(x, level, denoised=rescaled.denoised, epsilon=rescaled.epsilon)
        return Prediction(x, level, **{self.predicts: output})

    def _checked_map(self, x: Tensor, level: NoiseLevel) -> NoiseLevel:
        """The level with as many axes as x, if the network takes levels that vary within a sample."""
        one = (x.shape[0],) + (1,) * (x.ndim - 1)
        if not self.time_maps:
            raise ValueError(
                f"a network takes one noise level per batch or per sample, so a level of shape () or {one}, got "
                f"{tuple(level.shape)}; if this network takes maps of times, declare NetworkScore(…, time_maps=True)"
            )
        shape = (1,) * (x.ndim - len(level.shape)) + tuple(level.shape)
        if len(shape) != x.ndim or any(n not in (1, of_x) for n, of_x in zip(shape, x.shape, strict=True)):
            raise ValueError(f"a level of shape {tuple(level.shape)} does not broadcast to x of shape {tuple(x.shape)}")
        if x.ndim < 3 or shape[1] != 1:
            raise ValueError(
                f"the network takes one time for all channels, so a level of shape {(x.shape[0], 1, *x.shape[2:])}, "
                f"got {tuple(level.shape)}"
            )
        return NoiseLevel(level.alpha.reshape(shape), level.sigma.reshape(shape))


class GuidedScore(Score):
    """Classifier-free guidance of two scores: s = s_u + w (s_c − s_u).

    Args:
        conditional: Score s_c with the prompt or class.
        unconditional: Score s_u without prompt or class, or with the negative prompt.
        scale: Guidance weight w as diffusers counts it: w = 1 gives the conditional score, w = 0 the unconditional
            score. In Ho & Salimans, 2022, Eq. 6, the weight is w − 1.

    Raises:
        ValueError: For a weight that is not finite.
    """

    def __init__(self, conditional: Score, unconditional: Score, scale: float) -> None:
        self.conditional, self.unconditional = as_score(conditional), as_score(unconditional)
        check_real("scale (w)", scale)
        self.scale = float(scale)
        if not math.isfinite(self.scale):
            raise ValueError(f"scale (w) must be a finite number, got {scale}")
        self.schedule = self.conditional.schedule or self.unconditional.schedule

    @property
    def unguided(self) -> Score:
        """The score with the prompt or class, without guidance."""
        return self.conditional.unguided

    @property
    def needs_signal(self) -> bool:
        """True if one of the two scores needs a signal."""
        return self.conditional.needs_signal or self.unconditional.needs_signal

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The guided prediction, from one evaluation of each of the two scores."""
        conditional, unconditional = self.conditional.predict(x, level), self.unconditional.predict(x, level)
        views = {
            view: torch.lerp(getattr(unconditional, view), getattr(conditional, view), self.scale)
            for view in ("denoised", "epsilon")
        }
        return Prediction(x, level, **views)


class ScoreWrapper(Score):
    """A score that changes the predictions of another score. Solvers, dynamics and pipelines see the new predictions.

    A subclass overrides :meth:`rewrite`. If it saves evaluations, as a cache does, it overrides :meth:`Score.predict`
    and calls ``self.wrapped.predict`` only when it has to. If it remembers earlier predictions, it clears them in
    :meth:`Score.reset`.

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
        """``needs_signal`` of the wrapped score. Override it with True if ``rewrite`` gives only ε̂ or the score."""
        return self.wrapped.needs_signal

    @property
    def is_flow(self) -> bool:
        """``is_flow`` of the wrapped score."""
        return self.wrapped.is_flow

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The new prediction, at the x and the level of the old prediction.

        Give one view, ``Prediction(prediction.x, prediction.level, epsilon=new)``. The other views follow from it:

        - ``epsilon`` or ``score``: x̂₀ = (x − σ ε̂)/α changes by σ/α times as much as ε̂. At α = 0 it is unknown. Flow
          models and their pipelines start at α = 0: give another view there.
        - ``denoised``: ε̂ = (x − α x̂₀)/σ loses digits where σ is small, and is 0 at σ = 0.
        - ``v``, ``flow``: both x̂₀ and ε̂ are known at every level.

        Give ``denoised`` and ``epsilon`` both, if both are known. Return ``prediction`` itself to change nothing.
        Leave its tensors as they are.

        Args:
            prediction: The wrapped score's prediction, with views shaped as x.
        """
        raise TypeError(f"{type(self).__name__} must override rewrite(prediction)")

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The rewritten prediction of one evaluation of the wrapped score.

        Raises:
            TypeError: When ``rewrite`` does not return a Prediction.
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
                    f"{name}.rewrite gave only {' and '.join(prediction._given)} at α = 0, which does not determine x̂₀ "
                    "there; give denoised, v or flow, or set needs_signal = True and start at a level with α > 0"
                )
        return prediction


class CountedScore(ScoreWrapper):
    """A score that counts its evaluations: the NFE that benchmarks report.

    Args:
        score: The score whose evaluations are counted. Each evaluation counts once, however many views are read.

    Attributes:
        evaluations: Number of evaluations so far, over all runs, with guidance and without it.
        rows: Number of rows of x in these evaluations, over all runs. Each particle of a sample is a row.
    """

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> None:
        super().__init__(score)
        self.evaluations = self.rows = 0

    @property
    def log_prob(self) -> Callable[..., Tensor]:
        """``log_prob`` of the wrapped score, if it has one. Its calls are not counted."""
        log_prob: Any = self.wrapped.log_prob
        return log_prob

    @property
    def unguided(self) -> Score:
        """The wrapped score without guidance, whose evaluations count here too."""
        inner = self.wrapped.unguided
        return self if inner is self.wrapped else _Counted(inner, self.rewrite)

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The prediction, unchanged, after counting it."""
        self.evaluations += 1
        self.rows += len(prediction.x)
        return prediction


class _Counted(ScoreWrapper):
    """A score whose evaluations are counted elsewhere."""

    def __init__(self, score: Score, count: Callable[[Prediction], Prediction]) -> None:
        super().__init__(score)
        self._count = count

    def rewrite(self, prediction: Prediction) -> Prediction:
        return self._count(prediction)
