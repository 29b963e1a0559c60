"""Conditional fields: a score and an observation become the drift of the joint state z = (x, y).

x is the unknown part and y the known part. At a level the distribution to sample is (LanPaint, Eq. 11), for a weight
λ > −1,

    q_λ(x, y | y_o) ∝ p(x | y) p(y | y_o)^(1+λ) / p(y)^λ,

which is the exact conditional at σ = 0. Its drift is the model's score on the unknown part, and the bidirectional
guided (BiG) score on the known part (LanPaint, Eq. 12). In native coordinates, with s the model's joint score:

    unknown    s_x
    known      (1+λ) (α y_o − y)/σ² − λ s_y

The damping A and the time step dτ for a step size η are, with a the expected noise (LanPaint, Eq. 121, 122, Alg. 4):

    unknown    A = 1/(σ² + α² a)        dτ = η (σ² + α² a)      A dτ = η
    known      A = (1+λ)/σ²             dτ = η σ²               A dτ = (1+λ) η

For an observation with noise of standard deviation s_o, the known part has v = σ² + α² s_o², the variance of
p(y | y_o), in place of σ². Entries with σ = 0 are clean: no force acts on them, and no time passes for them.

Where a soft observation has released an entry that was drawn as x_c at its level, the target is p(x, y | x_c) in place
of p(x, y): such an entry has a region with the known part, with r and v of :mod:`lanpaint.observation`:

    released   s_x + r (x_c − r x)/v                     A = 1/(σ² + α² a) + r²/v             A dτ = η

At the level of the draw it does not move.

The field is affine in the state x and the model's answer. All other factors depend on the level alone:

    field = constant + position · x + score · s,            or epsilon · ε̂ instead of score · s

:class:`FieldTerms` holds the four factors. They are computed once for a level. The field then takes two operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.device import move_like
from lanpaint.drift import Coefficient, Drift, add_terms, coefficients
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Draws, Observation
from lanpaint.score import Score, as_score


@dataclass(frozen=True)
class FieldTerms:
    """The factors of the BiG field at one level: constant + position · x + score · s.

    Attributes:
        constant: (1+λ) α y_o/v on the known part, 0 on the unknown part; shape of the state, in units of 1/x.
        position: −(1+λ)/v on the known part, 0 on the unknown part.
        score: −λ on the known part, 1 on the unknown part.
        epsilon: −score/σ, the factor of ε̂ for a model that gives ε̂ and no score.
    """

    constant: Tensor
    position: Coefficient
    score: Coefficient
    epsilon: Coefficient


class BiG:
    """Bidirectional guided score (LanPaint, Eq. 12), as a field that can be evaluated at any level.

    Args:
        score: The model: a :class:`~lanpaint.score.Score` or a function ``score(x, level)``.
        observation: The known part.
        lam: λ ≥ −1. At −1 the field is the unconditional score, at 0 the decoupled score (Eq. 7). Above 0 the known
            part responds to the unknown part. The paper calls λ a guidance scale, but λ has nothing to do with
            classifier-free guidance.
        expected_noise: a ≥ 0: variance of one clean entry given all other entries, in units of the data squared; 0 for
            images, 1 for unit Gaussians (LanPaint, Eq. 121, where it is called α). The time steps grow with a. Where σ²
            is far below a, errors of x̂₀ (of float32, of a network) enter the state enlarged by a/σ².

    Raises:
        ValueError: For λ < −1 or a < 0.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        observation: Observation,
        lam: float = 8.0,
        expected_noise: float = 0.0,
    ) -> None:
        check_real("lam (λ)", lam)
        check_real("expected_noise (a)", expected_noise)
        if not (math.isfinite(lam) and lam >= -1):
            raise ValueError(f"lam (λ) must be a number of at least −1, got {lam}")
        if not (math.isfinite(expected_noise) and expected_noise >= 0):
            raise ValueError(f"expected_noise (a) must be a number of at least 0, got {expected_noise}")
        self.score, self.observation = as_score(score), observation
        self.lam, self.expected_noise = lam, expected_noise
        self._last: tuple[NoiseLevel, Tensor] | None = None

    def terms(self, level: NoiseLevel, x: Tensor) -> FieldTerms | None:
        """The factors of the field at ``level``, for states of the shape of x; None if the field is the model's score.

        It is the model's score for λ = −1, and where nothing is known.
        """
        observation, draws = self.observation, self._draws
        if self.lam == -1 or (observation.is_empty and draws is None):
            return None
        inverse = reciprocal(observation.variance(level))
        pull = (1 + self.lam) * inverse
        constant = cast_like(level.alpha * pull, x) * observation.values.to(x)
        weight, position = torch.full_like(pull, -self.lam), -pull
        if draws is not None:
            of_draw, of_x = (torch.nan_to_num(each, posinf=0.0) for each in draws.pulls(level))
            weight, position = torch.where(draws.entries, 1.0, weight), torch.where(draws.entries, -of_x, position)
            constant = constant + cast_like(of_draw, x) * draws.at.to(x)
        weight = torch.stack([torch.ones_like(weight), weight])
        position = torch.stack([torch.zeros_like(position), position])
        compacts = position, weight, weight * level.score_of_epsilon
        return FieldTerms(constant, *coefficients(compacts, self.regions, x))

    @property
    def regions(self) -> Tensor | None:
        """The entries of the second region, known or released, boolean; None where all entries are in the first."""
        observation, draws = self.observation, self._draws
        if draws is None:
            return None if observation.is_empty else observation.known
        return observation.known | move_like(draws.entries, observation.known)

    @property
    def _draws(self) -> Draws | None:
        return None if self.lam == -1 else self.observation.draws

    def combine(self, prediction: Prediction, terms: FieldTerms | None) -> Tensor:
        """The field at the state of a prediction, shape of x, in units of 1/x. It takes no evaluation.

        Args:
            prediction: The model's prediction at x.
            terms: What :meth:`terms` returned for the level of the prediction.
        """
        if terms is None:
            return prediction.score
        if not self.lam:  # the model's score, which may be infinite on the known part, must not be multiplied by 0
            pulled = add_terms(terms.constant, (terms.position, prediction.x))
            free = prediction.score if self._draws is None else prediction.score + pulled
            return self.observation.replace_known(free, pulled)
        answer, is_score = prediction.score_or_epsilon
        weight = terms.score if is_score else terms.epsilon
        return add_terms(terms.constant, (terms.position, prediction.x), (weight, answer))

    def __call__(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The field at x and ``level``, shape of x, in units of 1/x. It takes one evaluation of the score."""
        return self.combine(self.score.predict(x, level), self.terms(level, x))

    def damping(self, level: NoiseLevel) -> Tensor:
        """A of the two regions (LanPaint, Eq. 121, 122), shape ``(2, *level)``, in units of 1/x².

        If a soft observation has released entries, it has the shape of what may change in place of the level's.
        """
        unknown, known = self._variances(level)
        if self.lam == -1:  # the field is the unconditional score, so both parts have the damping of the unknown part
            return torch.stack([1 / unknown, 1 / unknown])
        stiff = (1 + self.lam) / known
        if self._draws is not None:
            stiff = torch.where(self._draws.entries, 1 / known, stiff)
        return torch.stack([1 / unknown, stiff])

    def time_scale(self, level: NoiseLevel) -> Tensor:
        """dτ/η of the two regions (LanPaint, Alg. 4), shape of :meth:`damping`, in units of x²."""
        scale = torch.where(level.sigma > 0, self._variances(level), 0.0)
        return scale if self._draws is None else torch.stack([scale[0], scale[1] * self.freedom(level)])

    def freedom(self, level: NoiseLevel) -> Tensor:
        """0 at entries that were drawn at this very level, which do not move; 1 at all others."""
        if self._draws is None:
            return torch.ones(())
        return torch.where(torch.isinf(self._draws.pulls(level)[1]), 0.0, 1.0)

    def _variances(self, level: NoiseLevel) -> Tensor:
        """Variances of the two regions; 1 where σ = 0, so that the damping is finite."""
        if self._last is None or self._last[0] is not level:  # damping() and time_scale() share the variances
            unknown, known = level.sigma**2, self.observation.variance(level)
            if self.expected_noise:
                unknown = unknown + level.alpha**2 * self.expected_noise
            if self._draws is not None:
                pull = torch.nan_to_num(self._draws.pulls(level)[1], posinf=0.0)
                known = torch.where(self._draws.entries, 1 / (1 / unknown + pull), known)
            variances = torch.stack(torch.broadcast_tensors(unknown, known))
            self._last = level, torch.where(level.sigma > 0, variances, 1.0)
        return self._last[1]

    def drift(self, level: NoiseLevel, time_step: Tensor) -> FieldDrift:
        """The field as a drift at ``level``, with the time step dτ of both parts, shape ``(2, *level)``."""
        return FieldDrift(self, level, time_step)


class Decoupled(BiG):
    """The field of the decoupled approximation p(x | y) p(y | y_o) (LanPaint, Eq. 7): :class:`BiG` with λ = 0.

    Args:
        score: The model.
        observation: The known part.
        expected_noise: a ≥ 0, as in :class:`BiG`.

    Raises:
        ValueError: For a < 0.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        observation: Observation,
        expected_noise: float = 0.0,
    ) -> None:
        super().__init__(score, observation, lam=0.0, expected_noise=expected_noise)


class FieldDrift(Drift):
    """The drift of a conditional field at one fixed level. The factors of the field are computed once.

    If nothing is known or released, the drift has one region, else an unknown and a known region.

    Args:
        field: The field.
        level: The noise level.
        time_step: dτ of the two regions, shape of the field's damping, in units of x².

    Attributes:
        field: The field.
        level: The noise level.
    """

    def __init__(self, field: BiG, level: NoiseLevel, time_step: Tensor) -> None:
        damping, observation, regions = field.damping(level), field.observation, field.regions
        if regions is None:
            super().__init__(lambda x: field(x, level), damping[0], time_step[0])
        else:
            super().__init__(lambda x: field(x, level), damping, time_step, regions)
        self.field, self.level = field, level
        self._terms, self._dtype = field.terms(level, observation.values), observation.values.dtype
        log_prob = getattr(field.score, "log_prob", None)
        moves_known = not (observation.is_empty or field.lam == -1) and bool(time_step[1].any())
        # If BiG moves the known part, the field is not the gradient of a density.
        if log_prob is not None and observation.draws is None and not moves_known:
            self.log_density = lambda x: log_prob(x, level)

    def __call__(self, x: Tensor) -> Tensor:
        """The field at x, shape of x. It takes one evaluation of the score, which is kept as ``prediction``."""
        self.prediction = None  # frees the memory of the last prediction before the evaluation
        self.prediction = self.field.score.predict(x, self.level)
        if x.dtype != self._dtype:
            self._terms, self._dtype = self.field.terms(self.level, x), x.dtype
        return self.field.combine(self.prediction, self._terms)
