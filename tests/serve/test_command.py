"""``lanpaint serve``: what it listens at, what it prints, and what it says when it cannot."""

import socket
import sys

import pytest
from typer.testing import CliRunner

from lanpaint.cli import app

uvicorn = pytest.importorskip("uvicorn")


def run(monkeypatch, *arguments):
    """The outcome of the command, the application, and the address; the server itself is not run."""
    caught = {}

    def stand_in(server, sockets):
        caught["app"], caught["bound"] = server.config.app, sockets[0].getsockname()
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", stand_in)
    return CliRunner().invoke(app, ["serve", "--no-browser", "--port", "0", *arguments]), caught


def test_it_listens_at_loopback_with_the_embedded_models(monkeypatch):
    outcome, caught = run(monkeypatch)
    assert outcome.exit_code == 0, outcome.output
    assert caught["bound"][0] == "127.0.0.1"
    assert f"http://127.0.0.1:{caught['bound'][1]}/ with emoji-pixel, emoji-flow, digits" in outcome.output
    assert caught["app"].token is None
    assert "note" not in outcome.stderr


def test_bound_elsewhere_it_warns_and_asks_for_a_token(monkeypatch):
    outcome, caught = run(monkeypatch, "--host", "0.0.0.0", "--name", "box.local")
    assert outcome.exit_code == 0, outcome.output
    token = caught["app"].token
    assert len(token) >= 20
    assert f"?token={token}" in outcome.stdout
    assert "can be reached from other machines" in outcome.stderr
    assert caught["app"].is_own("box.local:80")
    assert not caught["app"].is_own("evil.example")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "nothing"], "unknown model"),
        (["--model", "digits", "--model", "digits"], "two models"),
        (["--device", "cuda:99"], "not available"),
        (["--host", "no.such.host.invalid"], "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_is_opened(monkeypatch, arguments, told):
    outcome, caught = run(monkeypatch, *arguments)
    assert isinstance(outcome.exception, ValueError)
    assert told in str(outcome.exception)
    assert not caught


def test_a_port_that_is_taken_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome, _ = run(monkeypatch, "--port", str(taken.getsockname()[1]))
    assert "give another --port" in str(outcome.exception)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = CliRunner().invoke(app, ["serve", "--no-browser"])
    assert isinstance(outcome.exception, ImportError)
    assert "pip install 'lanpaint[serve]'" in str(outcome.exception)


def test_a_folder_is_served_under_its_name_and_no_path_is_told(tmp_path, monkeypatch):
    from lanpaint.names import model_folder
    from lanpaint.serve.shelf import make_shelf

    (tmp_path / "mine").symlink_to(model_folder("digits"))
    shelf = make_shelf([str(tmp_path / "mine")])
    assert [(model.name, model.side, model.grey) for model in shelf.values()] == [("mine", 8, True)]
