"""The command line: one file for each command of ``lanpaint``."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from lanpaint.callbacks import DivergenceError
from lanpaint.cli.bench import bench, report
from lanpaint.cli.complete import complete
from lanpaint.cli.demo import demo
from lanpaint.cli.inpaint import inpaint
from lanpaint.cli.models import models
from lanpaint.cli.options import GroupedCommand, quiet_libraries
from lanpaint.cli.restore import restore
from lanpaint.cli.serve import serve
from lanpaint.cli.texture import texture
from lanpaint.cli.verify import verify
from lanpaint.cli.wide import wide
from lanpaint.painting.painter import is_out_of_memory

app = typer.Typer(
    help="Training-free conditional sampling with diffusion and flow models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lanpaint {metadata.version('lanpaint')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Training-free conditional sampling with diffusion and flow models."""


for command in (demo, inpaint, restore, wide, complete, texture, serve, models, bench, report, verify):
    app.command(cls=GroupedCommand)(command)


def main() -> None:
    """Run the command line. An error prints one line on stderr and gives exit status 1, Ctrl-C exit status 130."""
    warnings.showwarning = _note
    quiet_libraries()
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show λ or × shows ? and loses no result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as stop:
        if stop.code == 130:
            _interrupted()
        raise
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        if getattr(signal.getsignal(signal.SIGINT), "pressed", False):  # see lanpaint_command
            _interrupted()
        if os.environ.get("LANPAINT_DEBUG"):
            raise
        print(f"lanpaint: {_told(error)}", file=sys.stderr)
        sys.exit(1)


def _interrupted() -> None:
    print("lanpaint: interrupted", file=sys.stderr)
    sys.exit(130)


def _told(error: Exception) -> str:
    """What a user is told of an error, in one line."""
    text = " ".join(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(error)).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, (ValueError, DivergenceError, ImportError, OSError)):
        return text
    if is_out_of_memory(error):
        return f"there is not enough memory ({text[-120:]}); paint a smaller picture, or lower --samples or --particles"
    # An error of the program, or of a user's own part. Even so, a user gets one line and no traceback.
    return f"{type(error).__name__}: {text[:300]} (LANPAINT_DEBUG=1 shows where)"


def _note(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    """A warning of this library as one line on stderr. What other libraries warn of is not for a user."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        print(f"note: {' '.join(str(message).split())}", file=sys.stderr)
