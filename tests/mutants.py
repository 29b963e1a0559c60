"""Mutation run: plants a mistake in the code, runs the tests that should see it, and counts the mistakes they see.

``make mutants``, or ``python -m tests.mutants --per-module 30 solvers/ddim.py``. A mutant is one small change of one
line: another operator, another number, α for σ, a condition that is always true. It is killed if a test fails, or if
the tests do not end. What survives is printed with its line: either a test is missing, or the line does not matter.

The mutated file lies in a copy of the project. Each mutant runs in a process of its own, forked after the large
packages are imported. The tests that run the mutated line come first, the fastest before the others; all tests of the
module are run before a mutant counts as a survivor. ``--first 12`` goes on where a draw of 12 ended.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lanpaint"
# Module → the tests that should see its mistakes, the fastest first.
TESTS = {
    "noise.py": "test_noise.py test_score.py solvers",
    "schedules.py": "test_schedules.py test_spacings.py",
    "spacings.py": "test_spacings.py",
    "randomness.py": "samplers/test_samplers.py test_observation.py samplers/test_modules.py test_bad_input.py",
    "score.py": "test_score.py",
    "observation.py": "test_observation.py samplers/test_release.py samplers/test_noisy.py test_bad_input.py",
    "drift.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py test_fields.py dynamics/test_family.py",
    "fields.py": "test_fields.py test_theorem.py test_defaults.py samplers/test_release.py samplers/test_noisy.py",
    "plan.py": "test_plan.py samplers/test_samplers.py",
    "dynamics/langevin.py": "dynamics/test_langevin.py",
    "dynamics/oscillator.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py",
    "dynamics/fast_langevin.py": "dynamics/test_fast_langevin.py dynamics/test_family.py",
    "dynamics/underdamped.py": "dynamics/test_family.py",
    "dynamics/hfhr.py": "dynamics/test_family.py",
    "dynamics/preconditioned.py": "dynamics/test_family.py",
    "dynamics/metropolis.py": "dynamics/test_metropolis.py",
    "dynamics/secant.py": "dynamics/test_secant.py",
    "dynamics/partial_refresh.py": "dynamics/test_partial_refresh.py",
    "solvers/euler.py": "solvers",
    "solvers/heun.py": "solvers",
    "solvers/ddim.py": "solvers",
    "solvers/dpm_solver.py": "solvers",
    "samplers/loop.py": "samplers/test_samplers.py test_callbacks.py samplers/test_release.py",
    "samplers/sampler.py": "samplers/test_samplers.py samplers/test_own_methods.py samplers/test_repaint.py",
    "samplers/langevin_sampler.py": "samplers/test_samplers.py samplers/test_presets.py test_bad_input.py",
    "samplers/lanpaint.py": "samplers/test_presets.py samplers/test_samplers.py test_defaults.py",
    "samplers/release.py": "samplers/test_release.py samplers/test_noisy.py",
    "samplers/gradients.py": "samplers/test_gradient_methods.py",
    "samplers/repaint.py": "samplers/test_repaint.py",
    "samplers/ddrm.py": "samplers/test_ddrm.py",
    "samplers/dps.py": "samplers/test_gradient_methods.py",
    "samplers/mcg.py": "samplers/test_gradient_methods.py",
    "samplers/copaint.py": "samplers/test_gradient_methods.py",
    "samplers/smc.py": "samplers/test_smc.py",
    "samplers/chain.py": "samplers/test_smc.py",
    "samplers/clean.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/ding.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/ddnm.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/diffpir.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/daps.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/latino.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/flowchef.py": "samplers/test_zoo.py samplers/test_zoo_steps.py",
    "samplers/pnpdm.py": "samplers/test_zoo_gibbs.py",
    "samplers/reddiff.py": "samplers/test_zoo_steps.py",
    "samplers/mcgdiff.py": "samplers/test_zoo_particles.py",
    "samplers/fpssmc.py": "samplers/test_zoo_particles.py",
    "verification/affine.py": "test_verification.py",
    "verification/checks.py": "test_verification.py",
    "verification/rare_modes.py": "test_verification.py",
    "metrics/distances.py": "metrics/test_distances.py",
    "metrics/images.py": "metrics/test_images.py",
    "pictures.py": "test_pictures.py",
    "origin.py": "test_pictures.py",
    "masks.py": "test_masks.py",
    "pasting.py": "adapters/test_inpainter.py",
    "window.py": "adapters/test_inpainter.py",
    "colour.py": "test_colour.py",
    "lml.py": "test_lml.py",
    "callbacks.py": "test_callbacks.py",
    "adapters/reading.py": "adapters/test_schedulers.py adapters/test_bridge.py",
    "adapters/schedulers.py": "adapters/test_exactness.py adapters/test_schedulers.py",
    "adapters/guidance.py": "adapters/test_guidance.py",
    "adapters/tail_map.py": "adapters/test_layout.py",
    "adapters/known_cells.py": "adapters/test_layout.py adapters/test_inpainter.py",
    "adapters/bridge/part.py": "adapters/test_part.py",
    "adapters/bridge/run.py": "adapters/test_exactness.py adapters/test_bridge.py adapters/test_bridge_pipelines.py",
    "adapters/bridge/solver.py": "adapters/test_exactness.py adapters/test_bridge.py adapters/test_bridge_pipelines.py",
    "adapters/bridge/times.py": "adapters/test_exactness.py adapters/test_bridge.py adapters/test_bridge_pipelines.py",
}
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {
    "alpha": "sigma", "sigma": "alpha", "sqrt": "square", "level": "next_level", "next_level": "level", "min": "max",
    "max": "min", "expm1": "exp", "denoised": "epsilon", "epsilon": "denoised", "values": "known", "all": "any",
    "any": "all", "cos": "sin", "sin": "cos", "amax": "amin", "zeros_like": "ones_like",
}  # fmt: skip


def main() -> int:
    """Run the mutants of the modules that are named, or of all; the exit status is 1 if fewer than 95 % are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="paths in lanpaint/, all of the list by default")
    parser.add_argument("--per-module", type=int, default=12, help="mutants of each module, drawn at random [12]")
    parser.add_argument("--first", type=int, default=0, help="number of drawn mutants of each module to leave out [0]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw [0]")
    given = parser.parse_args()
    unknown = [name for name in given.modules if name not in TESTS]
    if unknown:
        parser.error(f"no tests are named for {', '.join(unknown)}; take some of {', '.join(TESTS)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, killed, total = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        tree = _copied(Path(folder))
        _import_large_packages(tree)
        for module in given.modules or TESTS:
            seen, count = _run_module(tree, module, given)
            rows.append(f"{module:<32} {seen:>3} of {count:<3} {seen / max(count, 1):.0%}")
            killed, total = killed + seen, total + count
    print("\n" + "\n".join(rows))
    print(f"{'all':<32} {killed:>3} of {total:<3} {killed / max(total, 1):.1%}")
    return int(killed < 0.95 * total)


def _run_module(tree: Path, module: str, given: argparse.Namespace) -> tuple[int, int]:
    file = tree / "lanpaint" / module
    source = (PACKAGE / module).read_text(encoding="utf-8")
    order = list(range(sum(1 for _ in _places(ast.parse(source)))))
    random.Random(f"{given.seed} {module}").shuffle(order)
    drawn = order[given.first : given.first + given.per_module]
    tests = [str(tree / "tests" / name) for name in TESTS[module].split()]
    tests_of, seconds = _tests_of_lines(tests, tree, file)
    if tests_of is None:
        print(f"the tests of {module} fail without a mutant; it is left out", flush=True)
        return 0, 0
    seen = 0
    for number in sorted(drawn):
        mutated, lines = _mutated(source, number)
        file.write_text(mutated, encoding="utf-8")
        nearest = sorted({pair for line in lines for pair in tests_of.get(line, [])})
        dead = bool(nearest) and _fails([test for _, test in nearest], tree, seconds)
        dead = dead or _fails(tests, tree, seconds)
        seen += dead
        if not dead:
            print(f"survives in {module} ({len(nearest)} tests run it):", *_change(source, mutated), sep="\n    ")
        sys.stdout.flush()
    file.write_text(source, encoding="utf-8")
    print(f"{module}: {seen} of {len(drawn)}", flush=True)
    return seen, len(drawn)


class _Recorder:
    """A plugin of pytest that notes which tests run which lines of a file, and how long each test takes."""

    def __init__(self, file: Path) -> None:
        from coverage import Coverage

        self._cover = Coverage(data_file=None, include=[str(file)], concurrency=["greenlet", "thread"])
        self._file, self._seconds = str(file), dict[str, float]()

    def pytest_sessionstart(self) -> None:
        self._cover.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._cover.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def lines(self) -> dict[int, list[tuple[float, str]]]:
        self._cover.stop()
        by_line = self._cover.get_data().contexts_by_lineno(self._file)
        return {line: [(self._seconds[test], test) for test in tests if test] for line, tests in by_line.items()}


def _tests_of_lines(
    tests: list[str], tree: Path, file: Path
) -> tuple[dict[int, list[tuple[float, str]]] | None, float]:
    """For each line of a file the tests that run it, with their durations, and the CPU seconds that a run may take.

    None in place of the lines if the tests fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept, begin = Path(folder) / "lines.json", sum(os.times()[2:4])
        if _fails(tests, tree, 3600, lambda: _Recorder(file), kept):
            return None, 0.0
        seconds = 60 + 5 * (sum(os.times()[2:4]) - begin)
        lines = json.loads(kept.read_text(encoding="utf-8"))
    return {int(line): [(took, test) for took, test in pairs] for line, pairs in lines.items()}, seconds


def _copied(folder: Path) -> Path:
    tree = folder / "project"
    tree.mkdir()
    for name in ("lanpaint", "tests", "toy_models", "docs", "pyproject.toml", "README.md"):
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "_build", "*.png"))
        else:
            shutil.copy(source, target)
    return tree


def _import_large_packages(tree: Path) -> None:
    """Import what takes long, and nothing of this project; children find the project in its copy."""
    import diffusers  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.linalg  # noqa: F401
    import torch

    torch.set_num_threads(1)
    sys.path[:0] = [str(tree)]
    os.environ["PYTHONPATH"], os.environ["PYTHONDONTWRITEBYTECODE"] = str(tree), "1"
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in ("lanpaint", "tests", "toy_models")]:
        del sys.modules[name]


def _fails(
    tests: list[str],
    tree: Path,
    seconds: float,
    recorder: Callable[[], _Recorder] | None = None,
    kept: Path | None = None,
) -> bool:
    """Whether a test fails, or the tests take more than so many CPU seconds, in a process of their own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1), os.dup2(nothing, 2)
        import pytest

        notes = [] if recorder is None else [recorder()]
        failed = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=notes) != 0)
        if kept is not None:
            kept.write_text(json.dumps(notes[0].lines()), encoding="utf-8")
        os._exit(failed)
    end = time.time() + 20 * seconds  # of a clock on the wall, for tests that wait for ever
    while time.time() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """(a node, its replacement, the field of the node that changes) for each mutant, in order.

    What is raised, annotations, defaults of messages and checks of types are left alone.
    """
    for node in _walk(tree):
        if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
            yield node, SWAPS[type(node.op)](), "op"
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
            yield node, SWAPS[type(node.ops[0])](), "ops"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            yield node, node.operand, "whole"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, ast.Constant(node.value + 1 if type(node.value) is int else node.value * 1.5 + 0.1), "value"
        elif isinstance(node, ast.Attribute) and node.attr in NAMES and NAMES[node.attr] != node.attr:
            yield node, ast.Constant(NAMES[node.attr]), "attr"
        elif isinstance(node, ast.Attribute) and node.attr == "mT":
            yield node, node.value, "whole"
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield node, ast.Constant(True), "test"
            yield node, ast.Constant(False), "test"


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import)):
                continue
            if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "__str__"):
                continue
            if isinstance(node, ast.If) and any(isinstance(line, ast.Raise) for line in node.body):
                continue  # checks of a user's input have tests of their own
            yield node
            yield from _walk(node)


def _mutated(source: str, number: int) -> tuple[str, range]:
    """The source with mutant number ``number``, and the lines that it changes."""
    tree = ast.parse(source)
    node, new, field = list(_places(tree))[number]
    before = copy.deepcopy(node)
    if field == "whole":
        for parent in ast.walk(tree):
            for name, value in ast.iter_fields(parent):
                if value is node:
                    setattr(parent, name, new)
                elif isinstance(value, list) and node in value:
                    value[value.index(node)] = new
        changed = new
    else:
        value = [new] if field == "ops" else new.value if field in ("value", "attr") else new  # type: ignore[attr-defined]
        setattr(node, field, value)
        changed = node
    if isinstance(node, ast.If):  # a statement: its test alone is written anew
        node, changed = before.test, new  # type: ignore[attr-defined]
    lines = source.split("\n")
    encoded = [line.encode() for line in lines]
    first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
    text = f"({ast.unparse(changed)})".encode()
    joined = encoded[first][: node.col_offset] + text + encoded[last][node.end_col_offset :]  # type: ignore[attr-defined]
    encoded[first : last + 1] = [joined]
    return "\n".join(line.decode() for line in encoded), range(first + 1, last + 2)


def _change(source: str, mutated: str) -> list[str]:
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++"))]


if __name__ == "__main__":
    raise SystemExit(main())
