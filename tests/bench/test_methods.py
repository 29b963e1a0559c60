"""Methods by name: every one runs, says what it costs, and refuses the options that are not its own."""

import math

import pytest

from lanpaint.bench import METHODS, Settings, make_sampler, run
from lanpaint_toys import gauss2

WITHOUT_INNER_STEPS = ("replace", "ddrm", "mcg", "dps", "pigdm", "mmps", "tmpd", "flowdps")
# evaluations of 4 steps with 2 inner steps
NFE = {
    **dict.fromkeys(("langevin", "fld", "big", "lanpaint", "copaint"), 12),
    **dict.fromkeys(WITHOUT_INNER_STEPS, 4),
    **dict.fromkeys(("blended", "ddnm", "diffpir", "flowchef", "latino", "reddiff"), 4),
    "ding": 7,  # two at each level but the last
    "daps": 4 + 3 + 2 + 1,  # five steps of a flow, or as many as there are levels
    "pnpdm": 4 + 4 * 3 + 30 * 2 + 165,  # 10 · 0.9ᵏ is above 6.28 for four iterations, above 0.251 for 30 more
    "syncsde": 4 + 4,  # and as many of DDIM inversion
    "alm": 4 + 4 * 3,
    "mcgdiff": 4 * 64,
    "fpssmc": 4 * 20,
    "mgps": 4 + 3 * 2,  # no fit in the last step
    "mgdm": 1 + 3 * 2 + (2 + 2 + 1),  # first x̂₀, fits, ancestral steps
    "tds": 4 * 64,  # of 64 particles each
    "smcdiff": 4 * (1 + 2) * 8,  # of 8 particles each
    "repaint": 10,  # no resampling at the last level
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_the_gaussian_and_beats_independence(method):
    """Independent coordinates have a KL of (2/0.36 − 2 + ln 0.36)/2 = 1.27 nats."""
    row, x = run(Settings("gaussian", method, steps=4, inner_steps=2, samples=400, levels="logsnr"))
    assert row.nfe == NFE[method]
    # A point is no sample, and DAPS needs levels that are close to each other.
    assert 0 < row.kl < (math.inf if method in ("reddiff", "daps") else 1.2)
    assert x.shape == (400, 2)
    assert (row.settings.inner_steps is None) == ("inner_steps" not in METHODS[method].arguments)


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("replace", {"step_size": 0.1}, "replace has no step_size; it takes solver"),
        ("ddrm", {"solver": "heun"}, "ddrm has no solver; it takes eta, eta_b"),
        ("fld", {"lam": 3.0}, "fld has no lam"),
        ("big", {"friction": 3.0}, "big has no friction without dynamics"),
        ("magic", {}, "unknown method 'magic'; expected one of replace, repaint"),
    ],
)
def test_options_that_a_method_lacks_are_refused(method, options, told):
    with pytest.raises(ValueError, match=told):
        make_sampler(method, gauss2().target, steps=2, inner_steps=1, **options)
