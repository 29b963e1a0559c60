"""The neutral benchmark: its pages are made of whatever has finished."""

import json

from docs.studies import neutral
from lanpaint.bench import METHODS, Result, Results, Settings


def _row(section, target, method="replace", steps=60, fills=None, seed=0, **figures):
    settings = Settings(target, method, steps=steps, fills=fills, samples=20, seed=seed)
    ranks = (0.5, 0.5) if fills or steps == 60 else ()
    return Result(settings, figures, {"pit": 0.005}, ("kl",), steps, 2048.0, 1.0, section=section, ranks=ranks)


def test_the_pages_are_made_of_what_has_finished(tmp_path):
    """One method has several budgets and two seeds, another one only 60 evaluations; emoji have not begun."""
    mass = {"mass50": 0.4, "mass90": 0.8, "wrong_mode": 0.1, "width": 1.2, "mmse_gap": 0.1}
    rows = {
        "exact": [
            _row("Exact answers", "gaussian", pit=0.4, **mass),
            _row("Exact answers (more)", "gaussian", seed=1, pit=0.6, **mass),
            _row("Exact answers", "far", pit=0.7, **mass),
            _row("Exact answers", "gaussian", "ddrm", pit=0.03, **mass),
            _row("Exact answers (more)", "gaussian", steps=30, pit=0.55, **mass),
            _row("Few evaluations", "gaussian", steps=4, pit=0.9, **mass),
        ],
        "images": [
            _row("Held-out digits", "digits:box", psnr=11.0, ssim=0.5, seam=0.1, energy=0.2),
            _row("Calibration on digits", "digits:box", fills=5, cover50=0.4, cover90=0.8, spread=0.9, psnr_mean=12.0),
        ],
        "motion": [_row("Held-out movements", "motion:last-half", error=0.3, kernel=0.01, join=1.1)],
    }
    for part, found in rows.items():
        results = Results(tmp_path / f"{part}.jsonl")
        for row in found:
            results.add(row)
    (tmp_path / "cost.json").write_text(json.dumps({name: {"nfe": 30, "ms": 1.5} for name in METHODS}))
    neutral.main(tmp_path, tmp_path / "page")
    tables = (tmp_path / "page" / "tables.md").read_text()
    assert tables.splitlines()[2] == "6 runs on exact targets, 2 on digits, 1 on movements, 0 on emoji."
    sixty = tables.split("## 60 evaluations: KL of the ranks")[1].split("##")[0]
    assert "| replace | 0.5 ± 0.1 | 0.7 |" in sixty
    assert sixty.index("| replace") < sixty.index("| ddrm")  # one with gaps comes last
    assert "| replace | 0.55 |" in tables.split("## 30 evaluations: KL of the ranks")[1].split("##")[0]
    assert "| replace | 0.3 |" in tables.split("## movements, 30 evaluations: error")[1].split("##")[0]
    drawn = {path.stem for path in (tmp_path / "page").glob("*.png")}
    assert drawn == {
        "exact",
        "budget",
        "intervals",
        "ranks",
        "modes",
        "pictures",
        "movements",
        "fills",
        "fill-ranks",
        "cost",
    }


def test_the_pages_can_be_made_before_anything_has_finished(tmp_path):
    (tmp_path / "cost.json").write_text(json.dumps({name: {"nfe": 30, "ms": 1.5} for name in METHODS}))
    neutral.main(tmp_path, tmp_path / "page")
    assert "0 runs on exact targets" in (tmp_path / "page" / "tables.md").read_text()
