"""The gradient-free methods of other papers: each law on the reference problem R, by exact algebra."""

from functools import partial

import pytest

import lanpaint as lp
from tests.samplers.reference_problem import FlowMap, assert_invariant, assert_row


def _with_flow(make, **options):
    """A method whose x̂₀ is the clean end of the exact flow."""
    return lambda score, **more: make(FlowMap(), **options, **more)


# The rows of the specification: means (unknown, known) and variances (unknown, known), with 20 and with 200 levels.
ROWS = {
    "Replace": (lp.Replace, (0.34205, 0.98774, 0.53232, 0.00607), (0.34637, 0.99988, 0.59280, 0.00006)),
    "Blended": (lp.Blended, (0.34205, 1, 0.53232, 0), (0.34637, 1, 0.59280, 0)),  # Replace, and y at the end
    "DING": (lp.DING, (0.62471, 1.01004, 0.37636, 0.00016), (0.78838, 1.00316, 0.35582, 0.00007)),
    "DING, ancestral": (
        partial(lp.DING, kernel="ancestral"),
        (0.67555, 1, 0.32532, 0.00010),
        (0.77747, 1, 0.35432, 0.00007),
    ),
    "DDNM, paper": (partial(lp.DDNM, form="paper"), (0.47203, 1, 0.45331, 0), (0.49724, 1, 0.52702, 0)),
    "DDNM, code": (lp.DDNM, (0.67208, 1, 0.29443, 0), (0.77578, 1, 0.27755, 0)),
    "DDNM, InverseBench": (partial(lp.DDNM, form="inversebench"), (0.56927, 1, 0.34181, 0), (0.74849, 1, 0.28892, 0)),
    "DDNM, share 1": (partial(lp.DDNM, eta=1.0), (0.64694, 1, 0.19909, 0), (0.76897, 1, 0.18242, 0)),
    "DiffPIR": (
        partial(lp.DiffPIR, prior_weight=7.0, zeta=0.3, sigma_y=0.05),
        (0.45241, 0.97515, 0.48502, 0.00965),
        (0.68361, 0.97985, 0.38838, 0.01459),
    ),
    "DAPS": (
        _with_flow(lp.DAPS, ode_steps=1),
        (0.62611, 0.99993, 1.16579, 0.00010),
        (0.76346, 0.99995, 0.79775, 0.00010),
    ),
    "DAPS, posterior mean": (
        partial(lp.DAPS, ode_steps=1),
        (0.64689, 0.99987, 0.53509, 0.00010),
        (0.76890, 0.99989, 0.38931, 0.00010),
    ),
    "FlowChef": (lp.FlowChef, (0.76286, 1, 0.33013, 0), (0.79245, 1, 0.35713, 0)),
    "LATINO": (_with_flow(lp.LATINO, sigma_y=0.0), (0.62613, 1, 0.45710, 0), (0.76350, 1, 0.37888, 0)),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_law_on_the_reference_problem_is_the_row_of_the_specification(name):
    make, few, many = ROWS[name]
    assert_row(make, 20, few)
    assert_row(make, 200, many)


def test_published_langevin_steps_of_daps_hide_the_variance_that_is_counted_twice():
    """100 steps from x̂₀ add at most 0.02 to the unknown part, where the exact draw adds r²."""
    make = _with_flow(lp.DAPS, ode_steps=1, langevin_steps=100)
    assert_row(make, 20, (0.62611, 0.99992, 0.47698, 0.00010))


COORDINATES = {
    **{name: row[0] for name, row in ROWS.items()},
    "DAPS, flow of several steps": lp.DAPS,
    "DDNM, time travel": partial(lp.DDNM, travel=3, travels=1),
    "PnP-DM": partial(lp.PnPDM, iterations=3),
    "RED-diff": lp.REDDiff,
}


@pytest.mark.parametrize("name", COORDINATES)
def test_the_coordinates_change_nothing(name):
    assert_invariant(COORDINATES[name])
