"""The runner of mutants: what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import os, time
from pathlib import Path
from tests.mutants import _dies
wait = lambda: (Path("inner").write_text(str(os.getpid())), time.sleep(60))
_dies(lambda: (Path("outer").write_text(str(os.getpid())), _dies(wait, 60)), 60)
"""


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process with it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_runner(tmp_path, number):
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    runner = subprocess.Popen([sys.executable, "-c", CODE], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    inner = tmp_path / "inner"
    while not (inner.exists() and inner.read_text()):
        assert runner.poll() is None
        time.sleep(0.02)
    pids = [int((tmp_path / name).read_text()) for name in ("outer", "inner")]
    assert all(map(runs, pids))
    runner.send_signal(number)
    runner.wait()
    for _ in range(500):
        if not any(map(runs, pids)):
            return
        time.sleep(0.02)
    raise AssertionError(f"{pids} are still there")
