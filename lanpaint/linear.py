"""Linear measurements y = A x, as inpainting in a rotated basis.

Let A = U S Vᵀ be the singular value decomposition, with V square and orthogonal. In the coordinates z = Vᵀ x a
measurement y = A x gives z_i = (Uᵀ y)_i/s_i wherever s_i > 0, and says nothing of the other z_i. Noise ε stays standard
normal under a rotation. So z = Vᵀ x follows a diffusion with the levels of x and the score

    s(z) = Vᵀ s_x(V z),

and conditioning on y is inpainting of z: the known entries are those with s_i > 0. Every sampler of this library runs
there as it is, and needs no A. (DDRM is this for its own sampler: Kawar et al., 2022, arXiv:2201.11793, Sec. 3.)

A measurement with noise, y = A x + s n, gives z_i with noise s/s_i: one for each entry, where the s_i > 0 differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, Prediction, reciprocal
from lanpaint.observation import Observation
from lanpaint.score import Score, ScoreWrapper


class LinearOperator:
    """A linear operator A on samples of one shape, by its singular value decomposition, without a matrix.

    A subclass overrides :meth:`rotate`, :meth:`unrotate`, :meth:`pack` and :meth:`unpack`. Calling the operator gives
    A x.

    Args:
        singular: Singular values s_i ≥ 0, in the shape of a sample without its batch dimension; 0 where A sees nothing.

    Attributes:
        shape: Shape of a sample, without its batch dimension.
        singular: The singular values, float64.
        known: Boolean, shape of a sample: True where s_i > 0.

    Raises:
        ValueError: When a singular value is negative or not finite, or all are 0.

    Example:
        >>> import torch, lanpaint as lp
        >>> from lanpaint_toys import Gaussian
        >>> law = Gaussian(mean=[0.0, 0.0, 0.0], cov=torch.eye(3) * 0.2 + 0.8)
        >>> operator = lp.CompressiveSensing((3,), 1)
        >>> y = torch.ones(1000, 1)
        >>> paint = lp.LanPaint(operator.rotated(law), steps=10)
        >>> z = paint(operator.observe(y), generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(operator(operator.unrotate(z)), y, atol=1e-5)
        True
    """

    def __init__(self, singular: Tensor) -> None:
        if not bool(torch.isfinite(singular).all() and (singular >= 0).all() and (singular > 0).any()):
            raise ValueError("singular values must be finite and at least 0, and one of them positive")
        self.singular = singular.double()
        self.shape, self.known = singular.shape, singular > 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self.shape)}, sees {int(self.known.sum()):,} of {self.known.numel():,})"

    def rotate(self, x: Tensor) -> Tensor:
        """Coordinates z = Vᵀ x, of the shape (B, …) of x."""
        raise NotImplementedError(f"{type(self).__name__} has no rotate()")

    def unrotate(self, z: Tensor) -> Tensor:
        """Samples x = V z, of the shape (B, …) of z."""
        raise NotImplementedError(f"{type(self).__name__} has no unrotate()")

    def pack(self, c: Tensor) -> Tensor:
        """The measurement U c, from coefficients c of the shape of x. Coefficients with s_i = 0 are ignored."""
        raise NotImplementedError(f"{type(self).__name__} has no pack()")

    def unpack(self, y: Tensor) -> Tensor:
        """Coefficients Uᵀ y, of the shape of x; 0 where s_i = 0."""
        raise NotImplementedError(f"{type(self).__name__} has no unpack()")

    def __call__(self, x: Tensor) -> Tensor:
        """A x, for x of shape (B, …)."""
        return self.pack(self.singular.to(x) * self.rotate(self._checked(x)))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, of the shape of x."""
        return self.unrotate(self.singular.to(y) * self.unpack(y))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ y: the shortest x, of the shape (B, …), with A x = y; if there is none, with A x nearest to y."""
        return self.unrotate(self._coordinates(y))

    def observe(self, y: Tensor, *, noise: float = 0.0, jitter: float = 0.0) -> Observation:
        """What y tells of z, as an observation for any sampler of :meth:`rotated` scores.

        Args:
            y: Measurements (B, …), floating point.
            noise: Standard deviation s of the measurement's noise, in the units of y. z_i has the noise s/s_i; see
                :class:`Observation`.
            jitter: Standard deviation of values that are drawn, in the units of y; see :class:`Observation`.

        Raises:
            TypeError: For noise that is no number.
            ValueError: For jitter with an operator whose positive singular values differ, and as :class:`Observation`.
        """
        check_real("noise", noise)
        least, most = (float(bound) for bound in self.singular[self.known].aminmax())
        is_one = most <= least * (1 + 1e-6)
        if jitter and not is_one:
            raise ValueError(
                f"jitter needs equal singular values, and those of {type(self).__name__} go from {least:.3g} to "
                f"{most:.3g}; give the noise of the measurement as noise, or take an operator with orthonormal rows"
            )
        each = noise / most if is_one or not noise else noise * reciprocal(self.singular)
        return Observation(self._coordinates(y), self.known.to(y.device), each, jitter=jitter / most)

    def rotated(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor]) -> RotatedScore:
        """The score of z = Vᵀ x, for a score of x."""
        return RotatedScore(score, self)

    def _coordinates(self, y: Tensor) -> Tensor:
        return reciprocal(self.singular).to(y) * self.unpack(y)

    def _checked(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"{type(self).__name__} is for samples of shape {tuple(self.shape)}, got {tuple(x.shape[1:])}; "
                "an operator acts on what the model makes: on pixels with a pixel model, not on latents"
            )
        return x


class RotatedScore(ScoreWrapper):
    """The score of z = Vᵀ x, for x that follows a given score: s(z) = Vᵀ s_x(V z).

    All entries of a sample must have one noise level, because a rotation mixes them.

    Args:
        score: The score of x.
        operator: The operator whose V it is.

    Raises:
        ValueError: In an evaluation, for a state of another shape than the operator's, and for a noise level that
            varies within a sample.
    """

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], operator: LinearOperator) -> None:
        super().__init__(score)
        self.operator = operator

    @property
    def log_prob(self) -> Callable[..., Tensor]:
        """``log_prob`` of z, if the score of x has one. A rotation keeps densities."""
        log_prob: Any = self.wrapped.log_prob
        return lambda z, *level: log_prob(self.operator.unrotate(z), *level)

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The prediction at z = ``x``, from one evaluation of the score of x at V z."""
        self.operator._checked(x)
        if level.alpha.numel() != 1 and level.shape != (len(x),) + (1,) * (x.ndim - 1):
            raise ValueError(
                f"a rotation mixes the entries of a sample, so they need one noise level, got levels of shape "
                f"{tuple(level.shape)}"
            )
        before = self.wrapped.predict(self.operator.unrotate(x), level)
        views = {name: self.operator.rotate(view) for name, view in before._given.items()}
        return Prediction(x, level, **views)


def hartley(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Discrete Hartley transform along ``dims``: real, orthogonal, and its own inverse.

    It is Re F x − Im F x with the orthonormal Fourier transform F (Bracewell, 1983). A real and even convolution with
    periodic edges is diagonal in this basis.
    """
    transformed = torch.fft.fftn(x, dim=tuple(dims), norm="ortho")
    return transformed.real - transformed.imag
