"""Conditional fields: a score and an observation become the drift of the joint state z = (x, y).

The law to sample at a level is (LanPaint, Eq. 11), for a weight λ > −1,

    q_λ(x, y | y_o) ∝ p(x | y) p(y | y_o)^(1+λ) / p(y)^λ,

which is the exact conditional at σ = 0. Its drift is the model's score on the unknown part and the bidirectional
guided (BiG) score on the known one (LanPaint, Eq. 12), in native coordinates with s the model's joint score

    unknown    s_x
    known      (1+λ) (α y_o − y)/σ² − λ s_y

Damping and time scale, with a the expected noise (LanPaint, Eq. 121, 122, Alg. 4):

    unknown    A = 1/(σ² + α² a)        time σ² + α² a
    known      A = (1+λ)/σ²             time σ²                 a step of η: A dτ = (1+λ) η here, η above

For an observation with noise s the known part has v = σ² + α² s² in place of σ², the variance of p(y | y_o). Entries
with σ = 0 are clean: no force acts on them, and no time passes for them.

All of this depends on the level alone but for the state x and the model's answer, in which the field is affine:

    field = constant + position · x + score · s,            or epsilon · ε̂ instead of score · s

:class:`FieldTerms` holds the four factors. They are made once for a level, and the field then takes two operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms, coefficients
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.score import Score, as_score


@dataclass(frozen=True)
class FieldTerms:
    """The factors of the BiG field at one level: constant + position · x + score · s.

    Attributes:
        constant: (1+λ) α y_o/v on the known part, 0 on the unknown one, shape of the state.
        position: −(1+λ)/v on the known part, 0 on the unknown one.
        score: −λ on the known part, 1 on the unknown one.
        epsilon: −score/σ, by which ε̂ is multiplied where the model gives ε̂ and no score.
    """

    constant: Tensor
    position: Coefficient
    score: Coefficient
    epsilon: Coefficient


class BiG:
    """Bidirectional guided score (LanPaint, Eq. 12).

    Args:
        score: The model.
        observation: What is known.
        lam: λ ≥ −1. At −1 the field is the unconditional score, at 0 the decoupled one. Above 0 the known part answers
            to the unknown one. The paper calls λ a guidance scale; it is no weight of classifier-free guidance.
        expected_noise: a ≥ 0: variance of one clean entry given all others, in units of the data squared; 0 for
            images, 1 for unit Gaussians (LanPaint, Eq. 121, where it is called α). The steps grow with it. Where σ² is
            far below a, errors of x̂₀ (of float32, of a network) enter the state enlarged by a/σ².

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
        if not (math.isfinite(lam) and lam >= -1):
            raise ValueError(f"lam (λ) must be a number of at least −1, got {lam}")
        if not (math.isfinite(expected_noise) and expected_noise >= 0):
            raise ValueError(f"expected_noise (a) must be a number of at least 0, got {expected_noise}")
        self.score, self.observation = as_score(score), observation
        self.lam, self.expected_noise = lam, expected_noise
        self._last: tuple[NoiseLevel, Tensor] | None = None

    def terms(self, level: NoiseLevel, x: Tensor) -> FieldTerms | None:
        """The factors of the field at ``level``, for states shaped as x; None where the field is the model's score."""
        if self.lam == -1 or self.observation.is_empty:
            return None
        inverse = reciprocal(self.observation.variance(level))
        pull = (1 + self.lam) * inverse
        weight = torch.stack([torch.ones_like(pull), torch.full_like(pull, -self.lam)])
        position = torch.stack([torch.zeros_like(pull), -pull])
        compacts = position, weight, weight * level.score_of_epsilon
        constant = cast_like(level.alpha * pull, x) * self.observation.values.to(x)
        return FieldTerms(constant, *coefficients(compacts, self.observation.known, x))

    def combine(self, prediction: Prediction, terms: FieldTerms | None) -> Tensor:
        """The field at an evaluated state, with the :meth:`terms` of its level: shape of x, in units of 1/x."""
        if terms is None:
            return prediction.score
        if not self.lam:  # the known part does not look at the model's score, which may be infinite there
            return self.observation.replace_known(
                prediction.score, add_terms(terms.constant, (terms.position, prediction.x))
            )
        answer, is_score = prediction.score_or_epsilon
        weight = terms.score if is_score else terms.epsilon
        return add_terms(terms.constant, (terms.position, prediction.x), (weight, answer))

    def __call__(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The field at x and ``level``, one evaluation of the score."""
        return self.combine(self.score.predict(x, level), self.terms(level, x))

    def damping(self, level: NoiseLevel) -> Tensor:
        """A of the unknown and the known part, shape ``(2, *level)``: LanPaint, Eq. 121 and 122."""
        unknown, known = self._variances(level)
        if self.lam == -1:  # the unconditional score everywhere, so the known part has the damping of the unknown one
            return torch.stack([1 / unknown, 1 / unknown])
        return torch.stack([1 / unknown, (1 + self.lam) / known])

    def time_scale(self, level: NoiseLevel) -> Tensor:
        """dτ/η of the unknown and the known part, shape ``(2, *level)``: LanPaint, Alg. 4."""
        return torch.where(level.sigma > 0, self._variances(level), 0.0)

    def _variances(self, level: NoiseLevel) -> Tensor:
        """Variances of the unknown and the known part; 1 where σ = 0, so that the damping is finite."""
        if self._last is None or self._last[0] is not level:  # time scale and damping of a level ask for the same
            unknown = level.sigma**2
            if self.expected_noise:
                unknown = unknown + level.alpha**2 * self.expected_noise
            variances = torch.stack([unknown, self.observation.variance(level)])
            self._last = level, torch.where(level.sigma > 0, variances, 1.0)
        return self._last[1]

    def drift(self, level: NoiseLevel, time_step: Tensor) -> FieldDrift:
        """The drift at ``level`` with the compact time dτ of a step, shape ``(2, *level)``."""
        return FieldDrift(self, level, time_step)


class Decoupled(BiG):
    """Decoupled approximation p(x | y) p(y | y_o) (LanPaint, Eq. 7): BiG with λ = 0.

    Args:
        score: The model.
        observation: What is known.
        expected_noise: a, as in :class:`BiG`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        observation: Observation,
        expected_noise: float = 0.0,
    ) -> None:
        super().__init__(score, observation, lam=0.0, expected_noise=expected_noise)


class FieldDrift(Drift):
    """A conditional field held at one level, its coefficients computed once. One region where nothing is known.

    Args:
        field: The field.
        level: The level.
        time_step: dτ of the unknown and the known part, shape ``(2, *level)``.

    Attributes:
        level: The level.
    """

    def __init__(self, field: BiG, level: NoiseLevel, time_step: Tensor) -> None:
        damping, observation = field.damping(level), field.observation
        if observation.is_empty:
            super().__init__(lambda x: field(x, level), damping[0], time_step[0])
        else:
            super().__init__(lambda x: field(x, level), damping, time_step, observation.known)
        self.field, self.level = field, level
        self._terms, self._dtype = field.terms(level, observation.values), observation.values.dtype
        log_prob = getattr(field.score, "log_prob", None)
        if log_prob is not None and (  # where BiG moves the known part, the field is no gradient
            observation.is_empty or field.lam == -1 or not bool(time_step[1].any())
        ):
            self.log_density = lambda x: log_prob(x, level)

    def __call__(self, x: Tensor) -> Tensor:
        """The field at x, one evaluation of the score, which is kept as ``prediction``."""
        self.prediction = None  # the one before need not live as long as this one takes
        self.prediction = self.field.score.predict(x, self.level)
        if x.dtype != self._dtype:
            self._terms, self._dtype = self.field.terms(self.level, x), x.dtype
        return self.field.combine(self.prediction, self._terms)
