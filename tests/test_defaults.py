"""Published settings are the defaults: a change of one of them is a change of the method."""

import inspect
import math

import pytest

import lanpaint as lp
from lanpaint.samplers import DDRM, DPS, MCG, MMPS, CoPaint, FlowDPS, PiGDM, RePaint, TwistedSMC
from lanpaint.samplers.ddnm import FORMS
from lanpaint.samplers.presets import PRESETS
from lanpaint.samplers.reddiff import BETAS

# (what, argument, value, where it is published)
PUBLISHED = [
    (lp.LanPaint, "preset", "paper", "this library's default"),
    (lp.LanPaint, "inner_steps", 5, "LanPaint-5"),
    (lp.LanPaint, "expected_noise", 0.0, "LanPaint, Appendix A: α = 0"),
    (lp.BiG, "lam", 8.0, "LanPaint, Appendix A: λ = 8"),
    (lp.FastLangevin, "friction", 15.0, "LanPaint, Appendix A: γ = 15"),
    (lp.FastLangevin, "order", 2, "LanPaint, Alg. 3"),
    (lp.PartialRefresh, "keep", 0.45, "docs/frontier.md: stable for λ = 8 and the longest step of the fast preset"),
    (lp.SecantLangevin, "growth", 1.3, "docs/frontier.md"),
    (lp.SecantLangevin, "longest", 40.0, "docs/frontier.md"),
    (lp.Underdamped, "mass", 1.0, "this library's default: the variance of the Gaussian of precision A"),
    (lp.Underdamped, "friction", 1.0, "this library's default: stable wherever overdamped Langevin dynamics is"),
    (lp.LMLangevin, "damping", 1.0, "this library's default: λ/d, below which the corrected form needs short steps"),
    (lp.HFHR, "friction", 15.0, "LanPaint, Appendix A: γ = 15"),
    (lp.LangevinPaint, "step_size", 0.04, "LanPaint, Appendix A: TFG, η = 0.04"),
    (lp.LangevinPaint, "inner_steps", 5, "as LanPaint-5"),
    (DDRM, "eta", 0.7, "LanPaint, Appendix A: η = 0.7"),
    (DDRM, "eta_b", 1.0, "LanPaint, Appendix A: η_b = 1"),
    (MCG, "step_size", 0.1, "LanPaint, Appendix A: α = 0.1/‖y − P x̂₀‖"),
    (DPS, "step_size", 1.0, "LanPaint, Appendix A: α = 1/‖y − P x̂₀‖"),
    (RePaint, "inner_steps", 5, "LanPaint, Tables 1 and 2: RePaint-5"),
    (CoPaint, "inner_steps", 2, "CoPaint: G = 2"),
    (CoPaint, "step_size", 0.2, "this library's default: with 20 levels about as long in all as CoPaint's with 250"),
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
    (lp.DING, "sigma_y", 0.01, "Moufad et al., 2025: σ_y = 0.01"),
    (lp.DING, "kernel", "paper", "Moufad et al., 2025: η_t = σ_t (1 − α_t) of a rectified flow"),
    (lp.DDNM, "form", "code", "Wang et al., 2022: the published code, with a singular value decomposition"),
    (lp.DDNM, "travel", 1, "the same code: ℓ = 1"),
    (lp.DDNM, "travels", 0, "the same code: r = 1"),
    (lp.DiffPIR, "prior_weight", 1.0, "Zhu et al., 2023, code for inpainting: λ = 1"),
    (lp.DiffPIR, "zeta", 1.0, "Zhu et al., 2023, code for inpainting: ζ = 1"),
    (lp.DiffPIR, "sigma_y", 0.001, "Zhu et al., 2023, code: least s"),
    (lp.DAPS, "ode_steps", 5, "Zhang et al., 2024: 5 Euler steps"),
    (lp.DAPS, "tau", 0.01, "Zhang et al., 2024: τ = 0.01"),
    (lp.DAPS, "langevin_step_size", 1e-4, "Zhang et al., 2024: h = 1e-4"),
    (lp.PnPDM, "iterations", 200, "InverseBench: 200 iterations"),
    (lp.PnPDM, "rho", 10.0, "InverseBench: ϱ₀ = 10"),
    (lp.PnPDM, "decay", 0.9, "InverseBench: d = 0.9"),
    (lp.PnPDM, "least_rho", 0.1, "InverseBench: ϱ_min = 0.1"),
    (lp.FlowChef, "gradient_steps", 1, "Patel et al., 2024: N = 1"),
    (lp.FlowChef, "step_size", 1.0, "this library's default: x̂₀ goes to y"),
    (lp.MCGDiff, "particles", 64, "InverseBench: 64 particles"),
    (lp.MCGDiff, "threshold", 1.0, "Cardoso et al., 2023: resampling at every level"),
    (lp.FPSSMC, "particles", 20, "InverseBench: 20 particles"),
    (lp.FPSSMC, "threshold", 1.0, "Dou & Song, 2024: resampling at every level"),
    (lp.REDDiff, "learning_rate", 0.1, "Mardani et al., 2023: Adam with rate 0.1"),
    (lp.LATINO, "delta", 1.0, "Spagnoletti et al., 2025: δ = 1 for t > 500"),
    (lp.LATINO, "sigma_y", 0.02, "Spagnoletti et al., 2025: 0.01 for pictures in [0, 1]"),
    (lp.SMCDiff, "threshold", 0.5, "as TwistedSMC"),
    (PiGDM, "weight", "paper", "Song et al., 2023: r² Jᵀ(…), at all lengths of the step"),
    (PiGDM, "data_variance", 1.0, "Song et al., 2023: r² = σ²/(σ² + 1)"),
    (MMPS, "iterations", 1, "azula: one iteration"),
    (lp.MGPS, "midpoint", 0.5, "Moufad et al., 2025: η = ½ (or ¾)"),
    (FlowDPS, "kappa", 1.0, "Kim et al., 2025: the data step converges"),
    (FlowDPS, "eta", None, "Kim et al., 2025: η = 1 − t'"),
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

    assert FORMS == {"paper": 1.0, "code": 0.85, "inversebench": 0.85}  # η of DDNM's forms
    assert BETAS == (0.9, 0.99)  # of Adam in RED-diff
    paper = lp.LanPaint(score)
    assert (paper.lam, paper.step_size, paper.dynamics.friction) == (8.0, 0.15, 15.0)  # Appendix A
    assert paper.steps == 20  # Euler steps, Sec. 5.3
    assert isinstance(paper.solver, lp.Euler)
    assert PRESETS["paper"]["step_size"] == 0.15
    assert lp.LanPaint(score, preset="paper").plan.evaluations == 20 * 6
    assert [method(score).solver.eta for method in (PiGDM, MMPS, lp.TMPD)] == [1.0] * 3  # ancestral, Song et al. η = 1
    for name in ("lanpaint2", "lanpaint2-rising"):  # release notes of LanPaint 2.0 and 2.1
        second = lp.LanPaint(score, preset=name)
        assert (second.lam, second.step_size, second.inner_steps) == (5.0, 0.2, 5)
        assert (second.dynamics.friction, second.dynamics.order) == (math.inf, 1)
