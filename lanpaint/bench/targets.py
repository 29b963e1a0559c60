"""Targets, on which methods are compared: analytic problems, and trained models with held-out images under a mask.

A target draws complete samples, the truth. A method gets the known part of each and samples the unknown part. The truth
is itself an exact sample given its known part. So if the method is exact, the truth and the method's sample may be
exchanged in every pair. All two-sample metrics use this (:mod:`lanpaint.metrics.distances`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.adapters.series import SeriesModel
from lanpaint.checks import shown
from lanpaint.degradations import OPERATORS
from lanpaint.images import read_mask
from lanpaint.linear import LinearOperator
from lanpaint.masks import MASKS
from lanpaint.metrics import (
    bend_ratio,
    calibration,
    diversity_ratio,
    energy_distance,
    image_figures,
    join_ratio,
    mmd,
    perceptual_figures,
    rank_shares,
    seam_shift,
    sliced_wasserstein,
)
from lanpaint.names import SEQUENCES, model_folder
from lanpaint.observation import Observation
from lanpaint.own import is_own, make_own
from lanpaint.painting.entries import MANIFESTS
from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts
from lanpaint.randomness import Generators, seeded
from lanpaint.score import Score
from lanpaint.series import mark_missing
from lanpaint_toys import features
from lanpaint_toys.calibration import conditional_ranks, exact_calibration, rank_histogram
from lanpaint_toys.gaussian import Gaussian
from lanpaint_toys.problems import PROBLEMS, Problem, gaussian_kl, histogram_kl, mode_coverage, stray

NOTHING, SOFT = "nothing-known", "soft-half"
"""The mask under which nothing is known, so that a method generates; and a soft mask: known on the left, free on the
right, and between the quarters of the width ever freer."""

Figures = dict[str, float]
Notice = Callable[[str], None]

LARGER_IS_BETTER = {
    "psnr",
    "psnr_whole",
    "psnr_mean",
    "ssim",
    "ssim_whole",
    "ms_ssim",
    "coverage",
    "mmd_p",
    "energy_p",
    "kernel_p",
    *("fsim", "fsim_pasted", "ssim_pasted", "ssim_whole_pasted", "psnr_whole_pasted", "ms_ssim_pasted"),
}


class Target(ABC):
    """A model, a mask, and metrics of how far a method's samples are from the truth.

    Attributes:
        name: Name of the target, as :func:`make_target` takes it.
        score: The model.
        known: Boolean, True where known, broadcastable to the samples.
        samples: Number of samples that a run draws by default.
        most: Largest number of samples that can be drawn.
        batch: Number of samples that are sampled at once.
        merits: Names of the metrics that methods are compared by, the most important first.
    """

    name: str
    score: Score
    known: Tensor
    samples: int
    most: float = math.inf
    batch: float = math.inf
    merits: tuple[str, ...]

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The truth: ``count`` complete samples (count, …)."""

    @abstractmethod
    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """The generator, or one generator per sample, for a method's samples ``first`` to ``first + count − 1``.

        ``generator`` is the generator that has drawn the truth.
        """

    def attend(self, places: Sequence[int]) -> None:  # noqa: B027 - most targets are alike for every truth
        """Called before a batch is sampled, with the place of each row's truth among what :meth:`draw` returns."""

    def observation(self, truth: Tensor) -> Observation:
        """What a method is given of the truth (B, …), on the device of the truth."""
        return Observation(truth, self.known.to(truth.device))

    @abstractmethod
    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """Name → metric, for samples x of a method given the known part of ``truth``, both (B, …).

        ``notice`` is called with a line of text about metrics that cannot be computed. ``fills`` samples in a row
        belong to one truth. With more than one, distances of sets are those of the first of each.
        """

    def ranks(self, x: Tensor, truth: Tensor, fills: int = 1) -> Tensor:
        """A histogram of ranks, which is flat if samples x are calibrated; empty if ``fills`` is 1.

        It is how often the truth has each rank from 0 to K among its K fills: (K + 1,).
        """
        return rank_shares(x, truth, self.known, fills) if fills > 1 else torch.zeros(0)

    @abstractmethod
    def floors(self, truth: Tensor, seed: int, fills: int = 1) -> Figures:
        """Name → metric, for exact samples given the known part of ``truth``; empty if there are no exact samples."""


class AnalyticTarget(Target):
    """A problem with exact conditional samples.

    Args:
        name: Name of the target in results.
        problem: The problem.
    """

    def __init__(self, name: str, problem: Problem) -> None:
        self.name, self.problem = name, problem
        self.score, self.known, self.samples = problem.target, problem.known, problem.samples
        self.merits = ("kl",)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Exact samples (count, d) in float64."""
        return self.problem.draw(count, generator)

    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """The generator that has drawn the truth; the method continues its random numbers."""
        return generator

    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """Divergences, distances and calibration, and for mixtures what becomes of the modes."""
        mixture = self.problem.target
        figures = {"kl": self.problem.divergence(x)}
        joint = self.problem.observed is None  # then exact samples follow the joint distribution
        if joint and isinstance(mixture, Gaussian):
            figures["gaussian_kl"] = gaussian_kl(x, mixture)
        if joint and mixture.isotropic and mixture.dim == 2:
            figures["histogram_kl"] = histogram_kl(x, mixture)
        figures |= _distances(x[::fills], truth[::fills])
        figures |= calibration(x, truth, self.known, fills)
        figures |= exact_calibration(x, truth, self.known, mixture, fills)
        if bool((mixture.means != mixture.means[0]).any()):  # the modes of a scale mixture are one
            figures["stray"] = float(stray(x, mixture).double().mean())
            if joint:
                figures["coverage"] = mode_coverage(x, mixture)
        return figures

    def ranks(self, x: Tensor, truth: Tensor, fills: int = 1) -> Tensor:
        """How often F(x_i | y) of samples x is in each of 20 equal parts of [0, 1]: (20,)."""
        return rank_histogram(conditional_ranks(x, self.known, self.problem.target))

    def floors(self, truth: Tensor, seed: int, fills: int = 1) -> Figures:
        """The metrics of exact samples, drawn independently of ``truth`` given its known part."""
        generator = torch.Generator().manual_seed(seed + 2**31)  # only the last 32 bits of a seed count
        exact = self.problem.target.sample_conditional(truth, self.known, generator)
        return self.figures(exact, truth, lambda line: None, fills)


class ImageTarget(Target):
    """A pixel-space model and held-out images under a mask.

    Args:
        name: Name of the target in results.
        score: The model.
        images: Held-out images (N, C, H, W) in [−1, 1].
        known: Boolean (H, W), True where known.
        families: N names. Images with the same name are variants of one picture, and so not independent.
        change: How much each pixel may change, (H, W) from 0 (known) to 1, for a soft observation; None for a hard one.
    """

    def __init__(
        self,
        name: str,
        score: Score,
        images: Tensor,
        known: Tensor,
        families: Sequence[str] | None = None,
        change: Tensor | None = None,
    ) -> None:
        self.name, self.score, self.images, self.known, self.change = name, score, images, known, change
        self.families = list(range(len(images)) if families is None else families)
        self.most = len(images)
        self.samples = min(240, len(images))
        self.batch = max(1, 2**18 // images[0].numel())
        self.has_features = images.shape[1] == 3 and images.shape[-1] <= features.SIDE
        self.merits = ("psnr", "kernel" if self.has_features else "mmd")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The first ``count`` images."""
        return self.images[:count]

    def observation(self, truth: Tensor) -> Observation:
        """The known pixels, or how much each may change."""
        return super().observation(truth) if self.change is None else Observation.soft(truth, self.change.to(truth))

    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """One generator for each image."""
        return seeded(range(seed + first, seed + first + count))

    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """Means over the images with their standard errors, calibration, and distances between the two sets of images.

        For small colour images, ``kernel`` is the squared MMD in the features of :mod:`lanpaint_toys.features`.
        ``seam`` is the mean shift of colour in the pixels of the hole at its edge, of the whole range of values.
        """
        return self._figures(x, truth, self.known, notice, fills)

    def _figures(self, x: Tensor, truth: Tensor, known: Tensor, notice: Notice, fills: int) -> Figures:
        figures = self._picture_figures(x, truth, known, notice, fills)
        first = x[::fills], truth[::fills]
        if self.has_features:
            kernel = mmd(features.picture_features(first[0]), features.picture_features(first[1]))
            figures |= {"kernel": kernel.value, "kernel_error": kernel.error, "kernel_p": kernel.p_value}
        return figures | calibration(x, truth, known, fills) | _distances(first[0].clamp(-1, 1), first[1])

    def _picture_figures(
        self, x: Tensor, truth: Tensor, known: Tensor, notice: Notice, fills: int, with_fid: bool = True
    ) -> Figures:
        """Means of what each picture has, with their standard errors; and FID."""
        figures: Figures = {}
        families = [family for family in self.families[: len(x) // fills] for _ in range(fills)]
        values = image_figures(x, truth, known)
        if bool(known.any()):
            values["seam"] = seam_shift(x, truth, known)
        for name, value in values.items():
            figures[name] = float(value.mean())
            figures[f"{name}_error"] = standard_error(value, families)
        perceptual, told = perceptual_figures(x[::fills], truth[::fills], with_fid)
        if told is not None:
            notice(told)
        for name, value in perceptual.items():
            figures[name] = float(value.mean())
            if value.ndim:
                figures[f"{name}_error"] = standard_error(value, families[::fills])
        return figures

    def floors(self, truth: Tensor, seed: int, fills: int = 1) -> Figures:
        """Empty, because no exact samples are known."""
        return {}


class SeriesTarget(Target):
    """A model of sequences and held-out sequences, of which a part is missing.

    Metrics are in the model's numbers, in which quiet and violent movements count alike.

    Args:
        name: Name of the target in results.
        score: The model.
        series: Held-out sequences (N, C, T) in the model's numbers.
        known: Boolean (C, T), True where known.
        describe: A function of sequences (B, C, T) that returns features (B, F) of comparable sizes.
    """

    def __init__(
        self, name: str, score: SeriesModel, series: Tensor, known: Tensor, describe: Callable[[Tensor], Tensor]
    ) -> None:
        self.name, self.score, self.series, self.known, self.describe = name, score, series, known, describe
        self.units = score.units
        self.most = self.samples = len(series)
        self.batch = max(1, 2**17 // series[0].numel())
        self.merits = ("error", "kernel")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The first ``count`` sequences."""
        return self.series[:count]

    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """One generator for each sequence."""
        return seeded(range(seed + first, seed + first + count))

    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """Means over the sequences with their standard errors, calibration, and distances between the two sets.

        ``error`` is the root mean square over the missing entries; ``error_NAME`` that of a channel in its unit.
        ``join`` and ``diversity`` are 1 if right: :mod:`lanpaint.metrics.series`. ``kernel`` is the squared MMD in
        features.
        """
        figures: Figures = {}
        families = [row for row in range(len(x) // fills) for _ in range(fills)]
        missing = ~self.known
        off = (x - truth).square() * missing
        each = (off.flatten(1).sum(1) / missing.sum()).sqrt()
        figures |= {"error": float(each.mean()), "error_error": standard_error(each, families)}
        far = (self.units.restore(x) - self.units.restore(truth)).square()
        for row, name in enumerate(self.units.channels):
            if bool(missing[row].any()):
                figures[f"error_{name}"] = float(far[:, row, missing[row]].mean(1).sqrt().mean())
        for name, ratio in {"join": join_ratio, "bend": bend_ratio}.items():
            value, error = ratio(x, truth, self.known, fills)
            if math.isfinite(value):
                figures |= {name: value, f"{name}_error": error}
        described, true = self.describe(x), self.describe(truth)
        value, error = diversity_ratio(described, true, fills)
        figures |= {"diversity": value, "diversity_error": error}
        kernel = mmd(described[::fills], true[::fills])
        figures |= {"kernel": kernel.value, "kernel_error": kernel.error, "kernel_p": kernel.p_value}
        return figures | calibration(x, truth, self.known, fills) | _distances(x[::fills], truth[::fills])

    def floors(self, truth: Tensor, seed: int, fills: int = 1) -> Figures:
        """Empty, because no exact samples are known."""
        return {}


class OperatorTarget(ImageTarget):
    """A pixel-space model and held-out images behind a linear operator: inpainting in the operator's basis.

    Its truth and its samples are in the basis of the operator. Its metrics are those of whole pictures.

    Args:
        name: Name of the target in results.
        score: The model.
        images: Held-out images (N, C, H, W) in [−1, 1].
        operator: What is measured of them.
        families: As in :class:`ImageTarget`.
    """

    def __init__(
        self,
        name: str,
        score: Score,
        images: Tensor,
        operator: LinearOperator,
        families: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, operator.rotated(score), images, operator.known, families)
        self.operator = operator

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The first ``count`` images, in the operator's basis."""
        return self.operator.rotate(self.images[:count])

    def figures(self, x: Tensor, truth: Tensor, notice: Notice, fills: int = 1) -> Figures:
        """The metrics of whole pictures, so ``psnr`` is ``psnr_whole``; and how far A x is from A x of the truth."""
        nothing = torch.zeros(self.images.shape[-2:], dtype=torch.bool)
        x, truth = self.operator.unrotate(x), self.operator.unrotate(truth)
        apart = float((self.operator(x) - self.operator(truth)).abs().amax())
        return self._figures(x, truth, nothing, notice, fills) | {"residual": apart}


def standard_error(values: Tensor, families: Sequence[object]) -> float:
    """Standard error of the mean of values (n,) that are correlated within a family, independent between families.

    It is √(F/(F − 1) · Σ_f d_f²) / n, where F is the number of families and d_f the sum of the deviations from the mean
    in family f (Cameron and Miller, 2015, Eq. 11, without regressors). If each family has one value, it is std/√n.
    """
    number = {name: row for row, name in enumerate(dict.fromkeys(families))}
    rows = torch.tensor([number[name] for name in families])
    sums = torch.zeros(len(number), dtype=torch.float64).index_add_(0, rows, (values - values.mean()).double().cpu())
    few = len(number) / max(len(number) - 1, 1)
    return float((few * sums.square().sum()).sqrt()) / len(values)


def _distances(x: Tensor, truth: Tensor) -> Figures:
    kernel, energy = mmd(x, truth), energy_distance(x, truth)
    return {
        "mmd": kernel.value,
        "mmd_p": kernel.p_value,
        "energy": energy.value,
        "energy_p": energy.p_value,
        "sliced_wasserstein": sliced_wasserstein(x, truth),
    }


def make_target(
    name: str,
    images: str | None = None,
    device: str = "cpu",
    prompt: str | None = None,
    guidance_scale: float | None = None,
    dtype: str | None = None,
) -> Target:
    """The target of a name. It is kept, and so is one latent pipeline, the last one that was asked for.

    Args:
        name: One of these:

            - a problem of :data:`lanpaint_toys.problems.PROBLEMS`, also by its former name ``gauss2`` or ``star500``;
            - ``module:function``, your own function that returns a :class:`lanpaint_toys.Problem`;
            - ``MODEL:MASK``. The model is ``digits``, ``emoji-pixel``, ``emoji-flow``, ``emoji-latent``, or a folder or
              hub id in diffusers' layout. The mask is box, half, checkerboard, outpaint, soft-half, ``nothing-known``,
              or a file that is white where the image is painted. Of a latent model it masks the latent cells.
            - ``motion:PART`` with a part of the sequence that is missing: first-half, middle-half, last-half, steps
              A:B, or the name of a channel such as acc_x.
            - ``MODEL:OPERATOR`` with an operator of :data:`lanpaint.degradations.OPERATORS`, such as pool2.
        images: Folder or zip of images, for a model other than ``digits``. Emoji that a model of this project was
            trained on are left out. The first picture of each family comes first, then the variants.
        device: The device that a network is loaded to. Analytic problems need none.
        prompt: The prompt of all images, for a text-to-image pipeline; by default an empty one. Or a ``.csv`` or
            ``.jsonl`` with a row for each image: ``picture``, its name in the folder, and ``prompt``.
        guidance_scale: Weight of classifier-free guidance with that prompt; by default none.
        dtype: Data type of a latent pipeline: float32, float16 or bfloat16; by default float32.

    Raises:
        ValueError: For an unknown name, images that cannot be read, or a mask whose size is not that of the images.
    """
    if not isinstance(name, str):
        raise TypeError(f"a target must be a name, got {shown(name)}")
    name = {"gauss2": "gaussian", "star500": "star"}.get(name, name)
    of_pipelines = {"prompt": prompt, "guidance_scale": guidance_scale, "dtype": dtype}
    if takes_images(name):
        model, _, mask = name.rpartition(":")
        if needs_images(name) and images is None:
            raise ValueError(f"target {model} needs images; give a folder or a zip of held-out images (--images)")
        if _is_latent(model):
            return _latent_target(name, model_folder(model), mask, str(images), device, **of_pipelines)
        _refuse(model, of_pipelines)
        return _pixel_target(name, model, mask, images, device)
    if name.partition(":")[0] in SEQUENCES:
        _refuse(name, {"images": images, **of_pipelines})  # before a network is loaded
    target = _other_target(name, device)  # a name that is unknown is told first
    _refuse(name, {"images": images, **of_pipelines})
    return target


def _refuse(name: str, lacking: Mapping[str, Any]) -> None:
    """Raise ValueError if one of the settings that a target lacks has a value."""
    given = " or ".join(what for what, value in lacking.items() if value is not None)
    if given:
        raise ValueError(f"the target {name} takes no {given}; leave {given.replace(' or ', ' and ')} out")


@cache
def _is_latent(model: str) -> bool:
    return model != "digits" and not is_pixel_model(pipeline_parts(model_folder(model)))


@cache
def _other_target(name: str, device: str) -> Target:
    model, _, part = name.partition(":")
    if name in PROBLEMS:
        return AnalyticTarget(name, PROBLEMS[name]())
    if model in SEQUENCES and part:
        return _series_target(name, model, part, device)
    if is_own(name):
        hint = f"for images write MODEL:MASK with a mask of {', '.join(MASKS)} or a file"
        return AnalyticTarget(name, make_own(name, "target", Problem, "a lanpaint_toys.Problem", hint))
    raise ValueError(
        f"unknown target {name!r}; expected one of {', '.join(PROBLEMS)}, MODEL:MASK such as digits:box, "
        "or module:function"
    )


def takes_images(name: str) -> bool:
    """Whether a name is that of a target of images, ``MODEL:MASK``."""
    model, _, mask = name.rpartition(":")
    if not model or model.split(":")[0] in SEQUENCES:
        return False
    return mask in (*MASKS, *OPERATORS, NOTHING, SOFT) or bool(Path(mask).suffix)


def needs_images(name: str) -> bool:
    """Whether a name is that of a target of images, whose model comes without images of its own."""
    return takes_images(name) and not name.startswith("digits:")


@cache
def _pixel_target(name: str, model: str, mask: str, images: str | None, device: str) -> ImageTarget:
    score, held_out, families = _model_and_images(model, images, device)
    height, width = held_out.shape[-2:]
    if mask in OPERATORS:
        try:
            operator = OPERATORS[mask](tuple(held_out.shape[1:]))
        except ValueError as error:
            raise ValueError(f"the operator {mask} does not suit {model}: {error}") from error
        return OperatorTarget(name, score, held_out, operator, families)
    if mask == SOFT:
        change = ((torch.arange(width) - width / 4 + 0.5) / (width / 2)).clamp(0, 1).expand(height, width)
        return ImageTarget(name, score, held_out, change == 0, families, change)
    known = _named_mask(mask, height, width) if mask in (*MASKS, NOTHING) else read_mask(mask)
    if known.shape != (height, width):
        raise ValueError(
            f"the mask {mask} is {known.shape[1]}×{known.shape[0]} and the images {width}×{height}; resize the mask"
        )
    if bool(known.all()):
        raise ValueError(f"the mask {mask} has no white pixels, so nothing is painted; make white what is to paint")
    return ImageTarget(name, score, held_out, known, families)


def _named_mask(mask: str, height: int, width: int) -> Tensor:
    return torch.zeros(height, width, dtype=torch.bool) if mask == NOTHING else MASKS[mask](height, width)


@cache  # cleared when another pipeline is loaded
def _latent_target(
    name: str,
    folder: str,
    mask: str,
    images: str,
    device: str,
    prompt: str | None,
    guidance_scale: float | None,
    dtype: str | None,
) -> ImageTarget:
    from lanpaint.adapters.latents import wholly_known
    from lanpaint.bench.latents import LatentModel, LatentTarget, read_prompts

    if mask in OPERATORS or mask == SOFT:
        what = "soft mask" if mask == SOFT else "operator"
        raise ValueError(f"{folder} is a latent model, and the {what} {mask} is one of pixels; give another mask")
    pipe = _pipeline(folder, device, dtype)
    model = LatentModel(pipe, None if _is_list(prompt) else prompt, guidance_scale)
    held_out, families = _pictures(images, model.side)
    prompts = read_prompts(str(prompt), families) if _is_list(prompt) else None
    height, width = model.cells[-2:]
    if mask in (*MASKS, NOTHING):
        known = _named_mask(mask, height, width)
    else:
        pixels = read_mask(mask)
        if pixels.shape != held_out.shape[-2:]:
            raise ValueError(
                f"the mask {mask} is {pixels.shape[1]}×{pixels.shape[0]} and the images {model.side}×{model.side}; "
                "resize the mask"
            )
        known = wholly_known(pixels[None, None], (height, width))[0, 0]
    return LatentTarget(name, model, held_out, known, families, prompts)


def _is_list(prompt: str | None) -> bool:
    return prompt is not None and Path(prompt).suffix.lower() in MANIFESTS


@lru_cache(maxsize=1)
def _pictures(images: str, side: int) -> tuple[Tensor, Sequence[str]]:
    from lanpaint_toys.images import load_images

    pictures = load_images(images, side).unseen().families_first()
    return pictures.images, pictures.families


_DTYPES = ("float32", "float16", "bfloat16")
_held: dict[tuple[str, ...], Any] = {}


def _pipeline(folder: str, device: str, dtype: str | None) -> Any:
    """A pipeline. One is held, because they are large: another one takes its place, and that of its targets."""
    from lanpaint.painting.pipeline import load_pipeline

    key = (folder, device, dtype or "float32")
    if key[-1] not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if key not in _held:
        _held.clear()
        _latent_target.cache_clear()
        kind = getattr(torch, key[-1])
        _held[key] = load_pipeline(folder, torch.device(device), kind, offload=False, progress=False)
    return _held[key]


def _series_target(name: str, model: str, part: str, device: str) -> SeriesTarget:
    from lanpaint.adapters.series import load_series_model
    from lanpaint_toys import motion

    score = load_series_model(model_folder(model, SEQUENCES), device=device)
    training, series = (motion.middle_windows(motion.load_motion(split)[0]) for split in ("train", "test"))
    steps, channels = score.length, score.units.channels
    known = ~np.isnan(mark_missing(np.zeros((steps, len(channels))), [part], channels))
    described = motion.motion_features(training)
    mean, deviation = described.mean(0), described.std(0)
    return SeriesTarget(
        name, score, series, torch.from_numpy(known).mT, lambda some: (motion.motion_features(some) - mean) / deviation
    )


@cache
def _model_and_images(model: str, images: str | None, device: str) -> tuple[Score, Tensor, Sequence[str] | None]:
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint_toys import digits
    from lanpaint_toys.images import load_images

    if model == "digits":
        if images is not None:
            raise ValueError("the model digits comes with its held-out images; leave images out")
        return load_pixel_model(digits.FOLDER, device=device), digits.load_digits("test")[0], None
    score = load_pixel_model(model_folder(model), device=device)
    if score.channels != 3 or score.sample_size[0] != score.sample_size[1]:
        raise ValueError(f"{model} does not make square colour images; give a model that does")
    pictures = load_images(str(images), score.sample_size[0]).unseen().families_first()
    return score, pictures.images, pictures.families
