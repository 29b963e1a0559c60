"""Classifier-free guidance with one weight on the known part and another weight on the unknown part.

Let s_c be the score with the prompt and s_u the score without it. Guidance of weight w gives the score of a
distribution p_w,

    s_w = s_u + w (s_c − s_u).

The field of a level (LanPaint, Eq. 12) uses the score at the unknown entries x in one place and the score at the known
entries y in another place. So the two scores may have different weights: w at x and v at y. The level's distribution
is then that of Eq. 11 with p_v in the denominator:

    q ∝ p_w(x | y) p(y | y_o)^(1+λ) / p_v(y)^λ.

*Image first*, v = w: the known part follows the guided model, so the prompt acts on it too.
*Prompt first*, v = 0: the known part follows the model without the prompt. With v = w, the division by p_v(y)^λ pushes
the known part away from the prompt. With v = 0 it does not, so the painted part, which follows the known part, stays
closer to the prompt.

A pipeline computes its guidance itself: it multiplies (s_c − s_u) by a number. :class:`RegionalScale` takes the place
of that number. It is a float, and it multiplies each entry of a tensor by w or by v. A sampler may also ask for an
evaluation without guidance (:attr:`lanpaint.Score.unguided`), as the updates of ALM do (arXiv:2606.31323, Sec. 4.1).
Then it multiplies by the number with which the pipeline gives s_c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = {
    "guidance_scale": 1.0,
    "guidance_scale_2": 1.0,
    "true_cfg_scale": 1.0,
    "image_guidance_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "pag_scale": 0.0,
    "sag_scale": 0.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
}
"""Arguments of pipelines that are weights of guidance, with the number at which each changes nothing."""

BESIDE = ("use_dynamic_cfg", "pag_adaptive_scale", "editing_prompt")
"""Options by which a pipeline guides in a way that its weights alone do not tell."""

_ADDING_TO_CONDITIONAL = ("Cosmos", "Krea2", "ZImage")  # give s_c + w (s_c − s_u), so that w = 0 is no guidance
_ADDING_TO_UNCONDITIONAL = ("Cosmos3",)


def conditional_weight(pipe: Any, name: str = "guidance_scale") -> float:
    """The weight with which a pipeline gives the prediction with the prompt, s_c."""
    kind = type(pipe).__name__
    adds = kind.startswith(_ADDING_TO_CONDITIONAL) and not kind.startswith(_ADDING_TO_UNCONDITIONAL)
    return 0.0 if adds and name == "guidance_scale" else WEIGHTS[name]


class Unguided(nn.Module):
    """A network that guides itself, without its guidance. It is called as the network, with ``guided=False``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The network's output at x, (B, …), and time, (B,)."""
        output: Tensor = self.network(x, time, guided=False)
        return output


class _Held:
    """What a weight, and the weights that were made of it, know of the evaluation that runs."""

    known: Tensor | None = None
    guided: Callable[[], bool] | None = None
    rows = 0
    used = False


class RegionalScale(float):
    """A pipeline's guidance weight: w at the unknown part of the latents and v at the known part.

    Args:
        scale: w, the guidance weight that the pipeline was given.
        known_scale: v, the guidance weight at the known part, counted as the pipeline counts w; None for w.
        conditional: The weight with which the pipeline gives s_c: 1, but 0 where it adds w (s_c − s_u) to s_c.

    Raises:
        ValueError: For a weight that is no finite number.
    """

    known_scale: float | None
    conditional: float
    _held: _Held

    def __new__(cls, scale: float, known_scale: float | None = None, conditional: float = 1.0) -> RegionalScale:
        """A float of value w, because pipelines compare and convert their guidance weight."""
        for name, value in (("the guidance scale", scale), ("known_guidance_scale", known_scale)):
            if value is None and name == "known_guidance_scale":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        weight = super().__new__(cls, scale)
        weight.known_scale = None if known_scale is None else float(known_scale)
        weight.conditional = conditional
        weight._held = _Held()
        return weight

    def hold(self, known: Tensor, guided: Callable[[], bool] | None = None) -> None:
        """Set the known part: boolean, True where known, of the latents' shape.

        ``guided`` tells whether the evaluation that runs is one with guidance. By default each is.
        """
        self._held.known, self._held.guided, self._held.rows, self._held.used = known, guided, 0, False

    def release(self) -> None:
        """Forget the known part: a plain number again."""
        self._held.known = self._held.guided = None

    def was_used(self) -> bool:
        """Whether the pipeline guided since the last call of this method: with two weights, every row of the batch."""
        held = self._held
        rows, used, held.rows, held.used = held.rows, held.used, 0, False
        unguided = held.guided is not None and not held.guided()
        return used and (
            self.known_scale is None or unguided or rows == len(held.known if held.known is not None else ())
        )

    def __mul__(self, other: Any) -> Any:
        """The product, with v at known entries of a tensor and w elsewhere; with w alone for numbers.

        A tensor holds all rows of the batch, or the rows that follow those of the last product.
        """
        held = self._held
        if not isinstance(other, Tensor) or other.ndim == 0 or held.known is None:
            return float(self) * other
        held.used = True
        if held.guided is not None and not held.guided():
            return self.conditional * other
        if self.known_scale is None:
            return float(self) * other
        return torch.where(self._next_rows(other), self.known_scale * other, float(self) * other)

    __rmul__ = __mul__

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A product with a tensor on the left, or torch.lerp; what else torch does with the weight it does with w."""
        name, kwargs = function.__name__, kwargs or {}
        if not kwargs and len(args) == 2 and name in ("mul", "multiply", "__mul__", "__rmul__"):
            one, other = args
            return other * one if isinstance(other, RegionalScale) else one * other
        if not kwargs and len(args) == 3 and name == "lerp" and isinstance(args[2], RegionalScale):
            start, end, weight = args
            return start + weight * (end - start) if weight._held.known is not None else start.lerp(end, float(weight))
        plain = [float(part) if isinstance(part, RegionalScale) else part for part in args]
        named = {key: float(part) if isinstance(part, RegionalScale) else part for key, part in kwargs.items()}
        return function(*plain, **named)

    def _moved(self, factor: float, by: Any) -> Any:
        """A weight still: factor · w + by."""
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            return NotImplemented
        v = None if self.known_scale is None else factor * self.known_scale + by
        moved = RegionalScale(factor * float(self) + by, v, factor * self.conditional + by)
        moved._held = self._held
        return moved

    def __add__(self, other: Any) -> Any:
        return self._moved(1.0, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._moved(1.0, -other) if isinstance(other, (int, float)) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return self._moved(-1.0, other)

    def _next_rows(self, guided: Tensor) -> Tensor:
        """The known part of the rows in ``guided``, in the shape of ``guided``; these rows then count as guided."""
        held = self._held
        assert held.known is not None
        known = held.known[held.rows :]
        if guided.ndim == known.ndim and guided.shape[1] == 2 * known.shape[1]:  # with a learned variance
            known = torch.cat([known, known], dim=1)
        count = guided.numel() // max(known[:1].numel(), 1)
        if count == 0 or count > len(known) or guided.numel() != known[:count].numel():
            raise ValueError(
                f"known_guidance_scale: the pipeline guides tensors of shape {tuple(guided.shape)}; expected the "
                f"latents' shape {tuple(held.known.shape)}; use a network adapter (lanpaint.adapters.networks)"
            )
        held.rows += count
        return known[:count].reshape(guided.shape)
