"""Published settings are the defaults: a change of one of them is a change of the method."""

import inspect

import pytest

import lanpaint as lp
from lanpaint.samplers import DDRM, DPS, MCG, CoPaint, RePaint, TwistedSMC
from lanpaint.samplers.presets import PRESETS

# (what, argument, value, where it is published)
PUBLISHED = [
    (lp.LanPaint, "preset", "paper", "this library's default"),
    (lp.LanPaint, "inner_steps", 5, "LanPaint-5"),
    (lp.LanPaint, "expected_noise", 0.0, "LanPaint, Appendix A: α = 0"),
    (lp.FastLangevin, "friction", 15.0, "LanPaint, Appendix A: γ = 15"),
    (lp.FastLangevin, "order", 2, "LanPaint, Alg. 3"),
    (lp.HFHR, "friction", 15.0, "LanPaint, Appendix A: γ = 15"),
    (lp.LangevinPaint, "step_size", 0.04, "LanPaint, Appendix A: TFG, η = 0.04"),
    (lp.LangevinPaint, "inner_steps", 5, "as LanPaint-5"),
    (DDRM, "eta", 0.7, "LanPaint, Appendix A: η = 0.7"),
    (DDRM, "eta_b", 1.0, "LanPaint, Appendix A: η_b = 1"),
    (MCG, "step_size", 0.1, "LanPaint, Appendix A: α = 0.1/‖y − P x̂₀‖"),
    (DPS, "step_size", 1.0, "LanPaint, Appendix A: α = 1/‖y − P x̂₀‖"),
    (RePaint, "inner_steps", 5, "LanPaint, Tables 1 and 2: RePaint-5"),
    (CoPaint, "inner_steps", 2, "CoPaint: G = 2"),
    (CoPaint, "regularization", 0.01, "CoPaint: ξ'² = 0.01"),
    (TwistedSMC, "threshold", 0.5, "Wu et al., 2023: resampling below half of the particles"),
    (lp.SyncSDE, "w1", 1.0, "ALM, Appendix D: w₁ = 1 in image inpainting"),
    (lp.SyncSDE, "pull_decay", True, "ALM, Eq. 2 has the w₁ that Eq. 12 decays"),
    (lp.SyncSDE, "partner", "inversion", "ALM, Sec. 4.2: DDIM inversion of the masked source"),
    (lp.SyncSDE, "pull_next", False, "ALM, Eq. 2: X_t − Y_t"),
    (lp.SyncSDE, "precision", "eq4", "ALM, Eq. 4"),
    (lp.ALM, "w1", 1.0, "ALM, Appendix D"),
    (lp.ALM, "w2", 0.005, "ALM, Appendix D"),
    (lp.ALM, "iterations", 1, "ALM, Eq. 11"),
    (lp.ALM, "decay", True, "ALM, Eq. 12"),
    (lp.ALM, "last_share", 0.0, "ALM, Sec. 3; 0.2 for meshes alone (B.4)"),
    (lp.ALM, "reuse", False, "ALM, Eq. 2 has the Y_t that Eq. 1 moved"),
    (lp.ALM, "scaled", False, "ALM, Eq. 9: up to a factor of 1/√(1 − ᾱ)"),
    (lp.DDIM, "eta", 0.0, "Song et al., 2020: deterministic"),
]


@pytest.mark.parametrize(("made", "argument", "value", "source"), PUBLISHED)
def test_a_published_setting_is_the_default(made, argument, value, source):
    default = inspect.signature(made.__init__).parameters[argument].default
    assert (default, type(default)) == (value, type(value)), source


def test_defaults_that_no_signature_shows():
    assert lp.HFHR().psi == 2.0  # half of the motion overdamped

    def score(x, level):
        return x

    paper = lp.LanPaint(score)
    assert (paper.lam, paper.step_size, paper.dynamics.friction) == (8.0, 0.15, 15.0)  # Appendix A
    assert paper.steps == 20  # Euler steps, Sec. 5.3
    assert isinstance(paper.solver, lp.Euler)
    assert PRESETS["paper"]["step_size"] == 0.15
    assert lp.LanPaint(score, preset="paper").plan.evaluations == 20 * 6
