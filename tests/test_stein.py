"""The check of finished samples: quiet on exact samples of any law, loud where x lies in a mode that y contradicts."""

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.networks import network_score
from lanpaint_toys import Gaussian, GaussianMixture
from tests.adapters import tiny

LAST = torch.tensor([False, True])
TRAPPED = GaussianMixture([[-2.0, -0.3], [2.0, 0.3]], 0.15**2)
EASY = GaussianMixture([[-1.0, -1.0], [1.0, 1.0], [0.0, 2.0]], [0.1, 0.2, 0.05], [0.6, 0.3, 0.1])


def check(target, x, seed=1):
    return lp.stein_check(target, x, LAST, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "target", [Gaussian([0.3, -0.2], [[1.0, 0.8], [0.8, 1.0]]), TRAPPED, EASY], ids=["gauss2", "trapped", "easy"]
)
def test_the_mean_is_zero_for_exact_samples(target):
    """Stein's identity, to four standard errors of 2,000 samples."""
    found = check(target, target.sample(2_000, torch.Generator().manual_seed(0)))
    assert abs(found.z) < 4
    assert not found.is_off


def test_the_mean_is_that_of_the_identity_where_x_does_not_depend_on_the_noise():
    """Independent y ~ N(0, 1) shifted by d: ε̂ = σ z for z = α (y + d) + σ ε, so E⟨ε̂, ε − ε̂⟩ = −α² σ² d²."""
    count, shift = 20_000, 3.0
    target = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    x = target.sample(count, torch.Generator().manual_seed(0)) + torch.tensor([0.0, shift])
    levels = lp.uniform_log_snr(lp.VP.linear(), 20)[:-1]
    step = (float(levels[-1].log_snr) - float(levels[0].log_snr)) / 19
    exact = sum(-step * (level.numbers[0] * level.numbers[1] * shift) ** 2 for level in levels)
    found = check(target, x)
    assert abs(found.mean - exact) < 4 * float(found.statistics.std()) / count**0.5
    assert found.is_off


def test_it_finds_a_trapped_run_and_none_where_the_particles_cross():
    generator = torch.Generator().manual_seed(0)
    observation = lp.Observation(TRAPPED.sample(128, generator).float(), LAST)
    trapped = lp.LanPaint(TRAPPED, preset="fast")(observation, generator=generator)
    assert check(TRAPPED, trapped).is_off
    assert not check(TRAPPED, lp.SMCDiff(TRAPPED, steps=14, inner_steps=1)(observation, generator=generator)).is_off


@pytest.mark.parametrize("sampler", [lp.LanPaint, lp.SMCDiff])
def test_it_is_quiet_where_chains_cross(sampler):
    generator = torch.Generator().manual_seed(0)
    observation = lp.Observation(EASY.sample(128, generator).float(), LAST)
    assert not check(EASY, sampler(EASY)(observation, generator=generator)).is_off


def test_it_takes_the_network_of_a_pipeline_and_its_latents():
    made = tiny.sd()
    score = lp.CountedScore(network_score(made.pipe, **made.call))
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = lp.stein_check(score, latents, torch.ones((), dtype=torch.bool), evaluations=3)
    assert score.evaluations == 3
    assert bool(torch.isfinite(found.statistics).all())


def test_what_cannot_be_checked_is_told():
    with pytest.raises(ValueError, match="needs at least two samples, got 1; draw several restarts"):
        check(TRAPPED, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="nothing is known, so there is nothing to check"):
        lp.stein_check(TRAPPED, torch.zeros(2, 2), torch.tensor(False))
