"""A method of a new kind is a few lines: two coupled trajectories, levels that differ in space, a rewritten ε."""

import ast
import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers.loop import run
from lanpaint_toys import Gaussian
from tests.samplers.affine import law

DOUBLE = torch.float64
TARGET = Gaussian([0.5, -0.2], [[1.0, 0.8], [0.8, 1.0]])
KNOWN = torch.tensor([False, True])
VALUES = torch.tensor([0.0, 1.0], dtype=DOUBLE)


@dataclass(frozen=True)
class PairMemory(lp.LangevinMemory):
    """The partner: a trajectory of the known content that is made by the same solver, shape of x."""

    partner: torch.Tensor | None = None


class Coupled(lp.LanPaint):
    """Two trajectories: the known part of x is that of a partner which runs from the diffused observation."""

    def remember(self, x):
        return PairMemory(super().remember(x).solver)

    def enter(self, state, visit, noise):
        partner = state.memory.partner
        if partner is None:
            partner = state.observation.diffused(visit.level, noise(state.x))
        state = replace(state, x=state.observation.replace_known(state.x, partner))
        return super().enter(replace(state, memory=replace(state.memory, partner=partner)), visit, noise)

    def advance(self, state, visit, noise):
        state = super().advance(state, visit, noise)
        noise_left = self.score.epsilon(state.memory.partner, visit.level)  # one more evaluation, which it declares
        partner = visit.next_level.perturb(state.observation.values, noise_left)
        return replace(state, memory=replace(state.memory, partner=partner))


def test_two_coupled_trajectories_with_inner_steps_sample_near_the_conditional():
    """The partner stays with the observation, and x follows it: nearer to the exact law than Replace is."""
    known = {"steps": 20, "inner_steps": 5}
    coupled, plain = Coupled(TARGET, **known), lp.Replace(TARGET, steps=20)
    exact = TARGET.conditional(VALUES, KNOWN)
    errors = []
    for sampler in (coupled, plain):
        mean, cov = law(sampler, VALUES, KNOWN)
        errors.append(float((mean[0] - exact.mean[0]).abs() + (cov[0, 0] - exact.full_cov[0, 0, 0]).abs()))
        assert mean[1] == VALUES[1]
    assert errors[0] < 0.5 * errors[1]
    state = list(coupled.iterate(lp.Observation(VALUES.expand(3, 2), KNOWN)))[-1]
    assert state.memory.partner.shape == state.x.shape == (3, 2)


def _in_space(levels):
    """The same levels where nothing is known, clean where it is known: a level for each entry."""
    return [
        lp.NoiseLevel(
            torch.where(KNOWN, 1.0, level.alpha.expand(2)).double(), torch.where(KNOWN, 0.0, level.sigma.expand(2))
        )
        for level in levels
    ]


@pytest.mark.parametrize("steps", [40, 80])
def test_levels_that_differ_in_space_sample_the_conditional_to_the_order_of_the_solver(steps):
    """Known entries at σ = 0 from the start: plain sampling along such levels is exact as steps → ∞.

    A 2-d Gaussian is affine in its random numbers, so that mean and covariance are known without sampling. The error
    falls with the number of steps, as it does for a scalar schedule on the marginal of x alone.
    """
    levels = lp.uniform_log_snr(lp.VP.linear(), steps)
    plan = lp.Plan(_in_space(levels))
    start = torch.where(KNOWN, VALUES, 0.0)

    class Given(lp.Sampler):
        def begin(self, observation, noise, start=None):
            state = super().begin(observation, noise, start)
            return replace(state, x=observation.finish(state.x))

    mean, cov = law(Given(TARGET, plan=plan), start, KNOWN)
    exact = TARGET.conditional(VALUES, KNOWN)
    scalar = Gaussian(exact.mean[:1], exact.full_cov[0, :1, :1])
    reference, variance = law(lp.Sampler(scalar, levels=levels), torch.zeros(1, dtype=DOUBLE), torch.tensor([False]))
    assert mean[1] == 1.0
    assert cov[1].abs().max() == 0
    error, scalar_error = (abs(float(v - exact.full_cov[0, 0, 0])) for v in (cov[0, 0], variance[0, 0]))
    assert error < 1.1 * scalar_error + 1e-12
    assert abs(mean[0] - exact.mean[0]) < 1.1 * abs(reference[0] - exact.mean[0]) + 1e-12


def _imports(path):
    """Modules of the package that a module imports when it is loaded, type-checking blocks included."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for part in ast.walk(node) if isinstance(node, (ast.If, ast.Try)) else [node]:
            if isinstance(part, ast.ImportFrom) and part.module and part.module.startswith("lanpaint"):
                names = {f"{part.module}.{alias.name}" for alias in part.names}
                found |= {part.module} | names
    return found


def test_modules_import_one_another_without_a_circle():
    root = Path(lp.__file__).parent
    names = {
        path: "lanpaint." + ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in root.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for path, name in names.items() if name != "lanpaint.__init__"}
    graph = {name: {other for other in _imports(path) if other in modules} for name, path in modules.items()}
    assert "lanpaint.callbacks" in graph["lanpaint.samplers.loop"]
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, " → ".join([*above, name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_every_method_is_one_file_of_at_most_120_lines_but_sequential_monte_carlo():
    folder = Path(lp.__file__).parent / "samplers"
    shared = {"__init__", "sampler", "loop", "smc", "particles", "gradients"}
    for path in folder.glob("*.py"):
        if path.stem not in shared:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 120, path.name


def test_the_loop_fits_on_a_screen():
    assert len(inspect.getsource(run).splitlines()) < 60
