"""Every method without gradients, by name, inside a pipeline of diffusers that knows nothing of it."""

import functools

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.bridge import bridged
from lanpaint.methods import METHODS
from tests.adapters import tiny

RUNS = [name for name, method in METHODS.items() if not method.needs_gradient]
SHORT = {
    "pnpdm": {"iterations": 2, "rho": 1.0},
    "daps": {"ode_steps": 2},
    **{name: {"particles": 2} for name in ("mcgdiff", "fpssmc", "smcdiff")},
}


@functools.cache
def _family(name):
    return tiny.FAMILIES[name]()


# Stable Diffusion has a scheduler that predicts noise. Flux is a flow, which starts without signal.
@pytest.mark.parametrize(
    ("family", "name"),
    [("Stable Diffusion", name) for name in RUNS] + [("Flux", name) for name in RUNS if METHODS[name].lacks],
)
def test_a_method_runs_in_an_unchanged_pipeline_and_known_latents_are_exact(family, name):
    made, kept = _family(family), {}
    before, scheduler = type(made.pipe), made.pipe.scheduler

    def known(latents):
        mask = torch.zeros(latents.shape, dtype=torch.bool)
        mask[..., : latents.shape[-1] // 2] = True
        kept["observation"] = lp.Observation(
            torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)), mask
        )
        return kept["observation"]

    factory = METHODS[name].factory(**SHORT.get(name, {}))
    with bridged(made.pipe, factory, known) as bridge:
        call = {"output_type": "latent", "generator": torch.Generator().manual_seed(0), **made.call}
        latents = made.pipe(num_inference_steps=3, **call)[0]
    observation = kept["observation"]
    assert torch.equal(latents[observation.known], observation.values[observation.known])
    assert bool(torch.isfinite(latents).all())
    assert bridge.evaluations == bridge.planned
    assert (type(made.pipe), made.pipe.scheduler) == (before, scheduler)
