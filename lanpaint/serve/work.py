"""What a worker does with a job: open the model's painter, paint a task, write the result."""

from __future__ import annotations

import io
import json
import os
import shlex
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from lanpaint.images import as_image
from lanpaint.serve.jobs import Job
from lanpaint.serve.shelf import Model

_PREVIEW = 512  # longest side of a preview, in pixels
_LARGE = 1.25  # a picture whose longer side exceeds the model's by this factor is cropped to its hole by default
_AROUND = 2.0  # sides of the crop over those of the hole
# Setting of a request → where a task has it. What is neither here nor in _PARTS is a setting of the task.
_PARTS = ("model", "prompt", "seed", "count")


def resolved(settings: Mapping[str, Any], model: Model, size: tuple[int, int] | None) -> dict[str, Any]:
    """The settings with ``crop`` a number or None: "auto" is a crop for a picture that is large for the model."""
    made = dict(settings)
    made["crop"] = None if made["crop"] == "never" else made["crop"]
    if made["crop"] == "auto":
        left, top, right, bottom = made["pad"]
        longest = 0 if size is None else max(size[0] + top + bottom, size[1] + left + right)
        made["crop"] = _AROUND if model.side and longest > _LARGE * model.side else None
    return made


def task_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a :class:`lanpaint.Task`: all that are not at their defaults."""
    skipped = (*_PARTS, "crop")
    made = {n: value for n, value in settings.items() if n not in skipped and value != defaults[n] and value != ""}
    return made | ({"crop": settings["crop"]} if settings["crop"] is not None else {})


def recipe(settings: Mapping[str, Any], defaults: Mapping[str, Any], model: Model, masked: bool) -> dict[str, str]:
    """The command, and the Python, that paint the same: from ``picture.png`` and ``mask.png`` to ``result.png``."""
    own = task_settings(settings, defaults)
    words = ["lanpaint", "inpaint", "picture.png", *(["mask.png"] if masked else []), "-o", "result.png"]
    words += ["--model", model.source]
    if settings["prompt"]:
        words += ["--prompt", settings["prompt"]]
    words += ["--seed", str(settings["seed"])]
    words += ["--count", str(settings["count"])] if settings["count"] > 1 else []
    for name, value in own.items():
        flag = "--soft-mask" if name == "soft" else f"--{name.replace('_', '-')}"
        if name in ("soft", "match_colour"):
            words.append(flag)
        elif name == "pad":
            words += [flag, ",".join(map(str, value))]
        else:
            words += [flag, str(value).lower() if isinstance(value, bool) else str(value)]
    arguments = ['"picture.png"', *(['"mask.png"'] if masked else [])]
    arguments += [f"prompt={settings['prompt']!r}"] if settings["prompt"] else []
    several = settings["count"] > 1
    arguments += ["seed=seed" if several else f"seed={settings['seed']}"]
    arguments += [f"settings={own!r}"] if own else []
    seeds = f"range({settings['seed']}, {settings['seed'] + settings['count']})"
    lines = ["import lanpaint as lp", "", f"painter = lp.open_painter({model.source!r})"]
    if several:
        lines += [f"for seed in {seeds}:", f"    task = lp.Task({', '.join(arguments)})",
                  '    painter.paint(task).picture.save(f"result-{seed}.png")']  # fmt: skip
    else:
        lines += [f"task = lp.Task({', '.join(arguments)})", 'painter.paint(task).picture.save("result.png")']
    return {"command": shlex.join(words), "python": "\n".join(lines)}


def save_result(image: Any, output: Path, settings: Mapping[str, Any], evaluations: int) -> None:
    """Write a result as PNG, with its settings in the text ``lanpaint``, and with its profile, resolution and EXIF."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    version = metadata.version("lanpaint")
    told = {**settings, "evaluations": evaluations, "version": version}
    info.add_text("Software", f"lanpaint {version}")
    info.add_itxt("lanpaint", json.dumps(told, ensure_ascii=False))
    kept = {name: image.info[name] for name in ("icc_profile", "dpi", "exif") if name in image.info}
    part = output.with_suffix(".part")
    image.save(part, format="PNG", pnginfo=info, compress_level=4, **kept)
    os.replace(part, output)


def small_png(picture: torch.Tensor) -> bytes:
    """A PNG file of a picture (C, H, W) in [0, 1], made smaller where it is large."""
    scale = _PREVIEW / max(picture.shape[-2:])
    picture = picture.detach().float().cpu()
    if scale < 1:
        size = [max(1, round(side * scale)) for side in picture.shape[-2:]]
        picture = F.interpolate(picture[None], size, mode="area")[0]
    file = io.BytesIO()
    as_image((picture.clamp(0, 1) * 255).round().to(torch.uint8)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


class Worker:
    """Paints jobs on one device. It keeps the painter of one model, the last.

    Args:
        shelf: Name → model.
        defaults: Setting → default.
        open_: Opens the painter of a model's source.
    """

    def __init__(self, shelf: Mapping[str, Model], defaults: Mapping[str, Any], open_: Callable[[str], Any]) -> None:
        self.shelf, self.defaults, self.open = shelf, defaults, open_
        self._held: tuple[str, Any] | None = None

    def __call__(
        self, job: Job, number: int, output: Path, report: Callable[[int, int, Callable[[], bytes] | None], None]
    ) -> None:
        """Paint result ``number`` of a job. See :class:`lanpaint.serve.jobs.Paint`."""
        from lanpaint.painting import Task

        model = self.shelf[job.settings["model"]]
        if self._held is None or self._held[0] != model.name:
            self._held = None  # the last model's memory is needed
            self._held = (model.name, self.open(model.source))
        own = task_settings(job.settings, self.defaults)
        seed = job.settings["seed"] + number
        task = Task(job.picture, job.mask, prompt=job.settings["prompt"] or None, seed=seed, settings=own)

        def watch(progress: Any) -> None:
            pictures = progress.pictures
            preview = None if pictures is None else (lambda: small_png(pictures[0]))
            report(progress.done, progress.total, preview)

        result = self._held[1].paint(task, watch=watch, every=1)
        told = {"model": model.name, "prompt": task.prompt, "seed": seed, **own}
        save_result(result.picture, output, {n: v for n, v in told.items() if v is not None}, result.evaluations)
