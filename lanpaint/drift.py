"""The drift: what a dynamics integrates at one noise level.

A Langevin dynamics needs three things: the score, the damping A of the linear force that it may integrate exactly, and
the time step dτ. A and dτ are constant on regions (the unknown and the known part of an image). So they are kept
*compact*: one value per region, in float64 on the CPU. Exponentials and Cholesky factors are computed on these few
numbers. Only the results are broadcast over the state, as *coefficients*, once per level and without waiting for the
state's device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lanpaint.checks import as_numbers
from lanpaint.device import move_like
from lanpaint.noise import Prediction

Coefficient = Tensor | float
"""A factor of a state: a number, or a tensor that broadcasts against the state, with the state's dtype and device."""

Kept = TypeVar("Kept")


class Drift:
    """A drift function with its damping and time step.

    Args:
        function: x → drift, shape of x, in units of 1/x. The drift is the score of the distribution to sample.
        damping: A > 0, in units of 1/x²: the score is close to C − A x, where C varies slowly (LanPaint, Eq. 120).
        time_step: dτ ≥ 0, in units of x²: the Langevin time of one inner step. Entries with dτ = 0 do not move.
        known: Boolean mask of the known entries, which broadcasts to x and is on the device of x. If given, there are
            two regions: ``damping`` and ``time_step`` have the shape ``(2, *level)``, the unknown part first. If None,
            there is one region, and they have the shape of the level.
        log_density: x → log p(x) up to a constant, shape (B,), if the density is known. Its gradient must equal the
            drift on every entry that moves.

    Attributes:
        prediction: The last evaluation of the model, for callbacks, if the function stores it here; else None.

    Raises:
        ValueError: For a damping that is not positive, a negative time step, and when ``known`` is given but
            ``damping`` or ``time_step`` has no leading axis of length 2.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        damping: Tensor | float,
        time_step: Tensor | float,
        known: Tensor | None = None,
        log_density: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.function, self.log_density = function, log_density
        self.damping = as_numbers("damping", damping)
        self.time_step = as_numbers("time_step", time_step)
        self.known = known
        self.prediction: Prediction | None = None
        self._kept: dict[Hashable, Any] = {}
        for name, compact in {"damping": self.damping, "time_step": self.time_step}.items():
            if compact.device.type == "cpu":
                least = float(compact.min())  # NaN if any entry is NaN
                if not (least >= 0 if name == "time_step" else least > 0):
                    bound = "at least" if name == "time_step" else "above"
                    raise ValueError(f"{name} must be {bound} 0, got {least:g}")
            if known is not None and compact.shape[:1] != (2,):
                raise ValueError(
                    f"with two regions {name} needs a leading axis of 2 (unknown, known), got {tuple(compact.shape)}"
                )

    def __call__(self, x: Tensor) -> Tensor:
        """The drift at x, shape of x, in units of 1/x."""
        return self.function(x)

    def broadcast(self, compact: Tensor, x: Tensor) -> Tensor:
        """A compact quantity (such as ``damping``) as a tensor that broadcasts against x, in the dtype of x.

        It does not wait for the device of x. With one region and one level the result is a 0-d tensor on the CPU, which
        arithmetic with x accepts.
        """
        if self.known is None and not compact.shape:
            return compact.to(x.dtype)
        return _table([compact], self.known, x)[0]

    def coefficients(self, compacts: Sequence[Tensor], x: Tensor) -> list[Coefficient]:
        """Several compact quantities as coefficients of x, in one copy to the device of x.

        With one region and one level the coefficients are numbers, and nothing is copied. Call it once per level, see
        :meth:`once`.
        """
        return coefficients(compacts, self.known, x)

    def record(self, compact: Kept, x: Tensor) -> Kept:
        """A copy of a dataclass in which each compact quantity is replaced by a coefficient of x, nested ones too."""
        filled: Kept = _filled(compact, iter(self.coefficients(_compacts(compact), x)))
        return filled

    def once(self, owner: object, x: Tensor, make: Callable[[], Kept]) -> Kept:
        """The result of ``make()``, which is called once and then remembered as long as the drift lives.

        A drift lives for one level, so a dynamics keeps the coefficients of the level here.

        Args:
            owner: The dynamics. A dynamics that remembers several results uses pairs (dynamics, name).
            x: The state. A state of another dtype, device or number of axes gets a separate result.
            make: The function to call.
        """
        key = owner, x.dtype, x.device, x.ndim
        if key not in self._kept:
            self._kept[key] = make()
        kept: Kept = self._kept[key]
        return kept


def coefficients(compacts: Sequence[Tensor], known: Tensor | None, x: Tensor) -> list[Coefficient]:
    """Compact quantities as coefficients of x, for the regions of a mask: see :meth:`Drift.coefficients`."""
    if known is None and not any(compact.shape or compact.device.type != "cpu" for compact in compacts):
        return [float(compact.to(x.dtype)) for compact in compacts]
    return list(_table(compacts, known, x))


def _table(compacts: Sequence[Tensor], known: Tensor | None, x: Tensor) -> tuple[Tensor, ...]:
    """Each quantity as a tensor that broadcasts against x. The tensors are views of one tensor."""
    table = move_like(torch.stack(torch.broadcast_tensors(*compacts)), x)
    if known is None:
        return table.unbind()
    level = table.shape[2:]
    ndim = max(known.ndim, len(level))
    # Axes: quantities, two regions, axes of the state.
    unknown_part, known_part = table.view(len(compacts), 2, *(1,) * (ndim - len(level)), *level).unbind(1)
    return torch.where(known, known_part, unknown_part).unbind()


def _compacts(record: Any) -> list[Tensor]:
    """The tensors of a dataclass in the order of its fields, nested dataclasses included."""
    found: list[Tensor] = []
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, Tensor):
            found.append(value)
        elif is_dataclass(value):
            found += _compacts(value)
    return found


def _filled(record: Any, found: Iterator[Coefficient]) -> Any:
    """The dataclass with its tensors replaced by coefficients, in the order of :func:`_compacts`."""
    values: dict[str, Any] = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, Tensor):
            values[f.name] = next(found)
        elif is_dataclass(value):
            values[f.name] = _filled(value, found)
    return replace(record, **values)


def blend(start: Tensor, end: Tensor, weight: Coefficient) -> Tensor:
    """``start`` + weight (``end`` − ``start``), a new tensor."""
    return torch.lerp(start, end, weight)


def add_to(total: Tensor, *terms: tuple[Coefficient, Tensor]) -> Tensor:
    """Add each coefficient times its tensor to ``total``, in place. A dynamics spends most of its time in such sums."""
    for coefficient, tensor in terms:
        if isinstance(coefficient, Tensor):
            total.addcmul_(coefficient, tensor)
        else:
            total.add_(tensor, alpha=coefficient)
    return total


def add_terms(start: Tensor, *terms: tuple[Coefficient, Tensor]) -> Tensor:
    """``start`` plus each coefficient times its tensor, as a new tensor of the shape and dtype of ``start``."""
    (coefficient, tensor), *rest = terms
    if isinstance(coefficient, Tensor):
        total = torch.addcmul(start, coefficient, tensor)
    else:
        total = torch.add(start, tensor, alpha=coefficient)
    return add_to(total, *rest)


def sum_of(*terms: tuple[Coefficient, Tensor]) -> Tensor:
    """The sum of each coefficient times its tensor, as a new tensor."""
    (coefficient, tensor), *rest = terms
    return add_to(tensor * coefficient, *rest)
