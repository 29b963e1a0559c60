"""Mutation run: plants a mistake in the code, runs the tests that should see it, and counts the mistakes they see.

``make mutants``, or ``python -m tests.mutants --per-module 30 solvers/ddim.py``. A mutant is one small change of one
line: another operator, another number, α for σ, a condition that is always true. It is killed if a test fails, or if
the tests do not end. What survives is printed with its line: either a test is missing, or the line does not matter.

The mutated file lies in a copy of the project. Which tests run which line is recorded once for each file of tests and
kept in ``.mutants``. The tests of a module are imported once. Each mutant runs in a process forked from there, in which
its function gets the mutated code; a mutant outside of functions is imported anew. It runs the tests that run its line,
the fastest first. Each answer is added to ``.mutants/log.jsonl`` at once. A second
run takes the kills from there, and tries the survivors again. ``--first 12`` goes on where a draw of 12 ended.
"""

from __future__ import annotations

import argparse
import ast
import copy
import ctypes
import difflib
import functools
import gc
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE, KEPT = ROOT / "lanpaint", ROOT / ".mutants"
_KILLER = KEPT / "killer"
BRIDGE = "adapters/test_exactness.py adapters/test_bridge.py adapters/test_bridge_pipelines.py"
# Module → the tests that should see its mistakes, the fastest first.
TESTS = {
    "noise.py": "test_noise.py test_score.py solvers",
    "schedules.py": "test_schedules.py test_spacings.py",
    "spacings.py": "test_spacings.py",
    "randomness.py": "test_waits.py samplers/test_samplers.py test_observation.py test_bad_input.py",
    "score.py": "test_score.py",
    "observation.py": "test_observation.py samplers/test_release.py samplers/test_noisy.py "
    "samplers/test_noise_per_entry.py test_bad_input.py",
    "drift.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py test_fields.py dynamics/test_family.py",
    "fields.py": "test_fields.py test_theorem.py test_defaults.py samplers/test_release.py samplers/test_noisy.py",
    "plan.py": "test_plan.py samplers/test_samplers.py",
    "dynamics/langevin.py": "dynamics/test_langevin.py test_verification.py",
    "dynamics/oscillator.py": "dynamics/test_oscillator.py dynamics/test_fast_langevin.py",
    "dynamics/fast_langevin.py": "dynamics/test_fast_langevin.py dynamics/test_family.py",
    "dynamics/underdamped.py": "test_defaults.py dynamics/test_family.py",
    "dynamics/hfhr.py": "test_defaults.py dynamics/test_family.py",
    "dynamics/preconditioned.py": "dynamics/test_family.py",
    "dynamics/metropolis.py": "dynamics/test_metropolis.py dynamics/test_family.py",
    "dynamics/secant.py": "test_defaults.py dynamics/test_secant.py",
    "dynamics/partial_refresh.py": "test_defaults.py dynamics/test_partial_refresh.py",
    "dynamics/lm_langevin.py": "test_defaults.py dynamics/test_lm_langevin.py dynamics/test_family.py",
    "solvers/euler.py": "solvers",
    "solvers/heun.py": "solvers",
    "solvers/ddim.py": "solvers",
    "solvers/dpm_solver.py": "solvers",
    "solvers/multistep.py": "solvers",
    "solvers/pndm.py": "solvers",
    "solvers/unipc.py": "solvers",
    "samplers/loop.py": "samplers/test_samplers.py test_callbacks.py samplers/test_release.py",
    "samplers/sampler.py": "samplers/test_samplers.py samplers/test_own_methods.py samplers/test_repaint.py",
    "samplers/langevin_sampler.py": "test_plan.py samplers/test_samplers.py samplers/test_presets.py test_bad_input.py",
    "samplers/lanpaint.py": "samplers/test_presets.py samplers/test_samplers.py test_defaults.py",
    "samplers/release.py": "samplers/test_release.py samplers/test_noisy.py",
    "samplers/gradients.py": "samplers/test_gradient_methods.py",
    "samplers/repaint.py": "test_plan.py samplers/test_repaint.py",
    "samplers/ddrm.py": "test_defaults.py samplers/test_ddrm.py",
    "samplers/dps.py": "test_defaults.py samplers/test_gradient_methods.py",
    "samplers/mcg.py": "test_defaults.py samplers/test_gradient_methods.py",
    "samplers/copaint.py": "test_defaults.py samplers/test_gradient_methods.py",
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
    "samplers/replace.py": "samplers/test_samplers.py samplers/test_repaint.py",
    "samplers/presets.py": "samplers/test_presets.py test_defaults.py test_fields.py",
    "samplers/data_scale.py": "samplers/test_presets.py",
    "samplers/langevin_paint.py": "samplers/test_samplers.py test_defaults.py",
    "samplers/posterior_flow.py": "samplers/test_noisy.py",
    "samplers/guided.py": "samplers/test_guided.py",
    "samplers/pigdm.py": "samplers/test_guided.py",
    "samplers/tmpd.py": "samplers/test_guided.py",
    "samplers/mmps.py": "samplers/test_guided.py",
    "samplers/flowdps.py": "samplers/test_guided.py",
    "samplers/midpoint.py": "samplers/test_midpoint.py",
    "samplers/mgdm.py": "samplers/test_midpoint.py",
    "samplers/mgps.py": "samplers/test_midpoint.py",
    "samplers/alm.py": "samplers/test_alm.py",
    "samplers/syncsde.py": "samplers/test_alm.py",
    "samplers/partner.py": "samplers/test_alm.py",
    "samplers/known_path.py": "samplers/test_smcdiff.py samplers/test_alm.py",
    "samplers/particles.py": "samplers/test_smcdiff.py samplers/test_smc.py samplers/test_zoo_particles.py",
    "samplers/smcdiff.py": "samplers/test_smcdiff.py",
    "linear.py": "test_linear.py samplers/test_ddrm.py",
    "chain.py": "test_chain.py",
    "windowed.py": "test_chain.py",
    "tiling.py": "test_chain.py",
    "verification/affine.py": "test_verification.py",
    "verification/checks.py": "test_verification.py",
    "verification/rare_modes.py": "test_verification.py",
    "metrics/distances.py": "metrics/test_distances.py",
    "metrics/images.py": "metrics/test_images.py metrics/test_networks.py",
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
    "adapters/bridge/folding.py": "adapters/test_folding.py adapters/test_bridge_pipelines.py",
    "adapters/bridge/noise.py": f"adapters/test_folding.py {BRIDGE}",
    "adapters/bridge/call.py": BRIDGE,
    "adapters/bridge/conversation.py": "adapters/test_exactness.py adapters/test_bridge.py",
    "adapters/bridge/stand_in.py": BRIDGE,
    "adapters/bridge/bridge.py": BRIDGE,
    "adapters/bridge/run.py": BRIDGE,
    "adapters/bridge/solver.py": BRIDGE,
    "adapters/bridge/times.py": BRIDGE,
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


# (module, line, mutated line): why the mutant changes no behaviour. These are not counted.
EQUIVALENT = {
    (
        "score.py",
        'elif time.device.type == "cpu" and len(time) == 1:',
        "elif (False):",
    ): "a short way for one level on the CPU; the network is given the same numbers",
    (
        "samplers/release.py",
        "alpha, sigma = (torch.where(drawn, each.cpu().double(), 1.0) for each in (level.alpha, level.sigma))",
        "alpha, sigma = (torch.where(drawn, each.cpu().double(), (1.6)) for each in (level.alpha, level.sigma))",
    ): "the level where nothing is drawn, which no one reads; it must only be a level",
    (
        "verification/affine.py",
        "def __init__(self, draw: int = -1, units: Tensor | None = None) -> None:",
        "def __init__(self, draw: int = (1), units: Tensor | None = None) -> None:",
    ): "without units the number of the draw is not read",
    (
        "verification/checks.py",
        "damping, step = torch.tensor([[1.0, 0.1], [2.0, 0.0]]).mT",
        "damping, step = torch.tensor([[1.0, (0.25)], [2.0, 0.0]]).mT",
    ): "the check of shapes takes any step above 0",
    (
        "verification/checks.py",
        "if order < 0.7 or errors[smallest] > 0.05:",
        "if order < 0.7 or (errors[smallest] >= 0.05):",
    ): "a measured error is never 0.05 to the last bit",
    (
        "verification/rare_modes.py",
        "time_step = STEP * torch.tensor([SIGMA**2, SIGMA**2 / 2], dtype=torch.float64)",
        "time_step = STEP * torch.tensor([SIGMA**2, SIGMA**2 / (3)], dtype=torch.float64)",
    ): "a step of y that is as short as it must be; the shares are those of any step",
    (
        "windowed.py",
        "batch: int = 16,",
        "batch: int = (17),",
    ): "how many windows are predicted in one call changes the memory and no prediction",
}


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
    KEPT.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, the copy is removed
    rows, killed, total = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        import_large_packages(tree)
        for module in given.modules or TESTS:
            seen, count = _run_module(tree, module, given)
            rows.append(f"{module:<32} {seen:>3} of {count:<3} {seen / max(count, 1):.0%}")
            killed, total = killed + seen, total + count
    print("\n" + "\n".join(rows))
    print(f"{'all':<32} {killed:>3} of {total:<3} {killed / max(total, 1):.1%}")
    return int(killed < 0.95 * total)


def _run_module(tree: Path, module: str, given: argparse.Namespace) -> tuple[int, int]:
    """Number of mutants of the draw that are killed, and of those that change a behaviour."""
    source = (PACKAGE / module).read_text(encoding="utf-8")
    order = list(range(sum(1 for _ in _places(ast.parse(source)))))
    random.Random(f"{given.seed} {module}").shuffle(order)
    drawn = sorted(order[given.first : given.first + given.per_module])
    notes = _Notes()
    for test_file in _test_files(tree, module):
        if not notes.record(tree, test_file, module):
            print(f"the tests {test_file} of {module} fail without a mutant; it is left out", flush=True)
            return 0, 0
    killed, answers, todo = {row["key"]: row["killed"] for row in _logged()}, list[bool](), list[Mutant]()
    for number in drawn:
        mutated, lines = _mutated(source, number)
        change = _change(source, mutated)
        old, new = ("\n".join(line[1:].strip() for line in change if line[0] == sign) for sign in "-+")
        if (module, old, new) in EQUIVALENT:
            continue
        mutant = Mutant(module, change, mutated, lines, notes.nearest(module, lines, source))
        if killed.get(mutant.key):
            answers.append(True)
        else:
            todo.append(mutant)
    dead = kill(todo, _test_files(tree, module), tree)
    answers += dead
    for mutant, one in zip(todo, dead, strict=True):
        if not one:
            print(f"survives in {module} ({len(mutant.tests)} tests run it):", *mutant.change, sep="\n    ", flush=True)
    print(f"{module}: {sum(answers)} of {len(answers)}", flush=True)
    return sum(answers), len(answers)


def kill(mutants: list[Mutant], test_files: list[str], tree: Path) -> list[bool]:
    """Whether each mutant is killed by its tests, which are in these files."""
    before = len(_logged())
    if mutants:
        fails(test_files, tree, plugin=_Patcher(tree, mutants))
    noted = {row["key"]: row["killed"] for row in _logged()[before:]}
    for mutant in mutants:
        if mutant.key not in noted:  # it is run by the import
            begin, file = time.time(), tree / "lanpaint" / mutant.module
            source = file.read_text(encoding="utf-8")
            _write(file, mutant.source)
            dead = bool(mutant.tests) and (fails(mutant.tests[:8], tree) or fails(mutant.tests, tree))
            _write(file, source)
            mutant.note(dead, time.time() - begin)
            noted[mutant.key] = dead
    return [noted[mutant.key] for mutant in mutants]


def _write(file: Path, source: str) -> None:
    file.write_text(source, encoding="utf-8")
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()


@dataclass
class Mutant:
    """A mutant, with the tests that run its line, and their durations in seconds."""

    module: str
    change: list[str]
    source: str
    lines: range
    tests: list[tuple[float, str]]

    @property
    def key(self) -> str:
        return f"{self.module} {self.change}"

    def note(self, dead: bool, seconds: float, killer: str = "") -> None:
        """Add the answer to the log."""
        row = {"module": self.module, "change": self.change, "killed": dead, "tests": len(self.tests), "by": killer}
        with (KEPT / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row | {"seconds": round(seconds, 1)}, ensure_ascii=False) + "\n")

    def code(self, file: Path) -> types.CodeType | None:
        """The mutated code of the function or method in whose body the mutant is; None if the import runs it."""
        functions = [node for node in ast.walk(ast.parse(self.source)) if isinstance(node, ast.FunctionDef)]
        around = [f for f in functions if f.body[0].lineno <= self.lines.start <= (f.end_lineno or 0)]
        if not around:
            return None
        outer = min(around, key=lambda f: f.lineno)
        first = min([outer.lineno, *(decorator.lineno for decorator in outer.decorator_list)])
        codes = _codes(compile(self.source, str(file), "exec"))
        return next(code for code in codes if (code.co_name, code.co_firstlineno) == (outer.name, first))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


class _Patcher:
    """A plugin of pytest that collects the tests once, and runs each mutant in a process of its own.

    There the mutant's function gets its mutated code. So nothing is imported or collected anew. A mutant that is run
    by the import of its module is left out.
    """

    def __init__(self, tree: Path, mutants: list[Mutant]) -> None:
        self._tree, self._mutants = tree, mutants

    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions: list[Any] = [f for f in gc.get_objects() if type(f) is types.FunctionType]
        functions = [f for f in functions if f.__code__.co_filename.startswith(str(self._tree / "lanpaint"))]
        caches: list[Any] = [c for c in gc.get_objects() if type(c) is type(functools.lru_cache(int))]
        caches = [c for c in caches if str(c.__module__).split(".")[0] in ("lanpaint", "tests")]
        killers = dict[str, list[Mutant]]()
        for mutant in self._mutants:
            code = mutant.code(self._tree / "lanpaint" / mutant.module)
            if code is None or not mutant.tests:
                continue
            same = [f for f in functions if f.__code__.co_filename == code.co_filename]
            same = [f for f in same if f.__code__.co_firstlineno == code.co_firstlineno]
            same = [f for f in same if f.__code__.co_name == code.co_name]
            chosen = [item for _, name in mutant.tests for each, item in items.items() if _is_of(each, name)]
            if same and all(f.__code__.co_freevars == code.co_freevars for f in same):
                begin, limit = time.time(), 60 + 5 * sum(took for took, _ in mutant.tests)
                dead = _dies(lambda: self._run(same, code, caches, chosen), limit)  # noqa: B023
                killer = _KILLER.read_text() if dead and _KILLER.exists() else ""
                mutant.note(dead, time.time() - begin, killer)
                killers.setdefault(killer, []).append(mutant)
        killers.pop("", None)
        while killers:  # a test that fails here without a mutant has seen nothing
            all_of_them = [items[name] for name in killers]
            if not all(_dies(lambda: self._run([], None, caches, all_of_them), 3600) for _ in range(2)):  # noqa: B023
                break
            for mutant in killers.pop(_KILLER.read_text()):
                mutant.note(False, 0.0, "a test that fails without the mutant too")
        return True

    @staticmethod
    def _run(functions: list[Any], code: types.CodeType | None, caches: list[Any], items: list[Any]) -> bool:
        """Whether a test fails with the mutated code; called in the process of the mutant. Notes the test's name."""
        from _pytest.runner import runtestprotocol

        _KILLER.unlink(missing_ok=True)
        for function in functions:
            function.__code__ = code
        for cached in caches:
            cached.cache_clear()
        for item, after in zip(items, [*items[1:], None], strict=True):
            _KILLER.write_text(item.nodeid)
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
                return True
        return False


def _logged() -> list[dict[str, Any]]:
    if not (KEPT / "log.jsonl").exists():
        return []
    rows = [json.loads(line) for line in (KEPT / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row | {"key": f"{row['module']} {row['change']}"} for row in rows]


def _test_files(tree: Path, module: str) -> list[str]:
    """The files of tests of a module, and the module itself for the examples in its docstrings."""
    files = [f"lanpaint/{module}"] if ">>>" in (PACKAGE / module).read_text(encoding="utf-8") else []
    for name in TESTS[module].split():
        path = tree / "tests" / name
        found = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
        files += [each.relative_to(tree).as_posix() for each in found]
    return files


class _Notes:
    """Which tests run which lines, and how long each test takes; kept in a file for each file of tests."""

    def __init__(self) -> None:
        self._tests: dict[str, dict[str, Any]] = {}

    def record(self, tree: Path, test_file: str, module: str) -> bool:
        """Read the notes of a file of tests, or make them; False if its tests fail."""
        kept = KEPT / (test_file.replace("/", "-") + ".json")
        wanted = {name: _digest(tree / name) for name in (test_file, f"lanpaint/{module}")}
        if kept.exists():
            notes = json.loads(kept.read_text(encoding="utf-8"))
            if all(notes["digests"].get(name) == digest for name, digest in wanted.items()):
                self._tests[test_file] = notes
                return True
        recorder = _Recorder(tree, test_file)
        if fails([test_file], tree, recorder, kept):
            return False
        self._tests[test_file] = json.loads(kept.read_text(encoding="utf-8"))
        return True

    def nearest(self, module: str, lines: range, source: str) -> list[tuple[float, str]]:
        """The tests that run a line, with their durations, the fastest first.

        For a line that is run by the import alone, those that run the function or the class whose head it is.
        """
        found = self._that_run(module, lines)
        if not found:
            heads = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
            around = [n for n in heads if n.lineno <= lines.start and (n.end_lineno or 0) >= lines.stop - 1]
            bodies = [range(n.lineno, (n.end_lineno or 0) + 1) for n in around if n.body[0].lineno > lines.start]
            bodies += [range(n.lineno, (n.end_lineno or 0) + 1) for n in around if isinstance(n, ast.ClassDef)]
            if self._that_import(module, lines):
                found = self._that_run(module, min(bodies, key=len, default=range(len(source))))
                # The table of defaults reads signatures, and need not run the function.
                tables = [notes["seconds"] for file, notes in self._tests.items() if file.endswith("test_defaults.py")]
                found |= {(took, name) for seconds in tables for name, took in seconds.items()}
        return sorted(found)

    def _that_run(self, module: str, lines: range) -> set[tuple[float, str]]:
        found: set[tuple[float, str]] = set()
        for notes in self._tests.values():
            seconds, by_line = notes["seconds"], notes["lines"].get(module, {})
            for line in lines:
                for test in by_line.get(str(line), []):
                    found |= {(seconds[name], name) for name in (seconds if test == "setup" else [test]) if name}
        return found

    def _that_import(self, module: str, lines: range) -> bool:
        """Whether a line was run outside of tests."""
        runs = (notes["lines"].get(module, {}).get(str(line), []) for notes in self._tests.values() for line in lines)
        return any("" in tests for tests in runs)


class _Recorder:
    """A plugin of pytest that notes which tests run which lines of the package, and how long each test takes.

    What a fixture runs counts for all tests of the file, because a fixture may be made once for all of them.
    """

    def __init__(self, tree: Path, test_file: str) -> None:
        self._tree, self._test_file = tree, test_file
        self._seconds: dict[str, float] = {}
        self._cover: Any = None

    def start(self) -> None:
        from coverage import Coverage

        names = [str(self._tree / "lanpaint" / module) for module in TESTS]
        self._cover = Coverage(data_file=None, include=names, concurrency=["greenlet", "thread"])
        self._cover.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._cover.switch_context("setup")

    def pytest_runtest_call(self, item: Any) -> None:
        self._cover.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def notes(self) -> dict[str, Any]:
        self._cover.stop()
        data, lines = self._cover.get_data(), {}
        for module in TESTS:
            by_line = data.contexts_by_lineno(str(self._tree / "lanpaint" / module))
            if by_line:
                lines[module] = {line: list(tests) for line, tests in by_line.items()}
        names = [self._test_file, *(f"lanpaint/{module}" for module in TESTS)]
        digests = {name: _digest(self._tree / name) for name in names}
        return {"digests": digests, "seconds": self._seconds, "lines": lines}


class _Order:
    """A plugin of pytest that runs some tests alone, in their order."""

    def __init__(self, tests: list[tuple[float, str]]) -> None:
        self._places = {name: place for place, (_, name) in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        found = [(place, item) for item in items for name, place in self._places.items() if _is_of(item.nodeid, name)]
        items[:] = [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _is_of(test: str, name: str) -> bool:
    """Whether a test has a name, or the name is that of its function or file."""
    return test == name or (test.startswith(name) and test[len(name)] in "[:")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def copied(folder: Path) -> Path:
    tree = folder / "project"
    tree.mkdir()
    for name in ("lanpaint", "tests", "toy_models", "docs", "pyproject.toml", "README.md"):
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "_build", "*.png"))
        else:
            shutil.copy(source, target)
    return tree


def import_large_packages(tree: Path) -> None:
    """Import what takes long, and nothing of this project; children find the project in its copy."""
    import coverage  # noqa: F401
    import diffusers
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.linalg  # noqa: F401
    import torch

    torch.set_num_threads(1)
    for name in ("StableDiffusionPipeline", "DDPMPipeline", "FluxPipeline", "ModularPipeline"):
        getattr(diffusers, name)  # is imported here
    roots = [str(tree), str(tree / "toy_models")]
    sys.path[:0] = roots
    os.environ["PYTHONPATH"] = os.pathsep.join(roots)
    for name in [name for name in sys.modules if name.split(".")[0] in ("lanpaint", "tests", "lanpaint_toys")]:
        del sys.modules[name]


def fails(
    tests: list[tuple[float, str]] | list[str],
    tree: Path,
    plugin: Any = None,
    kept: Path | None = None,
) -> bool:
    """Whether a test fails, or the tests take far more time than before, in a process of their own.

    Tests are pairs (duration, name), or names alone. A recorder's notes are written to ``kept``.
    """
    chosen = [test for test in tests if isinstance(test, tuple)]
    files = dict.fromkeys(test[1].split("::")[0] if isinstance(test, tuple) else test for test in tests)

    def failed_in_child() -> bool:
        os.chdir(tree)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1), os.dup2(nothing, 2)
        import pytest

        if isinstance(plugin, _Recorder):
            plugin.start()
        options = ["-x", "-q", "-s", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
        failed = pytest.main([*options, *files], plugins=[plugin or _Order(chosen)] if plugin or chosen else []) != 0
        if isinstance(plugin, _Recorder) and kept and not failed:
            kept.write_text(json.dumps(plugin.notes()), encoding="utf-8")
        return failed

    limit = 60 + 5 * sum(took for took, _ in chosen)
    return _dies(failed_in_child, limit if chosen else 3600.0)


def _dies(fails: Callable[[], bool], seconds: float) -> bool:
    """Whether ``fails()`` is true, or takes more than so many CPU seconds, or ends its process, which is its own."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        answer = 3  # a mistake of this runner
        try:
            os.setsid()
            _end_with_parent()
            most = resource.getrlimit(resource.RLIMIT_CPU)[1]
            limit = int(seconds) if most == resource.RLIM_INFINITY else min(int(seconds), most - 1)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            answer = int(fails())
        finally:
            os._exit(answer)
    end = time.time() + 20 * seconds  # of a clock on the wall, for tests that wait for ever
    status = None
    try:
        while status is None and time.time() < end:
            done, status = found if (found := os.waitpid(child, os.WNOHANG))[0] else (0, None)
            time.sleep(0 if done else 0.02)
    finally:
        if status is None:  # too long, Ctrl-C, or SIGTERM
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
        raise RuntimeError("a process of the runner ended with an error of its own")
    return status != 0


def _end_with_parent() -> None:
    """Have the system end this process when its parent ends, however that ends. Linux alone can do it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


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
            if isinstance(node, ast.keyword) and node.arg == "stacklevel":
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
    return "\n".join(line.decode() for line in encoded), _statement(source, first + 1, last + 1)


def _statement(source: str, first: int, last: int) -> range:
    """The lines of the statement that these lines are in; of a compound one those of its head."""
    best = range(first, last + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= first and last <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or 0
            if last <= max(end, node.lineno):
                best = range(node.lineno, max(end, node.lineno) + 1)  # the last one found is the innermost
    return best


def _change(source: str, mutated: str) -> list[str]:
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++"))]


if __name__ == "__main__":
    raise SystemExit(main())
