"""Options as they are read from constructors: what the samplers declare is what can be given, and nothing else."""

import functools
from typing import TYPE_CHECKING, Literal

import pytest

import lanpaint as lp
from lanpaint.methods import METHODS, Method
from lanpaint.names import DYNAMICS, dynamics_options, make_dynamics
from lanpaint.options import Option, arguments_of, short, split_pairs
from lanpaint_toys import gauss2

if TYPE_CHECKING:
    from nowhere import Thing


class Grandparent:
    """Has options.

    Args:
        score: The model.
        first: Of :class:`~lanpaint.LanPaint`, in (0, 1]
            and ``more``. Second sentence.
        callbacks: A part.
    """

    def __init__(self, score, *, first: float = 0.5, callbacks: list = (), steps: int = 3):
        pass


class Parent(Grandparent):
    def __init__(self, score, *, scheme: Literal["a", "b"] = "a", **options):
        pass


class Child(Parent):
    """Hands its options on.

    Args:
        first: Another default.
    """

    def __init__(self, model, first=0.25, count=2, part=len, anything=None, thing: "Thing | None" = None, **options):
        pass


class Closed(Child):
    def __init__(self, score, *, strength: "float | None" = None):
        pass


def _options(make, base=None):
    found = {name: argument.option for name, argument in arguments_of(make, base).items()}
    return {name: option for name, option in found.items() if option is not None}


def test_options_are_those_of_all_constructors_that_options_pass_through():
    options = _options(Child)
    kinds = {name: (option.kind, option.default) for name, option in options.items() if name not in ("model", "score")}
    assert kinds == {
        "first": (float, 0.25),  # the nearest class counts
        "count": (int, 2),
        "anything": (None, None),
        "scheme": (str, "a"),
        "steps": (int, 3),
    }
    assert options["scheme"].choices == ("a", "b")
    assert options["first"].help == "Another default."
    assert _options(Grandparent)["first"].help == "Of LanPaint, in (0, 1] and more. Second sentence."
    assert list(_options(Closed)) == ["score", "strength"]  # no **options: nothing of its parents


def test_a_partial_and_a_function_have_what_is_left_to_give():
    assert "first" not in _options(functools.partial(Child, "model", 0.1))
    assert "scheme" not in _options(functools.partial(Parent, scheme="b"))

    def make(score, *, size: int | None = None, **options) -> Parent:
        return Parent(score, **options)

    def vague(score, **options):
        return make(score, **options)

    assert {"size", "scheme", "first"} < set(_options(make, Grandparent))
    assert "scheme" not in _options(vague, Grandparent)
    assert "first" in _options(vague, Grandparent)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_option_is_described_and_its_default_is_what_the_sampler_has(method):
    target = gauss2().target
    plain = method.sampler(target, steps=4)
    for name, option in method.options().items():
        assert option.kind is not None, name
        assert option.help, name
        if option.default is None:
            continue
        given = method.sampler(target, steps=4, **{name: option.default})
        assert getattr(given, name, None) == getattr(plain, name, None)
    assert not {"score", "steps", "callbacks", "schedule", "progress", "levels"} & set(method.options())


@pytest.mark.parametrize("name", DYNAMICS)
def test_options_of_a_dynamics_reach_it(name):
    for option, found in dynamics_options(name).items():
        value = found.choices[-1] if found.choices else 2 if found.kind is int else 0.5 if option == "keep" else 1.5
        assert getattr(make_dynamics(name, **{option: value}), option, value) == value
    with pytest.raises(ValueError, match=f"{name} has no strength to choose"):
        make_dynamics(name, strength=1.0)


def test_a_friction_is_the_dynamics_where_one_is_given_and_else_the_samplers():
    target, lanpaint = gauss2().target, METHODS["lanpaint"]
    assert lanpaint.sampler(target, steps=2, friction=3.0).dynamics.friction == 3.0
    sampler = lanpaint.sampler(target, steps=2, dynamics="hfhr", friction=3.0, psi=4.0)
    assert (type(sampler.dynamics), sampler.dynamics.friction, sampler.dynamics.psi) == (lp.HFHR, 3.0, 4.0)
    assert isinstance(METHODS["big"].sampler(target, steps=2).dynamics, lp.Langevin)
    assert METHODS["big"].sampler(target, steps=2, dynamics="fld", friction=2.0).dynamics.friction == 2.0
    with pytest.raises(ValueError, match="lanpaint has no psi without dynamics; give --dynamics hfhr"):
        lanpaint.sampler(target, steps=2, psi=4.0)
    with pytest.raises(ValueError, match="langevin has no friction to choose; leave it out, or take fld, hfhr"):
        lanpaint.sampler(target, steps=2, dynamics="langevin", friction=4.0)


@pytest.mark.parametrize(
    ("option", "text", "values"),
    [
        (Option("lam", float), "0, 8,inf", [0.0, 8.0, float("inf")]),
        (Option("steps", int), "5,10", [5, 10]),
        (Option("checkpoint", bool), "true,False", [True, False]),
        (Option("preset", str), "paper, fast", ["paper", "fast"]),
        (Option("own"), "1,0.5,true,red", [1, 0.5, True, "red"]),
    ],
)
def test_texts_are_read_by_the_kind_of_the_option(option, text, values):
    assert option.parse_several(text) == values
    assert option.parse(text.split(",")[0]) == values[0]


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        (Option("lam", float), "high", "--lam takes a number, got 'high'"),
        (Option("inner_steps", int), "2.5", "--inner-steps takes a whole number, got '2.5'"),
        (Option("checkpoint", bool), "1", "--checkpoint takes true or false, got '1'"),
        (Option("scheme", str, choices=("a", "b")), "c", "unknown scheme 'c'; expected one of a, b"),
    ],
)
def test_texts_of_another_kind_are_refused(option, text, told):
    with pytest.raises(ValueError, match=told):
        option.parse(text)


def test_values_of_another_kind_are_refused():
    for option, value in ((Option("lam", float), True), (Option("n", int), 2.5), (Option("b", bool), 1)):
        with pytest.raises(ValueError, match="must be"):
            option.check(value)
    Option("lam", float).check(8)
    with pytest.raises(ValueError, match="checkpoint must be true or false, got 3"):
        METHODS["dps"].sampler(gauss2().target, steps=2, checkpoint=3)


def test_help_has_whole_sentences():
    assert (
        short("η > 0 (Alg. 4). See Song et al. (2021). " + 200 * "x" + ".") == "η > 0 (Alg. 4). See Song et al. (2021)"
    )


def test_pairs():
    assert split_pairs(["a=1", "b-c=x=y"], "--option", "a=1") == {"a": "1", "b_c": "x=y"}
    with pytest.raises(ValueError, match="--option a is given twice"):
        split_pairs(["a=1", "a=2"], "--option", "a=1")


def test_a_method_that_needs_a_gradient_says_so():
    assert [name for name, method in METHODS.items() if method.needs_gradient] == [
        *("mcg", "dps", "copaint", "pigdm", "mmps", "tmpd", "mgps", "mgdm", "tds"),
    ]
    assert Method("mine", type("Mine", (lp.DPS,), {})).needs_gradient
