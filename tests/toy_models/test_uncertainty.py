"""The error head: on a network whose errors are known, it predicts their mean square."""

import torch

import lanpaint as lp
from lanpaint_toys.uncertainty import ErrorHead, collect, fit_head


class HalfWrong(lp.Score):
    """Knows pictures of zeros exactly in the left half, and answers with noise of deviation 0.5 t in the right half."""

    def predict(self, x, level):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(len(x)))
        noise[..., : x.shape[-1] // 2] = 0.01 * noise[..., : x.shape[-1] // 2]
        return lp.Prediction(x, level, denoised=0.5 * level.sigma.to(x) * noise)


def test_a_head_predicts_the_mean_squared_error_of_each_pixel():
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(256, 1, 8, 8)
    times = torch.rand(256, 1, 1, 1, generator=generator).clamp(min=0.1).expand(256, 1, 8, 8)
    data = collect(HalfWrong(), clean, times, torch.randn(clean.shape, generator=generator))
    assert data[3].shape == (256, 1, 8, 8)
    assert abs(float(data[3][..., 4:].mean()) - 0.25) < 0.02
    torch.manual_seed(0)
    head = ErrorHead(1, width=8)
    fit_head(head, data, steps=150)
    predicted = head.log_error(*data[:3]).detach().exp()
    assert 0.18 < float(predicted[..., 5:7].mean()) < 0.35
    assert float(predicted[..., 1:3].mean()) < 0.05
