"""Reports: tables whose numbers are checked by hand."""

import csv
import math

import pytest

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
