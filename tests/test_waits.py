"""Nothing inside a level waits for the device, and an inner step takes few operators."""

import itertools
import math
import re
from dataclasses import replace

import pytest
import torch

import lanpaint as lp
from lanpaint.operators import OperatorCount
from lanpaint.samplers.release import release
from tests.pretend import Elsewhere, PretendDevice, ReadyNoise

SHAPE = (2, 3, 4, 5)
DYNAMICS = {
    "Langevin": lp.Langevin,
    "FLD": lp.FastLangevin,
    "FLD, order 1": lambda: lp.FastLangevin(order=1),
    "OU": lambda: lp.FastLangevin(math.inf),
    "OU, order 1": lambda: lp.FastLangevin(math.inf, order=1),
    "HFHR": lp.HFHR,
    "LML": lp.LMLangevin,
    "HFHR, order 1": lambda: lp.HFHR(order=1),
    "BAOAB": lp.Underdamped,
    "OBABO": lambda: lp.Underdamped(scheme="OBABO"),
    "UBU": lambda: lp.Underdamped(scheme="UBU"),
    "secant": lp.SecantLangevin,
    "refresh": lp.PartialRefresh,
    "preconditioned FLD": lambda: lp.Preconditioned(lp.FastLangevin(), 0.5),
    "preconditioned per pixel": lambda: lp.Preconditioned(lp.Langevin(), torch.linspace(0.5, 1.0, SHAPE[-1])),
    "one's own": lambda: Mine(),
}
PRESETS = ("paper", "fast")
KNOWN = ("image", "full", "none")
LEVELS = ("batch", "per sample", "per entry")


class Mine(lp.Dynamics):
    """As in the README."""

    def step(self, state, drift, noise):
        x = state.x
        decay = drift.broadcast(torch.exp(-drift.damping * drift.time_step), x)
        variance = drift.broadcast(1 / drift.damping, x)
        return lp.State(x + (1 - decay) * variance * drift(x) + ((1 - decay**2) * variance).sqrt() * noise(x))


class Network(lp.Score):
    """A network that predicts ε, whose own operators are left out of a count."""

    def __init__(self, view="epsilon"):
        self.view, self.count, self.own = view, None, 0

    def predict(self, x, level):
        before = self.count.total if self.count else 0
        answer = {self.view: 0.3 * x + 0.1}
        self.own += (self.count.total if self.count else 0) - before
        return lp.Prediction(x, level, **answer)


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with PretendDevice():
        yield


def _observation(known, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    values = Elsewhere(_numbers(generator, dtype))
    masks = {"image": SHAPE[-2:], "full": SHAPE, "none": (1, 1, 1, 1)}
    return lp.Observation(values, torch.rand(masks[known], generator=generator) < (0.0 if known == "none" else 0.5))


def _numbers(generator, dtype):
    return torch.randn(SHAPE, generator=generator).to(dtype)


def _level(kind, sigma=0.6):
    shape = {"batch": (), "per sample": (SHAPE[0], 1, 1, 1), "per entry": SHAPE}[kind]
    sigma = torch.linspace(sigma, sigma - 0.2, math.prod(shape), dtype=torch.float64).reshape(shape)
    return lp.NoiseLevel((1 - sigma**2).sqrt(), sigma)


def _run(sampler, observation, levels, steps=4):
    """Operators of every inner step on these levels, without those of the network. None of all may wait."""
    network, noise, x, state, made = sampler.score, ReadyNoise(), observation.values, None, []
    for level in levels:
        with OperatorCount() as entered:
            x = observation.replace_known(x, observation.diffused(level, noise(x)))
            drift = sampler.drift(level, observation)
            dynamics = sampler.dynamics
            state = dynamics.init(x, drift, noise) if state is None else dynamics.warm_start(state, x, drift, noise)
        waits = entered.waits
        for _ in range(steps):
            with OperatorCount() as count:
                network.count, network.own = count, 0
                state = dynamics.step(state, drift, noise)
            network.count = None
            made.append(count.total - network.own)
            waits = waits + count.waits
        x = state.x
        assert not waits, waits
    assert x.numbers.isfinite().all()
    return made


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("make", DYNAMICS.values(), ids=DYNAMICS)
def test_no_operator_of_a_level_waits_for_the_device(make, preset, known, kind):
    sampler = lp.LanPaint(Network(), preset=preset, steps=3, dynamics=make())
    _run(sampler, _observation(known), [_level(kind), _level(kind, 0.5)])


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("view", ["score", "denoised", "flow", "v"])
def test_no_preset_waits_whatever_the_network_predicts(preset, known, kind, view):
    _run(lp.LanPaint(Network(view), preset=preset, steps=3), _observation(known), [_level(kind), _level(kind, 0.5)])


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", LEVELS)
def test_metropolis_does_not_wait(known, kind):
    network = Network()
    network.log_prob = lambda x, level: -0.15 * x.square().flatten(1).sum(1)
    sampler = lp.LangevinPaint(network, steps=3, dynamics=lp.MALA())
    _run(sampler, _observation(known), [_level(kind), _level(kind, 0.5)])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [SHAPE[-2:], SHAPE])
def test_the_release_of_a_soft_observation_does_not_wait(preset, shape):
    generator = torch.Generator().manual_seed(0)
    change = (torch.rand(shape, generator=generator) * 4).round() / 4
    observation = lp.Observation.soft(Elsewhere(_numbers(generator, torch.float32)), change)
    levels = [*(_level("batch", sigma) for sigma in (0.8, 0.7, 0.6, 0.5)), lp.NoiseLevel(1.0, 0.0)]
    sampler, noise = lp.LanPaint(Network(), preset=preset, levels=levels), ReadyNoise()
    state, moved = sampler.begin(observation, noise, None), None
    for visit in sampler.plan.visits(state.step):
        with OperatorCount() as count:
            state, _ = release(replace(state, level=visit.level), visit, sampler.plan, noise)
            state = sampler.enter(state, visit, noise)
            state = sampler.refine(state, visit, noise) if visit.inner_steps else state
            state = state.at("outer", visit.step, 1)
        assert not count.waits, count.waits
        moved = state.observation.draws
    assert moved is not None
    assert state.x.numbers.isfinite().all()


SOLVERS = [lp.DPMSolver(2), lp.DPMSolver(3), lp.DPMSolver(3, "epsilon"), lp.PNDM(), lp.UniPC(2), lp.UniPC(3)]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("changed", [False, True])
def test_the_memory_of_a_multistep_solver_does_not_wait(solver, kind, changed):
    x, noise, network = _observation("none").values, ReadyNoise(), Network("denoised")
    levels, state = [_level(kind, sigma) for sigma in (0.95, 0.9, 0.8, 0.6, 0.5)], solver.init(x, 4)
    for level, next_level in itertools.pairwise(levels):
        with OperatorCount() as count:
            state = replace(state, x=state.x + 0.01) if changed else state
            state = solver.step(state, network, level, next_level, noise)
        assert not count.waits, count.waits
    assert state.x.numbers.isfinite().all()


@pytest.mark.parametrize(("preset", "most"), [("paper", 18), ("fast", 25)])
@pytest.mark.parametrize("known", ["image", "full"])
def test_an_inner_step_takes_few_operators(preset, most, known):
    made = _run(lp.LanPaint(Network(), preset=preset, steps=3), _observation(known), [_level("batch")] * 2, steps=6)
    assert max(made) <= most, made


@pytest.mark.parametrize("generator", ["one", "one per sample"])
def test_numbers_of_a_cpu_generator_are_moved_without_waiting(generator):
    noise = lp.NormalNoise(torch.Generator().manual_seed(0) if generator == "one" else lp.seeded(range(SHAPE[0])))
    values = _observation("none").values
    with OperatorCount() as count:
        drawn = noise(values)
    assert drawn.device.type == "cuda"
    assert not count.waits


class There(torch.Generator):
    """A generator on the device."""

    device = torch.device("cuda")


def test_generators_of_samples_may_be_on_several_devices():
    values = _observation("none").values
    with PretendDevice():
        drawn = lp.NormalNoise([There().manual_seed(0), torch.Generator().manual_seed(1)])(values)
    assert drawn.device.type == "cuda"
    for row, seed in zip(drawn.numbers, (0, 1), strict=True):
        expected = torch.randn(values.shape[1:], generator=torch.Generator().manual_seed(seed))
        assert torch.equal(row, expected)


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        (lambda x: bool((x > 0).all()), "_local_scalar_dense.*reads the device"),
        (lambda x: torch.equal(x, x), "equal.*reads the device"),
        (lambda x: torch.ones(2).to(x), r"copies \(2,\) from cpu to cuda"),
        (lambda x: torch.ones(2).to(x.device, non_blocking=True), r"copies \(2,\) from cpu to cuda"),
        (lambda x: x.cpu(), r"copies \(2, 3, 4, 5\) from cuda to cpu"),
        (lambda x: torch.where(x > 0, torch.tensor(1.0), x), "where.*copies an operand of no dimensions"),
    ],
)
def test_what_waits_is_seen(wait, told):
    x = _observation("none").values
    with OperatorCount() as count:
        wait(x)
    assert len(count.waits) == 1
    assert re.search(told, count.waits[0])


def test_what_does_not_wait_is_not_seen():
    x = _observation("none").values
    with OperatorCount() as count:
        torch.where(x > 0, 1.0, x)
        x * torch.tensor(2.0)
        torch.add(x, x, alpha=3.0)
        torch.ones(2).pin_memory().to(x.device, non_blocking=True)
        torch.zeros(2, device=x.device)
    assert not count.waits
