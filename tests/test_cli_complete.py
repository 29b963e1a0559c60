"""``lanpaint complete`` with a tiny random network of two channels and windows of eight steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.units import Units
from tests.command import run_lanpaint

FAST = ["--method", "replace", "--steps", "2", "--quiet"]


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    from diffusers import DDIMScheduler, UNet1DModel

    folder = tmp_path_factory.mktemp("sequence")
    torch.manual_seed(0)
    network = UNet1DModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownResnetBlock1D",) * 2, up_block_types=("UpResnetBlock1D",) * 2,
        mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock", time_embedding_type="positional",
        use_timestep_embedding=True, act_fn="mish", norm_num_groups=4,
    )  # fmt: skip
    network.save_pretrained(folder / "unet")
    DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    Units(("left", "right"), (0.0, 5.0), (2.0, 2.0)).save(folder)
    return folder


@pytest.fixture
def run(monkeypatch, capsys, model):
    """Exit status, and what was printed on the two streams."""

    def call(*arguments):
        model_given = [] if "--model" in arguments else ["--model", model]
        return run_lanpaint(monkeypatch, capsys, "complete", *FAST, *arguments, *model_given)

    return call


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    rows = [f"{step / 10},{step},{'' if 5 <= step < 9 else -step}" for step in range(20)]
    path.write_text("time,left,right\n" + "\n".join(rows) + "\n")
    return path


def test_a_csv_is_completed_and_all_else_stays(run, data, tmp_path):
    out = tmp_path / "out.csv"
    status, printed, _ = run(data, "-o", out)
    assert status == 0
    assert printed == f"{out}: 20×2, 10.0% completed\n"
    before, after = (path.read_text().splitlines() for path in (data, out))
    for step, (one, other) in enumerate(zip(before, after, strict=True)):
        if 6 <= step < 10:
            assert other.startswith(one)
            assert np.isfinite(float(other.removeprefix(one)))
        else:
            assert one == other


def test_parts_are_missing_by_name_and_the_file_is_an_array(run, data, tmp_path):
    out = tmp_path / "out.npy"
    assert run(data, "-o", out, "--missing", "last-half", "--missing", "right", "--count", 2)[0] == 0
    made = [np.load(tmp_path / f"out-{n}.npy") for n in (1, 2)]
    assert made[0].shape == (20, 2)
    assert made[0][:10, 0].tolist() == made[1][:10, 0].tolist() == list(range(10))
    assert (made[0][10:] != made[1][10:]).all()
    assert (made[0][:, 1] != made[1][:, 1]).all()


def test_many_sequences_in_an_array(run, tmp_path):
    values = np.arange(48, dtype=np.float32).reshape(2, 12, 2)
    values[1, 3:5] = np.nan
    np.save(tmp_path / "in.npy", values)
    assert run(tmp_path / "in.npy", "-o", tmp_path / "out.npy")[0] == 0
    made = np.load(tmp_path / "out.npy")
    assert made.dtype == np.float32
    assert made[~np.isnan(values)].tobytes() == values[~np.isnan(values)].tobytes()
    assert np.isfinite(made).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--missing", "0:20"], "all values are missing"),
        (["--missing", "middle"], "first-half, middle-half, last-half, steps A:B, or a channel (left, right)"),
        (["--missing", "15:30"], "a sequence of 20"),
        (["--columns", "time,left"], "nothing is missing"),
        (["--columns", "time,middle"], "no column 'middle'; it has time, left, right"),
        (["--columns", "left"], "the model has 2 channels (left, right), and the data 1; give data of these channels"),
        (["--overlap", "8"], "overlap must be below the model's window, got 8 of 8"),
        (["--model", "digits"], "digits is a model of pictures; give motion"),
        (["--model", "nowhere"], "motion"),
        (["--w1", "3"], "replace has no w1"),
        (["--count", "0"], "--count"),
        (["--steps", "0"], "steps"),
    ],
)
def test_what_complete_cannot_do_is_told_in_one_line(run, data, tmp_path, arguments, told):
    out = tmp_path / "out.csv"
    status, printed, error = run(data, "-o", out, *arguments)
    assert status != 0
    assert told in " ".join(error.split())
    assert "Traceback" not in error
    assert not printed
    assert not out.exists()


def test_an_error_is_all_that_is_printed(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros((64, 6)))
    status, printed, error = run_lanpaint(
        monkeypatch, capsys, "complete", tmp_path / "whole.npy", "-o", tmp_path / "out.npy"
    )
    assert (status, printed) == (1, "")
    assert error.startswith("lanpaint: nothing is missing")  # without a bar before it
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["inpaint", "wide"])
def test_a_model_of_sequences_paints_no_pictures(monkeypatch, capsys, tmp_path, command):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    given = (tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "out.png", "--model", "motion")
    status, _, error = run_lanpaint(monkeypatch, capsys, command, *given)
    assert status == 1
    assert error.startswith("lanpaint: motion is a model of sequences; give digits")
    assert error.count("\n") == 1


def test_files_that_do_not_fit_are_told_in_one_line(run, data, tmp_path):
    (tmp_path / "text.csv").write_text("left,right\n1,two\n,\n")
    (tmp_path / "three.csv").write_text("1,2,3\n,,\n")
    for given, out, told in [
        (data, data, "the output"),
        (data, "out.txt", "must end in .csv or .npy"),
        (tmp_path / "none.csv", "out.csv", "is not there"),
        (tmp_path / "text.csv", "out.csv", "'two' in row 2, column right"),
        (tmp_path / "three.csv", "out.csv", "the model has 2 channels (left, right), and the data 3"),
    ]:
        status, _, error = run(given, "-o", out if out == data else tmp_path / out)
        assert status == 1
        assert told in error
        assert error.count("\n") == 1
    assert data.read_text().startswith("time,left,right\n0.0,0,0\n")


def test_data_that_do_not_fit_are_told_before_a_network_is_loaded(run, tmp_path, monkeypatch):
    import lanpaint.adapters.series as series

    def never(*given, **options):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(series, "load_series_model", never)
    (tmp_path / "text.csv").write_text("left,right\n1,two\n,\n")
    status, _, error = run(tmp_path / "text.csv", "-o", tmp_path / "out.csv")
    assert (status, error.count("\n")) == (1, 1)
    assert "'two' in row 2, column right" in error


def test_units_that_cannot_be_read_are_told_with_the_model(run, data, tmp_path, model):
    import shutil

    for text in ("{", "[]", '{"channels": ["a"], "offset": [0], "scale": [1]}', '{"what": 1}'):
        folder = shutil.copytree(model, tmp_path / "copy", dirs_exist_ok=True)
        (folder / "series.json").write_text(text)
        status, _, error = run(data, "-o", tmp_path / "out.csv", "--model", folder)
        assert status == 1
        assert "cannot load" in error
        assert error.count("\n") == 1
