"""What becomes of a sample with a generator of its own depends on no other sample of its batch, in every method."""

import pytest
import torch

import lanpaint as lp
from lanpaint.methods import METHODS, make_sampler
from lanpaint.samplers.presets import PRESETS
from lanpaint_toys import GaussianMixture

DOUBLE = torch.float64
KNOWN = torch.tensor([True, False, True, False])
MEANS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 1.0, -1.0]], dtype=DOUBLE)
COV = torch.tensor(
    [[1.0, 0.6, 0.2, 0.1], [0.6, 0.8, 0.1, 0.3], [0.2, 0.1, 0.5, 0.0], [0.1, 0.3, 0.0, 1.2]], dtype=DOUBLE
)
ROWS = (0, 1, 2, 3)


def mixture(scale):
    return GaussianMixture(scale * MEANS, scale**2 * torch.stack([COV, 0.3 * COV]))


def together_and_alone(method, scale, **options):
    """The samples of one run, and of a run for each of them."""
    values = scale * torch.randn(len(ROWS), 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    sampler = make_sampler(method, mixture(scale), steps=4, inner_steps=2, **options)
    together = sampler(lp.Observation(values, KNOWN), generator=lp.seeded(ROWS))
    alone = [sampler(lp.Observation(values[row : row + 1], KNOWN), generator=lp.seeded([row])) for row in ROWS]
    return together, torch.cat(alone)


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_of_any_method_is_the_same_alone_and_in_a_batch(method):
    together, alone = together_and_alone(method, 1.0)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sample_of_any_preset_is_the_same_alone_and_in_a_batch(preset):
    together, alone = together_and_alone("lanpaint", 1.0, preset=preset)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("method", "options"), [("lanpaint", {"preset": "fast"}), ("smcdiff", {})])
def test_with_a_scale_that_is_told_wide_data_do_not_depend_on_their_batch_either(method, options):
    """Without it the scale is that of the batch's known values (docs/frontier.md)."""
    together, alone = together_and_alone(method, 30.0, data_scale=30.0, **options)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-8)
