"""The command line: ``lanpaint demo``, ``inpaint``, ``models``, ``bench`` and ``report``."""

from __future__ import annotations

import io
import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from lanpaint.callbacks import DivergenceError
from lanpaint.cli.bench import bench, report
from lanpaint.cli.demo import demo
from lanpaint.cli.inpaint import inpaint
from lanpaint.cli.models import models
from lanpaint.cli.options import GroupedCommand

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


for command in (demo, inpaint, models, bench, report):
    app.command(cls=GroupedCommand)(command)


def main() -> None:
    """Run the command line. An error prints one line on stderr and gives exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show λ or × shows ? and loses no result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except (ValueError, DivergenceError, ImportError, OSError) as error:
        if os.environ.get("LANPAINT_DEBUG"):
            raise
        print(f"lanpaint: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # an error of the program; even so, a user gets one line and no traceback
        if os.environ.get("LANPAINT_DEBUG"):
            raise
        reason = " ".join(str(error).split())[:300]
        print(f"lanpaint: {type(error).__name__}: {reason} (LANPAINT_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(1)
