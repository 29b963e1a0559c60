"""Parts of your own, named ``module:name``: the one place that finds and makes them.

Methods, dynamics, solvers and targets of the command line and of files of grids come through here. A module is looked
for in the current folder first, as ``python -m`` does, then among what is installed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Container
from types import FunctionType, ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def is_own(name: str) -> bool:
    """Whether a name has the form ``module:name``.

    Example:
        >>> is_own("my_methods:MyPaint"), is_own("lanpaint"), is_own("my_methods.py:MyPaint")
        (True, False, False)
    """
    module, colon, last = name.rpartition(":")
    parts = [*module.split("."), last]
    return bool(colon) and all(part.isidentifier() for part in parts) and parts[-2:-1] != ["py"]


def unknown(what: str, name: str, known: list[str]) -> ValueError:
    """The error for a name that is neither known nor of the form ``module:name``."""
    hint = "; write the module without .py" if ".py:" in name else ""
    names = ", ".join(known)
    return ValueError(f"unknown {what} {name!r}; expected one of {names}, or module:name for one of your own{hint}")


def find_own(name: str, what: str, kind: type, expected: str, hint: str = "") -> Any:
    """The object that ``module:name`` names, whatever it is.

    Args:
        name: ``module:name``.
        what: What it is for, as errors say it: method, dynamics, solver or target.
        kind: The class of which it should be an instance, a subclass, or what a function returns.
        expected: The same in words: an instance of what.
        hint: What else to say when there is no such module.

    Raises:
        ValueError: When there is no such module, it cannot be imported, or has no such name.
    """
    module_name, _, last = name.rpartition(":")
    module = _import(module_name, f"{what} {name}", hint)
    if hasattr(module, last):
        return getattr(module, last)
    there = [other for other, value in vars(module).items() if _is_public(module, other, value) and _fits(value, kind)]
    offer = f"there is {', '.join(there)}" if there else f"nor anything else that is {expected}"
    raise ValueError(f"{what} {name}: {module.__file__ or module_name} has no {last!r}; {offer}")


def _fits(value: Any, kind: type) -> bool:
    return isinstance(value, (kind, FunctionType, functools.partial)) or (
        inspect.isclass(value) and issubclass(value, kind)
    )


def _is_public(module: ModuleType, name: str, value: Any) -> bool:
    """Whether a name of a module is its own, rather than private or imported."""
    imported = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ != module.__name__
    return not name.startswith("_") and not imported and not inspect.ismodule(value)


def _import(module: str, what: str, hint: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:  # a console script does not put it there
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            hint = hint or f"write {error.name}.py in {here}, or run lanpaint where it is"
            raise ValueError(f"{what}: there is no module {error.name!r}; {hint}") from error
        raise ValueError(f"{what}: importing {module} fails: {_said(error)}") from error
    except (Exception, SystemExit) as error:  # whatever the module does as it is imported
        raise ValueError(f"{what}: importing {module} fails: {_said(error)}") from error


def make_own(name: str, what: str, kind: type, expected: str, hint: str = "", **options: Any) -> Any:
    """What ``module:name`` names, made: an instance as it is; a class or a function is called with the options.

    Args:
        name: ``module:name``.
        what: As in :func:`find_own`.
        kind: The class that it must be an instance of.
        expected: The same in words.
        hint: What else to say when there is no such module.
        **options: What a class or a function is called with.

    Raises:
        ValueError: As :func:`find_own`, when it cannot be made of these options, and when it is of another kind.
    """
    found = find_own(name, what, kind, expected, hint)
    if isinstance(found, kind):
        return found
    if not callable(found):
        raise wrong_kind(name, what, expected, found)
    missing = _required(found, options)
    if missing and inspect.isclass(found) and not issubclass(found, kind):
        raise wrong_kind(name, what, expected, found)
    if missing:
        raise ValueError(
            f"{what} {name} cannot be made without {' and '.join(missing)}; give it defaults, or name a function "
            "without arguments that makes it"
        )
    made = call(f"{what} {name}", found, **options)
    if not isinstance(made, kind):
        raise ValueError(f"{what} {name} must return {expected}, got {type(made).__name__}")
    return made


def wrong_kind(name: str, what: str, expected: str, found: Any) -> ValueError:
    """The error for what is not, and cannot make, what is expected."""
    got = f"the class {found.__name__}" if inspect.isclass(found) else f"a value of type {type(found).__name__}"
    return ValueError(f"{what} {name} must be the class of {expected}, or a function that makes one; got {got}")


def _required(make: Callable[..., Any], given: Container[str]) -> list[str]:
    """Arguments without a default that are not given."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable and p.name not in given]


def call(what: str, make: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What a function of the user's returns; what it raises is told with what was to be made.

    Raises:
        ValueError: For whatever it raises.
    """
    try:
        return make(*arguments, **options)
    except Exception as error:
        raise ValueError(f"{what} cannot be made: {_said(error)}") from error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
