"""Mutation run: plants a mistake in the code, runs the tests that should see it, and counts the mistakes they see.

``make mutants``, or ``python -m tests.mutants --per-module 30 solvers/ddim.py``. A mutant is one small change of one
line: another operator, another number, α for σ, a condition that is always true. It is killed if a test fails, or if
the tests do not end. What survives is printed with its line: either a test is missing, or the line does not matter.

The mutated file lies in a copy of the project. Each mutant runs in a process of its own, forked after the large
packages are imported.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lanpaint"
# Module → the tests that should see its mistakes, the fastest first.
TESTS = {
    "noise.py": "test_noise.py test_score.py solvers",
    "schedules.py": "test_schedules.py test_spacings.py",
    "spacings.py": "test_spacings.py",
    "randomness.py": "samplers/test_samplers.py test_observation.py",
    "score.py": "test_score.py",
    "observation.py": "test_observation.py",
    "drift.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py test_fields.py",
    "fields.py": "test_fields.py test_theorem.py",
    "plan.py": "test_plan.py samplers/test_samplers.py",
    "dynamics/langevin.py": "dynamics/test_langevin.py",
    "dynamics/oscillator.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py",
    "dynamics/fast_langevin.py": "dynamics/test_fast_langevin.py dynamics/test_family.py",
    "dynamics/underdamped.py": "dynamics/test_family.py",
    "dynamics/hfhr.py": "dynamics/test_family.py",
    "dynamics/preconditioned.py": "dynamics/test_family.py",
    "dynamics/metropolis.py": "dynamics/test_metropolis.py",
    "solvers/euler.py": "solvers",
    "solvers/heun.py": "solvers",
    "solvers/ddim.py": "solvers",
    "solvers/dpm_solver.py": "solvers",
    "samplers/loop.py": "samplers/test_samplers.py test_callbacks.py",
    "samplers/sampler.py": "samplers/test_samplers.py samplers/test_own_methods.py test_callbacks.py",
    "samplers/langevin_sampler.py": "samplers/test_samplers.py samplers/test_presets.py",
    "samplers/lanpaint.py": "samplers/test_presets.py samplers/test_samplers.py",
    "samplers/repaint.py": "samplers/test_repaint.py",
    "samplers/ddrm.py": "samplers/test_ddrm.py",
    "samplers/dps.py": "samplers/test_gradient_methods.py",
    "samplers/mcg.py": "samplers/test_gradient_methods.py",
    "samplers/copaint.py": "samplers/test_gradient_methods.py",
    "samplers/smc.py": "samplers/test_smc.py",
    "verification/affine.py": "test_verification.py",
    "verification/checks.py": "test_verification.py",
    "verification/rare_modes.py": "test_verification.py",
    "metrics/distances.py": "metrics/test_distances.py",
    "metrics/images.py": "metrics/test_images.py",
    "pictures.py": "test_pictures.py",
    "crop.py": "adapters/test_inpainter.py",
    "adapters/schedulers.py": "adapters/test_schedulers.py",
    "adapters/bridge/run.py": "adapters/test_bridge.py adapters/test_bridge_pipelines.py",
    "adapters/bridge/solver.py": "adapters/test_bridge.py adapters/test_bridge_pipelines.py",
    "adapters/bridge/times.py": "adapters/test_bridge.py adapters/test_bridge_pipelines.py",
    "adapters/guidance.py": "adapters/test_guidance.py",
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw [0]")
    parser.add_argument("--seconds", type=int, default=300, help="time after which tests count as hanging [300]")
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
    source = (PACKAGE / module).read_text(encoding="utf-8")
    count = sum(1 for _ in _places(ast.parse(source)))
    drawn = random.Random(f"{given.seed} {module}").sample(range(count), min(count, given.per_module))
    tests = [str(tree / "tests" / name) for name in TESTS[module].split()]
    if not _fails(tests, tree, given.seconds):
        seen = 0
        for number in sorted(drawn):
            mutated = _mutated(source, number)
            (tree / "lanpaint" / module).write_text(mutated, encoding="utf-8")
            start = time.time()
            dead = _fails(tests, tree, given.seconds)
            seen += dead
            if not dead:
                print(f"survives in {module} ({time.time() - start:.0f} s):", *_change(source, mutated), sep="\n    ")
            sys.stdout.flush()
        (tree / "lanpaint" / module).write_text(source, encoding="utf-8")
        return seen, len(drawn)
    print(f"the tests of {module} fail without a mutant; it is left out")
    return 0, 0


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


def _fails(tests: list[str], tree: Path, seconds: int) -> bool:
    """Whether a test fails, or the tests do not end in time, in a process of their own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1), os.dup2(nothing, 2)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]) != 0))
    end = time.time() + seconds
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


def _mutated(source: str, number: int) -> str:
    """The source with mutant number ``number``; only the lines of its statement are written anew."""
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
    return "\n".join(line.decode() for line in encoded)


def _change(source: str, mutated: str) -> list[str]:
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++"))]


if __name__ == "__main__":
    raise SystemExit(main())
