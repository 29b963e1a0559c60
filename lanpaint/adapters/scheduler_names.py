"""Schedulers of diffusers by short names. The new scheduler takes over the settings of the pipeline's scheduler."""

from __future__ import annotations

from typing import Any

from lanpaint.adapters.reading import view_of

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
"""Name → class and settings, for flow models."""

_COGVIDEOX: dict[str, tuple[str, dict[str, Any]]] = {"ddim": ("CogVideoXDDIMScheduler", {})}
KARRAS = "-karras"
"""Ending of a name that asks for the spacing of levels of Karras et al., 2022."""


def named_scheduler(name: str, scheduler: Any) -> Any:
    """A new scheduler of the given name, with the settings of the pipeline's scheduler.

    Args:
        name: One of :data:`SCHEDULERS`; for a flow model, one of :data:`FLOW_SCHEDULERS`. Add ``-karras`` at the end
            for Karras' spacing.
        scheduler: The pipeline's scheduler. It holds the schedule that the model was trained with.

    Raises:
        ValueError: For an unknown name, a scheduler that does not suit this kind of model, or ``-karras`` where the
            scheduler has no such spacing.
    """
    flow, kind, schedulers = False, "a diffusion model", SCHEDULERS
    if type(scheduler).__name__.startswith("CogVideoX"):  # shifts its schedule as no other class of diffusers can
        kind, schedulers = "CogVideoX", _COGVIDEOX
    elif view_of(scheduler) == "flow":
        flow, kind, schedulers = True, "a flow model", FLOW_SCHEDULERS
    short, karras = name.removesuffix(KARRAS), name.endswith(KARRAS)
    if short not in schedulers:
        raise ValueError(f"unknown scheduler {name!r} for {kind}; expected one of {', '.join(schedulers)}")
    class_name, settings = schedulers[short]
    if flow:
        settings = {**settings, **_flow_settings(scheduler, class_name)}
    import diffusers

    made: Any = getattr(diffusers, class_name).from_config(scheduler.config, **settings)
    if not karras:
        return made
    if "use_karras_sigmas" not in made.config or class_name.startswith("FlowMatchHeun"):
        raise ValueError(f"{short} has no Karras spacing; give {short}, or a scheduler with that spacing: dpm++-karras")
    return type(made).from_config(made.config, use_karras_sigmas=True)


def _flow_settings(scheduler: Any, class_name: str) -> dict[str, Any]:
    """The shift of a flow's times, under the name that the new scheduler's class has for it."""
    shift = scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))
    if class_name.startswith("FlowMatch"):
        if class_name == "FlowMatchHeunDiscreteScheduler" and scheduler.config.get("use_dynamic_shifting"):
            raise ValueError("heun cannot shift its times with the picture's size, as this model needs; give euler")
        return {"shift": shift}
    return {"flow_shift": shift, "prediction_type": "flow_prediction"}
