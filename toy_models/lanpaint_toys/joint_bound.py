"""The likelihood bound of joint diffusion on Gaussian data, by quadrature (AsyncPatch, Papa et al., 2026, Thm. 1).

With ℓ_i = log(α_i²/σ_i²) of token i, and ε̂ a model's prediction of the noise, on every monotone path

    E log p_θ(x) ≥ E log N(x; 0, I) + ½ Σ_i ∫ E[(ε_i − ε̂⁰_i)² − (ε_i − ε̂_i)²] dℓ_i

where ε̂⁰ is the exact prediction for data of law N(0, I). The integral runs over the path. The printed inequality has
the sign of the error wrong, and no reference: then integral and constant diverge, as (ε − ε̂)² → 1 for ℓ → ∞. Here both
converge.

Data are N(0, C), and models are linear, ε̂ = E z at z = α x + σ ε, so each expectation is a formula. Levels are those of
a rectified flow, α = e^(−h) and σ = 1 − e^(−h): paths are the walks of the paper, h_j = h_i ω_j/ω_i.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
"""A linear model: from h of shape (…, N) to the matrices E of ε̂ = E z, shape (…, N, N)."""


def exact_model(cov: Tensor) -> Model:
    """The exact model of data of law N(0, cov), which knows the time of each token."""

    def model(h: Tensor) -> Tensor:
        alpha, sigma = _levels(h)
        return sigma[..., None] * torch.linalg.inv(_noisy(cov, alpha, sigma))

    return model


def mean_time_model(cov: Tensor) -> Model:
    """The velocity u of N(0, cov) where all tokens have the mean time, as of a network that is told no more.

    ε̂_i = z_i + α_i u_i at each token's own level, so the model knows clean data and pure noise when it sees them.
    """

    def model(h: Tensor) -> Tensor:
        alpha, sigma = _levels(h)
        mean = sigma.mean(-1, keepdim=True).expand_as(sigma)
        inverse = torch.linalg.inv(_noisy(cov, 1 - mean, mean))
        velocity = mean[..., None] * inverse - (1 - mean)[..., None] * (cov @ inverse)
        return torch.eye(len(cov), dtype=cov.dtype) + alpha[..., None] * velocity

    return model


def mean_time_score(cov: Tensor) -> Model:
    """The score of N(0, cov) where all tokens have the mean time, ε̂ = −σ s: wrong where a token is noise."""

    def model(h: Tensor) -> Tensor:
        sigma = _levels(h)[1]
        mean = sigma.mean(-1, keepdim=True).expand_as(sigma)
        return sigma[..., None] * torch.linalg.inv(_noisy(cov, 1 - mean, mean))

    return model


def gaussian_bound(
    cov: Tensor, model: Model, points: int = 24, nodes: int = 240, span: tuple[float, float] = (-36.0, 44.0)
) -> float:
    """The bound of a linear model on data of law N(0, cov), averaged over the paper's walks, in nats.

    Args:
        cov: Covariance of the data, (N, N), float64, N from 1 to 3.
        model: The model.
        points: Points of Gauss and Legendre's rule in each dimension of ω.
        nodes: Points of the trapezoidal rule in ℓ_i.
        span: The range of ℓ_i.

    Raises:
        ValueError: For more than three tokens.
    """
    count = len(cov)
    omega, weights = _simplex(count, points)
    ell = torch.linspace(*span, nodes, dtype=torch.float64)
    step = float(ell[1] - ell[0])
    total = 0.0
    for token in range(count):
        own = torch.nn.functional.softplus(-ell / 2)  # h of this token
        h = own[:, None, None] * (omega / omega[:, token, None])  # (nodes, rule, N)
        gain = gains(cov, model, h)[..., token]
        total += 0.5 * step * float((gain * weights).sum())
    return _reference(cov) + total


def path_bound(cov: Tensor, model: Model, omega: Tensor, nodes: int = 4000) -> float:
    """The bound on the one path of direction ω, shape (N,), in nats."""
    radius, step = _radii(nodes)
    h = radius[:, None] * omega
    rate = 2 * h / -torch.expm1(-h)  # −dℓ/d log R
    return _reference(cov) + 0.5 * step * float((gains(cov, model, h) * rate).sum())


def path_law(model: Model, omega: Tensor, nodes: int = 4000) -> Tensor:
    """Covariance of what the model generates along the path of direction ω, (N, N).

    Each step draws y' given y = x + √v ε and the prediction x̂ as the forward process has it: the mean
    (v'/v) y + (1 − v'/v) x̂, and the variance v' (1 − v'/v), with v = σ²/α². It starts from N(0, 1 + v).
    """
    radius, _ = _radii(nodes)
    h = radius.flip(0)[:, None] * omega
    h = h.clamp(max=300)
    alpha, sigma = _levels(h)
    root = sigma / alpha
    matrices, identity = model(h), torch.eye(len(omega), dtype=torch.float64)
    unit = (1 + root**2).sqrt()  # u = y/√(1 + v) has a covariance of order 1
    cov = identity
    for k in range(len(h) - 1):
        kept = (root[k + 1] / root[k]) ** 2
        # x̂ = y − √v ε̂ and ε̂ = E α y
        denoise = identity - root[k][:, None] * matrices[k] * alpha[k]
        step = torch.diag(kept) + (1 - kept)[:, None] * denoise
        step = step * unit[k] / unit[k + 1][:, None]
        cov = step @ cov @ step.mT + torch.diag(root[k + 1] ** 2 * (1 - kept) / unit[k + 1] ** 2)
    return cov * torch.outer(unit[-1], unit[-1])


def cross_entropy(cov: Tensor, other: Tensor) -> float:
    """E log N(x; 0, other) over x ~ N(0, cov), in nats: −H − KL, and −H if the two are equal."""
    count = len(cov)
    inside = torch.linalg.slogdet(2 * torch.pi * other)[1] + torch.trace(torch.linalg.solve(other, cov))
    return -0.5 * float(inside) if count else 0.0


def gains(cov: Tensor, model: Model, h: Tensor) -> Tensor:
    """E[(ε_i − ε̂⁰_i)² − (ε_i − ε̂_i)²] for each token at times h, shape (…, N)."""
    alpha, sigma = _levels(h)
    noisy, matrix = _noisy(cov, alpha, sigma), model(h)
    spread = noisy.diagonal(dim1=-2, dim2=-1)
    plain = sigma / (alpha**2 + sigma**2)
    reference = -2 * plain * sigma + plain**2 * spread
    error = -2 * matrix.diagonal(dim1=-2, dim2=-1) * sigma + (matrix @ noisy * matrix).sum(-1)
    return reference - error


def _levels(h: Tensor) -> tuple[Tensor, Tensor]:
    return torch.exp(-h), -torch.expm1(-h)


def _noisy(cov: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return alpha[..., :, None] * cov * alpha[..., None, :] + torch.diag_embed(sigma**2)


def _reference(cov: Tensor) -> float:
    return cross_entropy(cov, torch.eye(len(cov), dtype=cov.dtype))


def _radii(nodes: int) -> tuple[Tensor, float]:
    logs = torch.linspace(-22.0, 7.0, nodes, dtype=torch.float64)
    return logs.exp(), float(logs[1] - logs[0])


def _simplex(count: int, points: int) -> tuple[Tensor, Tensor]:
    """A rule for the uniform law on the simplex: ω of shape (M, N), weights (M,) with sum 1."""
    if not 1 <= count <= 3:
        raise ValueError(f"quadrature takes 1 to 3 tokens, got {count}")
    nodes, weights = (torch.from_numpy(each) for each in numpy.polynomial.legendre.leggauss(points))
    nodes, weights = (nodes + 1) / 2, weights / 2
    one = torch.ones(1, dtype=torch.float64)
    if count == 1:
        return one[:, None], one
    if count == 2:
        return torch.stack([nodes, 1 - nodes], 1), weights
    first, second = torch.meshgrid(nodes, nodes, indexing="ij")
    omega = torch.stack([first, (1 - first) * second, (1 - first) * (1 - second)], -1)
    density = torch.outer(2 * (1 - nodes) * weights, weights)
    return omega.reshape(-1, 3), density.reshape(-1)
