"""Options of a method, read from its constructor.

The signature of a constructor gives the names, types and defaults of the options. The ``Args`` section of the docstring
gives their meaning. The command line, grid files and results read options here, and keep no second list. An option is a
number, a name, or true or false. An argument that needs an object (a score, callbacks, a schedule) is called a part.
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

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (float, int, bool, str)}  # the first type that fits is taken
_WORDS: dict[type, str] = {float: "number", int: "whole number", str: "name"}
# The help of an option shows whole sentences up to this many characters, but at least one sentence.
_HELP_WIDTH = 160


@dataclass(frozen=True)
class Option:
    """An option of a constructor: a number, a name, or true or false.

    Attributes:
        name: Name of the option.
        kind: float, int, bool or str. None if neither the annotation nor the default gives the type: then a value is
            read as JSON, and as text if it is no JSON.
        default: The default; None also if a part of the method chooses the value.
        choices: The allowed values; empty if any value is allowed.
        help: The description from the docstring.
    """

    name: str
    kind: type | None = None
    default: Any = None
    choices: tuple[Any, ...] = ()
    help: str = ""

    @property
    def metavar(self) -> str:
        """Placeholder of the value in the help of the command line, such as NUMBER."""
        return {float: "NUMBER", int: "INTEGER", bool: "true|false", str: "NAME"}.get(self.kind or str, "VALUE")

    def check(self, value: Any) -> None:
        """Raise ValueError for a value of another type than ``kind``, or a value that is not among the choices."""
        if self.kind is None:
            return
        good = isinstance(value, (int, float) if self.kind is float else self.kind)
        if not good or (isinstance(value, bool) and self.kind is not bool):
            expected = "true or false" if self.kind is bool else f"a {_WORDS[self.kind]}"
            raise ValueError(f"{self.name} must be {expected}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"unknown {self.name} {value!r}; expected one of {', '.join(map(str, self.choices))}")

    def parse(self, text: str) -> Any:
        """The value of a text from the command line.

        Raises:
            ValueError: For a text that is not a value of this option.
        """
        takes = "true or false" if self.kind is bool else f"a {_WORDS[self.kind or str]}"
        return self._parse(text.strip(), takes, text)

    def parse_several(self, text: str) -> list[Any]:
        """The values of a text with commas between the values.

        Raises:
            ValueError: For a text in which a part is not a value of this option.
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
    """The value of a text of unknown type: parsed as JSON (numbers, true, false, null, lists), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def split_pairs(given: Iterable[str], flag: str, example: str) -> dict[str, str]:
    """Name → text of the value, from texts of the form ``NAME=VALUE``.

    Args:
        given: The texts.
        flag: The flag of the command line that has these texts, for errors.
        example: A correct text, for errors.

    Raises:
        ValueError: For a text without ``=``, and for a name that occurs twice.
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise ValueError(f"{flag} takes NAME=VALUE, got {text!r}; for example {flag} {example}")
        if name in pairs:
            raise ValueError(f"{flag} {name} is given twice; give it once")
        pairs[name] = value
    return pairs


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor, which is either an option or a part.

    Attributes:
        parameter: The argument in the signature.
        help: The description from the docstring.
    """

    parameter: Parameter
    help: str

    @property
    def is_positional(self) -> bool:
        """Whether the argument may be given by position."""
        return self.parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

    @property
    def option(self) -> Option | None:
        """The argument as an option; None if the argument is a part."""
        parameter = self.parameter
        default = None if parameter.default is Parameter.empty else parameter.default
        if parameter.annotation is Parameter.empty:
            is_simple = type(default) in _KINDS.values()
            kind, choices = (type(default) if is_simple else None), ()
            if not is_simple and default is not None:
                return None
        else:
            kind, choices = _kind(parameter.annotation)
            if kind is None:
                return None
        return Option(parameter.name, kind, default, choices, self.help)


def arguments_of(make: Callable[..., Any], base: type | None = None) -> dict[str, Argument]:
    """Name → argument of a class or function, or of a ``functools.partial`` of a class or function.

    Arguments that the partial sets are left out. If a constructor has ``**options``, the arguments of the base class
    follow.

    Args:
        make: The class, function or partial.
        base: For a function with ``**options``: the class that the options go to, unless the return annotation of the
            function names a subclass.
    """
    if isinstance(make, functools.partial):
        arguments = arguments_of(make.func, base)
        already_set = {*list(arguments)[: len(make.args)], *make.keywords}
        return {name: argument for name, argument in arguments.items() if name not in already_set}
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
    """The functions that options pass through: each with its docstring, and its number of bound arguments (self)."""
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
    except Exception:  # an annotation may be imported for type checkers only
        return inspect.signature(function)


def _kind(annotation: Any) -> tuple[type | None, tuple[Any, ...]]:
    """The type (float, int, bool or str) and the choices of an annotation; the type is None for a part."""
    if isinstance(annotation, str):  # an annotation that could not be evaluated
        names = {name.strip() for name in annotation.split("|")}
        return next((kind for name, kind in _KINDS.items() if name in names), None), ()
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0]), get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        found = [_kind(part) for part in get_args(annotation)]
        return next((pair for kind in _KINDS.values() for pair in found if pair[0] is kind), (None, ()))
    return (annotation if annotation in _KINDS.values() else None), ()


def describe_arguments(doc: str) -> dict[str, str]:
    r"""Name → description in plain text, from the ``Args`` section of a docstring in Google style.

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
    """The text without Sphinx roles and double backquotes."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: role[1].rpartition(".")[2], text)
    return text.replace("``", "")


def short(text: str) -> str:
    """The first sentences of a description, as many as fit in about two lines, but at least one."""
    sentences = re.split(r"(?<=\.)(?<!Alg\.)(?<!Eq\.)(?<!Sec\.)(?<!Fig\.)(?<!al\.)\s+", text)
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + len(sentence) >= _HELP_WIDTH:
            break
        kept += " " + sentence
    return kept.rstrip(".")
