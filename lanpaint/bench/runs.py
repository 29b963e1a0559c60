"""One run of one method on one target, and a record of all that is needed to repeat the run."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor

from lanpaint.bench.targets import AnalyticTarget, Target, make_target
from lanpaint.callbacks import DivergenceError
from lanpaint.checks import check_whole
from lanpaint.lml import LML
from lanpaint.memory import PeakMemory
from lanpaint.methods import METHODS, find_method, make_sampler
from lanpaint.names import make_solver
from lanpaint.options import arguments_of
from lanpaint.plan import MOST_STEPS
from lanpaint.samplers import Sampler
from lanpaint.score import CountedScore, Score

OF_EVERY_METHOD = {"target", "method", "steps", "levels", "images", "samples", "fills", "seed"} | {
    *("prompt", "guidance_scale", "dtype", "lml")
}
"""Settings of every run, whatever its method. All other settings exist only for some methods."""
MOST_SAMPLES = 10_000_000
"""Most samples of a run. A larger number is a slip, and does not fit into memory."""
# Former name → name, for results that older versions have written.
_RENAMED = {"guidance": "lam"}


@dataclass(frozen=True)
class Settings:
    """The settings of a run. None stands for the default of the method or of the target.

    Attributes:
        target: See :func:`lanpaint.bench.make_target`.
        method: One of :data:`lanpaint.bench.METHODS`, or ``module:name`` for your own method.
        steps: Number of outer steps.
        inner_steps: Number of inner steps at each level.
        levels: Spacing of the levels: paper, logsnr, karras, focused or linspace.
        dynamics: Name of the dynamics, or ``module:name``.
        solver: Name of the solver, or ``module:name``.
        preset: paper or fast.
        lam: λ.
        step_size: η.
        friction: γ.
        expected_noise: a.
        particles: Number of particles per sample, for ``tds``.
        images: Folder or zip of images, for a model that comes without images.
        samples: Number of samples, of all observations together.
        fills: Number of samples for each observation, which calibration is measured with; None for one.
        seed: Seed of all random numbers.
        prompt: The prompt of all images, for a text-to-image pipeline, or a file of prompts: see :func:`make_target`.
        guidance_scale: Weight of classifier-free guidance with that prompt.
        dtype: Data type of a latent pipeline: float32, float16 or bfloat16.
        lml: β of :class:`lanpaint.LML`, which then corrects the predictions of the model; None for none.
        options: Further options of the method or the dynamics: (name, value) pairs, sorted by name. See :meth:`of`.

    Raises:
        ValueError: For a value of the wrong type or outside the allowed range.
    """

    target: str
    method: str = "lanpaint"
    steps: int = 20
    inner_steps: int | None = None
    levels: str | None = None
    dynamics: str | None = None
    solver: str | None = None
    preset: str | None = None
    lam: float | None = None
    step_size: float | None = None
    friction: float | None = None
    expected_noise: float | None = None
    particles: int | None = None
    images: str | None = None
    samples: int | None = None
    fills: int | None = None
    seed: int = 0
    prompt: str | None = None
    guidance_scale: float | None = None
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    lml: float | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Settings from name → value. A name that is not an attribute of this class goes into ``options``."""
        options = {name: value for name, value in given.items() if name not in NAMES and value is not None}
        return cls(
            **{name: value for name, value in given.items() if name in NAMES}, options=tuple(sorted(options.items()))
        )

    def __post_init__(self) -> None:
        for name, option in FIELDS.items():
            value = getattr(self, name)
            if value is not None or option.default is not None:
                option.check(value)
        for name, value in self.options:
            if not isinstance(value, (str, int, float)):
                raise ValueError(f"{name} must be a number, a name, or true or false, got {value!r}")
        for name in ("target", "method"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be a name, got None")
        check_whole("steps", self.steps, least=1, most=MOST_STEPS)
        check_whole("inner_steps", self.inner_steps or 0, least=0, most=MOST_STEPS)
        check_whole("fills", 1 if self.fills is None else self.fills, least=1, most=MOST_SAMPLES)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to 2³¹ − 1, got {self.seed}")

    def complete(self, device: str = "cpu") -> Settings:
        """These settings with defaults filled in: levels, solver, inner steps and number of samples.

        So two runs have equal settings if one was given a default explicitly and the other was not given it. A network
        is loaded to ``device``.

        Raises:
            ValueError: For an unknown name, an option that the method does not have, or too many samples.
        """
        target, method = self.find_target(device), find_method(self.method)
        samples = target.samples if self.samples is None else self.samples
        fills = self.fills or 1
        if fills > 1 and samples % fills:
            raise ValueError(f"samples must be a multiple of fills, got {samples} samples and {fills} fills")
        if target.most < 10:
            raise ValueError(f"{target.name} has {target.most} held-out images; give 10 or more")
        if not 10 <= samples <= min(target.most * fills, MOST_SAMPLES):
            most = f"{target.most * fills}, the number of images" if target.most < math.inf else f"{MOST_SAMPLES:,}"
            raise ValueError(f"samples must be at least 10 and at most {most}, got {samples}")
        full = replace(
            self,
            target=target.name,
            samples=samples,
            fills=fills if fills > 1 else None,
            preset=None if self.preset == "paper" else self.preset,
            dtype=None if self.dtype == "float32" else self.dtype,
            inner_steps=self.inner_steps if "inner_steps" in method.arguments else None,
        )
        if self.method in METHODS:  # a method of the user's keeps its defaults
            has_levels = self.solver is not None and make_solver(self.solver).levels(self.steps) is not None
            spacing = None if has_levels else "focused" if self.preset == "fast" else "paper"
            full = replace(
                full,
                levels=spacing if self.levels is None else self.levels,
                inner_steps=5 if self.inner_steps is None and "inner_steps" in method.arguments else full.inner_steps,
                solver=self.solver or ("euler" if "solver" in method.arguments else None),
            )
        full.sampler(target)
        return full

    def find_target(self, device: str = "cpu") -> Target:
        """The target of these settings, with its network on a device.

        Raises:
            ValueError: As :func:`lanpaint.bench.make_target`.
        """
        return make_target(self.target, self.images, device, self.prompt, self.guidance_scale, self.dtype)

    def sampler(self, target: Target, steps: int | None = None, progress: bool = False) -> Sampler:
        """The sampler of these settings. ``steps``, if given, replaces the number of outer steps."""
        score: Score = CountedScore(target.score)
        return make_sampler(
            self.method,
            score if self.lml is None else LML(score, self.lml),
            steps=steps or self.steps,
            spacing=self.levels,
            progress=progress,
            **{name: value for name, value in self.given().items() if name not in OF_EVERY_METHOD},
        )

    def get(self, name: str) -> Any:
        """The value of a setting or option by its name; None if it is not set."""
        return getattr(self, name) if name in NAMES else dict(self.options).get(name)

    def given(self) -> dict[str, Any]:
        """Name → value of all settings and options that are not None."""
        fixed = {name: getattr(self, name) for name in NAMES}
        return {name: value for name, value in fixed.items() if value is not None} | dict(self.options)


FIELDS = {name: argument.option for name, argument in arguments_of(Settings).items() if argument.option is not None}
NAMES = list(FIELDS)
"""Names of the settings that are attributes of :class:`Settings`. All other names are options of a method."""


def names_of(runs: Iterable[Settings]) -> list[str]:
    """Names of the settings and options of the runs: first :data:`NAMES`, then the options."""
    return [*NAMES, *dict.fromkeys(name for settings in runs for name, _ in settings.options)]


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        settings: The settings of the run.
        figures: Name of a metric → value; empty for a run that diverged.
        floors: Name of a metric → value for exact samples.
        merits: Names of the metrics that methods are compared by.
        nfe: Evaluations of the score per sample.
        memory: Peak memory of the tensors made while sampling, in bytes per sample, without the model's weights.
        seconds: Wall-clock time of sampling, in seconds per sample.
        diverged: Message of the sampler's error if the run diverged, else None.
        versions: Package → version.
        device: Name of the device that the run used.
        section: Title of the report's section that the run belongs to.
        ranks: Shares of a histogram of ranks, see :meth:`lanpaint.bench.Target.ranks`; empty where there is none.
    """

    settings: Settings
    figures: dict[str, float]
    floors: dict[str, float]
    merits: tuple[str, ...]
    nfe: int
    memory: float
    seconds: float
    diverged: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    section: str = ""
    ranks: tuple[float, ...] = ()

    @property
    def kl(self) -> float:
        """KL in nats; infinite for a run that diverged, NaN if the target has no KL."""
        return math.inf if self.diverged else self.figures.get("kl", math.nan)

    def as_json(self) -> str:
        """One line of JSON. The values that depend on the machine come last."""
        values = asdict(self)
        order = ("section", "settings", "figures", "floors", "merits", "ranks", "nfe", "diverged", "memory", "versions")
        line = {name: values[name] for name in order} | {"seconds": self.seconds, "device": self.device}
        line["settings"] = self.settings.given()
        return json.dumps(_finite(line), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Result:
        """The result in a line that :meth:`as_json` has made.

        Raises:
            ValueError: For any other line.
        """
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a result of lanpaint bench, which is a JSON object: {error}") from error
        values = _restored(values)
        if not isinstance(values, dict):
            raise ValueError(f"not a result of lanpaint bench, which is a JSON object: {line.strip():.40}")
        known = {field.name: field for field in fields(cls)}
        needed = [name for name, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
        for name in needed:
            if name not in values:
                raise ValueError(f"not a result of lanpaint bench, it has no {name}")
        for name, value in values.items():
            if name not in known:
                by = values["versions"].get("lanpaint") if isinstance(values.get("versions"), dict) else None
                told = (
                    "" if by in (None, version("lanpaint")) else f" (lanpaint {by} wrote it, this is another version)"
                )
                raise ValueError(f"a result of lanpaint bench has no {name!r}{told}")
            expected, fits = _KINDS[name]
            if not fits(value):
                raise ValueError(f"{name} of a result must be {expected}, got {value!r:.60}")
        pairs = values.pop("settings")
        settings = Settings.of({_RENAMED.get(name, name): value for name, value in pairs.items()})
        lists = {name: tuple(values.get(name, ())) for name in ("merits", "ranks")}
        return cls(settings=settings, **{**values, **lists})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _maps(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


# Field of a result → what its value must be in a line of JSON, in words and as a test.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "settings": ("an object", lambda value: isinstance(value, dict)),
    "figures": ("an object of numbers", _maps(_is_number)),
    "floors": ("an object of numbers", _maps(_is_number)),
    "merits": ("a list of names", lambda value: isinstance(value, list) and all(map(_is_text, value))),
    "ranks": ("a list of numbers", lambda value: isinstance(value, list) and all(map(_is_number, value))),
    "nfe": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "memory": ("a number", _is_number),
    "seconds": ("a number", _is_number),
    "diverged": ("a text or null", lambda value: value is None or isinstance(value, str)),
    "versions": ("an object of texts", _maps(_is_text)),
    "device": ("a text", _is_text),
    "section": ("a text", _is_text),
}


def _finite(value: Any) -> Any:
    """The value with infinities and NaN as text, because JSON has no numbers for them."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _restored(value: Any) -> Any:
    """The inverse of :func:`_finite`."""
    if isinstance(value, dict):
        return {name: _restored(part) for name, part in value.items()}
    return float(value) if isinstance(value, str) and value in ("inf", "-inf", "nan") else value


def run(
    settings: Settings,
    *,
    device: str = "cpu",
    progress: bool = False,
    notice: Callable[[str], None] = lambda line: None,
) -> tuple[Result, Tensor | None]:
    """Run one method on one target.

    Args:
        settings: The settings of the run.
        device: The device to sample on. All else is done on the CPU.
        progress: Show a progress bar.
        notice: Called with a line of text about metrics that cannot be computed.

    Returns:
        The result, and the samples (B, …), or None instead of samples for a run that diverged.

    Raises:
        ValueError: When :meth:`Settings.complete` raises it, and for a method that needs a gradient with a score that
            gives none.
    """
    settings = settings.complete(device)
    target = settings.find_target(device)
    count = settings.samples or target.samples
    generator = torch.Generator().manual_seed(settings.seed)
    fills = settings.fills or 1
    truth = target.draw(count // fills, generator).repeat_interleave(fills, 0)
    sampler = settings.sampler(target, progress=progress)
    score = next(part for part in sampler.modules() if isinstance(part, CountedScore))  # wrapped by some samplers
    parts: list[Tensor] = []
    diverged, seconds, nfe = None, 0.0, 0
    at_once = int(min(count, target.batch))
    try:
        for first in range(0, count, at_once):
            rows = truth[first : first + at_once]
            sources = target.generators(settings.seed, first, len(rows), generator)
            target.attend([place // fills for place in range(first, first + len(rows))])
            score.rows, start = 0, time.perf_counter()
            observation = target.observation(rows.to(device))
            parts.append(sampler(observation, generator=sources).cpu())  # .cpu() waits for a GPU to finish
            seconds += time.perf_counter() - start
            nfe = score.rows // len(rows)
    except DivergenceError as error:
        diverged, nfe = " ".join(str(error).split()), score.rows // len(rows)
    x = None if diverged else torch.cat(parts)
    target.attend([place // fills for place in range(at_once)])
    result = Result(
        settings,
        {} if x is None else target.figures(x, truth, notice, fills),
        _floors(settings.target, count, settings.seed, fills) if isinstance(target, AnalyticTarget) else {},
        target.merits,
        nfe,
        _memory(settings, target, truth[:at_once], device),
        seconds / count,
        diverged,
        {name: version(name) for name in ("lanpaint", "torch", "diffusers")} | {"python": platform.python_version()},
        _device_name(device),
        ranks=() if x is None else tuple(round(share, 5) for share in target.ranks(x, truth, fills).tolist()),
    )
    return result, x


@lru_cache(maxsize=32)
def _floors(name: str, count: int, seed: int, fills: int) -> dict[str, float]:
    target = make_target(name)
    truth = target.draw(count // fills, torch.Generator().manual_seed(seed)).repeat_interleave(fills, 0)
    return target.floors(truth, seed, fills)


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def _memory(settings: Settings, target: Target, truth: Tensor, device: str) -> float:
    """Peak memory in bytes per sample, measured in a run of two outer steps, because every level needs the same memory.

    On a GPU, the peak is that of PyTorch's allocator.
    """
    sampler = settings.sampler(target, steps=min(2, settings.steps))
    sources = target.generators(settings.seed, 0, len(truth), torch.Generator().manual_seed(settings.seed))
    observation = target.observation(truth.to(device))
    on_gpu, before = torch.device(device).type == "cuda", 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with nullcontext() if on_gpu else PeakMemory() as memory:
        try:
            sampler(observation, generator=sources)
        except DivergenceError:
            return math.nan
    peak = memory.peak if memory else torch.cuda.max_memory_allocated(device) - before
    return peak / len(truth)
