"""What a scheduler of diffusers says: the noise level of each evaluation, and what its model's output means.

The levels are in the coordinates in which the scheduler itself steps:

    α² + σ² = 1             variance-preserving schedules (``alphas_cumprod``), and angles: α = cos t, σ = sin t
    α = 1 − σ               flows
    α = σ′, σ = 1 − σ′      flows with inverted σ′, which grows while noise vanishes
    α = 1                   variance-exploding schedules, and flows whose σ exceeds 1

The output of a model is one of the views of a prediction, or, where the scheduler preconditions its model (Karras et
al., 2022, eq. 7), linear in it: x̂₀ = skip · x + out · F.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, View

_VIEWS: dict[str, View] = {
    "epsilon": "epsilon",
    "sample": "denoised",
    "original_sample": "denoised",
    "flow_prediction": "flow",
    "v_prediction": "v",
}
# The step sizes of consistency models, and a preconditioned scheduler's conversion, by which each is known.
_BOUNDARY, _PRECONDITION = "get_scalings_for_boundary_condition", "precondition_outputs"


def evaluation_times(scheduler: Any) -> Tensor:
    """The times at which the scheduler evaluates its model, shape (E,). ``set_timesteps`` must have been called.

    Some schedulers also list the time of clean data, where nothing is evaluated.
    """
    times: Tensor = scheduler.timesteps
    if len(times) > 1 and _lists_its_end(scheduler) and float(times[-1]) == 0:
        return times[:-1]
    return times


def level_of(scheduler: Any, index: int) -> NoiseLevel:
    """The noise level of the sample before the scheduler's step ``index``. ``set_timesteps`` must have been called.

    Raises:
        ValueError: When the scheduler has no noise levels that are known here.
    """
    sigmas = getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, Tensor) and len(sigmas) > len(scheduler.timesteps):
        sigma = float(sigmas[index])
        if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # the DPM-Solver family: VP, VE or flow by its settings
            alpha, scaled = scheduler._sigma_to_alpha_sigma_t(torch.tensor(sigma, dtype=torch.float64))
            return NoiseLevel(float(alpha), float(scaled))
        if not _steps_by_velocity(scheduler) or _explodes(scheduler):
            return NoiseLevel(1.0, sigma)
        return NoiseLevel(sigma, 1 - sigma) if _is_inverted(scheduler) else NoiseLevel(1 - sigma, sigma)
    if lists_levels(scheduler):
        return NoiseLevel(float(scheduler.alphas[index]), float(scheduler.betas[index]))
    time = scheduler.timesteps[index]
    if _is_angular(scheduler):
        angle = min(float(time), math.pi / 2)
        return NoiseLevel(abs(math.cos(angle)), scheduler.config.sigma_data * math.sin(angle))
    if hasattr(scheduler, "_alpha_cumprod"):
        alpha = scheduler._alpha_cumprod(time.double().cpu(), torch.device("cpu")).reshape(())
    elif getattr(scheduler, "alphas_cumprod", None) is not None:
        alpha = scheduler.alphas_cumprod[int(time)].double().cpu()
    else:
        raise ValueError(
            f"{type(scheduler).__name__} has no noise levels that are known here: it has neither sigmas nor "
            "alphas_cumprod; give a pipeline with a scheduler of a diffusion or flow model"
        )
    return NoiseLevel(alpha.sqrt(), (1 - alpha).sqrt())


def is_inner(scheduler: Any, index: int) -> bool:
    """Whether the scheduler's step ``index`` is a later stage of an outer step.

    The state before a later stage is not a sample of any noise level.
    """
    orders = getattr(scheduler, "order_list", None)  # single-step DPM-Solver: 1, 2, 3, 1, 2, 3, …
    if orders is not None:
        return bool(orders[index] > 1)
    if is_pseudo_numerical(scheduler):  # Runge-Kutta's stages, or the second one of the first step
        return bool(index % 4) if index < len(scheduler.prk_timesteps) else index == 1
    return getattr(scheduler, "order", 1) == 2 and index % 2 == 1 and len(scheduler.timesteps) % 2 == 1


def is_pseudo_numerical(scheduler: Any) -> bool:
    """Whether a scheduler begins with steps of Runge-Kutta, or one of Heun, and goes on by what it remembers (PNDM)."""
    return hasattr(scheduler, "prk_timesteps")


def lists_levels(scheduler: Any) -> bool:
    """Whether a scheduler lists α and σ of its steps, and of clean data, as ``alphas`` and ``betas``.

    Its times are then angles, 0 for clean data and 1 for noise.
    """
    alphas, betas = (getattr(scheduler, name, None) for name in ("alphas", "betas"))
    if not (isinstance(alphas, Tensor) and isinstance(betas, Tensor)):
        return False
    if not len(alphas) == len(betas) == len(scheduler.timesteps) + 1:
        return False
    return bool(torch.allclose(alphas**2 + betas**2, torch.ones_like(alphas), atol=1e-4))


def stage_level(scheduler: Any, index: int) -> NoiseLevel:
    """The noise level at which evaluation ``index`` is made, also for the later stages of an outer step."""
    between = getattr(scheduler, "sigmas_interpol", None)
    if between is None or not is_inner(scheduler, index):
        return level_of(scheduler, index)
    if "Ancestral" in type(scheduler).__name__:
        index -= 1
    return NoiseLevel(1.0, float(between[index]))


def view_of(scheduler: Any) -> View:
    """The view that the scheduler expects as the model's output. ``v`` is meant in variance-preserving coordinates.

    A preconditioned output counts as ``denoised``: it determines x̂₀ at every level.

    Raises:
        ValueError: For a ``prediction_type`` that is not known here.
    """
    if _is_linear(scheduler):
        return "denoised"
    if _steps_by_velocity(scheduler):
        return "epsilon" if _explodes(scheduler) else "flow"
    if hasattr(scheduler, "_alpha_cumprod"):
        return "epsilon"
    if lists_levels(scheduler):
        return "v"
    kind = getattr(scheduler.config, "prediction_type", None)
    if kind not in _VIEWS:
        raise ValueError(
            f"{type(scheduler).__name__} has prediction_type {kind!r}; expected one of {', '.join(_VIEWS)}"
        )
    return _VIEWS[kind]


def output_of(scheduler: Any, prediction: Prediction) -> Tensor:
    """A prediction, in any coordinates, as the model output that the scheduler expects."""
    level = prediction.level
    if _is_linear(scheduler):
        skip, out = _linear(scheduler, level)
        residual = prediction.denoised - skip * prediction.x
        return residual / out if out else torch.zeros_like(residual)
    view = view_of(scheduler)
    if view == "v":
        norm = (level.alpha**2 + level.sigma**2).sqrt()
        output = (level.alpha * prediction.epsilon - level.sigma * prediction.denoised) / norm
    else:
        output = getattr(prediction, view)
        output = -output if _is_inverted(scheduler) else output
    learned = str(scheduler.config.get("variance_type"))
    if learned.startswith("learned"):  # beside it the variance: the smaller end of a range, which is that of one point
        output = torch.cat([output, torch.full_like(output, -1.0 if learned == "learned_range" else 0.0)], dim=1)
    return output


def prediction_of(scheduler: Any, output: Tensor, x: Tensor, level: NoiseLevel) -> Prediction:
    """A model output that the scheduler expects, as a prediction at x in any coordinates; the inverse of `output_of`.

    A variance that the model predicts as well, in as many channels again, is left out.
    """
    if output.ndim > 1 and output.shape[1] == 2 * x.shape[1]:
        output = output[:, : x.shape[1]]
    if _is_linear(scheduler):
        skip, out = _linear(scheduler, level)
        return Prediction(x, level, denoised=skip * x + out * output)
    view = view_of(scheduler)
    if view != "v":
        return Prediction(x, level, **{view: -output if _is_inverted(scheduler) else output})
    level = level.to(x)
    norm = (level.alpha**2 + level.sigma**2).sqrt()
    preserving = Prediction(x / norm, level.rescale(1 / norm), v=output)  # in variance-preserving coordinates
    return Prediction(x, level, denoised=preserving.denoised, epsilon=preserving.epsilon)


def input_scale(scheduler: Any, level: NoiseLevel) -> float:
    """What a sample at a level of the scheduler's own coordinates is multiplied by to be its network's input."""
    alpha, sigma = level.numbers
    if alpha != 1:  # only variance-exploding coordinates are not those of the network
        return 1.0
    preconditioned = _is_linear(scheduler)
    return 1 / math.hypot(scheduler.config.sigma_data if preconditioned else 1.0, sigma)


def data_scale(scheduler: Any) -> float:
    """What clean data are multiplied by in the scheduler's coordinates: σ_data where levels are angles, else 1."""
    return float(scheduler.config.sigma_data) if _is_angular(scheduler) else 1.0


def time_for(scheduler: Any, index: int, sample: Tensor) -> Tensor:
    """The time of an evaluation as the scheduler's ``step`` takes it: of shape (), or one per sample."""
    time: Tensor = scheduler.timesteps[index]
    return time.expand(len(sample)) if hasattr(scheduler, "_alpha_cumprod") else time


def _lists_its_end(scheduler: Any) -> bool:
    return _is_angular(scheduler) or hasattr(scheduler, "_alpha_cumprod")


def _is_angular(scheduler: Any) -> bool:
    return scheduler.config.get("prediction_type") == "trigflow"


def _is_linear(scheduler: Any) -> bool:
    """Whether the model's output is neither of the views, but linear in them."""
    consistency = hasattr(scheduler, _BOUNDARY) and scheduler.config.get("prediction_type") is None
    return consistency or hasattr(scheduler, _PRECONDITION) or _is_angular(scheduler)


def _linear(scheduler: Any, level: NoiseLevel) -> tuple[float, float]:
    """(skip, out) with x̂₀ = skip · x + out · F, for x and a level of any coordinates."""
    alpha, sigma = level.numbers
    if _is_angular(scheduler):  # x = cos t · x₀ + sin t · σ_data · ε, and F = dx/dt
        opposite = sigma / scheduler.config.sigma_data
        angle = math.atan2(opposite, alpha)
        return math.cos(angle) / math.hypot(alpha, opposite), -math.sin(angle)
    ratio = torch.tensor(sigma / alpha, dtype=torch.float64)
    if hasattr(scheduler, _PRECONDITION):
        one, none = torch.ones_like(ratio), torch.zeros_like(ratio)
        skip = scheduler.precondition_outputs(one, none, ratio)
        out = scheduler.precondition_outputs(none, one, ratio)
    else:
        skip, out = getattr(scheduler, _BOUNDARY)(ratio)
    return float(skip) / alpha, float(out)


def _steps_by_velocity(scheduler: Any) -> bool:
    """Whether the model's output is dx/dσ. Flows have one output, and draw between data and noise."""
    others = hasattr(scheduler, "alphas_cumprod") or _is_linear(scheduler)
    return not others and "prediction_type" not in scheduler.config and hasattr(scheduler, "scale_noise")


def _is_inverted(scheduler: Any) -> bool:
    if not _steps_by_velocity(scheduler):
        return False
    first, last, _ = _range(scheduler)
    return first < last


def _explodes(scheduler: Any) -> bool:
    return _range(scheduler)[2] > 1 + 1e-4


# Of schedulers: their σ, and the first, the last and the largest. Reading them from an accelerator waits for it.
_RANGES: weakref.WeakKeyDictionary[Any, tuple[Tensor, tuple[float, float, float]]] = weakref.WeakKeyDictionary()


def _range(scheduler: Any) -> tuple[float, float, float]:
    sigmas = scheduler.sigmas
    if not isinstance(sigmas, Tensor):  # the scheduler is not set to its times
        return 1.0, 0.0, 1.0
    seen = _RANGES.get(scheduler)
    if seen is None or seen[0] is not sigmas:
        seen = _RANGES[scheduler] = sigmas, (float(sigmas[0]), float(sigmas[-1]), float(sigmas.max()))
    return seen[1]
