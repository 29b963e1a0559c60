"""Meshes that are read, refused and written."""

import sys

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from lanpaint import texture

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "box.obj"
    trimesh.creation.box().export(path)
    return path


def written(tmp_path, text, name="mesh.obj"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_mesh_without_charts_gets_them(box):
    mesh = texture.read_mesh(box)
    assert mesh.faces.shape == (12, 3)
    assert mesh.uv.shape == (12, 3, 2)
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1


def test_charts_of_the_file_are_kept(tmp_path):
    text = SQUARE + "vt 0.1 0.1\nvt 0.9 0.1\nvt 0.9 0.8\nvt 0.1 0.8\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    mesh = texture.read_mesh(written(tmp_path, text))
    order = np.lexsort(mesh.uv[0].T)
    assert np.allclose(mesh.uv[0][order], [[0.1, 0.1], [0.9, 0.1], [0.9, 0.8]])
    assert np.allclose(mesh.vertices[mesh.faces[0]][order][:, :2], [[0, 0], [1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("coordinates", "why"),
    [
        ("vt 0.1 0.1\nvt 0.9 0.1\nvt 0.1 0.8\nvt 0.1 0.8\n", "lie on other charts"),  # both triangles in one place
        ("vt 0.1 0.1\nvt 3 0.1\nvt 3 0.8\nvt 0.1 0.8\n", "the texture repeats"),
        ("vt 0.1 0.1\nvt 0.1 0.1\nvt 0.1 0.1\nvt 0.1 0.1\n", "lie on other charts"),
    ],
)
def test_charts_with_two_points_of_the_surface_in_one_place_are_replaced(tmp_path, coordinates, why):
    faces = (
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/2\n" if "0.1 0.8\nvt 0.1 0.8" in coordinates else "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    with pytest.warns(UserWarning, match=why):
        mesh = texture.read_mesh(written(tmp_path, SQUARE + coordinates + faces))
    assert texture.Surface(mesh, 32).chart.mean() > 0.3


def test_the_parts_of_a_scene_become_one_mesh_where_they_stand(tmp_path):
    path = tmp_path / "scene.glb"
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box())
    scene.add_geometry(trimesh.creation.box(), transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.export(path)
    mesh = texture.read_mesh(path)
    assert len(mesh.faces) == 24
    assert np.ptp(mesh.vertices[:, 0]) == pytest.approx(6)


def test_z_up_is_turned_to_y_up(tmp_path):
    path = tmp_path / "tall.stl"
    trimesh.creation.box(extents=(1, 2, 6)).export(path)
    assert np.allclose(np.ptp(texture.read_mesh(path, up="z").vertices, axis=0), [1, 6, 2])
    assert np.allclose(np.ptp(texture.read_mesh(path).vertices, axis=0), [1, 2, 6])


def test_faces_without_an_area_are_left_out_with_a_note(tmp_path):
    with pytest.warns(UserWarning, match="1 of 3 faces have no area"):
        mesh = texture.read_mesh(written(tmp_path, SQUARE + "f 1 2 3\nf 1 3 4\nf 1 1 2\n"))
    assert len(mesh.faces) == 2


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_unit_of_length_does_not_matter(scale):
    made = trimesh.creation.box()
    mesh = texture.with_charts(made.vertices * scale + 3 * scale, made.faces)
    assert np.linalg.norm(mesh.corners, axis=2).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("points.obj", SQUARE, "no faces"),
        ("empty.obj", "", "faces"),
        ("nan.obj", SQUARE.replace("1 1 0", "nan 1 0") + "f 1 2 3\n", "1 vertices that are not finite"),
        ("line.obj", SQUARE + "f 1 1 2\nf 3 3 3\n", "no face with an area: all 2"),
        ("broken.obj", SQUARE + "f 1 2 9\n", "cannot read"),
        ("broken.glb", "no glb at all", "cannot read"),
        ("broken.stl", "solid nothing", "broken.stl"),
        ("mesh.xyzzy", "", "its ending must be one of"),
    ],
)
def test_what_cannot_be_painted_is_told_in_one_line(tmp_path, name, text, told):
    path = written(tmp_path, text, name)
    with pytest.raises(ValueError, match=told) as raised:
        texture.read_mesh(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_and_a_folder_are_told(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        texture.read_mesh(tmp_path / "nothing.obj")
    with pytest.raises(ValueError, match="is a folder"):
        texture.read_mesh(tmp_path)
    with pytest.raises(ValueError, match="up must be y or z"):
        texture.read_mesh(tmp_path, up="x")


@pytest.mark.parametrize("package", ["trimesh", "xatlas", "embreex.rtcore_scene"])
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, box, package):
    monkeypatch.setitem(sys.modules, package, None)  # an import of it fails
    with pytest.raises(ImportError, match=rf"{package}.*pip install 'lanpaint\[mesh\]'"):
        texture.Surface(texture.read_mesh(box), 16)


def test_a_glb_has_the_mesh_and_the_texture(tmp_path, box):
    mesh, path = texture.read_mesh(box), tmp_path / "new" / "out.glb"
    pixels = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    texture.write_glb(path, mesh, pixels / 127.5 - 1)
    again = texture.read_mesh(path)

    def by_corner(one):
        return np.sort(np.concatenate([one.vertices[one.faces], one.uv], 2).round(5).reshape(-1, 15), axis=0)

    assert np.allclose(by_corner(again), by_corner(mesh), atol=1e-5)
    picture = trimesh.load_scene(path).to_mesh().visual.material.baseColorTexture
    assert (np.asarray(picture.convert("RGB")) == pixels.permute(1, 2, 0).numpy()).all()
    assert isinstance(picture, Image.Image)


def test_a_file_of_another_ending_is_not_written(tmp_path, box):
    with pytest.raises(ValueError, match=r"its ending must be \.glb"):
        texture.write_glb(tmp_path / "out.stl", texture.read_mesh(box), torch.zeros(3, 4, 4))
    assert not list(tmp_path.glob("out*"))


def test_a_texture_too_small_for_the_mesh_is_told():
    tiny = texture.Mesh(np.eye(3), np.array([[0, 1, 2]]), np.array([[[0.01, 0.01], [0.03, 0.01], [0.01, 0.03]]]))
    with pytest.raises(ValueError, match="too small for this mesh"):
        texture.Surface(tiny, 2)
