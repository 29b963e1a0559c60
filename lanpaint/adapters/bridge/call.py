"""A call of a pipeline in which a sampler runs: its arguments, its callbacks, and whose turn it is."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

CALLED_BY = "_lanpaint_bridge"
"""Attribute of a pipeline under which its class finds what is to be done with a call."""

# Arguments by which a pipeline leaves out some of its times, with what says that it leaves out none.
_SHORTENING: dict[str, Callable[[Any], bool]] = {
    "strength": lambda value: value >= 1,
    "denoise_strength": lambda value: value >= 1,
    "denoising_start": lambda value: not 0 < value < 1,
    "denoising_end": lambda value: not 0 < value < 1,
}


class Steps(int):
    """A number of steps to a pipeline's scheduler, and of evaluations to all that is a share of the run.

    A pipeline that does something in a part of its steps only (an adapter, skip-layer guidance) compares the number of
    the evaluation with ``num_inference_steps`` times a share. With a sampler inside there are more evaluations than
    steps, and the share is one of these.

    Attributes:
        evaluations: Evaluations of the run; None as long as they are not known.
    """

    evaluations: int | None = None

    def __mul__(self, other: Any) -> Any:
        """A share of the evaluations."""
        return (int(self) if self.evaluations is None else self.evaluations) * other

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        """The evaluations and some more: the length of what a pipeline keeps of each of them."""
        return (int(self) if self.evaluations is None else self.evaluations) + other


def check_all_times(pipe: Any, given: dict[str, Any]) -> None:
    """Raise ValueError where an argument makes the pipeline leave out some of its times."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    for name, leaves_out_none in _SHORTENING.items():
        value = given.get(name, parameters[name].default if name in parameters else None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not leaves_out_none(value):
            raise ValueError(
                f"{type(pipe).__name__} leaves out some of its times with {name}={value:g}; a sampler needs all of "
                f"them: leave {name} out, or take a text-to-image or text-to-video pipeline "
                "(its class has from_pipe(pipe))"
            )


def named_arguments(pipe: Any) -> set[str]:
    """Names of the arguments that a pipeline's ``__call__`` gives by name, in any call that it makes."""
    code = getattr(inspect.unwrap(type(pipe).__call__), "__code__", None)
    lists = (constant for constant in getattr(code, "co_consts", ()) if isinstance(constant, tuple))
    return {name for names in lists for name in names if isinstance(name, str)}


class OuterStepCallback:
    """A caller's ``callback_on_step_end``, called once per outer step, with numbers that fit each other.

    Args:
        callback: The caller's.
        outer_steps: Outer steps made so far.
        total: How many there are.
        after: Called after the callback.
    """

    def __init__(
        self, callback: Callable[..., Any], outer_steps: Callable[[], int], total: Callable[[], int],
        after: Callable[[], None],
    ) -> None:  # fmt: skip
        self._callback, self._outer_steps, self._total, self._after = callback, outer_steps, total, after
        self._made = 0

    def __call__(self, pipe: Any, evaluation: int, time: Any, tensors: dict[str, Any]) -> Any:
        """After an evaluation; ``pipe.num_timesteps`` is the number of outer steps in the time of the callback."""
        if self._outer_steps() == self._made:
            return {}
        self._made = self._outer_steps()
        evaluations = getattr(pipe, "_num_timesteps", None)
        if evaluations is not None:
            pipe._num_timesteps = self._total()
        try:
            returned = self._callback(pipe, self._made - 1, time, tensors)
        finally:
            if evaluations is not None:
                pipe._num_timesteps = evaluations
        self._after()
        return returned


@functools.cache
def called_class(kind: Any) -> type:
    """A class like ``kind``, whose calls go to the bridge that the object holds."""

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bridge = vars(self).get(CALLED_BY)
        if bridge is None:
            return kind.__call__(self, *args, **kwargs)
        return bridge.call(kind.__call__, args, kwargs)

    def components(self: Any) -> dict[str, Any]:
        """The parts of the pipeline, for another one: with its own scheduler."""
        bridge = vars(self).get(CALLED_BY)
        return {**kind.components.__get__(self), **({} if bridge is None else {"scheduler": bridge.scheduler})}

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    changed: dict[str, Any] = {"__call__": call}
    if isinstance(getattr(kind, "components", None), property):
        changed["components"] = property(components)
    return type(kind.__name__, (kind,), names | changed)


class _Turn:
    """Who uses a pipeline."""

    def __init__(self) -> None:
        self.lock, self.thread = threading.Lock(), 0


_TURNS: weakref.WeakKeyDictionary[Any, _Turn] = weakref.WeakKeyDictionary()
_MAKE_TURN = threading.Lock()


@contextlib.contextmanager
def turn(pipe: Any) -> Iterator[None]:
    """Wait until no other thread has a sampler in the pipeline.

    Raises:
        RuntimeError: When the same thread has one in it, which would wait for ever.
    """
    with _MAKE_TURN:
        mine = _TURNS.setdefault(pipe, _Turn())
    if mine.thread == threading.get_ident():
        raise RuntimeError(
            f"{type(pipe).__name__} paints already, and is asked to paint within that; finish first, or take another "
            f"pipeline object of the same parts: {type(pipe).__name__}(**pipe.components)"
        )
    with mine.lock:
        mine.thread = threading.get_ident()
        try:
            yield
        finally:
            mine.thread = 0
