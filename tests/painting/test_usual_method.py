"""Every door paints with the method of the model unless one is named: the schedule for a model with time maps."""

import functools
import shlex

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lanpaint import Task, open_painter, paint_folder
from lanpaint.cli import app
from lanpaint.painting import Settings
from lanpaint.serve.settings import parse, table
from lanpaint.serve.shelf import make_shelf
from lanpaint.serve.work import Worker, recipe, resolved
from lanpaint_toys import recipes

STEPS = 2
SCHEDULE, LANPAINT = STEPS, STEPS * 6  # evaluations: one a step, and five inner steps more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network with a time for each pixel, not trained."""
    made = recipes.RECIPES["digits-async"]
    path = tmp_path_factory.mktemp("models") / "maps"
    made.save(made.make_module(made.defaults), path)
    return path


@pytest.fixture(scope="module")
def maps(folder):
    return open_painter(str(folder))


@pytest.fixture
def files(tmp_path, digits, box, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(digits[0]).save("picture.png")
    Image.fromarray(box).save("mask.png")


@pytest.mark.parametrize(("named", "evaluations"), [({}, SCHEDULE), ({"method": "lanpaint"}, LANPAINT)], ids=str)
def test_a_painter_takes_the_schedule_unless_a_method_is_named(maps, digits, box, named, evaluations):
    assert maps.paint(Task(digits[0], box, settings={"steps": STEPS, **named})).evaluations == evaluations


def test_a_painter_of_another_model_takes_lanpaint(painter, digits, box):
    one, other = (painter.paint(Task(digits[0], box, settings={"steps": STEPS, **n})) for n in ({}, {"method": "fld"}))
    assert one.evaluations == LANPAINT
    assert not np.array_equal(one.picture, other.picture)
    with pytest.raises(ValueError, match="AsyncPaint needs a network with a time for each pixel"):
        painter.paint(Task(digits[0], box, settings={"method": "async"}))


def test_an_option_of_another_method_is_refused_in_one_line(maps, digits, box):
    task = Task(digits[0], box, settings={"lam": 3.0})  # LanPaint has it, so a task without a model may have it
    with pytest.raises(ValueError, match=r"^async has no lam; it takes .*inner_steps.*$"):
        maps.paint(task)


def test_a_folder_takes_the_schedule_and_tells_it_from_lanpaint(maps, files, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "picture.png").rename(tmp_path / "in" / "picture.png")
    call = functools.partial(paint_folder, "in", "mask.png", "out", maps, progress=False)
    assert call(settings={"steps": STEPS}).evaluations == SCHEDULE
    assert call(settings={"steps": STEPS}).painted == 0
    assert call(settings={"steps": STEPS, "method": "lanpaint"}).evaluations == LANPAINT


def test_the_page_its_command_and_its_python_take_the_schedule(maps, folder, files, tmp_path):
    shelf = make_shelf([str(folder), "digits"])
    assert {name: model.method for name, model in shelf.items()} == {"maps": "async", "digits": "lanpaint"}
    names = table(list(shelf))
    defaults = {name: setting.default for name, setting in names.items()}
    values = resolved(parse(f'{{"steps": {STEPS}, "inner_steps": 1}}', names, shelf), shelf["maps"], (8, 8))
    with pytest.raises(ValueError, match="async has no lam; leave it out, or take"):
        parse('{"lam": 3}', names, shelf)
    counts = []
    job = type("Job", (), {"settings": values, "picture": "picture.png", "mask": "mask.png"})
    Worker(shelf, defaults, lambda source: maps)(job, 0, tmp_path / "page.png", lambda done, *rest: counts.append(done))
    assert counts[-1] == 2 * SCHEDULE
    made = recipe(values, defaults, shelf["maps"], masked=True)
    outcome = CliRunner().invoke(app, [*shlex.split(made["command"])[1:], "--quiet"])
    assert f"{2 * SCHEDULE} NFE" in outcome.output
    command = np.array(Image.open("result.png"))
    exec(made["python"], {})
    for other in ("result.png", "page.png"):
        assert np.array_equal(np.array(Image.open(other)), command)


@pytest.mark.parametrize("order", ["forward", "average"])
def test_a_wide_picture_takes_the_schedule(folder, files, order):
    """Two windows at each step. With the average, each window sees the part of the map that it covers."""
    given = ["wide", "--model", str(folder), "--width", "12", "--height", "8", "--overlap", "4", "-o", "wide.png"]
    outcome = CliRunner().invoke(app, [*given, "--steps", str(STEPS), "--order", order, "--quiet"])
    assert f"{2 * SCHEDULE} NFE" in outcome.output, outcome.output


def test_settings_keep_what_was_not_named():
    assert Settings().method is None
    assert Settings().given() == {}
    assert Settings.of({"method": "lanpaint"}).given() == {"method": "lanpaint"}
