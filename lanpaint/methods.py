"""The methods that the command line and benchmarks know by name, and how one is made of a name and options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lanpaint.dynamics import Langevin
from lanpaint.names import DYNAMICS, dynamics_options, make_dynamics, make_solver
from lanpaint.options import Argument, Option, arguments_of
from lanpaint.own import call, find_own, is_own, unknown, wrong_kind
from lanpaint.samplers import (
    DDRM,
    DPS,
    MCG,
    CoPaint,
    LangevinPaint,
    LanPaint,
    RePaint,
    Replace,
    Sampler,
    TwistedSMC,
)
from lanpaint.score import Score

_EXPECTED = "a lanpaint.Sampler"
# What every method has, and what is said by other means than an option.
_COMMON = {"score", "steps", "spacing", "progress"}


@dataclass(frozen=True)
class Method:
    """A method: a sampler, and what its name fixes of it.

    Attributes:
        name: As the command line and results spell it.
        make: The sampler's class, or a function of a score and options that makes one.
        fixed: Arguments that the name stands for. A dynamics is only its default.
        lacks: Options of the constructor that the method does not have.
    """

    name: str
    make: Callable[..., Sampler]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    @functools.cached_property
    def arguments(self) -> dict[str, Argument]:
        """Name → argument that it takes, parts included, the score left out."""
        arguments = arguments_of(self.make, Sampler)
        score = [name for name, argument in arguments.items() if argument.is_positional][:1]
        absent = {*score, "score", *self.fixed, *self.lacks} - {"dynamics"}
        return {name: argument for name, argument in arguments.items() if name not in absent}

    @functools.cached_property
    def own_options(self) -> dict[str, Option]:
        """Name → option, but those that all methods share: steps, levels and the like."""
        given = {name: argument.option for name, argument in self.arguments.items() if name not in _COMMON}
        return {name: option for name, option in given.items() if option is not None}

    def options(self, dynamics: str | None = None) -> dict[str, Option]:
        """The same with the options of a dynamics that takes the place of the method's.

        A friction is then that of the dynamics. Of an option that both have, the method's counts.

        Raises:
            ValueError: For an unknown dynamics.
        """
        own = dict(self.own_options)
        if "dynamics" not in self.arguments:
            return own
        if dynamics is not None or "dynamics" in self.fixed:
            own.pop("friction", None)
        return own if dynamics is None else dynamics_options(dynamics) | own

    @property
    def parts(self) -> list[str]:
        """Which of dynamics and solver can be chosen."""
        return [part for part in ("dynamics", "solver") if part in self.arguments]

    def takes(self, dynamics: str | None = None) -> set[str]:
        """Names of its options and of the parts that can be chosen."""
        return {*self.options(dynamics), *self.parts}

    @property
    def needs_gradient(self) -> bool:
        """Whether it is one of ours that differentiates the score, or derived from one."""
        return inspect.isclass(self.make) and issubclass(self.make, (DPS, CoPaint, TwistedSMC))

    def refuse(self, names: Iterable[str], dynamics: str | None = None) -> None:
        """Raise ValueError where one of these names is neither an option nor a part of the method."""
        takes = self.takes(dynamics)
        lacking = sorted(set(names) - takes)
        if not lacking:
            return
        what = " or ".join(lacking)
        if "dynamics" in self.arguments:
            having = [name for name in DYNAMICS if set(lacking) <= set(dynamics_options(name))]
            if having and dynamics is None:
                raise ValueError(f"{self.name} has no {what} without dynamics; give --dynamics {_either(having)}")
            if having:
                raise ValueError(f"{dynamics} has no {what} to choose; leave it out, or take {_either(having)}")
        raise ValueError(f"{self.name} has no {what}; it takes {', '.join(sorted(takes)) or 'none'}")

    def factory(
        self, *, dynamics: str | None = None, solver: str | None = None, **options: Any
    ) -> functools.partial[Sampler]:
        """A function of a score that makes the sampler; parts by name, what is None by the method's default.

        Raises:
            ValueError: For an unknown name, an option that the method does not have, or a value of another kind.
        """
        options = {name: value for name, value in options.items() if value is not None}
        parts = {"dynamics": dynamics, "solver": solver}
        self.refuse([*options, *(name for name, part in parts.items() if part is not None)], dynamics)
        for name, option in self.options(dynamics).items():
            if name in options:
                option.check(options[name])
        given = {**self.fixed, **options}
        if dynamics is not None:
            passed = {name: given.pop(name) for name in options if name not in self.own_options or name == "friction"}
            given["dynamics"] = make_dynamics(dynamics, **passed)
        if solver is not None:
            given["solver"] = make_solver(solver)
        return functools.partial(self._made, **given) if is_own(self.name) else functools.partial(self.make, **given)

    def sampler(
        self,
        score: Score,
        *,
        steps: int,
        spacing: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        **given: Any,
    ) -> Sampler:
        """The sampler for a score; see :meth:`factory` for what else is given.

        Raises:
            ValueError: As :meth:`factory`, and where a method of your own cannot be made.
        """
        common = {"steps": steps, "spacing": spacing, "callbacks": callbacks, "progress": progress or None}
        common = {name: value for name, value in common.items() if value is not None}
        lacking = set(common) - set(self.arguments) - {"progress"}
        if lacking:
            raise ValueError(
                f"{self.name} takes no {' or '.join(sorted(lacking))}; give it **options, or leave that out"
            )
        common = {name: value for name, value in common.items() if name in self.arguments}
        return self.factory(**given)(score, **common)

    def _made(self, score: Score, **options: Any) -> Sampler:
        """The sampler of a method of your own."""
        made = call(f"method {self.name}", self.make, score, **options)
        if not isinstance(made, Sampler):
            raise ValueError(f"method {self.name} must return {_EXPECTED}, got {type(made).__name__}")
        return made


def _either(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("replace", Replace),
        Method("repaint", RePaint),
        Method("langevin", LangevinPaint),
        Method("fld", LanPaint, {"lam": 0.0}, ("preset",)),
        Method("big", LanPaint, {"dynamics": Langevin()}, ("preset", "expected_noise")),
        Method("lanpaint", LanPaint),
        Method("ddrm", DDRM, lacks=("solver",)),
        Method("mcg", MCG),
        Method("dps", DPS),
        Method("copaint", CoPaint),
        Method("tds", TwistedSMC, lacks=("solver",)),
    )
}
"""Name → method. ``fld`` is LanPaint with λ = 0 and ``big`` LanPaint with Euler–Maruyama steps, the two halves of the
paper's ablation; ``langevin`` is TFG and ``tds`` twisted SMC."""


def find_method(name: str) -> Method:
    """A method by its name in :data:`METHODS`, or one of your own as ``module:name``.

    One of your own is a subclass of :class:`~lanpaint.Sampler`, or a function ``make(score, **options)`` that returns
    a sampler; its options are what its constructor names.

    Raises:
        ValueError: For an unknown name, and for what ``module:name`` names if it is no method.
    """
    if name in METHODS:
        return METHODS[name]
    if not is_own(name):
        raise unknown("method", name, list(METHODS))
    found = find_own(name, "method", Sampler, _EXPECTED)
    if isinstance(found, Sampler):
        raise ValueError(f"method {name} is a sampler already; name its class, or a function of a score that makes it")
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, Sampler)):
        raise wrong_kind(name, "method", _EXPECTED, found)
    method = Method(name, found)
    if "steps" not in method.arguments:
        raise ValueError(f"method {name} takes no steps; give it **options and pass them on to the sampler")
    return method


def make_sampler(method: str, score: Score, *, steps: int, inner_steps: int | None = None, **options: Any) -> Sampler:
    """A sampler by the name that benchmarks use; options that are None take the method's default.

    Args:
        method: See :func:`find_method`.
        score: The model.
        steps: Outer steps.
        inner_steps: Inner steps; a method without any ignores them, so that budgets can be compared.
        **options: The method's; dynamics and solver by name (:mod:`lanpaint.names`); spacing, callbacks, progress.

    Raises:
        ValueError: For an unknown name, or an option that the method does not have.
    """
    chosen = find_method(method)
    if "inner_steps" in chosen.arguments:
        options["inner_steps"] = inner_steps
    return chosen.sampler(score, steps=steps, **options)


def all_options() -> dict[str, dict[str, Option]]:
    """Name of an option → the methods that have it → it as they declare it, LanPaint's options first."""
    found: dict[str, dict[str, Option]] = {}
    for method in [METHODS["lanpaint"], *METHODS.values()]:
        for name in method.options():
            found.setdefault(name, {})[method.name] = method.own_options[name]
    return found
