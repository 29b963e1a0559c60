"""The command line, run in the process of the tests."""

import sys

from lanpaint.cli import main


def run_lanpaint(monkeypatch, capsys, *arguments):
    """Exit status, output and errors of ``lanpaint`` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["lanpaint", *map(str, arguments)])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code or 0
    printed = capsys.readouterr()
    return status, printed.out, printed.err
