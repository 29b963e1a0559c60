"""The gradient-free methods of other papers: each law on the reference problem R, by exact algebra."""

from functools import partial

import pytest

import lanpaint as lp
from lanpaint.samplers.ddnm import DDNM
from lanpaint.samplers.diffpir import DiffPIR
from lanpaint.samplers.latino import LATINO
from tests.samplers.reference_problem import FlowMap, assert_invariant, assert_row


def test_the_reference_problem_gives_the_known_law_of_replace():
    assert_row(lp.Replace, 20, (0.34205, 0.98774, 0.53232, 0.00607))
    assert_row(lp.Replace, 200, (0.34637, 0.99988, 0.59280, 0.00006))
    assert_invariant(lp.Replace)


ROWS = {
    "DDNM, paper": (
        partial(DDNM, form="paper"),
        (0.47203, 1, 0.45331, 0),
        (0.49724, 1, 0.52702, 0),
    ),
    "DDNM, code": (DDNM, (0.67208, 1, 0.29443, 0), (0.77578, 1, 0.27755, 0)),
    "DDNM, InverseBench": (partial(DDNM, form="inversebench"), (0.56927, 1, 0.34181, 0), (0.74849, 1, 0.28892, 0)),
    "DDNM, share 1": (partial(DDNM, eta=1.0), (0.64694, 1, 0.19909, 0), (0.76897, 1, 0.18242, 0)),
    "DiffPIR": (
        partial(DiffPIR, lam=7.0, zeta=0.3, sigma_y=0.05),
        (0.45241, 0.97515, 0.48502, 0.00965),
        (0.68361, 0.97985, 0.38838, 0.01459),
    ),
    "LATINO": (
        lambda score, **options: LATINO(FlowMap(), sigma_y=0.0, **options),
        (0.62613, 1, 0.45710, 0),
        (0.76350, 1, 0.37888, 0),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_law_on_the_reference_problem_is_the_published_row(name):
    make, few, many = ROWS[name]
    assert_row(make, 20, few)
    assert_row(make, 200, many)


@pytest.mark.parametrize("name", ROWS)
def test_the_coordinates_change_nothing(name):
    assert_invariant(ROWS[name][0])
