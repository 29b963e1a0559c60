"""Tasks and results: what a painter is given and what it gives back.

A task is data. With pictures named by path it is one line of JSON, so a queue, a manifest or a request can carry it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole, shown
from lanpaint.masks import check_edits
from lanpaint.methods import Method, find_method, usual_method
from lanpaint.plan import MOST_STEPS
from lanpaint.solvers import Solver

_MOST_PAD = 10_000  # pixels at one side; more is a slip
_MIXING_METHODS = ("tds",)

OF_TASKS: dict[str, str | None] = {
    "num_inference_steps": "steps", "generator": "seed", "image": "picture", "num_images_per_prompt": None,
    "output_type": None, "return_dict": None, "preview": None, "mask": "mask", "prompt": "prompt",
    **{name: name for name in (
        "steps", "negative_prompt", "guidance_scale", "known_guidance_scale", "pad", "control_image", "feather", "crop",
        "strength", "soft", "grow", "blur", "invert", "match_colour",
    )},
}  # fmt: skip
"""Argument of a pipeline or an Inpainter → the part or setting of a task that gives it; None where a painter does."""


@dataclass(frozen=True)
class Settings:
    """How a picture is painted: the method, the mask's edits, and what the pipeline is called with.

    Attributes:
        method: Name of the method, see :func:`lanpaint.methods.find_method`. None for the model's: lanpaint, or async
            for a model with a time for each pixel.
        steps: Outer steps S, from 1 to 10,000.
        levels: Spacing of the noise levels, for pixel models: paper, logsnr, karras, focused or linspace.
        dynamics: Name of the dynamics of the inner steps; None for the method's.
        solver: Name of the solver of the outer steps; None for the method's, or for the pipeline's scheduler.
        options: Options of the method and the dynamics: ``inner_steps``, ``lam``, ``friction``, …
        negative_prompt: What not to paint.
        guidance_scale: Weight of the prompt; None for the pipeline's.
        known_guidance_scale: Weight of the prompt at the known part, as in :class:`~lanpaint.Inpainter`.
        control_image: The picture for a ControlNet, as in :class:`Task`.
        arguments: Any other argument of the pipeline's call.
        pad: Pixels to add and paint at the left, top, right and bottom.
        feather: Width of a soft seam on the known side, in pixels.
        crop: Paint the surroundings of the hole alone, this many times its size. None paints the whole picture.
        strength: The largest share of the steps in which a pixel may change, above 0 and at most 1.
        soft: Whether a grey of the mask is how much may change.
        grow: Pixels by which the mask grows; below 0 it shrinks.
        blur: Standard deviation of a blur of the mask, in pixels.
        invert: Whether black is painted and white kept.
        match_colour: Whether the fill's colours are matched to its surroundings, for latents.
    """

    method: str | None = None
    steps: int = 20
    levels: str | None = None
    dynamics: str | None = None
    solver: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    negative_prompt: str | None = None
    guidance_scale: float | None = None
    known_guidance_scale: float | None = None
    control_image: Any = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pad: Sequence[int] = (0, 0, 0, 0)
    feather: int = 0
    crop: float | None = None
    strength: float = 1.0
    soft: bool = False
    grow: int = 0
    blur: float = 0.0
    invert: bool = False
    match_colour: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """The settings of a mapping, checked.

        A name that is none of the attributes is an option of the method: ``{"steps": 10, "inner_steps": 3}``.

        Raises:
            TypeError: For what is no mapping.
            ValueError: For an unknown name, and a value that is not allowed.
        """
        return cls(**_arranged(given))

    def updated(self, given: Mapping[str, Any]) -> Settings:
        """These settings with others in their place; ``options`` and ``arguments`` are added to those that are there.

        Raises:
            TypeError, ValueError: As :meth:`of`.
        """
        if not given:
            return self
        parts = _arranged(given)
        for name in _NESTED:
            parts[name] = {**getattr(self, name), **parts[name]}
        return replace(self, **parts)

    def __post_init__(self) -> None:
        from lanpaint.given import checked_strength
        from lanpaint.names import make_solver

        for name in ("method", "levels", "dynamics", "solver", "negative_prompt"):
            value = getattr(self, name)
            if not isinstance(value, str) and value is not None:
                raise ValueError(f"{name} must be a name or text, got {shown(value)}")
        check_whole("steps", self.steps, least=1, most=MOST_STEPS)
        check_whole("feather", self.feather, least=0, most=1000)
        pad = self.pad
        if not isinstance(pad, Sequence) or isinstance(pad, str) or len(pad) != 4:
            raise ValueError(f"pad must be four whole numbers (left, top, right, bottom), got {shown(pad)}")
        for pixels in pad:
            check_whole("pad", pixels, least=0, most=_MOST_PAD)
        object.__setattr__(self, "pad", tuple(pad))
        for name in ("guidance_scale", "known_guidance_scale", "crop"):
            value = getattr(self, name)
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not good:
                raise ValueError(f"{name} must be a finite number, got {shown(value)}")
        checked_strength(self.strength)
        check_edits(self.grow, self.blur)
        for name in ("soft", "invert", "match_colour"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {shown(getattr(self, name))}")
        for name in self.arguments:
            if name in OF_TASKS:
                where = OF_TASKS[name]
                told = f"a task gives it as its {where}" if where else "the painter sets it; leave it out"
                raise ValueError(f"{name} is not for arguments: {told}")
        check_whole("inner_steps", self.options.get("inner_steps") or 0, least=0, most=MOST_STEPS)
        self.factory()
        if self.solver is not None:
            make_solver(self.solver)

    @cached_property
    def found_method(self) -> Method:
        """The method by its name; that of most models where none is named."""
        return find_method(usual_method(False) if self.method is None else self.method)

    def by(self, usual: str) -> Settings:
        """These settings with a method: the named one, or ``usual`` where none is named.

        Raises:
            ValueError: For an option that ``usual`` does not have.
        """
        return self if self.method is not None else replace(self, method=usual)

    def factory(self) -> Any:
        """A function of a score that makes the sampler. Raises ValueError for options that the method lacks."""
        return self.found_method.factory(dynamics=self.dynamics, **self.options)

    @property
    def made_solver(self) -> Solver | None:
        """The solver by its name, or None."""
        from lanpaint.names import make_solver

        return None if self.solver is None else make_solver(self.solver)

    @property
    def sampling(self) -> str:
        """What of the settings makes the sampler, as a key."""
        made = (self.method, self.steps, self.levels, self.dynamics, self.solver, dict(self.options))
        return json.dumps(made, sort_keys=True, default=repr)

    @property
    def mixes_samples(self) -> bool:
        """Whether a sample depends on its batch: particles are the batch, and a preset may measure the whole batch."""
        return self.method in _MIXING_METHODS or "preset" in self.options

    @property
    def edits(self) -> dict[str, Any]:
        """The edits of the mask, as :func:`lanpaint.masks.edited` takes them."""
        return {"grow": self.grow, "blur": self.blur, "invert": self.invert}

    def given(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        plain = asdict(self)
        return {one.name: plain[one.name] for one in fields(self) if plain[one.name] != _DEFAULTS[one.name]}


def _arranged(given: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of Settings from a mapping in which options of the method may stand among them."""
    if not isinstance(given, Mapping):
        raise TypeError(f"settings must be a mapping of names to values, got {shown(given)}")
    names = {one.name for one in fields(Settings)}
    parts = {name: value for name, value in given.items() if name in names}
    for name in _NESTED:
        if not isinstance(parts.setdefault(name, {}), Mapping):
            raise TypeError(f"{name} must be a mapping of names to values, got {shown(parts[name])}")
    parts["options"] = {name: value for name, value in given.items() if name not in names} | {**parts["options"]}
    return parts


_NESTED = ("options", "arguments")
_DEFAULTS = {one.name: one.default for one in fields(Settings)} | {"options": {}, "arguments": {}}


@dataclass(frozen=True)
class Task:
    """What is to be painted.

    Attributes:
        picture: The picture: the path of a file, or in memory whatever :mod:`lanpaint.pictures` takes. For a model of
            videos the path of a film, or a list of frames.
        mask: What is painted (white, 1, True), in the same forms. None paints the transparent pixels of the picture.
        prompt: What to paint; only for pipelines.
        seed: Seed of all random numbers of this task, from 0 to 2³² − 1.
        settings: Whatever is not the default of :class:`Settings`, as a mapping or as Settings.

    Raises:
        TypeError, ValueError: For a prompt, seed or settings that are not understood. Pictures are read by the painter.

    Example:
        >>> from lanpaint import Task
        >>> task = Task("photo.png", "mask.png", seed=3, settings={"steps": 10, "inner_steps": 2})
        >>> task.to_json()
        '{"picture": "photo.png", "mask": "mask.png", "seed": 3, "settings": {"steps": 10, "inner_steps": 2}}'
        >>> Task.from_json(task.to_json()) == task
        True
    """

    picture: Any
    mask: Any = None
    prompt: str | None = None
    seed: int = 0
    settings: Mapping[str, Any] | Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise TypeError(f"prompt must be a text, got {shown(self.prompt)}")
        check_whole("seed", self.seed, least=0, most=2**32 - 1)
        _ = self.checked

    @cached_property
    def checked(self) -> Settings:
        """The settings, all of them."""
        return self.settings if isinstance(self.settings, Settings) else Settings.of(self.settings)

    def to_json(self) -> str:
        """The task as one line of JSON. Raises TypeError for pictures in memory."""
        for name in ("picture", "mask"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (str, os.PathLike)):
                raise TypeError(
                    f"{name} is in memory; write it to a file and name its path, got {type(value).__name__}"
                )
        settings = self.settings.given() if isinstance(self.settings, Settings) else dict(self.settings)
        whole = {
            "picture": os.fspath(self.picture),
            "mask": None if self.mask is None else os.fspath(self.mask),
            "prompt": self.prompt,
            "seed": self.seed,
            "settings": settings,
        }
        return json.dumps({name: value for name, value in whole.items() if value not in (None, {})})

    @classmethod
    def from_json(cls, line: str) -> Task:
        """The task of a line of JSON.

        Raises:
            ValueError: For a line that is no JSON object, or has a name that a task does not have.
        """
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ValueError(f"a task is a line of JSON ({error}), got {line[:60]!r}") from error
        names = [one.name for one in fields(cls)]
        if not isinstance(found, dict) or "picture" not in found or set(found) - set(names):
            raise ValueError(f"a task has picture, and may have {', '.join(names[1:])}; got {line[:60]!r}")
        return cls(**found)


@dataclass(frozen=True)
class Result:
    """What a painter made of a task.

    Attributes:
        pictures: The painted picture as a PIL image, or the frames of a video. Known pixels are unchanged.
        evaluations: Evaluations of the model. With guidance the two branches count as one; an evaluation of a batch
            counts for each of its pictures.
        seed: The seed of the task.
        notes: What the reader, the painter or the sampler warned of, one line each.
        seconds: Time of the run, divided by the pictures that were painted in it.
        repainted: Share of the pixels that may have changed, from 0 to 1.
        rate: Frames per second of a video; None for a picture.
        durations: Milliseconds of each frame, shape (F,), where they are not equal.
    """

    pictures: tuple[Any, ...]
    evaluations: int
    seed: int
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    repainted: float = 1.0
    rate: float | None = None
    durations: Tensor | None = None

    @property
    def picture(self) -> Any:
        """The painted picture, or the first frame."""
        return self.pictures[0]
