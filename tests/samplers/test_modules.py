"""Samplers are modules: what holds one sees the network inside, moves it, and saves it."""

import copy
import pickle

import lightning
import pytest
import torch

import lanpaint as lp
from lanpaint_toys import Gaussian


def _network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Conv2d(1, 1, 3, padding=1)


class Model(torch.nn.Module):
    """A network of (x, time)."""

    def __init__(self):
        super().__init__()
        self.conv = _network()

    def forward(self, x, time):
        return self.conv(x)


def _sampler(**options):
    return lp.LanPaint(lp.NetworkScore(Model(), "epsilon", lp.VP.linear()), steps=2, inner_steps=1, **options)


class Painting(lightning.LightningModule):
    """As a user writes it: the sampler is an attribute, and predict_step calls it."""

    def __init__(self):
        super().__init__()
        self.paint = _sampler()
        self.devices = []

    def predict_step(self, batch, index):
        known = torch.zeros(batch.shape, dtype=torch.bool, device=batch.device)
        known[..., :2] = True
        self.devices.append(next(self.paint.parameters()).dtype)
        return self.paint(lp.Observation(batch, known), generator=lp.seeded(range(len(batch))))


def test_parameters_and_state_are_those_of_the_network():
    sampler = _sampler()
    assert [name for name, _ in sampler.named_parameters()] == [
        "score.network.conv.weight",
        "score.network.conv.bias",
    ]
    other = _sampler()
    torch.nn.init.zeros_(other.score.network.conv.weight)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.score.network.conv.weight, sampler.score.network.conv.weight)


def test_a_sampler_that_is_cast_runs_in_that_dtype_and_keeps_its_state_in_float32():
    sampler = _sampler().to(torch.bfloat16)
    assert sampler.score.network.conv.weight.dtype == torch.bfloat16
    x = sampler((2, 1, 4, 4), generator=lp.seeded([0, 1]))
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_trainer_sees_and_casts_the_network_of_a_module_that_holds_a_sampler(precision, tmp_path):
    module = Painting()
    assert sum(p.numel() for p in module.parameters()) == 10
    trainer = lightning.Trainer(
        precision=precision, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    batches = torch.utils.data.DataLoader(torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)), 2)
    first, _second = trainer.predict(module, batches)
    assert module.devices == [{"32": torch.float32, "64": torch.float64, "bf": torch.bfloat16}[precision[:2]]] * 2
    assert first.shape == (2, 1, 4, 4)
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("make", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copy_of_a_sampler_gives_the_same_samples(make):
    sampler = lp.LanPaint(Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]]), steps=3, inner_steps=2)
    one, other = (s((5, 2), generator=torch.Generator().manual_seed(0)) for s in (sampler, make(sampler)))
    assert torch.equal(one, other)
