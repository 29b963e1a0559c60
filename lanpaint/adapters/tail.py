"""The tail of a pipeline: what it does to its latents after its last step, before its decoder.

A pipeline whose scheduler shows it no times goes from its first latents to its decoder at once, without a call of its
network. :class:`Tail` makes such a call with latents of the caller's choice, and catches what the decoder is given. The
call is made on a shallow copy of the pipeline, so the pipeline itself is not touched.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Probe = Callable[[Tensor], Tensor]

# Arguments with which a pipeline adds noise to its latents before it decodes them.
DECODER_NOISE = ("decode_noise_scale", "decode_timestep")
# Arguments that the tail is called without: what watches a run or changes it, and the form of its output.
_LEFT_OUT = ("callback", "callback_on_step_end", "latents", "output_type", "return_dict")


class NoTailError(Exception):
    """The tail of a pipeline cannot be run on its own. The message says why."""


class _Reached(BaseException):
    """Ends a call at the decoder. Not an Exception, which a pipeline could catch."""


@dataclass(frozen=True)
class Caught:
    """What one call of the tail gave.

    Attributes:
        latents: Shape of the pipeline's latents, (B, …).
        dtype: Their dtype in the pipeline.
        decoded: What the decoder was given, shape (rows, channels, [frames,] height, width). Without a decoder, the
            pictures in [0, 1].
    """

    latents: tuple[int, ...]
    dtype: torch.dtype
    decoded: Tensor


class EncodedPrompts:
    """The prompts of a call, encoded once: a later call with the same arguments gets the same results.

    Text encoders are large. So the calls of the tail and the call that paints share what the first of them has encoded.
    """

    names = ("encode_prompt", "_encode_prompt")

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[Any, Any]]] = {name: [] for name in self.names}

    def functions(self, pipe: Any) -> dict[str, Callable[..., Any]]:
        """Functions to put in the place of the pipeline's, for one call of it."""
        return {name: self._remembering(name, getattr(pipe, name)) for name in self.names if hasattr(pipe, name)}

    def _remembering(self, name: str, encode: Callable[..., Any]) -> Callable[..., Any]:
        kept, calls = self._kept[name], iter(range(1_000_000))

        @functools.wraps(encode)
        def encode_once(*args: Any, **kwargs: Any) -> Any:
            number = next(calls)
            if number < len(kept) and _same(kept[number][0], (args, kwargs)):
                return copy.deepcopy(kept[number][1])  # pipelines may write to it
            encoded = encode(*args, **kwargs)
            if number == len(kept):
                kept.append(((args, kwargs), copy.deepcopy(encoded)))
            return encoded

        return encode_once


def autoencoders(pipe: Any) -> dict[str, Any]:
    """The modules of a pipeline that encode and decode, by name; those of pictures usually come first."""
    parts = {name: part for name, part in vars(pipe).items() if isinstance(part, torch.nn.Module)}
    return {
        name: part
        for name, part in parts.items()
        if callable(getattr(part, "encode", None)) and callable(getattr(part, "decode", None))
    }


class Tail:
    """Calls of a pipeline that go from its first latents to its decoder at once.

    Args:
        pipe: The pipeline.
        call: The arguments of the call that is to be made later.
        autoencoder: Name of the module of the pipeline whose decoder is waited for; None for a pipeline without one,
            whose pictures are taken.
        prompts: The encoded prompts that the calls share.
    """

    def __init__(self, pipe: Any, call: dict[str, Any], autoencoder: str | None, prompts: EncodedPrompts) -> None:
        self._pipe, self._autoencoder, self._prompts = pipe, autoencoder, prompts
        self._kind: Any = type(pipe)
        self._names = names = inspect.signature(self._kind.__call__).parameters
        self._call = {name: value for name, value in call.items() if name in names and name not in _LEFT_OUT}
        self._call |= {name: 0.0 for name in DECODER_NOISE if name in names}
        for name in [name for name in names if "generator" in name]:  # the caller's are not advanced
            given: Any = call.get(name)
            several = isinstance(given, (list, tuple))
            self._call[name] = [torch.Generator() for _ in given] if several else torch.Generator()
        if autoencoder is None and "output_type" in names:
            self._call["output_type"] = "np"

    def __call__(self, probe: Probe) -> Caught:
        """What the decoder is given for the latents ``probe(latents)``, of the shape of the pipeline's own.

        Raises:
            NoTailError: When no latents are drawn, the decoder is not reached, or the pipeline fails.
        """
        substitute = _Substitute(probe)
        catcher = _Catcher(substitute)
        output, failure = self._run(substitute, catcher, self._call)
        if substitute.shape is None or substitute.dtype is None:
            raise NoTailError("it draws no latents" if failure.startswith("its") else failure)
        decoded = catcher.whole() if self._autoencoder is not None else _first(output)
        if decoded is None:
            raise NoTailError(failure)
        return Caught(substitute.shape, substitute.dtype, decoded)

    def pictures(self, probe: Probe) -> Tensor:
        """The pictures (n, C, [frames,] height, width) in [0, 1] that the pipeline makes of the latents ``probe(…)``.

        Raises:
            NoTailError: When no pictures come out.
        """
        substitute = _Substitute(probe)
        call = self._call | ({"output_type": "np"} if "output_type" in self._names else {})
        output, failure = self._run(substitute, None, call)
        made = _first(output)
        if made is None:
            raise NoTailError(failure)
        return made

    def shade(self, value: float) -> float | None:
        """What the pipeline makes of ``value``, if its decoder gives that everywhere: a shade in [0, 1].

        A decoder of values in [−1, 1] gives (1 + value)/2, one of values in [0, 1] the value itself. None if no picture
        comes out.
        """
        substitute = _Substitute(torch.zeros_like)
        call = self._call | ({"output_type": "np"} if "output_type" in self._names else {})
        output, _ = self._run(substitute, _Painter(substitute, value), call)
        made = _first(output)
        return None if made is None else float(made.double().mean())

    def _run(self, substitute: _Substitute, catcher: _Catcher | None, call: dict[str, Any]) -> tuple[Any, str]:
        """What the pipeline returns, None if it does not come to its end, and why its decoder was not reached."""
        twin = copy.copy(self._pipe)
        failure = "its decoder is not reached"
        output = None
        try:
            function = self._prepare(twin, substitute, catcher)
            with torch.no_grad(), self._kept_dtype():
                output = function(twin, **call)
        except _Reached:
            pass
        except Exception as error:  # for any reason, after the decoder too
            failure = f"it fails with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        finally:
            vars(twin).clear()  # its functions lead back to it
        return output, failure

    def _prepare(self, twin: Any, substitute: _Substitute, catcher: _Catcher | None) -> Callable[..., Any]:
        """Put everything in the twin's place; returns the function to call."""
        own = vars(twin)
        draws = callable(getattr(twin, "prepare_latents", None))
        own["scheduler"] = without_times(self._pipe.scheduler, keeps_unit=not draws)
        own["_progress_bar_config"] = {"disable": True}
        own.update(self._prompts.functions(twin))
        if self._autoencoder is not None and catcher is not None:
            own[self._autoencoder] = module = copy.copy(own[self._autoencoder])
            vars(module)["decode"] = catcher
        function = self._kind.__call__
        if draws:
            own["prepare_latents"] = substitute.of(twin.prepare_latents)
            return function
        function = inspect.unwrap(function)
        if "randn_tensor" not in function.__globals__:
            raise NoTailError("it does not say where it draws its latents")
        return substitute.within(function)

    @contextlib.contextmanager
    def _kept_dtype(self) -> Iterator[None]:
        """Some pipelines cast their VAE before it decodes, and back again after it, which is not reached."""
        module = None if self._autoencoder is None else vars(self._pipe)[self._autoencoder]
        dtype = getattr(module, "dtype", None)
        try:
            yield
        finally:
            if dtype is not None and module is not None and module.dtype != dtype:
                module.to(dtype)


class _Substitute:
    """Puts a probe in the place of the first latents that a pipeline draws.

    Attributes:
        shape: Shape of the pipeline's latents; None until they are drawn.
        dtype: Their dtype.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.shape: tuple[int, ...] | None = None
        self.dtype: torch.dtype | None = None

    def _replaced(self, latents: Tensor) -> Tensor:
        self.shape, self.dtype = tuple(latents.shape), latents.dtype
        # In float32 at least: the map is then as exact as the pipeline's own numbers.
        return self._probe(latents.to(torch.promote_types(latents.dtype, torch.float32)))

    def of(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """``prepare_latents`` whose result, or its first part, is the probe."""

        @functools.wraps(prepare)
        def prepared(*args: Any, **kwargs: Any) -> Any:
            result = prepare(*args, **kwargs)
            if self.shape is not None:
                return result
            if isinstance(result, (tuple, list)):
                return type(result)((self._replaced(result[0]), *result[1:]))
            return self._replaced(result)

        return prepared

    def within(self, function: Any) -> Callable[..., Any]:
        """A copy of a function in which the first result of ``randn_tensor`` is the probe."""
        draw = function.__globals__["randn_tensor"]

        @functools.wraps(draw)
        def drawn(*args: Any, **kwargs: Any) -> Any:
            latents = draw(*args, **kwargs)
            return latents if self.shape is not None else self._replaced(latents)

        names = {**function.__globals__, "randn_tensor": drawn}
        made = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, function.__closure__
        )
        made.__kwdefaults__ = function.__kwdefaults__
        return made


class _Catcher:
    """In the place of ``decode``: keeps what it is given, and ends the call when all of the latents have come."""

    def __init__(self, substitute: _Substitute) -> None:
        self._substitute = substitute
        self._pieces: list[Tensor] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        self._pieces.append(given.detach().clone())
        shape = self._substitute.shape
        if shape is None or sum(piece.numel() for piece in self._pieces) >= torch.Size(shape).numel():
            raise _Reached
        from diffusers.models.autoencoders.vae import DecoderOutput

        return DecoderOutput(sample=given.new_zeros(len(given), 3, *given.shape[2:]))

    def whole(self) -> Tensor | None:
        """All pieces together; None without any, or of different sizes."""
        return joined(self._pieces)


class _Painter(_Catcher):
    """In the place of ``decode``: gives pictures of one value."""

    def __init__(self, substitute: _Substitute, value: float) -> None:
        super().__init__(substitute)
        self._value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from diffusers.models.autoencoders.vae import DecoderOutput

        given = args[0] if args else next(iter(kwargs.values()))
        return DecoderOutput(sample=given.new_full((len(given), 3, *given.shape[2:]), self._value))


def joined(pieces: list[Tensor]) -> Tensor | None:
    """What a decoder was given in several calls, as one batch; None without any, or of different sizes."""
    if not pieces or any(piece.shape[1:] != pieces[0].shape[1:] for piece in pieces):
        return None
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def without_times(scheduler: Any, *, keeps_unit: bool) -> Any:
    """A copy of a scheduler that shows no times.

    Args:
        scheduler: A scheduler of diffusers.
        keeps_unit: Whether noise of the first level has the deviation 1, so that a pipeline multiplies by nothing.
    """
    quiet = copy.deepcopy(scheduler)
    vars(quiet)["_times"] = vars(quiet).pop("timesteps", None)
    kind: Any = type(scheduler)
    quiet.__class__ = _quiet_class(kind, keeps_unit)
    return quiet


@functools.cache
def _quiet_class(kind: Any, keeps_unit: bool) -> Any:
    def times(self: Any) -> Any:
        own = vars(self).get("_times")
        return own.as_subclass(_NoTimes) if isinstance(own, Tensor) else own

    def set_times(self: Any, value: Any) -> None:
        vars(self)["_times"] = value

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NoTailError("it steps its scheduler without a time")

    changed: dict[str, Any] = {"timesteps": property(times, set_times), "step": step}
    if keeps_unit:
        changed["init_noise_sigma"] = property(lambda self: 1.0, lambda self, value: None)
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__} | changed)


class _NoTimes(Tensor):
    """A list of times that can be read, and has none when it is gone through."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Tensor]:
        """No times."""
        return iter(())

    def __getitem__(self, key: Any) -> Tensor:
        """A time; a part of the list is such a list."""
        part = self.as_subclass(Tensor)[key]
        return part.as_subclass(_NoTimes) if isinstance(key, slice) else part

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The list elsewhere."""
        return self.as_subclass(Tensor).to(*args, **kwargs).as_subclass(_NoTimes)


def _first(output: Any) -> Tensor | None:
    try:
        return pictures_of(output[0])
    except (TypeError, KeyError, IndexError):
        return None


def pictures_of(made: Any) -> Tensor | None:
    """The pictures of a pipeline, of any output type, as (n, C, [frames,] H, W) in [0, 1]; None for something else."""
    if isinstance(made, Tensor):
        pictures = made
    elif isinstance(made, np.ndarray):
        pictures = torch.from_numpy(made).movedim(-1, -3)
    else:  # PIL images, or lists of them
        try:
            arrays = np.stack([np.stack([np.asarray(frame) for frame in one]) if isinstance(one, list) else
                               np.asarray(one) for one in made])  # fmt: skip
        except (TypeError, ValueError):
            return None
        grey = arrays.ndim == 3 or (arrays.ndim == 4 and isinstance(made[0], list))
        pictures = torch.from_numpy(arrays[..., None] if grey else arrays).movedim(-1, -3) / 255
    return pictures.transpose(1, 2) if pictures.ndim == 5 else pictures


@contextlib.contextmanager
def unnoticed(pipe: Any) -> Iterator[None]:
    """Within the context, calls of a tail log no warnings and leave the global random numbers as they were."""
    device = torch.device(getattr(pipe, "_execution_device", "cpu"))
    devices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))  # the call that paints tells all that there is to tell
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        logging.disable(before)


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments of a call are the same; tensors and other objects when they are one object."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    plain = isinstance(one, (str, int, float, bool, torch.dtype, torch.device))
    return plain and bool(one == other)
