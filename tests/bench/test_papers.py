"""The tables of the papers as grids: each runs from its name, end to end, on small real pipelines."""

import gc
import sys
import weakref

import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image

import lanpaint as lp
from lanpaint.adapters.latents import LatentLayout
from lanpaint.bench import METHODS, Results, Section, expand, make_target, read_grid, run, run_sections
from lanpaint.bench.grid import PAPERS, paper_grid
from lanpaint.bench.latents import LatentTarget
from lanpaint.bench.report import write_report
from lanpaint.cli import main
from lanpaint.names import make_solver
from lanpaint.noise import NoiseLevel
from tests.bench.stand_ins import SIDE, Saved
from tests.metrics.test_networks import published  # noqa: F401

TABLES = sorted(f"papers/{path.stem}" for path in PAPERS.glob("*.yaml"))
PIXELS, LATENT = "google/ddpm-cifar10-32", "CompVis/ldm-celebahq-256"
TEXT, FLUX, QWEN = "stable-diffusion-v1-5/stable-diffusion-v1-5", "black-forest-labs/FLUX.1-dev", "Qwen/Qwen-Image"
PROMPTS = "abcdefghij"  # the tiny tokenizer knows letters
METRICS = {"lpips", "fid", "psnr", "ssim", "mse", "seam"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small models in the place of the published ones."""
    return Saved(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Flux and Qwen-Image do not say the size of their pictures."""
    monkeypatch.setattr(LatentLayout, "native_side", SIDE)


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


def _sections(name, models, pictures, tmp_path, **how):
    """The sections of a table, with small models. What the table says of them stays, as do its models if it has any."""
    path = tmp_path / "table.yaml"
    path.write_text(models.of(paper_grid(name).read_text()))
    own = {"papers/lanpaint-2": PIXELS}.get(name, LATENT) if name.startswith("papers/lanpaint") else None
    return read_grid(path, str(pictures), own and models[own], **how)


def _chosen(name, runs):
    """Few runs of a table: of some, one of each method or model; of the others, the last one."""
    if name == "papers/lanpaint-1":
        return list({run.method: run for run in runs}.values())[::2]
    if name == "papers/alm-1":
        return [run for run in runs if "iterations" in dict(run.options)][:1]
    if name == "papers/alm-2":
        return list({run.target: run for run in runs if run.target.endswith("box")}.values())[:3]
    return runs[-1:]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_runs_from_its_name(name, models, pictures, published, tmp_path):  # noqa: F811
    sections = _sections(name, models, pictures, tmp_path, trial=True)
    chosen = _chosen(name, [settings for section in sections for settings in section.runs])
    few = [Section(sections[0].title, tuple(chosen))]
    results, told = Results(tmp_path / "r.jsonl"), []
    rows = list(run_sections(few, results, notice=told.append))
    assert told == []
    assert len(rows) == len(chosen) > 0
    wanted = METRICS - {"seam"} | ({"lpips_pasted", "mse_pasted", "ssim_pasted"} if "alm" in name else set())
    assert all(row.figures.keys() >= wanted for row in rows if not row.diverged)
    assert sum(row.diverged is None for row in rows) > len(rows) / 2  # a random network may lead anywhere
    assert all(row.settings.steps == 2 and dict(row.settings.options).get("iterations", 1) <= 2 for row in rows)
    if name == "papers/lanpaint-1":
        written = write_report(results, tmp_path / "report", ["lpips", "fid"]).read_text()
        assert "**LPIPS**" in written
        assert all(row.settings.method in written for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_every_run_of_a_table_is_one_that_its_method_takes(name, models, pictures, tmp_path):
    """All runs, in full: 1,000 samples of ten pictures are refused, as many as there are pictures are not."""
    text = yaml.safe_load(paper_grid(name).read_text())
    assert {method for grid in text for method in np.atleast_1d(grid["method"])} <= set(METHODS)
    with pytest.raises(ValueError, match="samples must be at least 10 and at most 10"):
        _sections(name, models, pictures, tmp_path)
    sections = _sections(name, models, pictures, tmp_path, samples=10)
    assert sum(len(section.runs) for section in sections) == {
        "papers/alm-1": 30, "papers/alm-2": 12, "papers/lanpaint-1": 48, "papers/lanpaint-2": 48,
        "papers/lanpaint-3": 20, "papers/lanpaint-4": 23, "papers/lanpaint-5": 4, "papers/lml-1": 96,
        "papers/lml-3": 64, "papers/lml-5": 84,
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


@pytest.mark.parametrize(("name", "unipc"), [("papers/lml-1", "unipc3"), ("papers/lml-3", "unipc2")])
def test_the_tables_of_lml_have_all_of_its_solvers_with_equal_evaluations(name, unipc):
    """DDIM, PNDM, DPM-Solver, DPM-Solver++ and UniPC: the columns of the paper are numbers of evaluations."""
    plain, corrected = yaml.safe_load(paper_grid(name).read_text())
    assert plain["solver"] == ["euler", "pndm", "dpm3m", "3m", unipc]
    levels = lp.uniform_time(lp.VP.linear(), 7)
    assert all(sum(make_solver(solver).evaluations(levels)) == 7 for solver in plain["solver"])
    assert (corrected["solver"], corrected["steps"]) == ("3m", plain["steps"])


def test_latents_are_masked_and_pictures_are_judged(models, pictures):
    target = make_target(f"{models[LATENT]}:half", str(pictures))
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
    name, given = f"{models[TEXT]}:nothing-known", {"guidance_scale": 5.0}
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
    target = make_target(f"{models[TEXT]}:half", str(pictures), prompt="prompts.csv")
    seen = []
    monkeypatch.setattr(target.model, "read", seen.extend)
    settings = {"target": target.name, "images": str(pictures), "prompt": "prompts.csv", "steps": 1, "fills": 2}
    run(expand(settings | {"method": "replace", "samples": 20})[0])
    assert seen[:20] == [PROMPTS[number // 2] for number in range(20)]


def test_a_picture_without_a_prompt_is_named(models, pictures, tmp_path):
    (tmp_path / "few.csv").write_text("picture,prompt\n0.png,a picture")
    with pytest.raises(ValueError, match=r"few.csv has no prompt for 9 of 10 pictures, such as 1.png; give a row"):
        make_target(f"{models[TEXT]}:half", str(pictures), prompt="few.csv")
    with pytest.raises(ValueError, match="takes no prompt for each picture; give one for all"):
        make_target(f"{models[LATENT]}:half", str(pictures), prompt="prompts.csv").attend([0])


def test_the_command_takes_the_name_of_a_table(models, pictures, tmp_path, monkeypatch, capsys):
    path, model = tmp_path / "r.jsonl", models[LATENT]
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
        read_grid(paper_grid("papers/lanpaint-1"), None, models[LATENT])
    with pytest.raises(ValueError, match="takes no prompt"):
        make_target(f"{models[PIXELS]}:box", str(pictures), prompt="a cat")
    with pytest.raises(ValueError, match="operator pool2 is one of pixels; give another mask"):
        make_target(f"{models[LATENT]}:pool2", str(pictures))


def test_the_steps_of_alm_are_guided_and_its_updates_are_not(models, pictures):
    """A run is that of a sampler with two scores, built here from the U-Net and the encoded prompts."""
    made = {"target": f"{models[TEXT]}:half", "images": str(pictures), "prompt": "a", "guidance_scale": 7.5}
    made |= {"method": "alm", "w1": 1.0, "w2": 0.1, "steps": 2, "samples": 10}
    row, x = run(expand(made)[0])
    target = make_target(made["target"], made["images"], prompt="a", guidance_scale=7.5)
    pipe = target.model.layout.pipe

    def score(prompt):
        embeds = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        return lp.NetworkScore(
            lambda x, time: pipe.unet(x, time, embeds.expand(len(x), -1, -1)).sample, "epsilon", target.score.schedule
        )

    conditional, truth = score("a"), target.draw(10, torch.Generator())
    guided = lp.GuidedScore(conditional, score(""), 7.5)

    def alm(model, unguided):
        sources = target.generators(0, 0, 10, torch.Generator())
        return lp.ALM(model, w2=0.1, steps=2, unguided=unguided)(target.observation(truth), generator=sources)

    torch.testing.assert_close(x, alm(guided, conditional), rtol=1e-4, atol=1e-4)
    for other in (alm(guided, guided), alm(conditional, conditional)):
        assert (x - other).abs().max() > 0.01
    assert row.nfe == 2 * 3 + 2  # two of an update and one of a step, and the inversion


@pytest.mark.parametrize("name", [FLUX, QWEN])
def test_packed_latents_are_those_of_the_pipeline(name, models, pictures):
    """What the pipeline unpacks and decodes is what the benchmark decodes; and the known cells are known in all."""
    target = make_target(f"{models[name]}:half", str(pictures))
    model, pipe = target.model, target.model.layout.pipe
    latents, config = target.draw(2, torch.Generator()), pipe.vae.config
    cells = pipe._unpack_latents(latents, SIDE, SIDE, pipe.vae_scale_factor)
    if name == FLUX:
        images = pipe.vae.decode(cells / config.scaling_factor + config.shift_factor).sample
    else:
        mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
        images = pipe.vae.decode(cells * std + mean).sample[:, :, 0]
    torch.testing.assert_close(model.decode(latents), images.detach().clamp(-1, 1))
    known = pipe._unpack_latents(target.known[None].float(), SIDE, SIDE, pipe.vae_scale_factor)
    assert torch.equal(known.squeeze().bool(), target.cells.expand(model.cells))
    assert target.cells[:, :8].all()
    assert not target.cells[:, 8:].any()


@pytest.mark.parametrize("name", [FLUX, QWEN])
def test_a_flow_visits_the_shifted_times_of_its_pipeline(name, models, pictures):
    score = make_target(f"{models[name]}:half", str(pictures)).score
    scheduler = DiffusionPipeline.from_pretrained(models[name]).scheduler
    config = scheduler.config
    bounds = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
    scheduler.set_timesteps(sigmas=[1.0, 0.6, 0.2], mu=calculate_shift(64, *bounds))
    shifted = score.schedule._shifted(torch.tensor([1.0, 0.6, 0.2]))
    torch.testing.assert_close(shifted, scheduler.sigmas[:3])
    assert shifted[1] > 0.65


def test_a_weight_of_guidance_has_the_name_that_its_pipeline_guides_by(models, pictures):
    """FLUX.1-dev takes it as an input; Qwen-Image guides away from a blank prompt; without one it does not guide."""
    weights = [None, 1.0, 4.0]
    flux, qwen = (
        [make_target(f"{models[name]}:half", str(pictures), guidance_scale=weight).score for weight in weights]
        for name in (FLUX, QWEN)
    )
    assert [score.network.request.embedded for score in flux] == [1.0, 1.0, 4.0]
    assert [score.network.request.scale for score in flux] == [None] * 3
    assert [score.network.request.scale for score in qwen] == [None, None, 4.0]
    x, level = torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(0)), NoiseLevel(0.4, 0.6)
    guided, unguided, plain = (score.predict(x, level).denoised for score in (qwen[2], qwen[2].unguided, qwen[0]))
    torch.testing.assert_close(unguided, plain)
    assert not torch.allclose(guided, plain, atol=1e-4)
    assert flux[2].unguided is flux[2]


def test_figures_of_pasted_pictures_are_those_with_the_known_pixels_in_place(models, pictures):
    """Far from the hole pixels are the truth's, in it they are the decoder's, and between them there is a ramp."""
    target = make_target(f"{models[TEXT]}:half", str(pictures))
    truth = target.draw(10, torch.Generator())
    figures = target.figures(truth, truth, lambda line: None)
    decoded, images = target.model.decode(truth), target.images[:10]
    share = torch.ones(SIDE)  # of the decoder, by column: the hole begins at 16
    share[:16] = torch.arange(-5, 11).clamp(min=0) / 11
    error = (share * (decoded - images)).square().flatten(1).mean(1)
    assert figures["mse_pasted"] == pytest.approx(float(error.mean()), rel=1e-4)
    assert figures["mse_pasted"] < figures["mse"]
    assert figures["ssim_whole_pasted"] > figures["ssim_whole"]
    assert not {"psnr_pasted", "seam_pasted", "fid_pasted"} & figures.keys()
    nothing = make_target(f"{models[TEXT]}:nothing-known", str(pictures)).figures(truth, truth, lambda line: None)
    assert not [name for name in nothing if "pasted" in name]


def test_a_pipeline_may_be_in_half_precision(models, pictures):
    name, x, level = f"{models[TEXT]}:half", torch.randn(2, 4, 16, 16), NoiseLevel(0.8, 0.6)
    full, half = (make_target(name, str(pictures), dtype=dtype).score for dtype in ("float32", "bfloat16"))
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    found, expected = half.predict(x, level).denoised, full.predict(x, level).denoised
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.03 * expected.abs().max()  # eight bits
    settings = {"target": name, "images": str(pictures), "samples": 10}
    assert [run.dtype for run in expand(settings | {"dtype": ["float32", "float16"]})] == [None, "float16"]
    with pytest.raises(ValueError, match="unknown dtype 'float64'; expected one of float32, float16, bfloat16"):
        expand(settings | {"dtype": "float64"})
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, bfloat16, got 'float8'"):
        make_target(name, str(pictures), dtype="float8")
    with pytest.raises(ValueError, match="the target digits takes no dtype; leave dtype out"):
        make_target("digits:box", dtype="float16")


def test_one_pipeline_is_held_for_all_its_targets(models, pictures):
    """Several of them would not fit: those of ALM's Table 2 are 2 to 57 GB."""
    box, half = (make_target(f"{models[LATENT]}:{mask}", str(pictures)) for mask in ("box", "half"))
    assert box.model.layout.pipe is half.model.layout.pipe
    assert make_target(f"{models[LATENT]}:half", str(pictures)) is half
    network = weakref.ref(box.model.layout.pipe.unet)
    del box, half
    make_target(f"{models[TEXT]}:half", str(pictures))
    gc.collect()
    assert network() is None
