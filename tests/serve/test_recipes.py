"""The page, the command line and Python paint the same picture from the same settings."""

import shlex

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lanpaint.cli import app
from lanpaint.painting import open_painter
from lanpaint.serve.settings import changed, table
from lanpaint.serve.shelf import make_shelf
from lanpaint.serve.work import Worker, recipe, resolved
from tests.serve.conftest import send, serving, wait

SETTINGS = [
    {"seed": 7, "steps": 3},
    {"seed": 2, "steps": 2, "method": "repaint", "inner_steps": 1, "solver": "heun", "levels": "karras"},
    {"steps": 2, "soft": True, "strength": 0.5, "lam": 3, "friction": 2.0, "pad": [0, 0, 2, 1]},
    {"steps": 2, "preset": "fast", "dynamics": "baoab", "crop": 1.5, "feather": 1},
]


@pytest.mark.parametrize("given", SETTINGS, ids=lambda given: ",".join(given))
def test_command_and_python_give_the_result_of_the_page(given, tmp_path, monkeypatch):
    shelf = make_shelf(["digits"])
    names = table(list(shelf))
    defaults = {name: setting.default for name, setting in names.items()}
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save("picture.png")
    shade = np.zeros((8, 8), np.uint8)
    shade[2:6, 3:7] = 153 if given.get("soft") else 255
    Image.fromarray(shade).save("mask.png")
    picture, mask = (tmp_path / f"{name}.png" for name in ("picture", "mask"))
    values = resolved({**defaults, **given}, shelf["digits"], (8, 8))
    made = recipe(values, defaults, shelf["digits"], masked=True)

    import lanpaint.serve.app as server

    monkeypatch.setattr("tests.serve.conftest.SHELF", shelf)
    assert server.make_app
    with serving(Worker(shelf, defaults, open_painter)) as client:
        job = send(client, picture.read_bytes(), mask.read_bytes(), given).json()
        done = wait(client, job, "done", seconds=60)
        (tmp_path / "page.png").write_bytes(client.get(done["results"][0]["url"]).content)
    page = np.array(Image.open("page.png"))

    outcome = CliRunner().invoke(app, [*shlex.split(made["command"])[1:], "--quiet"])
    assert outcome.exit_code == 0, outcome.output
    assert np.array_equal(np.array(Image.open("result.png")), page)
    (tmp_path / "result.png").unlink()
    exec(made["python"], {})
    assert np.array_equal(np.array(Image.open("result.png")), page)
    assert changed(values, names)["model"] == "digits"
