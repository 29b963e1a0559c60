"""Files of results: several processes, kills in the middle of a write, full disks, and other versions."""

import json
import multiprocessing
import sys

import pytest

from lanpaint.bench import Results, Section, expand, run_sections
from lanpaint.bench.report import write_report
from lanpaint.cli import main
from tests.bench.test_report import _row

GRID = {"target": "gaussian", "samples": 20, "steps": 2, "inner_steps": 1}


def _at_once(work, *arguments):
    """Run ``work`` in a process for each of the arguments, all at once."""
    context = multiprocessing.get_context("fork")  # imports nothing anew
    gate = context.Barrier(len(arguments))
    processes = [context.Process(target=work, args=(gate, argument)) for argument in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(arguments)


def _seeds(path):
    return [json.loads(line)["settings"]["seed"] for line in path.read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_processes_on_one_file_double_no_row_and_lose_none(tmp_path):
    path = tmp_path / "r.jsonl"

    def work(gate, section):
        results = Results(path)
        gate.wait()
        for seed in range(40):
            results.add(_row(section, float(seed), target="gaussian", seed=seed))

    _at_once(work, "A", "A", "B")
    assert sorted(_seeds(path)) == sorted(2 * list(range(40)))  # once in A, once in B
    assert len(Results(path).rows) == 80


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_two_benchmarks_at_once_make_each_row_once(tmp_path):
    path = tmp_path / "r.jsonl"
    section = Section("A", tuple(expand({**GRID, "seed": [0, 1, 2, 3]})))

    def work(gate, number):
        results = Results(path)
        gate.wait()
        rows = list(run_sections([section], results))
        (tmp_path / f"{number}").write_text(str(len(rows)))

    _at_once(work, 1, 2)
    assert _seeds(path) == [row.settings.seed for row in Results(path).rows] == [0, 1, 2, 3]
    assert [(tmp_path / str(number)).read_text() for number in (1, 2)] == ["4", "4"]


def test_rows_that_are_in_a_file_twice_count_once_so_that_errors_are_not_halved(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [_row("A", kl, target="gaussian", seed=seed).as_json() for seed, kl in enumerate((1.0, 2.0, 3.0))]
    path.write_text("\n".join(lines * 2) + "\n")
    assert len(Results(path).rows) == 3
    assert "2 ± 0.6" in write_report(Results(path), tmp_path / "out").read_text()  # 1/√3, and not 0.37 of six


def test_a_last_line_without_its_newline_is_a_row_like_any_other(tmp_path):
    path = tmp_path / "r.jsonl"
    first, second = (_row("A", 1.0, target="gaussian", seed=seed) for seed in (0, 1))
    path.write_text(first.as_json())
    results = Results(path)
    assert len(results.rows) == 1
    results.add(second)
    assert path.read_text() == first.as_json() + "\n" + second.as_json() + "\n"
    assert results.rows == Results(path).rows == [first, second]


def test_a_kill_in_the_middle_of_any_byte_loses_that_row_only(tmp_path):
    path = tmp_path / "r.jsonl"
    first, second = (_row("λ", 1.0, target="gaussian", seed=seed) for seed in (0, 1))
    start, line = first.as_json().encode() + b"\n", second.as_json().encode()
    for cut in {*range(1, 20), 12 + 1, len(line) // 2}:  # in the middle of the letter of two bytes, too
        path.write_bytes(start + line[:cut])
        results = Results(path)
        assert results.rows == [first]
        results.add(second)
        assert path.read_bytes() == start + line + b"\n"


@pytest.mark.parametrize("before", [b"", b"whole\n", b"whole\nhalf", b"whole\nfull"])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch, before):
    import lanpaint.bench.results as module

    path = tmp_path / "r.jsonl"
    row, other, new = (_row("A", 1.0, target="gaussian", seed=seed) for seed in (0, 1, 2))
    texts = {b"whole": row.as_json().encode(), b"full": other.as_json().encode(), b"half": b'{"section": "A", "se'}
    for name, text in texts.items():
        before = before.replace(name, text)
    if before:
        path.write_bytes(before)
    results = Results(path)
    calls = []

    def full(file, content):
        calls.append(content)
        if len(calls) == 1:
            file.write(content[:7])
            raise OSError(28, "No space left on device")
        file.write(content)

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(OSError, match=r"cannot write .*r.jsonl: No space left on device"):
        results.add(new)
    assert (path.read_bytes() if path.exists() else b"") == before
    assert new not in results.rows


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    import lanpaint.bench.grid as grid

    monkeypatch.setattr(grid, "run", lambda *arguments, **options: pytest.fail("something ran"))
    for place, told in (("/proc/r.jsonl", "cannot write /proc/r.jsonl"), ("/dev/full", "/dev/full is not a file")):
        monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", "gaussian", "-r", place])
        with pytest.raises(SystemExit):
            main()
        printed = capsys.readouterr().err
        assert told in printed
        assert "Traceback" not in printed
    results = Results(tmp_path / "r.jsonl")
    results.check_writable()
    assert not results.path.exists()


def test_of_two_versions_a_report_has_the_later(tmp_path):
    path = tmp_path / "r.jsonl"
    (settings,) = expand(GRID)
    list(run_sections([Section("A", (settings,))], Results(path)))
    older = json.loads(path.read_text())
    older["versions"]["lanpaint"], older["figures"]["kl"] = "0.0.1", 77.0
    path.write_text(json.dumps(older) + "\n" + path.read_text())
    assert len(Results(path).rows) == 2
    text = write_report(Results(path), tmp_path / "out").read_text()
    assert "77" not in text
    assert "1 runs that a later version has made again are left out" in text


def test_a_report_of_runs_that_all_diverged_says_so(tmp_path):
    results = Results(tmp_path / "r.jsonl")
    infinite = float("inf")
    for steps in (10, 20):
        results.add(_row("Steps", infinite, target="gaussian", method="replace", steps=steps))
        results.add(_row("Steps", infinite, target="gaussian", method="lanpaint", inner_steps=5, steps=steps))
    for n in (1, 2):
        results.add(_row("Inner", infinite, target="star", method="lanpaint", inner_steps=n))
    results.add(_row("Inner", infinite, target="star", method="replace"))
    results.add(_row("One", infinite, target="gaussian", method="replace"))
    text = write_report(results, tmp_path / "out").read_text()
    assert "| lanpaint | diverged | diverged |" in text
    assert "| replace | diverged |" in text
    for picture in ("steps.png", "inner.png"):
        assert (tmp_path / "out" / picture).stat().st_size > 1000


def test_a_picture_of_runs_on_images_shows_their_own_metric(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "psnr.png"
    settings = ("--steps", "1,2", "--samples", "10", "--method", "replace", "-q", "-o", str(picture))
    monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", "digits:box", *settings])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert picture.stat().st_size > 5000
    monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", "digits:box,gaussian", *settings])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code
    assert "one metric, and the runs are compared on digits:box by psnr and gaussian by kl" in capsys.readouterr().err


def test_a_picture_names_only_what_all_of_its_runs_share(tmp_path, monkeypatch, capsys):
    import lanpaint.plotting as plotting

    titles = []
    monkeypatch.setattr(plotting, "against_evaluations", lambda curves, path, **options: titles.append(options))
    grid = ("--samples", "20", "--steps", "2", "--inner-steps", "1", "-q", "-o", str(tmp_path / "kl.png"))
    for targets, methods in (("gaussian,star", "lanpaint"), ("gaussian", "lanpaint,replace")):
        monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", targets, "--method", methods, *grid])
        with pytest.raises(SystemExit):
            main()
    assert [told["title"] for told in titles] == [
        "method lanpaint, levels paper, samples 20",
        "target gaussian, levels paper, samples 20",
    ]
