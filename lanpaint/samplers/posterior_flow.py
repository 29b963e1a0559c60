"""The probability flow of the posterior of a noisy observation.

Below the level σ = α s, the measurement y_o is a diffusion of y_t (:mod:`lanpaint.observation`). So the reverse
diffusion from that level on is the unconditional one: its drift has the model's score s_θ, whatever was measured. Its
distributions p(z_t | y_o) have the score s_θ + h, where h = (α y_o − y)/(α² s² − σ²) on the known part. The flow
without noise that has these distributions follows from the reverse drift f − g² s_θ and from that score:

    dz = (f − g² s_θ + ½ g² (s_θ + h)) dt = (f − ½ g² (s_θ − h)) dt

So it is the model's own probability flow, with s_θ − h in place of s_θ on the known part.
"""

from __future__ import annotations

import torch

from lanpaint.noise import Prediction, cast_like
from lanpaint.observation import Observation
from lanpaint.score import Score, ScoreWrapper


class PosteriorFlow(ScoreWrapper):
    """The score that an outer step follows below the noise of a measurement.

    Args:
        score: The model.
        observation: An observation with draws, below the noise of its measurement.
    """

    def __init__(self, score: Score, observation: Observation) -> None:
        super().__init__(score)
        assert observation.draws is not None
        self.draws = observation.draws

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The prediction with the score s_θ − h."""
        x, level = prediction.x, prediction.level
        of_draw, of_x = (torch.nan_to_num(each, posinf=0.0) for each in self.draws.pulls(level))
        pull = cast_like(of_draw, x) * self.draws.at.to(x) - cast_like(of_x, x) * x
        return Prediction(x, level, score=prediction.score - pull)
