"""Train a toy model, or print the denoising loss of a trained one.

    python -m toy_models.train digits                          # train; writes runs/digits/pipeline
    python -m toy_models.train digits --evaluate               # losses of the shipped weights
    python -m toy_models.train digits --evaluate FOLDER        # losses of other weights

The first command, given again after an interruption, goes on from the last checkpoint and ends with the weights that
an uninterrupted run has (on the same machine, with the same number of threads).
"""

from __future__ import annotations

import argparse
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor

from toy_models import digits

Split = Literal["train", "test"]


class UserError(Exception):
    """A mistake of the user's, told in one line."""


@dataclass(frozen=True)
class Settings:
    """What decides the weights of a run, together with the code and the number of threads.

    Attributes:
        model: A name in `RECIPES`.
        steps: Optimizer steps.
        batch_size: Images in a step.
        learning_rate: Its peak.
        dropout: Probability within the network's residual blocks.
        validation_images: Training images that are kept out of training to log the loss on them.
        seed: Names the initial weights and everything random in the run.
    """

    model: str
    steps: int
    batch_size: int
    learning_rate: float
    dropout: float
    validation_images: int
    seed: int


@dataclass(frozen=True)
class Recipe:
    """One toy model: its data, its network and its default settings.

    Attributes:
        load: Returns the images ``(N, C, H, W)`` of a split, ``"train"`` or ``"test"``, and their labels ``(N,)``.
        unet: Arguments of `diffusers.UNet2DModel`.
        defaults: Settings that the command line may override.
        shipped: Folder of the shipped weights.
    """

    load: Callable[[Split], tuple[Tensor, Tensor]]
    unet: dict[str, Any]
    defaults: Settings
    shipped: Path


RECIPES = {
    "digits": Recipe(
        load=digits.load_digits,
        unet={
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 1,
            "layers_per_block": 1,
            "block_out_channels": (32, 48),  # resolutions 8 and 4; attention between, at 4
            "down_block_types": ("DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D"),
            "norm_num_groups": 8,
            "attention_head_dim": 16,
            "resnet_time_scale_shift": "scale_shift",
        },
        # Chosen on 180 validation images; the model card tells what was compared.
        defaults=Settings(
            model="digits",
            steps=3000,
            batch_size=128,
            learning_rate=4e-3,
            dropout=0.0,
            validation_images=0,
            seed=0,
        ),
        shipped=digits.FOLDER,
    ),
}

# The noise schedule of DDPM (Ho et al., 2020, section 4). The images' range is exact, so no step needs clipping.
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "clip_sample": False,
}

WARMUP_STEPS = 100
WEIGHT_DECAY = 0.01  # AdamW's own default
AVERAGE_DECAY = 0.999  # averages the last thousand of 3,000 steps
CHECKPOINT_EVERY = 250  # steps; under a minute on one core


def train(
    settings: Settings,
    out: Path,
    *,
    device: str = "cpu",
    checkpoint_every: int = CHECKPOINT_EVERY,
    stop_after: int | None = None,
    progress: bool = False,
) -> Path:
    """Train a model, going on from ``out/checkpoints/last.ckpt`` if that exists, and write it to ``out/pipeline``.

    Losses are logged to ``out/log/version_*/metrics.csv``, one version for each time that the run went on.

    Args:
        settings: What to train. A run that goes on must have the settings that it began with.
        out: Folder of the run.
        device: ``"cpu"`` or ``"cuda"``.
        checkpoint_every: Steps between checkpoints, and between validations.
        stop_after: Leave after this step without a pipeline. What lies after the last checkpoint is lost, as in a kill.
        progress: Whether to show a progress bar.

    Returns:
        ``out/pipeline``, in the folder layout of `diffusers.DDPMPipeline`; missing if the run left early.

    Raises:
        UserError: If `out` cannot be written, or holds a run with other settings or an unreadable checkpoint.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from toy_models.denoising import Denoising, MovingAverage

    recipe = RECIPES[settings.model]
    images, _ = recipe.load("train")
    if not 0 <= settings.validation_images < len(images):
        raise UserError(f"{settings.validation_images} validation images, expected 0 to {len(images) - 1}")
    _begin_or_match(settings, out)
    checkpoint = _read_checkpoint(out / "checkpoints" / "last.ckpt")

    torch.manual_seed(settings.seed)
    module = Denoising(
        UNet2DModel(**recipe.unet, dropout=settings.dropout),
        DDPMScheduler(**SCHEDULER),
        images[settings.validation_images :],
        images[: settings.validation_images],  # `load` shuffles, so the first are as good as any
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=min(WARMUP_STEPS, settings.steps // 2),
        weight_decay=WEIGHT_DECAY,
        seed=settings.seed,
    )
    if checkpoint is not None and checkpoint["global_step"] >= settings.steps:
        module.load_state_dict(checkpoint["state_dict"])  # where Lightning puts the averaged weights
    else:
        with _quiet_lightning():
            trainer = Trainer(
                accelerator="gpu" if device == "cuda" else "cpu",
                devices=1,
                max_epochs=-1,
                max_steps=settings.steps if stop_after is None else stop_after,
                gradient_clip_val=1.0,
                callbacks=[
                    MovingAverage(AVERAGE_DECAY),
                    ModelCheckpoint(
                        out / "checkpoints", save_last=True, save_top_k=0, every_n_train_steps=checkpoint_every
                    ),
                ],
                logger=CSVLogger(out, name="log"),
                log_every_n_steps=min(50, settings.steps),
                val_check_interval=min(checkpoint_every, settings.steps),
                limit_val_batches=1 if settings.validation_images else 0,
                num_sanity_val_steps=0,
                enable_progress_bar=progress,
                enable_model_summary=False,
            )
            trainer.fit(module, ckpt_path=None if checkpoint is None else out / "checkpoints" / "last.ckpt")
        if trainer.global_step < settings.steps:
            return out / "pipeline"
    pipeline = DDPMPipeline(module.unet.cpu().eval(), module.scheduler)  # type: ignore[arg-type]  # of a stub in diffusers
    pipeline.save_pretrained(out / "pipeline")
    return out / "pipeline"


def evaluate(model: str, folder: Path, *, draws: int = 50) -> dict[str, tuple[float, float]]:
    """Return the denoising loss of a model's weights on its training and on its held-out images.

    Args:
        model: A name in `RECIPES`, which decides the images.
        folder: The weights, in the folder layout of `diffusers.DDPMPipeline`.
        draws: Timesteps, and as many noises, for each image.

    Returns:
        For ``"train"`` and ``"test"``, the loss and its standard error.

    Raises:
        UserError: If `folder` holds no such weights.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    from toy_models.evaluation import denoising_loss

    missing = [
        part for part in ("unet/config.json", "scheduler/scheduler_config.json") if not (folder / part).is_file()
    ]
    if missing:
        raise UserError(f"{folder} is not the folder of a trained model: it has no {missing[0]}")
    try:
        unet = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True, low_cpu_mem_usage=False).eval()
        scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot load {folder}: {_first_line(error)}") from error
    splits: tuple[Split, ...] = ("train", "test")
    return {split: denoising_loss(unet, scheduler, RECIPES[model].load(split)[0], draws=draws) for split in splits}


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
    parser = _Parser(prog="python -m toy_models.train", description="Train a toy model, or print its denoising loss.")
    models = parser.add_subparsers(dest="model", metavar="MODEL", required=True, help=f"one of: {', '.join(RECIPES)}")
    for name, recipe in RECIPES.items():
        model = models.add_parser(name, help=f"the model of toy_models/{name}.py")
        model.add_argument("--out", type=Path, default=Path("runs") / name, help="folder of the run (%(default)s)")
        model.add_argument(
            "--evaluate",
            type=Path,
            nargs="?",
            const=recipe.shipped,
            metavar="FOLDER",
            help="do not train, print the losses of these weights (without FOLDER: of the shipped ones)",
        )
        model.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (%(default)s)")
        model.add_argument("--threads", type=_whole(1), help="CPU threads (PyTorch's choice)")
        positive = _real("a number above 0", lambda value: value > 0)
        share = _real("a number in [0, 1)", lambda value: 0 <= value < 1)
        for setting, read, meaning in (
            ("steps", _whole(1), "optimizer steps"),
            ("batch_size", _whole(1), "images in a step"),
            ("learning_rate", positive, "peak of the learning rate"),
            ("dropout", share, "probability within the residual blocks"),
            ("validation_images", _whole(0), "training images kept out of training, to log the loss on them"),
            ("seed", _whole(0), "names the run"),
        ):
            model.add_argument(
                "--" + setting.replace("_", "-"),
                type=read,
                default=getattr(recipe.defaults, setting),
                help=f"{meaning} (%(default)s)",
            )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.evaluate is not None:
        for split, (loss, standard_error) in evaluate(arguments.model, arguments.evaluate).items():
            print(f"{split:5} loss {loss:.4f} +- {standard_error:.4f}")
        return
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but PyTorch finds no CUDA device here")
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in fields(Settings)})
    began = time.monotonic()
    pipeline = train(settings, arguments.out, device=arguments.device, progress=sys.stderr.isatty())
    print(f"wrote {pipeline} after {time.monotonic() - began:.0f} s")


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
        parser.error(f'this needs {error.name}: pip install "lanpaint[train]"')


if __name__ == "__main__":
    main()
