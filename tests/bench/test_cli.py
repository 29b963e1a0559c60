"""``lanpaint bench`` and ``lanpaint report`` as a user meets them."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from lanpaint.cli import main


@pytest.fixture
def lanpaint(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lanpaint", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert not stop.value.code, printed.err
        return printed

    return run


def _cells(out):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]


def test_one_run_prints_its_figures(lanpaint):
    arguments = ("bench", "gaussian", "--steps", 4, "--inner-steps", 2, "--samples", 500, "--seed", 1)
    row = json.loads(lanpaint(*arguments, "--json").out)
    assert row["nfe"] == 12
    assert 0 < row["floors"]["kl"] < 0.05 < row["figures"]["kl"] < 2
    text = lanpaint(*arguments, "--quiet").out
    assert f"kl {row['figures']['kl']:.4g} nats" in text  # the same seed, the same figure
    assert f"mmd_p               {row['figures']['mmd_p']:.4g}" in text
    fast = json.loads(lanpaint(*arguments, "--preset", "fast", "--json").out)
    assert (fast["settings"]["preset"], fast["settings"]["levels"], fast["nfe"]) == ("fast", "focused", 12)
    assert fast["figures"]["kl"] < row["figures"]["kl"]
    fld, zero = (json.loads(lanpaint(*arguments, *o, "--json").out) for o in (("--method", "fld"), ("--lam", 0)))
    assert fld["figures"] == zero["figures"]


def test_one_run_on_images_prints_psnr(lanpaint):
    text = lanpaint("bench", "digits:box", "--method", "replace", "--steps", 2, "--samples", 12, "-q").out
    assert "digits:box, replace, 2, paper levels, 12 samples" in text
    assert " dB on the hole   nfe 2 " in text
    assert "ssim_whole" in text


def test_one_run_on_sequences_prints_their_own_figure(lanpaint):
    text = lanpaint("bench", "motion:last-half", "--method", "replace", "--steps", 1, "--samples", 10, "-q").out
    row = json.loads(
        lanpaint("bench", "motion:last-half", "--method", "replace", "--steps", 1, "--samples", 10, "--json").out
    )
    assert f"error {row['figures']['error']:.4g} ± {row['figures']['error_error']:.2g}   nfe 1" in text


def test_another_metric_than_the_head_s_is_named_and_a_method_of_one_s_own_its_defaults(lanpaint):
    settings = ("--method", "replace,lanpaint:Replace", "--levels", "paper", "--steps", 1, "--samples", 10, "-q")
    rows = _cells(lanpaint("bench", "digits:box, gaussian", *settings).out)
    assert rows[0] == ["target", "method", "solver", "NFE", "psnr", "floor", "seconds"]
    assert [row[:3] for row in rows[2:4]] == [["digits:box", "replace", "euler"], ["gaussian", "replace", "euler"]]
    assert [row[2] for row in rows[4:]] == ["own", "own"]
    assert [row[4].startswith("kl ") for row in rows[2:]] == [False, True, False, True]


def test_a_trial_leaves_the_real_results_alone_and_a_line_cut_short_is_told(lanpaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.YAML").write_text("{target: gaussian, method: replace, steps: [3, 4], samples: 20}")
    lanpaint("bench", "g.YAML", "-q")
    before = (tmp_path / "g.jsonl").read_text()
    assert "g.trial.jsonl" in lanpaint("bench", "g.YAML", "--trial", "-q").err
    assert (tmp_path / "g.jsonl").read_text() == before
    (tmp_path / "g.jsonl").write_text(before + before[:70])
    assert "the last line of g.jsonl is incomplete and left out" in lanpaint("report", "g.jsonl").err


def test_dynamics_are_compared_in_a_table_and_a_picture(lanpaint, tmp_path):
    settings = ("--steps", 3, "--inner-steps", "1,3", "--samples", 200, "--quiet")
    done = lanpaint("bench", "gaussian", "--dynamics", "all", *settings, "-o", tmp_path / "kl.png")
    head, _, *rows = _cells(done.out)
    assert head == ["inner_steps", "dynamics", "NFE", "kl", "floor", "seconds"]
    names = ["langevin", "fld", "ou", "hfhr", "lml", "baoab", "obabo", "ubu", "secant", "refresh"]
    assert [row[1] for row in rows if row[0] == "1"] == names
    evaluations = {(row[1] == "lml", int(row[0]), int(row[2])) for row in rows}
    assert evaluations == {(False, 1, 6), (False, 3, 12), (True, 1, 9), (True, 3, 21)}  # lml has two in a step
    assert all(float(row[3]) > 0 for row in rows)
    assert np.array(Image.open(tmp_path / "kl.png")).std() > 10


def test_solvers_are_compared_and_a_divergence_stops_nothing(lanpaint):
    arguments = ("bench", "gaussian", "--solver", "all", "--steps", 4, "--inner-steps", 2, "--samples", 200, "--json")
    rows = [json.loads(line) for line in lanpaint(*arguments).out.splitlines()]
    multistep = ["2m", "3m", "dpm2m", "dpm3m", "pndm", "unipc2", "unipc3"]
    assert [row["settings"]["solver"] for row in rows] == ["euler", "ddim", "ddpm", "heun", *multistep]
    assert [row["nfe"] for row in rows] == [12, 12, 12, 12 + 3] + [12] * 7  # Heun's last step is Euler's
    assert len({row["figures"]["kl"] for row in rows}) == 4  # with inner steps every multistep solver is Euler
    fierce = ("bench", "gaussian", "--dynamics", "langevin,ou", "--step-size", 3, "--samples", 200, "--inner-steps", 20)
    _, _, langevin, ou = _cells(lanpaint(*fierce, "-q").out)
    assert (langevin[0], langevin[2]) == ("langevin", "diverged")
    assert (ou[0], ou[1]) == ("ou", "420")
    assert float(ou[2]) > 0


def test_a_file_of_grids_is_run_once_and_reported(lanpaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(
        "- {title: Steps, target: [gaussian, ring], method: [replace, lanpaint], steps: [2, 4], samples: 200, "
        "seed: [0, 1]}\n"
        "- {title: Images, target: ['digits:box', 'digits:half'], method: [replace, lanpaint], steps: 2, samples: 10}\n"
    )
    first = lanpaint("bench", "study.yaml", "-q")
    assert len(first.out.splitlines()) == 2 + 16 + 4
    again = lanpaint("bench", "study.yaml", "-q")
    assert again.out == first.out  # seconds too: from the file
    assert len((tmp_path / "study.jsonl").read_text().splitlines()) == 20
    done = lanpaint("report", "study.jsonl", "-o", "out", "--figures", "stray")
    assert done.out == "out/report.md: 20 runs\n"
    text = (tmp_path / "out" / "report.md").read_text()
    for picture in ("steps-gaussian.png", "steps-ring.png", "steps-ring-samples.png"):
        assert f"]({picture})" in text
        assert np.array(Image.open(tmp_path / "out" / picture)).std() > 10
    assert len((tmp_path / "out" / "figures.csv").read_text().splitlines()) == 21
    monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", "study.yaml", "--steps", "3"])
    with pytest.raises(SystemExit):
        main()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("bench", "gaussian", "--steps", "2,3", "-r", "one.png", "-o", "one.png"),
            "--output and --results are one file",
        ),
        (("report", "figures.csv", "-o", "."), "could overwrite the results figures.csv"),
        (("bench", "gaussian", "--option", "seed=3"), "seed is given by --option; give it by --seed"),
        (("bench", "gaussian", "--option", "target=star"), "target is given by --option; name it before the options"),
        (("bench", "gaussian", "--images", "folder"), "the target gaussian takes no images"),
    ],
)
def test_mistakes_are_told_and_the_results_stay_as_they_are(lanpaint, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    lanpaint("bench", "gaussian", "--samples", 50, "--steps", 2, "-r", "figures.csv", "-q")
    before = (tmp_path / "figures.csv").read_text()
    monkeypatch.setattr(sys, "argv", ["lanpaint", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert told in capsys.readouterr().err
    assert (tmp_path / "figures.csv").read_text() == before
