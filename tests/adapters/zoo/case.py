"""A pipeline class of diffusers, built small, and the registry of all that are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

_NETWORKS = ("unet", "transformer", "transformer_2", "controlnet", "prior", "decoder", "image_unet")


@dataclass
class Case:
    """A pipeline and how it is called.

    Attributes:
        pipe: The pipeline, with random weights.
        call: Arguments of the pipeline, sizes included, pictures of a ControlNet not.
        size: (height, width) of its pictures, or (frames, height, width).
        channels: Channels of its pictures.
        control: The picture that guides it, a tensor (1, C, H, W) in [0, 1]; None where it takes none.
        control_name: The pipeline's name for that picture.
        makes: "picture" or "video". What makes anything else ("sound", "embedding") is judged by its latents alone.
        refused: The pattern of a refusal, where a refusal is right.
        reconstruct: Function of pictures (1, C, [F,] H, W) in [0, 1] that gives decode(encode(pictures)), likewise. By
            default that of the pipeline's VAE.
        steps: Name of the pipeline's argument for the number of steps.
        count: The number of steps.
        output_type: What the pipeline is asked for.
        networks: Names of the networks whose calls are counted.
        note: What the matrix says of the class.
    """

    pipe: Any
    call: dict[str, Any]
    size: tuple[int, ...] = (16, 16)
    channels: int = 3
    control: torch.Tensor | None = None
    control_name: str = "image"
    makes: str = "picture"
    refused: str | None = None
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None
    steps: str = "num_inference_steps"
    count: int = 3
    output_type: str = "np"
    networks: tuple[str, ...] = ()
    note: str = ""
    parts: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pipe.set_progress_bar_config(disable=True)
        self.networks = self.networks or tuple(name for name in _NETWORKS if getattr(self.pipe, name, None) is not None)
        if self.networks:
            self.parts = [getattr(self.pipe, name) for name in self.networks]

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self.pipe).__name__


REGISTRY: dict[str, Callable[[], Case]] = {}


def zoo(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a function that builds the case of a name: the class without "Pipeline", then what sets it apart."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        assert name not in REGISTRY, f"{name} is there already"
        REGISTRY[name] = make
        return make

    return register


@functools.cache
def case(name: str) -> Case:
    """The case of a name, built once a process."""
    torch.manual_seed(0)
    return REGISTRY[name]()


def build(kind: Any, **parts: Any) -> Any:
    """A pipeline of these parts; text encoders and all else that it wants are left out."""
    names = inspect.signature(kind.__init__).parameters
    left_out = {
        name: None
        for name, parameter in names.items()
        if name not in ("self", *parts) and parameter.default is parameter.empty
    }
    return kind(**left_out, **parts)
