"""LanPaint on a trained network: better than Replace on held-out digits."""

import pytest
import torch

import lanpaint as lp
from lanpaint.demo import digits_score, held_out_digits
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS

COUNT = 120


@pytest.fixture(scope="module")
def score():
    return digits_score()


@pytest.mark.parametrize(("mask", "margin"), [("box", 1.0), ("half", 0.5)])
def test_lanpaint_beats_replace_on_held_out_digits(score, mask, margin):
    """Hole PSNR, paired over 120 digits with fixed seeds: the mean gain less two standard errors exceeds the margin."""
    truth = held_out_digits(COUNT)
    known = MASKS[mask](8, 8)
    observation = lp.Observation(truth, known)
    psnr = []
    for sampler in (lp.Replace(score), lp.LanPaint(score)):
        out = sampler(observation, generator=lp.seeded(range(COUNT)))
        assert torch.equal(out[..., known], truth[..., known])
        psnr.append(hole_psnr(out, truth, known))
    gain = psnr[1] - psnr[0]
    error = float(gain.std()) / COUNT**0.5
    assert float(gain.mean()) - 2 * error > margin, f"gain {float(gain.mean()):.2f} ± {error:.2f} dB"
