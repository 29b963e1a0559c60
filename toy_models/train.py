"""Train a toy model, export its weights, or print what they are worth.

    python -m toy_models.train digits                                     # train; writes runs/digits/pipeline
    python -m toy_models.train digits --evaluate                          # losses of the shipped weights
    python -m toy_models.train digits --evaluate FOLDER                   # losses of other weights
    python -m toy_models.train emoji-pixel --data FOLDER_OR_ZIP           # train on pictures until stopped
    python -m toy_models.train emoji-pixel --export                       # the last checkpoint, as a pipeline
    python -m toy_models.train emoji-pixel --evaluate --data FOLDER_OR_ZIP

Training, given again after an interruption, goes on from the last checkpoint and ends with the weights that an
uninterrupted run has (on the same machine, with the same number of threads and devices). `--export` only reads the
checkpoint, so it may be given while a run goes on.
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

from toy_models.recipes import (
    DIGITS_SCHEDULER,
    RECIPES,
    DenoiserRecipe,
    Recipe,
    Settings,
    UserError,
    fingerprint,
    make_autoencoder,
)
from toy_models.trained import evaluate, load_autoencoder, load_trained, memorisation

SCHEDULER = DIGITS_SCHEDULER
"""The noise schedule of the shipped digits model."""

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Hardware:
    """On what a run runs; the names and values are those of `lightning.Trainer`.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        devices: How many; each draws its own batch.
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
    """Files and folders that a run reads; what they hold is named in its settings, so they may move.

    Attributes:
        data: Folder or zip of images, for the models that have no data of their own.
        init: Weights to begin with: the folder of a pipeline or of a run with the same network.
        autoencoder: For a model of latents, the autoencoder's folder. Like `init` it is read only until there is a
            checkpoint, which holds it too.
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
    """Train a model, going on from ``out/checkpoints/last.ckpt`` if that exists, and write it to ``out/pipeline``.

    Losses are logged to ``out/log/version_*/metrics.csv``, one version for each time that the run went on, and to
    TensorBoard's files in ``out/tensorboard`` if that is installed. Models of images write a grid of samples (an
    autoencoder: of reconstructions) to ``out/samples`` with each validation.

    Args:
        settings: What to train. A run that goes on must have the settings that it began with. What names the content of
            `sources` is filled in here.
        out: Folder of the run.
        sources: What to read.
        hardware: Where to train; one CPU by default.
        checkpoint_every: Steps between checkpoints and between validations; by default what the recipe says.
        stop_after: Leave after this step without a pipeline. What lies after the last checkpoint is lost, as in a kill.
        max_minutes: Stop after this time, counted anew when a run goes on, with a checkpoint and a pipeline.
        progress: Whether to show a progress bar.

    Returns:
        ``out/pipeline``, in the folder layout of diffusers; missing if the run left early.

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
        module.load_state_dict(part, strict=False)  # each is one part of the module's weights
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
                use_distributed_sampler=False,  # the loader only counts
                enable_checkpointing=False,  # one of the callbacks does it
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
    """Return what goes on beside the steps; the average first, so that a checkpoint holds that of its own step."""
    from toy_models.denoising import Checkpoints, MovingAverage, Pictures

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
    """Write the averaged weights of a run's last checkpoint in the folder layout of diffusers. The run may still go on.

    Args:
        model: A name in `RECIPES`.
        run: Folder of the run.
        folder: Where to write.

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
    """Return the weights that a new run begins with, under the names of `Sources`, as far as there are any."""
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
            raise UserError("only a denoising network can begin with other weights")
        checkpoint = _read_checkpoint(sources.init / "checkpoints" / "last.ckpt")
        given = {} if checkpoint is None else checkpoint["state_dict"]
        if checkpoint is None:
            given = _prefixed("unet", load_trained(sources.init).unet.state_dict())
        weights["init"] = {name: value for name, value in given.items() if name.startswith("unet.")}
        _match(_prefixed("unet", recipe.make_unet().state_dict()), weights["init"], sources.init)
    return weights


def _prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def _match(wanted: dict[str, Tensor], given: dict[str, Tensor], folder: Path) -> None:
    """Make sure that weights are those of a network."""
    if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in given.items()}:
        raise UserError(f"the weights in {folder} are of another network than this model's")


def _loggers(out: Path) -> list[Any]:
    """Return where losses are logged: a table always, TensorBoard's files where a writer of them is installed."""
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
    """Write the settings of a new run into its folder, or make sure that they are those of the run in it."""
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
    """Silence what Lightning tells about itself, and its warnings that do not hold here."""
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
    """Return a reader of whole numbers from `minimum` on."""

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
    """Return a reader of the numbers that `accepts` lets through; not-a-number never passes."""

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
        prog="python -m toy_models.train", description="Train a toy model, export its weights, or print their worth."
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
        help="do not train, print what these weights are worth (without FOLDER: the shipped ones)",
    )
    model.add_argument(
        "--export",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FOLDER",
        help="do not train, write the last checkpoint as a pipeline (without FOLDER: into the run's)",
    )
    if isinstance(recipe, DenoiserRecipe):
        model.add_argument("--init", type=Path, metavar="FOLDER", help="pipeline or run whose weights a new run takes")
        if recipe.autoencoder is not None:
            model.add_argument("--autoencoder", type=Path, metavar="FOLDER", help="pipeline of emoji-autoencoder")
    model.add_argument("--max-minutes", type=positive, help="stop after this time, with a checkpoint and a pipeline")
    model.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (%(default)s)")
    model.add_argument("--devices", type=_whole(1), default=1, help="how many of them (%(default)s)")
    model.add_argument("--strategy", default="auto", help="of Lightning's Trainer, ddp for example (%(default)s)")
    model.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: bfloat16 on a GPU that has it")
    model.add_argument("--threads", type=_whole(1), help="CPU threads (PyTorch's choice)")
    for setting, read, meaning in (
        ("steps", _whole(1), "optimizer steps, over which the learning rate falls; None: no end, and no fall"),
        ("batch_size", _whole(1), "images in a step on each device"),
        ("learning_rate", positive, "peak of the learning rate"),
        ("dropout", share, "probability within the residual blocks"),
        ("validation_images", _whole(0), "images not trained on, to log the loss on them"),
        ("seed", _whole(0), "names the run"),
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
    """Return what the command line gives for the fields of a dataclass, without those of another."""
    other = {field.name for field in fields(besides)} if besides else set()
    names = [field.name for field in fields(record) if field.name not in other]
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
    """Run the command line; a mistake of the user's ends it with one line and exit status 2.

    Args:
        argv: Arguments, by default those of the process.
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
