"""Parts of your own, named ``module:name``: functions that import a module of yours and make an object from it.

The command line and grid files use these functions for methods, dynamics, solvers and targets. A module is looked for
in the current folder first, as ``python -m`` does, then among the installed packages.
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
    """The error for a name that is neither in ``known`` nor of the form ``module:name``.

    Args:
        what: What is named, for the message: method, dynamics, solver or target.
        name: The name that was given.
        known: The names that LanPaint has.
    """
    hint = "; write the module without .py" if ".py:" in name else ""
    names = ", ".join(known)
    return ValueError(f"unknown {what} {name!r}; expected one of {names}, or module:name for one of your own{hint}")


def find_own(name: str, what: str, kind: type, expected: str, hint: str = "") -> Any:
    """The object that ``module:name`` names. Its type is not checked.

    Args:
        name: ``module:name``.
        what: What is named, for errors: method, dynamics, solver or target.
        kind: The expected class. If the module has no such name, the error lists instances and subclasses of this
            class, and functions.
        expected: The expected class in words, for errors, such as "a lanpaint.Sampler".
        hint: Advice in the error for a missing module.

    Raises:
        ValueError: When there is no such module, the module cannot be imported, or it has no such name.
    """
    module_name, _, last = name.rpartition(":")
    module = _import(module_name, f"{what} {name}", hint)
    if hasattr(module, last):
        return getattr(module, last)
    there = [item for item, value in vars(module).items() if _is_public(module, item, value) and _fits(value, kind)]
    offer = f"there is {', '.join(there)}" if there else f"nor anything else that is {expected}"
    raise ValueError(f"{what} {name}: {module.__file__ or module_name} has no {last!r}; {offer}")


def _fits(value: Any, kind: type) -> bool:
    return isinstance(value, (kind, FunctionType, functools.partial)) or (
        inspect.isclass(value) and issubclass(value, kind)
    )


def _is_public(module: ModuleType, name: str, value: Any) -> bool:
    """Whether a name is public and defined in the module itself, not imported."""
    imported = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ != module.__name__
    return not name.startswith("_") and not imported and not inspect.ismodule(value)


def _import(module: str, what: str, hint: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:  # Python does not add the current folder for a console script
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the module may have been written a moment ago
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            hint = hint or f"write {error.name}.py in {here}, or run lanpaint in the folder that has it"
            raise ValueError(f"{what}: there is no module {error.name!r}; {hint}") from error
        raise ValueError(f"{what}: importing {module} fails: {_said(error)}") from error
    except (Exception, SystemExit) as error:  # the code of the module runs during the import and may raise anything
        raise ValueError(f"{what}: importing {module} fails: {_said(error)}") from error


def make_own(name: str, what: str, kind: type, expected: str, hint: str = "", **options: Any) -> Any:
    """An instance of ``kind`` from ``module:name``.

    If ``module:name`` is an instance, it is returned. If it is a class or a function, it is called with the options.

    Args:
        name: ``module:name``.
        what: What is named, for errors: method, dynamics, solver or target.
        kind: The class of the result.
        expected: The class of the result in words, for errors.
        hint: Advice in the error for a missing module.
        **options: Keyword arguments for the class or function.

    Raises:
        ValueError: As :func:`find_own`; when the class or function raises or needs other arguments; when the result is
            not an instance of ``kind``.
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
    """The error for an object ``found`` that is not of the expected class, and cannot make an instance of it."""
    got = f"the class {found.__name__}" if inspect.isclass(found) else f"a value of type {type(found).__name__}"
    return ValueError(f"{what} {name} must be the class of {expected}, or a function that makes one; got {got}")


def _required(make: Callable[..., Any], given: Container[str]) -> list[str]:
    """Names of the arguments of ``make`` that have no default and are not in ``given``."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable and p.name not in given]


def call(what: str, make: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The result of ``make``, a function of the user. An error in it is reported as an error of ``what``.

    Raises:
        ValueError: When ``make`` raises any Exception.
    """
    try:
        return make(*arguments, **options)
    except Exception as error:
        raise ValueError(f"{what} cannot be made: {_said(error)}") from error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
