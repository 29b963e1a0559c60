"""Linear operators: their algebra, that a rotated score is the score of the rotated law, and exact posteriors."""

import math

import pytest
import torch

import lanpaint as lp
from lanpaint.degradations import OPERATORS
from lanpaint.linear import hartley
from lanpaint.methods import METHODS, make_sampler
from lanpaint_toys import Gaussian

SHAPE = (3, 4, 8)


def _turned_back(y):
    return (y @ _DEFICIENT).reshape(len(y), *SHAPE)


_THIN = torch.randn(5, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
_DEFICIENT = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(10)) @ _THIN
MADE = {
    "pool2": lp.AveragePooling(SHAPE, 2),
    "pool4": lp.AveragePooling(SHAPE, 4),
    "grey": lp.Grey(SHAPE),
    "own weights": lp.Grey(SHAPE, (1.0, -2.0, 0.5)),
    "blur": lp.Blur(SHAPE, 0.8),
    "sense": lp.CompressiveSensing(SHAPE, 20, seed=3),
    "odd": lp.CompressiveSensing((7,), 3),
    "channels": lp.Channels(SHAPE, [2, 0]),
    "pair": lp.PairOperator(
        SHAPE, lambda x: (x.flatten(1) @ _DEFICIENT.mT).unflatten(1, (3, 3)), lambda y: _turned_back(y.flatten(1))
    ),
}


def _unit(shape):
    entries = math.prod(shape)
    return torch.eye(entries, dtype=torch.float64).reshape(entries, *shape)


def _matrix(function, shape):
    return function(_unit(shape)).flatten(1).mT


@pytest.fixture(params=MADE)
def operator(request):
    return MADE[request.param]


def test_the_basis_is_orthogonal_and_the_parts_make_the_operator(operator):
    turn, a = _matrix(operator.rotate, operator.shape), _matrix(operator, operator.shape)
    identity = torch.eye(len(turn), dtype=torch.float64)
    torch.testing.assert_close(turn @ turn.mT, identity)
    torch.testing.assert_close(_matrix(operator.unrotate, operator.shape), turn.mT)
    # A Aᵀ's eigenvalues are the squares of the singular values, found without any of the operator's parts.
    found = torch.linalg.svdvals(a)[: int(operator.known.sum())]
    torch.testing.assert_close(found, operator.singular[operator.known].sort(descending=True).values)
    assert torch.linalg.matrix_rank(a) == operator.known.sum()


def test_the_adjoint_is_the_transpose_and_the_pseudo_inverse_that_of_the_matrix(operator):
    a = _matrix(operator, operator.shape)
    y = operator(torch.randn(2, *operator.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(_matrix(operator.adjoint, y.shape[1:]), a.mT)
    torch.testing.assert_close(_matrix(operator.pseudo_inverse, y.shape[1:]), torch.linalg.pinv(a, rtol=1e-6))
    torch.testing.assert_close(operator(operator.pseudo_inverse(y)), y)


@pytest.mark.parametrize("sides", [(5,), (4, 3)])
def test_the_hartley_transform_is_a_sum_of_cosines_plus_sines(sides):
    """Σ x cas(2π Σ j k/n)/√N with cas = cos + sin (Bracewell, 1983), along the last axes."""
    places = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float64) for side in sides)).view(-1, len(sides))
    angle = 2 * math.pi * (places / torch.tensor(sides)) @ places.mT
    expected = (angle.cos() + angle.sin()) / math.sqrt(math.prod(sides))
    dims = range(1, 1 + len(sides))
    torch.testing.assert_close(_matrix(lambda x: hartley(x, dims), sides), expected)


@pytest.mark.parametrize("name", ["pool2", "own weights"])
def test_noise_and_jitter_of_a_measurement_are_told_in_its_units(name):
    """With singular values s a deviation d of y is d/s of z: drawn values give measurements of deviation d."""
    operator = MADE[name]
    y = operator(torch.zeros(1, *SHAPE, dtype=torch.float64))
    drawn = operator.observe(y, jitter=0.3).draw(torch.ones_like)
    around = operator(operator.unrotate(drawn.values))
    torch.testing.assert_close(around.square().mean(), torch.tensor(0.09, dtype=torch.float64))
    scale = float(operator.singular.max())
    assert operator.observe(y, noise=0.3).noise == pytest.approx(0.3 / scale)
    assert scale != pytest.approx(1)


def test_what_the_operators_measure():
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(MADE["pool2"](x), torch.nn.functional.avg_pool2d(x, 2))
    torch.testing.assert_close(MADE["grey"](x)[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])
    assert torch.equal(MADE["channels"](x), x[:, [2, 0]])
    # The blur: a sum over all periodic repetitions of the Gaussian, along each side.
    weights = []
    for side in SHAPE[1:]:
        away = torch.arange(side, dtype=torch.float64)[:, None] - torch.arange(-20 * side, 21 * side)
        kernel = torch.exp(-0.5 * (away / 0.8) ** 2)
        weights.append((kernel / kernel.sum(1, keepdim=True)).reshape(side, 41, side).sum(1))
    blurred = torch.einsum("ip,jq,bcpq->bcij", *weights, x)
    whole = lp.Blur(SHAPE, 0.8, least=1e-9)
    torch.testing.assert_close(whole(x), blurred)


class _Flat(lp.Score):
    """A law of flat vectors as one of samples of a shape."""

    def __init__(self, law):
        self.law = law

    def predict(self, x, level):
        flat = self.law.predict(x.flatten(1), level)
        return lp.Prediction(x, level, score=flat.score.reshape(x.shape), denoised=flat.denoised.reshape(x.shape))


def _law(entries, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(entries, entries, generator=generator, dtype=torch.float64)
    mean = torch.randn(entries, generator=generator, dtype=torch.float64)
    return Gaussian(mean, mix @ mix.mT / entries + 0.2 * torch.eye(entries, dtype=torch.float64))


def test_a_rotated_score_is_the_score_of_the_rotated_law(operator):
    law = _law(math.prod(operator.shape))
    turn = _matrix(operator.rotate, operator.shape)
    turned = Gaussian(turn @ law.mean, (turn @ law.full_cov[0] @ turn.mT + (turn @ law.full_cov[0] @ turn.mT).mT) / 2)
    z = torch.randn(3, *operator.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    level = lp.NoiseLevel(0.8, 0.6)
    found, exact = operator.rotated(_Flat(law)).predict(z, level), turned.predict(z.flatten(1), level)
    torch.testing.assert_close(found.score.flatten(1), exact.score)
    torch.testing.assert_close(found.denoised.flatten(1), exact.denoised)


def test_noise_of_a_measurement_differs_from_entry_to_entry_where_singular_values_do():
    """Exact algebra: z given its values and the noise s/s_i, turned back, is the posterior given y = A x + s n."""
    operator, s = MADE["blur"], 0.2
    entries = math.prod(operator.shape)
    law, turn, a = _law(entries, seed=4), _matrix(operator.rotate, SHAPE), _matrix(operator, SHAPE)
    y = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    observation = operator.observe(y, noise=s)
    known = operator.known.flatten()
    assert observation.noise.shape == SHAPE
    assert observation.noise.max() > 2 * s
    rows, spread = turn[known], observation.noise.flatten()[known] ** 2
    cov = law.full_cov[0]
    gain = torch.linalg.solve(rows @ cov @ rows.mT + torch.diag(spread), rows @ cov).mT
    mean = law.mean + gain @ (observation.values.flatten()[known] - rows @ law.mean)
    exact_mean, exact_cov = _posterior(law, a, y.flatten(), s)
    torch.testing.assert_close(mean, exact_mean)
    torch.testing.assert_close(cov - gain @ rows @ cov, exact_cov)


def _posterior(law, a, y, noise=0.0):
    """Mean and covariance of x given y = A x + s n, by the textbook formula."""
    cov = law.full_cov[0]
    gain = torch.linalg.solve(a @ cov @ a.mT + noise**2 * torch.eye(len(a), dtype=torch.float64), a @ cov).mT
    return law.mean + gain @ (y - a @ law.mean), cov - gain @ a @ cov


@pytest.mark.parametrize("name", ["pool2", "grey", "blur", "sense"])
def test_conditioning_in_the_rotated_basis_is_the_posterior_given_y(name):
    """Exact algebra: the conditional of the rotated law, turned back, is the textbook posterior, whatever U and S."""
    operator = MADE[name]
    law = _law(math.prod(operator.shape), seed=4)
    x = law.sample(1, torch.Generator().manual_seed(5))
    y = operator(x.reshape(1, *operator.shape))
    turn = _matrix(operator.rotate, operator.shape)
    cov = turn @ law.full_cov[0] @ turn.mT
    observation = operator.observe(y)
    conditional = Gaussian(turn @ law.mean, (cov + cov.mT) / 2).conditional(
        observation.values.flatten(), operator.known.flatten()
    )
    back = turn.mT[:, ~operator.known.flatten()]
    mean = turn.mT @ observation.values.flatten() + back @ conditional.mean
    a = _matrix(operator, operator.shape)
    if name == "blur":  # A Aᵀ is singular: take independent rows
        a, y = operator.singular.flatten()[operator.known.flatten(), None] * turn[operator.known.flatten()], None
    y = a @ x[0] if y is None else y.flatten()
    exact_mean, exact_cov = _posterior(law, a, y)
    torch.testing.assert_close(mean, exact_mean)
    torch.testing.assert_close(back @ conditional.full_cov[0] @ back.mT, exact_cov)


@pytest.mark.parametrize(
    ("operator", "noise"),
    [(lp.AveragePooling((1, 4, 4), 2), 0.0), (lp.AveragePooling((1, 4, 4), 2), 0.3), (lp.Blur((1, 4, 4), 0.7), 0.3)],
    ids=["pool2", "pool2, noise", "blur, noise"],
)
def test_samples_of_lanpaint_follow_the_exact_posterior(operator, noise):
    """Of a 4 × 4 picture. The fast preset with 240 evaluations; the bounds are four standard errors."""
    shape, count = (1, 4, 4), 4000
    index = torch.arange(4, dtype=torch.float64)
    near = 0.6 ** (index[:, None] - index).abs()
    law = Gaussian(torch.full((16,), 0.2), torch.kron(near, near))
    y = operator(law.sample(1, torch.Generator().manual_seed(0)).reshape(1, *shape)).float()
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(8))
    paint = lp.LanPaint(operator.rotated(_Flat(law)), preset="fast", steps=30, inner_steps=7)
    z = paint(operator.observe(y.expand(count, -1, -1, -1), noise=noise), generator=torch.Generator().manual_seed(1))
    x = operator.unrotate(z).flatten(1).double()
    mean, cov = _posterior(law, _matrix(operator, shape), y.double().flatten(), noise)
    assert (x.mean(0) - mean).abs().max() < 4 * (cov.diagonal().max() / count) ** 0.5
    assert (torch.cov(x.mT) - cov).abs().max() < 4 * (2 / count) ** 0.5 * cov.diagonal().max() + 0.01
    if not noise:
        torch.testing.assert_close(operator(operator.unrotate(z)), y.expand(count, -1, -1, -1), atol=1e-5, rtol=0)


def assert_runs_as_on_the_rotated_law(method, operator, law):
    """Draw for draw, on a Gaussian whose rotated law is known; and A x of what the method returns is y."""
    turn = _matrix(operator.rotate, operator.shape)
    cov = turn @ law.full_cov[0] @ turn.mT
    y = operator(law.sample(3, torch.Generator().manual_seed(5)))
    found, expected = (
        make_sampler(method, score, steps=3, inner_steps=2)(
            operator.observe(y), generator=torch.Generator().manual_seed(0)
        )
        for score in (operator.rotated(law), Gaussian(turn @ law.mean, (cov + cov.mT) / 2))
    )
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(operator(operator.unrotate(found)), y)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_the_rotated_basis_as_on_the_rotated_law(method):
    assert_runs_as_on_the_rotated_law(method, lp.CompressiveSensing((4,), 2, seed=1), _law(4))


def test_mistakes_are_told():
    blur, law = MADE["blur"], _Flat(_law(math.prod(SHAPE)))
    with pytest.raises(ValueError, match="jitter needs equal singular values, and those of Blur go from"):
        blur.observe(torch.zeros(1, *SHAPE), jitter=0.1)
    with pytest.raises(TypeError, match="noise must be a number, got"):
        blur.observe(torch.zeros(1, *SHAPE), noise=torch.ones(SHAPE))
    with pytest.raises(ValueError, match="noise must be finite standard deviations of at least 0, got -"):
        blur.observe(torch.zeros(1, *SHAPE), noise=-0.1)
    with pytest.raises(ValueError, match=r"for samples of shape \(3, 4, 8\), got \(4, 2, 4\); .* not on latents"):
        blur(torch.zeros(1, 4, 2, 4))
    with pytest.raises(ValueError, match="they need one noise level, got levels of shape"):
        blur.rotated(law).predict(torch.zeros(1, *SHAPE), lp.NoiseLevel(torch.ones(SHAPE), torch.ones(SHAPE)))
    for make, told in (
        (lambda: lp.AveragePooling(SHAPE, 3), "factor must divide the sides of a picture, got 3 for 4 × 8 pixels"),
        (lambda: lp.Grey((1, 4, 4)), "no colours to take"),
        (lambda: lp.Grey(SHAPE, (1.0, 2.0)), "weights must be 3 finite numbers"),
        (lambda: lp.Channels(SHAPE, [0, 3]), "some of the channels 0 to 2"),
        (lambda: lp.Blur(SHAPE, -1.0), "deviation must be positive"),
        (lambda: lp.CompressiveSensing(SHAPE, 97), "count must be"),
        (lambda: lp.AveragePooling((4, 4), 2), r"must be \(channels, height, width\)"),
    ):
        with pytest.raises(ValueError, match=told):
            make()


def test_every_named_operator_suits_a_colour_picture():
    for make in OPERATORS.values():
        assert make((3, 8, 8)).shape == (3, 8, 8)
