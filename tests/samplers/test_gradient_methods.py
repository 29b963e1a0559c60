"""DPS, MCG and CoPaint: their gradients against finite differences and closed forms, and what all of them share."""

import functools
import itertools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.samplers import DDRM, DPS, MCG, MGDM, MGPS, MMPS, TMPD, CoPaint, FlowDPS, PiGDM, RePaint, TwistedSMC
from lanpaint.samplers.gradients import checkpointed, differentiate, networks, square_error
from lanpaint_toys import Gaussian, GaussianMixture
from lanpaint_toys.digits import FOLDER, load_digits
from tests.samplers.affine import DOUBLE, denoiser

MIXTURE = GaussianMixture(
    [[0.0, 1.0, -1.0], [1.0, -1.0, 0.5]],
    [[[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.8]], [[0.4, 0.0, -0.1], [0.0, 0.6, 0.2], [-0.1, 0.2, 0.9]]],
    [0.4, 0.6],
)
KNOWN = torch.tensor([False, True, True])
LEVELS = [lp.NoiseLevel(0.6, 0.8), lp.NoiseLevel(0.96, 0.28), lp.NoiseLevel(1.0, 0.0)]
GRADIENT = {
    **{"dps": DPS, "mcg": MCG, "copaint": CoPaint, "smc": lambda s, **o: TwistedSMC(s, particles=3, **o)},
    **{"pigdm": PiGDM, "pigdm-bayes": lambda s, **o: PiGDM(s, weight="bayes", **o), "mmps": MMPS, "tmpd": TMPD},
    **{"mgps": MGPS, "mgdm": lambda s, **o: MGDM(s, sweeps=2, **o)},
}
EVERY = {
    "flowdps": FlowDPS,
    **GRADIENT,
    "repaint": lambda score, **o: RePaint(score, inner_steps=2, **o),
    "ddrm": DDRM,
    "copaint-tt": lambda score, **o: CoPaint(score, travel=2, travels=1, **o),
}
every_sampler = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())
every_gradient = pytest.mark.parametrize("make", GRADIENT.values(), ids=GRADIENT.keys())


def values(batch, seed=0, dtype=DOUBLE):
    return MIXTURE.sample(batch, torch.Generator().manual_seed(seed)).to(dtype)


def draw(sampler, observation, seed=0):
    return sampler(observation, generator=torch.Generator().manual_seed(seed))


def draw_from(sampler, observation):
    return sampler(observation, start=start(), generator=torch.Generator().manual_seed(0))


def start(batch=4):
    return torch.randn(batch, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


def finite_differences(function, x, h=1e-6):
    """Gradient of a function (B, d) → (B,)."""
    return torch.stack([(function(x + h * e) - function(x - h * e)) / (2 * h) for e in torch.eye(3, dtype=DOUBLE)], -1)


def error_norm(observation, level):
    def of(x):
        error = observation.values - MIXTURE.denoised(x, level)
        return error[:, KNOWN].square().sum(1).sqrt()

    return of


# --- DPS and MCG ---


@pytest.mark.parametrize("factor", [1.0, 1 / 0.6])
def test_a_step_of_dps_is_eulers_less_twice_zeta_times_the_gradient_of_the_error(factor):
    """Levels in variance-preserving coordinates, where the step is defined, and the same levels rescaled."""
    levels = [level.rescale(factor if level.sigma > 0 else 1.0) for level in LEVELS]
    observation, z = lp.Observation(values(4), KNOWN), start()
    states = list(DPS(MIXTURE, step_size=0.3, levels=levels).iterate(observation, start=z * factor))
    euler = list(lp.Sampler(MIXTURE, levels=LEVELS).iterate(observation, start=z))
    gradient = finite_differences(error_norm(observation, LEVELS[0]), z)
    assert torch.allclose(states[1].x / factor, euler[1].x - 2 * 0.3 * gradient, atol=1e-8)
    assert not torch.allclose(states[1].x / factor, euler[1].x, atol=1e-3)


def test_mcg_is_dps_with_the_known_part_replaced_at_every_level():
    observation, noise = lp.Observation(values(4), KNOWN), torch.ones_like
    states = list(MCG(MIXTURE, step_size=0.3, levels=LEVELS).iterate(observation, start=start(), noise=noise))
    for i, level in ((0, LEVELS[0]), (2, LEVELS[1])):
        assert torch.allclose(states[i].x[:, KNOWN], (level.alpha * values(4) + level.sigma)[:, KNOWN])
    entered = states[0].x
    euler = list(lp.Sampler(MIXTURE, levels=LEVELS).iterate(observation, start=entered))
    gradient = finite_differences(error_norm(observation, LEVELS[0]), entered)
    assert torch.allclose(states[1].x, euler[1].x - 2 * 0.3 * gradient, atol=1e-8)


@pytest.mark.parametrize("method", [DPS, MCG])
def test_an_error_of_zero_moves_nothing(method):
    """With nothing known the norm is 0, where it has no gradient."""
    observation = lp.Observation.none((4, 3), DOUBLE)
    plain = lp.Sampler(MIXTURE, steps=4)(observation, start=start())
    assert torch.equal(method(MIXTURE, steps=4)(observation, start=start()), plain)


def test_entries_that_are_clean_already_stay():
    """A level that varies within the sample: the gradient would move what has no noise."""
    sigma = torch.tensor([0.0, 0.6, 0.6], dtype=DOUBLE)
    levels = [lp.NoiseLevel((1 - sigma**2).sqrt(), sigma), lp.NoiseLevel(1.0, 0.0)]
    observation = lp.Observation(values(4), KNOWN)
    for make in (DPS, MCG, CoPaint, PiGDM, MMPS, TMPD, MGPS, MGDM):
        out = draw_from(make(MIXTURE, levels=levels), observation)
        assert torch.allclose(out[:, 0], start()[:, 0], atol=1e-12)


# --- CoPaint ---

GAUSSIAN = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])


def objective(x, anchor, observation, level, weight):
    scale = float(level.alpha**2 + level.sigma**2)
    error = (observation.values - GAUSSIAN.denoised(x, level))[:, KNOWN]
    return error.square().sum(1) + weight * (x - anchor).square().sum(1) / scale


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_gradient_steps_of_copaint_fall_to_the_optimum_of_its_objective(factor):
    """On a Gaussian x̂₀ is affine and the optimum solves (Gᵀ P G + w/c²) (x − x̄) = Gᵀ P (y_o − x̂₀(x̄))."""
    level, weight = LEVELS[0].rescale(factor), 0.3
    observation = lp.Observation(values(4), KNOWN)
    sampler = CoPaint(
        GAUSSIAN, levels=[level, LEVELS[-1]], inner_steps=150, step_size=0.5, regularization=weight, solver=lp.Euler()
    )
    states = list(sampler.iterate(observation, start=factor * start()))
    anchor = states[0].x
    falls = [objective(state.x, anchor, observation, level, weight) for state in states[:-1]]
    # Down at every step, until rounding is all that is left.
    assert all(bool((after < before + 1e-13).all()) for before, after in itertools.pairwise(falls))
    assert bool((falls[3] < falls[0]).all())
    gain, offset = denoiser(GAUSSIAN, level)
    gain = gain[KNOWN]
    matrix = gain.mT @ gain + weight / factor**2 * torch.eye(3, dtype=DOUBLE)
    error = observation.values[:, KNOWN] - anchor @ gain.mT - offset[KNOWN]
    optimum = anchor + torch.linalg.solve(matrix, gain.mT @ error.mT).mT
    assert torch.allclose(states[-2].x, optimum, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_gradient_step_of_copaint_has_the_published_length(factor):
    """x' = x − η √ᾱ (c² ∇‖y_o − x̂₀‖² + 2 w (x − x̄)), with √ᾱ = α/c = 0.6 and c = √(α² + σ²)."""
    level, weight, length = LEVELS[0].rescale(factor), 0.3, 0.2
    observation = lp.Observation(values(4), KNOWN)
    sampler = CoPaint(MIXTURE, levels=[level, LEVELS[-1]], inner_steps=2, step_size=length, regularization=weight)
    before, first, second = (s.x for s in list(sampler.iterate(observation, start=factor * start()))[:3])

    def error(x):
        return (observation.values - MIXTURE.denoised(x, level))[:, KNOWN].square().sum(1)

    for here, there in ((before, first), (first, second)):
        move = factor**2 * finite_differences(error, here) + 2 * weight * (here - before)
        assert torch.allclose(there, here - length * 0.6 * move, atol=1e-7)


def test_time_travel_goes_back_to_the_beginning_of_each_block():
    score = lp.CountedScore(MIXTURE)
    sampler = CoPaint(score, steps=5, inner_steps=1, travel=2, travels=1)
    states = list(sampler.iterate(lp.Observation(values(3), KNOWN), generator=torch.Generator().manual_seed(0)))
    steps = [state.step for state in states if state.kind == "outer"]
    assert steps == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    assert score.evaluations == 10 * 2
    assert torch.equal(states[-1].x[:, KNOWN], values(3)[:, KNOWN])


def test_time_travel_diffuses_forward():
    """The state that a travel begins with is the one it left, α/α' times, and √(σ² − (α/α')² σ'²) times the noise."""
    sampler = CoPaint(MIXTURE, steps=4, inner_steps=0, travel=2, travels=1)
    states = list(sampler.iterate(lp.Observation(values(3), KNOWN), start=start(3), noise=torch.ones_like))
    left, back = states[3], states[4]
    assert (left.kind, left.step, back.kind, back.step) == ("outer", 1, "start", 0)
    ratio = back.level.alpha / left.level.alpha
    added = (back.level.sigma**2 - (ratio * left.level.sigma) ** 2).sqrt()
    assert torch.allclose(back.x, ratio * left.x + added, atol=1e-12)


# --- What all share ---


@every_sampler
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_vp_ve_and_flow_coordinates_give_the_same_samples_after_rescaling(make, jitter):
    vp = lp.uniform_log_snr(lp.VP.linear(), 5)
    coordinates = [
        [level.rescale(1 / level.alpha) for level in vp],
        [level.rescale(1 / (level.alpha + level.sigma)) for level in vp],
    ]
    observation = lp.Observation(values(4), KNOWN, jitter=jitter)

    def run(levels):
        generator = torch.Generator().manual_seed(3)
        return list(make(MIXTURE.score, levels=levels).iterate(observation, generator=generator))

    reference = run(vp)
    for levels in coordinates:
        for ours, theirs in zip(run(levels), reference, strict=True):
            scale = theirs.level.alpha / ours.level.alpha
            error = (ours.x * scale - theirs.x).abs().max() / theirs.x.abs().max().clamp(min=1)
            assert float(error) < 1e-8, (ours.kind, ours.step, ours.inner)


@every_sampler
def test_a_sample_with_its_own_generator_is_the_same_alone_and_in_a_batch_of_16(make):
    sampler, batch = make(MIXTURE, steps=5), values(16)
    together = sampler(lp.Observation(batch, KNOWN), generator=lp.seeded(range(16)))
    for i in (0, 7, 15):
        alone = sampler(lp.Observation(batch[i : i + 1], KNOWN), generator=lp.seeded([i]))
        assert torch.allclose(alone[0], together[i], rtol=0, atol=1e-12)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_known_entries_come_back_bit_for_bit_and_the_same_seed_the_same_samples(make, dtype):
    batch = values(6, dtype=dtype)
    sampler, observation = make(MIXTURE, steps=4), lp.Observation(batch, KNOWN)
    before = torch.get_rng_state()
    out, again, other = draw(sampler, observation), draw(sampler, observation), draw(sampler, observation, seed=1)
    sampler(observation)
    assert torch.equal(before, torch.get_rng_state())  # the global generator is never touched
    assert out.dtype == dtype
    assert torch.equal(out[:, KNOWN], batch[:, KNOWN])
    assert torch.equal(out, again)
    assert not torch.equal(out[:, ~KNOWN], other[:, ~KNOWN])


@every_sampler
def test_all_known_returns_the_values_and_none_known_is_legal(make):
    batch, sampler = values(4), make(MIXTURE, steps=3)
    assert torch.equal(draw(sampler, lp.Observation(batch, torch.tensor(True))), batch)
    assert bool(torch.isfinite(draw(sampler, lp.Observation.none((4, 3)))).all())


@every_sampler
def test_levels_per_sample_and_per_element_give_what_one_level_gives(make):
    levels = lp.uniform_log_snr(lp.VP.linear(), 4)
    observation = lp.Observation(values(5), KNOWN)
    one = draw(make(MIXTURE, levels=levels), observation)
    for shape in ((5, 1), (1, 3), (5, 3), (3,)):
        spread = [lp.NoiseLevel(level.alpha.expand(shape), level.sigma.expand(shape)) for level in levels]
        assert torch.allclose(draw(make(MIXTURE, levels=spread), observation), one, atol=1e-9)


@every_sampler
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 1, 4, 3), (2, 1, 2, 3, 2)])
def test_samples_may_have_any_number_of_dimensions(make, shape):
    """A score that couples all entries of a sample: data N(0, 1) apart from a common mean."""

    def score(x, level):
        mean = x.flatten(1).mean(1).reshape(-1, *(1,) * (x.ndim - 1))
        return -(x - 0.5 * level.alpha * mean) / (level.alpha**2 + level.sigma**2)

    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(shape, generator=generator)
    known = torch.rand(shape[1:], generator=generator) < 0.5
    out = draw(make(score, steps=3), lp.Observation(batch, known))
    assert out.shape == shape
    assert torch.equal(out[:, known], batch[:, known])


@pytest.mark.parametrize(
    ("make", "evaluations"),
    [
        (lambda score: DPS(score, steps=4), 4),
        (lambda score: MCG(score, steps=4), 4),
        (lambda score: DPS(score, steps=4, solver=lp.Heun()), 4 + 3),
        (lambda score: CoPaint(score, steps=4), 4 * 3),
        (lambda score: CoPaint(score, steps=4, inner_steps=3, travel=4, travels=2), 3 * 4 * 4),
        (lambda score: DDRM(score, steps=4), 4),
        (lambda score: RePaint(score, steps=4, inner_steps=5), 3 * 6 + 1),
        (lambda score: TwistedSMC(score, steps=4), 4),
    ],
    ids=["dps", "mcg", "dps-heun", "copaint-2", "copaint-3-tt", "ddrm", "repaint-5", "smc"],
)
def test_evaluations_are_as_documented(make, evaluations):
    score = lp.CountedScore(MIXTURE)
    draw(make(score), lp.Observation(values(2), KNOWN))
    assert score.evaluations == evaluations


# --- Gradients through a network ---


def network():
    layers = [torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 3)]
    net = torch.nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.2)
    return net


class Clocked(torch.nn.Module):
    """A network of (x, time), as diffusers' are."""

    def __init__(self):
        super().__init__()
        self.layers = network()

    def forward(self, x, time):
        return self.layers(x)


def held(score, observation, x, save_memory):
    """Numbers that the graph holds between an evaluation and its gradient."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        differentiate(score, x, LEVELS[0], square_error(observation), save_memory=save_memory)
    return sum(sizes)


def no_grad(net):
    @torch.no_grad()
    def call(x, time):
        return net(x, time)

    return call


@every_gradient
@pytest.mark.parametrize("predicts", ["epsilon", "v", "flow", "denoised", "score"])
def test_a_network_without_gradient_is_refused_with_one_line(make, predicts):
    """Whatever it predicts: x̂₀ has a gradient of its own through x, which would be taken for the network's."""
    score = lp.NetworkScore(no_grad(Clocked()), predicts, lp.VP.linear())
    observation = lp.Observation(values(2), KNOWN)
    for each in (score, lp.GuidedScore(score, score, 2.0), lp.CountedScore(score)):
        with pytest.raises(ValueError, match=r"the model gives no gradient .*such as LanPaint") as caught:
            draw(make(each, steps=2), observation)
        assert len(str(caught.value).splitlines()) == 1
    assert draw(lp.LanPaint(score, steps=2, inner_steps=1), observation).shape == (2, 3)


@every_gradient
def test_a_function_or_a_score_of_ones_own_without_gradient_is_refused(make):
    class Detached(lp.Score):
        def predict(self, x, level):
            return lp.Prediction(x, level, denoised=MIXTURE.denoised(x.detach(), level))

    for score, message in (
        (lambda x, level: MIXTURE.score(x.detach(), level), "the model gives no gradient"),
        (Detached(), "no gradient with respect to x"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(make(score, steps=2), lp.Observation(values(2), KNOWN))


@every_gradient
def test_the_callers_grad_mode_does_not_matter_and_nothing_is_kept(make):
    net = Clocked()
    sampler = make(lp.NetworkScore(net, "denoised", lp.VP.linear()), steps=3)
    observation = lp.Observation(values(3).requires_grad_(), KNOWN)
    with torch.enable_grad():
        out = draw(sampler, observation)
    with torch.no_grad():
        assert torch.equal(draw(sampler, observation), out)
    with torch.inference_mode():
        assert torch.equal(draw(sampler, observation), out)
    assert not out.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    net.requires_grad_(False)
    assert torch.equal(draw(sampler, observation), out)


@every_gradient
def test_checkpointing_changes_no_number_and_leaves_the_network_as_it_was(make):
    net = Clocked()
    score = lp.CountedScore(lp.NetworkScore(net, "denoised", lp.VP.linear()))
    observation = lp.Observation(values(3), KNOWN)
    plain = draw(make(score, steps=3), observation)
    counted = score.evaluations
    assert torch.equal(draw(make(score, steps=3, checkpoint=True), observation), plain)
    assert score.evaluations == 2 * counted
    assert all("forward" not in vars(module) for module in net.modules())


def test_the_blocks_of_a_unet_are_checkpointed():
    """The shipped model of digits: the U-Net is in an attribute of the score, its blocks in lists of its own."""
    score = load_pixel_model(FOLDER)
    images = load_digits("test")[0][:2]
    observation = lp.Observation(images, torch.arange(8) < 4)
    plain, saved = (draw(MCG(score, steps=3, checkpoint=save), observation) for save in (False, True))
    assert torch.allclose(plain, saved, atol=1e-5)
    assert held(score, observation, images, True) < 0.2 * held(score, observation, images, False)


@every_gradient
def test_a_checkpoint_without_a_network_is_refused(make):
    with pytest.raises(ValueError, match=r"checkpoint=True needs a score that holds its network, got .*NetworkScore"):
        make(MIXTURE, checkpoint=True)


def test_networks_are_found_in_scores_of_scores_each_once():
    class Mean(lp.Score):
        def __init__(self, scores):
            self.scores = torch.nn.ModuleList(scores)

    first, second = Clocked(), Clocked()
    scores = [lp.NetworkScore(net, "epsilon", lp.VP.linear()) for net in (first, second)]
    guided = lp.GuidedScore(lp.CountedScore(scores[0]), scores[1], 2.0)
    for score, expected in (
        (scores[0], [first]),
        (guided, [first, second]),
        (lp.GuidedScore(*scores[:1] * 2, 2.0), [first]),
        (Mean([guided, scores[1], MIXTURE]), [first, second]),
        (lp.NetworkScore(functools.partial(second), "epsilon", lp.VP.linear()), [second]),
        (MIXTURE, []),
    ):
        assert [id(net) for net in networks(score)] == [id(net) for net in expected]


def test_checkpointing_keeps_less_for_the_gradient():
    """A block's input instead of all that is inside it."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network()

        def forward(self, x):
            return x + self.layers(x)

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(Block() for _ in range(4))

        def forward(self, x, time):
            return functools.reduce(lambda x, block: block(x), self.blocks, x)

    score = lp.NetworkScore(Deep(), "epsilon", lp.VP.linear())
    observation, x = lp.Observation(values(64), KNOWN), values(64)
    assert held(score, observation, x, True) < 0.2 * held(score, observation, x, False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPS(MIXTURE, step_size=0.0), r"step_size \(η\) must be a positive"),
        (lambda: MCG(MIXTURE, step_size=math.nan), r"step_size \(η\) must be a positive"),
        (lambda: CoPaint(MIXTURE, step_size=-1.0), r"step_size \(η\) must be a positive"),
        (lambda: CoPaint(MIXTURE, inner_steps=-1), "inner_steps must be a whole number of at least 0"),
        (lambda: CoPaint(MIXTURE, regularization=-1.0), r"regularization \(w\) must be a number of at least 0"),
        (lambda: CoPaint(MIXTURE, travel=0), r"travel \(τ\) must be a whole number of at least 1, got 0"),
        (lambda: CoPaint(MIXTURE, travels=1.5), r"travels \(K\) must be a whole number of at least 0, got 1\.5"),
        (lambda: RePaint(MIXTURE, inner_steps=2.5), "inner_steps must be a whole number"),
        (lambda: RePaint(MIXTURE, steps=0), "steps must be a whole number of at least 1"),
    ],
)
def test_bad_settings_are_refused_with_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1


def test_solvers_of_diffusers_step_under_gradients_and_resampling():
    """Two evaluations of a DDIM scheduler's run: the one that is differentiated is the one that it steps with."""
    from diffusers import DDIMScheduler

    solver = lp.DiffusersSolver(DDIMScheduler(clip_sample=False, timestep_spacing="leading"))
    observation = lp.Observation(values(3), KNOWN)
    for make, evaluations in ((DPS, 4), (MCG, 4), (CoPaint, 12), (functools.partial(RePaint, inner_steps=2), 10)):
        score = lp.CountedScore(MIXTURE)
        assert bool(torch.isfinite(draw(make(score, steps=4, solver=solver), observation)).all())
        assert score.evaluations == evaluations
    with pytest.raises(ValueError, match="DiffusersSolver cannot travel back in time"):
        CoPaint(MIXTURE, steps=4, solver=solver, travels=1)


def test_blocks_are_those_of_the_innermost_network_and_get_their_own_forward_back():
    """A wrapper of one module is no block of its own; a forward that was set on a module (as hooks do) stays set."""

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Two()

        def forward(self, x, time):
            return self.inner.second(self.inner.first(x))

    network = Wrapper()
    blocks = [network.inner.first, network.inner.second]
    blocks[0].forward = hooked = torch.tanh
    with checkpointed(lp.NetworkScore(network, "epsilon", lp.VP.linear())):
        assert all("forward" in vars(block) and block.forward is not hooked for block in blocks)
        assert "forward" not in vars(network.inner)
    assert blocks[0].forward is hooked
    assert "forward" not in vars(blocks[1])
