"""The drift: what a dynamics integrates at one noise level.

A Langevin dynamics needs three things of the world: the score that pushes the state, the damping A of the linear force
that it may integrate exactly, and the step dτ. The last two are constant on regions (the unknown and the known part of
an image), so they are kept *compact*, one value per region, and spread over the state only where they meet it:
whatever is computed from them (exponentials, Cholesky factors) is computed on a handful of numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lanpaint.noise import Prediction


class Drift:
    """A drift function with its damping and its step.

    Args:
        function: x → drift, shape of x: the score of the law to be sampled, in units of 1/x.
        damping: A > 0, in units of 1/x²: the score is close to C − A x with C slowly varying (LanPaint, Eq. 120).
        time_step: dτ ≥ 0, in units of x²: the Langevin time of one inner step; 0 freezes an entry.
        known: Boolean mask of two regions, broadcastable to x. Then ``damping`` and ``time_step`` have a leading axis
            of length 2, unknown first, and the level's own shape behind it. None: one region, no leading axis.
        log_density: x → log p(x) up to a constant, shape (B,), where the law is known; its gradient is the drift on
            every entry that moves.

    Attributes:
        prediction: The last evaluation of the model, for callbacks, where the function keeps it there; else None.

    Raises:
        ValueError: For a damping that is not positive, a negative step, and when ``known`` is given and one of them
            lacks the leading axis.
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
        for name, compact in {"damping": self.damping, "time_step": self.time_step}.items():
            if compact.device.type == "cpu" and not bool((compact >= 0 if name == "time_step" else compact > 0).all()):
                bound = "at least" if name == "time_step" else "above"
                raise ValueError(f"{name} must be {bound} 0, got {float(compact.min()):g}")
            if known is not None and compact.shape[:1] != (2,):
                raise ValueError(
                    f"with two regions {name} needs a leading axis of 2 (unknown, known), got {tuple(compact.shape)}"
                )

    def __call__(self, x: Tensor) -> Tensor:
        """The drift at x."""
        return self.function(x)

    def broadcast(self, compact: Tensor, x: Tensor) -> Tensor:
        """A compact quantity (of ``damping`` and ``time_step``) as a tensor that broadcasts against x, in its dtype."""
        if self.known is None:
            return compact.to(x.dtype) if not compact.shape else compact.to(x)
        unknown, known = (part.to(x.dtype) if not part.shape else part.to(x) for part in compact)
        return torch.where(self.known, known, unknown)


def blend(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """``start`` + weight (``end`` − ``start``), a new tensor; the weight is what :meth:`Drift.broadcast` returns."""
    return torch.lerp(start, end, weight if weight.shape else float(weight))


def add_to(total: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """Add every coefficient times its tensor to ``total``, in place. A dynamics spends its time in such sums."""
    for coefficient, tensor in terms:
        if coefficient.shape:
            total.addcmul_(coefficient, tensor)
        else:
            total.add_(tensor, alpha=float(coefficient))
    return total


def add_terms(start: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """``start`` plus every coefficient times its tensor, in one new tensor of start's shape and dtype.

    Coefficients are what :meth:`Drift.broadcast` returns.
    """
    (coefficient, tensor), *rest = terms
    if coefficient.shape:
        total = torch.addcmul(start, coefficient, tensor)
    else:
        total = torch.add(start, tensor, alpha=float(coefficient))
    return add_to(total, *rest)
