"""Gradients through the model, for the samplers that differentiate it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.score import Score


def networks(score: nn.Module) -> list[nn.Module]:
    """The networks that a score holds, directly or in a score inside it: the outermost modules that hold no score."""
    found: list[nn.Module] = []
    for part in score.children():
        has_score = any(isinstance(module, Score) for module in part.modules())
        inside = networks(part) if has_score else [part]
        found += [network for network in inside if all(network is not other for other in found)]
    return found


def check_checkpoint(score: Score) -> None:
    """Raise ValueError if the score holds no network."""
    if not networks(score):
        raise ValueError(
            f"checkpoint=True needs a score that holds its network, got {type(score).__name__}; "
            "use NetworkScore(network, …)"
        )


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost modules of a network that can be checkpointed one by one.

    ModuleList, ModuleDict and Sequential are replaced by what they contain. If only one module is left, its own modules
    take its place.
    """
    blocks: list[nn.Module] = []
    for child in network.children():
        blocks += _blocks(child) if isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential) else [child]
    return _blocks(blocks[0]) if len(blocks) == 1 and any(blocks[0].children()) else blocks


@contextmanager
def checkpointed(score: Score) -> Iterator[None]:
    """Gradient checkpointing: in this context the backward pass recomputes the activations of the score's networks.

    Each block has a separate checkpoint. With one checkpoint for the whole network, the backward pass would hold all
    activations at once, and no memory would be saved.
    """
    from torch.utils.checkpoint import checkpoint  # with PyTorch 2.4 it loads sympy

    blocks = {id(block): block for network in networks(score) for block in _blocks(network)}.values()
    originals = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block, forward in zip(blocks, originals, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def differentiate(
    score: Score, x: Tensor, level: NoiseLevel, function: Callable[[Prediction], Tensor], save_memory: bool = False
) -> tuple[Prediction, Tensor, Tensor]:
    """The score's prediction at x, a function of the prediction, and the gradient of that function with respect to x.

    It takes one evaluation. All results are detached. The caller's grad mode does not matter, and parameters of a
    network get no ``.grad``.

    Args:
        score: The score; its network must be differentiable.
        x: The state, shape (B, …).
        level: Noise level of x.
        function: Prediction → one number per sample, shape (B,). The number of a sample must depend on that sample
            only.
        save_memory: Whether to use gradient checkpointing, see :func:`checkpointed`.

    Returns:
        The prediction, the function's values (B,) and their gradient, shape of x.

    Raises:
        ValueError: When the score gives no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        with checkpointed(score) if save_memory else nullcontext():
            prediction = score.predict(leaf, level)
            values = function(prediction)
            gradient = None
            if values.requires_grad:
                (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
    return _detached(prediction, x, level), values.detach(), _checked(gradient)


def pullback(
    score: Score, x: Tensor, level: NoiseLevel, save_memory: bool = False
) -> tuple[Prediction, Callable[[Tensor], Tensor]]:
    """The score's prediction at x, and the function v → Jᵀ v with J = ∂x̂₀/∂x, of shape of x.

    It takes one evaluation. Each call of the function is one backward pass. All results are detached. The graph is kept
    as long as the function lives.

    Args:
        score: The score; its network must be differentiable.
        x: The state, shape (B, …).
        level: Noise level of x.
        save_memory: Whether to use gradient checkpointing, see :func:`checkpointed`.

    Raises:
        ValueError: In the call of the function, when the score gives no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        with checkpointed(score) if save_memory else nullcontext():
            prediction = score.predict(leaf, level)
            denoised = prediction.denoised

    def product(vector: Tensor) -> Tensor:
        gradient = None
        with torch.inference_mode(False):
            if denoised.requires_grad:
                (gradient,) = torch.autograd.grad(denoised, leaf, vector.clone(), retain_graph=True, allow_unused=True)
        return _checked(gradient)

    return _detached(prediction, x, level), product


def _checked(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise ValueError(
            "the score's prediction has no gradient with respect to x; remove no_grad() and detach() from the model, "
            "or take a sampler without gradients such as LanPaint"
        )
    return gradient


def _detached(prediction: Prediction, x: Tensor, level: NoiseLevel) -> Prediction:
    return Prediction(x, level, **{name: getattr(prediction, name).detach() for name in ("denoised", "epsilon")})


def known_error(observation: Observation, prediction: Prediction) -> Tensor:
    """y_o − x̂₀ on the known entries, 0 elsewhere; shape of x."""
    return torch.where(observation.known, observation.values - prediction.denoised, 0.0)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of each sample, shape (B, 1, …, 1)."""
    return (first * second).flatten(1).sum(1).reshape(-1, *(1,) * (first.ndim - 1))


def square_error(observation: Observation) -> Callable[[Prediction], Tensor]:
    """The function ‖y_o − x̂₀‖² over the known entries of each sample, shape (B,)."""
    return lambda prediction: known_error(observation, prediction).square().flatten(1).sum(1)


def norm(level: NoiseLevel) -> Tensor:
    """√(α² + σ²) = c, shape of the level; x/c are variance-preserving coordinates. 0 where σ = 0: nothing moves."""
    return torch.where(level.sigma > 0, (level.alpha**2 + level.sigma**2).sqrt(), 0.0)


class Answered(Score):
    """A score with a prediction in memory: at the x of that prediction it evaluates nothing."""

    def __init__(self, score: Score, prediction: Prediction) -> None:
        self._score, self._prediction = score, prediction
        self.schedule = score.schedule

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The prediction in memory if ``x`` is the tensor that it was made for, else a new evaluation."""
        return self._prediction if x is self._prediction.x else self._score.predict(x, level)
