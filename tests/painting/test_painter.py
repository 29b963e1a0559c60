"""Painters: a result follows from its task, whatever it is painted with; a run is watched, and cancelled at once."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import lanpaint as lp
from lanpaint.methods import METHODS
from lanpaint.painting import Settings
from tests.adapters import tiny

FEW = {"steps": 3, "options": {"inner_steps": 1}}


def _settings(method):
    few = {"inner_steps": 1, "particles": 3, "iterations": 5}
    options = {name: count for name, count in few.items() if name in METHODS[method].own_options}
    return {"method": method, "steps": 3, "options": options}


def _array(result):
    return np.array(result.picture)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_is_painted_alone_as_in_a_batch(painter, digits, box, method):
    masks = [box, box.T, np.full((8, 8), 255, np.uint8)]
    tasks = [lp.Task(digits[n], masks[n], seed=n + 5, settings=_settings(method)) for n in range(3)]
    alone = [painter.paint(task) for task in tasks]
    batch = painter.paint_many(tasks[::-1])[::-1]
    for one, other in zip(alone, batch, strict=True):
        assert np.abs(_array(one).astype(int) - _array(other)).max() <= 1  # the network's rounding, then that of pixels
        assert (one.seed, one.evaluations) == (other.seed, other.evaluations)


def test_sizes_and_settings_that_differ_are_painted_in_batches_of_their_own(painter, digits, box):
    wide = np.pad(digits[1], ((0, 0), (0, 8)))
    tasks = [
        lp.Task(digits[0], box, settings=FEW),
        lp.Task(wide, np.pad(box, ((0, 0), (0, 8))), settings=FEW),
        lp.Task(digits[2], box, settings={**FEW, "strength": 0.5}),
        lp.Task(digits[3], box, seed=9, settings=FEW),
    ]
    together = []
    results = painter.paint_many(tasks, watch=lambda progress: together.append(progress.tasks))
    assert set(together) == {(0, 3), (1,), (2,)}
    assert [result.picture.size for result in results] == [(8, 8), (16, 8), (8, 8), (8, 8)]
    for task, result in zip(tasks, results, strict=True):
        known = np.array(task.mask) == 0
        assert np.array_equal(_array(result)[known], np.array(task.picture)[known])
        assert result.repainted == pytest.approx((~known).mean())
    assert any("trained on 8×8" in note for note in results[1].notes)
    assert not results[0].notes


def test_a_picture_is_painted_alike_from_a_file_and_from_memory(painter, digits, box, tmp_path):
    Image.fromarray(digits[0]).save(tmp_path / "digit.png")
    Image.fromarray(box).save(tmp_path / "box.png")
    paths = lp.Task(str(tmp_path / "digit.png"), str(tmp_path / "box.png"), seed=2, settings=FEW)
    memory = lp.Task(Image.fromarray(digits[0]), torch.from_numpy(box) > 0, seed=2, settings=FEW)
    sent = lp.Task.from_json(json.dumps(json.loads(paths.to_json())))
    first = _array(painter.paint(paths))
    assert np.array_equal(first, _array(painter.paint(memory)))
    assert np.array_equal(first, _array(painter.paint(sent)))


@pytest.mark.parametrize("method", ["lanpaint", "copaint", "tds", "repaint"])
def test_a_run_is_told_of_each_evaluation_and_is_not_changed_by_it(painter, digits, box, method):
    task = lp.Task(digits[0], box, settings=_settings(method))
    told = []
    result = painter.paint(task, watch=told.append, every=2)
    counts = [progress.done for progress in told if progress.pictures is None]
    previews = [progress.pictures[0] for progress in told if progress.pictures is not None]
    assert counts == list(range(1, result.evaluations + 1))
    assert {progress.total for progress in told} == {result.evaluations}
    assert previews
    known = torch.from_numpy(box) == 0
    for preview in previews:
        assert preview.shape == (1, 8, 8)
        assert torch.equal((preview[0] * 255).round().to(torch.uint8)[known], torch.from_numpy(digits[0])[known])
    assert np.array_equal(_array(result), _array(painter.paint(task)))


@pytest.mark.parametrize("method", ["lanpaint", "copaint"])
def test_a_run_is_cancelled_within_one_evaluation_and_leaves_the_painter_as_it_was(painter, digits, box, method):
    task = lp.Task(digits[0], box, settings=_settings(method))
    before, told = _array(painter.paint(task)), []

    def watch(progress):
        told.append(progress.done)
        return progress.done < 3

    with pytest.raises(lp.Cancelled):
        painter.paint(task, watch=watch)
    assert told[-1] == 3
    assert np.array_equal(_array(painter.paint(task)), before)
    with pytest.raises(ZeroDivisionError):  # an error of the watch ends the run too
        painter.paint(task, watch=lambda progress: 1 / 0)
    assert np.array_equal(_array(painter.paint(task)), before)


def test_a_pipeline_is_watched_and_cancelled_and_stays_the_same():
    pipe = tiny.with_clip(tiny.sd()).pipe
    painter = lp.open_painter(pipe)
    scheduler = pipe.scheduler
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    task = lp.Task(photo, mask, "a cat", seed=3, settings=FEW)
    plain, told = painter.paint(task), []
    watched = painter.paint(task, watch=told.append, every=1)
    assert np.array_equal(_array(plain), _array(watched))
    assert [progress.done for progress in told if progress.pictures is None] == list(range(1, plain.evaluations + 1))
    assert {progress.total for progress in told} == {plain.evaluations}
    assert all(progress.pictures[0].shape == (3, 16, 16) for progress in told if progress.pictures is not None)
    assert sum(progress.pictures is not None for progress in told) == 3
    told.clear()
    with pytest.raises(lp.Cancelled):
        painter.paint(task, watch=lambda progress: told.append(progress.done) or progress.done < 2)
    assert told[-1] == 2
    assert pipe.scheduler is scheduler
    assert np.array_equal(_array(painter.paint(task)), _array(plain))
    with pytest.raises(ValueError, match="levels: only for pixel-space models"):
        painter.paint(lp.Task(photo, mask, settings={"levels": "karras"}))


@pytest.mark.parametrize("made", [lambda: tiny.with_clip(tiny.sd()), tiny.ldm], ids=["prompts", "batch size"])
def test_a_pipeline_paints_several_pictures_in_one_call_as_alone(made):
    pipe = made().pipe
    prompt = "a cat" if hasattr(pipe, "tokenizer") else None
    side = 16
    grid = np.random.default_rng(0)
    photos = [grid.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(4)]
    photos[1] = photos[1][..., 0]  # a grey picture among the others
    masks = [np.zeros((side, side), np.uint8) for _ in photos]
    for number, mask in enumerate(masks):
        mask[:, 4 + 2 * number :] = 255
    tasks = [
        lp.Task(photo, mask, prompt, seed=seed, settings=FEW)
        for seed, (photo, mask) in enumerate(zip(photos, masks, strict=True))
    ]
    tasks.append(replace(tasks[0], settings={**FEW, "crop": 2.0}))  # a window of its own
    if prompt is not None:
        tasks.append(replace(tasks[0], prompt="two dogs and a bird"))
    alone = [lp.open_painter(pipe).paint(task) for task in tasks]
    together = []
    batch = lp.open_painter(pipe, most=3).paint_many(tasks, watch=lambda progress: together.append(progress.tasks))
    assert {(0, 1, 2), (3,), (4,)} <= set(together)
    assert len(set(together)) == len(tasks) - 2
    for task, one, other in zip(tasks, alone, batch, strict=True):
        assert np.abs(_array(one).astype(int) - _array(other)).max() <= 1  # the network's rounding, then that of pixels
        assert one.evaluations == other.evaluations
        known = np.array(task.mask) == 0
        given = np.array(Image.fromarray(task.picture).convert(other.picture.mode))
        assert np.array_equal(_array(other)[known], given[known])


def test_two_threads_paint_one_after_the_other(painter, digits, box):
    tasks = [lp.Task(digits[n], box, seed=n, settings=FEW) for n in range(4)]
    wanted, got = [_array(painter.paint(task)) for task in tasks], {}
    threads = [threading.Thread(target=lambda n=n: got.update({n: painter.paint(tasks[n])})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, expected in enumerate(wanted):
        assert np.array_equal(_array(got[n]), expected)


MISTAKES = {
    "an unknown setting": ({"settings": {"colour": 3}}, "lanpaint has no colour; it takes"),
    "a seed that is none": ({"seed": -1}, "seed must be a whole number of at least 0"),
    "steps that are none": ({"settings": {"steps": 0}}, "steps must be a whole number of at least 1"),
    "a pad of three": ({"settings": {"pad": [1, 2, 3]}}, "pad must be four whole numbers"),
    "a strength of two": ({"settings": {"strength": 2}}, "strength must be a number above 0"),
    "an argument of its own": ({"settings": {"arguments": {"generator": 3}}}, "a task gives it as its seed"),
    "an unknown method": ({"settings": {"method": "magic"}}, "unknown method 'magic'"),
    "a text for a number": ({"settings": {"inner_steps": "many"}}, "inner_steps must be a whole number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_task_that_is_not_understood_is_refused_when_it_is_made(name):
    given, told = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=told):
        lp.Task("photo.png", **given)


def test_a_pixel_model_refuses_what_only_pipelines_have(painter, digits, box):
    task = lp.Task(digits[0], box, "a cat", settings={"guidance_scale": 3.0})
    with pytest.raises(ValueError, match="prompt and guidance_scale: only for pipelines"):
        painter.paint(task)


def test_settings_that_are_not_given_are_not_sent():
    task = lp.Task("photo.png", settings=Settings.of({"steps": 5, "lam": 2.0}))
    assert json.loads(task.to_json())["settings"] == {"steps": 5, "options": {"lam": 2.0}}
    with pytest.raises(TypeError, match="picture is in memory"):
        lp.Task(np.zeros((8, 8), np.uint8)).to_json()
