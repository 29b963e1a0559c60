"""``lanpaint texture``: a box, painted by the digits' model and by a small pipeline with a ControlNet."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command import run_lanpaint

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("embreex")

FAST = ["--method", "replace", "--steps", "2", "--quiet"]
DIGITS = ["--model", "digits", *FAST]
TWO = ["--camera", "0,0", "--camera", "120,30"]


def run(monkeypatch, capsys, *arguments):
    """Exit status, and what was printed on the two streams."""
    return run_lanpaint(monkeypatch, capsys, "texture", *arguments)


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "box.obj"
    trimesh.creation.box().export(path)
    return path


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder with a pipeline that has no ControlNet, one with, and a ControlNet alone."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.adapters import tiny

    folder = tmp_path_factory.mktemp("pipeline")
    guided = tiny.with_clip(tiny.sd_controlnet()).pipe
    guided.save_pretrained(folder / "guided")
    guided.controlnet.save_pretrained(folder / "controlnet")
    tiny.with_clip(tiny.sd()).pipe.save_pretrained(folder / "plain")
    return folder


def texture_of(path):
    material = trimesh.load_scene(path).to_mesh().visual.material
    return np.asarray(material.baseColorTexture.convert("RGB"))


def test_a_box_gets_a_texture_and_one_seed_gives_one_texture(monkeypatch, capsys, tmp_path, box):
    made = []
    for name, seed in (("a.glb", 1), ("b.glb", 1), ("c.glb", 2)):
        given = [box, "-o", tmp_path / name, "--seed", seed, "--views", tmp_path / "views", *TWO]
        status, printed, error = run(monkeypatch, capsys, *given, *DIGITS)
        assert status == 0, error
        made.append(texture_of(tmp_path / name))
    assert "2 of 2 views painted" in printed
    assert "4 NFE" in printed
    assert made[0].shape == (16, 16, 3)  # twice the side of a view
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()
    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == ["texture.png", "view-01.png", "view-02.png"]
    assert (np.asarray(Image.open(tmp_path / "views" / "texture.png").convert("RGB")) == made[2]).all()


def test_a_larger_view_is_painted_by_windows(monkeypatch, capsys, tmp_path, box):
    given = [box, "-o", tmp_path / "out.glb", "--side", 14, "--size", 20, "--camera", "0,0", "--background", "black"]
    status, printed, error = run(monkeypatch, capsys, *given, *DIGITS)
    assert status == 0, error
    assert texture_of(tmp_path / "out.glb").shape == (20, 20, 3)
    assert "8 NFE" in printed  # 2 steps of 2×2 windows


@pytest.mark.parametrize("model", [["guided"], ["plain", "--controlnet", "controlnet"]])
def test_a_pipeline_with_a_controlnet_paints_the_views_in_the_depth_of_the_mesh(
    monkeypatch, capsys, tmp_path, box, pipeline, model
):
    import diffusers

    shown = []
    forward = diffusers.ControlNetModel.forward

    def watched(self, *args, controlnet_cond, **options):
        shown.append(controlnet_cond[:1].detach().clone())
        return forward(self, *args, controlnet_cond=controlnet_cond, **options)

    monkeypatch.setattr(diffusers.ControlNetModel, "forward", watched)
    names = [pipeline / part if not part.startswith("--") else part for part in model]
    given = [box, "-o", tmp_path / "out.glb", "--side", 16, "--size", 24, "--prompt", "wood", "--model", *names, *TWO]
    status, printed, error = run(monkeypatch, capsys, *given, *FAST)
    assert status == 0, error
    assert "2 of 2 views painted" in printed
    assert "4 NFE" in printed
    assert np.ptp(texture_of(tmp_path / "out.glb")) > 0
    from lanpaint import texture
    from lanpaint.texture.views import depth_picture

    surface = texture.Surface(texture.read_mesh(box), 24)
    for seen, camera in ((shown[0], texture.Camera(0)), (shown[-1], texture.Camera(120, 30))):
        expected = depth_picture(surface.hit(camera, 16, 16), 16)
        assert torch.allclose(seen.float(), expected.expand(1, 3, -1, -1), atol=1 / 255)


def test_the_settings_of_the_paper_hand_views_on_as_latents(monkeypatch, capsys, tmp_path, box, pipeline):
    import diffusers

    encoded = []
    monkeypatch.setattr(diffusers.AutoencoderKL, "encode", lambda *_, **__: encoded.append(1))
    given = [box, "-o", tmp_path / "out.glb", "--side", 16, "--size", 24, "--latents", 12, *TWO, "--quiet"]
    alm = ["--method", "alm", "--last-share", "0.2", "--steps", 5, "--scheduler", "ddim"]
    prompts = ["--prompt", "wood", "--negative-prompt", "blurry"]
    status, printed, error = run(monkeypatch, capsys, *given, "--model", pipeline / "guided", *alm, *prompts)
    assert status == 0, error
    assert "2 of 2 views painted" in printed
    assert texture_of(tmp_path / "out.glb").shape == (24, 24, 3)
    assert not encoded


def test_what_latents_cannot_be_is_told(monkeypatch, capsys, tmp_path, box, pipeline):
    given = [box, "-o", tmp_path / "out.glb", "--model", pipeline / "guided", *FAST]
    for flags, told in (
        (["--latents", 12, "--side", 15], "the window is 15×15"),
        (["--latents", 12, "--background", "white"], "--background: views of latents have none"),
        (["--latents", 0], "size must be a whole number"),
    ):
        status, _, error = run(monkeypatch, capsys, *given, *flags)
        assert status != 0
        assert told in error
        assert error.count("\n") == 1


BROKEN = {
    "points.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\n",
    "nan.obj": "v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n",
    "line.obj": "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n",
    "text.glb": "this is no GLB",
    "mesh.docx": "",
}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["points.obj"], "no faces"),
        (["nan.obj"], "not finite"),
        (["line.obj"], "no face with an area"),
        (["text.glb"], "cannot read"),
        (["mesh.docx"], "its ending must be one of"),
        (["nothing.obj"], "does not exist"),
        (["BOX", "--camera", "1"], "AZIMUTH,ELEVATION"),
        (["BOX", "--camera", "1,120"], "between -90 and 90"),
        (["BOX", "--camera", "nan,0"], "azimuth must be"),
        (["BOX", "--background", "blueish"], "takes a colour"),
        (["BOX", "--side", "4"], "at least 8"),
        (["BOX", "--side", "0"], "at least 1"),
        (["BOX", "--size", "0"], "size must be a whole number"),
        (["BOX", "--up", "x"], "up must be y or z"),
        (["BOX", "--widest-angle", "100"], "between 0 and 90"),
        (["BOX", "--widest-angle", "0"], "no view of 8×8 pixels shows the surface"),
        (["BOX", "--prompt", "wood"], "only for pipelines"),
        (["BOX", "--controlnet", "nowhere"], "only for pipelines"),
        (["BOX", "--w1", "3"], "replace has no w1"),
        (["BOX", "--model", "nowhere"], "nowhere"),
    ],
)
def test_what_texture_cannot_do_is_told_in_one_line(monkeypatch, capsys, tmp_path, box, arguments, told):
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    mesh = box if arguments[0] == "BOX" else tmp_path / arguments[0]
    out = tmp_path / "out.glb"
    given = ["--camera", "30,0"] if "--camera" not in arguments else []
    status, printed, error = run(monkeypatch, capsys, mesh, "-o", out, *given, *DIGITS, *arguments[1:])
    assert status != 0
    assert told in error
    assert error.count("\n") == 1
    assert not printed
    assert not out.exists()


def test_another_format_is_refused_before_anything_is_read(monkeypatch, capsys, tmp_path):
    status, _, error = run(monkeypatch, capsys, "nothing.obj", "-o", tmp_path / "out.fbx", *DIGITS)
    assert status != 0
    assert "its ending must be .glb" in error
    assert error.count("\n") == 1


def test_the_mesh_is_not_overwritten(monkeypatch, capsys, tmp_path, box):
    path = tmp_path / "mesh.glb"
    trimesh.load_scene(box).export(path)
    before = path.read_bytes()
    status, _, error = run(monkeypatch, capsys, path, "-o", path, *DIGITS)
    assert status != 0
    assert "is the mesh itself" in error
    assert path.read_bytes() == before


def test_a_pipeline_without_depth_control_is_told(monkeypatch, capsys, tmp_path, box, pipeline):
    given = [box, "-o", tmp_path / "out.glb", "--prompt", "wood", "--model", pipeline / "plain"]
    status, _, error = run(monkeypatch, capsys, *given, *FAST)
    assert status != 0
    assert "has no ControlNet, so it cannot follow the depth" in error
    assert "--controlnet" in error
    assert error.count("\n") == 1


def test_what_is_no_controlnet_is_told(monkeypatch, capsys, tmp_path, box, pipeline):
    given = [box, "-o", tmp_path / "out.glb", "--model", pipeline / "plain"]
    for source, told in ((pipeline / "plain" / "unet", "no ControlNet"), (tmp_path / "nothing", "cannot load")):
        status, _, error = run(monkeypatch, capsys, *given, "--controlnet", source, *FAST)
        assert status != 0
        assert told in error
        assert error.count("\n") == 1


def test_a_missing_extra_is_told(monkeypatch, capsys, tmp_path, box):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    status, _, error = run(monkeypatch, capsys, box, "-o", tmp_path / "out.glb", *DIGITS)
    assert status != 0
    assert "pip install 'lanpaint[mesh]'" in error
    assert error.count("\n") == 1
