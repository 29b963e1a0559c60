"""A Gaussian model of sequences that is fitted to their known part, for data that nobody has trained a network on.

The sequences are taken as a stationary Gaussian process: a mean and a variance for each channel, and the covariance of
any two channels d steps apart, each averaged over all places where both values are known. The channels are rotated to
their principal directions. A few of these are kept with all their covariances in time,

    Cov(z) = (U ⊗ I) S (U ⊗ I)ᵀ + v (I − U Uᵀ) ⊗ R,

and the others share one variance v and one correlation in time R. Eigenvectors of S and R make the score exact at every
noise level.

Such a model carries on rhythms and joins what is known smoothly. It knows nothing of bodies, and nothing that does not
occur in the known part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.schedules import VP
from lanpaint.score import Score
from lanpaint.units import Units

_LENGTHS = (64, 256)
_MOST = 768  # numbers of a window whose covariance is kept in full; its eigenvectors take a second
_FLOOR = 1e-6  # of a variance of 1, so that no direction is certain


class FittedGaussian(Score):
    """The exact score of a stationary Gaussian process that is fitted to sequences with gaps.

    Args:
        values: Sequences (T, C) or (N, T, C), floating point. NaN is missing.
        names: Names of the C channels; by default ``channel_0`` and so on.
        length: Steps of its windows; at most T. By default 64, or twice the longest gap, up to 256.

    Attributes:
        channels: Number of channels C.
        length: Steps of its windows.
        units: Mean and standard deviation of the channels.

    Raises:
        ValueError: For another shape, infinite values, and a channel of which fewer than two values are known.

    Example:
        >>> walk = np.sin(np.arange(200.0) / 5)[:, None]
        >>> model = FittedGaussian(walk, length=32)
        >>> model.channels, model.length
        (1, 32)
    """

    def __init__(
        self, values: np.ndarray | Tensor, names: Sequence[str] | None = None, length: int | None = None
    ) -> None:
        given = torch.as_tensor(values).detach().cpu().double()
        given = given[:, None] if given.ndim == 1 else given
        given = given[None] if given.ndim == 2 else given
        if length is not None:
            check_whole("length", length, least=1)
        if given.ndim != 3 or 0 in given.shape or bool(torch.isinf(given).any()):
            raise ValueError(f"values must be finite or NaN, of shape (T, C) or (N, T, C), got {tuple(given.shape)}")
        _, steps, self.channels = given.shape
        known = ~given.isnan()
        wanted = min(max(2 * _longest_gap(known), _LENGTHS[0]), _LENGTHS[1]) if length is None else length
        self.length = min(wanted, steps)
        self.schedule = VP.linear()
        count = known.sum((0, 1))
        names, fewest = tuple(names or (f"channel_{n}" for n in range(self.channels))), int(count.argmin())
        if not bool(known.any()):
            raise ValueError("all values are missing (NaN); give a sequence in which something is known")
        if int(count[fewest]) < 2:
            raise ValueError(
                f"{names[fewest]} has {int(count[fewest])} known values; a model fitted to the known part needs "
                "some of each channel, so give a model that was trained on such data"
            )
        mean = given.nan_to_num().sum((0, 1)) / count
        centred = (given - mean).nan_to_num()
        spread = (centred.square().sum((0, 1)) / count).sqrt()
        scale = torch.where(spread > 1e-9 * (1 + mean.abs()), spread, 1.0)
        self.units = Units(names, tuple(mean.tolist()), tuple(scale.tolist()))
        self._fit(_covariances(centred / scale, known.double(), self.length))

    def _fit(self, lagged: Tensor) -> None:
        """Keep the eigenvectors of the covariances (L, C, C) of channels that are d = 0 … L − 1 steps apart."""
        length, kept = self.length, max(1, min(self.channels, _MOST // self.length))
        spread, axes = torch.linalg.eigh(lagged[0])
        axes, rest = axes.flip(1)[:, :kept], spread.flip(0)[kept:]
        inner = axes.mT @ lagged @ axes  # (L, K, K)
        at = torch.arange(length)
        apart = at[None] - at[:, None]  # column minus row
        both = torch.where((apart >= 0)[..., None, None], inner[apart.abs()], inner[apart.abs()].mT)  # (L, L, K, K)
        values, vectors = _eigen(both.permute(2, 0, 3, 1).reshape(kept * length, -1))
        left = torch.diagonal(lagged, dim1=1, dim2=2).sum(1) - torch.diagonal(inner, dim1=1, dim2=2).sum(1)
        variance = rest.clamp(min=0).mean() if len(rest) else lagged.new_zeros(())
        time = left[apart.abs()] / left[0].clamp(min=1e-12) * variance
        times, waves = _eigen(time)
        parts = {"_axes": axes, "_values": values, "_vectors": vectors, "_times": times, "_waves": waves}
        for name, part in parts.items():
            self.register_buffer(name, part)

    _axes: Tensor
    _values: Tensor
    _vectors: Tensor
    _times: Tensor
    _waves: Tensor

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """x̂₀ = α Σ (α² Σ + σ² I)⁻¹ x of states (B, C, L), with one level for all or one for each.

        Raises:
            ValueError: For levels that differ within a sequence.
        """
        if any(part.numel() > 1 and part.shape != (len(x), 1, 1) for part in (level.alpha, level.sigma)):
            raise ValueError(f"a fitted Gaussian takes one level for each sequence, got levels {tuple(level.shape)}")
        alpha, sigma = (part.reshape(-1, 1).to(x) for part in (level.alpha, level.sigma))
        axes, values, vectors, times, waves = (
            part.to(x) for part in (self._axes, self._values, self._vectors, self._times, self._waves)
        )
        inner = torch.einsum("ck,bct->bkt", axes, x)
        outer = x - torch.einsum("ck,bkt->bct", axes, inner)
        main = (inner.flatten(1) @ vectors * _gain(values, alpha, sigma)) @ vectors.mT
        small = (outer @ waves * _gain(times, alpha, sigma)[:, None]) @ waves.mT
        return Prediction(x, level, denoised=torch.einsum("ck,bkt->bct", axes, main.view_as(inner)) + small)


def _gain(variance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[z₀ | z] over z = α z₀ + σ ε, of a number of such a variance."""
    return alpha * variance / (alpha.square() * variance + sigma.square())


def _longest_gap(known: Tensor) -> int:
    """The longest run of steps of (N, T, C) in which something is missing, but for runs over the whole sequence."""
    longest = run = 0
    for whole in known.all(2).all(0).tolist():
        run = 0 if whole else run + 1
        longest = max(longest, run)
    return longest if longest < known.shape[1] else 0


def _covariances(z: Tensor, known: Tensor, length: int) -> Tensor:
    """Covariances of channels d steps apart, (L, C, C): [d, i, j] is that of channel i and of channel j, d later.

    The known parts fade in and out, over half a window: then all lags together are the covariance of one process, as
    smooth as the data. What is far apart counts less for it.
    """
    weight = _faded(known, max(length // 2, 1))
    faded = weight * z
    faded = faded / faded.square().sum((0, 1)).sqrt().clamp(min=1e-12)
    return torch.stack([torch.einsum("nti,ntj->ij", faded[:, : z.shape[1] - d], faded[:, d:]) for d in range(length)])


def _faded(known: Tensor, over: int) -> Tensor:
    """Weights in [0, 1] that rise from the ends of the known parts of (N, T, C), over so many steps."""
    steps = torch.arange(known.shape[1]).to(known)[None, :, None]

    def since(known: Tensor) -> Tensor:  # steps since the last that is missing
        return steps - torch.where(known > 0, -1.0, steps).cummax(1).values

    near = torch.minimum(since(known), since(known.flip(1)).flip(1))
    return torch.sin(torch.pi / 2 * (near / over).clamp(max=1)).square()


def _eigen(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, symmetric and above 0."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    return values.clamp(min=_FLOOR), vectors
