"""On a Gaussian many a sampler is an affine map of its random numbers: its law is then known without sampling."""

import torch

import lanpaint as lp
from lanpaint_toys import Gaussian

DOUBLE = torch.float64


class BasisNoise:
    """Row 0 of the batch is given zeros; row i a 1 for the i-th number that a row draws, and zeros."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, like):
        out = torch.zeros_like(like)
        flat = out.reshape(len(like), -1)
        for column in range(flat.shape[1]):
            self.drawn += 1
            if self.drawn < len(flat):
                flat[self.drawn, column] = 1
        return out


def law(sampler, values, known, observe=lp.Observation):
    """Exact mean (d,) and covariance (d, d) of what an affine sampler returns for observed ``values`` (d,)."""
    count = BasisNoise()
    sampler(observe(values[None], known), noise=count)
    observation = observe(values.expand(count.drawn + 1, -1), known)
    out = sampler(observation, noise=BasisNoise())
    linear = out[1:] - out[0]
    return out[0], linear.mT @ linear


def denoiser(target: Gaussian, level):
    """Matrix G and vector g with E[x₀ | x] = G x + g, by Gaussian conditioning of (x₀, x)."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    cov = target.full_cov[0]
    noisy = alpha**2 * cov + sigma**2 * torch.eye(target.dim, dtype=DOUBLE)
    gain = alpha * cov @ torch.linalg.inv(noisy)
    return gain, target.mean - alpha * gain @ target.mean


class Law:
    """Mean and covariance of a random vector under affine maps."""

    def __init__(self, mean, cov):
        self.mean, self.cov = mean, cov

    def map(self, matrix, vector=0.0, variance=0.0):
        noise = variance * torch.eye(len(matrix), dtype=DOUBLE)
        return Law(matrix @ self.mean + vector, matrix @ self.cov @ matrix.mT + noise)

    def replace(self, known, values, variance):
        """Known coordinates drawn anew, independently, from N(values, variance)."""
        mean, cov = torch.where(known, values, self.mean), self.cov.clone()
        cov[known], cov[:, known] = 0.0, 0.0
        return Law(mean, cov + torch.diag(torch.where(known, variance, 0.0).double()))

    def condition(self, known, values):
        """The law of the other coordinates given the known ones, and the log density of those."""
        k, u = known, ~known
        gain = torch.linalg.solve(self.cov[k][:, k], self.cov[k][:, u]).mT
        normal = torch.distributions.MultivariateNormal(self.mean[k], self.cov[k][:, k])
        mean = self.mean[u] + gain @ (values[k] - self.mean[k])
        return Law(mean, self.cov[u][:, u] - gain @ self.cov[k][:, u]), normal.log_prob(values[k])
