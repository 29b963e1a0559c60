"""A ball, a texture that is known at each of its points, and scores that know it."""

import numpy as np
import pytest
import torch

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("embreex")

from lanpaint import texture  # noqa: E402

SIDE, SIZE = 32, 64


def colour(points):
    """A smooth colour of points in space, in [−1, 1]."""
    x, y, z = points.T
    return 0.9 * np.stack([np.sin(2 * x + z), np.cos(2 * y + x), np.sin(2 * z - y)], 1)


@pytest.fixture(scope="session")
def ball():
    made = trimesh.creation.icosphere(subdivisions=2)
    return texture.Surface(texture.with_charts(made.vertices, made.faces), SIZE)


@pytest.fixture(scope="session")
def truth(ball):
    """The texture of the ball that has :func:`colour` at each texel, (3, N, N)."""
    values = colour(ball.points)[ball.nearest]
    return torch.from_numpy(values.T.reshape(3, SIZE, SIZE).copy()).float()


@pytest.fixture(scope="session")
def knowing(ball, truth):
    """A function of a view and a sampler's class: the view, sampled with a score that knows the texture."""
    import lanpaint as lp

    def complete(view, make=lambda score: lp.Replace(score, steps=2), rendered=truth):
        picture = texture.render(ball, rendered, view.camera, SIDE, background=0.0)[None]
        score = lp.as_score(lambda x, level: (level.alpha * picture - x) / level.sigma**2)
        return make(score)(view.observation, generator=torch.Generator().manual_seed(view.seed))

    return complete
