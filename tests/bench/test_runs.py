"""Runs: what they record, that they repeat themselves, and targets by name."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.bench import Result, Settings, make_target, run
from lanpaint.bench.grid import read_grid
from lanpaint.metrics import mmd
from lanpaint_toys import gauss2
from lanpaint_toys.emoji import PIXEL
from lanpaint_toys.images import load_images
from lanpaint_toys.problems import gaussian_kl

QUICK = {"steps": 3, "inner_steps": 2, "samples": 60}


def test_runs_repeat_themselves():
    settings = Settings("gaussian", seed=7, preset="fast", **QUICK)
    (first, x), (second, again) = (run(settings) for _ in range(2))
    assert torch.equal(x, again)
    assert first.figures == second.figures
    assert not torch.equal(run(Settings("gaussian", seed=8, preset="fast", **QUICK))[1], x)


def test_figures_are_those_of_the_samples_and_floors_those_of_exact_ones():
    row, x = run(Settings("gauss2", samples=3000, steps=2, inner_steps=1))
    truth = gauss2().draw(3000, torch.Generator().manual_seed(0))
    assert torch.equal(x[:, 1], truth[:, 1])
    assert row.settings.target == "gaussian"
    assert row.kl == gaussian_kl(x, gauss2().target)
    assert row.figures["mmd"] == mmd(x, truth).value
    assert row.figures["mmd_p"] < 0.01 < row.floors["mmd_p"]
    assert row.floors["kl"] < 0.01 < row.kl  # 5/(2 · 3000) on average


def test_a_row_survives_json_with_infinite_values_and_a_divergence():
    settings = Settings("star", step_size=3.0, dynamics="langevin", friction=None, samples=50, steps=20)
    row, x = run(settings)
    assert x is None
    assert "lower step_size (η, now 3)" in row.diverged
    assert row.kl == math.inf
    other = run(Settings("gaussian", friction=math.inf, **QUICK))[0]
    for result in (row, other):
        line = result.as_json()
        assert "Infinity" not in line
        assert "NaN" not in line
        back = Result.from_json(line)
        assert back.as_json() == line
        assert back.settings == result.settings
    assert Result.from_json(other.as_json()) == other
    keys = list(json.loads(other.as_json()))
    assert keys.index("figures") < keys.index("versions") < keys.index("seconds") < keys.index("device")


def test_rows_of_older_versions_and_rows_with_further_options_are_read():
    row = run(Settings.of({"target": "gaussian", "method": "ddrm", "eta": 0.3, **QUICK}))[0]
    line = row.as_json()
    assert json.loads(line)["settings"]["eta"] == 0.3
    assert Result.from_json(line) == row
    assert row.settings.options == (("eta", 0.3),)
    assert row.settings != Settings.of({**row.settings.given(), "eta": 0.4})
    assert Settings.of(row.settings.given()) == row.settings
    older = json.loads(run(Settings("gaussian", lam=4.0, **QUICK))[0].as_json())
    older["settings"]["guidance"] = older["settings"].pop("lam")
    assert Result.from_json(json.dumps(older)).settings.lam == 4.0


def test_images_are_compared_with_the_truth_under_the_mask():
    row, x = run(Settings("digits:half", "replace", steps=3, samples=12))
    truth = make_target("digits:half").images[:12]
    assert torch.equal(x[..., :4], truth[..., :4])
    error = (x.clamp(-1, 1) - truth)[..., 4:].square().flatten(1).mean(1)
    psnr = 10 * torch.log10(4 / error)
    assert row.figures["psnr"] == pytest.approx(float(psnr.mean()), rel=1e-5)
    assert row.figures["psnr_error"] == pytest.approx(float(psnr.std()) / 12**0.5, rel=1e-5)
    assert row.merits == ("psnr", "mmd")
    assert row.floors == {}


def test_under_a_soft_mask_the_left_is_kept_and_the_rest_is_freer_to_the_right():
    target = make_target("digits:soft-half")
    assert target.change[0].tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    row, x = run(Settings("digits:soft-half", method="ddnm", steps=8, samples=20))
    truth = target.draw(20, torch.Generator())
    assert torch.equal(x[..., :2], truth[..., :2])
    moved = (x - truth).square().mean((0, 1, 2)) / (truth - truth.mean(0)).square().mean((0, 1, 2))
    assert float(moved[2]) < float(moved[3]) < float(moved[5])
    assert "psnr" in row.figures


def test_images_are_the_same_in_batches_of_any_size():
    target = make_target("digits:box")
    whole, x = run(Settings("digits:box", "lanpaint", **{**QUICK, "samples": 10}))
    batch, target.batch = target.batch, 4
    try:
        parts, y = run(Settings("digits:box", "lanpaint", **{**QUICK, "samples": 10}))
    finally:
        target.batch = batch
    torch.testing.assert_close(x, y, rtol=0, atol=1e-4)
    assert whole.nfe == parts.nfe == 9


def test_memory_grows_with_a_gradient():
    plain, gradient = (run(Settings("digits:box", m, steps=2, samples=10))[0].memory for m in ("replace", "dps"))
    assert gradient > 2 * plain > 2 * 64 * 4


def test_a_problem_of_one_s_own_and_a_mask_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from lanpaint_toys import gauss2\nproblem = lambda: gauss2(0.5)\nother = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    row, _ = run(Settings("mine:problem", samples=50, steps=2))
    assert row.settings.target == "mine:problem"
    with pytest.raises(ValueError, match=r"must return a lanpaint_toys.Problem, got dict"):
        make_target("mine:other")
    with pytest.raises(ValueError, match=r"mine\.py has no 'nothing'; there is problem"):
        make_target("mine:nothing")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:2] = 255
    Image.fromarray(mask).save(tmp_path / "top.png")
    target = make_target(f"digits:{tmp_path / 'top.png'}")
    assert target.known.sum() == 48
    Image.fromarray(mask[:4]).save(tmp_path / "low.png")
    with pytest.raises(ValueError, match="is 8×4 and the images 8×8"):
        make_target(f"digits:{tmp_path / 'low.png'}")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"target": "moon"}, "unknown target 'moon'; expected one of gaussian, star, .* digits:box"),
        ({"target": "digits:nomask"}, "no module 'digits'; for images write MODEL:MASK with a mask of box, half"),
        ({"target": "gaussian", "steps": 0}, "steps must be a whole number of at least 1 and at most 10,000, got 0"),
        ({"target": "gaussian", "steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"target": "gaussian", "lam": "high"}, "lam must be a number, got 'high'"),
        ({"target": "gaussian", "solver": 3}, "solver must be a name, got 3"),
        ({"target": "gaussian", "samples": 3}, "samples must be at least 10 and at most 10,000,000, got 3"),
        ({"target": "gaussian", "seed": -1}, "seed must be from 0"),
        ({"target": "digits:box", "samples": 10_000}, "at most 360, the number of images, got 10000"),
        ({"target": "toy_models/lanpaint_toys/weights/emoji-pixel:box"}, "needs images; give a folder or a zip"),
        ({"target": "digits:box", "images": "x"}, "digits comes with its held-out images"),
    ],
)
def test_mistakes_are_told_before_anything_runs(settings, told):
    with pytest.raises(ValueError, match=told):
        run(Settings(**settings))


def test_the_figures_of_a_gpu_are_those_of_its_allocator(monkeypatch):
    """Its own counters, less what was there before; the tensors are on the CPU here."""
    told = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", told.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7000)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    plain = torch.Tensor.to

    def stay(x, *where, **options):
        return x if where == ("cuda",) else plain(x, *where, **options)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    row, _ = run(Settings("gaussian", **QUICK), device="cuda")
    assert row.memory == 6000 / 60
    assert row.device == "a GPU"
    assert told == ["cuda"]


def test_the_images_of_a_study_may_be_named_beside_it(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(folder / f"{number}.png")
    study = tmp_path / "study.yaml"
    study.write_text(f"target: '{PIXEL}:box'\nsamples: 10\nsteps: 1\nmethod: replace\n")
    with pytest.raises(ValueError, match="needs images"):
        read_grid(study)
    (section,) = read_grid(study, str(folder))
    assert section.runs[0].images == str(folder)


def test_of_emoji_the_held_out_families_are_shown_and_each_one_s_first_before_variants(tmp_path):
    for number in range(80):
        for variant in ("", "_1f3fb", "_1f3fc"):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"emoji_u{0x1F600 + number:x}{variant}.png")
    target = make_target(f"{PIXEL}:half", str(tmp_path))
    held_out = load_images(tmp_path, 32).split()[1]
    few = len(set(held_out.families))
    assert 1 < few < 80
    assert target.most == 3 * few == len(held_out)
    assert len(set(target.families[:few])) == few


def test_exact_answers_are_drawn_with_other_numbers_than_the_questions():
    """Of a seed only the last 32 bits count: with the same numbers the truth itself would come out."""
    target = make_target("star-line")
    truth = target.draw(200, torch.Generator().manual_seed(5))
    floors = target.floors(truth, 5)
    assert floors["energy"] != 0
    assert floors["sliced_wasserstein"] > 0
