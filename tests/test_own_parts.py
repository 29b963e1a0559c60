"""Parts of one's own on the command line: ``module:name`` with the module in the folder where it is run."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from lanpaint.bench import Results
from lanpaint_toys.digits import load_digits
from tests.command import run_lanpaint

MODULE = '''
import functools
from dataclasses import replace

import lanpaint as lp
from lanpaint_toys import gauss2


class Shrunk(lp.Replace):
    """Replace, and the unknown part drawn to 0.

    Args:
        strength: How much, in [0, 1].
    """

    def __init__(self, score, *, strength: float = 0.3, **options):
        super().__init__(score, **options)
        self.strength = strength

    def enter(self, state, visit, noise):
        state = super().enter(state, visit, noise)
        return replace(state, x=state.observation.replace_known((1 - self.strength) * state.x, state.x))


class Heavy(lp.LanPaint):
    """LanPaint with other defaults."""

    def __init__(self, score, *, inner_steps=1, **options):
        options.setdefault("spacing", "karras")
        super().__init__(score, inner_steps=inner_steps, **options)


def ddrm(score, *, eta=0.5, **options) -> lp.DDRM:
    return lp.DDRM(score, eta=eta, **options)


def stepless(score):
    return lp.Replace(score)


def nothing(score, **options):
    return 3


half = functools.partial(lp.LanPaint, lam=4.0)


class MyLangevin(lp.Dynamics):
    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def step(self, state, drift, noise):
        x, time = state.x, drift.broadcast(drift.time_step, state.x)
        return lp.State(x + time * drift(x) + (2 * time * self.temperature).sqrt() * noise(x))


class Sized(MyLangevin):
    def __init__(self, size):
        pass


class MySolver(lp.Euler):
    pass


def scheduled():
    from diffusers import EulerDiscreteScheduler

    return lp.DiffusersSolver(EulerDiscreteScheduler())


held = lp.FastLangevin(3.0)
number = 3


def slow():
    return lp.FastLangevin(1.0)


def broken():
    raise RuntimeError("no luck")


def problem():
    return gauss2(0.5)
'''


@pytest.fixture
def lanpaint(tmp_path, monkeypatch, capsys):
    """Runs the command line in a folder with ``parts_NUMBER.py``; the folder is not on the path before."""
    name = f"parts_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "raises_here.py").write_text("raise RuntimeError('out of order')\n")
    (tmp_path / "lacks_here.py").write_text("import no_such_library\n")
    digit = ((load_digits("test")[0][0, 0] + 1) * 127.5).round().numpy().astype(np.uint8)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])

    def run(*arguments):
        given = [str(argument).replace("parts:", f"{name}:") for argument in arguments]
        status, out, err = run_lanpaint(monkeypatch, capsys, *given)
        return status, out.replace(name, "parts"), err.replace(name, "parts")

    yield run
    for module in (name, "raises_here", "lacks_here"):
        sys.modules.pop(module, None)


SMALL = ("--steps", 3, "--samples", 100, "-q")


def _rows(lanpaint, *arguments):
    status, out, err = lanpaint("bench", *arguments, *SMALL, "--json")
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_method_a_dynamics_and_a_solver_of_ones_own_are_compared_with_others(lanpaint):
    rows = _rows(
        lanpaint,
        *("parts:problem", "--method", "parts:Shrunk,lanpaint,langevin", "--option", "strength=0,0.5"),
        *("--solver", "parts:MySolver,heun", "--dynamics", "parts:MyLangevin", "--inner-steps", 2),
    )
    settings = [row["settings"] for row in rows]
    assert {s["target"] for s in settings} == {"parts:problem"}
    found = [(s["method"], s["solver"], s.get("dynamics"), s.get("strength"), s.get("inner_steps")) for s in settings]
    assert sorted(found, key=str) == sorted(
        [
            *[("parts:Shrunk", solver, None, x, None) for solver in ("parts:MySolver", "heun") for x in (0.0, 0.5)],
            *[
                (method, solver, "parts:MyLangevin", None, 2)
                for method in ("lanpaint", "langevin")
                for solver in ("parts:MySolver", "heun")
            ],
        ],
        key=str,
    )
    shrunk = [row["figures"]["kl"] for row in rows if row["settings"]["method"] == "parts:Shrunk"]
    assert len(set(shrunk)) == 4  # the strength and the solver reach it


def test_what_is_not_given_is_the_methods_own_default(lanpaint):
    (row,) = _rows(lanpaint, "gaussian", "--method", "parts:Heavy")
    assert row["nfe"] == 3 * 2
    (same,) = _rows(lanpaint, "gaussian", "--method", "lanpaint", "--inner-steps", 1, "--levels", "karras")
    assert row["figures"] == same["figures"]
    (half,) = _rows(lanpaint, "gaussian", "--method", "parts:half")
    (lam,) = _rows(lanpaint, "gaussian", "--lam", 4)
    assert half["figures"] == lam["figures"]
    (plain,), (eta,) = (_rows(lanpaint, "gaussian", *o) for o in (("--method", "parts:ddrm"), ("--method", "ddrm")))
    assert plain["figures"] != eta["figures"]
    (given,) = _rows(lanpaint, "gaussian", "--method", "parts:ddrm", "--eta", 0.7)
    assert given["figures"] == eta["figures"]


def test_a_dynamics_may_be_a_class_an_instance_or_a_function_and_has_its_options(lanpaint):
    given = "parts:MyLangevin,parts:held,parts:slow,fld"
    rows = _rows(lanpaint, "gaussian", "--dynamics", given, "--inner-steps", 2)
    assert [row["settings"]["dynamics"] for row in rows] == given.split(",")
    assert len({row["figures"]["kl"] for row in rows}) == 4
    (held,) = _rows(lanpaint, "gaussian", "--friction", 3, "--inner-steps", 2)
    assert held["figures"] == rows[1]["figures"]
    cold = _rows(lanpaint, "gaussian", "--dynamics", "parts:MyLangevin", "--option", "temperature=0.1,1", "--lam", 1)
    assert cold[0]["figures"] != cold[1]["figures"]


def test_a_solver_may_bring_levels_of_its_own(lanpaint):
    (row,) = _rows(lanpaint, "gaussian", "--solver", "parts:scheduled", "--inner-steps", 1)
    assert "levels" not in row["settings"]
    assert row["nfe"] == 3 * 2


def test_a_file_of_grids_names_them_and_its_results_are_read_again(lanpaint, tmp_path):
    name = next(tmp_path.glob("parts_*.py")).stem
    (tmp_path / "study.yaml").write_text(
        f"- {{title: Mine, target: gaussian, samples: 100, steps: 3, method: ['{name}:Shrunk', ddrm, replace],\n"
        "   strength: [0.1, 0.2, 0.4], eta: 0.3, seed: [0, 1]}\n"
    )
    status, out, err = lanpaint("bench", "study.yaml", "-q")
    assert status == 0, err
    assert lanpaint("bench", "study.yaml", "-q")[1] == out  # from the file, seconds too
    rows = Results("study.jsonl").rows
    assert len(rows) == 2 * (3 + 1 + 1)
    assert [row.settings.get("strength") for row in rows[:6:2]] == [0.1, 0.2, 0.4]
    assert rows[6].settings.options == (("eta", 0.3),)
    status, _, err = lanpaint("report", "study.jsonl", "-o", "out")
    assert status == 0, err
    text = (tmp_path / "out" / "report.md").read_text()
    assert "|  | strength 0.1 | strength 0.2 | strength 0.4 | none |" in text
    assert (tmp_path / "out" / "figures.csv").read_text().splitlines()[0].count("strength") == 1
    (tmp_path / "study.yaml").write_text(f"target: gaussian\nmethod: '{name}:Shrunk'\nstrength: high\n")
    assert "strength must be a number, got 'high'" in lanpaint("bench", "study.yaml", "-q")[2]


def test_inpaint_takes_them_too(lanpaint, tmp_path):
    given = ("inpaint", "digit.png", "mask.png", "-o", "out.png", "--steps", 3, "-q", "--method")
    pictures = []
    for options in (
        ("parts:Shrunk", "--option", "strength=0.1"),
        ("parts:Shrunk", "--option", "strength=0.9", "--solver", "parts:MySolver"),
        ("parts:Heavy", "--dynamics", "parts:slow", "--inner-steps", 2),
    ):
        status, out, err = lanpaint(*given, *options)
        assert status == 0, err
        assert "25.0% repainted" in out
        pictures.append(np.array(Image.open(tmp_path / "out.png")))
    assert "9 NFE" in out
    hole = np.array(Image.open(tmp_path / "mask.png")) == 255
    before = np.array(Image.open(tmp_path / "digit.png"))
    for picture in pictures:
        assert np.array_equal(picture[~hole], before[~hole])
    assert not np.array_equal(pictures[0], pictures[1])


MISTAKES = {
    "no module": (
        ["--method", "not_there:X"],
        "method not_there:X: there is no module 'not_there'; write not_there.py in",
    ),
    "no name": (["--method", "parts:Shrank"], "parts.py has no 'Shrank'; there is Shrunk, Heavy, ddrm"),
    "a module that raises": (["--method", "raises_here:X"], "importing raises_here fails: RuntimeError: out of order"),
    "a module whose import lacks another": (
        ["--solver", "lacks_here:X"],
        "importing lacks_here fails: ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "a file": (["--method", "parts.py:Shrunk"], "or module:name for one of your own; write the module without .py"),
    "a dynamics as a method": (
        ["--method", "parts:MyLangevin"],
        "method parts:MyLangevin must be the class of a lanpaint.Sampler, or a function that makes one; got the class",
    ),
    "a method as a dynamics": (
        ["--dynamics", "parts:Shrunk"],
        "dynamics parts:Shrunk must be the class of a lanpaint.Dynamics, or a function that makes one; got the class",
    ),
    "a solver as a dynamics": (
        ["--dynamics", "parts:MySolver"],
        "dynamics parts:MySolver must return a lanpaint.Dynamics, got MySolver",
    ),
    "a number": (["--solver", "parts:number"], "got a value of type int"),
    "a class with arguments": (
        ["--dynamics", "parts:Sized"],
        "dynamics parts:Sized cannot be made without size; give it defaults, or name a function without arguments",
    ),
    "a function that raises": (
        ["--dynamics", "parts:broken"],
        "dynamics parts:broken cannot be made: RuntimeError: no l",
    ),
    "a method without steps": (["--method", "parts:stepless"], "parts:stepless takes no steps; give it **options"),
    "a method that makes no sampler": (["--method", "parts:nothing"], "must return a lanpaint.Sampler, got int"),
    "a target that is none": (None, "target parts:held must be the class of a lanpaint_toys.Problem"),
    "an option that it lacks": (
        ["--method", "parts:Shrunk", "--option", "eta=0.1"],
        "parts:Shrunk has no eta; it takes solver, strength",
    ),
    "an option that nothing has": (["--option", "force=1"], "unknown setting 'force'; expected "),
    "an option that none of several has": (
        ["--method", "replace,repaint", "--eta", "0.1"],
        "none of replace, repaint has eta; leave it out",
    ),
    "an option of an instance": (
        ["--dynamics", "parts:held", "--friction", 2],
        "parts:held has no friction to choose; leave it out, or take fld, hfhr",
    ),
    "a value of another kind": (
        ["--method", "parts:Shrunk", "--option", "strength=much"],
        "--strength takes numbers separated by commas, got 'much'",
    ),
    "an option without a value": (["--option", "strength"], "--option takes NAME=VALUE, got 'strength'"),
    "an option given twice": (["--lam", 2, "--option", "lam=3"], "lam is given by --lam and by --option; give it once"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(lanpaint, mistake):
    arguments, told = MISTAKES[mistake]
    target = "parts:held" if arguments is None else "gaussian"
    status, out, err = lanpaint("bench", target, *(arguments or ()), *SMALL)
    assert status == 1
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
