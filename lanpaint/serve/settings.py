"""The settings of a task, as one table: what the page shows, what a request is checked by, and what the API documents.

A request's settings are plain JSON. What is not in the table is refused, and so is a value of another type or beyond
its bounds: nothing that a client sends names a file, a module, or a model that was not given at the start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanpaint.methods import METHODS, TIME_MAPS, all_options, find_method
from lanpaint.names import DYNAMICS, SOLVERS
from lanpaint.options import short
from lanpaint.serve.shelf import Model
from lanpaint.spacings import SPACINGS

MOST_TEXT = 2000
"""Longest text of a setting, in characters."""
MOST_SEED = 2**32 - 1
LEVELS = tuple(SPACINGS)


@dataclass(frozen=True)
class Setting:
    """One setting of a task.

    Attributes:
        name: Its name in a request.
        kind: "integer", "number", "boolean", "string", or "pad" (four whole numbers: left, top, right, bottom).
        label: What the page calls it.
        help: One plain sentence.
        default: The value where none is given; None leaves the choice to the model or the method.
        low: Smallest value.
        high: Largest value.
        choices: The allowed values; empty where any is allowed.
        group: "first" for what the page shows at once, "more" for the rest, "option" for an option of methods, "hidden"
            for what the page sets by drawing.
        of: "pipeline" or "pixel" where only such a model has it; "any" otherwise.
        methods: Methods that have it; empty for all.
    """

    name: str
    kind: str
    label: str
    help: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    group: str = "more"
    of: str = "any"
    methods: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value, if it is one of this setting.

        Raises:
            ValueError: If it is not.
        """
        if value is None:
            return self.default
        if self.kind == "pad":
            good = isinstance(value, list) and len(value) == 4 and all(type(part) is int for part in value)
            if not good or not all(0 <= part <= (self.high or 0) for part in value):
                raise ValueError(f"{self.name} must be four whole numbers from 0 to {self.high:g}, got {_shown(value)}")
            return value
        kinds: dict[str, tuple[type, ...]] = {
            "integer": (int,), "number": (int, float), "boolean": (bool,), "string": (str,),
        }  # fmt: skip
        if not isinstance(value, kinds[self.kind]) or (isinstance(value, bool) and self.kind != "boolean"):
            if not (self.name == "crop" and value in ("auto", "never")):
                raise ValueError(f"{self.name} must be {self._a_kind}, got {_shown(value)}")
            return value
        if self.choices and value not in self.choices:
            raise ValueError(f"unknown {self.name} {_shown(value)}; expected one of {', '.join(self.choices)}")
        if isinstance(value, str) and len(value) > MOST_TEXT:
            raise ValueError(f"{self.name} has {len(value)} characters; give at most {MOST_TEXT}")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{self.name} has half a character, which is no text; got {_shown(value)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_bounds(value)
        return value

    def _check_bounds(self, value: float) -> None:
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if (isinstance(value, int) and abs(value) > 2**53) or not math.isfinite(value) or not low <= value <= high:
            bounds = f" from {low:g}" * (self.low is not None) + f" to {high:,.10g}" * (self.high is not None)
            raise ValueError(f"{self.name} must be {self._a_kind}{bounds}, got {_shown(value)}")

    @property
    def _a_kind(self) -> str:
        return f"an {self.kind}" if self.kind == "integer" else f"a {self.kind}"

    def schema(self) -> dict[str, Any]:
        """The setting as JSON Schema."""
        made: dict[str, Any] = {"description": self.help, "default": self.default}
        if self.kind == "pad":
            made |= {"type": "array", "minItems": 4, "maxItems": 4}
            made["items"] = {"type": "integer", "minimum": 0, "maximum": self.high}
            return made
        made["type"] = self.kind if self.default is not None else [self.kind, "null"]
        if self.name == "crop":
            made |= {"type": ["number", "string"], "description": f"{self.help} Or auto, or never."}
        made |= {} if self.low is None else {"minimum": self.low}
        made |= {} if self.high is None else {"maximum": self.high}
        return made | ({"enum": list(self.choices)} if self.choices else {})


_OPTIONS = {
    "preset": ("Preset", "The paper's settings, or fast ones that need fewer evaluations.", None, None),
    "lam": ("Guidance λ", "How strongly the known part answers to what is painted.", 0, 1000),
    "step_size": ("Step size η", "How far an inner step moves; larger is faster and less exact.", 1e-6, 100),
    "friction": ("Friction γ", "How quickly the inner steps forget their direction.", 1e-6, 1e6),
    "expected_noise": (
        "Expected noise a",
        "How uncertain a pixel is when all others are known; 0 for pictures.",
        0,
        100,
    ),
    "data_scale": ("Data scale s", "The spread of the model's data; 1 for most models.", 1e-6, 1e6),
    "eta": ("Share η", "The share of the noise that is drawn anew at each step.", 0, 1),
    "eta_b": ("Pull η_b", "How far the known part is pulled to the picture at each step.", 0, 1),
    "checkpoint": ("Save memory", "Computes some things twice, so that less memory is needed.", None, None),
    "regularization": ("Regularisation", "How strongly a step is held near its start.", 0, 1e6),
    "travel": ("Travel block", "How many levels are gone through again.", 1, 200),
    "travels": ("Travels", "How often a block of levels is repeated.", 0, 10),
    "particles": ("Particles", "How many candidates are kept for each result.", 1, 256),
    "threshold": ("Resampling", "When candidates are sorted out: never at 0, nearly always at 1.", 0, 1),
    "data_variance": ("Data variance", "The variance of the model's data; 1 for most models.", 1e-6, 1e6),
    "sigma_y": ("Noise σ of y", "How far the known part may be from the picture on the way.", 0, 100),
    "kernel": ("Kernel", "The model's step from level to level.", None, None),
    "form": ("Form", "Which published form of the method is taken.", None, None),
    "prior_weight": ("Weight λ", "How much the model counts against the known part.", 0, 1000),
    "zeta": ("Share ζ", "The share of the noise that is drawn anew at each step.", 0, 1),
    "ode_steps": ("Flow steps", "How many steps lead from each level to clean pictures.", 1, 100),
    "tau": ("Noise τ", "How far the known part may be from the picture on the way.", 0, 100),
    "langevin_steps": (
        "Langevin steps",
        "How many steps draw the known part at each level; 0 draws it exactly.",
        0,
        200,
    ),
    "langevin_step_size": ("Langevin step", "How far each of these steps moves at first.", 1e-9, 100),
    "iterations": ("Iterations", "How many rounds are made.", 1, 1000),
    "rho": ("Coupling ϱ", "How loosely the two halves of the method are tied at first.", 1e-6, 1000),
    "decay": ("Decay", "By which factor this falls from round to round.", 1e-6, 1),
    "least_rho": ("Least ϱ", "How loosely the two halves are tied at the end.", 1e-6, 1000),
    "gradient_steps": ("Gradient steps", "How many corrections are made at each level.", 1, 100),
    "delta": ("Length δ", "How far each step is pulled to the picture.", 0, 1000),
    "learning_rate": ("Learning rate", "How far each step of the optimiser goes.", 1e-9, 100),
    "w1": ("Pull w₁", "How strongly the partner's path pulls.", 0, 1000),
    "pull_decay": ("Pull decays", "Whether the pull becomes weaker with the noise.", None, None),
    "partner": ("Partner", "How the partner's path is made.", None, None),
    "pull_next": ("Pull ahead", "Whether the partner's next state pulls.", None, None),
    "precision": ("Precision", "Which variance the pull has.", None, None),
    "coordinates": ("Coordinates", "Whether the method counts as for diffusions or for flows.", None, None),
    "w2": ("Joint weight w₂", "How much the joint density counts.", 0, 1000),
    "last_share": ("Last share", "The share of the last steps that have no updates.", 0, 1),
    "reuse": ("Reuse", "Whether an evaluation is used twice, which saves time.", None, None),
    "scaled": ("Scaled", "Whether updates have the factor of the paper's Eq. 7.", None, None),
}
"""Option of methods → label, sentence and bounds."""
_CHOICES = {"preset": ("paper", "fast"), "kernel": ("paper", "ancestral"), "form": ("code", "paper", "inversebench")}
_MOST = 1000  # of whole numbers whose bounds are not in the table: a plan must stay small


def _having(name: str) -> tuple[str, ...]:
    """The methods that have an option or a part."""
    return tuple(method.name for method in (*METHODS.values(), TIME_MAPS) if name in method.takes())


def _method_options() -> list[Setting]:
    made = []
    for name, methods in all_options().items():
        if name == "inner_steps":
            continue
        option = next(iter(methods.values()))
        kind = {int: "integer", float: "number", bool: "boolean"}.get(option.kind or str, "string")
        label, sentence, low, high = _OPTIONS.get(name, (name, f"{short(option.help).rstrip('.')}.", None, None))
        high = _MOST if kind == "integer" and high is None else high
        choices = _CHOICES.get(name, option.choices)
        made.append(Setting(name, kind, label, sentence, None, low, high, choices, "option", methods=_having(name)))
    return made


def table(models: Sequence[str]) -> dict[str, Setting]:
    """Name → setting, for a server with these models."""
    gradients = [name for name, method in METHODS.items() if method.needs_gradient]
    made = [
        Setting("model", "string", "Model", "What paints; it was chosen when the server was started.", models[0],
                choices=tuple(models), group="first"),
        Setting("prompt", "string", "Prompt", "Say what is to be painted.", group="first", of="pipeline"),
        Setting("steps", "integer", "Steps", "More steps take longer and are more exact.", 20, 1, 200, group="first"),
        Setting("seed", "integer", "Seed", "The same seed paints the same picture again.", 0, 0, MOST_SEED,
                group="first"),
        Setting("count", "integer", "Results", "How many pictures are painted, with seeds that count up.", 1, 1, 16,
                group="first"),
        Setting("method", "string", "Method",
                f"How the hole is made to fit; {', '.join(gradients)} need a pixel model.",
                choices=tuple(METHODS)),
        Setting("inner_steps", "integer", "Inner steps", "How often each step is refined; the paper has 5.",
                None, 0, 50, methods=_having("inner_steps")),
        Setting("negative_prompt", "string", "Negative prompt", "Say what must not be painted.", of="pipeline"),
        Setting("guidance_scale", "number", "Prompt weight", "How closely the prompt is followed.", None, 0, 100,
                of="pipeline"),
        Setting("known_guidance_scale", "number", "Prompt weight, known part",
                "How closely the prompt is followed where the picture is kept; 0 puts the prompt first.", None, 0, 100,
                of="pipeline"),
        Setting("crop", "number", "Crop around the hole",
                "Paints the surroundings of the hole alone, this many times its size.", "auto", 1, 100),
        Setting("strength", "number", "Strength", "How much the hole may change; below 1 it keeps something of it.",
                1.0, 0.01, 1),
        Setting("feather", "integer", "Soft seam", "Width in pixels over which the picture fades into what is painted.",
                0, 0, 200),
        Setting("match_colour", "boolean", "Match colours", "Fits the colours of the hole to what surrounds it.", False,
                of="pipeline"),
        Setting("levels", "string", "Noise levels", "Which levels of noise the steps go through.", None, choices=LEVELS,
                of="pixel"),
        Setting("dynamics", "string", "Dynamics", "The motion of the inner steps.", None, choices=tuple(DYNAMICS),
                methods=_having("dynamics")),
        Setting("solver", "string", "Solver", "The rule that leads from one level to the next.", None,
                choices=tuple(SOLVERS), methods=_having("solver")),
        *_method_options(),
        Setting("pad", "pad", "Frame", "Pixels that are added and painted: left, top, right, bottom.", [0, 0, 0, 0],
                high=4096, group="hidden"),
        Setting("soft", "boolean", "Soft mask", "Whether a grey of the mask is how much may change there.", False,
                group="hidden"),
    ]  # fmt: skip
    return {setting.name: setting for setting in made}


def parse(text: str, settings: Mapping[str, Setting], shelf: Mapping[str, Model]) -> dict[str, Any]:
    """All settings of a request, from its JSON text.

    Args:
        text: A JSON object; empty for none.
        settings: The table.
        shelf: Name → model.

    Raises:
        ValueError: For what is no JSON object, an unknown name, a wrong value, and a setting that the model or the
            method does not have.
    """
    given = _json(text) if text.strip() else {}
    if not isinstance(given, dict):
        raise ValueError(f'settings must be a JSON object such as {{"seed": 1}}, got {_shown(given)}')
    unknown = [name for name in given if name not in settings]
    if unknown:
        raise ValueError(f"unknown setting {_shown(unknown[0])}; expected some of {', '.join(settings)}")
    values = {name: setting.check(given.get(name)) for name, setting in settings.items()}
    last = values["seed"] + values["count"] - 1
    if last > MOST_SEED:
        raise ValueError(
            f"seed must be at most {MOST_SEED - values['count'] + 1} for so many results, got {values['seed']}"
        )
    model = shelf[values["model"]]
    kind = "pipeline" if model.is_pipeline else "pixel"
    method = find_method(values["method"] or model.method)
    if kind == "pipeline" and method.needs_gradient:
        raise ValueError(
            f"{method.name} needs the gradient of the score, and a pipeline gives none; take another method"
        )
    for name, value in given.items():
        setting = settings[name]
        if value in (None, "", setting.default):
            continue
        if setting.of not in ("any", kind):
            raise ValueError(f"{name} is only for {setting.of} models, and {values['model']} is none; leave it out")
        of_dynamics = (
            setting.group == "option" and values["dynamics"] is not None and name in method.options(values["dynamics"])
        )
        if setting.methods and method.name not in setting.methods and not of_dynamics:
            named = [each for each in setting.methods if each in METHODS]
            raise ValueError(f"{method.name} has no {name}; leave it out, or take {' or '.join(named)}")
    return values


def changed(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings that are not at their defaults; the model and the seed always."""
    return {
        name: value for name, value in values.items() if name in ("model", "seed") or value != settings[name].default
    }


def _json(text: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in items}) < len(items):
            raise ValueError("settings name something twice; give it once")
        return dict(items)

    def constant(name: str) -> Any:
        raise ValueError(f"settings must hold finite numbers, got {name}")

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) < 1000 else float(digits)  # Python refuses to read longer ones

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=whole)
    except json.JSONDecodeError as error:
        raise ValueError(f'settings must be a JSON object such as {{"seed": 1}}: {error}') from None
    except RecursionError:
        raise ValueError("settings are nested too deeply; give a flat JSON object") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
