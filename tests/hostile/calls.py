"""Bad and strange calls in Python: observations, samplers, parts of one's own, schedules, pictures, pipelines, rows."""

import contextlib
import io
import itertools
import os
import random
import re
import time
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import lanpaint as lp
from tests.hostile import files
from tests.hostile.commands import PARTS, Hangs, Patch, full_disk, patience, without
from tests.hostile.files import BAD, EITHER, GOOD
from tests.hostile.judge import (
    LOST,
    MISLEADING,
    SILENT,
    TRACEBACK,
    Counts,
    changes,
    complaint,
    raised_on_purpose,
    snapshot,
)

_PATIENCE = 20
_ROOT = Path(lp.__file__).parents[1]
_SIGNATURE = re.compile("positional argument|keyword argument 'wish'|takes no arguments")
NAN, INF = float("nan"), float("inf")


class LucklessError(Exception):
    """What a user's own function raises: it must arrive as it is."""


@dataclass(frozen=True)
class Call:
    """A call and what may come of it.

    Attributes:
        group: The kind of input.
        name: The call as text.
        run: Makes the call, in a folder.
        verdict: GOOD if it must succeed, BAD if it must raise, EITHER if both are honest.
        about: Words of which the error must have one.
        check: What is wrong with a result, or None.
        writes: Names of files that a success may write.
        patch: A context that the call runs in.
    """

    group: str
    name: str
    run: Callable[[Path], Any]
    verdict: str
    about: tuple[str, ...] = ()
    check: Callable[[Any], str | None] = lambda result: None
    writes: tuple[str, ...] = ()
    patch: Patch = field(default=contextlib.nullcontext)


# What nobody should give, by the kind that is expected.
NUMBERS = {
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "-1": -1,
    "0": 0,
    "1e300": 1e300,
    "text": "3",
    "None": None,
    "list": [1],
    "1j": 1j,
    "tensor of two": torch.tensor([1.0, 2.0]),
    "object": object(),
    "True": True,
    "tensor nan": torch.tensor(NAN),
}
THINGS = {
    "None": None,
    "3": 3,
    "text": "euler",
    "class": lp.Euler,
    "list": [1],
    "function": lambda: None,
    "object": object(),
}


def tensors() -> dict[str, Any]:
    """Things that stand where a tensor of floats (3, 2) is expected."""
    good = torch.tensor([[0.5, -0.5], [1.0, 0.0], [-1.0, 0.25]])
    return {
        "None": None,
        "list": good.tolist(),
        "array": good.numpy(),
        "ints": good.long(),
        "booleans": good > 0,
        "text": "x",
        "3.0": 3.0,
        "complex": good.to(torch.complex64),
        "0-d": torch.tensor(1.0),
        "empty": torch.zeros(0, 2),
        "empty rows": torch.zeros(3, 0),
        "nan": torch.full((3, 2), NAN),
        "inf": torch.full((3, 2), INF),
        "half": good.half(),
        "bfloat16": good.bfloat16(),
        "double": good.double(),
        "huge": good * 1e38,
        "sparse": good.to_sparse(),
        "meta": torch.empty(3, 2, device="meta"),
        "gradient": good.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(good.clone()),
        "transposed": good.T.contiguous().T,
        "other shape": torch.zeros(2, 3),
        "five axes": torch.zeros(3, 1, 1, 1, 2),
        "class": torch.Tensor,
        "generator": (x for x in [1]),
        "float8": good.to(torch.float8_e5m2),
        "quantized": torch.quantize_per_tensor(good, 0.1, 0, torch.qint8),
    }


def _finite(x: Any, shape: tuple[int, ...] | None = None) -> str | None:
    if not isinstance(x, torch.Tensor):
        return f"returned {type(x).__name__}"
    if shape is not None and tuple(x.shape) != shape:
        return f"shape {tuple(x.shape)} for {shape}"
    return None if bool(torch.isfinite(x).all()) else "the result is not finite"


def _gaussian() -> Any:
    from lanpaint_toys import Gaussian

    return Gaussian(mean=[0.0, 0.0], cov=[[1.0, 0.8], [0.8, 1.0]])


def _observed() -> lp.Observation:
    return lp.Observation(torch.tensor([[0.5, 0.0], [1.0, 0.0], [-1.0, 0.0]]), torch.tensor([True, False]))


def _samples(x: Any) -> str | None:
    """What is wrong with samples given :func:`_observed`."""
    if wrong := _finite(x, (3, 2)):
        return wrong
    if not torch.equal(x[:, 0], _observed().values[:, 0]):
        return "the known entries changed"
    return "the unknown entries are all equal" if len(set(x[:, 1].tolist())) == 1 else None


def observations() -> Iterable[Call]:
    """Observations of wrong values, masks and noise."""
    good, known = tensors()["double"].float(), torch.tensor([True, False])
    fine = {"half", "bfloat16", "double", "gradient", "parameter", "transposed"}
    for name, values in tensors().items():
        verdict = GOOD if name in fine else EITHER if name in ("sparse", "meta", "huge", "float8", "quantized") else BAD
        if name in ("other shape", "five axes"):
            verdict = BAD if name == "other shape" else GOOD

        def check(made: lp.Observation, values: Any = values) -> str | None:
            expected = torch.where(known, values.float() if values.dtype in (torch.half, torch.bfloat16) else values, 0)
            return None if torch.equal(made.values.to_dense(), expected.to_dense()) else "the values are others"

        yield Call(
            "observation",
            f"Observation({name}, known)",
            lambda _, v=values: lp.Observation(v, known),
            verdict,
            ("values", "known"),
            check if verdict == GOOD else lambda made: None,
        )
    masks = {
        "None": None,
        "list": [True, False],
        "array": np.array([True, False]),
        "ints": torch.tensor([1, 0]),
        "floats": torch.tensor([1.0, 0.0]),
        "text": "known",
        "True": True,
        "too long": torch.ones(3, dtype=torch.bool),
        "more axes": torch.ones(1, 3, 2, dtype=torch.bool),
        "empty": torch.ones(0, dtype=torch.bool),
        "0-d": torch.tensor(True),
        "column": torch.tensor([[True], [False], [True]]),
        "sparse": torch.tensor([True, False]).to_sparse(),
        "meta": torch.empty(2, dtype=torch.bool, device="meta"),
    }
    for name, mask in masks.items():
        verdict = GOOD if name in ("0-d", "column") else EITHER if name in ("sparse", "meta") else BAD
        yield Call(
            "observation",
            f"Observation(values, {name})",
            lambda _, m=mask: lp.Observation(good, m),
            verdict,
            ("known",),
        )
    for name, noise in NUMBERS.items():
        verdict = GOOD if name == "0" else EITHER if name in ("1e300", "True") else BAD
        yield Call(
            "observation",
            f"Observation(values, known, noise={name})",
            lambda _, n=noise: lp.Observation(good, known, n),
            verdict,
            ("noise",),
        )
    for name, shape in {
        "None": None,
        "3": 3,
        "empty": (),
        "zero": (0, 2),
        "negative": (-1, 2),
        "float": (2.5, 2),
        "text": "ab",
        "huge": (10**12, 10**6),
        "texts": ("a", 2),
        "nan": (NAN, 2),
        "nested": ((2, 2),),
    }.items():
        yield Call(
            "observation", f"Observation.none({name})", lambda _, s=shape: lp.Observation.none(s), BAD, ("shape",)
        )


SAMPLERS: dict[str, Any] = {
    "Sampler": lp.Sampler,
    "Replace": lp.Replace,
    "RePaint": lp.RePaint,
    "LanPaint": lp.LanPaint,
    "LangevinPaint": lp.LangevinPaint,
    "DDRM": lp.DDRM,
    "MCG": lp.MCG,
    "DPS": lp.DPS,
    "CoPaint": lp.CoPaint,
    "TwistedSMC": lp.TwistedSMC,
}


def _make(kind: str, **options: Any) -> Any:
    options = {"steps": 2, **options}
    return SAMPLERS[kind](options.pop("score", None) or _gaussian(), **options)


def samplers() -> Iterable[Call]:
    """Samplers with options that cannot be."""
    from lanpaint.options import arguments_of

    def run(kind, observation=None, **options):
        sampler = _make(kind, **options)
        return sampler(_observed() if observation is None else observation, generator=torch.Generator().manual_seed(0))

    for kind, made in SAMPLERS.items():
        for argument, described in arguments_of(made, lp.Sampler).items():
            option = described.option
            if (
                option is None
                or option.kind not in (int, float)
                or (argument == "steps" and kind not in ("Sampler", "LanPaint", "TwistedSMC"))
            ):
                continue
            for name, value in NUMBERS.items():
                verdict = (
                    EITHER if name in ("0", "1e300", "True") or (name == "inf" and argument == "friction") else BAD
                )
                if name == "None" and (described.parameter.default is None):
                    verdict = EITHER
                if name == "-1" and argument in ("lam",):
                    verdict = BAD
                if name == "list" and argument == "inner_steps":
                    verdict = BAD if kind != "CoPaint" else EITHER
                about = (argument, argument.replace("_", " "), option.help[:1], "finite", "threshold", "ten thousand")
                about = tuple(word for word in about if word)
                check = _samples if kind != "Sampler" else lambda x: _finite(x, (3, 2))
                yield Call(
                    "option",
                    f"{kind}({argument}={name})",
                    lambda _, k=kind, a=argument, v=value: run(k, **{a: v}),
                    verdict,
                    about,
                    check,
                )
    for kind in ("LanPaint", "Replace", "TwistedSMC"):
        for part in ("solver", "schedule", "plan", "callbacks", "levels", "spacing"):
            for name, value in THINGS.items():
                verdict = EITHER if name == "None" and part != "callbacks" else BAD
                yield Call(
                    "part",
                    f"{kind}({part}={name})",
                    lambda _, k=kind, p=part, v=value: run(
                        k, **{p: v} | ({"steps": 2} if p not in ("plan", "levels") else {})
                    ),
                    verdict,
                    (part, part.rstrip("s"), "levels"),
                    _samples,
                )
    clean, noisy, nan = lp.NoiseLevel(1.0, 0.0), lp.NoiseLevel(0.5, 0.8), torch.tensor(0.5)
    for name, levels in {
        "empty": [],
        "one": [clean],
        "not clean": [noisy, noisy],
        "rising": [noisy, lp.NoiseLevel(0.1, 0.9), clean],
        "tuple pairs": [(0.5, 0.8), (1, 0)],
        "numbers": [1.0, 0.0],
        "other shape": [lp.NoiseLevel(nan.expand(5), nan.expand(5)), clean],
        "generator": (x for x in [noisy, clean]),
        "nothing at all": [lp.NoiseLevel(0.0, 0.0), clean],
        "dict": {0: noisy, 1: clean},
    }.items():
        yield Call(
            "part",
            f"LanPaint(levels={name})",
            lambda _, v=levels: run("LanPaint", levels=v),
            BAD if name != "generator" else EITHER,
            ("level",),
            _samples,
        )
    for name, spacing in {
        "returns None": lambda schedule, steps: None,
        "returns numbers": lambda schedule, steps: [1, 0],
        "no arguments": lambda: None,
        "empty": lambda schedule, steps: [],
        "raises": _raise,
        "too few": lambda schedule, steps: [clean],
    }.items():
        yield Call(
            "part",
            f"LanPaint(spacing={name})",
            lambda _, v=spacing: run("LanPaint", spacing=v),
            BAD,
            ("spacing", "level", "no luck"),
            _samples,
        )
    for name, numbers in {
        "wrong length": [1],
        "negative": [-1, 1],
        "floats": [1.5, 1],
        "empty": [],
        "texts": ["a", "b"],
        "None": [None, 1],
        "nan": [NAN, 1],
    }.items():
        yield Call(
            "part",
            f"LanPaint(inner_steps={name})",
            lambda _, v=numbers: run("LanPaint", inner_steps=v),
            BAD,
            ("inner_steps",),
            _samples,
        )
    for name, options in {
        "wish=3": {"wish": 3},
        "preset=slow": {"preset": "slow"},
        "preset=None": {"preset": None},
        "preset=list": {"preset": ["paper"]},
        "friction and dynamics": {"friction": 3, "dynamics": lp.Langevin()},
        "dynamics=class": {"dynamics": lp.Langevin},
        "dynamics=text": {"dynamics": "fld"},
        "dynamics=3": {"dynamics": 3},
        "plan and steps": {"plan": lp.Plan([noisy, clean]), "levels": [noisy, clean]},
        "spacing=even": {"spacing": "even"},
        "spacing=True": {"spacing": True},
        "callbacks=[class]": {"callbacks": [lp.ProgressBar]},
        "callbacks=callback": {"callbacks": lp.ProgressBar()},
        "callbacks=[3]": {"callbacks": [3]},
        "score=network": {"score": torch.nn.Linear(2, 2)},
        "score=class": {"score": lp.Score},
        "score=3": {"score": 3},
        "score=[]": {"score": [1]},
        "score=denoised": {"score": _gaussian().denoised},
    }.items():
        yield Call(
            "part",
            f"LanPaint({name})",
            lambda _, o=options: run("LanPaint", **o),
            BAD,
            (*name.split("=")[:1], *name.split(" and "), "score", "Callback", "levels", "keyword", "network"),
            _samples,
        )


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise LucklessError("no luck")


def scores() -> Iterable[Call]:
    """Models that answer with what is no score."""
    answers: dict[str, tuple[Any, str]] = {
        "None": (lambda x, level: None, BAD),
        "tuple": (lambda x, level: (x,), BAD),
        "array": (lambda x, level: x.numpy(), BAD),
        "float": (lambda x, level: 3.0, BAD),
        "other shape": (lambda x, level: x[..., :1], BAD),
        "flat": (lambda x, level: x.flatten(), BAD),
        "nan": (lambda x, level: x * NAN, BAD),
        "inf": (lambda x, level: x * INF, BAD),
        "complex": (lambda x, level: x.to(torch.complex64), BAD),
        "integers": (lambda x, level: x.long(), EITHER),
        "half": (lambda x, level: -x.half(), GOOD),
        "double": (lambda x, level: -x.double(), GOOD),
        "writes to x": (lambda x, level: x.mul_(-1), GOOD),
        "huge": (lambda x, level: x * 1e30, BAD),
        "one argument": (lambda x: x, BAD),
        "three arguments": (lambda x, level, more: x, BAD),
        "raises": (_raise, BAD),
        "list": (lambda x, level: x.tolist(), BAD),
        "sparse": (lambda x, level: (-x).to_sparse(), EITHER),
        "booleans": (lambda x, level: x > 0, EITHER),
        "meta": (lambda x, level: x.to("meta"), BAD),
    }
    for (name, (answer, verdict)), kind in itertools.product(answers.items(), ("LanPaint", "Replace", "DDRM")):
        yield Call(
            "score",
            f"{kind}(score: {name})",
            lambda _, a=answer, k=kind: _make(k, score=a)(_observed()),
            verdict,
            ("score", "shape", "no luck", "argument", "finite", "too large", "times"),
            _samples,
        )
    schedule = lp.VP.linear()
    networks: dict[str, tuple[Any, str]] = {
        "None": (lambda x, t: None, BAD),
        "other shape": (lambda x, t: x[..., :1], BAD),
        "nan": (lambda x, t: x * NAN, BAD),
        "tuple": (lambda x, t: (x,), GOOD),
        "empty tuple": (lambda x, t: (), BAD),
        "tuple of None": (lambda x, t: (None,), BAD),
        "dict": (lambda x, t: {"sample": x}, EITHER),
        "sample is None": (lambda x, t: types.SimpleNamespace(sample=None), BAD),
        "raises": (_raise, BAD),
        "one argument": (lambda x: x, BAD),
        "array": (lambda x, t: x.numpy(), BAD),
        "complex": (lambda x, t: x.to(torch.complex64), BAD),
        "integers": (lambda x, t: x.long(), EITHER),
    }
    for name, (network, verdict) in networks.items():
        yield Call(
            "score",
            f"NetworkScore({name})",
            lambda _, n=network: _make("LanPaint", score=lp.NetworkScore(n, "epsilon", schedule))(_observed()),
            verdict,
            ("network", "no luck", "argument", "finite"),
            _samples,
        )
    for name, arguments in {
        "no network": (None, "epsilon", schedule),
        "a number": (3, "epsilon", schedule),
        "predicts wish": (lambda x, t: x, "wish", schedule),
        "predicts None": (lambda x, t: x, None, schedule),
        "predicts list": (lambda x, t: x, ["epsilon"], schedule),
        "schedule None": (lambda x, t: x, "epsilon", None),
        "schedule text": (lambda x, t: x, "epsilon", "linear"),
        "schedule class": (lambda x, t: x, "epsilon", lp.VP),
        "dtype text": (lambda x, t: x, "epsilon", schedule, "float16"),
        "dtype wish": (lambda x, t: x, "epsilon", schedule, "wish"),
        "dtype int": (lambda x, t: x, "epsilon", schedule, torch.int32),
        "dtype 3": (lambda x, t: x, "epsilon", schedule, 3),
    }.items():
        yield Call(
            "score",
            f"NetworkScore({name})",
            lambda _, a=arguments: _make("LanPaint", score=lp.NetworkScore(*a))(_observed()),
            EITHER if name == "dtype text" else BAD,
            ("network", "predicts", "schedule", "dtype"),
            _samples,
        )
    gaussian = _gaussian()
    for name, thing in {
        "None": None,
        "3": 3,
        "text": "x",
        "network": torch.nn.Linear(2, 2),
        "class": lp.Score,
        "list": [],
    }.items():
        yield Call("score", f"as_score({name})", lambda _, t=thing: lp.as_score(t), BAD, ("score", "Score"))
        yield Call("score", f"CountedScore({name})", lambda _, t=thing: lp.CountedScore(t), BAD, ("score", "Score"))
        yield Call(
            "score",
            f"GuidedScore({name}, …)",
            lambda _, t=thing: lp.GuidedScore(t, gaussian, 3.0),
            BAD,
            ("conditional", "Score", "score"),
        )
    for name, value in NUMBERS.items():
        yield Call(
            "score",
            f"GuidedScore(scale={name})",
            lambda _, v=value: lp.GuidedScore(gaussian, gaussian, v),
            EITHER if name in ("-1", "0", "1e300", "True") else BAD,
            ("scale",),
        )


def runs() -> Iterable[Call]:
    """Calls of a sampler with what is no observation, no generator, no start and no noise."""
    for name, observation in {
        "None": None,
        "3": 3,
        "text": "ab",
        "tensor": torch.zeros(3, 2),
        "empty": (),
        "zero": (0, 2),
        "negative": (-1, 2),
        "float": (2.5, 2),
        "huge": (10**12, 10**6),
        "texts": ["a", "b"],
        "array": np.zeros((3, 2)),
        "class": lp.Observation,
        "set": {3, 2},
        "nan": (NAN, 2),
        "None inside": (None, 2),
        "other dimension": (3, 5),
    }.items():
        yield Call(
            "run",
            f"LanPaint()({name})",
            lambda _, o=observation: _make("LanPaint")(o),
            BAD,
            ("observation", "shape", "5"),
            lambda x: _finite(x),
        )
    one = torch.Generator().manual_seed(0)
    for name, generator in {
        "3": 3,
        "text": "g",
        "[3]": [3],
        "empty": [],
        "two": lp.seeded([1, 2]),
        "class": torch.Generator,
        "True": True,
        "numpy's": np.random.default_rng(0),
        "None inside": [None] * 3,
        "the same thrice": [one] * 3,
    }.items():
        yield Call(
            "run",
            f"LanPaint()(generator={name})",
            lambda _, g=generator: _make("LanPaint")(_observed(), generator=g),
            BAD if name != "the same thrice" else EITHER,
            ("generator",),
            _samples,
        )
    for name, start in tensors().items():
        verdict = (
            EITHER
            if name
            in (
                "half",
                "bfloat16",
                "double",
                "gradient",
                "parameter",
                "transposed",
                "sparse",
                "huge",
                "None",
                "quantized",
                "float8",
                "ints",
                "booleans",
            )
            else BAD
        )
        yield Call(
            "run",
            f"LanPaint()(start={name})",
            lambda _, s=start: _make("LanPaint")(_observed(), start=s, generator=torch.Generator().manual_seed(0)),
            verdict,
            ("start", "finite", "too large"),
            _samples,
        )
    sources = {
        "3": 3,
        "text": "noise",
        "returns None": lambda x: None,
        "other shape": lambda x: torch.randn(2),
        "broadcasts": lambda x: torch.randn(1, 2),
        "a number": lambda x: 0.5,
        "an array": lambda x: np.zeros((3, 2)),
        "nan": lambda x: x * NAN,
        "complex": lambda x: torch.randn_like(x).to(torch.complex64),
        "double": lambda x: torch.randn(x.shape, dtype=torch.float64),
        "no argument": lambda: None,
        "raises": _raise,
        "a tensor": torch.zeros(3, 2),
        "class": lp.NormalNoise,
        "0-d": lambda x: torch.tensor(1.0),
        "generator": torch.Generator(),
        "larger": lambda x: torch.randn(4, *x.shape),
        "transposed": lambda x: torch.randn(x.shape[::-1]),
        "meta": lambda x: x.to("meta"),
        "booleans": lambda x: x > 0,
    }
    for (name, noise), kind in itertools.product(sources.items(), ("LanPaint", "RePaint")):
        yield Call(
            "run",
            f"{kind}()(noise={name})",
            lambda _, n=noise, k=kind: _make(k)(_observed(), noise=n),
            EITHER if name in ("double",) else BAD,
            ("noise", "no luck", "finite", "argument"),
            _samples,
        )
    yield Call(
        "run",
        "generator and noise",
        lambda _: _make("LanPaint")(_observed(), generator=one, noise=torch.randn_like),
        BAD,
        ("generator",),
    )
    yield Call("run", "iterate(None)", lambda _: list(_make("LanPaint").iterate(None)), BAD, ("observation",))
    yield Call(
        "run",
        "iterate(noise of another shape)",
        lambda _: list(_make("LanPaint").iterate(_observed(), noise=lambda x: torch.randn(2))),
        BAD,
        ("noise",),
    )
    for name, value in {
        "None": None,
        "3": 3,
        "[-1]": [-1],
        "[2**32]": [2**32],
        "text": "ab",
        "floats": [1.5],
        "[None]": [None],
        "nan": [NAN],
        "huge": [10**400],
        "True": [True],
        "array": np.array([1, 2]),
        "tensor": torch.tensor([1, 2]),
    }.items():
        yield Call(
            "run",
            f"seeded({name})",
            lambda _, v=value: lp.seeded(v),
            EITHER if name in ("True", "array", "tensor") else BAD,
            ("seed",),
        )
    yield Call("run", "seeded(device)", lambda _: lp.seeded([1], device="tpu"), BAD, ("device", "tpu"))


def own_parts() -> Iterable[Call]:
    """Dynamics, solvers, samplers and callbacks of a user's own that return what they should not."""
    parts: dict[str, Any] = {}
    exec(PARTS, parts)

    def run(**options: Any) -> Any:
        return _make("LanPaint", inner_steps=2, **options)(_observed(), generator=torch.Generator().manual_seed(0))

    dynamics = [name for name, part in parts.items() if isinstance(part, type) and issubclass(part, lp.Dynamics)]
    for name in dynamics:
        yield Call(
            "one's own",
            f"dynamics={name}()",
            lambda _, p=parts[name]: run(dynamics=p()),
            BAD,
            (name, "State", "step", "finite", "no luck", "evaluations", "shape"),
            _samples,
        )

        def problems(report: Any) -> str | None:
            return (
                "verify finds nothing"
                if report.passed
                else next((f"verify says {p}" for p in report.problems if "\n" in p), None)
            )

        yield Call(
            "verify",
            f"verify({name}())",
            lambda _, p=parts[name]: lp.verify(p()),
            GOOD if name != "CountsWrong" else EITHER,
            (),
            problems if name != "CountsWrong" else lambda report: None,
        )
    for name in [n for n, part in parts.items() if isinstance(part, type) and issubclass(part, lp.Solver)]:
        yield Call(
            "one's own",
            f"solver={name}()",
            lambda _, p=parts[name]: run(solver=p()),
            BAD,
            (name, "SolverState", "solver", "finite", "level"),
            _samples,
        )
    for name in [n for n, part in parts.items() if isinstance(part, type) and issubclass(part, lp.Sampler)]:
        yield Call(
            "one's own",
            f"{name}(…)",
            lambda _, p=parts[name]: p(_gaussian(), steps=2, inner_steps=1)(_observed()),
            BAD,
            (name, "State", "no luck", "known", "enter", "refine", "advance", "finish", "begin"),
            _samples,
        )
    for name, thing in {
        "None": None,
        "3": 3,
        "class": lp.Langevin,
        "text": "fld",
        "solver": lp.Euler(),
        "sampler": _make("LanPaint"),
    }.items():
        yield Call("verify", f"verify({name})", lambda _, t=thing: lp.verify(t), BAD, ("Dynamics",))
    for hook, (name, answer) in itertools.product(
        ("on_run_start", "on_level_start", "on_inner_end", "on_outer_end"),
        {"3": 3, "text": "stop", "True": True, "class": lp.Stop, "raises": LucklessError}.items(),
    ):

        def make(hook: str = hook, answer: Any = answer) -> lp.Callback:
            def hooked(self: Any, *args: Any) -> Any:
                if answer is LucklessError:
                    raise LucklessError("no luck")
                return answer

            return type("Hooked", (lp.Callback,), {hook: hooked})()

        if hasattr(lp.Callback, hook):
            yield Call(
                "one's own",
                f"callback {hook} returns {name}",
                lambda _, m=make: run(callbacks=[m()]),
                BAD,
                (hook, "Stop", "no luck"),
                _samples,
            )
    for name, logger in {"None": None, "3": 3, "class": dict}.items():
        yield Call("one's own", f"LightningLogger({name})", lambda _, v=logger: lp.LightningLogger(v), BAD, ("logger",))
    for name, thing in THINGS.items():
        yield Call(
            "one's own",
            f"DiffusersSolver({name})",
            lambda _, t=thing: lp.DiffusersSolver(t).levels(2),
            BAD,
            ("scheduler",),
        )
        yield Call(
            "one's own",
            f"Metropolis({name})",
            lambda _, t=thing: lp.Metropolis(t),
            BAD,
            ("dynamics", "Dynamics", "Metropolis"),
        )
        yield Call(
            "one's own",
            f"Preconditioned({name})",
            lambda _, t=thing: lp.Preconditioned(t, 2.0),
            BAD,
            ("dynamics", "Dynamics"),
        )


def numbers() -> Iterable[Call]:
    """Every numeric argument of every other public class, with what is no number for it."""
    from lanpaint.options import arguments_of

    fixed: dict[str, dict[str, Any]] = {
        "BiG": {"score": _gaussian(), "observation": _observed()},
        "Decoupled": {"score": _gaussian(), "observation": _observed()},
        "Preconditioned": {"dynamics": lp.Langevin()},
        "NoiseLevel": {"alpha": 0.5, "sigma": 0.5},
        "Drift": {"function": torch.neg, "damping": 1.0, "time_step": 0.1},
    }
    kinds = "HFHR VE Flow Karras FastLangevin Underdamped SecantLangevin DDIM DPMSolver EarlyStop TrajectoryRecorder"
    for name in [*kinds.split(), *fixed]:
        kind, others = getattr(lp, name), fixed.get(name, {})
        arguments = [a for a, d in arguments_of(kind).items() if d.option is not None and d.option.kind in (int, float)]
        arguments += {
            "NoiseLevel": ["alpha", "sigma"],
            "Drift": ["damping", "time_step"],
            "Preconditioned": ["diagonal"],
        }.get(name, [])
        for argument in dict.fromkeys(arguments):
            for word, value in NUMBERS.items():
                default = arguments_of(kind)[argument].parameter.default
                positive = argument not in (
                    "alpha",
                    "sigma",
                    "noise",
                    "eta",
                    "lam",
                    "expected_noise",
                    "time_step",
                    "psi",
                )
                verdict = (
                    EITHER
                    if word in ("1e300", "True", "inf", "tensor of two", "list")
                    or (word == "None" and default is None)
                    or (word, name, argument) == ("-1", "BiG", "lam")
                    else GOOD
                    if word == "0" and not positive and argument != "psi"
                    else EITHER
                    if word == "0" and argument == "psi"
                    else BAD
                )
                if name == "EarlyStop" and argument == "threshold" and word == "inf":
                    verdict = EITHER
                about = (
                    argument,
                    argument.replace("_", " "),
                    "friction",
                    "diagonal",
                    "α",
                    "σ",
                    "preconditioner",
                    "order",
                    "one way",
                )
                yield Call(
                    "number",
                    f"{name}({argument}={word})",
                    lambda _, k=kind, a=argument, v=value, f=others: k(**{**f, a: v}),
                    verdict,
                    about,
                )
    for maker in ("linear", "scaled_linear", "cosine"):
        parameters = {
            "linear": ("beta_start", "beta_end", "timesteps"),
            "scaled_linear": ("beta_start", "timesteps"),
            "cosine": ("timesteps", "offset", "max_beta"),
        }[maker]
        for argument, (word, value) in itertools.product(parameters, NUMBERS.items()):
            yield Call(
                "number",
                f"VP.{maker}({argument}={word})",
                lambda _, m=maker, a=argument, v=value: getattr(lp.VP, m)(**{a: v}),
                EITHER if word in ("True",) or (word == "0" and argument == "offset") else BAD,
                (argument, "β", "beta", "alphas", "ᾱ", "timesteps"),
            )


def schedules() -> Iterable[Call]:
    """Schedules, spacings, levels and plans."""
    for name, alphas in {
        "None": None,
        "3": 3,
        "empty": [],
        "one": [0.5],
        "rising": [0.1, 0.5],
        "nan": [0.5, NAN],
        "zero": [0.5, 0.0],
        "above one": [1.5, 0.5],
        "text": "linear",
        "texts": ["a", "b"],
        "two axes": torch.rand(2, 2),
        "equal": [0.5, 0.5],
        "array": np.array([0.9, 0.5]),
        "ints": torch.tensor([1, 0]),
        "complex": torch.tensor([0.9 + 0j, 0.5]),
        "half": torch.tensor([0.9, 0.5]).half(),
        "negative": [0.5, -0.5],
        "meta": torch.empty(3, device="meta"),
    }.items():
        yield Call(
            "schedule",
            f"VP({name})",
            lambda _, a=alphas: lp.VP(a),
            GOOD if name in ("array", "half") else EITHER if name in ("zero", "equal", "ints", "meta") else BAD,
            ("alphas_cumprod", "ᾱ"),
        )
    times = {
        "nan": NAN,
        "None": None,
        "text": "1",
        "list": [1.0, 2.0],
        "tensor nan": torch.tensor(NAN),
        "1j": 1j,
        "object": object(),
        "inf": INF,
        "-5": -5.0,
        "1e9": 1e9,
        "ints": torch.tensor([1, 2]),
    }
    for (word, time_), (name, schedule) in itertools.product(
        times.items(), {"VP": lp.VP.linear(), "VE": lp.VE(), "Flow": lp.Flow()}.items()
    ):

        def finite(level: lp.NoiseLevel) -> str | None:
            return _finite(level.alpha) or _finite(level.sigma)

        yield Call(
            "schedule",
            f"{name}.level({word})",
            lambda _, s=schedule, t=time_: s.level(t),
            BAD if word in ("nan", "None", "text", "tensor nan", "1j", "object") else EITHER,
            ("time",),
            finite,
        )
    for (name, function), (word, steps) in itertools.product(
        {"uniform_time": lp.uniform_time, "uniform_log_snr": lp.uniform_log_snr, "Karras()": lp.Karras()}.items(),
        {"0": 0, "-1": -1, "1.5": 1.5, "nan": NAN, "text": "3", "None": None, "True": True}.items(),
    ):
        yield Call(
            "schedule",
            f"{name}(schedule, {word})",
            lambda _, f=function, s=steps: f(lp.VP.linear(), s),
            BAD,
            ("steps",),
        )
    for name, function in {
        "uniform_time": lp.uniform_time,
        "uniform_log_snr": lp.uniform_log_snr,
        "Karras()": lp.Karras(),
    }.items():
        for word, schedule in THINGS.items():
            yield Call(
                "schedule",
                f"{name}({word}, 2)",
                lambda _, f=function, s=schedule: f(s, 2),
                BAD,
                ("schedule", "Schedule"),
            )
    clean, noisy = lp.NoiseLevel(1.0, 0.0), lp.NoiseLevel(0.5, 0.8)
    for name, arguments in {
        "None": (None,),
        "3": (3,),
        "text": ("levels",),
        "numbers": ([1, 0],),
        "inner text": ([noisy, clean], "3"),
        "inner nan": ([noisy, clean], NAN),
        "inner -1": ([noisy, clean], -1),
        "inner 1.5": ([noisy, clean], 1.5),
        "inner wrong length": ([noisy, clean], [1, 2]),
        "order empty": ([noisy, clean], 1, []),
        "order text": ([noisy, clean], 1, "0"),
        "order 3": ([noisy, clean], 1, 3),
        "order skips": ([noisy, noisy, noisy, clean], 1, [0, 2]),
        "order nan": ([noisy, clean], 1, [NAN]),
        "evaluations text": ([noisy, clean], 1, None, ["a"]),
        "evaluations -1": ([noisy, clean], 1, None, [-1]),
        "evaluations nan": ([noisy, clean], 1, None, [NAN]),
        "evaluations 3": ([noisy, clean], 1, None, 3),
        "outer nan": ([noisy, clean], 1, None, None, [NAN]),
        "outer text": ([noisy, clean], 1, None, None, "a"),
        "outer -1": ([noisy, clean], 1, None, None, [-1]),
    }.items():
        yield Call(
            "schedule",
            f"Plan({name})",
            lambda _, a=arguments: lp.Plan(*a),
            BAD,
            ("level", "inner", "order", "evaluations"),
        )
    for word, value in NUMBERS.items():
        yield Call(
            "schedule",
            f"Plan.with_time_travel({word}, 1)",
            lambda _, v=value: lp.Plan([noisy, clean]).with_time_travel(v, 1),
            BAD if word not in ("True", "1e300") else EITHER,
            ("travel",),
        )
        yield Call(
            "schedule",
            f"NoiseLevel.per_sample({word})",
            lambda _, v=value: noisy.per_sample(v),
            BAD if word not in ("True", "0", "1e300") else EITHER,
            ("per_sample", "ndim", "axes", "dimension"),
        )


def pictures(folder: Path) -> Iterable[Call]:
    """Pictures and masks of every type, by the readers and by an Inpainter."""
    from lanpaint.images import check_output, read_mask, read_picture, write_picture
    from lanpaint.pictures import read_painted, read_pictures

    rng = np.random.default_rng(5)
    grey = rng.integers(60, 200, (8, 8), dtype=np.uint8)
    box = np.zeros((8, 8), dtype=bool)
    box[2:6, 2:6] = True
    image = Image.fromarray(grey)
    tensor = torch.from_numpy(grey)
    closed = Image.open(folder / "d-plain.png")
    closed.close()
    truncated = Image.open(folder / "d-truncated.png")
    given: dict[str, tuple[Any, str]] = {
        "PIL": (image, GOOD),
        "array": (grey, GOOD),
        "array 1": (grey[..., None], GOOD),
        "tensor": (tensor, GOOD),
        "tensor 1": (tensor[None], GOOD),
        "floats": (tensor.float() / 255, GOOD),
        "double": (grey.astype(np.float64) / 255, GOOD),
        "half": ((tensor.float() / 255).half(), EITHER),
        "path": (str(folder / "d-plain.png"), EITHER),
        "list": ([image], GOOD),
        "pair": ([image, image], EITHER),
        "nested": ([[image]], EITHER),
        "array of three": (np.dstack([grey] * 3), EITHER),
        "RGBA": (image.convert("RGBA"), EITHER),
        "LA": (image.convert("LA"), GOOD),
        "P": (image.convert("P"), EITHER),
        "1": (image.convert("1"), EITHER),
        "CMYK": (image.convert("RGB").convert("CMYK"), EITHER),
        "I": (image.convert("I"), BAD),
        "F": (image.convert("F"), BAD),
        "I;16": (Image.fromarray(grey.astype(np.uint16) * 257), BAD),
        "0-255 floats": (tensor.float(), BAD),
        "int64": (tensor.long(), BAD),
        "uint16": (grey.astype(np.uint16), BAD),
        "negative": (tensor.float() / 255 - 1, BAD),
        "nan": (tensor * NAN, BAD),
        "booleans": (box, EITHER),
        "complex": (grey.astype(complex), BAD),
        "objects": (grey.astype(object), BAD),
        "texts": (np.array([["a"]]), BAD),
        "empty": (np.zeros((0, 8), np.uint8), BAD),
        "0-d": (np.uint8(3), BAD),
        "1-d": (grey[0], BAD),
        "empty list": ([], BAD),
        "None in list": ([None], BAD),
        "five axes": (np.zeros((1, 1, 8, 8, 1), np.uint8), EITHER),
        "seven channels": (np.zeros((8, 8, 7), np.uint8), BAD),
        "two sizes": ([image, image.resize((4, 8))], BAD),
        "closed": (closed, BAD),
        "truncated": (truncated, BAD),
        "text": ("nowhere.png", BAD),
        "empty text": ("", BAD),
        "bytes": (b"\x89PNG", BAD),
        "file object": (io.BytesIO((folder / "d-plain.png").read_bytes()), EITHER),
        "3": (3, BAD),
        "object": (object(), BAD),
        "dict": ({"image": image}, BAD),
        "class": (Image.Image, BAD),
        "sparse": (tensor.float().to_sparse() / 255, EITHER),
        "meta": (torch.empty(8, 8, device="meta"), BAD),
        "odd size": (image.resize((7, 5)), BAD),
        "structured": (np.zeros((8, 8), dtype=[("r", "u1")]), BAD),
        "masked": (np.ma.array(grey), EITHER),
        "dates": (np.zeros((8, 8), "M8[s]"), BAD),
        "big-endian": (grey.astype(">f4") / 255, EITHER),
        "flipped": (grey[::-1], EITHER),
        "read-only": (np.frombuffer(grey.tobytes(), np.uint8).reshape(8, 8), GOOD),
        "float16 array": ((grey / 255).astype(np.float16), EITHER),
        "longdouble": ((grey / 255).astype(np.longdouble), EITHER),
        "memoryview": (memoryview(grey), EITHER),
    }
    masks: dict[str, tuple[Any, str]] = {
        "booleans": (box, GOOD),
        "uint8": (box.astype(np.uint8), GOOD),
        "255": (box.astype(np.uint8) * 255, GOOD),
        "floats": (box.astype(float), GOOD),
        "tensor": (torch.from_numpy(box), GOOD),
        "tensor 1": (torch.from_numpy(box)[None], GOOD),
        "int64": (torch.from_numpy(box).long(), GOOD),
        "PIL 1": (Image.fromarray(box), GOOD),
        "PIL L": (Image.fromarray(box.astype(np.uint8) * 255), GOOD),
        "PIL RGBA": (Image.fromarray(box.astype(np.uint8) * 255).convert("RGBA"), GOOD),
        "PIL F": (Image.fromarray(box.astype(np.float32)), GOOD),
        "array 1": (box[..., None], GOOD),
        "array 3": (np.repeat(box[..., None], 3, 2), GOOD),
        "list": ([box], GOOD),
        "int8": (box.astype(np.int8), GOOD),
        "uint16": (box.astype(np.uint16), GOOD),
        "half": (torch.from_numpy(box).half(), GOOD),
        "-1 and 1": (np.where(box, 1.0, -1.0), BAD),
        "path": (str(folder / "d-mask.png"), GOOD),
        "empty": (np.zeros((8, 8), bool), BAD),
        "nan": (np.where(box, NAN, 0), BAD),
        "inf": (np.where(box, INF, 0), BAD),
        "negative": (-box.astype(float), BAD),
        "labels": (np.where(box, 7, 0), BAD),
        "huge": (np.where(box, 1e9, 0), BAD),
        "transposed size": (np.ones((8, 4), bool), BAD),
        "complex": (box.astype(complex), BAD),
        "None in list": ([None], BAD),
        "empty list": ([], BAD),
        "text": ("nowhere.png", BAD),
        "3": (3, BAD),
        "object": (object(), BAD),
        "0-d": (np.bool_(True), BAD),
        "1-d": (box[0], BAD),
        "two": (np.stack([box, box]), EITHER),
        "two masks, one picture": ([box, box], EITHER),
        "five axes": (box[None, None, None], EITHER),
        "objects": (box.astype(object), BAD),
        "meta": (torch.empty(8, 8, device="meta"), BAD),
        "True": (True, BAD),
        "sparse": (torch.from_numpy(box).float().to_sparse(), EITHER),
        "dict": ({}, BAD),
        "texts": (np.array([["a"] * 8] * 8), BAD),
        "masked": (np.ma.array(box), EITHER),
        "strings of bytes": (b"mask", BAD),
        "two colours": (np.repeat(box[..., None], 2, 2), BAD),
        "requires grad": (torch.from_numpy(box).float().requires_grad_(), GOOD),
        "float8": (torch.from_numpy(box).float().to(torch.float8_e5m2), EITHER),
    }

    def is_read(result: Any) -> str | None:
        values, _ = result
        return (
            None
            if values.shape[-2:] == (8, 8) and bool(((values >= 0) & (values <= 1)).all())
            else f"{tuple(values.shape)}, {values.min()} … {values.max()}"
        )

    def is_box(result: torch.Tensor) -> str | None:
        return None if bool((result == torch.from_numpy(box)).all()) else f"{int(result.sum())} pixels are painted"

    for name, (picture, verdict) in given.items():
        if verdict == BAD:
            yield Call(
                "reader",
                f"read_pictures({name})",
                lambda _, p=picture: read_pictures(p),
                BAD if name not in ("odd size",) else GOOD,
                ("image", "picture", "mask"),
                is_read if name != "odd size" else lambda result: None,
            )
    for name, (mask, verdict) in masks.items():
        yield Call(
            "reader",
            f"read_painted({name})",
            lambda _, m=mask: read_painted(m, (8, 8)),
            verdict,
            ("mask", "painted"),
            is_box if verdict == GOOD else lambda result: None,
        )

    pipe = _pipe("ddpm")

    def paint(picture: Any, mask: Any, **options: Any) -> Any:
        options = {
            "generator": torch.Generator().manual_seed(0),
            "output_type": "np",
            "inner_steps": 1,
            "steps": 2,
            **options,
        }
        inpaint = lp.Inpainter(pipe)
        made = inpaint(picture, mask, **options)
        return made.images

    def painted(made: Any) -> str | None:
        if made.shape[1:] != (8, 8, 1):
            return f"shape {made.shape}"
        if not np.isfinite(made).all():
            return "not finite"
        wrong = np.abs(made[0, :, :, 0] - grey / 255)
        if wrong[~box].max() > 1e-6:
            return f"{(wrong[~box] > 1e-6).sum()} known pixels changed, by {wrong[~box].max():.3g}"
        return "the hole was not painted" if (wrong[box] < 1e-6).sum() > 8 else None

    words = ("image", "picture", "mask", "painted", "steps", "pad", "feather", "crop", "channels")
    for name, (picture, verdict) in given.items():
        yield Call(
            "Inpainter",
            f"inpaint({name}, mask)",
            lambda _, p=picture: paint(p, box),
            verdict,
            words,
            painted if verdict == GOOD else lambda made: None if np.isfinite(made).all() else "not finite",
        )
    for name, (mask, verdict) in masks.items():
        yield Call(
            "Inpainter",
            f"inpaint(picture, {name})",
            lambda _, m=mask: paint(grey, m),
            verdict,
            words,
            painted if verdict == GOOD else lambda made: None if np.isfinite(made).all() else "not finite",
        )
    for option, values in {
        "pad": [
            -1,
            None,
            (1, 2),
            (1, 2, 3, 4, 5),
            "0,0,0,0",
            (NAN, 0, 0, 0),
            (1.5, 0, 0, 0),
            (-1, 0, 0, 0),
            (10**9, 0, 0, 0),
            3,
            (True, 0, 0, 0),
            ("1", 0, 0, 0),
        ],
        "feather": [-1, NAN, 1.5, "3", None, [1], 10**9, True],
        "crop": [0, -1, NAN, INF, "2", [1], 0.5, True],
        "steps": [0, -1, 1.5, NAN, "2", [2], 10**12, True],
        "known_guidance_scale": [1.0, NAN, "3"],
        "generator": [3, "g", [3], [], np.random.default_rng(0), lp.seeded([1, 2])],
        "output_type": ["wish", 3, None, "latent"],
        "num_inference_steps": [3],
        "prompt": ["a cat"],
        "wish": [3],
        "mask_image": [box],
        "lam": [NAN, "8", -1, INF],
        "inner_steps": [-1, NAN, "3", 1.5, None],
        "step_size": [NAN, -1, "x"],
        "friction": [NAN, 0, "x"],
        "sampler": [lp.LanPaint],
        "return_dict": ["x"],
        "callback_on_step_end": [3],
        "preset": ["slow"],
        "dynamics": ["fld", lp.Langevin],
        "batch_size": [0, -1, 2, "x", NAN],
        "strength": [0, -1, 1.5, NAN, "x", None, True],
        "grow": [1.5, NAN, "x", 10**9],
        "blur": [-1, NAN, "x", INF],
        "soft": ["x"],
        "invert": ["x"],
        "control_image": [image],
        "height": [8],
        "latents": [torch.zeros(1, 1, 8, 8)],
    }.items():
        for value in values:
            word = option if option not in ("control_image",) else "control"
            honest = {
                "output_type": ("latent", "wish", 3, None),
                "return_dict": ("x",),
                "soft": ("x",),
                "invert": ("x",),
                "lam": (INF,),
                "inner_steps": (None,),
                "batch_size": values,
            }
            verdict = (
                EITHER
                if any(
                    value is other or (isinstance(value, str) and value == other) for other in honest.get(option, ())
                )
                else BAD
            )
            yield Call(
                "Inpainter",
                f"inpaint(picture, mask, {option}={value!r:.40})",
                lambda _, o=option, v=value: paint(grey, box, **{o: v}),
                verdict,
                (word, word.replace("_", " "), *(("steps",) if option == "num_inference_steps" else ())),
                lambda made: None,
            )
    for name, thing in {
        "None": None,
        "3": 3,
        "text": "pipe",
        "class": type(pipe),
        "path": str(folder),
        "network": pipe.unet,
        "function": lambda: None,
        "module": torch,
        "lambda with scheduler": _with_scheduler(),
    }.items():
        yield Call("Inpainter", f"Inpainter({name})", lambda _, t=thing: lp.Inpainter(t), BAD, ("pipe",))
    for name, options in {
        "sampler=None": {"sampler": None},
        "sampler=3": {"sampler": 3},
        "sampler=text": {"sampler": "lanpaint"},
        "sampler=instance": {"sampler": _make("LanPaint")},
        "solver=class": {"solver": lp.Euler},
        "solver=text": {"solver": "euler"},
        "layout=3": {"layout": 3},
        "cell_rule=3": {"cell_rule": 3},
        "wish=3": {"wish": 3},
        "steps=3": {"steps": 3},
        "layout=class": {"layout": lp.Plan},
        "sampler=DPS": {"sampler": lp.DPS},
        "sampler returns None": {"sampler": lambda score, **o: None},
        "sampler raises": {"sampler": _raise},
    }.items():
        yield Call(
            "Inpainter",
            f"Inpainter(pipe, {name})",
            lambda _, o=options: lp.Inpainter(pipe, **o)(grey, box, steps=2, output_type="np").images,
            BAD,
            (name.split("=")[0].split(" ")[0], "no luck", "gradient", "option", "Sampler"),
            lambda made: None,
        )
    for name, thing in {"None": None, "3": 3, "class": type(pipe)}.items():
        yield Call(
            "Inpainter", f"bridged({name})", lambda _, t=thing: lp.bridged(t, lp.LanPaint).__enter__(), BAD, ("pipe",)
        )
    yield Call("Inpainter", "bridged(pipe, None)", lambda _: _bridged(pipe, None), BAD, ("sampler",))
    yield Call("Inpainter", "bridged(pipe, 3)", lambda _: _bridged(pipe, 3), BAD, ("sampler",))
    for name, observation in {
        "3": 3,
        "text": "x",
        "shape": (1, 1, 8, 8),
        "tensor": torch.zeros(1, 1, 8, 8),
        "wrong shape": lp.Observation(torch.zeros(1, 1, 4, 4), torch.tensor(True)),
    }.items():
        yield Call(
            "Inpainter",
            f"bridged(pipe, LanPaint, {name})",
            lambda _, o=observation: _bridged(pipe, lp.LanPaint, o),
            BAD,
            ("observation", "Observation", "shape"),
        )
    yield Call(
        "missing extra",
        "Inpainter without greenlet",
        lambda _: lp.Inpainter(pipe)(grey, box, steps=2),
        BAD,
        ("greenlet",),
        patch=without("greenlet"),
    )

    for name, path in {
        "None": None,
        "3": 3,
        "empty": "",
        "folder": folder,
        "missing": "nowhere.png",
        "truncated": folder / "d-truncated.png",
        "text": folder / "d-text.png",
        "deep": folder / "d-sixteen-bit.png",
        "moving": folder / "d-moving.gif",
        "NUL": "a\0b.png",
        "long": "n" * 5000,
        "bomb": folder / "d-bomb.png",
    }.items():
        yield Call(
            "reader", f"read_picture({name})", lambda _, p=path: read_picture(p), BAD, ("image", "picture", "path")
        )
        yield Call(
            "reader",
            f"read_mask({name})",
            lambda _, p=path: read_mask(p),
            BAD if name != "deep" else EITHER,
            ("mask", "painted", "path"),
        )
    pixels = torch.from_numpy(grey)[None]
    for name, (path, written) in {
        "None": (None, pixels),
        "no ending": ("out", pixels),
        "lossy": ("out.jpg", pixels),
        "folder": (folder / "d-folder.png", pixels),
        "nowhere": ("nowhere/out.png", pixels),
        "NUL": ("a\0.png", pixels),
        "floats": ("out.png", pixels.float()),
        "four axes": ("out.png", pixels[None]),
        "no pixels": ("out.png", pixels[:, :0]),
        "five channels": ("out.png", pixels.expand(5, -1, -1)),
        "None as pixels": ("out.png", None),
        "array": ("out.png", grey),
        "ints": ("out.png", pixels.long()),
        "empty path": ("", pixels),
        "full disk": ("d-plain.png", pixels),
    }.items():
        verdict = EITHER if name in ("lossy", "nowhere") else BAD
        yield Call(
            "reader",
            f"write_picture({name})",
            lambda f, p=path, w=written: write_picture(f / p if isinstance(p, str) and p and "\0" not in p else p, w),
            verdict,
            ("write", "path", "pixels", "space", "large"),
            writes=("out.jpg", "nowhere"),
            patch=full_disk if name == "full disk" else contextlib.nullcontext,
        )
        if name in ("None", "no ending", "folder", "NUL", "empty path"):
            yield Call(
                "reader",
                f"check_output({name})",
                lambda f, p=path: check_output(f / p if isinstance(p, str) and p and "\0" not in p else p),
                BAD,
                ("write", "path"),
            )


def _with_scheduler() -> Any:
    def pipe(*args: Any) -> None:
        return None

    pipe.scheduler = 3
    return pipe


def _pipe(name: str) -> Any:
    from tests.adapters import tiny

    return getattr(tiny, name)().pipe


def _bridged(pipe: Any, *arguments: Any) -> Any:
    with lp.bridged(pipe, *arguments):
        return pipe(num_inference_steps=2, output_type="np")


def benchmark(folder: Path) -> Iterable[Call]:
    """Settings, targets, results and grids of the benchmark, and models from folders."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.bench import Results, Settings, expand, make_target, read_grid, run
    from lanpaint.bench.report import write_report
    from lanpaint.metrics import energy_distance, mmd, sliced_wasserstein

    small = {"target": "gaussian", "steps": 2, "inner_steps": 1, "samples": 50}
    for key in ("steps", "inner_steps", "samples", "seed", "lam", "step_size", "friction", "expected_noise"):
        for word, value in NUMBERS.items():
            default = value is None and key not in ("steps", "seed")
            if default and key == "samples":  # right, and long
                continue
            verdict = (
                EITHER
                if default
                or word in ("1e300",)
                or (word == "inf" and key == "friction")
                or (word == "0" and key in ("inner_steps", "seed", "lam", "expected_noise"))
                else BAD
            )
            yield Call(
                "bench",
                f"run({key}={word})",
                lambda _, k=key, v=value: run(Settings.of(small | {k: v})),
                verdict,
                (key, key.replace("_", " "), "η", "finite", "a number"),
                _is_row,
            )
    for key in ("target", "method", "levels", "dynamics", "solver", "preset", "images"):
        for word, value in {
            "3": 3,
            "text": "wish",
            "empty": "",
            "list": ["a"],
            "None": None,
            "object": object(),
            "own": "os:getcwd",
            "NUL": "a\0b",
            "true": True,
        }.items():
            verdict = (
                EITHER
                if (value is None and key not in ("target", "method")) or (key == "images" and isinstance(value, str))
                else BAD
            )
            yield Call(
                "bench",
                f"run({key}={word})",
                lambda _, k=key, v=value: run(Settings.of(small | {k: v})),
                verdict,
                (key, str(value)[:20], "NUL", "spacing"),
                _is_row,
            )
    for word, grid in {
        "empty": {},
        "None": None,
        "list": [1],
        "number key": {3: 4, "target": "gaussian"},
        "wish": small | {"wish": 3},
        "empty list": small | {"steps": []},
        "nested": small | {"steps": [[1]]},
        "object": small | {"lam": object()},
        "no target": {"steps": 2},
        "set": small | {"steps": {1, 2}},
        "tuple": small | {"steps": (2, 3)},
    }.items():
        yield Call(
            "bench",
            f"expand({word})",
            lambda _, g=grid: expand(g),
            BAD if word not in ("tuple",) else EITHER,
            ("grid", "setting", "target", "steps", "lam", "wish"),
        )
    for name, verdict in files.rows(folder).items():
        yield Call(
            "bench",
            f"write_report({name})",
            lambda f, n=name: write_report(Results(f / n), f / "rep"),
            verdict,
            (name,),
            writes=("rep",),
        )
    for name, verdict in files.grids(folder).items():
        yield Call(
            "bench",
            f"read_grid({name})",
            lambda f, n=name: read_grid(f / n),
            EITHER if verdict == BAD else verdict,
            (name,),
        )
    for name, thing in {"None": None, "3": 3, "folder": folder, "empty": "", "NUL": "a\0b"}.items():
        yield Call("bench", f"Results({name})", lambda _, t=thing: Results(t), BAD, ("results", "path", "folder"))
        yield Call("bench", f"read_grid({name})", lambda _, t=thing: read_grid(t), BAD, ("path", "read", "grid"))
        yield Call("bench", f"make_target({name})", lambda _, t=thing: make_target(t), BAD, ("target",))
        yield Call(
            "model", f"load_pixel_model({name})", lambda _, t=thing: load_pixel_model(t), BAD, ("model", "pipeline")
        )
    from lanpaint.names import model_folder

    for word, dtype in {
        "float16": "float16",
        "wish": "wish",
        "int": torch.int32,
        "3": 3,
        "None": None,
        "list": [torch.float32],
        "numpy": np.float32,
    }.items():
        yield Call(
            "model",
            f"load_pixel_model(dtype={word})",
            lambda _, d=dtype: _score_of(load_pixel_model(model_folder("digits"), dtype=d)),
            EITHER if word in ("float16", "None") else BAD,
            ("dtype",),
            lambda x: _finite(x),
        )
    for word, device in {"tpu": "tpu", "cuda:99": "cuda:99", "3": 3, "None": None, "meta": "meta", "empty": ""}.items():
        yield Call(
            "model",
            f"load_pixel_model(device={word})",
            lambda _, d=device: _score_of(load_pixel_model(model_folder("digits"), device=d)),
            EITHER if word in ("None",) else BAD,
            ("device",),
            lambda x: _finite(x),
        )
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for metric in (mmd, energy_distance, sliced_wasserstein):
        for word, thing in {
            "None": None,
            "array": x.numpy(),
            "one": x[:1],
            "empty": x[:0],
            "nan": x * NAN,
            "text": "x",
            "ints": x.long(),
            "other width": torch.randn(20, 3),
            "0-d": torch.tensor(1.0),
        }.items():
            yield Call(
                "metric",
                f"{metric.__name__}({word}, x)",
                lambda _, m=metric, t=thing: m(t, x),
                EITHER if word in ("array", "ints", "one") else BAD,
                ("x", "samples", "y"),
            )


def _is_row(result: Any) -> str | None:
    row, x = result
    if row.diverged:
        return None
    return None if x is not None and bool(torch.isfinite(x).all()) and np.isfinite(row.kl) else f"kl {row.kl}"


def _score_of(model: Any) -> torch.Tensor:
    return model.denoised(torch.zeros(1, 1, 8, 8), lp.NoiseLevel(0.8, 0.6))


def generate(folder: Path, seed: int) -> list[Call]:
    """All calls, in the order of a shuffle by ``seed``, and the files that they name, in ``folder``."""
    files.pictures(folder, 8, False, "d-")
    files.masks(folder, 8, "d-")
    made = [
        *observations(),
        *samplers(),
        *scores(),
        *runs(),
        *own_parts(),
        *numbers(),
        *schedules(),
        *pictures(folder),
        *benchmark(folder),
    ]
    random.Random(seed).shuffle(made)
    return made


def judge(call: Call, result: Any, error: BaseException | None, counts: Counts) -> None:
    """Count one call's outcome."""
    if error is None:
        try:
            wrong = call.check(result)
        except Exception as failed:
            wrong = f"the result cannot be judged: {type(failed).__name__}: {failed}"
        if wrong is None and call.verdict == BAD:
            wrong = f"success, of an input that cannot be right: {result!r:.80}"
        if wrong:
            counts.fault(SILENT, call.name, wrong)
        return
    counts.refused += 1
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Hangs):
        counts.fault(MISLEADING, call.name, f"takes more than {_PATIENCE} s")
    elif isinstance(error, (LucklessError, SystemExit)) or "no luck" in str(error):
        return  # the user's own error, as it is
    elif not isinstance(error, Exception) or not raised_on_purpose(error, _ROOT):
        if isinstance(error, TypeError) and _SIGNATURE.search(str(error)):
            return  # Python's own words: a constructor has no such argument, a user's function another number of them
        counts.fault(TRACEBACK, call.name, f"{text} {_where(error)}")
    elif call.verdict == GOOD:
        counts.fault(MISLEADING, call.name, f"refused, and it is right: {text}")
    elif wrong := complaint(str(error), call.about):
        counts.fault(MISLEADING, call.name, wrong)


def _where(error: BaseException) -> str:
    trace, inside = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if str(_ROOT / "lanpaint") in name or str(_ROOT / "toy_models") in name:
            inside = f"{name.removeprefix(str(_ROOT))}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"({inside})"


def run_all(folder: Path, seed: int, chosen: Callable[[Call], bool] = lambda call: True) -> Counts:
    """Make every call, and count how they fare."""
    here = folder / "here"
    here.mkdir()
    calls = [call for call in generate(here, seed) if chosen(call)]
    counts, before, start_at = Counts("Python"), snapshot(here), Path.cwd()
    os.chdir(here)
    try:
        for call in calls:
            result, error, start = None, None, time.perf_counter()
            global_state = torch.random.get_rng_state()
            with contextlib.ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                stack.enter_context(contextlib.redirect_stderr(None))
                stack.enter_context(call.patch())
                stack.enter_context(patience(_PATIENCE))
                try:
                    result = call.run(here)
                except (KeyboardInterrupt, GeneratorExit):
                    raise
                except BaseException as raised:
                    error = raised
            seconds = time.perf_counter() - start
            judge(call, result, error, counts)
            lost, new = changes(before, snapshot(here), call.writes if error is None else ())
            if lost or new:
                counts.fault(LOST, call.name, f"lost or changed: {lost}; left behind: {new}")
            if lost or new or call.writes:
                before = snapshot(here)
            torch.random.set_rng_state(global_state)
            counts.inputs += 1
            counts.groups[call.group] += 1
            if os.environ.get("HOSTILE_VERBOSE"):
                print(f"{seconds:5.1f} s  {call.name}  {type(error).__name__}: {str(error)[:200]!r}", flush=True)
    finally:
        os.chdir(start_at)
    return counts
