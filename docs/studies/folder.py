"""A folder under harsh treatment: kills at random moments, two runs at once, a full disk; and what it costs.

    python docs/studies/folder.py [--count 2000] [--kills 50] [--trials 11] [--folder DIR]

Digits of 8×8 pixels, two outer steps with one inner step each (4 evaluations), batches of 16, one thread a process.
Times are CPU times, so that another load on the machine does not count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import lanpaint as lp
from lanpaint_toys.digits import load_digits

SETTINGS = {"steps": 2, "inner_steps": 1}


def main() -> None:
    """Run all parts and print a line for each figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, default=11, help="pairs of runs that scaling is measured by")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = given.folder or Path(tempfile.mkdtemp(prefix="folder-"))
    make_pictures(where, given.count)
    painter = lp.open_painter("digits")
    run(painter, where, "warm", given.count // 20)

    one = measured(painter, where, ["alone"])
    print(f"one worker: {1000 * one['cpu'] / given.count:.2f} ms of CPU a picture, {one['wall']:.0f} s in all")
    slope, least, most = memory_slope(one["memory"], given.count)
    print(f"memory: {least:.0f} … {most:.0f} MiB, slope {1024 * slope:.2f} KiB a picture after the first quarter")
    two = measured(painter, where, ["both", "both"])
    print(f"two workers: {1000 * two['cpu'] / given.count:.2f} ms of CPU a picture, {two['wall']:.0f} s in all")
    times = painted_times(where / "both")
    print(
        f"two runs at once: {len(times)} outputs, painted more than once: {sum(n > 1 for n in times.values())}, "
        f"equal to one worker's: {outputs(where / 'both') == outputs(where / 'alone')}"
    )
    scaling(painter, where, given.trials)
    print(f"machinery: {overhead(painter, where, given.count):.2f} ms of CPU a picture beside the painter's run")
    killed(painter, where, given.kills)
    full_disk(painter, where)


def make_pictures(where: Path, count: int) -> None:
    """Digits, and one mask for all."""
    (where / "in").mkdir(parents=True, exist_ok=True)
    digits = ((load_digits("test")[0][:, 0] + 1) * 127.5).round().numpy().astype(np.uint8)
    for number in range(count):
        Image.fromarray(digits[number % len(digits)]).save(where / "in" / f"{number:05d}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(where / "mask.png")


def run(painter: Any, where: Path, out: str, most: int | None = None) -> lp.Summary:
    """One worker."""
    source = where / "in"
    if most is not None:
        source = where / f"{most}.jsonl"
        names = [f"{number:05d}.png" for number in range(most)]
        rows = [json.dumps({"picture": f"in/{name}", "output": name}) for name in names]
        source.write_text("\n".join(rows))
    return lp.paint_folder(source, where / "mask.png", where / out, painter, settings=SETTINGS)


def started(painter: Any, where: Path, out: str) -> Any:
    """A worker in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(painter, where, out))
    process.start()
    return process


def measured(painter: Any, where: Path, outs: list[str]) -> dict[str, Any]:
    """CPU seconds, wall seconds, and the resident size of the first worker in MiB over the run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    processes = [started(painter, where, out) for out in outs]
    memory = []
    while any(process.is_alive() for process in processes):
        try:
            pages = int(Path(f"/proc/{processes[0].pid}/statm").read_text().split()[1])
            memory.append(pages * resource.getpagesize() / 2**20)
        except (OSError, IndexError):
            pass
        time.sleep(0.2)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": time.time() - start, "memory": [size for size in memory if size]}


def scaling(painter: Any, where: Path, trials: int, most: int = 1600) -> None:
    """One worker and two in turn, and beside them the painter alone, without a folder, in one process and in two.

    Other users of the machine give it another speed every minute, so medians over many turns are told. The second pair
    says what the machine itself gives two processes that share nothing.
    """
    jobs: dict[str, list[tuple[Any, tuple[Any, ...]]]] = {
        "one worker": [(run, (painter, where, "scaling", most))],
        "two workers": [(run, (painter, where, "scaling", most))] * 2,
        "one process without a folder": [(paint_alone, (painter, where, most))],
        "two processes without a folder": [(paint_alone, (painter, where, most // 2))] * 2,
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(trials):
        for name, work in jobs.items():
            begun = time.perf_counter()
            processes = [multiprocessing.get_context("fork").Process(target=do, args=given) for do, given in work]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
                assert process.exitcode == 0
            times[name].append(time.perf_counter() - begun)
            shutil.rmtree(where / "scaling", ignore_errors=True)
    one, two, bare, pair = (np.array(taken) for taken in times.values())
    for name, taken in times.items():
        print(f"{name}: {np.median(taken):.2f} s, median of {trials} runs of {most} pictures")
    for name, share in (
        ("folder", one / two / 2),
        ("machine", bare / pair / 2),
        ("folder over machine", one * pair / two / bare),
    ):
        least, middle, high = np.quantile(share, (0.25, 0.5, 0.75))
        print(f"scaling of the {name}: {middle:.3f} each, quartiles {least:.3f} … {high:.3f}")


def paint_alone(painter: Any, where: Path, count: int) -> None:
    """The painter's own work on pictures of one folder, in batches of 16, with nothing written."""
    tasks = [lp.Task(where / "in" / f"{number:05d}.png", where / "mask.png", settings=SETTINGS) for number in range(16)]
    for _ in range(count // 16):
        painter.paint_many(tasks)


def memory_slope(memory: list[float], count: int) -> tuple[float, float, float]:
    """MiB a picture, least and most MiB, without the first quarter."""
    late = np.array(memory[len(memory) // 4 : -1])
    pictures = np.linspace(0.25 * count, count, len(late))
    return float(np.polyfit(pictures, late, 1)[0]), float(late.min()), float(late.max())


def outputs(out: Path) -> dict[str, str]:
    """Name → hash of every output."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.png")}


def lines(out: Path) -> list[dict[str, Any]]:
    """All whole lines of the ledger."""
    found = []
    for file in (out / ".lanpaint").glob("*.jsonl"):
        for line in file.read_bytes().split(b"\n")[:-1]:
            found.append(json.loads(line))
    return found


def painted_times(out: Path) -> Counter[str]:
    """Output → how often it was painted."""
    return Counter(line["output"] for line in lines(out) if "sha256" in line)


def overhead(painter: Any, where: Path, count: int) -> float:
    """Milliseconds of CPU a picture of a run whose painter gives the pictures back at once."""

    class Idle(type(painter)):  # type: ignore[misc]
        def run(self, batch: Any, watching: Any) -> Any:
            return [[one.media.images()[0]] for one in batch], 4

    idle = Idle(painter.network, source="idle")
    idle.check(lp.Task("in.png", settings=SETTINGS))
    start = time.process_time()
    run(idle, where, "idle")
    return 1000 * (time.process_time() - start) / count


def killed(painter: Any, where: Path, kills: int) -> None:
    """Two workers, of which one is killed and started anew, again and again, until all is painted."""
    chance, done, restarts = random.Random(0), 0, 0
    pair = [started(painter, where, "killed") for _ in range(2)]
    cleared = 0
    while done < kills:
        time.sleep(chance.uniform(0.05, 1.5))
        victim = chance.randrange(2)
        if not pair[victim].is_alive():  # all is painted: begin anew with a part of the outputs
            cleared += 1
            for path in chance.sample(sorted((where / "killed").glob("*.png")), k=300):
                path.unlink()
        else:
            os.kill(pair[victim].pid, signal.SIGKILL)
            done += 1
        pair[victim].join()
        pair[victim] = started(painter, where, "killed")
        restarts += 1
    for process in pair:
        process.join()
    last = run(painter, where, "killed")
    entered = {line["output"]: line["sha256"] for line in sorted(lines(where / "killed"), key=lambda one: one["time"])}
    made = outputs(where / "killed")
    left = list((where / "killed" / ".lanpaint").glob("*.tmp"))
    print(
        f"kill -9: {done} kills of one of two workers, 300 outputs removed {cleared} times; then {last}; "
        f"equal to the undisturbed run: {made == outputs(where / 'alone')}, ledger equal to the files: "
        f"{entered == made}, temporary folders left: {len(left)}"
    )


def full_disk(painter: Any, where: Path) -> None:
    """A disk of 200 kB."""
    disk = where / "disk"
    disk.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("full disk: no tmpfs can be mounted here; tests/painting/test_folder.py has it with a limit on files")
        return
    try:
        try:
            run(painter, where, "disk/out", 200)
            told = "nothing"
        except OSError as error:
            told = str(error)
        made, out = outputs(disk / "out"), disk / "out"
        truth = outputs(where / "alone")
        whole = all(truth[name] == found for name, found in made.items())
        consistent = all(made[line["output"]] == line["sha256"] for line in lines(out))
        print(f"full disk: told {told!r}; {len(made)} outputs, whole: {whole}, ledger true: {consistent}")
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True, capture_output=True)
        print(f"full disk, given again with room: {run(painter, where, 'disk/out', 200)}")
    finally:
        subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    main()
