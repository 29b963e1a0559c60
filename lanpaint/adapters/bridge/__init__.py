"""A sampler inside a diffusers pipeline that was not written for one.

A pipeline owns its loop: text encoding, guidance, ControlNet, LoRA and offloading all happen between two calls of
``scheduler.step(model_output, time, latents)``. So the loop is not rebuilt but turned inside out. For the length of a
call a stand-in takes the place of the pipeline's scheduler. It shows the pipeline a list of times, one for each
evaluation of the score that the sampler's plan declares:

    the pipeline                                      the sampler, in a greenlet of its own
    latents = prepare_latents(…)            ─────→    start; runs until it wants to know the score at some x
    for time in scheduler.timesteps:                  …
        output = network(latents, time)               (waits)
        latents = scheduler.step(output, …) ─────→    goes on with the score; runs until the next x, or to its end
    decode(latents)                                   x is the sample

The sampler is plain, synchronous code that knows nothing of this. Its outer step is that of the pipeline's own
scheduler, given the pipeline's own model output and random numbers.

    conversation    two sides that take turns: one asks, the other answers
    run             one call of the pipeline: the sampler, what it asks for, and at which times
    solver          the pipeline's scheduler as the outer step
    stand_in        what the pipeline holds in place of its scheduler
    bridge          a pipeline in the time of a ``with`` block: its arguments, its callbacks, its turn among threads
    folding         latents that a pipeline steps in another form than it prepares them
    noise           random numbers that follow from those of the pipeline, and take none of them
"""

from lanpaint.adapters.bridge.bridge import Bridge, bridged
from lanpaint.adapters.bridge.noise import apart_from
from lanpaint.adapters.bridge.run import KnownPart, PipelineScore, SamplerFactory

__all__ = ["Bridge", "KnownPart", "PipelineScore", "SamplerFactory", "apart_from", "bridged"]
