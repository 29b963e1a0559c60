"""``lanpaint models``."""

from __future__ import annotations


def models() -> None:
    """List the families of models that are tested, and what each family supports.

    Bridge: works with `lanpaint inpaint --model` and lanpaint.Inpainter, for every sampler that needs no gradient.
    Network adapter: the function that makes a score of the network, for samplers that need a gradient. Guidance: the
    pipeline's argument for the weight of the prompt (give one other than guidance_scale with --set). Negative: takes a
    --negative-prompt. Known part's: takes a --known-guidance-scale.
    """
    from lanpaint.adapters.families import table, tested_in_words
    from lanpaint.adapters.scheduler_names import FLOW_SCHEDULERS, KARRAS, SCHEDULERS

    print(table())
    print(f"\nschedulers of diffusion models: {', '.join(SCHEDULERS)}; of flow models: {', '.join(FLOW_SCHEDULERS)};")
    print(f"with {KARRAS} at the end of a name for Karras' spacing of the levels")
    print("\nother pipeline classes of diffusers, built small with random weights, of which")
    print(tested_in_words())
    print("\nwhat is not named may run as well: no list decides")
