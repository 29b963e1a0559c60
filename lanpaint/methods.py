"""Methods: samplers by name, for the command line and benchmarks, and functions that make them from options."""

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
    ALM,
    DAPS,
    DDNM,
    DDRM,
    DING,
    DPS,
    FPSSMC,
    LATINO,
    MCG,
    MGDM,
    MGPS,
    MMPS,
    TMPD,
    AsyncPaint,
    Blended,
    CoPaint,
    DiffPIR,
    FlowChef,
    FlowDPS,
    Guided,
    LangevinPaint,
    LanPaint,
    MCGDiff,
    MidpointSampler,
    PiGDM,
    PnPDM,
    REDDiff,
    RePaint,
    Replace,
    Sampler,
    SMCDiff,
    SyncSDE,
    TwistedSMC,
)
from lanpaint.score import Score

_EXPECTED = "a lanpaint.Sampler"
# Arguments that every method has, and that are no options of a single method.
_COMMON = {"score", "steps", "spacing", "progress"}


@dataclass(frozen=True)
class Method:
    """A method: a sampler class under a name, with some of its arguments fixed.

    Attributes:
        name: Name on the command line and in results.
        make: The sampler's class, or a function of a score and options that makes a sampler.
        fixed: Arguments that the name fixes. A fixed dynamics is only a default, which an option may replace.
        lacks: Names of arguments of the constructor that cannot be chosen for this method.
    """

    name: str
    make: Callable[..., Sampler]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    @functools.cached_property
    def arguments(self) -> dict[str, Argument]:
        """Name → argument that the method takes: options and parts, without the score."""
        arguments = arguments_of(self.make, Sampler)
        score = [name for name, argument in arguments.items() if argument.is_positional][:1]
        absent = {*score, "score", *self.fixed, *self.lacks} - {"dynamics"}
        return {name: argument for name, argument in arguments.items() if name not in absent}

    @functools.cached_property
    def own_options(self) -> dict[str, Option]:
        """Name → option of this method, without the options that all methods share (steps, levels and so on)."""
        options = {name: argument.option for name, argument in self.arguments.items() if name not in _COMMON}
        return {name: option for name, option in options.items() if option is not None}

    def options(self, dynamics: str | None = None) -> dict[str, Option]:
        """Name → option of this method, together with the options of a dynamics that replaces the method's dynamics.

        With a dynamics, ``friction`` is the option of the dynamics. Any other option that both have is the method's.

        Args:
            dynamics: Name of the dynamics; None for the method's dynamics.

        Raises:
            ValueError: For an unknown dynamics.
        """
        options = dict(self.own_options)
        if "dynamics" not in self.arguments:
            return options
        if dynamics is not None or "dynamics" in self.fixed:
            options.pop("friction", None)
        return options if dynamics is None else dynamics_options(dynamics) | options

    @property
    def parts(self) -> list[str]:
        """The parts that can be chosen for this method: "dynamics", "solver", both or none."""
        return [part for part in ("dynamics", "solver") if part in self.arguments]

    def takes(self, dynamics: str | None = None) -> set[str]:
        """Names of the options and parts that can be chosen for this method."""
        return {*self.options(dynamics), *self.parts}

    @property
    def needs_gradient(self) -> bool:
        """Whether the sampler differentiates the score: a class with gradients of this library, or a subclass."""
        return inspect.isclass(self.make) and issubclass(self.make, (DPS, CoPaint, Guided, MidpointSampler, TwistedSMC))

    def refuse(self, names: Iterable[str], dynamics: str | None = None) -> None:
        """Raise ValueError if one of ``names`` is neither an option nor a part of the method."""
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
        """A function of a score that makes the sampler.

        Args:
            dynamics: Name of the dynamics; None for the method's default.
            solver: Name of the solver; None for the method's default.
            **options: Options of the method and of the dynamics. None stands for the default of an option.

        Raises:
            ValueError: For an unknown name, an option that the method does not have, or a value of another type.
        """
        options = {name: value for name, value in options.items() if value is not None}
        parts = {"dynamics": dynamics, "solver": solver}
        self.refuse([*options, *(name for name, part in parts.items() if part is not None)], dynamics)
        for name, option in self.options(dynamics).items():
            if name in options:
                option.check(options[name])
        chosen = {**self.fixed, **options}
        if dynamics is not None:
            passed = {name: chosen.pop(name) for name in options if name not in self.own_options or name == "friction"}
            chosen["dynamics"] = make_dynamics(dynamics, **passed)
        if solver is not None:
            chosen["solver"] = make_solver(solver)
        return functools.partial(self._made, **chosen) if is_own(self.name) else functools.partial(self.make, **chosen)

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
        """The sampler for a score.

        Args:
            score: The model.
            steps: Outer steps S ≥ 1.
            spacing: As in :class:`~lanpaint.Sampler`; None for the default.
            callbacks: As in :class:`~lanpaint.Sampler`.
            progress: Show a progress bar. A method of your own without this argument ignores it.
            **given: Arguments of :meth:`factory`.

        Raises:
            ValueError: As :meth:`factory`, and when a method of your own cannot be made.
        """
        common = {"steps": steps, "spacing": spacing, "callbacks": callbacks, "progress": progress or None}
        common = {name: value for name, value in common.items() if value is not None}
        lacking = set(common) - set(self.arguments) - {"progress"}
        if lacking:
            raise ValueError(
                f"{self.name} takes no {' or '.join(sorted(lacking))}; give the method **options, or leave that out"
            )
        common = {name: value for name, value in common.items() if name in self.arguments}
        return self.factory(**given)(score, **common)

    def _made(self, score: Score, **options: Any) -> Sampler:
        """The sampler, for a method of your own. Errors of your code are reported with the method's name."""
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
        Method("blended", Blended),
        Method("ding", DING, lacks=("solver",)),
        Method("ddnm", DDNM, lacks=("solver",)),
        Method("diffpir", DiffPIR, lacks=("solver",)),
        Method("daps", DAPS, lacks=("solver",)),
        Method("pnpdm", PnPDM, lacks=("solver",)),
        Method("flowchef", FlowChef, lacks=("solver",)),
        Method("latino", LATINO, lacks=("solver",)),
        Method("reddiff", REDDiff, lacks=("solver",)),
        Method("mcg", MCG),
        Method("dps", DPS),
        Method("copaint", CoPaint),
        Method("pigdm", PiGDM),
        Method("mmps", MMPS),
        Method("tmpd", TMPD),
        Method("mgps", MGPS, lacks=("solver",)),
        Method("mgdm", MGDM, lacks=("solver",)),
        Method("flowdps", FlowDPS, lacks=("solver",)),
        Method("tds", TwistedSMC, lacks=("solver",)),
        Method("mcgdiff", MCGDiff, lacks=("solver",)),
        Method("fpssmc", FPSSMC, lacks=("solver",)),
        Method("syncsde", SyncSDE),
        Method("alm", ALM),
        Method("smcdiff", SMCDiff, lacks=("solver", "dynamics", "preset", "lam", "friction", "expected_noise")),
    )
}
"""Name → method. Two methods are rows of the paper's ablation: ``fld`` is LanPaint with λ = 0, and ``big`` is LanPaint
with Euler–Maruyama steps. ``langevin`` is TFG, and ``tds`` is twisted SMC."""


TIME_MAPS = Method("async", AsyncPaint)
"""The method of models with a time for each pixel. It is not in :data:`METHODS`: no other model can run it."""


def usual_method(takes_maps: bool) -> str:
    """The name of the method that a model is painted with where none is named.

    Args:
        takes_maps: Whether the model has a time for each pixel.
    """
    return TIME_MAPS.name if takes_maps else "lanpaint"


def find_method(name: str) -> Method:
    """A method by its name in :data:`METHODS`, :data:`TIME_MAPS`, or a method of your own by ``module:name``.

    A method of your own is a subclass of :class:`~lanpaint.Sampler`, or a function ``make(score, **options)`` that
    returns a sampler. Its options are the arguments of the constructor or function.

    Raises:
        ValueError: For an unknown name, and when ``module:name`` is not a method.
    """
    if name in METHODS:
        return METHODS[name]
    if name == TIME_MAPS.name:
        return TIME_MAPS
    if not is_own(name):
        raise unknown("method", name, list(METHODS))
    found = find_own(name, "method", Sampler, _EXPECTED)
    if isinstance(found, Sampler):
        raise ValueError(f"method {name} is a sampler already; name its class, or a function of a score that makes one")
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, Sampler)):
        raise wrong_kind(name, "method", _EXPECTED, found)
    method = Method(name, found)
    if "steps" not in method.arguments:
        raise ValueError(f"method {name} takes no steps; give it **options and pass them on to the sampler")
    return method


def make_sampler(method: str, score: Score, *, steps: int, inner_steps: int | None = None, **options: Any) -> Sampler:
    """A sampler by the name of its method.

    Args:
        method: Name of the method, see :func:`find_method`.
        score: The model.
        steps: Outer steps S ≥ 1.
        inner_steps: Inner steps at each level. A method without inner steps ignores this number, so that one call can
            compare all methods.
        **options: Options of the method; ``dynamics`` and ``solver`` by name (:mod:`lanpaint.names`); ``spacing``,
            ``callbacks`` and ``progress``. None stands for the default of an option.

    Raises:
        ValueError: For an unknown name, or an option that the method does not have.
    """
    chosen = find_method(method)
    if "inner_steps" in chosen.arguments:
        options["inner_steps"] = inner_steps
    return chosen.sampler(score, steps=steps, **options)


def all_options() -> dict[str, dict[str, Option]]:
    """Name of an option → name of a method → the option as that method declares it. LanPaint's options come first."""
    found: dict[str, dict[str, Option]] = {}
    for method in [METHODS["lanpaint"], *METHODS.values()]:
        for name in method.options():
            found.setdefault(name, {})[method.name] = method.own_options[name]
    return found
