"""A linear operator from a pair of functions, A and Aᵀ, whose singular value decomposition is not known.

The rows of A are Aᵀ of the unit measurements, or its columns A of the unit samples, whichever are fewer. The matrix
gives A = U S Vᵀ with V of n × r, for n entries of a sample and r directions that A sees.

A rotated basis needs a square V. Its other n − r columns are any orthonormal complement, and are never written down:
Householder's reflectors take the r columns to the first r unit vectors, up to signs, so their product is a complete
basis. In the compact form of the product (Schreiber and Van Loan, 1989; Puglisi, 1992)

    V = I − Y T Yᵀ,   T⁻¹ + T⁻ᵀ = Yᵀ Y,

with Y of n × r and T of r × r upper triangular. A rotation is three products of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lanpaint.checks import check_between, check_whole, shown
from lanpaint.device import Constants
from lanpaint.linear import LinearOperator

_MOST = 2**25  # entries of A: 256 MiB in float64
_AT_ONCE = 2**22  # entries of samples and measurements in one call of a function
_TOLERANCE = 1e-5  # relative, so that functions which compute in float32 pass
Linear = Callable[[Tensor], Tensor]


class PairOperator(LinearOperator):
    """A linear operator from two functions, x ↦ A x and y ↦ Aᵀ y. Its decomposition is found from them, once.

    The functions get float64 batches on the CPU, so weights in them must follow: ``kernel.to(x)``. They are used while
    the operator is made, and not afterwards: the operator itself, its adjoint and its rotations come from the
    decomposition, run on the device and in the dtype of a sample, and have gradients. Directions that A sees less than
    ``cutoff`` count as not seen, and A x is without them.

    Cost: for n entries of a sample, m of a measurement and r directions seen, min(m, n) applications of a function in
    batches, and a singular value decomposition in max(m, n)·min(m, n)² operations. A rotation of a sample takes about
    4 n r. Memory: n r + m r + r² numbers in float64, as many again for each dtype and device of samples, and several
    times m n while the operator is made. A 3 × 32 × 32 picture with as many measurements takes half a minute of a core.
    More than 2²⁵ = m n entries are refused. An operator whose decomposition is known in closed form is better a
    subclass of :class:`LinearOperator`.

    Where singular values are equal, V is not unique. So the sample of one seed may be another on another machine.

    Args:
        shape: Shape of a sample, without its batch dimension.
        forward: A: samples of shape (B, …) to measurements (B, …) of any shape.
        adjoint: Aᵀ: measurements to samples.
        cutoff: Smallest singular value that counts, as a share of the largest, from 1e-12 to below 1. Rounding errors
            of y grow by its inverse in z. The default keeps those of float32 below 1e-4. For measurements of 8 bits,
            0.05 is better.

    Attributes:
        measured: Shape of a measurement, without its batch dimension.

    Raises:
        ValueError: For functions that are not linear, not adjoint to each other (both to a relative 1e-5, on random
            vectors), that mix the samples of a batch, fail on float64 or give values that are not finite; for an A that
            is zero, or has more than 2²⁵ entries.

    Example:
        >>> import torch, lanpaint as lp
        >>> differences = lp.PairOperator(
        ...     (4,),
        ...     lambda x: x[:, 1:] - x[:, :-1],
        ...     lambda y: torch.nn.functional.pad(y, (1, 0)) - torch.nn.functional.pad(y, (0, 1)),
        ... )
        >>> differences
        PairOperator((4,), sees 3 of 4)
    """

    def __init__(self, shape: Sequence[int], forward: Linear, adjoint: Linear, *, cutoff: float = 1e-3) -> None:
        if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
            raise ValueError(f"shape must be that of a sample without its batch dimension, got {shown(shape)}")
        for side in shape:
            check_whole("a side of shape", side, least=1)
        cutoff = check_between("cutoff", cutoff, 1e-12, 1 - 1e-12)
        with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
            matrix, self.measured = _matrix(torch.Size(shape), forward, adjoint)
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            seen = int((values > cutoff * values[0]).sum())
            columns = right[:seen].mT
            vectors, weights = _reflectors(columns)
            first = torch.eye(len(columns), seen, dtype=torch.float64) - vectors @ (weights @ vectors[:seen].mT)
            signs = (first * columns).sum(0).sign()  # of the reflectors' product to the columns
            self._left, self._turn = Constants(left[:, :seen] * signs), Constants(vectors, weights)
            singular = torch.zeros(len(columns), dtype=torch.float64)
            singular[:seen] = values[:seen]
        super().__init__(singular.reshape(tuple(shape)))

    def rotate(self, x: Tensor) -> Tensor:
        """Vᵀ x. The seen directions come first, by their singular values."""
        vectors, weights = self._turn.like(x)
        flat = x.reshape(len(x), -1)
        return (flat - flat @ vectors @ weights @ vectors.mT).reshape(x.shape)

    def unrotate(self, z: Tensor) -> Tensor:
        """V z, the inverse of :meth:`rotate`."""
        vectors, weights = self._turn.like(z)
        flat = z.reshape(len(z), -1)
        return (flat - flat @ vectors @ weights.mT @ vectors.mT).reshape(z.shape)

    def pack(self, c: Tensor) -> Tensor:
        """U c, in the shape of a measurement."""
        (left,) = self._left.like(c)
        return (c.reshape(len(c), -1)[:, : left.shape[1]] @ left.mT).reshape(len(c), *self.measured)

    def unpack(self, y: Tensor) -> Tensor:
        """Uᵀ y, and 0 for the directions that are not seen. Raises ValueError for y of another shape."""
        if y.shape[1:] != self.measured:
            raise ValueError(
                f"measurements of this PairOperator have shape {tuple(self.measured)}, got {tuple(y.shape[1:])}"
            )
        (left,) = self._left.like(y)
        c = y.reshape(len(y), -1) @ left
        return torch.nn.functional.pad(c, (0, self.singular.numel() - c.shape[1])).reshape(len(y), *self.shape)


def _reflectors(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Y and T of the product of Householder reflectors whose first columns are these orthonormal ones, up to signs."""
    found, _ = torch.geqrf(columns)
    vectors = found.tril(-1) + torch.eye(*found.shape, dtype=found.dtype)
    gram = vectors.mT @ vectors
    inverse = gram.triu(1) + torch.diag(gram.diagonal() / 2)
    return vectors, torch.linalg.solve_triangular(inverse, torch.eye(len(gram), dtype=gram.dtype), upper=True)


def _matrix(shape: torch.Size, forward: Linear, adjoint: Linear) -> tuple[Tensor, torch.Size]:
    """A as a matrix, (entries of a measurement, entries of a sample), float64; and the shape of a measurement."""
    generator = torch.Generator().manual_seed(0)

    def normal(size: Sequence[int]) -> Tensor:
        return torch.randn(2, *size, dtype=torch.float64, generator=generator)

    x = normal(shape)
    measured = _applied("forward", forward, x).shape[1:]
    rows, columns = math.prod(measured), math.prod(shape)
    if not 0 < rows * columns <= _MOST:
        raise ValueError(
            f"A has {rows:,} × {columns:,} entries, and a PairOperator takes 1 to {_MOST:,}, for it decomposes A as a "
            "matrix; for more, subclass LinearOperator, which needs no matrix"
        )
    y = normal(measured)
    a_x = _checked_linear("forward", forward, x, measured)
    a_y = _checked_linear("adjoint", adjoint, y, shape)
    one, other = float((a_x * y).sum()), float((x * a_y).sum())
    if not abs(one - other) <= _TOLERANCE * float(max(a_x.norm() * y.norm(), x.norm() * a_y.norm())):
        raise ValueError(
            f"forward and adjoint are not a pair: ⟨A x, y⟩ = {one:.6g} and ⟨x, Aᵀ y⟩ = {other:.6g} for random x and y, "
            "which must be equal"
        )
    if rows <= columns:
        matrix = _of_units("adjoint", adjoint, measured, shape)
    else:
        matrix = _of_units("forward", forward, shape, measured).mT
    for name, found, expected in (
        ("forward", a_x.flatten(), (x.reshape(2, -1) @ matrix.mT).flatten()),
        ("adjoint", a_y.flatten(), (y.reshape(2, -1) @ matrix).flatten()),
    ):
        away = float((found - expected).norm() / expected.norm())
        if not away <= _TOLERANCE:
            raise ValueError(
                f"forward and adjoint are not a pair, or mix the samples of a batch: {name} of a random vector is "
                f"{away:.3g} of its norm away from what they give for unit vectors"
            )
    return matrix, measured


def _of_units(name: str, function: Linear, given: torch.Size, made: torch.Size) -> Tensor:
    """What a function makes of the unit vectors of a shape: a row for each."""
    count, entries = math.prod(given), math.prod(made)
    rows = torch.empty(count, entries, dtype=torch.float64)
    for numbers in torch.arange(count).split(max(1, _AT_ONCE // (count + entries))):
        units = torch.zeros(len(numbers), count, dtype=torch.float64)
        units[torch.arange(len(numbers)), numbers] = 1
        rows[numbers] = _applied(name, function, units.reshape(-1, *given), made).reshape(-1, entries)
    return rows


def _checked_linear(name: str, function: Linear, pair: Tensor, made: torch.Size) -> Tensor:
    """What a function makes of two random vectors. Raises ValueError unless it makes of their sums what is linear."""
    values = _applied(name, function, pair, made)
    if not bool(values.any()):
        raise ValueError(f"{name} gives zeros for random vectors; A must see something")
    for factor in (2.0, 1000.0):  # rounding to steps shows at small values, and a bound at large ones
        expected = values[:1] + factor * values[1:]
        found = _applied(name, function, pair[:1] + factor * pair[1:], made)
        away = float((found - expected).norm() / expected.norm())
        if not away <= _TOLERANCE:
            raise ValueError(
                f"{name} is not linear: {name}(u + {factor:g} v) is {away:.3g} of its norm away from "
                f"{name}(u) + {factor:g} {name}(v) for random u and v"
            )
    return values


def _applied(name: str, function: Linear, given: Tensor, made: torch.Size | None = None) -> Tensor:
    """What a function makes of a batch, float64 on the CPU. Raises ValueError for what is not as it must be."""
    try:
        values = function(given.clone())
    except RuntimeError as error:
        raise ValueError(
            f"{name} failed on float64 values of shape {tuple(given.shape)}: {' '.join(str(error).split())}; weights "
            "in it must follow what it gets, as kernel.to(x) does"
        ) from error
    is_real = isinstance(values, Tensor) and values.is_floating_point() and values.ndim > 0
    if not is_real or len(values) != len(given) or (made is not None and values.shape[1:] != made):
        got = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else shown(values)
        expected = f"({len(given)}, …)" if made is None else str((len(given), *made))
        raise ValueError(
            f"{name} must make floating-point values of shape {expected} of {tuple(given.shape)}, got {got}"
        )
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} gives values that are not finite")
    return values.detach().to("cpu", torch.float64)
