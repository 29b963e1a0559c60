"""Options as constructors declare them.

A constructor gives the names, types and defaults of its options, the ``Args`` of its docstring their meaning. The
command line, files of grids and results read them here and keep no list of their own. An option is a number, a name, or
true or false; what needs an object (a score, callbacks, a schedule) is a part, and no option.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Literal, Union, get_args, get_origin

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (float, int, bool, str)}  # the first that fits counts
_WORDS: dict[type, str] = {float: "number", int: "whole number", str: "name"}
# As many sentences of a description as fit are shown as help, one at least.
_HELP_WIDTH = 160


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        name: Its name.
        kind: float, int, bool or str; None where neither type nor default says so: a value is then read as JSON, or as
            text.
        default: Its default; None also where a part of the method decides.
        choices: The values that it takes; empty for any.
        help: What it is, from the docstring.
    """

    name: str
    kind: type | None = None
    default: Any = None
    choices: tuple[Any, ...] = ()
    help: str = ""

    @property
    def metavar(self) -> str:
        """What stands for its value on the command line."""
        return {float: "NUMBER", int: "INTEGER", bool: "true|false", str: "NAME"}.get(self.kind or str, "VALUE")

    def check(self, value: Any) -> None:
        """Raise ValueError for a value of another kind."""
        if self.kind is None:
            return
        good = isinstance(value, (int, float) if self.kind is float else self.kind)
        if not good or (isinstance(value, bool) and self.kind is not bool):
            expected = "true or false" if self.kind is bool else f"a {_WORDS[self.kind]}"
            raise ValueError(f"{self.name} must be {expected}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"unknown {self.name} {value!r}; expected one of {', '.join(map(str, self.choices))}")

    def parse(self, text: str) -> Any:
        """The value that a text on the command line stands for.

        Raises:
            ValueError: For a text that stands for none.
        """
        takes = "true or false" if self.kind is bool else f"a {_WORDS[self.kind or str]}"
        return self._parse(text.strip(), takes, text)

    def parse_several(self, text: str) -> list[Any]:
        """The values of a text that are separated by commas.

        Raises:
            ValueError: For a text that has others.
        """
        takes = "true, false, or both" if self.kind is bool else f"{_WORDS[self.kind or str]}s"
        takes += " separated by commas"
        return [self._parse(part.strip(), takes, text) for part in text.split(",")]

    def _parse(self, part: str, takes: str, text: str) -> Any:
        try:
            if self.kind is bool:
                value: Any = {"true": True, "false": False}[part.lower()]
            elif self.kind is None:
                value = read_value(part)
            else:
                value = self.kind(part)
        except (KeyError, ValueError):
            raise ValueError(f"--{self.name.replace('_', '-')} takes {takes}, got {text!r}") from None
        self.check(value)
        return value


def read_value(text: str) -> Any:
    """A value of unknown type: numbers, true, false, null and lists as in JSON, anything else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def split_pairs(given: Iterable[str], flag: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as name → text of the value.

    Args:
        given: The texts.
        flag: The flag that they came by, for the error.
        example: A good one, for the error.

    Raises:
        ValueError: For one without ``=``, and for a name that comes twice.
    """
    pairs: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise ValueError(f"{flag} takes NAME=VALUE, got {one!r}; for example {flag} {example}")
        if name in pairs:
            raise ValueError(f"{flag} {name} is given twice; give it once")
        pairs[name] = value
    return pairs


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor.

    Attributes:
        parameter: As it is declared.
        help: What its docstring says.
    """

    parameter: Parameter
    help: str

    @property
    def is_positional(self) -> bool:
        """Whether it may be given by its place."""
        return self.parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

    @property
    def option(self) -> Option | None:
        """It as an option; None for a part."""
        parameter = self.parameter
        default = None if parameter.default is Parameter.empty else parameter.default
        if parameter.annotation is Parameter.empty:
            known = type(default) in _KINDS.values()
            kind, choices = (type(default) if known else None), ()
            if not known and default is not None:
                return None
        else:
            kind, choices = _kind(parameter.annotation)
            if kind is None:
                return None
        return Option(parameter.name, kind, default, choices, self.help)


def arguments_of(make: Callable[..., Any], base: type | None = None) -> dict[str, Argument]:
    """Name → argument of a class, a function, or a ``functools.partial`` of one, less what the partial gives.

    Where a constructor has ``**options``, those of the next class that it inherits from follow.

    Args:
        make: The class or function.
        base: The class whose options those of a function with ``**options`` are, where no other is annotated as what it
            returns.
    """
    if isinstance(make, functools.partial):
        arguments = arguments_of(make.func, base)
        given = {*list(arguments)[: len(make.args)], *make.keywords}
        return {name: argument for name, argument in arguments.items() if name not in given}
    arguments = {}
    for function, doc, bound in _constructors(make, base):
        described = describe_arguments(doc)
        parameters = list(_signature(function).parameters.values())[bound:]
        for parameter in parameters:
            if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                argument = Argument(parameter, described.get(parameter.name, ""))
                arguments.setdefault(parameter.name, argument)
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return arguments


def _constructors(make: Callable[..., Any], base: type | None) -> list[tuple[Callable[..., Any], str, int]]:
    """The functions that options pass through, their docstrings, and the number of arguments that are bound."""
    if isinstance(make, type):
        return [
            (vars(kind)["__init__"], kind.__doc__ or "", 1) for kind in make.__mro__[:-1] if "__init__" in vars(kind)
        ]
    returned = _signature(make).return_annotation
    follows = returned if isinstance(returned, type) and (base is None or issubclass(returned, base)) else base
    return [(make, make.__doc__ or "", 0), *(_constructors(follows, None) if follows else [])]


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # an annotation that is imported for type checkers alone
        return inspect.signature(function)


def _kind(annotation: Any) -> tuple[type | None, tuple[Any, ...]]:
    """float, int, bool or str, and the choices, of an annotation; None for that of a part."""
    if isinstance(annotation, str):  # could not be evaluated
        names = {name.strip() for name in annotation.split("|")}
        return next((kind for name, kind in _KINDS.items() if name in names), None), ()
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0]), get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        found = [_kind(part) for part in get_args(annotation)]
        return next((one for kind in _KINDS.values() for one in found if one[0] is kind), (None, ()))
    return (annotation if annotation in _KINDS.values() else None), ()


def describe_arguments(doc: str) -> dict[str, str]:
    r"""Name → description of the ``Args`` of a docstring in Google's style, as plain text.

    Example:
        >>> describe_arguments("Title.\n\nArgs:\n    eta: In [0, 1], as in :class:`~lanpaint.DDRM`,\n        ``ddrm``.")
        {'eta': 'In [0, 1], as in DDRM, ddrm.'}
    """
    _, _, section = inspect.cleandoc(doc).partition("Args:\n")
    described: dict[str, str] = {}
    name = None
    for line in section.split("\n"):
        if line and not line.startswith(" "):
            break
        begins = re.match(r" {4}(\w+)(?: \([^)]*\))?: (.*)", line)
        if begins:
            name, described[begins[1]] = begins[1], begins[2]
        elif line.startswith(" " * 5) and name:
            described[name] += " " + line.strip()
        else:
            name = None
    return {name: _plain(text) for name, text in described.items()}


def _plain(text: str) -> str:
    """Text without the markup of roles and literals."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: role[1].rpartition(".")[2], text)
    return text.replace("``", "")


def short(text: str) -> str:
    """As many whole sentences of a description as fit in a line or two, one at least."""
    sentences = re.split(r"(?<=\.)(?<!Alg\.)(?<!Eq\.)(?<!Sec\.)(?<!Fig\.)(?<!al\.)\s+", text)
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + len(sentence) >= _HELP_WIDTH:
            break
        kept += " " + sentence
    return kept.rstrip(".")
