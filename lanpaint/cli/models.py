"""``lanpaint models``."""

from __future__ import annotations


def models() -> None:
    """List the families of models that are tested, and what each supports.

    Bridge: `lanpaint inpaint --model` and lanpaint.Inpainter, with every sampler that takes no gradient. Network
    adapter: the function that makes a score of the network, for samplers that do. Guidance: the argument that weighs
    the prompt (others than guidance_scale by --set). Negative: takes a --negative-prompt. Known part's: takes a
    --known-guidance-scale.
    """
    from lanpaint.adapters.families import table
    from lanpaint.adapters.scheduler_names import FLOW_SCHEDULERS, KARRAS, SCHEDULERS

    print(table())
    print(f"\nschedulers of diffusion models: {', '.join(SCHEDULERS)}; of flow models: {', '.join(FLOW_SCHEDULERS)};")
    print(f"with {KARRAS} at the end of a name for Karras' spacing of the levels")
    print("\nevery other pipeline of diffusers that samples by its scheduler may run as well; these are tested")
