"""What ``lanpaint inpaint`` asks of pipelines before one is loaded: ``--set``, and flags that no pipeline supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lanpaint.methods import TIME_MAPS, Method
from lanpaint.options import read_value, split_pairs
from lanpaint.painting.task import OF_TASKS

# Arguments whose flag is not spelled as the setting of the task.
_FLAGS = {
    "num_images_per_prompt": "--count", "soft": "--soft-mask", "invert": "--invert-mask", "preview": "--preview",
    "mask": "MASK", "image": "IMAGE",
}  # fmt: skip


def as_flag(name: str) -> str:
    """The flag of a setting, or of an argument of the pipeline that has none of its own."""
    return {"arguments": "--set"}.get(name, f"--{name.replace('_', '-')}")


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """Name → value, from texts ``NAME=VALUE``. A value that is not JSON (number, true, false, null, list) is a text.

    Raises:
        ValueError: For a text without ``=``, a number that is not finite, and an argument that has a flag of its own or
            that the command line gives itself.
    """
    values = {name: read_value(text) for name, text in split_pairs(given, "--set", "true_cfg_scale=4").items()}
    for name, value in values.items():
        if name in OF_TASKS:
            setting = OF_TASKS[name]
            flag = _FLAGS.get(name) or (as_flag(setting) if setting else None)
            raise ValueError(
                f"--set {name}: " + (f"give it by {flag}" if flag else "the command line sets it; leave it out")
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--set {name} must be a finite number, got {value}")
    return values


def check_sampling(method: Method, levels: str | None) -> None:
    """Raise ValueError for options that no pipeline supports: a method that needs a gradient, and ``--levels``."""
    if method.needs_gradient:
        raise ValueError(
            f"{method.name} needs the gradient of the score, and a pipeline gives none; take another --method, or use "
            "a network adapter (lanpaint.adapters.networks)"
        )
    if method is TIME_MAPS:
        raise ValueError(
            f"{method.name} needs a network with a time for each pixel, and a pipeline has one time; take another "
            "--method"
        )
    if levels is not None:
        raise ValueError("--levels: only for pixel-space models; for a pipeline, --scheduler sets the levels")
