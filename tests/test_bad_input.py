"""One test for each kind of bad input that ``make hostile`` has found, and that was cured."""

import json
import resource
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.adapters.loading import load_whole
from lanpaint.bench import Results, expand, read_grid
from lanpaint.bench.report import write_report
from lanpaint.cli.pipelines import parse_settings
from lanpaint.images import read_picture, write_picture
from lanpaint.names import model_folder
from lanpaint.pictures import read_pictures
from lanpaint_toys import Gaussian
from tests.adapters import tiny
from tests.command import run_lanpaint

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
        with warnings.catch_warnings():
            status, _, err = run_lanpaint(monkeypatch, capsys, *arguments)
        return status, err

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
    "a part of Python's own library": (
        lambda folder: _rewritten(folder / "model_index.json", unet=["os", "system"]),
        "its unet comes from os, which has no models",
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
    spoil, message = WRONG[name]
    tiny.with_clip(tiny.sd()).pipe.save_pretrained(tmp_path / "sd")
    spoil(tmp_path / "sd")
    with pytest.raises(ValueError, match=f"cannot load '.*sd' as a diffusers pipeline: .*{message}"):
        load_whole(str(tmp_path / "sd"), torch.float32)


# Python


TARGET = Gaussian(mean=[0.0, 0.0], cov=[[1.0, 0.8], [0.8, 1.0]])
OBSERVATION = lp.Observation(torch.zeros(3, 2), torch.tensor([True, False]))


@pytest.mark.parametrize(
    "noise", [lambda x: x[0], lambda x: None, lambda x: 0.5, lambda x: x.numpy(), lambda x: x.to(torch.complex64)]
)
@pytest.mark.parametrize("method", [lp.LanPaint, lp.RePaint, lp.DDRM])
def test_noise_that_is_no_noise_of_the_state_is_told(method, noise):
    with pytest.raises(ValueError, match=r"noise must return .* of its argument's shape and device, \(3, 2\)"):
        method(TARGET, steps=2)(OBSERVATION, noise=noise)


@pytest.mark.parametrize("noise", [3, "noise", torch.zeros(3, 2), lp.NormalNoise])
def test_noise_that_is_no_function_is_told_in_one_line(noise):
    with pytest.raises(TypeError, match="noise must be a function") as caught:
        lp.LanPaint(TARGET, steps=2)(OBSERVATION, noise=noise)
    assert len(str(caught.value).splitlines()) == 1


def test_noise_in_double_precision_leaves_the_state_in_single():
    x = lp.LanPaint(TARGET, steps=2)(OBSERVATION, noise=lambda x: torch.ones(x.shape, dtype=torch.float64))
    assert x.dtype == torch.float32
    assert torch.equal(x, lp.LanPaint(TARGET, steps=2)(OBSERVATION, noise=torch.ones_like))


@pytest.mark.parametrize("verb", ["begin", "enter", "refine", "advance", "finish"])
@pytest.mark.parametrize("answer", [None, torch.zeros(3, 2)])
def test_a_sampler_of_one_s_own_that_returns_no_state_is_told_by_its_function(verb, answer):
    mine = type("Mine", (lp.LanPaint,), {verb: lambda self, *given: answer})
    with pytest.raises(TypeError, match=rf"Mine\.{verb} must return a SamplerState, got"):
        mine(TARGET, steps=2, inner_steps=1)(OBSERVATION)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda state: state.x, "must return a State, got Tensor"),
        (lambda state: None, "must return a State, got NoneType"),
        (lambda state: lp.State(state.x[:, :1]), "must keep the shape, dtype and device of x"),
        (lambda state: lp.State(state.x.double()), "must keep the shape, dtype and device of x"),
        (lambda state: lp.State("x"), "a state whose x is a tensor, got str"),
    ],
)
def test_a_dynamics_of_one_s_own_that_returns_another_state_is_told(answer, message):
    mine = type("Mine", (lp.Langevin,), {"step": lambda self, state, drift, noise: answer(state)})
    with pytest.raises((TypeError, ValueError), match=message):
        lp.LanPaint(TARGET, steps=2, dynamics=mine())(OBSERVATION)


def test_a_solver_whose_init_returns_no_state_is_told():
    mine = type("Mine", (lp.Euler,), {"init": lambda self, x, steps: None})
    with pytest.raises(TypeError, match="a solver's init must return a SolverState, got NoneType"):
        lp.LanPaint(TARGET, steps=2, solver=mine())(OBSERVATION)


def test_a_callback_that_asks_for_something_else_than_to_stop_is_told():
    mine = type("Mine", (lp.Callback,), {"on_inner_end": lambda self, sampler, state: "stop"})
    with pytest.raises(TypeError, match=r"on_inner_end of Mine must return None, Stop\.LEVEL or Stop\.RUN, got 'stop'"):
        lp.LanPaint(TARGET, steps=2, callbacks=[mine()])(OBSERVATION)


@pytest.mark.parametrize("value", ["3", None, [1.0, 2.0], 1j, torch.zeros(2), object()])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda v: lp.LanPaint(TARGET, lam="" if v is None else v), "lam"),
        (lambda v: lp.LanPaint(TARGET, step_size=[] if v is None else v), "step_size"),
        (lambda v: lp.DDRM(TARGET, eta=v), "eta"),
        (lambda v: lp.TwistedSMC(TARGET, threshold=v), "threshold"),
        (lambda v: lp.CoPaint(TARGET, regularization=v), "regularization"),
        (lp.FastLangevin, "friction"),
        (lambda v: lp.Underdamped(mass=v), "mass"),
        (lp.SecantLangevin, "growth"),
        (lp.DDIM, "eta"),
        (lp.VE, "sigma_min"),
        (lp.Flow, "shift"),
        (lp.Karras, "rho"),
        (lp.EarlyStop, "threshold"),
        (lambda v: lp.GuidedScore(TARGET, TARGET, v), "scale"),
        (lambda v: lp.Observation(torch.zeros(3, 3), torch.tensor(True), jitter=v), "jitter"),
    ],
)
def test_what_is_no_number_is_told_by_the_name_of_the_argument(make, name, value):
    with pytest.raises(TypeError, match=rf"{name}.* must be a number, got ") as caught:
        make(value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", ["3", None, [1.0, 2.0], 1j, torch.zeros(3, dtype=torch.complex64), object()])
def test_noise_that_is_neither_a_number_nor_a_tensor_of_real_numbers_is_told(value):
    with pytest.raises(TypeError, match=r"noise must be a number( or a dense floating-point tensor)?, got ") as caught:
        lp.Observation(torch.zeros(3, 3), torch.tensor(True), noise=value)
    assert len(str(caught.value).splitlines()) == 1


def test_levels_from_numbers_are_exact_to_double_precision():
    assert float(lp.VE().level(0.1).sigma) == 0.002 * 40_000**0.1
    assert float(lp.Flow().level(0.1).sigma) == 0.1


@pytest.mark.parametrize("dtype", ["float16", torch.int32, 3])
def test_a_dtype_that_is_none_is_told(dtype):
    for make in (
        lambda: lp.NetworkScore(lambda x, time: x, "epsilon", lp.VP.linear(), dtype=dtype),
        lambda: load_pixel_model(model_folder("digits"), dtype=dtype),
    ):
        with pytest.raises(TypeError, match=r"dtype must be a floating-point torch\.dtype such as torch\.float16"):
            make()


@pytest.mark.parametrize("shape", [(), (0, 2), (-1, 2), (2.5, 2), "ab", (10**12, 10**6)])
def test_a_shape_that_is_none_is_told(shape):
    with pytest.raises((ValueError, TypeError), match="shape"):
        lp.LanPaint(TARGET, steps=2)(shape)


def test_pictures_that_cannot_be_read_or_written_are_told(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "in.png")
    closed = Image.open(tmp_path / "in.png")
    closed.close()
    with pytest.raises(ValueError, match="image cannot be read"):
        read_pictures(closed)
    for given in (torch.zeros(8, 8).to_sparse(), torch.empty(8, 8, device="meta")):
        with pytest.raises(TypeError, match="image must be a dense tensor"):
            read_pictures(given)
    for path in (3, None):
        with pytest.raises(TypeError, match="must be a path, got"):
            read_picture(path)
    for pixels in (torch.zeros(1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8), None):
        with pytest.raises(ValueError, match="pixels must be a uint8 tensor"):
            write_picture(tmp_path / "out.png", pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt=3", "give it by --prompt"),
        ("num_images_per_prompt=2", "give it by --count"),
        ("output_type=latent", "the command line sets it"),
        ("eta=NaN", "must be a finite number"),
    ],
)
def test_an_argument_of_a_pipeline_that_has_a_flag_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        parse_settings([text])


@pytest.mark.parametrize("pipe", [None, 3, lp.LanPaint, torch.nn.Linear(2, 2)])
def test_what_is_no_pipeline_is_told_in_one_line(pipe):
    with pytest.raises(TypeError, match="pipe must be a pipeline of diffusers") as caught:
        lp.Inpainter(pipe)
    assert len(str(caught.value).splitlines()) == 1


def test_the_command_is_interrupted_quietly_while_it_loads():
    code = (
        "import builtins, sys\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'torch': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "import lanpaint_command\n"
        "lanpaint_command.main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (130, "lanpaint: interrupted\n")
