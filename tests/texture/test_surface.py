"""What a camera sees of a surface, and how a view reads its texels."""

import numpy as np
import pytest
import trimesh

from lanpaint import texture
from lanpaint.texture.charts import overlap
from lanpaint.texture.filling import filled
from lanpaint.texture.views import depth_picture

SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float)
TWO = np.array([[0, 1, 2], [0, 2, 3]])


def test_the_views_are_those_of_the_paper():
    angles = [(camera.azimuth, camera.elevation) for camera in texture.paper_cameras()]
    assert angles == [*((45.0 * n, 0.0) for n in range(8)), (0.0, 30.0), (180.0, 30.0)]


@pytest.mark.parametrize("camera", [texture.Camera(0), texture.Camera(130, 30), texture.Camera(20, -90)])
def test_what_a_pixel_hits_is_projected_back_to_that_pixel(ball, camera):
    hits = ball.hit(camera, 12, 20)
    points = (hits.weights[:, :, None] * ball.triangles.corners[hits.face]).sum(1)[hits.found]
    row, column, depth = camera.project(points, 12, 20).T
    rows, columns = np.divmod(np.flatnonzero(hits.found), 20)
    assert np.allclose(row, rows, atol=1e-5)
    assert np.allclose(column, columns, atol=1e-5)
    assert np.allclose(depth, hits.distance[hits.found])


def test_azimuth_90_looks_from_the_right_and_elevation_from_above():
    assert np.allclose(texture.Camera(0).position / abs(texture.Camera(0).position).max(), [0, 0, 1])
    assert np.allclose(texture.Camera(90).axes, [[0, 0, -1], [0, 1, 0], [-1, 0, 0]])
    assert texture.Camera(0, 30).position[1] > 0


def test_the_ball_fits_into_every_view(ball):
    for camera in texture.paper_cameras():
        found = ball.hit(camera, 40, 40).found.reshape(40, 40)
        assert not found[[0, -1]].any()
        assert not found[:, [0, -1]].any()
        assert found.mean() > 0.5


def test_pixels_are_means_of_texels_and_those_beside_the_mesh_read_nothing(ball):
    hits = ball.hit(texture.Camera(0), 16, 16)
    sums = ball.reading(hits) @ np.ones(ball.size**2)
    assert np.allclose(sums, hits.found)


def test_a_camera_sees_the_faces_of_a_convex_body_that_are_turned_to_it(ball):
    camera = texture.Camera(70, 20)
    a, b, c = np.moveaxis(ball.triangles.corners[ball.face], 1, 0)
    normal = np.cross(b - a, c - a)
    towards = camera.position - ball.points
    cosine = (normal * towards).sum(1) / np.linalg.norm(normal, axis=1) / np.linalg.norm(towards, axis=1)
    clear = ball.chart & (abs(cosine) > 1e-3)
    assert (ball.seen(camera)[clear] == (cosine > 0)[clear]).all()
    assert (ball.seen(camera, 0.5)[clear] == (cosine >= 0.5)[clear]).all()


def test_what_lies_behind_something_else_is_not_seen():
    plates = np.concatenate([SQUARE, SQUARE / 2 + [0, 0, 0.5]])
    surface = texture.Surface(texture.with_charts(plates, np.concatenate([TWO, TWO + 4])), 64)
    seen = surface.seen(texture.Camera(0))
    rear = surface.chart & (surface.face < 2)
    middle = rear & (abs(surface.points[:, :2]).max(1) < 0.25)
    rim = rear & (abs(surface.points[:, :2]).max(1) > 0.5)
    assert middle.sum() > 10
    assert not seen[middle].any()
    assert seen[rim].all()
    assert seen[surface.face >= 2].all()


def test_nearer_is_brighter_in_the_picture_of_depth_and_the_background_is_black(ball):
    hits = ball.hit(texture.Camera(0), 17, 17)
    near = depth_picture(hits, 17)[0].numpy().reshape(-1)
    assert (near[~hits.found] == 0).all()
    order = np.argsort(hits.distance[hits.found])
    assert (np.diff(near[hits.found][order]) <= 0).all()
    assert near.max() == 1
    assert near[hits.found].min() == pytest.approx(0.1)


def test_unknown_texels_take_the_nearest_point_in_space_across_charts():
    box = trimesh.creation.box()
    surface = texture.Surface(texture.with_charts(box.vertices, box.faces), 48)
    known = surface.chart & (surface.points[:, 0] > 0)
    whole = filled(surface, surface.points.copy(), known)
    lacking = np.flatnonzero(surface.chart & ~known)
    apart = np.linalg.norm(surface.points[known][None] - surface.points[lacking][:, None], axis=2)
    filled_apart = np.linalg.norm(whole[lacking] - surface.points[lacking], axis=1)
    assert np.allclose(filled_apart, apart.min(1))
    beyond = ~surface.chart
    assert (whole[beyond] == whole[surface.nearest[beyond]]).all()


def test_charts_do_not_overlap_and_keep_the_order_of_the_faces():
    made = trimesh.creation.icosphere(subdivisions=2)
    mesh = texture.with_charts(made.vertices, made.faces)
    assert mesh.uv.shape == (len(made.faces), 3, 2)
    assert overlap(mesh.uv) < 0.02
    flat = mesh.uv[:, 1:] - mesh.uv[:, :1]
    solid = mesh.corners[:, 1:] - mesh.corners[:, :1]
    area = abs(np.linalg.det(flat))
    ratio = area / np.linalg.norm(np.cross(solid[:, 0], solid[:, 1]), axis=1)
    assert ratio.max() < 3 * ratio.min()  # each face has its own place, of about its own size


def test_two_faces_in_one_place_of_the_texture_overlap_by_a_half():
    corners = np.array([[[0, 0], [0.6, 0], [0, 0.6]]] * 2)
    assert overlap(corners) == pytest.approx(0.5, abs=0.02)
    assert overlap(corners[:1]) == pytest.approx(0, abs=0.02)
