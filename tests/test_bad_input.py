"""One test for each kind of bad input that ``make hostile`` has found, and that was cured."""

import json
import resource
import signal
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from lanpaint.adapters.loading import load_whole
from lanpaint.bench import Results, expand, read_grid
from lanpaint.bench.report import write_report
from lanpaint.cli import main
from tests.adapters import tiny

ROW = {
    "section": "", "settings": {"target": "gaussian", "steps": 2}, "figures": {"kl": 0.5}, "floors": {"kl": 0.1},
    "merits": ["kl"], "nfe": 4, "diverged": None, "memory": 10.0, "versions": {}, "seconds": 0.1, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def lanpaint(tmp_path, monkeypatch, capsys):
    """Runs the command line in a folder with a picture and a mask; returns its exit status and what it printed."""
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "digit.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lanpaint", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, capsys.readouterr().err

    return run


PAINT = ("inpaint", "digit.png", "mask.png", "-o", "out.png", "--steps", 2, "--inner-steps", 1, "-q")


@pytest.mark.parametrize("name", [name for name in ROW if name != "settings"])
@pytest.mark.parametrize("value", [[1], {"a": {"b": 1}}, 1.5, True])
def test_a_row_of_results_with_a_value_of_another_type_names_the_line_and_the_field(tmp_path, name, value):
    if name in ("memory", "seconds") and value == 1.5:
        value = "much"
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, name: value}) + "\n")
    with pytest.raises(ValueError, match=rf"rows.jsonl, line 2: {name} of a result must be"):
        Results(path)


@pytest.mark.parametrize("content", ["3", "null", '"kl"', "[1]", "{}", "{kl", json.dumps({**ROW, "colour": "red"})])
def test_a_line_that_is_no_result_is_told(tmp_path, content):
    (tmp_path / "rows.jsonl").write_text(content + "\n")
    with pytest.raises(ValueError, match=r"rows.jsonl, line 1: .* result of lanpaint bench"):
        Results(tmp_path / "rows.jsonl")


def test_results_that_are_no_text_are_told(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"rows.jsonl is not a file of results"):
        Results(tmp_path / "rows.jsonl")


def test_a_report_never_replaces_the_results_that_it_reads(tmp_path):
    rows = [{**ROW, "settings": {**ROW["settings"], "steps": steps}} for steps in (2, 3)]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("runs.png", "report.md", "figures.csv"):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="could overwrite the results"):
            write_report(Results(tmp_path / name), tmp_path)
        assert (tmp_path / name).read_text() == content


def test_a_grid_that_never_ends_is_refused(tmp_path):
    values = list(range(1, 40))
    with pytest.raises(ValueError, match="the grid has 2,313,441 runs, and may have 100,000"):
        expand({"target": "gaussian", "steps": values, "inner_steps": values, "lam": values, "step_size": values})
    with pytest.raises(ValueError, match=r"steps must be .* at most 10,000, got 1000000"):
        expand({"target": "gaussian", "steps": 1_000_000})
    with pytest.raises(ValueError, match="target must be a name"):
        expand({"target": None})
    (tmp_path / "grid.yaml").write_text("[]\n")
    with pytest.raises(ValueError, match=r"grid.yaml has no grid"):
        read_grid(tmp_path / "grid.yaml")


@pytest.mark.parametrize(
    ("arguments", "room"),
    [
        (PAINT, 40),
        (("bench", "gaussian", "--steps", 2, "--samples", 50, "-q", "-r", "good.jsonl"), 40),
        (("bench", "gaussian", "--steps", 2, "--samples", 50, "-q", "-r", "good.jsonl"), 600),  # for the samples alone
        (("report", "good.jsonl", "-o", "rep"), 40),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_every_file_as_it_was(lanpaint, tmp_path, arguments, room):
    (tmp_path / "good.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "out.png").write_bytes(b"what was there before")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        status, err = lanpaint(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert status == 1
    assert err.startswith("lanpaint: cannot write ")
    assert len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interruption_is_one_line_and_exit_status_130(lanpaint, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lanpaint.score.NetworkScore.predict", interrupt)
    assert lanpaint(*PAINT) == (130, "lanpaint: interrupted\n")
    assert not (tmp_path / "out.png").exists()


def test_a_warning_is_a_note(lanpaint, tmp_path):
    strokes = np.full((8, 8, 4), 255, np.uint8)
    strokes[4:, :, 3] = 0
    Image.fromarray(strokes).save(tmp_path / "mask.png")
    status, err = lanpaint(*PAINT)
    assert (status, err) == (0, "note: the mask has white strokes on transparency: the strokes are painted\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--inner-steps", 100_000_000), "inner_steps must be a whole number of at least 0 and at most 10,000"),
        (("--levels", ""), "unknown spacing ''"),
        (("--pad", "1000000,0,0,0"), "--pad takes numbers from 0 to 10,000"),
        (("--device", "meta"), "device 'meta' is not available"),
        (("--method", "tds", "--particles", 1_000_000_000, "--steps", 2), "there is not enough memory"),
    ],
)
def test_an_absurd_value_is_one_line(lanpaint, flags, message):
    given = PAINT[:5] + (() if "--method" in flags else PAINT[5:7]) + ("-q",)
    status, err = lanpaint(*given, *flags)
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1


def _rewritten(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _without(path, part):
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    save_file({name: tensor for name, tensor in tensors.items() if part not in name}, path, metadata={"format": "pt"})


WRONG = {
    "weights of the text encoder are missing": (
        lambda folder: _without(folder / "text_encoder" / "model.safetensors", "layers.0"),
        "its text_encoder lacks weights, such as .*layers.0",
    ),
    "weights of the network are missing": (
        lambda folder: _without(folder / "unet" / "diffusion_pytorch_model.safetensors", "up_blocks"),
        "its unet lacks weights, such as up_blocks",
    ),
    "a class that is not there": (
        lambda folder: _rewritten(folder / "model_index.json", _class_name="NoSuchPipeline"),
        "the class 'NoSuchPipeline', which diffusers .* does not have",
    ),
    "a part of no class": (lambda folder: _rewritten(folder / "model_index.json", unet=[]), "a library and a class"),
    "a config that is no object": (
        lambda folder: (folder / "unet" / "config.json").write_text("null"),
        "config.json must be a JSON object",
    ),
    "a value of a wrong type": (
        lambda folder: _rewritten(folder / "scheduler" / "scheduler_config.json", beta_start="low"),
        "its scheduler does not load: a value in its configs is of a wrong type",
    ),
    "NaN among the levels": (
        lambda folder: _rewritten(folder / "scheduler" / "scheduler_config.json", beta_end=float("inf")),
        "its scheduler has NaN among its alphas_cumprod",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_pipeline_s_folder_that_is_wrong_in_a_part_names_the_part(tmp_path, name):
    import torch

    spoil, message = WRONG[name]
    tiny.with_clip(tiny.sd()).pipe.save_pretrained(tmp_path / "sd")
    spoil(tmp_path / "sd")
    with pytest.raises(ValueError, match=f"cannot load '.*sd' as a diffusers pipeline: .*{message}"):
        load_whole(str(tmp_path / "sd"), torch.float32)
