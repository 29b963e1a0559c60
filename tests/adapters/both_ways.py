"""One sampler through a pipeline and on its network, with the same draws."""

import functools

import numpy as np
import torch

import lanpaint as lp
from lanpaint.adapters.networks import network_score

STEPS = 4
# Pipelines that give their scheduler sigmas of their own.
_OWN_SIGMAS = ("FluxPipeline", "QwenImagePipeline", "LTXPipeline", "ZImagePipeline")


def _g(seed):
    return torch.Generator().manual_seed(seed)


def score_of(made, **more):
    """The network's score, with the prompt and guidance of the pipeline's call."""
    names = ("guidance_scale", "true_cfg_scale", "height", "width")
    given = {name: value for name, value in made.call.items() if "prompt" in name or name in names}
    return network_score(made.pipe, **{**given, **made.extra, **more})


def solver_of(made, latents):
    """The pipeline's scheduler as a solver, with the times that the pipeline has it make."""
    scheduler, timesteps = made.pipe.scheduler, {}
    if type(made.pipe).__name__ in _OWN_SIGMAS:
        timesteps["sigmas"] = np.linspace(1.0, 1 / STEPS, STEPS)
    if getattr(scheduler.config, "use_dynamic_shifting", False):
        tokens, config = latents.shape[1], scheduler.config
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        timesteps["mu"] = config.base_shift + slope * (tokens - config.base_image_seq_len)
    return lp.DiffusersSolver(scheduler, **timesteps)


def observe(latents):
    """Half of the latents known."""
    known = torch.zeros(latents.shape, dtype=torch.bool)
    known[:, : latents.shape[1] // 2] = True
    return lp.Observation(torch.randn(latents.shape, generator=_g(2)), known)


def both_ways(made, paint, known_guidance_scale=None, unguided=None):
    """Latents through the bridge, and of the same sampler on the network's score.

    ``unguided`` is the weight without guidance, for samplers that ask for evaluations without it.
    """
    firsts = []

    def first(latents):
        firsts.append(latents.clone())
        return observe(latents)

    call = {"num_inference_steps": STEPS, "output_type": "latent", "generator": _g(0), **made.call}
    if made.extra:
        call["image"] = made.extra["control_image"]
    guidance, paint_directly = {}, paint
    if unguided is not None:
        weight = "true_cfg_scale" if "true_cfg_scale" in call else "guidance_scale"
        paint_directly = functools.partial(paint, unguided=score_of(made, **{weight: unguided}))
    with lp.bridged(made.pipe, paint, first, generator=_g(1)) as bridge:
        if known_guidance_scale is not None:
            weight = "true_cfg_scale" if "true_cfg_scale" in call else "guidance_scale"
            call[weight] = bridge.guidance(call.get(weight, 5.0), known_guidance_scale)
            guidance = {weight: float(call[weight]), "known_guidance_scale": known_guidance_scale}
        through_bridge = made.pipe(**call)[0]
    latents = firsts[0]
    if guidance:
        guidance["known"] = observe(latents).known
    sampler = paint_directly(score_of(made, **guidance), steps=STEPS, solver=solver_of(made, latents))
    return through_bridge, sampler(observe(latents), start=latents, generator=_g(1))
