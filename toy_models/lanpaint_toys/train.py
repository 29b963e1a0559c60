"""Train a toy model, export its weights, or print the losses of weights.

    python -m lanpaint_toys.train digits                                     # train; writes runs/digits/pipeline
    python -m lanpaint_toys.train digits --evaluate                          # losses of the shipped weights
    python -m lanpaint_toys.train digits --evaluate FOLDER                   # losses of other weights
    python -m lanpaint_toys.train emoji-pixel --data FOLDER_OR_ZIP           # train on pictures until stopped
    python -m lanpaint_toys.train emoji-pixel --export                       # the last checkpoint, as a pipeline
    python -m lanpaint_toys.train emoji-pixel --evaluate --data FOLDER_OR_ZIP

If training was interrupted, the same command resumes it from the last checkpoint. The run then ends with the weights of
an uninterrupted run (on the same machine, with the same number of threads and devices). `--export` only reads the
checkpoint, so it may be used while a run is training.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import math
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from lanpaint_toys.recipes import (
    DIGITS_SCHEDULER,
    RECIPES,
    AsyncRecipe,
    DenoiserRecipe,
    Recipe,
    Settings,
    UserError,
    fingerprint,
    make_autoencoder,
)
from lanpaint_toys.times import TIMES, WEIGHTINGS
from lanpaint_toys.trained import evaluate, load_autoencoder, load_trained, memorisation

SCHEDULER = DIGITS_SCHEDULER
"""The noise schedule of the shipped digits model."""

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Hardware:
    """The devices and the precision of a run, with the names and values of `lightning.Trainer`.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        devices: Number of devices. Each device draws a different batch.
        strategy: ``"auto"``, ``"ddp"`` and so on.
        precision: One of `PRECISIONS`. ``"auto"`` is bfloat16 on a GPU that has it, else float32.
    """

    device: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "auto"

    def trainer_arguments(self) -> dict[str, Any]:
        """Return the arguments for `lightning.Trainer`."""
        precision = self.precision
        if precision == "auto":
            precision = "bf16-mixed" if self.device == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
        return {
            "accelerator": "gpu" if self.device == "cuda" else "cpu",
            "devices": self.devices,
            "strategy": self.strategy,
            "precision": precision,
        }


@dataclass(frozen=True)
class Sources:
    """Files and folders that a run reads. Its settings record their content and not their paths, so they may move.

    Attributes:
        data: Folder or zip of images, for a model whose data do not come with a package.
        init: Weights to begin with: the folder of a pipeline, or of a run, with the same network.
        autoencoder: Folder of the autoencoder, for a model of latents. `init` and `autoencoder` are read only until the
            run has a checkpoint, which holds these weights.
    """

    data: Path | None = None
    init: Path | None = None
    autoencoder: Path | None = None


def train(
    settings: Settings,
    out: Path,
    *,
    sources: Sources | None = None,
    hardware: Hardware | None = None,
    checkpoint_every: int | None = None,
    stop_after: int | None = None,
    max_minutes: float | None = None,
    progress: bool = False,
) -> Path:
    """Train a model and write it to ``out/pipeline``. If ``out/checkpoints/last.ckpt`` exists, the run resumes from it.

    Losses are logged to ``out/log/version_*/metrics.csv``, with a new version each time the run resumes. If TensorBoard
    is installed, they are also logged to ``out/tensorboard``. At each validation, a model that trains on images from a
    folder or zip writes a grid of samples (an autoencoder: of reconstructions) to ``out/samples``.

    Args:
        settings: Settings of the run. A run that resumes must have the settings that it began with. The fingerprints of
            `sources` are filled in here.
        out: Folder of the run.
        sources: Files and folders to read.
        hardware: Devices and precision; by default one CPU.
        checkpoint_every: Steps between checkpoints and between validations; by default those of the recipe.
        stop_after: Stop after this step, without writing a pipeline. Steps after the last checkpoint are lost, as if
            the run had been killed.
        max_minutes: Stop so many minutes after the start or the resumption of the run, with a checkpoint and a
            pipeline.
        progress: Whether to show a progress bar.

    Returns:
        ``out/pipeline``, in the folder layout of diffusers. The folder does not exist if `stop_after` ended the run.

    Raises:
        UserError: If a source cannot be read, or `out` cannot be written, or holds a run with other settings or an
            unreadable checkpoint.
    """
    from lightning import Trainer

    sources = sources or Sources()
    recipe = RECIPES[settings.model]
    images = recipe.make_data(settings, sources.data)
    path = out / "checkpoints" / "last.ckpt"
    checkpoint = _read_checkpoint(path)
    if recipe.size is not None:
        settings = replace(settings, data=fingerprint(images.training.images))
    weights: dict[str, dict[str, Tensor]] = {}
    names: dict[str, Any]
    if checkpoint is None:
        weights = _first_weights(recipe, sources)
        names = {name: fingerprint(*part.values()) for name, part in weights.items()}
    else:
        begun = _begun(out) or {}
        names = {name: begun.get(name) for name in ("init", "autoencoder")}
    settings = replace(settings, **names)
    _begin_or_match(settings, out)

    module = recipe.make_module(settings)
    for part in weights.values():
        module.load_state_dict(part, strict=False)  # not strict, because each has only a part of the module's weights
    if checkpoint is not None and settings.steps is not None and checkpoint["global_step"] >= settings.steps:
        module.load_state_dict(checkpoint["state_dict"])  # where Lightning puts the averaged weights
    else:
        every_steps = checkpoint_every or recipe.checkpoint_steps
        last_step = settings.steps if stop_after is None else stop_after
        with _quiet_lightning():
            trainer = Trainer(
                **(hardware or Hardware()).trainer_arguments(),
                max_epochs=-1,
                max_steps=-1 if last_step is None else last_step,
                gradient_clip_val=1.0,
                callbacks=_callbacks(recipe, out, every_steps, settings.steps, max_minutes),
                logger=_loggers(out),
                log_every_n_steps=min(50, images.epoch_steps),
                val_check_interval=min(every_steps or images.epoch_steps, images.epoch_steps),
                limit_val_batches=1 if settings.validation_images else 0,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,  # the loader only counts steps, see ImageData
                enable_checkpointing=False,  # the callback Checkpoints writes them
                enable_progress_bar=progress,
                enable_model_summary=False,
            )
            trainer.fit(module, images, ckpt_path=None if checkpoint is None else path)
        left_early = stop_after is not None and (settings.steps is None or trainer.global_step < settings.steps)
        if left_early or not trainer.is_global_zero:
            return out / "pipeline"
    recipe.save(module, out / "pipeline")
    return out / "pipeline"


def _callbacks(
    recipe: Recipe, out: Path, every_steps: int | None, last_step: int | None, max_minutes: float | None
) -> list[Any]:
    """Return the callbacks. The moving average comes first, so that a checkpoint holds the average of its step."""
    from lanpaint_toys.denoising import Checkpoints, MovingAverage, Pictures

    checkpoints = Checkpoints(
        out / "checkpoints" / "last.ckpt",
        every_steps=every_steps,
        every_minutes=None if every_steps else recipe.checkpoint_minutes,
        last_step=last_step,
        max_minutes=max_minutes,
    )
    pictures = [] if recipe.size is None else [Pictures(out / "samples")]
    return [MovingAverage(recipe.average_decay), checkpoints, *pictures]


def export(model: str, run: Path, folder: Path) -> int:
    """Write the averaged weights of a run's last checkpoint in the folder layout of diffusers, also during the run.

    Args:
        model: A name in `RECIPES`.
        run: Folder of the run.
        folder: Folder to write to.

    Returns:
        The number of steps that the weights were trained for.

    Raises:
        UserError: If there is no such run, or the folder cannot be written.
    """
    recipe = RECIPES[model]
    begun, checkpoint = _begun(run), _read_checkpoint(run / "checkpoints" / "last.ckpt")
    if begun is None or checkpoint is None:
        raise UserError(f"{run} holds no checkpoint to export: train first, or give the run's folder as --out")
    if begun.get("model") != model:
        raise UserError(f"{run} holds a run of {begun.get('model')}, not {model}")
    module = recipe.make_module(Settings(**begun))
    module.load_state_dict(checkpoint["state_dict"])
    try:
        recipe.save(module, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {_first_line(error)}") from error
    return checkpoint["global_step"]


def _first_weights(recipe: Recipe, sources: Sources) -> dict[str, dict[str, Tensor]]:
    """Return the given weights that a new run begins with. The keys are ``"init"`` and ``"autoencoder"``, if given."""
    weights = {}
    if isinstance(recipe, DenoiserRecipe) and recipe.autoencoder is not None:
        if sources.autoencoder is None:
            raise UserError(
                "a model of latents needs its autoencoder: train emoji-autoencoder, give --autoencoder FOLDER"
            )
        autoencoder = load_autoencoder(sources.autoencoder)
        state = _prefixed("autoencoder", autoencoder.state_dict())
        wanted = make_autoencoder(recipe.autoencoder).state_dict()
        _match(_prefixed("autoencoder", wanted), state, sources.autoencoder)
        scale = torch.tensor(float(autoencoder.config["scaling_factor"]))
        weights["autoencoder"] = {**state, "latent_scale": scale}
    if sources.init is not None:
        if not isinstance(recipe, DenoiserRecipe):
            raise UserError("only a denoising network can begin with given weights: leave --init out")
        checkpoint = _read_checkpoint(sources.init / "checkpoints" / "last.ckpt")
        state = {} if checkpoint is None else checkpoint["state_dict"]
        if checkpoint is None:
            state = _prefixed("unet", load_trained(sources.init).unet.state_dict())
        weights["init"] = {name: value for name, value in state.items() if name.startswith("unet.")}
        _match(_prefixed("unet", recipe.make_unet().state_dict()), weights["init"], sources.init)
    return weights


def _prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def _match(wanted: dict[str, Tensor], given: dict[str, Tensor], folder: Path) -> None:
    """Raise UserError unless the weights in `given` have the names and shapes of those in `wanted`."""
    if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in given.items()}:
        raise UserError(f"the weights in {folder} do not fit this model's network: give weights of the same network")


def _loggers(out: Path) -> list[Any]:
    """Return the loggers of losses: a CSV file, and TensorBoard's files if TensorBoard is installed."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    loggers: list[Any] = [CSVLogger(out, name="log")]
    if any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")):
        loggers.append(TensorBoardLogger(out, name="tensorboard"))
    else:
        print("no TensorBoard files, only metrics.csv: for them, pip install tensorboard", file=sys.stderr)
    return loggers


def _begun(out: Path) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, or None where there is none."""
    record = out / "settings.json"
    try:
        return json.loads(record.read_text()) if record.exists() else None
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"cannot use the folder {out}: {_first_line(error)}") from error


def _begin_or_match(settings: Settings, out: Path) -> None:
    """Write the settings of a new run into its folder. If the folder holds a run, check that its settings are equal."""
    record = out / "settings.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            record.write_text(json.dumps(asdict(settings), indent=2) + "\n")
        if not os.access(out, os.W_OK):
            raise PermissionError("no permission to write")
        begun = json.loads(record.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"cannot use the folder {out}: {_first_line(error)}") from error
    for name, value in asdict(settings).items():
        if begun.get(name) != value:
            raise UserError(
                f"{out} holds a run with {name} {begun.get(name)}, not {value}: give that value, or another --out"
            )


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint's content, or None where no checkpoint exists."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        message = f"cannot read {path}; delete it to start anew ({_first_line(error)})"
        raise UserError(message) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's messages about itself, and its warnings that do not apply here."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # The loader only counts steps, so there is no order of the data that a run could resume wrongly.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
            warnings.filterwarnings("ignore", message=".*does not have many workers")
            # All devices validate on the same images, so there is nothing to gather.
            warnings.filterwarnings("ignore", message=".*sync_dist=True")
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _whole(minimum: int) -> Callable[[str], int]:
    """Return a function that parses a whole number of at least `minimum`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {minimum} on")
        return value

    return read


def _real(expected: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a function that parses a finite number for which `accepts` is true."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and accepts(value)):
            raise argparse.ArgumentTypeError(f"{text!r}, expected {expected}")
        return value

    return read


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m lanpaint_toys.train",
        description="Train a toy model, export its weights, or print their losses.",
    )
    models = parser.add_subparsers(dest="model", metavar="MODEL", required=True, help=f"one of: {', '.join(RECIPES)}")
    for name, recipe in RECIPES.items():
        _add_arguments(models.add_parser(name, help=recipe.summary, description=recipe.summary), name, recipe)
    return parser


def _add_arguments(model: argparse.ArgumentParser, name: str, recipe: Recipe) -> None:
    positive = _real("a number above 0", lambda value: value > 0)
    share = _real("a number in [0, 1)", lambda value: 0 <= value < 1)
    model.add_argument("--out", type=Path, default=Path("runs") / name, help="folder of the run (%(default)s)")
    if recipe.size is not None:
        model.add_argument("--data", type=Path, metavar="FOLDER_OR_ZIP", help="the pictures")
    model.add_argument(
        "--evaluate",
        type=Path,
        nargs="?",
        const=recipe.shipped,
        metavar="FOLDER",
        help="do not train, print the losses of these weights (without FOLDER: of the shipped weights)",
    )
    model.add_argument(
        "--export",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FOLDER",
        help="do not train, write the last checkpoint as a pipeline (without FOLDER: into the run's folder)",
    )
    if isinstance(recipe, DenoiserRecipe):
        model.add_argument("--init", type=Path, metavar="FOLDER", help="pipeline or run whose weights a new run takes")
        if recipe.autoencoder is not None:
            model.add_argument("--autoencoder", type=Path, metavar="FOLDER", help="pipeline of emoji-autoencoder")
    if isinstance(recipe, AsyncRecipe):
        times, weighting = recipe.defaults.times, recipe.defaults.weighting
        model.add_argument("--times", choices=TIMES, default=times, help="how maps of times are drawn (%(default)s)")
        model.add_argument(
            "--weighting", choices=WEIGHTINGS, default=weighting, help="of the loss of each pixel (%(default)s)"
        )
    model.add_argument("--max-minutes", type=positive, help="stop after this time, with a checkpoint and a pipeline")
    model.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (%(default)s)")
    model.add_argument("--devices", type=_whole(1), default=1, help="number of devices (%(default)s)")
    model.add_argument("--strategy", default="auto", help="strategy of Lightning's Trainer, such as ddp (%(default)s)")
    model.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: bfloat16 on a GPU that has it")
    model.add_argument("--threads", type=_whole(1), help="number of CPU threads (PyTorch's choice)")
    for setting, read, meaning in (
        ("steps", _whole(1), "optimizer steps, over which the learning rate falls; None: no end, and no fall"),
        ("batch_size", _whole(1), "images in a step on each device"),
        ("learning_rate", positive, "peak of the learning rate"),
        ("dropout", share, "probability within the residual blocks"),
        ("validation_images", _whole(0), "images not trained on, to log the loss on them"),
        ("seed", _whole(0), "seed of all random numbers"),
    ):
        model.add_argument(
            "--" + setting.replace("_", "-"),
            type=read,
            default=getattr(recipe.defaults, setting),
            help=f"{meaning} (%(default)s)",
        )


def _run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.model]
    if arguments.export is not None:
        folder = arguments.out / "pipeline" if arguments.export == Path() else arguments.export
        print(f"wrote {folder}, trained for {export(arguments.model, arguments.out, folder)} steps")
        return
    sources = Sources(**_given(Sources, arguments))
    if arguments.evaluate is not None:
        _print_worth(recipe, arguments.evaluate, sources.data)
        return
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but PyTorch finds no CUDA device here")
    began = time.monotonic()
    pipeline = train(
        Settings(**_given(Settings, arguments, besides=Sources)),
        arguments.out,
        sources=sources,
        hardware=Hardware(**_given(Hardware, arguments)),
        max_minutes=arguments.max_minutes,
        progress=sys.stderr.isatty(),
    )
    print(f"wrote {pipeline} after {time.monotonic() - began:.0f} s")


def _given(record: Any, arguments: argparse.Namespace, besides: Any = None) -> dict[str, Any]:
    """Return the command line's values for the fields of the dataclass `record` that are not fields of `besides`."""
    excluded = {field.name for field in fields(besides)} if besides else set()
    names = [field.name for field in fields(record) if field.name not in excluded]
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


def _print_worth(recipe: Recipe, folder: Path, data: Path | None) -> None:
    """Print the losses of weights and, for a model of pictures, how near its samples are to its training data."""
    draws = 50 if recipe.size is None else 8
    for split, (loss, standard_error) in evaluate(recipe, folder, data=data, draws=draws).items():
        print(f"{split:5} loss {loss:.4f} +- {standard_error:.4f}")
    if recipe.size is not None and isinstance(recipe, DenoiserRecipe):
        distances = memorisation(recipe, folder, data=data)
        print(
            f"distance to the nearest training image: samples {distances['samples']:.3f} (median), "
            f"{distances['nearest']:.3f} (least); held-out images {distances['held-out']:.3f} (median)"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. A mistake of the user prints one line and gives exit status 2.

    Args:
        argv: Arguments; by default the arguments of the process.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        _run(arguments)
    except UserError as error:
        parser.error(str(error))
    except ModuleNotFoundError as error:
        if error.name not in ("diffusers", "lightning", "sklearn"):
            raise
        parser.error(f"this needs {error.name}: pip install lightning")


if __name__ == "__main__":
    main()
