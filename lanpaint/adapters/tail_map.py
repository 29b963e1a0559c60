"""The map from a pipeline's latents to what its decoder is given, read off from the pipeline's own tail.

Every entry that the decoder is given is a number times one entry of the latents plus a number:

    decoded[m] = scale[m] · latents[source[m]] + shift[m]

Packing, patches and the order of axes are ``source``; scaling factors and statistics per channel are ``scale`` and
``shift``. Latents of zeros show ``shift`` and latents of ones ``scale``. Latents that hold the digits of their own
places show ``source``, and random latents check all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.adapters.tail import Caught, NoTailError, Probe

# Bits of the fraction of a number, the first one included.
_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
# Bits that rounding in the tail may cost: a digit must survive it.
_SPARE_BITS = 5
_NOT_ENTRIES = "what its decoder is given is no number times an entry of its latents plus a number"


@dataclass(frozen=True)
class TailMap:
    """From the latents of one sample to what the decoder is given for it, and back.

    Attributes:
        latents: Shape of the latents of a sample.
        rows: Entries of the decoder's batch for a sample: 1, or the number of frames for a decoder of stills.
        decoded: Shape of one such entry, (channels, [frames,] height, width).
        source: For each entry that the decoder is given for a sample, the place of its latent entry; −1 for none.
        scale: What the latent entry is multiplied by, float64, shape of ``source``.
        shift: What is added, float64, shape of ``source``.
        eps: The relative rounding error of the pipeline's tail.
    """

    latents: tuple[int, ...]
    rows: int
    decoded: tuple[int, ...]
    source: Tensor
    scale: Tensor
    shift: Tensor
    eps: float

    def apply(self, latents: Tensor) -> Tensor:
        """What the decoder is given for latents (B, …), float64: (B · rows, …)."""
        flat = latents.detach().cpu().double().reshape(len(latents), -1)
        made = torch.where(self.source < 0, 0.0, flat[:, self.source.clamp(min=0)]) * self.scale + self.shift
        return made.reshape(-1, *self.decoded)

    def invert(self, decoded: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Latents for which the decoder is given ``decoded``, and how much their entries may change.

        Args:
            decoded: (n · rows, …).
            change: From 0 (known) to 1 (free), the shape of ``decoded``.

        Returns:
            Values and changes, float32, both (n, …). An entry that the decoder is not given is free.
        """
        used = self.source >= 0
        target = self.source[used]
        given, shares = (t.detach().cpu().double().reshape(-1, len(self.source))[:, used] for t in (decoded, change))
        values = torch.zeros(len(given), torch.Size(self.latents).numel(), dtype=torch.float64)
        entries = torch.ones_like(values)
        values[:, target], entries[:, target] = (given - self.shift[used]) / self.scale[used], shares
        return values.float().reshape(-1, *self.latents), entries.float().reshape(-1, *self.latents)


def learn_map(tail: Callable[[Probe], Caught], reach: float = 4.0) -> TailMap:
    """The map of a pipeline's tail.

    Args:
        tail: Gives what the decoder is given for the latents that a probe puts in the pipeline's place.
        reach: The largest magnitude of the probes. The tail must be affine up to there.

    Raises:
        NoTailError: When the tail cannot be run, or is no such map.
    """
    first = tail(torch.zeros_like)
    batch, rows = first.latents[0], len(first.decoded)
    if not batch or rows % batch:
        raise NoTailError(f"its decoder is given {rows} for latents of {batch}")
    bits = [_BITS.get(first.decoded.dtype, 8), 8]  # the tail may round to less than what it gives its decoder
    for attempt, precision in enumerate(dict.fromkeys(bits)):
        try:
            return _Learner(tail, first, reach, precision).learn()
        except NoTailError:
            if attempt or precision == bits[-1]:
                raise
    raise AssertionError


class _Learner:
    def __init__(self, tail: Callable[[Probe], Caught], first: Caught, reach: float, bits: int) -> None:
        self._tail, self._first, self._reach, self._bits = tail, first, reach, bits
        self._eps = 2.0 ** (1 - min(bits, _BITS.get(first.dtype, 8)))
        self._batch = first.latents[0]
        self._size = torch.Size(first.latents[1:]).numel()

    def learn(self) -> TailMap:
        shift = self._flat(self._first)[0]
        one = self._asked(torch.ones(self._size, dtype=torch.float64))[0]
        scale = one - shift
        used = scale != 0
        if not bool(used.any()):
            raise NoTailError("what its decoder is given does not depend on its latents")
        digits, step = self._digits()
        source = torch.zeros(len(scale), dtype=torch.int64)
        inputs, outputs = [torch.zeros_like(shift), torch.ones_like(shift)], [shift, one]
        for place, digit in enumerate(digits):
            values = digit * step - self._reach
            given = self._asked(values)[0]
            read = ((given - shift) / torch.where(used, scale, 1.0) + self._reach) / step
            if not bool((abs(read - read.round())[used] < 0.25).all()):
                raise NoTailError(_NOT_ENTRIES)
            source += read.round().long() * self._base**place
            outputs.append(given)
        source = torch.where(used, source, -1)
        places = source[used]
        if int(places.min()) < 0 or int(places.max()) >= self._size:
            raise NoTailError(_NOT_ENTRIES)
        if int(torch.bincount(places).max()) > 1:
            raise NoTailError("its decoder is given some entries of its latents several times")
        inputs += [(digit * step - self._reach)[source.clamp(min=0)] for digit in digits]
        scale, shift = _fitted(scale, shift, one, used, inputs, outputs)
        rows = len(self._first.decoded) // self._batch
        learned = TailMap(
            self._first.latents[1:], rows, tuple(self._first.decoded.shape[1:]), source, scale, shift, self._eps
        )
        self._check(learned)
        return learned

    @property
    def _base(self) -> int:
        return int(2 ** (min(self._bits, 24) - _SPARE_BITS))

    def _digits(self) -> tuple[list[Tensor], float]:
        """The digits of all places, the lowest first, and the step between two of them in a probe."""
        places = torch.arange(self._size)
        digits: list[Tensor] = []
        while not digits or int(places.max()) > 0:
            digits.append((places % self._base).double())
            places = places // self._base
        return digits, 2 * self._reach / self._base

    def _asked(self, values: Tensor) -> Tensor:
        """What the decoder is given for latents of these values in every sample: (B, entries), float64."""
        shape = self._first.latents[1:]
        return self._flat(self._tail(lambda like: values.to(like).reshape(1, *shape).expand(like.shape).clone()))

    def _flat(self, caught: Caught) -> Tensor:
        if caught.latents != self._first.latents or caught.decoded.shape != self._first.decoded.shape:
            raise NoTailError("its latents have another size in each call")
        return caught.decoded.detach().cpu().double().reshape(self._batch, -1)

    def _check(self, learned: TailMap) -> None:
        """Random latents, other ones for each sample, come out as the map says."""
        generator = torch.Generator().manual_seed(0)
        values = self._reach * (2 * torch.rand(self._first.latents, generator=generator) - 1)
        got = self._flat(self._tail(lambda like: values.to(like)))
        expected = learned.apply(values).reshape(got.shape)
        bound = 16 * self._eps * (abs(learned.scale) * self._reach + abs(learned.shift)).clamp(min=1e-30)
        if not bool((abs(got - expected) <= bound).all()):
            raise NoTailError("what its decoder is given is no affine map of its latents, sample by sample")


def _fitted(
    scale: Tensor, shift: Tensor, one: Tensor, used: Tensor, inputs: list[Tensor], outputs: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Scale and shift by least squares over all entries that share them.

    Entries of one channel usually do, and then zeros and ones give them equal numbers. In 16 bits each entry is rounded
    by up to 0.4 percent, their mean by far less.
    """
    pairs = torch.stack([shift.float(), one.float()], -1).view(torch.int64).squeeze(-1)
    _, group = pairs.unique(return_inverse=True)
    groups = int(group.max()) + 1

    def mean(values: Tensor) -> Tensor:
        return torch.bincount(group, values, minlength=groups) / torch.bincount(group, minlength=groups)

    count = len(inputs)
    x, y = (mean(torch.stack(values).mean(0)) for values in (inputs, outputs))
    deviations = [(a - x[group], b - y[group]) for a, b in zip(inputs, outputs, strict=True)]
    spread = mean(torch.stack([a * a for a, _ in deviations]).sum(0) / count)
    shared = mean(torch.stack([a * b for a, b in deviations]).sum(0) / count)
    slope = shared / spread
    return torch.where(used, slope[group], 0.0), torch.where(used, (y - slope * x)[group], shift)
