"""ALM's diagnostics (Eq. 29 to 31) on a Gaussian, where the model's noise is a matrix."""

import torch

import lanpaint as lp
from lanpaint.diagnostics import UpdateSizes, blend_deviation
from lanpaint_toys import Gaussian

DOUBLE = torch.float64
COV = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.5]], dtype=DOUBLE)
TARGET = Gaussian([0.0, 0.0, 0.0], COV)
LEVELS = lp.uniform_time(lp.VP.linear(), 3)


def matrix(level):
    """B with ε̂(x) = B x."""
    alpha, sigma = level.numbers
    return sigma * torch.linalg.inv(alpha**2 * COV + sigma**2 * torch.eye(3, dtype=DOUBLE))


def test_the_deviation_under_another_mask_is_that_of_the_scores_of_the_two_blends():
    state, partner = torch.tensor([[1.0, 2.0, 3.0]], dtype=DOUBLE), torch.tensor([[-1.0, 0.5, 0.0]], dtype=DOUBLE)
    mask, changed = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.25, 1.0])
    found = blend_deviation(TARGET, state, partner, LEVELS[1], mask, changed)
    before = matrix(LEVELS[1]) @ torch.tensor([-1.0, 0.5, 3.0], dtype=DOUBLE)
    after = matrix(LEVELS[1]) @ torch.tensor([-1.0, 0.875, 3.0], dtype=DOUBLE)
    assert torch.allclose(found, (after - before).norm() / before.norm())
    assert blend_deviation(TARGET, state, partner, LEVELS[1], mask, mask) == 0


def test_updates_of_a_gaussian_without_the_joint_term_are_all_equal():
    sizes, start = UpdateSizes(), torch.tensor([[0.4, -1.1, 0.9]], dtype=DOUBLE)
    known, values = torch.tensor([False, True, False]), torch.zeros(1, 3, dtype=DOUBLE)
    sampler = lp.ALM(TARGET, levels=LEVELS, partner="fixed", w2=0.0, iterations=5, decay=False, callbacks=[sizes])
    sampler(lp.Observation(values, known), start=start, noise=torch.zeros_like)
    assert len(sizes.sizes) == len(sizes.changes) == 3
    assert max(sizes.changes) < 1e-14
    update = (matrix(LEVELS[0])[:, 1] * -1.1)[~known] / 5  # w₁/N M B K (Y − X), with X = 0
    assert abs(sizes.sizes[0] - float(update.norm())) < 1e-12
