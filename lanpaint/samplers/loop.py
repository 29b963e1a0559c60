"""The loop of every sampler: Algorithm 4 of LanPaint, with each part a method that a sampler may override.

    begin                                                   x at the first level, or where something is released first
    for each visit of the plan:
        release what a soft observation holds no longer
        enter the level                                     known entries diffused to it (Eq. 8)
        refine, as often as the plan says                   inner steps: Langevin dynamics on the joint state
        advance to the next level                           outer step: the solver
    finish                                                  known entries set to the observation

The five verbs are methods of a :class:`~lanpaint.Sampler`, functions of one immutable
:class:`~lanpaint.SamplerState`. The loop calls them in the order of the plan, calls the callbacks, and stops.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from lanpaint.callbacks import FiniteCheck, RunningSampler, Stop, call_hooks
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.release import release
from lanpaint.score import Score


class Method(RunningSampler, Protocol):
    """What the loop needs of a sampler. :class:`~lanpaint.Sampler` documents each method."""

    @property
    def score(self) -> Score: ...  # noqa: D102

    def children(self) -> Iterator[nn.Module]: ...  # noqa: D102

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState: ...  # noqa: D102

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState: ...  # noqa: D102

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState: ...  # noqa: D102

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState: ...  # noqa: D102


def run(sampler: Method, state: SamplerState, noise: NoiseSource) -> Generator[SamplerState, None, Tensor]:
    """Run a sampler from its first state: yield the state after each step, and return the samples, shape (B, …).

    If a callback asks to stop the run, the samples are x̂₀, which takes one more evaluation.
    """
    state = _state(sampler, "begin", state)
    plan, visits = sampler.plan, list(sampler.plan.visits(state.step))
    for score in dict.fromkeys((sampler.score, *(part for part in sampler.children() if isinstance(part, Score)))):
        score.reset()
    try:
        stop = call_hooks(sampler, "on_run_start", state)
        for visit in visits:
            if stop is Stop.RUN:
                break
            state, waiting = release(state, visit, plan, noise)
            state = _state(sampler, "enter", sampler.enter(state, visit, noise)).at("start", visit.step, 0)
            held = None if waiting is None else (waiting, state.x)
            stop = call_hooks(sampler, "on_level_start", state)
            yield state
            for inner in range(visit.inner_steps):
                if stop is None:
                    state = state.at("inner", visit.step, inner)
                    stop = call_hooks(sampler, "on_inner_start", state)
                if stop is not None:
                    break
                state = state.without_prediction()
                state = _state(sampler, "refine", sampler.refine(state, visit, noise))
                state = state.at("inner", visit.step, inner + 1)
                state = _stayed(state, held)
                stop = call_hooks(sampler, "on_inner_end", state)
                yield state
            if stop is Stop.RUN:
                break
            state = state.without_prediction()
            inner = state.inner
            state = _state(sampler, "advance", sampler.advance(state, visit, noise))  # no second name keeps it alive
            state = state.at("outer", visit.step, inner)
            state = _stayed(state, held)
            if visit is visits[-1]:
                state = _state(sampler, "finish", sampler.finish(state, noise))
            stop = call_hooks(sampler, "on_level_end", state)
            yield state
        else:
            stop = None
        if stop is Stop.RUN:  # return the model's best guess of the clean data
            prediction = sampler.score.predict(state.x, state.level)
            state = replace(state, x=prediction.denoised, prediction=prediction, level=plan.levels[-1], kind="outer")
            state = sampler.finish(state, noise)
            FiniteCheck().check(sampler, state)
            yield state
    except BaseException:
        try:
            call_hooks(sampler, "on_run_end", state)
        except Exception as second:  # the first error is the one to report
            warnings.warn(f"on_run_end failed as well: {second}", stacklevel=2)
        raise
    call_hooks(sampler, "on_run_end", state)
    return state.x


def _state(sampler: Method, name: str, made: SamplerState) -> SamplerState:
    """What a function of a sampler returned. Raises TypeError for anything but a state."""
    if not isinstance(made, SamplerState):
        raise TypeError(f"{type(sampler).__name__}.{name} must return a SamplerState, got {type(made).__name__}")
    return made


def _stayed(state: SamplerState, held: tuple[Tensor, Tensor] | None) -> SamplerState:
    """The state with the entries that wait where they were; ``held`` are these entries, and the state at that time."""
    return state if held is None else replace(state, x=torch.where(*held, state.x))
