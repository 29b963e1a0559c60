"""Metrics of sequences: 1 for draws from the law of the truth, and what they see."""

import pytest
import torch

from lanpaint.metrics import bend_ratio, diversity_ratio, join_ratio

KNOWN = torch.zeros(1, 12, dtype=torch.bool)
KNOWN[:, :6] = True


def walks(count, seed):
    steps = torch.randn(count, 1, 12, generator=torch.Generator().manual_seed(seed))
    return steps.cumsum(-1)


def test_draws_from_the_law_of_the_truth_have_ratios_of_one_within_their_errors():
    truth = walks(300, 0)
    made = truth.repeat_interleave(3, 0)
    made[..., 6:] = made[..., 5:6] + walks(900, 1)[..., :6]  # exact, given the past
    truth = truth.repeat_interleave(3, 0)
    for ratio in (join_ratio, bend_ratio):
        value, error = ratio(made, truth, KNOWN, 3)
        assert 0.02 < error < 0.1
        assert abs(value - 1) < 3.5 * error
    value, error = diversity_ratio(made[..., 6:].flatten(1), truth[..., 6:].flatten(1), 3)
    assert abs(value - 1) < 3.5 * error


def test_a_jump_of_a_known_size_is_seen_at_the_join_alone():
    truth = torch.arange(12.0).expand(4, 1, 12)
    made = truth + 2 * (~KNOWN)
    assert join_ratio(made, truth, KNOWN)[0] == pytest.approx(3)
    inside = truth.clone()
    inside[..., 9:] += 100
    assert join_ratio(inside, truth, KNOWN)[0] == pytest.approx(1)


def test_sequences_that_are_all_alike_have_no_diversity():
    truth = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert diversity_ratio(torch.zeros(50, 7), truth)[0] == pytest.approx(0, abs=1e-6)
    assert diversity_ratio(3 * truth, truth)[0] == pytest.approx(3)
    apart = torch.pdist(truth.double()).square().mean()
    alike = torch.pdist(truth.double() / 2 + 1).square().mean()
    assert diversity_ratio(truth / 2 + 1, truth)[0] == pytest.approx(float((alike / apart).sqrt()))


def test_there_is_no_join_where_channels_are_missing():
    value, _ = join_ratio(walks(4, 0), walks(4, 1), torch.zeros(1, 12, dtype=torch.bool))
    assert value != value
