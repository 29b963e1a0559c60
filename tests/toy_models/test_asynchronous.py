"""The loss of each pixel at its own time, and the loss in holes."""

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")

from lanpaint_toys.asynchronous import hole_loss, holes, pixel_losses
from lanpaint_toys.evaluation import image_losses
from lanpaint_toys.recipes import DIGITS_SCHEDULER, RECIPES


class _Exact(nn.Module):
    """The exact velocity of independent pixels of N(m, v), with maps of times in ticks."""

    mean, variance = 0.3, 0.25

    def forward(self, x, ticks):
        t = ticks.view(-1, 1, 1, 1) / 1000 if ticks.ndim == 1 else ticks / 1000
        total = (1 - t) ** 2 * self.variance + t**2
        gain = (t - (1 - t) * self.variance) / total  # of cov(eps − x_0, x_t) on x_t
        output = -self.mean + gain * (x - (1 - t) * self.mean)
        return type("Output", (), {"sample": output})

    def expected(self, t):
        """The least squared error of the velocity at a time: var(eps − x_0 | x_t) = v/((1 − t)² v + t²)."""
        return self.variance / ((1 - t) ** 2 * self.variance + t**2)


SCHEDULER = RECIPES["emoji-async"].make_scheduler()


def _pair(count, generator, size=(4, 6)):
    clean = _Exact.mean + _Exact.variance**0.5 * torch.randn(count, 2, *size, generator=generator)
    return clean, torch.randn(count, 2, *size, generator=generator)


def test_the_loss_of_a_pixel_is_that_of_its_own_time():
    generator = torch.Generator().manual_seed(0)
    clean, noise = _pair(4000, generator)
    times = torch.rand(1, 1, 4, 6, generator=generator).expand(4000, 1, 4, 6)
    losses = pixel_losses(_Exact(), SCHEDULER, clean, noise, times)
    assert losses.shape == (4000, 1, 4, 6)
    error = (losses.mean(0) - _Exact().expected(times[0])) / (losses.std(0) / 4000**0.5)
    assert float(error.abs().max()) < 4.2  # of 24 pixels


def test_a_constant_map_has_the_loss_of_an_ordinary_network():
    clean, noise = _pair(5, torch.Generator().manual_seed(0))
    times = torch.rand(5, generator=torch.Generator().manual_seed(1))
    ordinary = image_losses(_Exact(), SCHEDULER, clean, noise, 1000 * times)
    mapped = pixel_losses(_Exact(), SCHEDULER, clean, noise, times.view(5, 1, 1, 1).expand(5, 1, 4, 6))
    torch.testing.assert_close(mapped.flatten(1).mean(1), ordinary)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (torch.full((2, 1, 4, 6), 1.5), "values from 0 to 1, got .* from 1.5 to 1.5"),
        (torch.full((2, 1, 4, 6), -0.1), "values from 0 to 1, got .* from -0.1"),
        (torch.full((2, 1, 6, 4), 0.5), r"a map of shape \(2, 1, 4, 6\) .* got shape \(2, 1, 6, 4\)"),
    ],
)
def test_times_outside_of_their_range_and_maps_of_another_size_are_refused_in_one_line(times, message):
    clean, noise = _pair(2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=message) as error:
        pixel_losses(_Exact(), SCHEDULER, clean, noise, times)
    assert "\n" not in str(error.value)


def test_schedulers_other_than_those_of_a_flow_are_refused():
    from diffusers import DDPMScheduler

    clean, noise = _pair(2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="rectified flow, got DDPMScheduler"):
        pixel_losses(_Exact(), DDPMScheduler(**DIGITS_SCHEDULER), clean, noise, torch.full((2, 1, 4, 6), 0.5))


def test_holes_are_the_halves_and_the_middle_quarter_and_the_loss_is_that_inside_them():
    shapes = holes((8, 12))
    assert [float(hole.mean()) for hole in shapes] == [0.5, 0.5, 0.5, 0.5, 0.25]
    assert torch.equal(shapes[0] + shapes[1], torch.ones(1, 8, 12))
    clean, _ = _pair(300, torch.Generator().manual_seed(0), size=(8, 12))
    loss, standard_error = hole_loss(_Exact(), SCHEDULER, clean, draws=4)
    t = (torch.arange(1000) + 0.5) / 1000
    assert abs(loss - float(_Exact().expected(t).mean())) < 4 * standard_error
