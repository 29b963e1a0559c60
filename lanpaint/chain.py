"""Canvases larger than a model's window, window after window: wide pictures, long videos, long sequences.

Each window is completed by a sampler, given what its neighbours have made already and what was known from the start.
The windows are passed on as they are (latents are not decoded and encoded again), and known entries come back bit for
bit. What a chain samples is p(first window) Π p(rest of a window | its overlap), if the sampler is exact. That is the
law of the whole canvas if the overlap separates the past from the future, as for a Markov process of an order up to the
overlap; else it is the nearest such law (docs/chains.md). This is the wide image generation of ALM, Sec. 4.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lanpaint.images import replacing
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NormalNoise
from lanpaint.tiling import Part, Tiling

Order = Literal["forward", "backward", "outward"]
Content = Callable[[int, int], Observation]


class Chain:
    """Completes a canvas by overlapping windows, one after the other.

    Args:
        paint: A sampler of one window, or any function that is called as one: ``paint(observation, generator=…)``.
        window: Entries of a window along the last axes: a number for the last axis, or one for each of several last
            axes. None is a whole axis. Videos (B, C, F, H, W) in windows of 16 frames: ``(16, None, None)``.
        overlap: Entries that neighbours share, a number or one for each axis. The paper has a window of 512 pixels and
            an overlap of 128.
        order: ``"forward"`` or ``"backward"`` along the entries; ``"outward"`` from the middle of what is known, or of
            the canvas, to both sides.
        on_window: Called after each window with the number of finished windows and of all windows.

    Raises:
        TypeError: For a ``paint`` that is no function.
        ValueError: For an overlap that is not below the window, and an unknown order.

    Example:
        >>> import torch, lanpaint as lp
        >>> from lanpaint_toys import Gaussian
        >>> window = lp.LanPaint(Gaussian([0.0] * 4, torch.eye(4)), steps=5, inner_steps=1)
        >>> lp.Chain(window, window=4, overlap=2)((2, 9)).shape
        torch.Size([2, 9])
    """

    def __init__(
        self,
        paint: Callable[..., Tensor],
        window: int | Sequence[int | None],
        overlap: int | Sequence[int],
        *,
        order: Order = "forward",
        on_window: Callable[[int, int], object] | None = None,
    ) -> None:
        if not callable(paint):
            raise TypeError(f"paint must be a sampler, or a function that is called as one; got {type(paint).__name__}")
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {', '.join(get_args(Order))}, got {order!r}")
        self.paint, self.order, self.on_window = paint, order, on_window
        self.tiling = Tiling(window, overlap)

    def __call__(
        self,
        observation: Observation | Sequence[int],
        *,
        generator: Generators = None,
        noise: Callable[[Tensor], Tensor] | None = None,
        state: str | Path | None = None,
    ) -> Tensor:
        """Complete a canvas.

        Args:
            observation: What is known of the canvas, or the shape (B, …) of a canvas of which nothing is known.
            generator: One generator, or one per sample.
            noise: A source of standard normal numbers, instead of a generator.
            state: A file that is written after each window. If it exists, the chain goes on from there, with the same
                result as an uninterrupted run. It is left in place at the end.

        Returns:
            The canvas, shape (B, …). Known entries are equal to the observation bit for bit.

        Raises:
            ValueError: For a window larger than the canvas, a soft or noisy observation, a state of another chain, and
                a state without a generator.
        """
        if not isinstance(observation, Observation):
            observation = Observation.none(observation)
        if observation.is_noisy or observation.change is not None:
            raise ValueError(
                "a chain takes exact known values; give an observation without noise, and none that is soft"
            )
        generator, source = self._source(generator, noise, state)
        observation = observation.draw(noise or NormalNoise(generator))
        canvas, done = observation.values.clone(), observation.known.expand(observation.shape).clone()
        parts = self._ordered(self.tiling.parts(canvas.shape), done)
        of = self._of(observation.shape, observation.values)
        kept = _read(state, of, generator)
        if kept is not None:
            canvas = kept["canvas"].to(canvas)
        for index, part in enumerate(parts):
            if kept is None or index >= kept["next"]:
                known = done[part]
                if not bool(known.all()):
                    painted = self.paint(Observation(canvas[part], known), **source)
                    canvas[part] = torch.where(known, canvas[part], painted)
                _write(state, of, generator, {"next": index + 1, "canvas": canvas})
            done[part] = True
            if self.on_window is not None:
                self.on_window(index + 1, len(parts))
        return canvas

    def stream(
        self,
        shape: Sequence[int],
        *,
        content: Content | None = None,
        generator: Generators = None,
        noise: Callable[[Tensor], Tensor] | None = None,
        state: str | Path | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Complete a canvas of any length along the one axis that has windows.

        The memory does not depend on the length: two windows, and what makes the next.

        Args:
            shape: Shape (B, …) of the whole canvas.
            content: A function of where a window begins and ends, that returns what is known there.
            generator: One generator, or one per sample.
            noise: A source of standard normal numbers, instead of a generator.
            state: A file that is written after each window was taken. If it exists, the stream goes on from there. A
                kill while a strip is being used gives that strip once more, with the same entries.

        Yields:
            Where a strip begins along the axis, and the strip, which is finished. The strips follow one another.

        Raises:
            ValueError: As :meth:`__call__`, and for a tiling with more or fewer than one axis, or another order.
        """
        if len(self.tiling.axes) != 1 or self.order != "forward":
            raise ValueError('a stream takes windows along one axis, in the order "forward"')
        ((axis, size, _),) = self.tiling.axes
        parts = self.tiling.parts(shape)
        generator, source = self._source(generator, noise, state)
        of = self._of(shape)
        kept = _read(state, of, generator)
        tail = None if kept is None else kept["tail"]
        for index in range(0 if kept is None else kept["next"], len(parts)):
            start = parts[index][axis].start
            after = parts[index + 1][axis].start if index + 1 < len(parts) else start + size
            cut = [*shape]
            cut[axis] = size
            observation = Observation.none(cut) if content is None else content(start, start + size)
            if tail is not None:
                observation = _begun_with(observation, tail.to(observation.values), axis)
            known = observation.known.expand(observation.shape)
            painted = observation.values
            if not bool(known.all()):
                painted = torch.where(known, painted, self.paint(observation, **source))
            yield start, painted.narrow(axis, 0, after - start)
            tail = painted.narrow(axis, after - start, start + size - after).clone()
            del observation, known, painted  # the next window is made without them
            _write(state, of, generator, {"next": index + 1, "tail": tail})
            if self.on_window is not None:
                self.on_window(index + 1, len(parts))

    def decode(self, latents: Tensor, decoder: Callable[[Tensor], Tensor], scale: int = 8) -> Tensor:
        """The pixels of a canvas of latents, decoded window by window, each laid on top of the next (ALM, Sec. 4.3).

        Args:
            latents: The canvas, shape (B, c, …).
            decoder: Latents of a window → its pixels, ``scale`` times as large along each axis that has windows.
            scale: Pixels for each latent along an axis.
        """
        axes = {latents.ndim + axis for axis, _, _ in self.tiling.axes}
        canvas: Tensor | None = None
        for part in reversed(self.tiling.parts(latents.shape)):
            pixels = decoder(latents[part])
            if canvas is None:
                shape = [n * latents.shape[i] // latents[part].shape[i] for i, n in enumerate(pixels.shape)]
                canvas = pixels.new_zeros([pixels.shape[1] if i == 1 else n for i, n in enumerate(shape)])
            at = [slice(p.start * scale, p.stop * scale) if i in axes else slice(None) for i, p in enumerate(part)]
            canvas[tuple(at)] = pixels
        assert canvas is not None
        return canvas

    def _source(self, generator: Generators, noise: Any, state: Any) -> tuple[list[torch.Generator], dict[str, Any]]:
        """The generators as a list, and the argument of the painter."""
        if noise is not None:
            if generator is not None or state is not None:
                raise ValueError("noise takes neither a generator nor a state; give a generator")
            return [], {"noise": noise}
        if generator is None:
            if state is not None:
                raise ValueError("a chain that goes on after a kill needs a generator; give generator")
            generator = torch.Generator()
            generator.seed()
        if isinstance(generator, torch.Generator):
            return [generator], {"generator": generator}
        generators = list(generator)
        return generators, {"generator": generators}

    def _ordered(self, parts: list[Part], known: Tensor) -> list[Part]:
        if self.order == "forward":
            return parts
        if self.order == "backward":
            return parts[::-1]
        at = known.nonzero().double() if bool(known.any()) else torch.tensor(known.shape).double()[None]
        middle = (at.amin(0) + at.amax(0)) / 2 if bool(known.any()) else at[0] / 2
        axes = [axis for axis, _, _ in self.tiling.axes]

        def distance(part: Part) -> float:
            return sum(float((part[axis].start + part[axis].stop - 1) / 2 - middle[axis]) ** 2 for axis in axes)

        return sorted(parts, key=distance)

    def _of(self, shape: Sequence[int], values: Tensor | None = None) -> str:
        """What a state belongs to, in words: the windows, the canvas and its known content."""
        digest = "" if values is None else hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()[:12]
        return f"window {self.tiling.window}, overlap {self.tiling.overlap}, {self.order}, {tuple(shape)} {digest}"


def _begun_with(observation: Observation, tail: Tensor, axis: int) -> Observation:
    """The observation of a window whose first entries along an axis are known to be ``tail``."""
    values, known = observation.values.clone(), observation.known.expand(observation.shape).clone()
    values.narrow(axis, 0, tail.shape[axis]).copy_(tail)
    known.narrow(axis, 0, tail.shape[axis]).fill_(True)
    return Observation(values, known)


def _write(path: str | Path | None, of: str, generators: list[torch.Generator], state: dict[str, Any]) -> None:
    """Write a state beside its file and move it there, so that a kill leaves the last state or the one before."""
    if path is None:
        return
    with replacing(path) as fresh:
        torch.save({"of": of, "generators": [g.get_state() for g in generators], **state}, fresh)


def _read(path: str | Path | None, of: str, generators: list[torch.Generator]) -> dict[str, Any] | None:
    """The state in a file, or None without one. The generators are set to what they were."""
    if path is None or not Path(path).exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state["of"]
    except Exception as error:
        raise ValueError(f"{path} is not the state of a chain; delete it to begin anew") from error
    if found != of or len(state["generators"]) != len(generators):
        raise ValueError(f"{path} is the state of another chain ({found}); delete it to begin anew")
    for generator, numbers in zip(generators, state["generators"], strict=True):
        generator.set_state(numbers)
    return state
