"""The tables of the papers as grids: each runs from its name, end to end, on small real pipelines."""

import sys

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image

from lanpaint.bench import METHODS, Results, Section, expand, make_target, read_grid, run, run_sections
from lanpaint.bench.grid import PAPERS, paper_grid
from lanpaint.bench.latents import LatentTarget
from lanpaint.bench.report import write_report
from lanpaint.cli import main
from lanpaint.noise import NoiseLevel
from tests.adapters import tiny
from tests.metrics.test_networks import published  # noqa: F401

TABLES = sorted(f"papers/{path.stem}" for path in PAPERS.glob("*.yaml"))
PROMPTS = "abcdefghij"  # the tiny tokenizer knows letters
METRICS = {"lpips", "fid", "psnr", "ssim", "mse", "seam"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a pixel model, a latent one and Stable Diffusion, with random weights, for pictures of 32 pixels."""
    folder = tmp_path_factory.mktemp("models")
    unet = tiny.unet2d(channels=3, size=32)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder / "pixel")
    for name, pipe in (("latent", tiny.ldm().pipe), ("text", tiny.with_clip(tiny.sd()).pipe)):
        pipe.unet.register_to_config(sample_size=16)
        pipe.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(10):
        pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 36)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def prompts(tmp_path, monkeypatch):
    """A prompt for each picture, in a file in the folder where the command is started. The rows are not in order."""
    rows = [f"{number}.png,{PROMPTS[number]}" for number in reversed(range(10))]
    (tmp_path / "prompts.csv").write_text("\n".join(["picture,prompt", *rows]))
    monkeypatch.chdir(tmp_path)


def _model_of(name, models):
    kinds = {"papers/alm-1": "text", "papers/lanpaint-2": "pixel", "papers/lml-1": "pixel", "papers/lml-3": "text"}
    return str(models / kinds.get(name, "latent"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_runs_from_its_name(name, models, pictures, published, tmp_path):  # noqa: F811
    sections = read_grid(paper_grid(name), str(pictures), _model_of(name, models), trial=True)
    runs = [settings for section in sections for settings in section.runs]
    # Table 1 with every second method, the others with their last run.
    chosen = list({run.method: run for run in runs}.values())[::2] if name == "papers/lanpaint-1" else runs[-1:]
    few = [Section(sections[0].title, tuple(chosen))]
    results, told = Results(tmp_path / "r.jsonl"), []
    rows = list(run_sections(few, results, notice=told.append))
    assert told == []
    assert len(rows) == sum(len(section.runs) for section in few)
    assert all(row.figures.keys() >= (METRICS - {"seam"}) for row in rows if not row.diverged)
    assert sum(row.diverged is None for row in rows) > len(rows) / 2  # a random network may lead anywhere
    assert all(row.settings.steps == 2 for row in rows)
    if name == "papers/lanpaint-1":
        written = write_report(results, tmp_path / "report", ["lpips", "fid"]).read_text()
        assert "lpips" in written
        assert all(row.settings.method in written for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_every_run_of_a_table_is_one_that_its_method_takes(name, models, pictures):
    """All runs, in full: 1,000 samples of ten pictures are refused, as many as there are pictures are not."""
    model = _model_of(name, models)
    text = yaml.safe_load(paper_grid(name).read_text())
    assert {method for grid in text for method in np.atleast_1d(grid["method"])} <= set(METHODS)
    with pytest.raises(ValueError, match="samples must be at least 10 and at most 10"):
        read_grid(paper_grid(name), str(pictures), model)
    sections = read_grid(paper_grid(name), str(pictures), model, samples=10)
    assert sum(len(section.runs) for section in sections) == {
        "papers/alm-1": 20, "papers/lanpaint-1": 48, "papers/lanpaint-2": 48, "papers/lanpaint-3": 20,
        "papers/lanpaint-4": 23, "papers/lanpaint-5": 4, "papers/lml-1": 60,
        "papers/lml-3": 40,
    }[name]  # fmt: skip


def test_the_settings_of_lanpaint_are_those_of_its_appendix():
    (lanpaint,) = (g for g in yaml.safe_load(paper_grid("papers/lanpaint-1").read_text()) if g["method"] == "lanpaint")
    assert (lanpaint["lam"], lanpaint["friction"], lanpaint["expected_noise"], lanpaint["step_size"]) == (
        8,
        15,
        0,
        0.15,
    )
    assert (lanpaint["steps"], lanpaint["samples"], lanpaint["inner_steps"]) == (20, 1000, [5, 10])


def test_latents_are_masked_and_pictures_are_judged(models, pictures):
    target = make_target(f"{models / 'latent'}:half", str(pictures))
    assert isinstance(target, LatentTarget)
    assert target.known.shape == (16, 16)
    truth = target.draw(10, torch.Generator())
    assert truth.shape == (10, 3, 16, 16)
    vae = target.model.layout.vae
    images = target.images[:10]
    torch.testing.assert_close(truth, vae.encode(images).latents.detach() * vae.config.scaling_factor)
    figures = target.figures(truth, truth, print)
    decoded = vae.decode(vae.encode(images).latents).sample.detach().clamp(-1, 1)
    hole = (decoded - images)[..., 16:].square().flatten(1).mean(1)
    assert figures["psnr"] == pytest.approx(float((10 * torch.log10(4 / hole)).mean()), rel=1e-4)
    settings = expand({"target": target.name, "images": str(pictures), "steps": 2, "inner_steps": 1, "samples": 10})[0]
    row, x = run(settings)
    assert torch.equal(x[..., :8], truth[..., :8])
    assert row.nfe == 4


def test_each_picture_has_its_own_prompt(models, pictures):
    """Two pictures in a batch have the predictions that each has with its own prompt as the prompt of all."""
    name, given = f"{models / 'text'}:nothing-known", {"guidance_scale": 5.0}
    target = make_target(name, str(pictures), prompt="prompts.csv", **given)
    assert target.prompts == list(PROMPTS)
    x, level = torch.randn(2, *target.draw(2, torch.Generator()).shape[1:]), NoiseLevel(0.8, 0.6)
    target.attend([3, 7])
    together = target.score.predict(x, level).denoised
    for row, number in enumerate((3, 7)):
        alone = make_target(name, str(pictures), prompt=PROMPTS[number], **given)
        expected = alone.score.predict(x[row : row + 1], level).denoised
        torch.testing.assert_close(together[row : row + 1], expected, rtol=1e-4, atol=1e-5)
    without = make_target(name, str(pictures), **given).score.predict(x, level).denoised
    assert not torch.allclose(together, without, rtol=1e-3, atol=1e-4)
    swapped = make_target(name, str(pictures), prompt="prompts.csv", **given)
    swapped.attend([7, 3])
    assert not torch.allclose(together, swapped.score.predict(x, level).denoised, rtol=1e-3, atol=1e-4)


def test_fills_of_a_picture_have_its_prompt(models, pictures, monkeypatch):
    target = make_target(f"{models / 'text'}:half", str(pictures), prompt="prompts.csv")
    seen = []
    monkeypatch.setattr(target.model, "read", seen.extend)
    settings = {"target": target.name, "images": str(pictures), "prompt": "prompts.csv", "steps": 1, "fills": 2}
    run(expand(settings | {"method": "replace", "samples": 20})[0])
    assert seen[:20] == [PROMPTS[number // 2] for number in range(20)]


def test_a_picture_without_a_prompt_is_named(models, pictures, tmp_path):
    (tmp_path / "few.csv").write_text("picture,prompt\n0.png,a picture")
    with pytest.raises(ValueError, match=r"few.csv has no prompt for 9 of 10 pictures, such as 1.png; give a row"):
        make_target(f"{models / 'text'}:half", str(pictures), prompt="few.csv")
    with pytest.raises(ValueError, match="takes no prompt for each picture; give one for all"):
        make_target(f"{models / 'latent'}:half", str(pictures), prompt="prompts.csv").attend([0])


def test_the_command_takes_the_name_of_a_table(models, pictures, tmp_path, monkeypatch, capsys):
    path, model = tmp_path / "r.jsonl", str(models / "latent")
    words = [
        "bench",
        "papers/lanpaint-5",
        "--model",
        model,
        "--images",
        str(pictures),
        "--trial",
        "-r",
        str(path),
        "-q",
    ]
    monkeypatch.setattr(sys, "argv", ["lanpaint", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capsys.readouterr().err
    found = [(row.settings.method, dict(row.settings.options), row.settings.step_size) for row in Results(path).rows]
    assert found == [(method, {}, size) for method in ("mcg", "dps") for size in (0.1, 1.0)]
    monkeypatch.setattr(sys, "argv", ["lanpaint", "bench", "gaussian", "--trial"])
    with pytest.raises(SystemExit):
        main()
    assert "--trial is for a grid" in capsys.readouterr().err


def test_the_predictions_of_a_run_may_be_corrected():
    """β = 0 changes nothing, β > 0 something, and neither the number of evaluations."""
    (plain,), (none,), (some,) = (
        expand({"target": "gaussian", "samples": 20, "steps": 4, "method": "replace", **more})
        for more in ({}, {"lml": 0.0}, {"lml": 1.0})
    )
    x, same, other = (run(settings)[1] for settings in (plain, none, some))
    assert torch.equal(x, same)
    assert not torch.equal(x, other)
    assert run(some)[0].nfe == 4


def test_what_is_missing_is_told(models, pictures):
    with pytest.raises(ValueError, match=r"give one .--model"):
        read_grid(paper_grid("papers/lanpaint-3"), str(pictures))
    with pytest.raises(ValueError, match="unknown table papers/lanpaint-9; there are papers/alm-1"):
        paper_grid("papers/lanpaint-9")
    with pytest.raises(ValueError, match="needs images"):
        read_grid(paper_grid("papers/lanpaint-1"), None, str(models / "latent"))
    with pytest.raises(ValueError, match="takes no prompt"):
        make_target(f"{models / 'pixel'}:box", str(pictures), prompt="a cat")
    with pytest.raises(ValueError, match="operator pool2 is one of pixels; give another mask"):
        make_target(f"{models / 'latent'}:pool2", str(pictures))
