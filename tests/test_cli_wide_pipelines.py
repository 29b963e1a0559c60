"""``lanpaint wide`` with pipelines of diffusers: pictures and films of several windows, which go on after a kill."""

import numpy as np
import pytest
from PIL import Image

import lanpaint as lp
from lanpaint.painting.media import read_film
from tests.adapters import tiny
from tests.adapters.zoo.video import animatediff
from tests.command import run_lanpaint

FAST = ["--steps", "1", "--inner-steps", "1", "--quiet"]


def _random(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.with_clip(tiny.sd()).pipe.save_pretrained(folder / "sd")
    tiny.with_clip(animatediff()).pipe.save_pretrained(folder / "film")
    return folder


@pytest.fixture
def wide(models, tmp_path, monkeypatch, capsys):
    """Runs the command line in this process; returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(_random(16, 12, 3)).save("photo.png")
    frames = [Image.fromarray(frame) for frame in _random(3, 16, 16, 3)]
    frames[0].save("film.png", save_all=True, append_images=frames[1:], duration=100)

    def run(model, *arguments):
        return run_lanpaint(monkeypatch, capsys, "wide", "--model", models / model, *arguments, *FAST)

    return run


class KilledError(BaseException):
    """Not an Exception, which the command line could tell of."""


def dying_after(monkeypatch, windows):
    """Let a run end after so many windows, as a kill does."""
    call, left = lp.PipelineWindow.__call__, iter(range(windows))

    def dying(self, *args, **kwargs):
        if next(left, None) is None:
            raise KilledError
        return call(self, *args, **kwargs)

    monkeypatch.setattr(lp.PipelineWindow, "__call__", dying)


SIZE = ["photo.png", "--window", 16, "--overlap", 4, "--width", 28, "--height", 16]


def test_a_picture_is_extended_by_its_prompt_and_goes_on_after_a_kill(wide, monkeypatch, tmp_path):
    status, printed, error = wide("sd", *SIZE, "-o", "whole.png", "--prompt", "a cat", "--seed", 3)
    assert (status, error) == (0, "")
    assert printed == "whole.png: 28×16, 57.1% painted, 4 NFE\n"
    whole = np.array(Image.open("whole.png"))
    assert whole.shape == (16, 28, 3)
    assert np.array_equal(whole[:, :12], np.array(Image.open("photo.png")))
    wide("sd", *SIZE, "-o", "dog.png", "--prompt", "a dog", "--seed", 3)
    assert not np.array_equal(np.array(Image.open("dog.png")), whole)
    given = ["sd", *SIZE, "-o", "again.png", "--prompt", "a cat", "--seed", 3, "--state", "run.pt"]
    with monkeypatch.context() as patched:
        dying_after(patched, 1)
        with pytest.raises(KilledError):
            wide(*given)
    assert not (tmp_path / "again.png").exists()
    assert wide(*given)[0] == 0
    assert np.array_equal(np.array(Image.open("again.png")), whole)
    assert not (tmp_path / "run.pt").exists()


FILM = ["film.png", "--frames", 9, "--window", 4, "--overlap", 2]


def test_a_film_is_continued_beyond_the_model_s_frames_and_goes_on_after_a_kill(wide, monkeypatch, tmp_path):
    status, printed, error = wide("film", *FILM, "-o", "frames")
    assert (status, error) == (0, "")
    assert "frames: 9 frames of 16×16, 66.7% painted" in printed
    whole = [np.array(Image.open(path)) for path in sorted((tmp_path / "frames").iterdir())]
    assert len(whole) == 9
    assert np.array_equal(whole[:3], read_film(tmp_path / "film.png", "film").frames.permute(0, 2, 3, 1))
    given = ["film", *FILM, "-o", "film-long.png", "--state", "run.pt"]
    with monkeypatch.context() as patched:
        dying_after(patched, 2)
        with pytest.raises(KilledError):
            wide(*given)
    assert len(list((tmp_path / "run.pt.frames").iterdir())) == 4
    assert wide(*given)[0] == 0
    made = read_film(tmp_path / "film-long.png", "film")
    assert np.array_equal(made.frames.permute(0, 2, 3, 1), whole)
    assert made.rate == pytest.approx(10)
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "film.png", "photo.png", "film-long.png"}


@pytest.mark.parametrize(
    ("model", "arguments", "told"),
    [
        ("sd", ["--width", 28, "--height", 15], "the height must be a multiple of 2 here, got 15; 16 is one"),
        ("sd", ["--width", 28, "--height", 16, "--window", 24], "window (12) is larger than the canvas (8)"),
        (
            "sd",
            ["--width", 28, "--height", 16, "--window", 20],
            "20×20, and StableDiffusionPipeline takes multiples of 8",
        ),
        ("sd", ["--width", 28, "--height", 16, "--window", 16, "--overlap", 16], "overlap must be below the window"),
        ("sd", ["--width", 28, "--height", 16, "--overlap", 3], "--overlap must be a multiple of 2"),
        ("sd", ["--width", 28, "--height", 16, "--order", "average"], "only for pixel models"),
        ("sd", ["--width", 28, "--height", 16, "--set", "steps"], "--set"),
        ("sd", ["--frames", 9], "makes still images"),
        ("film", ["--width", 28, "--height", 16], "makes videos; give --frames"),
        ("film", ["--frames", 3, "--window", 4], "window (4) is larger than the canvas (3)"),
        ("film", ["--frames", 9, "--window", 4, "--overlap", 5], "overlap must be below the window, got 5 of 4"),
        ("film", ["--frames", 9, "--width", 16], "both --width and --height"),
        ("film", ["film.png", "--frames", 2], "the film has 3 frames, more than --frames 2"),
        ("film", ["film.png"], "there is nothing to paint: give more --frames"),
        ("film", ["film.png", "--frames", 9, "--pad", "1,0,0,0"], "leave --pad and --order out"),
    ],
)
def test_what_wide_cannot_do_with_a_pipeline_is_told_in_one_line(wide, tmp_path, model, arguments, told):
    before = set(tmp_path.iterdir())
    status, printed, error = wide(model, *arguments, "-o", "out.png")
    assert status != 0
    assert told in error
    assert error.count("\n") == 1
    assert not printed
    assert set(tmp_path.iterdir()) == before
