"""Command lines in processes of their own: a sample of them, Ctrl-C at any time, closed pipes, a full disk."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.hostile import commands
from tests.hostile.commands import Command, judge
from tests.hostile.judge import LOST, MISLEADING, SILENT, TRACEBACK, Counts, changes, snapshot

SAMPLE = 12  # of the command lines
_ROOT = Path(__file__).parents[2]
_START = (sys.executable, "-m", "lanpaint_command")


def _run(arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "toy_models"))),
        "OMP_NUM_THREADS": "1",
    }


def _interrupted(arguments: tuple[str, ...], seconds: float, folder: Path) -> tuple[int, str]:
    """Exit status and stderr of a command line that gets Ctrl-C after so many seconds."""
    process = subprocess.Popen(
        [*_START, *arguments],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where a shell runs us in background
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    return process.returncode, err


def run_all(folder: Path, seed: int, chosen: Callable[[Command], bool] = lambda command: True) -> Counts:
    """Run all of them in ``folder``, and count how they fare."""
    here, kept, models = folder / "here", folder / "kept", folder / "models"
    here.mkdir()
    models.mkdir()
    plain = [command for command in commands.generate(here, seed) if not command.is_patched and chosen(command)]
    shutil.copytree(here, kept, symlinks=True)
    counts, before = Counts("processes"), snapshot(here)
    for command in random.Random(seed).sample(plain, min(SAMPLE, len(plain))):
        run = _run([*_START, *command.arguments], here)
        judge(command, run.returncode, run.stderr, before, here, counts)
        if snapshot(here) != before:
            before = commands.restore(here, kept, before)
        counts.inputs += 1
    long = ("inpaint", "d-plain.png", "d-mask.png", "-o", "old.png", "--steps", "10000", "--inner-steps", "100", "-q")
    for seconds in (0.3, 0.6, 1.0, 1.5, 2.5, 8.0):
        status, err = _interrupted(long, seconds, here)
        name = f"Ctrl-C after {seconds} s"
        counts.inputs += 1
        counts.refused += 1
        if "Traceback" in err:
            counts.fault(TRACEBACK, name, err[-300:])
        elif (status, err) != (130, "lanpaint: interrupted\n"):
            counts.fault(MISLEADING, name, f"status {status}: {err}")
        lost, new = changes(before, snapshot(here), ())
        if lost or new:
            counts.fault(LOST, name, f"{lost} {new}")
    for arguments in ("models", "inpaint --help", "bench gaussian --samples 50 --steps 2 --json"):
        line = f"{' '.join(_START)} {arguments} | true; exit ${{PIPESTATUS[0]}}"
        run = subprocess.run(
            ["bash", "-c", line], cwd=here, env=_environment(), capture_output=True, text=True, check=False
        )
        counts.inputs += 1
        if "Traceback" in run.stderr or "Exception ignored" in run.stderr:
            counts.fault(TRACEBACK, f"{arguments} | true", run.stderr[-300:])
        elif run.stderr.strip():
            counts.fault(MISLEADING, f"{arguments} | true", run.stderr[-300:])
    if _tmpfs(folder / "small"):
        try:
            shutil.copy(here / "d-plain.png", folder / "small")
            (folder / "small" / "old.png").write_bytes(b"what was there before")
            (folder / "small" / "filler").write_bytes(bytes(1 << 16))
        except OSError:
            pass  # it is full, as it should be
        try:
            paint = ("inpaint", "d-plain.png", str(here / "d-mask.png"), "-o", "old.png", "--steps", "2", "-q")
            run = _run([*_START, *paint], folder / "small")
            counts.inputs += 1
            counts.refused += run.returncode != 0
            if run.returncode == 0:
                counts.fault(SILENT, "a full disk", "success")
            elif "Traceback" in run.stderr:
                counts.fault(TRACEBACK, "a full disk", run.stderr[-300:])
            elif "No space left" not in run.stderr or len(run.stderr.splitlines()) != 1:
                counts.fault(MISLEADING, "a full disk", run.stderr)
            if (folder / "small" / "old.png").read_bytes() != b"what was there before":
                counts.fault(LOST, "a full disk", "old.png")
        finally:
            subprocess.run(["umount", folder / "small"], check=False)
    return counts


def _tmpfs(folder: Path) -> bool:
    """Whether a disk of a few KiB could be made at ``folder``; only root may make one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "none", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
