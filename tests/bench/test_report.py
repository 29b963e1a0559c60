"""Reports: tables whose numbers are checked by hand."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from lanpaint.bench import Result, Results, Settings
from lanpaint.bench.report import write_report


def _row(section, kl=None, floor=0.25, nfe=20, memory=2048.0, seconds=0.003, psnr=None, **settings):
    settings = {"solver": "euler", "levels": "paper", "samples": 100, **settings}
    diverged = "it grew" if kl == math.inf else None
    figures = {} if diverged else {"kl": kl} if psnr is None else {"psnr": psnr[0], "psnr_error": psnr[1]}
    floors = {"kl": floor} if psnr is None else {}
    merits = ("kl",) if psnr is None else ("psnr",)
    return Result(Settings(**settings), figures, floors, merits, nfe, memory, seconds, diverged, section=section)


def _report(tmp_path, rows, further=()):
    results = Results(tmp_path / "r.jsonl")
    for row in rows:
        results.add(row)
    return write_report(results, tmp_path / "out", further).read_text()


def test_means_over_seeds_with_their_standard_errors_along_the_axis(tmp_path):
    rows = [
        _row("A", kl, target="gaussian", method="lanpaint", inner_steps=5, steps=steps, seed=seed, nfe=6 * steps)
        for steps, kls in ((10, (1.0, 2.0, 3.0)), (20, (0.5, 0.5, 0.5)))
        for seed, kl in enumerate(kls)
    ]
    rows += [_row("A", 4.0, target="gaussian", method="replace", steps=steps, nfe=steps) for steps in (10, 20)]
    text = _report(tmp_path, rows)
    assert "## A\n" in text
    assert "Common to all: target gaussian, inner steps 5, levels paper, solver euler, samples 100." in text
    assert "|  | steps 10 | steps 20 |" in text
    assert "| lanpaint | 2 ± 0.6 | 0.5 ± 0 |" in text  # 1/√3 = 0.577
    assert "| replace | 4 | 4 |" in text
    assert "| exact samples | 0.25 | 0.25 |" in text
    assert "| at steps 20 | NFE | ms a sample | KiB a sample |" in text
    assert "| lanpaint | 120 | 3 | 2 |" in text
    assert (tmp_path / "out" / "a.png").exists()


def test_costs_have_a_table_along_the_axis_where_they_are_asked_for(tmp_path):
    """So LML's Table 5 is read: seconds of a sample at each number of steps, a mean over seeds."""
    rows = [
        _row("A", 1.0, target="gaussian", method="replace", steps=steps, seed=seed, seconds=steps + seed, memory=2048.0)
        for steps in (10, 20)
        for seed in (0, 1, 2)
    ]
    text = _report(tmp_path, rows, ["seconds", "memory"])
    head = "|  | steps 10 | steps 20 |"
    assert f"**seconds a sample**\n\n{head}\n|---|---|---|\n| replace | 11 ± 0.6 | 21 ± 0.6 |" in text  # 1/√3
    assert f"**bytes a sample**\n\n{head}\n|---|---|---|\n| replace | 2.05e+03 ± 0 | 2.05e+03 ± 0 |" in text


def test_numbers_of_a_label_have_the_names_of_their_settings(tmp_path):
    rows = [
        _row("A", 1.0, target="gaussian", method="alm", steps=steps, options=options)
        for steps in (10, 20)
        for options in ((), (("iterations", 500),), (("contrast", 0.5), ("partner", "fresh")))
    ]
    labels = re.findall(r"^\| (.+) \| 1 \| 1 \|$", _report(tmp_path, rows), re.MULTILINE)
    assert labels == ["alm", "iterations 500", "contrast 0.5"]


def test_a_divergence_is_no_number_and_an_option_that_is_lacked_has_a_column(tmp_path):
    rows = [
        _row("B", kl, target="star", method="lanpaint", inner_steps=n, steps=5) for n, kl in ((1, math.inf), (2, 0.7))
    ]
    rows.append(_row("B", 3.0, target="star", method="replace", steps=5))
    text = _report(tmp_path, rows)
    assert "|  | inner steps 1 | inner steps 2 | none |" in text
    assert "| lanpaint | diverged | 0.7 |  |" in text
    assert "| replace |  |  | 3 |" in text


def test_without_an_axis_targets_are_columns_and_else_rows_have_everything(tmp_path):
    rows = [
        _row("Images", psnr=(p, 0.25), target=f"digits:{mask}", method=method, steps=20)
        for method, values in (("replace", (8.0, 9.0)), ("ddrm", (8.5, 9.5)))
        for mask, p in zip(("box", "half"), values, strict=True)
    ]
    rows += [
        _row("One", kl, target="gaussian", preset=preset, inner_steps=5) for preset, kl in ((None, 0.5), ("fast", 0.1))
    ]
    text = _report(tmp_path, rows)
    assert "**PSNR on the hole (dB)**" in text
    assert "|  | digits:box | digits:half |" in text
    assert "| replace | 8 ± 0.2 | 9 ± 0.2 |" in text
    assert "|  | KL (nats) | NFE | ms a sample | KiB a sample |" in text
    assert "| paper | 0.5 | 20 | 3 | 2 |" in text
    assert "| fast | 0.1 | 20 | 3 | 2 |" in text


def test_the_table_of_figures_names_the_images_without_the_path_of_a_machine(tmp_path):
    _report(tmp_path, [_row("A", 0.5, target="gaussian", images=str(tmp_path / "pictures.zip"))])
    text = (tmp_path / "out" / "figures.csv").read_text()
    assert "pictures.zip" in text
    assert str(tmp_path) not in text


def test_every_figure_of_every_run_is_in_the_table_of_figures(tmp_path):
    rows = [_row("A", 0.5, target="gaussian", seed=seed, friction=math.inf) for seed in (0, 1)]
    _report(tmp_path, rows)
    read = list(csv.DictReader((tmp_path / "out" / "figures.csv").open()))
    assert [(row["seed"], row["kl"], row["floor_kl"], row["friction"], row["dynamics"]) for row in read] == [
        ("0", "0.5", "0.25", "inf", ""),
        ("1", "0.5", "0.25", "inf", ""),
    ]


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        write_report(Results(tmp_path / "none.jsonl"), tmp_path)
    (tmp_path / "file").write_text("")
    results = Results(tmp_path / "one.jsonl")
    results.add(_row("A", 0.5, target="gaussian"))
    with pytest.raises(ValueError, match="file is a file; give a folder"):
        write_report(results, tmp_path / "file")
    with pytest.raises(ValueError, match="no run has the figure 'lpips'; there are kl"):
        _report(tmp_path, [_row("A", 0.5, target="gaussian")], ["lpips"])


def test_sections_whose_titles_are_of_other_letters_or_long_keep_their_own_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("lanpaint.bench.report.curves_along", lambda *given, path, **options: path.write_bytes(b""))
    rows = [
        _row(title, kl, target="gaussian", method="replace", steps=steps)
        for title in ("数字", "文字", "A b", "a-b", "x" * 300)
        for steps, kl in ((10, 2.0), (20, 1.0))
    ]
    text = _report(tmp_path, rows)
    pictures = re.findall(r"\]\((.+?\.png)\)", text)
    assert len(set(pictures)) == len(pictures) == 5
    assert all((tmp_path / "out" / name).exists() for name in pictures)


def test_runs_of_other_numbers_of_samples_or_other_images_have_lines_of_their_own(tmp_path):
    """A grid that was started with another --samples does not replace what was measured before."""
    rows = [
        _row("A", kl + steps, target="gaussian", method="replace", steps=steps, samples=samples)
        for samples, kl in ((100, 1.0), (200, 2.0))
        for steps in (10, 20)
    ]
    text = _report(tmp_path, rows)
    assert "| replace, samples 100 | 11 | 21 |" in text
    assert "| replace, samples 200 | 12 | 22 |" in text
    (tmp_path / "r.jsonl").unlink()
    rows = [
        _row("A", psnr=(db, 1.0), target="emoji:box", images=f"/home/{name}") for name, db in (("a", 5.0), ("b", 6.0))
    ]
    text = _report(tmp_path, rows)
    assert "| lanpaint, a | 5 ± 1 |" in text
    assert "| lanpaint, b | 6 ± 1 |" in text


def test_a_section_without_an_axis_has_a_picture_with_a_panel_for_each_target(tmp_path, monkeypatch):
    import lanpaint.bench.report as module

    drawn, draw = [], module.points_by_name
    monkeypatch.setattr(module, "points_by_name", lambda *given: (drawn.append(given), draw(*given)))
    rows = [
        _row("A", kl, target=target, method=method)
        for target, method, kl in (("gaussian", "replace", 2.0), ("star", "replace", 3.0), ("star", "fld", math.inf))
    ]
    rows += [_row("A", psnr=(20.0, 1.0), target="digits:box", method=method) for method in ("replace", "fld")]
    text = _report(tmp_path, rows)
    assert "](a.png)" in text
    assert (tmp_path / "out" / "a.png").stat().st_size > 5000
    ((names, panels, _),) = drawn
    assert names == ["replace", "fld"]
    assert [(panel.title, panel.xlabel, panel.floor, panel.logarithmic) for panel in panels] == [
        ("gaussian", "KL (nats)", 0.25, True),
        ("star", "KL (nats)", 0.25, True),
        ("digits:box", "PSNR on the hole (dB)", None, False),
    ]
    assert panels[2].points == {"replace": (20.0, 1.0), "fld": (20.0, 1.0)}
    assert panels[1].points["fld"][0] == math.inf


def test_infinite_figures_of_runs_that_did_not_diverge_are_not_called_diverged(tmp_path):
    perfect = _row("A", psnr=(math.inf, 0.0), target="digits:box")
    text = _report(tmp_path, [perfect, replace(_row("B", 1.0, target="gaussian"), figures={"kl": math.inf})])
    assert "diverged" not in text
    assert text.count("| ∞ |") == 2


def test_texts_of_users_stay_in_their_cell_and_their_heading(tmp_path):
    rows = [
        _row("Title\nof two  lines", psnr=(db, 1.0), target="m:box", images="i", prompt=prompt)
        for prompt, db in (("a | b\nc", 5.0), ("plain", 6.0))
    ]
    text = _report(tmp_path, rows)
    assert "## Title of two lines\n" in text
    assert "| a \\| b c | 5 ± 1 |" in text


@pytest.mark.parametrize("content", [b"", b"garbage", np.zeros((3, 5)), np.full((4, 2), np.nan), np.zeros((0, 2))])
def test_a_report_does_without_samples_that_are_damaged(tmp_path, content):
    results = Results(tmp_path / "r.jsonl")
    row = results.add(_row("A", 0.5, target="gaussian", method="replace"))
    path = results.samples_path(row.settings)
    path.parent.mkdir()
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    assert results.kept(row.settings) is None
    assert "0.5" in write_report(results, tmp_path / "out").read_text()


def test_a_report_of_a_problem_that_is_not_on_this_machine_has_its_tables(tmp_path):
    results = Results(tmp_path / "r.jsonl")
    row = results.add(_row("A", 0.5, target="no_such_module:problem", method="replace"))
    results.keep(row.settings, torch.zeros(20, 2))
    with pytest.warns(UserWarning, match="without pictures of samples: target no_such_module:problem"):
        text = write_report(results, tmp_path / "out").read_text()
    assert "0.5" in text
    assert ".png" not in text
