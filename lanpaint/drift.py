"""The drift: what a dynamics integrates at one noise level.

A Langevin dynamics needs three things: the score that pushes the state, the damping A of the linear force that it may
integrate exactly, and the time dτ of a step. The last two are constant on regions (the unknown and the known part of an
image). So they are kept *compact*: one value per region, in float64 on the CPU. Exponentials and Cholesky factors are
computed on these few numbers. Only the results are broadcast over the state, as its *coefficients*, once per level and
without waiting for the state's device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lanpaint.device import move_like
from lanpaint.noise import Prediction

Coefficient = Tensor | float
"""A factor of a state: a number, or a tensor that broadcasts against the state, in its dtype and on its device."""

Kept = TypeVar("Kept")


class Drift:
    """A drift function with its damping and the time of a step.

    Args:
        function: x → drift, shape of x: the score of the law to be sampled, in units of 1/x.
        damping: A > 0, in units of 1/x²: the score is close to C − A x with C slowly varying (LanPaint, Eq. 120).
        time_step: dτ ≥ 0, in units of x²: the Langevin time of one inner step; 0 freezes an entry.
        known: Boolean mask of two regions, broadcastable to x and on its device. Then ``damping`` and ``time_step``
            have a leading axis of length 2, unknown first, and the level's own shape behind it. None: one region, no
            leading axis.
        log_density: x → log p(x) up to a constant, shape (B,), where the law is known; its gradient is the drift on
            every entry that moves.

    Attributes:
        prediction: The last evaluation of the model, for callbacks, where the function keeps it there; else None.

    Raises:
        ValueError: For a damping that is not positive, a negative time step, and when ``known`` is given and one of
            them lacks the leading axis.
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
        self.damping = torch.as_tensor(damping, dtype=torch.float64)
        self.time_step = torch.as_tensor(time_step, dtype=torch.float64)
        self.known = known
        self.prediction: Prediction | None = None
        self._kept: dict[Hashable, Any] = {}
        for name, compact in {"damping": self.damping, "time_step": self.time_step}.items():
            if compact.device.type == "cpu":
                least = float(compact.min())  # NaN where there is one
                if not (least >= 0 if name == "time_step" else least > 0):
                    bound = "at least" if name == "time_step" else "above"
                    raise ValueError(f"{name} must be {bound} 0, got {least:g}")
            if known is not None and compact.shape[:1] != (2,):
                raise ValueError(
                    f"with two regions {name} needs a leading axis of 2 (unknown, known), got {tuple(compact.shape)}"
                )

    def __call__(self, x: Tensor) -> Tensor:
        """The drift at x."""
        return self.function(x)

    def broadcast(self, compact: Tensor, x: Tensor) -> Tensor:
        """A compact quantity (of ``damping`` and ``time_step``) as a tensor that broadcasts against x, in its dtype.

        It does not wait for the device of x. In one region with one level a number stays on the CPU, where arithmetic
        with x takes it as it is.
        """
        if self.known is None and not compact.shape:
            return compact.to(x.dtype)
        return _table([compact], self.known, x)[0]

    def coefficients(self, compacts: Sequence[Tensor], x: Tensor) -> list[Coefficient]:
        """Several compact quantities as coefficients of x, in one copy to its device. Made once for a level.

        In one region with one level they are numbers, and nothing is copied.
        """
        return coefficients(compacts, self.known, x)

    def record(self, compact: Kept, x: Tensor) -> Kept:
        """A dataclass of compact quantities, nested ones included, with coefficients of x in their place."""
        filled: Kept = _filled(compact, iter(self.coefficients(_compacts(compact), x)))
        return filled

    def once(self, owner: object, x: Tensor, make: Callable[[], Kept]) -> Kept:
        """What ``make`` returned when ``owner`` first asked with a state like x, for as long as the drift lives.

        A drift lives for one level, so a dynamics keeps the coefficients of the level here. It is the owner itself, or
        a pair of itself and a name where it keeps several things.
        """
        key = owner, x.dtype, x.device, x.ndim
        if key not in self._kept:
            self._kept[key] = make()
        kept: Kept = self._kept[key]
        return kept


def coefficients(compacts: Sequence[Tensor], known: Tensor | None, x: Tensor) -> list[Coefficient]:
    """Compact quantities of the regions of a mask as coefficients of x: see :meth:`Drift.coefficients`."""
    if known is None and not any(compact.shape or compact.device.type != "cpu" for compact in compacts):
        return [float(compact.to(x.dtype)) for compact in compacts]
    return list(_table(compacts, known, x))


def _table(compacts: Sequence[Tensor], known: Tensor | None, x: Tensor) -> tuple[Tensor, ...]:
    """Every quantity as a tensor that broadcasts against x; all are views of one tensor."""
    table = move_like(torch.stack(torch.broadcast_tensors(*compacts)), x)
    if known is None:
        return table.unbind()
    level = table.shape[2:]
    ndim = max(known.ndim, len(level))
    # Axes: the quantities, the two regions, then those of the state.
    unknown_part, known_part = table.view(len(compacts), 2, *(1,) * (ndim - len(level)), *level).unbind(1)
    return torch.where(known, known_part, unknown_part).unbind()


def _compacts(record: Any) -> list[Tensor]:
    """The tensors of a dataclass in the order of its fields, those of nested ones included."""
    found: list[Tensor] = []
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, Tensor):
            found.append(value)
        elif is_dataclass(value):
            found += _compacts(value)
    return found


def _filled(record: Any, found: Iterator[Coefficient]) -> Any:
    """The dataclass with its tensors, in the same order, replaced by what was found for them."""
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
    """Add every coefficient times its tensor to ``total``, in place. A dynamics spends its time in such sums."""
    for coefficient, tensor in terms:
        if isinstance(coefficient, Tensor):
            total.addcmul_(coefficient, tensor)
        else:
            total.add_(tensor, alpha=coefficient)
    return total


def add_terms(start: Tensor, *terms: tuple[Coefficient, Tensor]) -> Tensor:
    """``start`` plus every coefficient times its tensor, in one new tensor of start's shape and dtype."""
    (coefficient, tensor), *rest = terms
    if isinstance(coefficient, Tensor):
        total = torch.addcmul(start, coefficient, tensor)
    else:
        total = torch.add(start, tensor, alpha=coefficient)
    return add_to(total, *rest)


def sum_of(*terms: tuple[Coefficient, Tensor]) -> Tensor:
    """The sum of every coefficient times its tensor, in one new tensor."""
    (coefficient, tensor), *rest = terms
    return add_to(tensor * coefficient, *rest)
