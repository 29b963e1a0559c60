"""Operators from a pair of functions: against dense matrices, and the same posterior as the operator of closed form."""

import copy
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.operators import OperatorCount
from lanpaint_toys import Gaussian
from tests.pretend import Elsewhere, PretendDevice
from tests.test_linear import MADE, _law, _matrix, _posterior, assert_runs_as_on_the_rotated_law


def _normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _pair(a, shape, measured=None, **options):
    """The operator of a matrix."""
    measured = (len(a),) if measured is None else measured
    return lp.PairOperator(
        shape,
        lambda x: (x.flatten(1) @ a.to(x).mT).reshape(-1, *measured),
        lambda y: (y.reshape(len(y), -1) @ a.to(y)).reshape(-1, *shape),
        **options,
    )


DENSE = {
    "wide": _normal(4, 12),
    "tall": _normal(20, 12),
    "square": _normal(12, 12),
    "one row": _normal(1, 12),
    "rank-deficient": _normal(8, 3, seed=1) @ _normal(3, 12, seed=2),
    "orthonormal rows": torch.linalg.qr(_normal(12, 5))[0].mT,
    "unit vectors": torch.eye(12, dtype=torch.float64)[[0, 1, 5]],
    "identity": -torch.eye(12, dtype=torch.float64),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_pair_is_its_matrix(name):
    a, shape = DENSE[name], (3, 4)
    operator = _pair(a, shape)
    torch.testing.assert_close(_matrix(operator, shape), a, rtol=0, atol=1e-10)
    torch.testing.assert_close(_matrix(operator.adjoint, (len(a),)), a.mT, rtol=0, atol=1e-10)
    torch.testing.assert_close(_matrix(operator.pseudo_inverse, (len(a),)), torch.linalg.pinv(a), rtol=0, atol=1e-9)
    rank = int(torch.linalg.matrix_rank(a))
    assert operator.known.flatten().tolist() == [True] * rank + [False] * (12 - rank)
    torch.testing.assert_close(operator.singular.flatten()[:rank], torch.linalg.svdvals(a)[:rank])
    turn = _matrix(operator.rotate, shape)
    identity = torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(turn @ turn.mT, identity, rtol=0, atol=1e-10)
    torch.testing.assert_close(_matrix(operator.unrotate, shape) @ turn, identity, rtol=0, atol=1e-10)
    # In float32, on float32 samples.
    x = _normal(5, *shape, seed=3).float()
    assert operator.rotate(x).dtype == operator(x).dtype == torch.float32
    torch.testing.assert_close(operator.unrotate(operator.rotate(x)), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(operator(x), x.flatten(1) @ a.float().mT, rtol=1e-5, atol=1e-5)


def test_what_counts_as_seen_is_relative_to_the_largest_singular_value():
    a = torch.diag(torch.tensor([1.0, 1e-2, 1e-5, 0.0], dtype=torch.float64))
    for scale in (1e-6, 1.0, 1e6):
        assert [int(_pair(scale * a, (4,), cutoff=c).known.sum()) for c in (0.5, 1e-3, 1e-6)] == [1, 2, 3]
    assert _pair(a, (4,)).known.sum() == 2


@pytest.mark.parametrize("measured", [(), (6,), (2, 3), (1, 2, 3)])
def test_a_measurement_may_have_any_shape(measured):
    a = _normal(math.prod(measured), 8)
    operator = _pair(a, (2, 4), measured)
    x = _normal(3, 2, 4, seed=1)
    assert operator.measured == measured
    torch.testing.assert_close(operator(x), (x.flatten(1) @ a.mT).reshape(3, *measured))
    torch.testing.assert_close(operator(operator.pseudo_inverse(operator(x))), operator(x))


@pytest.mark.parametrize("name", ["pool2", "own weights", "blur", "sense", "odd", "channels", "pair"])
def test_an_operator_given_as_a_pair_has_the_same_posterior(name):
    """The conditional of z, turned back, is the textbook posterior given y, and so that of the operator itself."""
    given = MADE[name]
    operator = lp.PairOperator(given.shape, given, given.adjoint)
    law = _law(math.prod(given.shape), seed=4)
    y = given(law.sample(1, torch.Generator().manual_seed(5)).reshape(1, *given.shape))
    turn, known = _matrix(operator.rotate, operator.shape), operator.known.flatten()
    cov = turn @ law.full_cov[0] @ turn.mT
    values = operator.observe(y).values.flatten()
    conditional = Gaussian(turn @ law.mean, (cov + cov.mT) / 2).conditional(values, known)
    back = turn.mT[:, ~known]
    # Of rows that may depend on each other, as many combinations that do not: A's own left singular vectors.
    a = _matrix(given, given.shape)
    rows = torch.linalg.svd(a)[0][:, : int(known.sum())].mT
    assert torch.linalg.matrix_rank(a) == known.sum()
    mean, exact_cov = _posterior(law, rows @ a, rows @ y.flatten())
    torch.testing.assert_close(turn.mT @ values + back @ conditional.mean, mean)
    torch.testing.assert_close(back @ conditional.full_cov[0] @ back.mT, exact_cov)


@pytest.mark.parametrize("method", ["lanpaint", "ddnm", "dps", "pigdm", "mmps"])
def test_methods_run_as_on_the_rotated_law_draw_for_draw(method):
    """Those of gradients too, which go through the rotation."""
    assert_runs_as_on_the_rotated_law(method, _pair(_normal(3, 6), (6,)), _law(6))


def test_gradients_go_through_a_pair_that_was_made_and_used_without_them():
    a = _normal(3, 6)
    with torch.inference_mode():
        operator = _pair(a, (2, 3))
        operator(operator.unrotate(_normal(1, 2, 3)))
    x, y = _normal(2, 2, 3).requires_grad_(), _normal(2, 3).requires_grad_()
    for function, given in (
        *((function, x) for function in (operator, operator.rotate, operator.unrotate)),
        *((function, y) for function in (operator.adjoint, operator.pseudo_inverse)),
    ):
        assert torch.autograd.gradcheck(function, given)


def test_noise_of_a_measurement_is_divided_by_the_singular_values():
    equal = 3 * DENSE["orthonormal rows"]
    assert _pair(equal, (12,)).observe(torch.zeros(1, 5), noise=0.3).noise == pytest.approx(0.1)
    noise = _pair(DENSE["wide"], (12,)).observe(torch.zeros(1, 4), noise=0.3).noise
    torch.testing.assert_close(noise[:4], 0.3 / torch.linalg.svdvals(DENSE["wide"]))
    assert not noise[4:].any()
    with pytest.raises(ValueError, match="jitter needs equal singular values, and those of PairOperator go from"):
        _pair(DENSE["wide"], (12,)).observe(torch.zeros(1, 4), jitter=0.3)


def test_weights_of_a_module_get_no_gradient_and_stay_as_they_are():
    layer = torch.nn.Linear(6, 2, bias=False, dtype=torch.float64)
    before = copy.deepcopy(layer.weight)
    operator = lp.PairOperator((6,), layer, lambda y: y @ layer.weight)
    y = operator(_normal(1, 6).requires_grad_())
    y.sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(before, layer.weight)


@pytest.mark.parametrize("name", ["pool2", "grey", "sense", "blur", "pair"])
def test_a_rotation_does_not_wait_for_the_device(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    operator = MADE[name]
    x = _normal(2, *operator.shape).float()
    expected = operator.rotate(x)
    with PretendDevice():
        there = Elsewhere(x)
        with OperatorCount() as count:
            z = operator.rotate(there)
            back = operator.unrotate(z)
        with OperatorCount() as again:
            operator.unrotate(operator.rotate(there))
    assert not count.waits + again.waits
    assert not any("_pin_memory" in operator for operator in again.counts)  # nothing is copied there again
    torch.testing.assert_close(z.numbers, expected)
    torch.testing.assert_close(back.numbers, x, rtol=0, atol=1e-5)


A = _normal(4, 6)


def _forward(x):
    return x @ A.mT


def _adjoint(y):
    return y @ A


WRONG = {
    "another adjoint": (
        _forward,
        lambda y: y @ A * 1.001,
        r"not a pair: ⟨A x, y⟩ = \S+ and ⟨x, Aᵀ y⟩ = \S+ for random",
    ),
    "an affine map": (lambda x: _forward(x) + 1, _adjoint, r"forward is not linear: forward\(u \+ 2 v\) is"),
    "an affine adjoint": (_forward, lambda y: _adjoint(y) + 1, "adjoint is not linear"),
    "a bound": (lambda x: _forward(x).clamp(-100, 100), _adjoint, r"not linear: forward\(u \+ 1000 v\)"),
    "steps": (lambda x: (_forward(x) * 127.5).round() / 127.5, _adjoint, r"not linear: forward\(u \+ 2 v\)"),
    "a mean over the batch": (lambda x: _forward(x - x.mean(0)), _adjoint, "forward is not linear"),
    "zeros": (lambda x: 0 * _forward(x), _adjoint, "forward gives zeros"),
    "no number": (lambda x: _forward(x) / 0, _adjoint, "forward gives values that are not finite"),
    "whole numbers": (lambda x: _forward(x).long(), _adjoint, r"floating-point values of shape \(2, …\)"),
    "no tensor": (lambda x: None, _adjoint, r"forward must make floating-point values .* got None"),
    "no batch": (lambda x: _forward(x[0]), _adjoint, r"forward must make .* of \(2, 6\), got torch.float64 \(4,\)"),
    "another shape": (_forward, lambda y: _adjoint(y)[:, :5], r"adjoint must make .* \(2, 6\) of \(2, 4\), got"),
    "weights of float32": (lambda x: x @ A.float().mT, _adjoint, r"forward failed on float64 .*kernel\.to\(x\)"),
    "nothing measured": (lambda x: x[:, :0], _adjoint, "A has 0 × 6 entries"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pair_is_told_in_one_line(name):
    forward, adjoint, told = WRONG[name]
    with pytest.raises(ValueError, match=told) as error:
        lp.PairOperator((6,), forward, adjoint)
    assert "\n" not in str(error.value)


def test_one_wrong_entry_of_a_large_adjoint_is_seen():
    a, other = _normal(300, 400), _normal(300, 400)
    other[7, 9] += 0.5
    with pytest.raises(ValueError, match="not a pair"):
        lp.PairOperator((400,), lambda x: x @ a.mT, lambda y: y @ other)


def test_samples_of_a_batch_that_mix_are_seen():
    """A function that is linear, and for two samples a pair with its adjoint, but not sample by sample."""
    sign = lambda x: x if len(x) < 3 else x.roll(1, 0)  # noqa: E731
    with pytest.raises(ValueError, match="or mix the samples of a batch: forward of a random vector is"):
        lp.PairOperator((6,), _forward, lambda y: _adjoint(sign(y)))


def test_what_would_not_fit_is_refused_before_it_is_begun():
    calls = []

    def same(x):
        calls.append(len(x))
        return x

    with pytest.raises(ValueError, match=r"12,288 × 12,288 entries, .* takes 1 to 33,554,432, .* subclass LinearOp"):
        lp.PairOperator((3, 64, 64), same, same)
    assert calls == [2]


def test_other_mistakes_are_told():
    with pytest.raises(ValueError, match="cutoff must be between"):
        lp.PairOperator((6,), _forward, _adjoint, cutoff=0)
    for shape in ((), 6, "6", (6, 0), (6.0,)):
        with pytest.raises(ValueError, match="shape must be"):
            lp.PairOperator(shape, _forward, _adjoint)
    with pytest.raises(ValueError, match=r"measurements of this PairOperator have shape \(4,\), got \(5,\)"):
        lp.PairOperator((6,), _forward, _adjoint).observe(torch.zeros(1, 5))
