"""The motion model: its data, its augmentation, its features, and what its weights are good for."""

import pytest
import torch

import lanpaint as lp
from lanpaint.bench import make_target
from lanpaint.bench.targets import SeriesTarget
from lanpaint_toys import motion
from lanpaint_toys.trained import load_trained

pytest.importorskip("sktime")


@pytest.fixture(scope="module")
def held_out():
    return motion.load_motion("test")


def test_the_splits_share_no_series_and_have_ten_of_each_activity(held_out):
    series, activities = motion.load_motion("train")
    for some, names in ((series, activities), held_out):
        assert some.shape == (40, 6, 100)
        assert sorted(names) == sorted(motion.ACTIVITIES * 10)
    assert float(torch.cdist(series.flatten(1), held_out[0].flatten(1)).min()) > 1
    with pytest.raises(ValueError, match="expected train or test"):
        motion.load_motion("all")


def test_the_units_bring_the_training_data_into_the_unit_range_and_know_the_largest():
    series, _ = motion.load_motion("train")
    assert float(motion.UNITS.normalise(series).abs().max()) < 1
    largest = series.abs().amax((0, 2))
    torch.testing.assert_close(largest, torch.tensor(motion.UNITS.largest), rtol=0.01, atol=0)
    assert lp.load_series_model(motion.FOLDER).units == motion.UNITS


def test_a_draw_is_a_window_turned_and_scaled_as_a_whole(held_out):
    series = held_out[0][:1]
    torch.manual_seed(0)
    drawn = motion.UNITS.restore(motion.RandomMotion(series).draw(200))
    assert drawn.shape == (200, 6, 64)
    starts = [series[0, :, s : s + 64] for s in range(37)]

    def lengths(some):  # of both vectors, which no rotation changes
        return some.unflatten(-2, (2, 3)).square().sum(-2).sqrt()

    for window in drawn[:20]:
        ratios = [lengths(window) / lengths(start) for start in starts]
        assert min(float(ratio.std() / ratio.mean()) for ratio in ratios) < 1e-3
    turns = motion.rotations(50, 0.15)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(50, 3, 3), rtol=0, atol=1e-5)
    assert bool((torch.linalg.det(turns) > 0).all())


def test_features_tell_the_activities_apart(held_out):
    series, activities = motion.load_motion("train")
    train, test = (motion.motion_features(motion.middle_windows(some)) for some in (series, held_out[0]))
    assert train.shape == (40, 45)
    mean, deviation = train.mean(0), train.std(0)
    nearest = torch.cdist((test - mean) / deviation, (train - mean) / deviation).argmin(1)
    right = [activities[n] == name for n, name in zip(nearest.tolist(), held_out[1], strict=True)]
    assert sum(right) >= 36


def test_the_weights_denoise_held_out_motion_better_than_a_gaussian_model(held_out):
    model = load_trained(motion.FOLDER)
    train, test = (motion.middle_windows(some) for some in (motion.load_motion("train")[0], held_out[0]))
    alpha = float(model.scheduler.alphas_cumprod[400]) ** 0.5
    sigma = (1 - alpha**2) ** 0.5
    noise = torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    noisy = alpha * test + sigma * noise
    velocity = model.unet(noisy, torch.full((40,), 400)).sample
    clean = alpha * noisy - sigma * velocity
    flat = train.flatten(1)
    variance, mean = flat.var(0), flat.mean(0)
    gain = alpha * variance / (alpha**2 * variance + sigma**2)
    linear = mean + gain * (noisy.flatten(1) - alpha * mean)
    assert float((clean - test).square().mean()) < 0.7 * float((linear - test.flatten(1)).square().mean())


def test_motion_is_a_target_of_the_benchmark(held_out):
    target = make_target("motion:last-half")
    assert isinstance(target, SeriesTarget)
    assert target.known.sum(1).tolist() == [32] * 6
    truth = target.draw(40, torch.Generator())
    torch.testing.assert_close(truth, motion.middle_windows(held_out[0]))
    perfect = target.figures(truth, truth, lambda line: None)
    assert perfect["error"] == perfect["error_acc_x"] == 0
    assert perfect["join"] == perfect["bend"] == perfect["diversity"] == pytest.approx(1)
    held = torch.where(target.known, truth, truth[..., 31:32])  # the last known step, held
    still = target.figures(held, truth, lambda line: None)
    assert still["join"] == 0
    assert still["kernel_p"] < 0.05
    assert "join" not in make_target("motion:acc_y").figures(truth, truth, lambda line: None)
    for name, told in {"motion:what": "missing 'what'", "motion:9:99": "a sequence of 64"}.items():
        with pytest.raises(ValueError, match=told):
            make_target(name)
    with pytest.raises(ValueError, match="leave images out"):
        make_target("motion:acc_x", "folder")
