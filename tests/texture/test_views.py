"""The loop over views, and baking: against a texture that is known at each point."""

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint import texture
from tests.texture.conftest import SIDE, SIZE, colour

SAMPLERS = {
    "Replace": lambda score: lp.Replace(score, steps=3),
    "LanPaint": lambda score: lp.LanPaint(score, steps=3, inner_steps=1),
    "ALM, the last 20 % without updates": lambda score: lp.ALM(score, steps=5, last_share=0.2),
    "SyncSDE": lambda score: lp.SyncSDE(score, steps=5),
}


def rms(values):
    return float((values.double() ** 2).mean() ** 0.5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_a_model_that_knows_the_texture_any_sampler_bakes_the_texture(ball, truth, knowing, sampler):
    painted = texture.paint_surface(ball, lambda view: knowing(view, SAMPLERS[sampler]), side=SIDE)
    assert painted.painted_views == 10
    off = (painted.texture - truth)[:, painted.seen]
    assert rms(off) < 0.02  # of values from −0.9 to 0.9, read through 32×32 pixels
    camera = texture.Camera(75, 15)  # none of the ten
    shows = texture.render(ball, painted.seen[None].float(), camera, SIDE, 0.0)[0] > 0.999
    between = texture.render(ball, painted.texture, camera, SIDE) - texture.render(ball, truth, camera, SIDE)
    assert rms(between[:, shows]) < 0.02


def test_pictures_of_all_views_bake_to_the_texture(ball, truth):
    cameras = texture.paper_cameras()
    pictures = torch.stack([texture.render(ball, truth, camera, SIDE, 0.0) for camera in cameras])
    made = texture.bake_views(ball, cameras, pictures)
    assert rms((made.texture - truth)[:, made.seen]) < 0.02
    assert made.painted_views == 10


def test_the_error_of_baking_shrinks_with_the_texels(truth, ball):
    errors = []
    for size, side in ((16, 16), (64, 64)):
        surface = texture.Surface(ball.mesh, size)
        exact = torch.from_numpy(colour(surface.points)[surface.nearest].T.reshape(3, size, size).copy()).float()
        made = texture.paint_surface(
            surface, lambda view, s=surface, t=exact, n=side: texture.render(s, t, view.camera, n)[None], side=side
        )
        errors.append(rms((made.texture - exact)[:, made.seen]))
    assert errors[1] < errors[0] / 3


def test_baking_returns_the_texture_where_pixels_determine_it(ball):
    rough = np.random.default_rng(0).uniform(-1, 1, (SIZE**2, 3))
    pixels, seen = [], np.zeros(SIZE**2, dtype=bool)
    for camera in texture.paper_cameras():
        hits = ball.hit(camera, 3 * SIDE, 3 * SIDE)
        reading = ball.reading(hits)[hits.cosine > 0.3]
        pixels.append(texture.Pixels(reading, reading @ rough, np.ones(reading.shape[0])))
        seen |= ball.seen(camera, 0.3)
    mass = sum(np.asarray(part.reading.multiply(part.reading).sum(0)).ravel() for part in pixels)
    made, _ = texture.bake(ball, pixels, seen, smoothness=1e-6, tolerance=1e-9)
    assert (mass > 1).sum() > 1000
    assert abs(made - rough)[mass > 1].max() < 1e-3


def test_baking_finds_the_minimum_of_its_loss(ball):
    generator = np.random.default_rng(0)
    hits = ball.hit(texture.Camera(0), 24, 24)
    reading = ball.reading(hits)[hits.found]
    values, weights = generator.normal(size=(reading.shape[0], 1)), generator.uniform(0.1, 1, reading.shape[0])
    made, _ = texture.bake(ball, [texture.Pixels(reading, values, weights)], np.zeros(SIZE**2, bool), 0.1, 1e-8)
    read = np.asarray(reading.sum(0)).ravel() > 0
    grid, label = read.reshape(SIZE, SIZE), ball.label.reshape(SIZE, SIZE)

    def loss(flat):
        field = flat.reshape(SIZE, SIZE)
        down = grid[1:] & grid[:-1] & (label[1:] == label[:-1])
        right = grid[:, 1:] & grid[:, :-1] & (label[:, 1:] == label[:, :-1])
        rough = ((field[1:] - field[:-1])[down] ** 2).sum() + ((field[:, 1:] - field[:, :-1])[right] ** 2).sum()
        return (weights * (reading @ flat - values[:, 0]) ** 2).sum() + 0.1 * rough

    best = loss(made[:, 0])
    for _ in range(20):
        away = made[:, 0] + 0.01 * generator.normal(size=SIZE**2) * read
        assert loss(away) > best


def test_exact_views_of_a_gaussian_process_make_a_texture_of_that_process(ball):
    """The samples are channels of one texture. Each view is drawn exactly, given its known pixels."""
    samples, side, noise = 150, 10, 0.01

    def covariance(points):
        scaled = 3**0.5 * torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        return (1 + scaled) * torch.exp(-scaled)  # Matérn, ν = 3/2, length 1

    def complete(view):
        hits = ball.hit(view.camera, side, side)
        rows = np.flatnonzero(hits.found)
        points = (hits.weights[rows, :, None] * ball.triangles.corners[hits.face[rows]]).sum(1)
        law = covariance(torch.from_numpy(points)) + noise * torch.eye(len(rows))
        made = view.observation.values.reshape(samples, -1).clone()
        known = view.observation.known.reshape(-1)[rows]
        generator = torch.Generator().manual_seed(view.seed)
        free = torch.randn(samples, len(rows), generator=generator).double() @ torch.linalg.cholesky(law).T
        given = made[:, rows].double()
        away = (given - free)[:, known] @ torch.linalg.solve(law[known][:, known], law[known])
        made[:, rows] = torch.where(known, given, free + away).float()
        return made.reshape(view.observation.shape)

    made = texture.paint_surface(ball, complete, texture.around(8)[:5], side=side, channels=samples)
    some = np.flatnonzero(made.seen.reshape(-1).numpy())[::9]
    values, truth = made.texture.reshape(samples, -1)[:, some].double(), covariance(torch.from_numpy(ball.points[some]))
    for low, high in ((0.9, 1.1), (0.6, 0.9), (0.4, 0.6), (0.25, 0.4)):
        pairs = ((truth > low) & (truth <= high)).double()
        each = ((values @ pairs) * values).sum(1) / pairs.sum()  # covariance of those pairs, of each sample
        expected, error = float((truth * pairs).sum() / pairs.sum()), float(each.std() / samples**0.5)
        assert abs(float(each.mean()) - expected) < 4 * error + 0.05  # 0.05: what interpolation and noise may shift


def test_views_agree_where_each_completes_what_the_others_left(ball):
    def shade(view):  # a colour of its own for each view, where nothing is known
        own = torch.full_like(view.observation.values, view.number / 5 - 1)
        return torch.where(view.observation.known, view.observation.values, own)

    def alone(view):
        return torch.full_like(view.observation.values, view.number / 5 - 1)

    together = texture.paint_surface(ball, shade, side=SIDE)
    apart = texture.paint_surface(ball, alone, side=SIDE)
    assert texture.disagreement(ball, apart) > 0.15
    assert texture.disagreement(ball, together) < texture.disagreement(ball, apart) / 3


def test_the_disagreement_of_views_is_that_of_their_noise(ball):
    def noise(view):
        generator = torch.Generator().manual_seed(view.seed)
        coarse = torch.randn(1, 3, 4, 4, generator=generator)
        return torch.nn.functional.interpolate(coarse, (SIDE, SIDE))

    cameras = (texture.Camera(0), texture.Camera(20))
    made = texture.paint_surface(ball, noise, cameras, side=SIDE)
    expected = (1 / 2) ** 0.5  # the deviation of one of two standard normals from their mean
    assert texture.disagreement(ball, made) == pytest.approx(expected, rel=0.25)


def test_a_view_is_given_what_earlier_views_painted_and_nothing_else(ball, knowing):
    views = []

    def watched(view):
        views.append(view)
        return knowing(view)

    cameras = (texture.Camera(0), texture.Camera(45))
    made = texture.paint_surface(ball, watched, cameras, side=SIDE)
    first, second = (view.observation for view in views)
    assert not first.known.any()
    surface = ball.hit(cameras[1], SIDE, SIDE).found.reshape(1, 1, SIDE, SIDE)
    assert bool((second.known <= torch.from_numpy(surface)).all())
    assert 0.3 < float(second.known.sum()) / surface.sum() < 0.7
    assert not bool((second.known & made.fresh[1:]).any())
    exact = texture.render(ball, made.texture, cameras[1], SIDE)[None]
    assert rms((exact - second.values)[second.known.expand(exact.shape)]) < 0.02


def test_a_background_is_known_to_each_view(ball, knowing):
    def check(view):
        observation = view.observation
        beside = torch.from_numpy(~ball.hit(view.camera, SIDE, SIDE).found.reshape(SIDE, SIDE))
        assert bool(observation.known[0, 0][beside].all())
        assert bool((observation.values[0, :, beside] == torch.tensor([1.0, 0.5, -1.0])[:, None]).all())
        return knowing(view)

    texture.paint_surface(ball, check, texture.around(2), side=SIDE, background=(1.0, 0.5, -1.0))


def test_a_view_in_which_all_is_known_is_not_painted(ball, knowing):
    asked = []
    cameras = (texture.Camera(10), texture.Camera(10), texture.Camera(200))
    made = texture.paint_surface(ball, lambda view: asked.append(view.number) or knowing(view), cameras, side=SIDE)
    assert asked == [0, 2]
    assert made.painted_views == 2


def test_a_seed_counts_up_with_the_views(ball):
    seeds = []

    def complete(view):
        seeds.append(view.seed)
        return view.observation.values

    texture.paint_surface(ball, complete, texture.around(3), side=8, seed=7)
    assert seeds == [7, 8, 9]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cameras": ()}, "at least one view"),
        ({"side": 1}, "side of a view must be a whole number of at least 2"),
        ({"channels": 0}, "channels"),
        ({"background": (1.0,)}, "must have 3 values"),
        ({"widest_angle": 120}, "between 0 and 90"),
        ({"widest_angle": 0, "side": 4}, "no view of 4×4 pixels shows the surface"),
    ],
)
def test_settings_that_cannot_be_are_told(ball, knowing, options, told):
    with pytest.raises(ValueError, match=told):
        texture.paint_surface(ball, knowing, **({"side": SIDE} | options))


def test_what_a_view_is_completed_with_is_checked(ball):
    with pytest.raises(ValueError, match="shape"):
        texture.paint_surface(ball, lambda view: view.observation.values[0], side=8)
    with pytest.raises(ValueError, match="view 1 was completed with values that are not finite"):
        texture.paint_surface(ball, lambda view: view.observation.values * float("nan"), side=8)
