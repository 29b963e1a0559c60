"""Mistakes planted by hand, each with the test that must see it: ``python -m tests.planted``.

They are mistakes that someone could make with the paper open, and that most tests would not see. Each is planted in a
copy of the project, and its test is run: it must fail there, and pass without the mistake. The exit status is 1
otherwise. ``tests/mutants.py`` plants mistakes at random.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.mutants import KEPT, Mutant, copied, fails, import_large_packages, kill

# (what is wrong, file in lanpaint/, its text, the mistaken text, the test that sees it)
PLANTED = [
    (
        "the eigenbasis is transposed in the preconditioner's init",
        "dynamics/preconditioned.py",
        "start = x.flatten(1) @ self._eigenbasis(x, drift)[0].to(x)",
        "start = x.flatten(1) @ self._eigenbasis(x, drift)[0].to(x).mT",
        "dynamics/test_family.py::test_a_step_of_length_0_is_the_identity_for_a_matrix_preconditioner",
    ),
    (
        "DDPM adds noise in the step to σ = 0",
        "solvers/ddim.py",
        "return torch.where(next_level.sigma > 0, (beta.clamp(min=0) * there).sqrt(), 0.0)",
        "return (beta.clamp(min=0) * there).sqrt()",
        "solvers/test_solvers.py::test_the_step_to_clean_data_adds_no_noise",
    ),
    (
        "CoPaint's step has no √ᾱ",
        "samplers/copaint.py",
        "length = self.step_size * level.alpha * reciprocal(scale)",
        "length = self.step_size * torch.ones_like(level.alpha)",
        "samplers/test_gradient_methods.py::test_a_gradient_step_of_copaint_has_the_published_length",
    ),
    (
        "HFHR's momentum starts with the variance Γ in place of Γ/Ψ",
        "dynamics/hfhr.py",
        "return None if variance is None else variance / self.psi",
        "return variance",
        "test_verification.py::test_every_dynamics_of_the_library_passes[HFHR]",
    ),
    (
        "the secant's length is 0 after negative curvature",
        "dynamics/secant.py",
        "(size / bent).abs_()",
        "(size / -bent)",
        "dynamics/test_secant.py::test_after_negative_curvature_the_length_is_that_of_its_magnitude",
    ),
    (
        "where levels vary within a sample, the secant is bounded by the flattest of them",
        "dynamics/secant.py",
        "damping.amax(tuple(range(1, x.ndim)), keepdim=True)",
        "damping.amin(tuple(range(1, x.ndim)), keepdim=True)",
        "dynamics/test_secant.py::test_where_levels_vary_within_a_sample_the_steepest_of_them_bounds_what_is_measured",
    ),
    (
        "the error of a distance is half of what it is",
        "metrics/distances.py",
        "error=2 * float(",
        "error=float(",
        "metrics/test_distances.py::test_the_error_is_the_spread_of_the_estimate_over_many_draws",
    ),
    *(
        (
            f"verify does not see {what}",
            f"verification/{file}",
            text,
            mistaken,
            f"test_verification.py::test_what_is_wrong_is_named[{test}]",
        )
        for what, file, text, mistaken, test in (
            ("a wrong covariance", "checks.py", "if order < 0.7 or errors[smallest] > 0.05:", "if False:", "Cold-"),
            ("a wrong mean", "checks.py", "if means[-1] > 1e-8 and measured_order(means, STEPS) < 0.7:", "if False:",
             "Off-"),
            ("an unstable step", "checks.py", "if unstable:\n        report", "if False:\n        report",
             "Backwards-"),
            ("an error in the known region alone", "checks.py",
             "_stationary({h: affine_step(dynamics, two_regions(h), 2) for h in STEPS}, \" where an entry is known\", "
             "report)", "pass", "ColdWhereKnown-"),
            ("a wrong mean in the known region alone", "checks.py",
             "_stationary({h: affine_step(dynamics, two_regions(h), 2) for h in STEPS}, \" where an entry is known\", "
             "report)", "pass", "OffWhereKnown-"),
            ("an unstable known region", "checks.py",
             "_stationary({h: affine_step(dynamics, two_regions(h), 2) for h in STEPS}, \" where an entry is known\", "
             "report)", "pass", "BackwardsWhereKnown-"),
            ("momenta of init that are too large", "checks.py", "if report.start_error > 0.02:", "if False:",
             "HotStart-"),
            ("momenta of init that are too small", "checks.py", "if report.start_error > 0.02:", "if False:",
             "ColdStart-"),
            ("an order that is claimed and missed", "checks.py",
             "if claimed is not None and report.bias_order < claimed - 0.3:", "if False:", "BoldClaim-"),
            ("a speed that does not converge", "checks.py", "if report.convergence_order < 0.7:", "if False:",
             "SlowWeak-"),
            ("rare modes that are missed", "checks.py", "if share.is_off:", "if False:", "SecantLangevin-"),
            ("a force that is linear where the score is not", "checks.py", "if share.is_off:", "if False:", "Adding-"),
            ("a step that depends on the state", "checks.py", "if abs(variance - 1) > 5 * error:", "if False:",
             "StepByPlace-"),
            ("the global generator", "checks.py", "if not torch.equal(before, torch.random.get_rng_state()):",
             "if False:", "GlobalNoise-"),
            ("that a step writes to its state", "checks.py",
             "if not torch.equal(state.x, copy) or not torch.equal(x, kept):", "if False:", "InPlace-"),
            ("that a step does not move", "checks.py", "if torch.equal(state.x, new.x):", "if False:", "Still-"),
            ("that a step asks no score", "checks.py", "if not calls:", "if False:", "Blind-"),
            ("another dtype", "checks.py",
             "if state.x.shape != x.shape or state.x.dtype != dtype or state.x.device.type != device:", "if False:",
             "Doubled-"),
        )
    ),
    (
        "verify allows a share of rare modes to be off by 30 %",
        "verification/rare_modes.py",
        "0.03 * self.exact",
        "0.3 * self.exact",
        "test_verification.py::test_a_share_is_off_beyond_five_standard_errors_and_three_percent",
    ),
    (
        "verify allows a share of rare modes to be off by 50 standard errors",
        "verification/rare_modes.py",
        "5 * self.error",
        "50 * self.error",
        "test_verification.py::test_a_share_is_off_beyond_five_standard_errors_and_three_percent",
    ),
    (
        "the bridge rounds a state that was moved to the pipeline's 16 bits at outer steps",
        "adapters/bridge/solver.py",
        "unmoved = latents.dtype == x.dtype or self._run.is_unmoved(x, latents)",
        "unmoved = True",
        "adapters/test_exactness.py::test_the_state_of_a_pipeline_in_16_bits_is_float32_from_step_to_step",
    ),
    (
        "a level between those of a variance-exploding list is scaled as a variance-preserving one",
        "adapters/bridge/times.py",
        "exploding = float(level_of(scheduler, 0).alpha) == 1",
        "exploding = False",
        "adapters/test_exactness.py::"
        "test_a_level_between_those_of_a_variance_exploding_list_keeps_its_noise_and_has_a_time_between",
    ),
    (
        "a level within 3 % of one of the list is taken for it",
        "adapters/bridge/times.py",
        "< 1e-6 * angle",
        "< 0.03 * angle",
        "adapters/test_exactness.py::test_a_level_near_one_of_the_list_is_not_taken_for_it",
    ),
    (
        "same_noise is ten times laxer for one level",
        "adapters/schedulers.py",
        "rel_tol=1e-6",
        "rel_tol=1e-5",
        "adapters/test_exactness.py::test_levels_are_the_same_up_to_the_rounding_of_float32",
    ),
    (
        "same_noise is ten times laxer for several σ",
        "adapters/schedulers.py",
        "level.alpha, other.alpha, rtol=1e-6",
        "level.alpha, other.alpha, rtol=1e-5",
        "adapters/test_exactness.py::test_levels_are_the_same_up_to_the_rounding_of_float32",
    ),
    *(
        (
            f"the check with a known answer is laxer: {mistaken}",
            "adapters/schedulers.py",
            text,
            mistaken,
            "adapters/test_exactness.py::test_a_scheduler_that_errs_by_a_little_fails_the_check_with_a_known_answer",
        )
        for text, mistaken in (
            ("error < 0.05 and", "error < 0.5 and"),
            ("0.5 * sigma < state.x.std()", "0.05 * sigma < state.x.std()"),
            ("< 2 * sigma + 0.05", "< 20 * sigma + 0.5"),
            (".mean().abs() - 0.3 * sigma", ".mean().abs() - 3 * sigma"),
        )
    ),
    *(
        (f"a published default: {mistaken}", file, text, mistaken, f"test_defaults.py::{test}")
        for file, text, mistaken, test in (
            ("samplers/ddrm.py", "eta: float = 0.7", "eta: float = 0.85", "test_a_published_setting_is_the_default"),
            ("samplers/mcg.py", "step_size: float = 0.1", "step_size: float = 0.2",
             "test_a_published_setting_is_the_default"),
            ("samplers/dps.py", "step_size: float = 1.0", "step_size: float = 0.5",
             "test_a_published_setting_is_the_default"),
            ("samplers/langevin_paint.py", "step_size: float = 0.04", "step_size: float = 0.15",
             "test_a_published_setting_is_the_default"),
            ("dynamics/hfhr.py", "psi = 2.0 if psi is None", "psi = 4.0 if psi is None",
             "test_defaults_that_no_signature_shows"),
            ("fields.py", "lam: float = 8.0", "lam: float = 5.0", "test_a_published_setting_is_the_default"),
        )
    ),
]  # fmt: skip


def main() -> int:
    """Plant each mistake, run its test, and print what is not as it should be."""
    KEPT.mkdir(exist_ok=True)
    mutants, names = [], sorted({f"tests/{test}" for *_, test in PLANTED})
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        import_large_packages(tree)
        for what, module, text, mistaken, test in PLANTED:
            source = (tree / "lanpaint" / module).read_text(encoding="utf-8")
            before, after = source.split(text)  # which is in it once
            line = before.count("\n") + 1
            lines = range(line, line + text.count("\n") + 1)
            mutants.append(Mutant(module, [what], before + mistaken + after, lines, [(60.0, f"tests/{test}")]))
        if fails(names, tree):
            print("a test fails without a mistake")
            return 1
        seen = kill(mutants, sorted({name.split("::")[0] for name in names}), tree)
    for dead, (what, _, _, _, test) in zip(seen, PLANTED, strict=True):
        print(f"{'seen' if dead else 'NOT SEEN':<10}{what} ({test})")
    print(f"{sum(seen)} of {len(seen)} are seen by their tests")
    return int(not all(seen))


if __name__ == "__main__":
    raise SystemExit(main())
