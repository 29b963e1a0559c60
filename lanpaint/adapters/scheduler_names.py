"""Schedulers of diffusers by short names: a pipeline gets another, made from the settings of its own."""

from __future__ import annotations

from typing import Any

from lanpaint.adapters.schedulers import view_of

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-2s": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {"algorithm_type": "deis"}),
}
"""Name → class and settings, for models of variance-preserving diffusion."""

FLOW_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_flow_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {"use_flow_sigmas": True}),
}
"""The same for flow models."""

_COGVIDEOX: dict[str, tuple[str, dict[str, Any]]] = {"ddim": ("CogVideoXDDIMScheduler", {})}
KARRAS = "-karras"
"""Ending of a name, for levels spaced as Karras et al., 2022, have them."""


def named_scheduler(name: str, scheduler: Any) -> Any:
    """The scheduler of a name, with the settings of a pipeline's own.

    Args:
        name: One of :data:`SCHEDULERS`, or of :data:`FLOW_SCHEDULERS` for the scheduler of a flow model; with
            ``-karras`` at its end for Karras' spacing.
        scheduler: The pipeline's scheduler, which knows the schedule that the model was trained with.

    Raises:
        ValueError: For a name that is not known or that this kind of model does not have.
    """
    flow, kind, known = False, "a diffusion model", SCHEDULERS
    if type(scheduler).__name__.startswith("CogVideoX"):  # shifts its schedule in a way that no other class reads
        kind, known = "CogVideoX", _COGVIDEOX
    elif view_of(scheduler) == "flow":
        flow, kind, known = True, "a flow model", FLOW_SCHEDULERS
    short, karras = name.removesuffix(KARRAS), name.endswith(KARRAS)
    if short not in known:
        raise ValueError(f"unknown scheduler {name!r} for {kind}; expected one of {', '.join(known)}")
    class_name, settings = known[short]
    if flow:
        settings = {**settings, **_flow_settings(scheduler, class_name)}
    import diffusers

    made: Any = getattr(diffusers, class_name).from_config(scheduler.config, **settings)
    if not karras:
        return made
    if "use_karras_sigmas" not in made.config or class_name.startswith("FlowMatchHeun"):
        raise ValueError(f"{short} has no spacing of Karras; expected {short}, or a scheduler that has one, as dpm++")
    return type(made).from_config(made.config, use_karras_sigmas=True)


def _flow_settings(scheduler: Any, class_name: str) -> dict[str, Any]:
    """The shift of a flow's times, which each class calls by a name of its own."""
    shift = scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))
    if class_name.startswith("FlowMatch"):
        if class_name == "FlowMatchHeunDiscreteScheduler" and scheduler.config.get("use_dynamic_shifting"):
            raise ValueError("heun cannot shift its times with the picture's size, as this model does; take euler")
        return {"shift": shift}
    return {"flow_shift": shift, "prediction_type": "flow_prediction"}
