"""Preconditioning: a different time step in each direction of space (LanPaint, Eq. 133, 145).

    dx = P s dτ + √(2P) dW                                                      of overdamped dynamics
    dx = P q dτ,    dq = Γ (−P q dτ + P s dτ + √(2P) dW)                        of FLD

for a symmetric positive definite P. In the eigenbasis of P (a rotation) each coordinate has the time step P_i dτ, with
P_i an eigenvalue. So any dynamics is preconditioned by rotating its state and scaling its time step. The stationary
distribution does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.checks import as_numbers, shown
from lanpaint.drift import Drift
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PreconditionedState(State):
    """State of :class:`Preconditioned`.

    Attributes:
        x: Position, shape (B, …).
        inner: State of the wrapped dynamics. Its position is x itself for a diagonal P, x in the eigenbasis of a
            matrix P, and w = P^(−1/2) (x − origin) for an operator P.
        origin: Position at :meth:`Preconditioned.init`, shape of x, where w = 0.
        drift: The drift of the level.
        inner_drift: The drift of the level in the coordinates of the wrapped dynamics.
    """

    inner: State
    origin: Tensor
    drift: Drift
    inner_drift: Drift

    @property
    def momentum(self) -> Tensor | None:
        """Momentum of the wrapped dynamics, in its coordinates."""
        return getattr(self.inner, "momentum", None)


class Preconditioned(Dynamics):
    """Any dynamics with a preconditioner P (LanPaint, Eq. 133, 145). P is a diagonal, a matrix or an operator.

    It takes as many evaluations as the dynamics without P.

    Args:
        dynamics: The dynamics to precondition.
        diagonal: A number, or a tensor that broadcasts against x: the factor of the time step for each entry.
        matrix: A symmetric positive definite matrix (d, d), for states of d entries per sample. If the drift has a
            known and an unknown region, the block of the unknown entries is used, and known entries keep their time
            step. Then all samples of the batch must have one mask.
        operator: A pair of functions (x → P x, x → √P x) on tensors of shape (B, …), with a symmetric √P, for drifts of
            one region. The dynamics runs in w = P^(−1/2) x. For overdamped dynamics that is Eq. 133. Other dynamics
            keep their stationary distribution, but their friction and damping act in w.

    Raises:
        ValueError: Unless exactly one of diagonal, matrix and operator is given; for a P that is not positive,
            symmetric or of the state's size; in a run, for a drift that P does not fit.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        diagonal: float | Tensor | None = None,
        *,
        matrix: Tensor | None = None,
        operator: tuple[Matvec, Matvec] | None = None,
    ) -> None:
        if sum(given is not None for given in (diagonal, matrix, operator)) != 1:
            raise ValueError("a preconditioner P comes in one way: give exactly one of diagonal, matrix and operator")
        if not isinstance(dynamics, Dynamics):
            raise TypeError(f"dynamics must be an instance of Dynamics such as Langevin(), got {shown(dynamics)}")
        self.dynamics, self.operator, self.order = dynamics, operator, dynamics.order
        self.diagonal = None if diagonal is None else as_numbers("diagonal", diagonal).cpu()
        self.matrix = None if matrix is None else as_numbers("matrix", matrix)
        if self.diagonal is not None and not bool((torch.isfinite(self.diagonal) & (self.diagonal > 0)).all()):
            raise ValueError(f"every factor of a diagonal P must be positive, got {float(self.diagonal.min()):g}")
        if self.matrix is not None:
            _check_matrix(self.matrix)
        self._basis: tuple[Tensor, Tensor, Tensor] | None = None

    def evaluations(self, inner_steps: int) -> int:
        """Evaluations of the wrapped dynamics."""
        return self.dynamics.evaluations(inner_steps)

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> PreconditionedState:
        """The state at x. The wrapped dynamics is initialised in its coordinates."""
        if self.operator is not None:
            start = torch.zeros_like(x)
        elif self.matrix is not None:
            start = x.flatten(1) @ self._eigenbasis(x, drift)[0].to(x)
        else:
            start = x
        inner_drift = self._inner(x, drift)
        return PreconditionedState(x, self.dynamics.init(start, inner_drift, noise), x, drift, inner_drift)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> PreconditionedState:
        """The state after one step of the wrapped dynamics."""
        assert isinstance(state, PreconditionedState)
        inner_drift = state.inner_drift if drift is state.drift else self._inner(state.origin, drift)
        inner = self.dynamics.step(state.inner, inner_drift, noise)
        if self.operator is not None:
            x = state.origin + self.operator[1](inner.x)
        elif self.matrix is not None:
            x = (inner.x @ self._eigenbasis(state.x, drift)[0].to(inner.x).mT).view(-1, *state.x.shape[1:])
        else:
            x = inner.x
        return PreconditionedState(x, inner, state.origin, drift, inner_drift)

    def _inner(self, origin: Tensor, drift: Drift) -> Drift:
        """The drift in the coordinates of the wrapped dynamics; ``origin`` has the state's shape."""
        if self.operator is not None:
            if drift.known is not None:
                raise ValueError("an operator P mixes known and unknown entries; give a matrix for a masked state")
            root = self.operator[1]
            return Drift(lambda w: root(drift(origin + root(w))), drift.damping, drift.time_step)
        if self.matrix is None:
            assert self.diagonal is not None
            return _scaled(drift, drift, self.diagonal, drift.known)
        rotation, speeds, known = self._eigenbasis(origin, drift)
        back = rotation.to(origin)

        def rotated(u: Tensor) -> Tensor:
            return drift((u @ back.mT).view(-1, *origin.shape[1:])).flatten(1) @ back

        return _scaled(drift, rotated, speeds, None if drift.known is None else known, ndim=origin.ndim)

    def _eigenbasis(self, x: Tensor, drift: Drift) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors (d, d), eigenvalues (d,) and mask (d,) of P, with known entries replaced by the identity."""
        assert self.matrix is not None
        dim = x[0].numel()
        if self.matrix.shape[0] != dim:
            raise ValueError(
                f"P has shape {tuple(self.matrix.shape)}, but a sample has {dim} entries; give a matrix ({dim}, {dim})"
            )
        if drift.known is None:
            known = torch.zeros(dim, dtype=torch.bool)
        else:
            masks = drift.known.expand(x.shape).flatten(1)
            known = masks[0].cpu()
            if not bool((masks == masks[0]).all()):
                raise ValueError("a matrix P needs one mask for the whole batch; run samples of other masks separately")
        if self._basis is None or not torch.equal(self._basis[2], known):
            rotation, speeds = torch.eye(dim, dtype=torch.float64), torch.ones(dim, dtype=torch.float64)
            rows = (~known).nonzero()[:, 0]
            speeds[rows], rotation[rows[:, None], rows] = torch.linalg.eigh(self.matrix.cpu()[rows[:, None], rows])
            self._basis = rotation, speeds, known
        return self._basis


def _check_matrix(matrix: Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a matrix P must have shape (d, d), got {tuple(matrix.shape)}")
    if not torch.allclose(matrix, matrix.mT, rtol=1e-8, atol=0):
        raise ValueError("a matrix P must be symmetric")
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    if not smallest > 0:
        raise ValueError(f"a matrix P must be positive definite, its smallest eigenvalue is {smallest:.3g}")


def _scaled(
    drift: Drift, function: Callable[[Tensor], Tensor], speeds: Tensor, known: Tensor | None, ndim: int | None = None
) -> Drift:
    """A drift of ``function`` whose time step is ``speeds`` times as long, with small compact quantities."""

    def regions(compact: Tensor) -> list[Tensor]:
        parts = [compact] if drift.known is None else list(compact)
        if ndim is None:  # not rotated
            return parts
        if any(part.numel() > 1 and (part.ndim < ndim or part[0].numel() > 1) for part in parts):
            raise ValueError("a matrix P takes one noise level per batch or per sample, not one per entry")
        return [part.reshape(-1, 1) if part.shape else part for part in parts]

    steps = [step * speeds.to(step.device) for step in regions(drift.time_step)]
    dampings = [part.expand(step.shape) for part, step in zip(regions(drift.damping), steps, strict=True)]
    if drift.known is None or known is None:
        return Drift(function, dampings[0], steps[0])
    return Drift(function, torch.stack(dampings), torch.stack(steps), known.to(drift.known.device))
