"""Code that several commands share: options, devices, quiet libraries."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter
from typing import Annotated, Any, TypeVar

import torch
import typer
from typer.core import TyperCommand

from lanpaint.methods import METHODS, TIME_MAPS, all_options
from lanpaint.names import DYNAMICS, SOLVERS
from lanpaint.options import Option, short, split_pairs
from lanpaint.plan import MOST_STEPS
from lanpaint.spacings import SPACINGS

Command = TypeVar("Command", bound=Callable[..., None])

DTYPES = {
    **{"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16},
    **{"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16},
}

SAMPLING, OF_METHODS, FOLDERS = "Sampling", "Options of methods", "Folders"
OWN = "module:name for one of your own"


def sampling_flag(text: str) -> Any:
    """A flag in the help's section on sampling, without a default value."""
    return typer.Option(help=text, show_default=False, rich_help_panel=SAMPLING)


Prompt = Annotated[str | None, typer.Option(help="What to paint.", show_default=False)]
NegativePrompt = Annotated[str | None, typer.Option(help="What not to paint.", show_default=False)]
GuidanceScale = Annotated[float | None, typer.Option(help="Weight of the prompt [the pipeline's].", show_default=False)]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Scheduler of a pipeline's outer steps: euler, dpm++, ddim, unipc, … [the pipeline's].", show_default=False
    ),
]
CallSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other argument of the pipeline; may be repeated."),
]
PictureMethod = Annotated[
    str | None,
    sampling_flag(
        f"{', '.join(METHODS)}, or {OWN} [lanpaint; for a model with a time for each pixel {TIME_MAPS.name}]."
    ),
]
MethodName = Annotated[str, typer.Option(help=f"{', '.join(METHODS)}, or {OWN}.", rich_help_panel=SAMPLING)]
Steps = Annotated[int, typer.Option(max=MOST_STEPS, help="Outer steps S.", rich_help_panel=SAMPLING)]
Levels = Annotated[
    str | None, sampling_flag(f"Spacing of the noise levels: {', '.join(SPACINGS)} [paper; fast: focused].")
]
DynamicsName = Annotated[
    str | None,
    sampling_flag(
        f"Dynamics of the inner steps: {', '.join(DYNAMICS)} (ou is fld at infinite friction), or {OWN} [the method's]."
    ),
]
SolverName = Annotated[
    str | None,
    sampling_flag(f"Solver of the outer steps: {', '.join(SOLVERS)}, or {OWN} [euler; a pipeline's scheduler]."),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="Any other option of the dynamics, or of your own method; may be repeated.",
        rich_help_panel=SAMPLING,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, … [the GPU if there is one].", show_default=False)]
Dtype = Annotated[str, typer.Option(help="Data type of the network: float32, float16 (fp16) or bfloat16 (bf16).")]
Offload = Annotated[bool, typer.Option("--offload", help="Keep on the GPU only what is in use.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


@contextmanager
def progress_bar(parts: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A function of finished and all parts, such as windows, which moves a bar. The first call shows the bar."""
    from tqdm.auto import tqdm

    bar: Any = None

    def told(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=parts, total=total, disable=quiet or sys.stderr is None)
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield told
    finally:
        if bar is not None:
            bar.close()


def quiet_libraries() -> None:
    """Silence the notices that diffusers and its dependencies print."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    for library in ("diffusers", "huggingface_hub", "transformers"):
        warnings.filterwarnings("ignore", module=library)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a line for each try to reach it


def find_device(name: str | None) -> torch.device:
    """The named device, or the GPU if there is one.

    Raises:
        ValueError: When the device is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of the device meta, no value can be read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available here; give cpu, or leave --device out") from error
    return device


def find_dtype(name: str) -> torch.dtype:
    """The named floating-point type.

    Raises:
        ValueError: For an unknown name.
    """
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


class GroupedCommand(TyperCommand):
    """A command whose help shows its flags in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record is not None:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def with_method_flags(command: Command) -> Command:
    """A command with an added flag for every option of the methods.

    The values of these flags reach the command as texts, in ``**flags``. Flags that the command has already stay as
    they are.
    """
    signature = inspect.signature(command, eval_str=True)
    existing = [parameter for parameter in signature.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    flags = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, _flag(name, methods)])
        for name, methods in all_options().items()
        if name not in signature.parameters
    ]
    command.__signature__ = signature.replace(parameters=[*existing, *flags])  # type: ignore[attr-defined]
    return command


def _flag(name: str, methods: dict[str, Option]) -> Any:
    """The flag of an option, with the help text of the first method that has the option."""
    first = next(iter(methods.values()))
    help_text = f"{short(first.help)} [{had_by(name)}]."
    return typer.Option(help=help_text, metavar=first.metavar, show_default=False, rich_help_panel=OF_METHODS)


def had_by(name: str) -> str:
    """The methods that have an option, and their defaults, in words: ``lanpaint, repaint: 5; copaint: 2``."""
    defaults: dict[str, list[str]] = {}
    for method, option in all_options()[name].items():
        value = "" if option.default is None else f": {option.default}".lower().removesuffix(".0")
        defaults.setdefault(value, []).append(method)
    return "; ".join(f"{', '.join(names)}{value}" for value, names in defaults.items())


InnerSteps = Annotated[str | None, sampling_flag(f"Inner steps N at each level [{had_by('inner_steps')}].")]


def given_texts(flags: dict[str, str | None], pairs: Sequence[str] | None) -> dict[str, str]:
    """Name → text, for the options that the user gave as flags or as ``--option NAME=VALUE``.

    Raises:
        ValueError: For an option that is given in both ways.
    """
    texts = {name: text for name, text in flags.items() if text is not None}
    further = split_pairs(pairs or (), "--option", "strength=0.3")
    for name in further:
        if name in texts:
            raise ValueError(f"{name} is given by --{name.replace('_', '-')} and by --option; give it once")
    return texts | further
