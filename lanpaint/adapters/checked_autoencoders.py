"""The autoencoders of a pipeline, watched while it runs: what they are given, and that what they make is finite."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.known_cells import KnownCells
from lanpaint.adapters.tail import autoencoders


@contextlib.contextmanager
def replaced(part: Any, functions: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Within the context, an object has these functions in the place of its own."""
    own = vars(part)
    before = {name: own[name] for name in functions if name in own}
    own.update(functions)
    try:
        yield
    finally:
        for name in functions:
            del own[name]
        own.update(before)
        functions.clear()  # they lead back to the object


@contextlib.contextmanager
def checked_autoencoders(pipe: Any, cells: KnownCells | None) -> Iterator[None]:
    """Within the context, encoded and decoded pictures that are not finite are an error.

    A pipeline makes black pixels of such pictures. What the decoder of pictures is given is noted in ``cells``.
    """
    with contextlib.ExitStack() as stack:
        for name, part in autoencoders(pipe).items():
            note = cells.decoded if cells is not None and name == cells.autoencoder else None
            functions = {
                verb: _checked(getattr(part, verb), verb, type(pipe).__name__, note if verb == "decode" else None)
                for verb in ("encode", "decode")
            }
            stack.enter_context(replaced(part, functions))
        yield


def _checked(
    function: Callable[..., Any], verb: str, name: str, note: Callable[[Tensor], None] | None
) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if note is not None:
            note(args[0] if args else next(iter(kwargs.values())))
        output = function(*args, **kwargs)
        numbers = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        if hasattr(output, "latent_dist"):
            numbers = getattr(output.latent_dist, "parameters", None)
        if isinstance(numbers, Tensor) and not bool(torch.isfinite(numbers).all()):
            dtype = str(numbers.dtype).removeprefix("torch.")
            raise ValueError(
                f"the {verb}r of {name} overflows in {dtype}: its pictures are not finite; check its weights, load "
                "the pipeline in bfloat16 or float32 (--dtype bf16), or give it a VAE made for float16"
            )
        return output

    return checked
