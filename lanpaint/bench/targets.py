"""What methods are compared on: analytic problems, and trained models with held-out images under a mask.

A target draws complete samples, of which a method is shown the known part and asked for the rest. Since the truth is an
exact answer to the question that it was taken from, truth and answer may be exchanged in every pair if the method is
exact: all two-sample figures rest on that (:mod:`lanpaint.metrics`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lanpaint.images import read_mask
from lanpaint.masks import MASKS
from lanpaint.metrics import energy_distance, image_figures, mmd, perceptual_figures, sliced_wasserstein
from lanpaint.names import model_folder
from lanpaint.own import is_own, make_own
from lanpaint.randomness import Generators, seeded
from lanpaint.score import Score
from toy_models import features
from toy_models.gaussian import Gaussian
from toy_models.problems import PROBLEMS, Problem, gaussian_kl, histogram_kl, mode_coverage, stray

Figures = dict[str, float]
Notice = Callable[[str], None]

LARGER_IS_BETTER = {"psnr", "psnr_whole", "ssim", "ssim_whole", "ms_ssim", "coverage", "mmd_p", "energy_p", "kernel_p"}


class Target(ABC):
    """A model, what is known of its samples, and figures of how far answers are from the truth.

    Attributes:
        name: As :func:`make_target` takes it.
        score: The model.
        known: Boolean, broadcastable to the samples.
        samples: How many are drawn by default.
        most: How many there are.
        batch: How many are sampled at once.
        merits: The figures to compare methods by, the first one foremost.
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
        """``count`` complete samples (count, …)."""

    @abstractmethod
    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """Where the random numbers of samples ``first`` to ``first + count`` come from."""

    @abstractmethod
    def figures(self, x: Tensor, truth: Tensor, notice: Notice) -> Figures:
        """Name → figure of answers x to what was asked of ``truth``, both (B, …)."""

    @abstractmethod
    def floors(self, truth: Tensor, seed: int) -> Figures:
        """The same of exact answers, where there are any."""


class AnalyticTarget(Target):
    """A problem whose answers are known exactly.

    Args:
        name: What it is called in results.
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
        """The generator that has drawn the samples goes on."""
        return generator

    def figures(self, x: Tensor, truth: Tensor, notice: Notice) -> Figures:
        """Divergences, distances, and what mixtures have."""
        law = self.problem.target
        figures = {"kl": self.problem.divergence(x)}
        own = self.problem.observed is None
        if own and isinstance(law, Gaussian):
            figures["gaussian_kl"] = gaussian_kl(x, law)
        if own and law.isotropic and law.dim == 2:
            figures["histogram_kl"] = histogram_kl(x, law)
        figures |= _distances(x, truth)
        if len(law.weights) > 1:
            figures["stray"] = float(stray(x, law).double().mean())
            if own:
                figures["coverage"] = mode_coverage(x, law)
        return figures

    def floors(self, truth: Tensor, seed: int) -> Figures:
        """The figures of other exact answers to the same questions."""
        generator = torch.Generator().manual_seed(seed + 2**31)  # only the last 32 bits of a seed count
        exact = self.problem.target.sample_conditional(truth, self.known, generator)
        return self.figures(exact, truth, lambda line: None)


class ImageTarget(Target):
    """A pixel-space model and held-out images under a mask.

    Args:
        name: What it is called in results.
        score: The model.
        images: Held-out images (N, C, H, W) in [−1, 1].
        known: Boolean (H, W).
        families: What the images belong to, N names: variants of one thing are not independent.
    """

    def __init__(
        self, name: str, score: Score, images: Tensor, known: Tensor, families: Sequence[str] | None = None
    ) -> None:
        self.name, self.score, self.images, self.known = name, score, images, known
        self.families = list(range(len(images)) if families is None else families)
        self.most = len(images)
        self.samples = min(240, len(images))
        self.batch = max(1, 2**18 // images[0].numel())
        self.has_features = images.shape[1] == 3 and images.shape[-1] <= features.SIDE
        self.merits = ("psnr", "kernel" if self.has_features else "mmd")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The first ``count`` images."""
        return self.images[:count]

    def generators(self, seed: int, first: int, count: int, generator: torch.Generator) -> Generators:
        """One for each image."""
        return seeded(range(seed + first, seed + first + count))

    def figures(self, x: Tensor, truth: Tensor, notice: Notice) -> Figures:
        """Means over the images with their standard errors, and distances of the sets.

        Of small colour pictures, ``kernel`` is the squared MMD in the features of :mod:`toy_models.features`.
        """
        figures: Figures = {}
        for name, values in image_figures(x, truth, self.known).items():
            figures[name] = float(values.mean())
            figures[f"{name}_error"] = standard_error(values, self.families[: len(values)])
        if self.has_features:
            kernel = mmd(features.picture_features(x), features.picture_features(truth))
            figures |= {"kernel": kernel.value, "kernel_error": kernel.error, "kernel_p": kernel.p_value}
        perceptual, told = perceptual_figures(x, truth)
        if told is not None:
            notice(told)
        return figures | _distances(x.clamp(-1, 1), truth) | perceptual

    def floors(self, truth: Tensor, seed: int) -> Figures:
        """None are known."""
        return {}


def standard_error(values: Tensor, families: Sequence[object]) -> float:
    """Standard error of a mean over values (n,) of which those of one family vary together.

    The root of the sum over families of (sum of the family's deviations)², over n, with the factor F/(F − 1) for F
    families (Cameron and Miller, 2015, Eq. 11, without regressors): std/√n where each value is a family of its own.
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


@cache
def make_target(name: str, images: str | None = None, device: str = "cpu") -> Target:
    """A target by its name.

    Args:
        name: A problem of :data:`toy_models.problems.PROBLEMS` (or ``gauss2``, ``star500``); ``module:function`` for a
            function of your own that returns a :class:`toy_models.Problem`; or ``MODEL:MASK``, where the model is
            ``digits``, ``emoji-pixel``, ``emoji-flow``, or a folder or hub id in diffusers' layout, and the mask is
            box, half, checkerboard, outpaint or a file, white where the image is painted.
        images: Folder or zip of images for a model other than ``digits``; of emoji, those are used that no model here
            was trained on: the first of each family, then their variants.
        device: Where a network is loaded; formulas run wherever they are asked.

    Raises:
        ValueError: For a name that is none of these, images that cannot be read, or a mask of another size.
    """
    name = {"gauss2": "gaussian", "star500": "star"}.get(name, name)
    if name in PROBLEMS:
        return AnalyticTarget(name, PROBLEMS[name]())
    first, _, last = name.rpartition(":")
    if first and (last in MASKS or Path(last).suffix):
        return _image_target(name, first, last, images, device)
    if is_own(name):
        hint = f"for images write MODEL:MASK with a mask of {', '.join(MASKS)} or a file"
        return AnalyticTarget(name, make_own(name, "target", Problem, "a toy_models.Problem", hint))
    raise ValueError(
        f"unknown target {name!r}; expected one of {', '.join(PROBLEMS)}, MODEL:MASK such as digits:box, "
        "or module:function"
    )


def _image_target(name: str, model: str, mask: str, images: str | None, device: str) -> ImageTarget:
    score, held_out, families = _model_and_images(model, images, device)
    height, width = held_out.shape[-2:]
    known = MASKS[mask](height, width) if mask in MASKS else read_mask(mask)
    if known.shape != (height, width):
        raise ValueError(f"the mask {mask} is {known.shape[1]}×{known.shape[0]} and the images {width}×{height}")
    if bool(known.all()):
        raise ValueError(f"the mask {mask} paints nothing; white is painted")
    return ImageTarget(name, score, held_out, known, families)


@cache
def _model_and_images(model: str, images: str | None, device: str) -> tuple[Score, Tensor, Sequence[str] | None]:
    from lanpaint.adapters.diffusers import load_pixel_model
    from toy_models import digits
    from toy_models.images import load_images

    if model == "digits":
        if images is not None:
            raise ValueError("digits have held-out images of their own; leave images out")
        return load_pixel_model(digits.FOLDER, device=device), digits.load_digits("test")[0], None
    if images is None:
        raise ValueError(f"target {model} needs images, a folder or a zip of held-out ones (--images)")
    score = load_pixel_model(model_folder(model), device=device)
    if score.channels != 3 or score.sample_size[0] != score.sample_size[1]:
        raise ValueError(f"{model} is not for square colour images; only those are benchmarked")
    pictures = load_images(images, score.sample_size[0]).unseen().families_first()
    return score, pictures.images, pictures.families
