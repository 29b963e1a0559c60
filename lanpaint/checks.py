"""Checks of arguments that many constructors share. An error names the argument, and says what it must be."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real
from pathlib import Path

import torch
from torch import Tensor


def shown(value: object) -> str:
    """A value as an error shows it: in one line, and not all of a long one."""
    return " ".join(repr(value).split())[:60]


def as_path(what: str, path: object) -> Path:
    """The path that a caller gave.

    Raises:
        TypeError: For what is no path.
        ValueError: For a name that no file can have.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{what} must be a path, got {shown(path)}")
    if "\0" in str(path):
        raise ValueError(f"{what} cannot have a NUL in its path, got {shown(path)}")
    return Path(path)


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise ValueError unless ``value``, the setting called ``name``, is a whole number from ``least`` to ``most``."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        at_most = "" if most is None else f" and at most {most:,}"
        raise ValueError(f"{name} must be a whole number of at least {least}{at_most}, got {shown(value)}")


def check_real(name: str, value: object) -> None:
    """Raise TypeError unless ``value``, the setting called ``name``, is a real number, or a tensor of one."""
    if isinstance(value, Tensor):
        good = value.numel() == 1 and not value.is_complex()
    else:
        good = isinstance(value, Real) and not isinstance(value, bool)
    if not good:
        raise TypeError(f"{name} must be a number, got {shown(value)}")


def check_between(name: str, value: float, least: float, most: float) -> float:
    """A number as float. Raises TypeError or ValueError unless it is finite and lies between the two bounds."""
    check_real(name, value)
    if not (least <= value <= most and math.isfinite(value)):
        expected = f"at least {least:g} and finite" if most == math.inf else f"between {least:g} and {most:g}"
        raise ValueError(f"{name} must be {expected}, got {value}")
    return float(value)


def check_dtype(dtype: object) -> None:
    """Raise TypeError unless ``dtype`` is a floating-point dtype of PyTorch."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point torch.dtype such as torch.float16, got {shown(dtype)}")


def as_numbers(name: str, value: object) -> Tensor:
    """A number, or a tensor or list of numbers, as a tensor in float64.

    Raises:
        TypeError: For anything else.
    """
    try:
        numbers = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)  # not by float32
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a number or a tensor of numbers, got {shown(value)}") from error
    if numbers.is_complex():
        raise TypeError(f"{name} must be a number or a tensor of real numbers, got {shown(value)}")
    return numbers.double()
