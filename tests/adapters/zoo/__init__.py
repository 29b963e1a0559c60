"""Pipeline classes of diffusers that no other test names, built small from their configurations, and judged.

    case         a class built small, and the registry
    judge        what it does with a picture and a mask, column by column
    refusals     why those that are refused are
    matrix       the verdicts as text, and the file in which they are kept
    …            the classes, by kind

A class is added as a function with ``@zoo("Name")`` that returns a :class:`Case`.
"""

from tests.adapters.zoo import edits, pixels, sound, stable_diffusion, transformers, unets, video  # noqa: F401
from tests.adapters.zoo.case import REGISTRY, Case, case

__all__ = ["REGISTRY", "Case", "case"]
