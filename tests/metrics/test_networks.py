"""LPIPS and FID: against torchmetrics' own LPIPS, the definition of FID, and the layout of the published files."""

import sys
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as reference
from torch import nn

from lanpaint.metrics import networks, perceptual_figures
from tests.metrics import stand_ins


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Random weights where torch.hub keeps the published ones."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    stand_ins.put_weights(tmp_path)
    for network in (networks.lpips_network, networks.inception_network):
        network.cache_clear()
    yield tmp_path
    for network in (networks.lpips_network, networks.inception_network):
        network.cache_clear()


def _pictures(count, side, seed=0, channels=3):
    return 2 * torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def test_lpips_is_that_of_torchmetrics(published, monkeypatch):
    layers, given = [], 3
    for number, made, side, stride, padding in (
        (0, 64, 11, 4, 2),
        (3, 192, 5, 1, 2),
        (6, 384, 3, 1, 1),
        (8, 256, 3, 1, 1),
        (10, 256, 3, 1, 1),
    ):
        layers += [nn.Conv2d(given, made, side, stride, padding), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2)] if number in (0, 3, 10) else []
        given = made
    features = nn.Sequential(*layers)
    state = stand_ins.alexnet()
    features.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda name, pretrained=False: features)
    x, y = _pictures(3, 64), _pictures(3, 64, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(networks.lpips_network()(x, y), reference._LPIPS(net="alex")(x, y).flatten())


def test_fid_is_the_frechet_distance_of_the_features(published):
    x, truth = _pictures(5, 32).mul(0.3), _pictures(5, 32, seed=1)
    figures, line = perceptual_figures(x, truth)
    assert line is None
    assert figures["lpips"].shape == (5,)
    with torch.no_grad():
        one, other = (networks.inception_network()((p + 1) / 2).double() for p in (x, truth))
    cov, other_cov = one.T.cov(), other.T.cov()
    cross = torch.linalg.eigvals(cov @ other_cov).sqrt().real.sum()
    expected = (one.mean(0) - other.mean(0)).square().sum() + cov.trace() + other_cov.trace() - 2 * cross
    assert float(figures["fid"]) == pytest.approx(float(expected), rel=1e-3)
    same, _ = perceptual_figures(truth, truth)
    assert float(same["lpips"].abs().max()) == 0
    assert float(same["fid"]) == pytest.approx(0, abs=1e-3 * float(expected))


def test_grey_pictures_are_taken_as_three_equal_colours_and_small_ones_have_no_figures(published):
    x, truth = _pictures(3, 32, channels=1), _pictures(3, 32, seed=1, channels=1)
    grey, _ = perceptual_figures(x, truth)
    colour, _ = perceptual_figures(x.expand(-1, 3, -1, -1), truth.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey["lpips"], colour["lpips"])
    assert perceptual_figures(_pictures(3, 8), _pictures(3, 8)) == ({}, None)


def test_pictures_are_resized_as_tensorflow_does():
    """Twice as large, a pixel is the mean of its neighbours; the last one repeats (no half-pixel centres)."""
    row = torch.tensor([0.0, 4.0, 8.0]).expand(1, 1, 3, 3)
    assert networks._resized(row, 6)[0, 0, 0].tolist() == [0, 2, 4, 6, 8, 8]
    assert networks._resized(row.mT, 6)[0, 0, :, 0].tolist() == [0, 2, 4, 6, 8, 8]


def test_missing_weights_are_a_line_that_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    networks.lpips_network.cache_clear()
    figures, line = perceptual_figures(_pictures(2, 32), _pictures(2, 32))
    assert figures == {}
    assert line.endswith("alexnet-owt-7be5be79.pth is missing; python -m lanpaint.metrics.networks fetches it")
    assert str(Path(tmp_path)) in line
    assert "torchvision" not in sys.modules
