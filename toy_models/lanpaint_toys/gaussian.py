"""Gaussians and Gaussian mixtures, with exact scores at every noise level.

If x₀ ~ N(m, C) then x = α x₀ + σ ε ~ N(α m, diag(α) C diag(α) + diag(σ)²), where α and σ may differ per coordinate. So
the score and the density of a Gaussian and of a mixture have a closed form at every level, and exact samples and
conditional samples can be drawn.

Points have shape (B, d). Levels are 0-d, per sample (B, 1), per coordinate (d,) or both (B, d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.score import Score

_CHUNK_BYTES = 2**20  # largest size of a (points, components, …) tensor; a few such tensors fit in a processor's cache
_CLEAN = NoiseLevel(1.0, 0.0)

Array = Tensor | Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]


def _double(values: Array | float) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


class GaussianMixture(Score):
    """A mixture of K Gaussians in d dimensions.

    Args:
        means: Shape (K, d).
        cov: Covariances of the components: a number (one variance for all components), shape (K,) (a variance for each
            component) or (K, d, d) (a full covariance for each component).
        weights: Shape (K,), non-negative. They are normalised here. By default all are equal.

    Raises:
        ValueError: When shapes do not fit, a covariance is not symmetric positive definite, or weights are negative or
            all zero.
    """

    def __init__(self, means: Array, cov: Array | float, weights: Array | None = None) -> None:
        self.means = _double(means)
        if self.means.ndim != 2 or not self.means.numel():
            raise ValueError(f"means must have shape (K, d), got {tuple(self.means.shape)}")
        count, dim = self.means.shape
        cov = _double(cov)
        self.isotropic = cov.ndim < 2
        self._one_variance = cov.ndim == 0
        if self.isotropic:
            if cov.ndim == 1 and len(cov) != count:
                raise ValueError(f"cov must be a number or of shape ({count},) or ({count}, {dim}, {dim})")
            cov = cov.expand(count)
            eigenvalues = cov[:, None].expand(count, dim)
        else:
            if cov.shape != (count, dim, dim):
                raise ValueError(
                    f"cov must be a number or of shape ({count},) or ({count}, {dim}, {dim}), got {tuple(cov.shape)}"
                )
            if not torch.allclose(cov, cov.mT, rtol=1e-8, atol=1e-12):
                raise ValueError("cov must be symmetric")
            eigenvalues, self._eigenvectors = torch.linalg.eigh(cov)
            self._axes = self._eigenvectors.permute(1, 2, 0).reshape(dim, dim * count)  # columns: axis, component
        if not bool((eigenvalues > 0).all()):
            raise ValueError(
                f"cov must be positive definite, its smallest eigenvalue is {float(eigenvalues.min()):.3g}"
            )
        self.cov, self._eigenvalues = cov, eigenvalues
        weights = torch.ones(count, dtype=torch.float64) if weights is None else _double(weights)
        if weights.shape != (count,) or not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
            raise ValueError(f"weights must be {count} non-negative numbers, not all zero")
        self.weights = weights / weights.sum()

    @property
    def dim(self) -> int:
        """Number of coordinates d."""
        return self.means.shape[1]

    @property
    def full_cov(self) -> Tensor:
        """Covariances of the components, (K, d, d)."""
        if not self.isotropic:
            return self.cov
        return self.cov[:, None, None] * torch.eye(self.dim, dtype=torch.float64)

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """Exact score and posterior mean at x of shape (B, d), also at α = 0."""
        score, denoised = torch.empty_like(x), torch.empty_like(x)
        for rows, part, part_level in self._chunks(x, level):
            if part_level.shape[-1:] in ((), (1,)):
                predict = self._predict_isotropic if self.isotropic else self._predict_turned
                score[rows], denoised[rows] = predict(part, part_level)
                continue
            log_joint, pulls, posteriors = self._components(part, part_level)
            responsibility = torch.softmax(log_joint, dim=1)[..., None]
            score[rows] = (responsibility * pulls).sum(1)
            denoised[rows] = (responsibility * posteriors).sum(1)
        return Prediction(x, level, score=score, denoised=denoised)

    def log_prob(self, x: Tensor, level: NoiseLevel = _CLEAN) -> Tensor:
        """Log density of the noisy distribution at x (B, d), in nats: shape (B,)."""
        log_prob = x.new_empty(len(x))
        for rows, part, part_level in self._chunks(x, level):
            log_prob[rows] = torch.logsumexp(self._components(part, part_level)[0], dim=1)
        return log_prob

    def responsibilities(self, x: Tensor, level: NoiseLevel = _CLEAN) -> Tensor:
        """Probability of each component of the noisy distribution given x (B, d): shape (B, K)."""
        return torch.softmax(self._components(x, level)[0], dim=1)

    def mahalanobis(self, x: Tensor) -> Tensor:
        """Squared Mahalanobis distance of x (B, d) from each component of the clean mixture: shape (B, K)."""
        away = x.double()[:, None] - self.means
        if self.isotropic:
            return away.square().sum(-1) / self.cov
        turned = torch.einsum("kji,bkj->bki", self._eigenvectors, away)
        return (turned.square() / self._eigenvalues).sum(-1)

    def sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        level: NoiseLevel = _CLEAN,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """``count`` exact samples of the noisy distribution, shape (count, d)."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return self._sample_from(component, self.means[component], level, generator).to(dtype)

    def conditional(self, values: Array, known: Array) -> GaussianMixture:
        """The distribution of the unknown coordinates given the known coordinates, at σ = 0: a Gaussian mixture.

        Args:
            values: Shape (d,). Values at unknown coordinates are ignored.
            known: Boolean, shape (d,), neither all True nor all False.

        Raises:
            ValueError: For any other ``known``.
        """
        values, known = _double(values), self._check_known(known)
        means, cov, log_weights = self._condition(values[None], known)
        return GaussianMixture(means[0], cov, torch.softmax(log_weights[0], dim=0))

    def sample_conditional(self, values: Tensor, known: Array, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples given the known coordinates of each row of ``values``; both have shape (B, d) and one dtype."""
        known = self._check_known(known)
        if not values.is_floating_point() or values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(
                f"values must be floating point of shape (B, {self.dim}), got {values.dtype} {tuple(values.shape)}"
            )
        result = values.clone()
        rows_at_once = max(1, _CHUNK_BYTES // (8 * self.means.numel()))
        for rows in torch.arange(len(values)).split(rows_at_once):
            means, cov, log_weights = self._condition(values[rows].double(), known)
            component = torch.multinomial(torch.softmax(log_weights, dim=1), 1, generator=generator)[:, 0]
            noise = torch.randn(len(rows), means.shape[2], generator=generator, dtype=torch.float64)
            factor = torch.linalg.cholesky(cov)[component]
            drawn = means[torch.arange(len(rows)), component] + (factor @ noise[..., None])[..., 0]
            result[rows[:, None], (~known).nonzero()[:, 0]] = drawn.to(result.dtype)
        return result

    def _check_known(self, known: Array) -> Tensor:
        known = torch.as_tensor(known, dtype=torch.bool)
        if known.shape != (self.dim,) or bool(known.all()) or not bool(known.any()):
            raise ValueError(f"known must be {self.dim} booleans, some True and some False, got {known.tolist()}")
        return known

    def _condition(self, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture of the u unknown coordinates given the known coordinates of ``values`` (B, d).

        Means (B, K, u), covariances (K, u, u), and log weights (B, K) up to a constant.
        """
        cov, unknown = self.full_cov, ~known
        c_kk, c_uk = cov[:, known][:, :, known], cov[:, unknown][:, :, known]
        away = values[:, None, known] - self.means[:, known]
        gain = torch.linalg.solve(c_kk, c_uk.mT).mT
        means = self.means[:, unknown] + torch.einsum("kuo,bko->bku", gain, away)
        residual = cov[:, unknown][:, :, unknown] - gain @ c_uk.mT
        factor = torch.linalg.cholesky(c_kk)
        white = torch.linalg.solve_triangular(factor, away.permute(1, 2, 0), upper=False)  # (K, k, B)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return means, (residual + residual.mT) / 2, self.weights.log() - log_det - 0.5 * white.square().sum(1).mT

    def _sample_from(
        self, component: Tensor, means: Tensor, level: NoiseLevel, generator: torch.Generator | None
    ) -> Tensor:
        noise, fresh = (torch.randn(means.shape, generator=generator, dtype=torch.float64) for _ in range(2))
        noise = self._eigenvalues[component].sqrt() * noise
        if not self.isotropic:
            noise = torch.einsum("bij,bj->bi", self._eigenvectors[component], noise)
        return level.perturb(means + noise, fresh)

    def _chunks(self, x: Tensor, level: NoiseLevel):  # type: ignore[no-untyped-def]
        """Yield (rows, x[rows], level of these rows), so that each chunk needs little memory."""
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}), got {tuple(x.shape)}")
        size = (
            x.element_size()
            * self.means.numel()
            * (1 if self.isotropic or level.shape[-1:] in ((), (1,)) else self.dim)
        )
        rows_at_once = max(1, _CHUNK_BYTES // size)
        per_sample = len(level.shape) == 2 and level.shape[0] > 1
        for start in range(0, len(x), rows_at_once):
            rows = slice(start, start + rows_at_once)
            yield rows, x[rows], NoiseLevel(level.alpha[rows], level.sigma[rows]) if per_sample else level

    def _predict_isotropic(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """Score and posterior mean for one level per sample. No tensor is larger than (B, K) or (B, d).

        −½‖x − α m‖² = α x·m − ½ α² ‖m‖² − ½ ‖x‖² is one product of matrices. It loses digits, so it is in float64.
        """
        x, level = x.double(), level.to(x.double())
        alpha, sigma = level.alpha, level.sigma
        means, cov = self.means.to(x), self.cov.to(x)
        cov = cov[:1] if self._one_variance else cov
        variance = alpha**2 * cov + sigma**2  # (K,) or (B, K), with 1 for K if all are equal
        square = x.square().sum(1, keepdim=True)
        left = torch.cat([alpha * x, (-0.5 * alpha**2).expand_as(square), -0.5 * square], dim=1)
        right = torch.cat([means.mT, means.square().sum(1)[None], torch.ones_like(means[:, 0])[None]])
        prior = self.weights.to(x).log()
        if self._one_variance:
            log_joint = torch.addmm(prior, left / variance, right)
        else:
            log_joint = (left @ right) / variance + (prior - 0.5 * self.dim * variance.log())
        responsibility = torch.softmax(log_joint, dim=1)
        if self._one_variance:
            mean = responsibility @ means
            score = (alpha * mean - x) / variance
            return score, mean - alpha * cov * score
        over = responsibility / variance
        score = alpha * (over @ means) - x * over.sum(1, keepdim=True)
        shrunk = over * cov  # E[x₀ | x] = Σ r (m + α c/v (x − α m))
        denoised = responsibility @ means + alpha * (x * shrunk.sum(1, keepdim=True) - alpha * (shrunk @ means))
        return score, denoised

    def _predict_turned(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """Score and posterior mean for one level per sample: noise keeps the axes of the components.

        All products with axes are products of matrices, and coordinates stand before components, (B, d, K): so this is
        several times faster than one small product for each component.
        """
        level = level.to(x)
        alpha, sigma = level.alpha, level.sigma
        means, axes, shape = self.means.to(x), self._axes.to(x), (self.dim, len(self.means))
        eigenvalues = self._eigenvalues.to(x).mT
        centres = torch.einsum("kji,kj->ik", self._eigenvectors.to(x), means)
        if alpha.ndim == 2:
            alpha, sigma = alpha[..., None], sigma[..., None]  # (B, 1, 1)
        variance = alpha**2 * eigenvalues + sigma**2  # (d, K) or (B, d, K)
        turned = (x @ axes).unflatten(1, shape) - alpha * centres
        pull = turned / variance
        log_joint = self.weights.to(x).log() - 0.5 * (variance.log().sum(-2) + (turned * pull).sum(1))
        responsibility = torch.softmax(log_joint, dim=1)
        pull = responsibility[:, None] * pull
        score = -(pull.flatten(1) @ axes.mT)
        return score, responsibility @ means + level.alpha * ((eigenvalues * pull).flatten(1) @ axes.mT)

    def _components(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Log joint density (B, K), score and posterior mean of each component (B, K, d)."""
        level = level.to(x)
        alpha, sigma = level.alpha, level.sigma
        if alpha.ndim == 2:  # (B, 1) or (B, d): make room for the components
            alpha, sigma = alpha[:, None], sigma[:, None]
        means, eigenvalues = self.means.to(x), self._eigenvalues.to(x)
        away = x[:, None] - alpha * means
        if self.isotropic:
            variance = alpha**2 * eigenvalues + sigma**2
            pulls = -away / variance
            posteriors = means - alpha * eigenvalues * pulls
            log_det = variance.log().sum(-1)
        elif alpha.ndim == 0 or alpha.shape[-1] == 1:  # one level for all coordinates: noise keeps the eigenvectors
            axes = self._eigenvectors.to(x)
            variance = alpha**2 * eigenvalues + sigma**2
            turned = torch.einsum("kji,bkj->bki", axes, away) / variance
            pulls = -torch.einsum("kij,bkj->bki", axes, turned)
            posteriors = means + alpha * torch.einsum("kij,bkj->bki", axes, eigenvalues * turned)
            log_det = variance.log().sum(-1)
        else:
            alpha, sigma = (t if t.ndim == 3 else t[None, None] for t in (alpha, sigma))  # (1 or B, 1, d)
            cov = self.cov.to(x)
            noisy = alpha[..., :, None] * cov * alpha[..., None, :] + torch.diag_embed(sigma**2)
            factor = torch.linalg.cholesky(noisy)  # (1 or B, K, d, d)
            pulls = -torch.cholesky_solve(away[..., None], factor)[..., 0]
            posteriors = means - torch.einsum("kij,bkj->bki", cov, alpha * pulls)
            log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        square = -(away * pulls).sum(-1)
        constant = self.weights.log().to(x) - 0.5 * self.dim * math.log(2 * math.pi)
        return constant - 0.5 * (log_det + square), pulls, posteriors


class Gaussian(GaussianMixture):
    """A Gaussian in d dimensions, a mixture with a single component.

    Args:
        mean: Shape (d,).
        cov: A number (isotropic) or shape (d, d).

    Raises:
        ValueError: When shapes do not fit or ``cov`` is not symmetric positive definite.
    """

    def __init__(self, mean: Array, cov: Array | float) -> None:
        mean, cov = _double(mean), _double(cov)
        if mean.ndim != 1 or cov.shape not in ((), (len(mean), len(mean))):
            raise ValueError(
                f"mean must have shape (d,) and cov be a number or of shape (d, d), got {tuple(mean.shape)} and "
                f"{tuple(cov.shape)}"
            )
        super().__init__(mean[None], cov if not cov.shape else cov[None])

    @property
    def mean(self) -> Tensor:
        """Mean, (d,)."""
        return self.means[0]

    def conditional(self, values: Array, known: Array) -> Gaussian:
        """The distribution of the unknown coordinates given the known coordinates, at σ = 0: a Gaussian."""
        conditional = super().conditional(values, known)
        return Gaussian(conditional.means[0], conditional.full_cov[0])
