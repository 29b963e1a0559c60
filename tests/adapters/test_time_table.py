"""Interpolation in a table: exact for polynomials, and within the bound of its docstring for waves."""

import pytest
import torch

from lanpaint.adapters.time_table import LAST, covers, grid, interpolated, neighbours

TIMES = torch.cat([torch.tensor([0.0, 0.25, 500.0, 999.9, LAST]), LAST * torch.rand(2000)])
ROUNDING = 1e-6
GRID = grid(torch.device("cpu"))


def _error(function):
    made = interpolated(function(GRID.double()).float()[:, None], *neighbours(TIMES))[:, 0]
    return float((made.double() - function(TIMES.double())).abs().max())


@pytest.mark.parametrize("degree", range(6))
def test_polynomials_up_to_degree_five_are_exact(degree):
    assert _error(lambda t: (t / 500 - 1) ** degree) < ROUNDING


@pytest.mark.parametrize("frequency", [0.01, 1.0, 2.0, 4.0])
def test_the_error_of_a_wave_is_within_the_bound(frequency):
    error = _error(lambda t: torch.sin(frequency * t + 0.3))
    bound = 225 / 64 / 720 * (frequency / 4) ** 6
    assert error < bound + ROUNDING
    assert error > 0.5 * bound - ROUNDING  # the bound is sharp, so another degree or distance of rows would be seen


def test_a_time_of_a_row_gets_the_row():
    rows = torch.randn(len(GRID), 3)
    inside = (GRID >= 0) & (GRID <= LAST)
    torch.testing.assert_close(interpolated(rows, *neighbours(GRID[inside])), rows[inside], rtol=0, atol=ROUNDING)


def test_a_table_covers_times_from_its_first_to_its_last():
    assert covers(torch.tensor([0.0, LAST]))
    for beyond in (-0.01, LAST + 0.1, float("nan"), float("inf")):
        assert not covers(torch.tensor([3.0, beyond]))
