"""SyncSDE as the ALM paper states it (ALM, arXiv:2606.31323, Eq. 2 to 4; after Lee et al., CVPR 2025).

A partner trajectory X_t of the known content pulls the known part of Y_t, and nothing else is done:

    Y_{t−1} = DDIM(Y_t) + w₁ (1 − M)(X_t − Y_t)                    M is 1 where unknown; in variance-preserving units

The method is a heuristic: the unknown part learns of the known content only through Y_t. It takes one evaluation per
outer step, and S more before the first step if X_t is made by DDIM inversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.partner import Partner, PartnerMemory, check_weight, content, invert
from lanpaint.samplers.pull import Coordinates, Precision, Pulled, decay, gain, norm
from lanpaint.samplers.sampler import Sampler
from lanpaint.score import Score


class SyncSDE(Sampler):
    """SyncSDE for inpainting (ALM, Eq. 2 to 4).

    Args:
        score: The model, as in :class:`Sampler`.
        w1: w₁ ≥ 0, the weight of the pull; 1 in the ALM paper.
        pull_decay: Whether w₁ decays with the noise here too (ALM, Eq. 12 or 27), as printed.
        partner: How X_t is made: ``"inversion"``, DDIM inversion of the known content with 0 at unknown entries, as in
            the paper; or forward diffusion with ``"fixed"`` noise for all levels, or with ``"fresh"`` noise at each.
        pull_next: Whether X_{t−1} pulls in place of X_t.
        precision: The variance of Eq. 4, see :mod:`lanpaint.samplers.pull`: ``"eq4"``, ``"constant"`` or ``"eq28"``.
        coordinates: Whether the decay, and the units of the updates, are those of ``"diffusion"`` or ``"flow"``;
            ``"auto"`` follows the schedule of the model, or the pipeline.
        **options: Options of :class:`Sampler`.

    Raises:
        ValueError: For w₁ < 0, an unknown name, and as :class:`Sampler`; at a call, for a soft observation with
            inversion, which would need X_t from the first level on.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        w1: float = 1.0,
        pull_decay: bool = True,
        partner: Partner = "inversion",
        pull_next: bool = False,
        precision: Precision = "eq4",
        coordinates: Coordinates = "auto",
        **options: Any,
    ) -> None:
        names = {"partner": (partner, Partner), "precision": (precision, Precision)}
        for name, (value, kind) in {**names, "coordinates": (coordinates, Coordinates)}.items():
            if value not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        check_weight("w1 (w₁)", w1)
        super().__init__(score, **options)
        self.w1, self.pull_decay, self.partner = float(w1), pull_decay, partner
        self.pull_next, self.precision = pull_next, precision
        self.flow = self.score.is_flow if coordinates == "auto" else coordinates == "flow"
        first, *others = self.plan.outer_evaluations or ()
        inversion = self.steps if partner == "inversion" else 0
        self.plan = replace(self.plan, outer_evaluations=(first + inversion, *others))

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do when the state diverges, for the error message."""
        return f"lower w1 (w₁, now {self.w1:g}) or take precision='eq4': the pull overshoots; or check the model"

    def remember(self, x: Tensor) -> PartnerMemory:
        """The memory at the start of a run, or after time travel."""
        return PartnerMemory(super().remember(x).solver)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state with X_t at the level of the visit. At the first visit it makes the inversion."""
        ahead = state.memory.ahead if state.level is visit.level else None
        state = super().enter(state, visit, noise)
        memory, known = state.memory, state.observation
        if self.partner == "inversion" and not memory.inverted:
            if known.whole.change is not None:
                raise ValueError('partner="inversion" takes no soft observation; use partner="fixed" or "fresh"')
            memory = replace(memory, inverted=invert(self.score, known.values, self.levels))
        if self.partner == "fixed" and memory.fixed is None:
            memory = replace(memory, fixed=noise(state.x))
        here = content(memory, known, visit.level, visit.step, noise) if ahead is None else ahead
        return replace(state, memory=replace(memory, partner=here, ahead=None, reused=None))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step of the solver with the pulled score (ALM, Eq. 2)."""
        memory, known, level, next_level = state.memory, state.observation, visit.level, visit.next_level
        target = memory.partner
        if self.pull_next:
            ahead = content(memory, known, next_level, visit.step + 1, noise)
            state = replace(state, memory=replace(memory, ahead=ahead))
            target = cast_like(norm(level, self.flow) / norm(next_level, self.flow), ahead) * ahead
        weight = self.w1 * decay(level, next_level, self.flow) if self.pull_decay else self.w1
        move = gain(self.precision, weight, level, next_level, self.flow)
        score = Pulled(self.outer_score(state), known, target, move)
        begun = replace(memory.solver, x=state.x)
        return self.advanced(state, self.solver.step(begun, score, level, next_level, noise), visit)

    def outer_score(self, state: SamplerState) -> Score:
        """The score of the outer step, without the pull."""
        return self.score
