"""Chains of windows and averages over windows, by exact algebra on stationary Gaussian processes."""

import functools
import itertools
import weakref

import pytest
import torch

import lanpaint as lp
from lanpaint.tiling import Tiling, shifted_starts, starts
from lanpaint_toys import Gaussian, GaussianMixture
from tests.adapters import tiny
from tests.samplers.affine import law

DOUBLE = torch.float64
LENGTH, WINDOW = 13, 5


def covariance(correlation, length=LENGTH):
    """Covariance of a stationary process with a correlation at each distance."""
    at = torch.arange(length)
    return torch.tensor([correlation(int(d)) for d in range(length)], dtype=DOUBLE)[(at[:, None] - at[None]).abs()]


def ar1(distance):
    return 0.8**distance


def ar2(distance):
    """Autocorrelation of x_n = 1.1 x_{n−1} − 0.4 x_{n−2} + noise, by its recursion (Yule–Walker)."""
    before, here = 1.0, 1.1 / 1.4
    for _ in range(distance):
        before, here = here, 1.1 * here - 0.4 * before
    return before


class Exact:
    """A window's exact conditional sampler: mean + L ξ, by Gaussian conditioning."""

    def __init__(self, cov):
        self.cov = cov

    def __call__(self, observation, noise):
        known = observation.known.expand(observation.shape)[0]
        x, fresh = observation.values.clone(), noise(observation.values)
        k, u = known, ~known
        gain = torch.linalg.solve(self.cov[k][:, k], self.cov[k][:, u]).mT
        rest = self.cov[u][:, u] - gain @ self.cov[k][:, u]
        x[:, u] = x[:, k] @ gain.mT + fresh[:, u] @ torch.linalg.cholesky(rest).mT
        return x


def chain_law(correlation, overlap, **options):
    """Mean and covariance of a chain of exact windows on a strip of which nothing is known."""
    chain = lp.Chain(Exact(covariance(correlation, WINDOW)), window=WINDOW, overlap=overlap, **options)
    return law(chain, torch.zeros(LENGTH, dtype=DOUBLE), torch.zeros(LENGTH, dtype=torch.bool))


@pytest.mark.parametrize(("correlation", "overlap"), [(ar1, 1), (ar1, 2), (ar1, 4), (ar2, 2), (ar2, 3)])
@pytest.mark.parametrize("order", ["forward", "backward", "outward"])
def test_a_chain_of_a_markov_process_is_exact_where_the_overlap_reaches_the_order(correlation, overlap, order):
    mean, cov = chain_law(correlation, overlap, order=order)
    assert mean.abs().max() == 0
    assert torch.allclose(cov, covariance(correlation), rtol=0, atol=1e-12)


def test_a_chain_with_a_short_overlap_samples_the_process_that_the_overlap_separates():
    """Past and future are independent given the overlap o: the covariance of i and j is C_io C_oo⁻¹ C_oj."""
    _, cov = chain_law(ar2, 1)
    truth = covariance(ar2)
    assert torch.allclose(cov[:WINDOW, :WINDOW], truth[:WINDOW, :WINDOW], rtol=0, atol=1e-12)
    assert torch.allclose(cov[4:9, 4:9], truth[4:9, 4:9], rtol=0, atol=1e-12)
    across = torch.outer(truth[:4, 4], truth[4, 5:9]) / truth[4, 4]
    assert torch.allclose(cov[:4, 5:9], across, rtol=0, atol=1e-12)
    assert (across - truth[:4, 5:9]).abs().max() > 0.05


def test_a_window_conditions_on_what_is_known_in_it_and_on_nothing_beyond():
    """Backward along AR(1): x_8 … x_11 follow from x_12 alone, by 0.8 per step, whatever x_0 is."""
    known = torch.zeros(LENGTH, dtype=torch.bool)
    known[[0, 12]] = True
    values = torch.zeros(LENGTH, dtype=DOUBLE)
    values[0], values[12] = 1.0, -2.0
    chain = lp.Chain(Exact(covariance(ar1, WINDOW)), window=WINDOW, overlap=1, order="backward")
    mean, cov = law(chain, values, known)
    assert (mean[0], mean[12], cov[0].abs().max()) == (1.0, -2.0, 0.0)
    by_hand = 0.8 ** torch.arange(4, 0, -1, dtype=DOUBLE) * -2.0
    assert torch.allclose(mean[8:12], by_hand, rtol=0, atol=1e-12)


MIXTURE = GaussianMixture([[1.0, 0.5, -1.0], [-1.0, 0.0, 1.0]], [torch.eye(3).tolist()] * 2, [0.3, 0.7])
LEVELS = lp.uniform_time(lp.VP.linear(), 4)


def test_a_step_with_the_averaged_score_is_the_average_of_the_windows_steps():
    """MultiDiffusion averages the next states, SyncTweedies x̂₀: with a deterministic step they are the same."""
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    level, after = LEVELS[1:3]
    euler, score = lp.Euler(), lp.WindowedScore(MIXTURE, window=3, overlap=1, batch=2)
    one = euler.step(euler.init(x, 4), score, level, after, torch.zeros_like).x
    total, count = torch.zeros_like(x), torch.zeros(7, dtype=DOUBLE)
    for at in (0, 2, 4):
        part = x[:, at : at + 3]
        total[:, at : at + 3] += euler.step(euler.init(part, 4), lp.as_score(MIXTURE), level, after, torch.zeros_like).x
        count[at : at + 3] += 1
    assert torch.allclose(one, total / count, rtol=0, atol=1e-12)


def test_the_averaged_score_of_independent_entries_is_the_joint_score():
    x = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    windows = lp.WindowedScore(Gaussian([0.0] * 4, torch.eye(4)), window=4, overlap=2)
    joint = lp.as_score(Gaussian([0.0] * 9, torch.eye(9)))
    assert torch.allclose(windows.predict(x, LEVELS[1]).denoised, joint.predict(x, LEVELS[1]).denoised)


class Flow(lp.Score):
    """x̂₀ is where Euler steps through the levels end, n of them."""

    def __init__(self, score, levels, count):
        super().__init__()
        self.model, self.levels, self.count = lp.as_score(score), levels, count

    def predict(self, x, level):
        first = next(n for n, one in enumerate(self.levels) if float(one.sigma) == float(level.sigma))
        left = len(self.levels) - 1 - first
        count, end = min(self.count, left), x
        at = [first + round(n * left / count) for n in range(count + 1)]
        for here, there in itertools.pairwise(at):
            seen = self.model.predict(end, self.levels[here])
            end = self.levels[there].perturb(seen.denoised, seen.epsilon)
        return lp.Prediction(x, level, denoised=end)


def test_stochsync_over_one_window_is_latino_with_the_flow_and_no_noise():
    observation = lp.Observation(torch.tensor([[0.5, -1.0, 0.2]], dtype=DOUBLE), torch.tensor([True, False, False]))
    ours = lp.StochSync(MIXTURE, window=3, ode_steps=2, levels=LEVELS)
    latino = lp.LATINO(Flow(MIXTURE, LEVELS, 2), sigma_y=0.0, levels=LEVELS)
    made = [make(observation, generator=torch.Generator().manual_seed(0)) for make in (ours, latino)]
    assert torch.allclose(*made, rtol=0, atol=1e-12)


def test_stochsync_s_windows_are_shifted_by_half_of_a_window_in_every_other_step():
    """The first step joins 0 to 3 and 4 to 7, the second 2 to 5: a canvas is joined across each seam in turn."""
    assert [part[1].start for part in Tiling(4, 0).parts((1, 8))] == [0, 4]
    assert [part[1].start for part in Tiling(4, 0, shifted=True).parts((1, 12))] == [0, 2, 6, 8]
    joined = Gaussian([0.0] * 4, torch.full((4, 4), 0.9, dtype=DOUBLE) + 0.1 * torch.eye(4, dtype=DOUBLE))
    for steps, is_joined in ((1, False), (3, True)):
        sampler = lp.StochSync(joined, window=4, ode_steps=1, steps=steps, schedule=lp.VP.linear())
        _, cov = law(sampler, torch.zeros(8, dtype=DOUBLE), torch.zeros(8, dtype=torch.bool))
        assert bool(cov[3, 4].abs() > 0.01) == is_joined


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 9), (9,)])
def test_levels_for_each_sample_or_entry_are_cut_with_the_windows(shape):
    x = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    score = lp.WindowedScore(Gaussian([0.0] * 4, covariance(ar1, 4)), window=4, overlap=2)
    level = lp.NoiseLevel(*(each.expand(shape) for each in (LEVELS[1].alpha, LEVELS[1].sigma)))
    assert torch.allclose(score.predict(x, level).denoised, score.predict(x, LEVELS[1]).denoised)


@pytest.mark.parametrize(
    "make", [lp.Replace, lp.LanPaint, lp.ALM, lp.SyncSDE, lp.RePaint], ids=lambda make: make.__name__
)
def test_any_sampler_drives_a_chain_and_an_averaged_canvas(make):
    target = Gaussian([0.0] * 9, torch.eye(9))
    values = torch.arange(2 * 24.0, dtype=DOUBLE).reshape(2, 24) / 48
    observation = lp.Observation(values, torch.arange(24) < 3)
    chain = lp.Chain(make(target, steps=3), window=9, overlap=3)
    averaged = make(lp.WindowedScore(target, window=9, overlap=3), steps=3)
    for painter in (chain, averaged):
        x = painter(observation, generator=torch.Generator().manual_seed(0))
        assert torch.equal(x[:, :3], values[:, :3])
        assert bool(torch.isfinite(x).all())


def test_windows_cover_every_entry_and_lie_inside():
    for length, window in itertools.product(range(1, 12), range(1, 6)):
        for overlap in range(window):
            if window > length:
                continue
            begins = starts(length, window, overlap)
            if overlap == 0:
                shifted = shifted_starts(length, window)
                assert {at + i for at in shifted for i in range(window)} == set(range(length))
            assert {at + i for at in begins for i in range(window)} == set(range(length))
            assert all(b - a <= window - overlap for a, b in itertools.pairwise(begins))


def test_windows_over_two_axes_and_over_time():
    counted = Tiling((4, 6), (1, 2)).count((3, 1, 10, 14))
    assert counted.shape == (1, 1, 10, 14)
    assert float(counted.min()) == 1
    assert len(Tiling((4, None, None), 2).parts((1, 3, 8, 5, 5))) == 3
    chain = lp.Chain(lp.Replace(lambda x, level: -x, steps=2), window=(4, 6), overlap=(1, 2), order="outward")
    assert chain((2, 1, 10, 14)).shape == (2, 1, 10, 14)


def _painter(seen=None):
    """Half of the last known entry, and noise."""

    def paint(observation, generator):
        fresh = lp.NormalNoise(generator)(observation.values)
        if seen is not None:
            seen.append(weakref.ref(fresh))
        return observation.replace_known(fresh + observation.values[:, :1] / 2, observation.values)

    return paint


def test_a_stream_gives_the_strips_of_the_whole_canvas():
    chain = lp.Chain(_painter(), window=5, overlap=2)
    whole = chain((2, 21), generator=torch.Generator().manual_seed(0))
    strips = list(chain.stream((2, 21), generator=torch.Generator().manual_seed(0)))
    assert [start for start, _ in strips] == starts(21, 5, 2)
    assert torch.equal(torch.cat([strip for _, strip in strips], dim=1), whole)


def test_a_stream_of_a_thousand_windows_holds_two_of_them():
    seen, most = [], 0
    for _, _ in lp.Chain(_painter(seen), window=3, overlap=1).stream((1, 2_001), generator=torch.Generator()):
        seen = [ref for ref in seen if ref() is not None] if len(seen) < 100 else seen[-1:]
        most = max(most, len(seen))
    assert most <= 3


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill", [1, 3, 5])
def test_a_chain_goes_on_after_a_kill_to_the_same_result(tmp_path, kill):
    state, paint = tmp_path / "chain.pt", _painter()
    observation = lp.Observation(torch.ones(2, 20), torch.arange(20) == 9)

    def dying(observation, generator):
        dying.left -= 1
        if not dying.left:
            raise KilledError
        return paint(observation, generator)

    dying.left = kill
    with pytest.raises(KilledError):
        lp.Chain(dying, 5, 2)(observation, generator=lp.seeded([1, 2]), state=state)
    went_on = lp.Chain(paint, 5, 2)(observation, generator=lp.seeded([1, 2]), state=state)
    assert torch.equal(went_on, lp.Chain(paint, 5, 2)(observation, generator=lp.seeded([1, 2])))
    with pytest.raises(ValueError, match="another chain"):
        lp.Chain(paint, 5, 1)(observation, generator=lp.seeded([1, 2]), state=state)
    assert [path.name for path in tmp_path.iterdir()] == ["chain.pt"]


def test_a_stream_goes_on_with_the_strip_that_was_not_taken(tmp_path):
    state, chain = tmp_path / "stream.pt", lp.Chain(_painter(), 5, 2)
    whole = chain((1, 17), generator=torch.Generator().manual_seed(3))
    first = chain.stream((1, 17), generator=torch.Generator().manual_seed(3), state=state)
    next(first)
    at, strip = next(first)
    first.close()  # a kill while the second strip is used
    rest = list(chain.stream((1, 17), generator=torch.Generator().manual_seed(3), state=state))
    assert rest[0][0] == at
    assert torch.equal(rest[0][1], strip)
    assert torch.equal(torch.cat([part for _, part in rest], dim=1), whole[:, at:])


def test_a_stream_takes_known_content_window_by_window():
    def content(start, stop):
        at = torch.arange(start, stop)
        return lp.Observation(at[None].float(), at % 4 == 0)

    x = torch.cat([s for _, s in lp.Chain(_painter(), 5, 2).stream((1, 17), content=content)], dim=1)
    assert torch.equal(x[0, ::4], torch.arange(0.0, 17, 4))


def test_latents_of_a_pipeline_are_passed_on_from_window_to_window():
    made, given = tiny.sd(), []

    def paint(observation, generator):
        last = {}

        class Keep(lp.Callback):
            def on_level_end(self, sampler, state):
                last["x"] = state.x

        with lp.bridged(made.pipe, functools.partial(lp.Replace, callbacks=[Keep()]), observation):
            made.pipe(num_inference_steps=2, output_type="latent", generator=generator, **made.call)
        given.append((observation, last["x"]))
        return last["x"]

    with torch.no_grad():
        side = made.pipe(num_inference_steps=1, output_type="latent", **made.call).images.shape[-1]
    chain = lp.Chain(paint, window=(None, side), overlap=2)
    canvas = chain((1, 4, side, 2 * side - 2), generator=torch.Generator().manual_seed(0))
    (_, first), (observation, second) = given
    assert torch.equal(observation.values[..., :2], first[..., -2:])
    assert torch.equal(canvas, torch.cat([first, second[..., 2:]], dim=-1))


def test_decoding_lays_each_window_on_top_of_the_next():
    """Window n decodes to the number n: where two overlap, the earlier one is seen."""
    latents = torch.zeros(1, 4, 2, 8)
    numbers = iter([2.0, 1.0, 0.0])

    def decoder(part):
        return torch.full((1, 3, 4, part.shape[-1] * 2), next(numbers))

    pixels = lp.Chain(_painter(), window=(None, 4), overlap=2).decode(latents, decoder, scale=2)
    assert pixels.shape == (1, 3, 4, 16)
    assert pixels[0, 0, 0].tolist() == [0.0] * 8 + [1.0] * 4 + [2.0] * 4


def test_what_a_chain_cannot_take_is_told_in_one_line(tmp_path):
    paint = _painter()
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no state")
    soft = lp.Observation.soft(torch.ones(1, 9), torch.linspace(0, 1, 9))
    generator = torch.Generator()
    cases = [
        (lambda: lp.Chain(paint, 4, 4), "overlap must be below the window, got 4 of 4"),
        (lambda: lp.Chain(paint, 4, 7), "got 7 of 4"),
        (lambda: lp.Chain(paint, 0, 0), "window"),
        (lambda: lp.Chain(paint, (4, 4), (1, 1, 1)), "one for each of 2 axes"),
        (lambda: lp.Chain(paint, 4, 1, order="up"), "forward, backward, outward"),
        (lambda: lp.Chain(paint, 12, 1)((1, 9)), "window .12. is larger than the canvas .9."),
        (lambda: lp.Chain(paint, (3, 3), 1)((1, 9)), "more than 2 axes"),
        (lambda: lp.Chain(paint, 4, 1)(soft), "soft"),
        (lambda: lp.Chain(paint, 4, 1)((1, 9), state=tmp_path / "s.pt"), "generator"),
        (lambda: lp.Chain(paint, 4, 1)((1, 9), state=broken, generator=generator), "not the state of a chain"),
        (lambda: next(lp.Chain(paint, (3, 3), 1).stream((1, 9, 9))), "one axis"),
        (lambda: lp.WindowedScore(MIXTURE, 4, 1).predict(torch.ones(1, 3), LEVELS[1]), "larger than the canvas"),
        (lambda: lp.WindowedScore(MIXTURE, 4, 1, batch=0), "batch"),
        (lambda: lp.WindowedScore(MIXTURE, 4, 1, shifted=True), "shifted windows have the overlap 0"),
        (lambda: lp.StochSync(MIXTURE, 4, ode_steps=0), "ode_steps"),
    ]
    for make, told in cases:
        with pytest.raises(ValueError, match=told) as error:
            make()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="paint"):
        lp.Chain(3, 4, 1)
