"""Folders: nothing is lost and nothing done twice, whatever is killed and whoever works beside."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import lanpaint as lp
from lanpaint.cli import main
from lanpaint.painting import ledger as ledgers
from lanpaint.painting.entries import list_entries

FEW = {"steps": 2, "inner_steps": 1}
COUNT = 12


@pytest.fixture
def folder(tmp_path, digits, box):
    """A folder with pictures of two sizes, one in a subfolder, and a mask for all of one size."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for number in range(COUNT):
        Image.fromarray(digits[number]).save(tmp_path / "in" / f"{'sub/' if number == 5 else ''}{number:02d}.png")
    Image.fromarray(box).save(tmp_path / "mask.png")
    return tmp_path


def _paint(painter, folder, out="out", **options):
    options = {"settings": FEW, "batch": 5, **options}
    return lp.paint_folder(folder / "in", folder / "mask.png", folder / out, painter, **options)


def _outputs(folder, out="out"):
    found = [path for path in (folder / out).rglob("*") if path.is_file() and ".lanpaint" not in path.parts]
    return {path.relative_to(folder / out).as_posix(): path.read_bytes() for path in found}


def _lines(folder, out="out"):
    return [
        json.loads(line)
        for file in (folder / out / ".lanpaint").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]


def _is_consistent(folder, out="out"):
    """Every output is entered with its hash, and nothing temporary is left."""
    latest = {line["output"]: line for line in sorted(_lines(folder, out), key=lambda line: line["time"])}
    outputs = {name: (folder / out / name) for name in _outputs(folder, out)}
    hashes = {name: ledgers._hash(path) for name, path in outputs.items()}
    assert not list((folder / out / ".lanpaint").glob("*.tmp"))
    assert not list((folder / out / ".lanpaint" / "claims").iterdir())
    return hashes == {name: line["sha256"] for name, line in latest.items() if "sha256" in line}


def _forked(function):
    """A process that runs a function, started; it leaves by the status 7 if the function raises."""

    def run():
        try:
            function()
        except BaseException:
            os._exit(7)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def test_each_picture_is_painted_as_it_is_painted_alone(painter, folder):
    summary = _paint(painter, folder)
    assert (summary.painted, summary.kept, summary.failed) == (COUNT, 0, 0)
    assert len(_outputs(folder)) == COUNT
    known = np.array(Image.open(folder / "mask.png")) == 0
    for line in _lines(folder):
        picture = folder / "in" / line["output"]
        alone = painter.paint(lp.Task(str(picture), str(folder / "mask.png"), seed=line["seed"], settings=FEW))
        painted = np.array(Image.open(folder / "out" / line["output"]))
        assert np.abs(np.array(alone.picture).astype(int) - painted).max() <= 1
        assert np.array_equal(painted[known], np.array(Image.open(picture))[known])
        assert line["evaluations"] == alone.evaluations
    assert len({line["seed"] for line in _lines(folder)}) == COUNT
    assert _is_consistent(folder)


def test_a_run_that_is_given_again_does_what_is_missing_or_has_changed(painter, folder, digits):
    _paint(painter, folder)
    first = _outputs(folder)
    assert _paint(painter, folder).kept == COUNT
    (folder / "out" / "03.png").unlink()
    assert _paint(painter, folder).painted == 1
    assert _outputs(folder) == first
    os.utime(folder / "in" / "04.png", ns=(1, 1))  # another time, and the same content
    assert _paint(painter, folder).painted == 0
    Image.fromarray(digits[50]).save(folder / "in" / "04.png")
    assert _paint(painter, folder).painted == 1
    assert {name for name, found in _outputs(folder).items() if found != first[name]} == {"04.png"}
    assert _paint(painter, folder, seed=1).painted == COUNT
    assert _paint(painter, folder, settings={**FEW, "lam": 2.0}, seed=1).painted == COUNT
    assert _is_consistent(folder)


def test_what_is_damaged_is_found_when_it_is_verified(painter, folder):
    _paint(painter, folder)
    first = _outputs(folder)
    path = folder / "out" / "sub" / "05.png"
    path.write_bytes(first["sub/05.png"][:-1] + b"x")
    assert _paint(painter, folder).kept == COUNT
    assert _paint(painter, folder, verify=True).painted == 1
    assert _outputs(folder) == first


MOMENTS = {
    "before a rename": lambda kill: ("os.replace", lambda given: kill),
    "after a rename": lambda kill: ("lanpaint.painting.ledger.Ledger._enter", lambda given: kill),
    "in the middle of a line": lambda kill: (
        "os.write",
        lambda given: lambda file, line: (given(file, line[:20]), kill()),
    ),
    "in a batch": lambda kill: ("lanpaint.score.NetworkScore.predict", lambda given: kill),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_is_killed_leaves_nothing_broken(painter, folder, moment):
    _paint(painter, folder, "undisturbed")
    for number in (1, 4):

        def killed(number=number):
            left = [number]

            def kill(*_, **__):
                os.kill(os.getpid(), signal.SIGKILL)

            name, make = MOMENTS[moment](kill)
            module, _, attribute = name.rpartition(".")
            owner = sys.modules.get(module) or _class(module)
            given = getattr(owner, attribute)
            final = make(given)

            def counted(*arguments, **options):
                left[0] -= 1
                return (final if left[0] == 0 else given)(*arguments, **options)

            setattr(owner, attribute, counted)
            _paint(painter, folder)

        process = _forked(killed)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    _paint(painter, folder)
    assert _outputs(folder) == _outputs(folder, "undisturbed")
    assert _is_consistent_after_kills(folder)


def _class(name):
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules[module], attribute)


def _is_consistent_after_kills(folder):
    for file in (folder / "out" / ".lanpaint").glob("*.jsonl"):  # without the lines that were cut off
        whole = file.read_bytes()
        file.write_bytes(whole[: whole.rfind(b"\n") + 1])
    return _is_consistent(folder)


def test_two_runs_on_one_folder_share_the_work_and_both_see_its_end(painter, folder):
    _paint(painter, folder, "undisturbed")
    processes = [_forked(lambda: _paint(painter, folder)) for _ in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert _outputs(folder) == _outputs(folder, "undisturbed")
    assert set(Counter(line["output"] for line in _lines(folder)).values()) == {1}
    assert len(_outputs(folder)) == COUNT
    assert _is_consistent(folder)


def test_an_output_that_another_worker_has_is_not_painted(painter, folder):
    entries = list_entries(folder / "in", folder / "mask.png", settings=FEW)
    with (
        lp.painting.folder.Worker(painter, folder / "out") as one,
        lp.painting.folder.Worker(painter, folder / "out") as other,
    ):
        mine, held = one.claim(entries[:4])
        assert (len(mine), held) == (4, [])
        others, held = other.claim(entries[:6])
        assert [entry.output for entry in others] == [entry.output for entry in entries[4:6]]
        for entry, outcome in one.paint(entries[:4]):
            one.keep(entry, outcome)
        again, still_held = other.claim(held)
        assert not again
        assert not still_held
    assert other.summary.kept == 4


def test_shards_are_disjoint_and_together_the_whole(painter, folder):
    _paint(painter, folder, "whole", batch=2)
    parts = [_paint(painter, folder, batch=2, shard=(part, 3)) for part in (1, 2, 3)]
    assert sum(part.painted for part in parts) == COUNT
    assert all(part.kept == 0 for part in parts)
    assert _outputs(folder) == _outputs(folder, "whole")


def test_what_fails_is_told_and_left_and_tried_again(painter, folder):
    (folder / "in" / "broken.png").write_text("no picture")
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "in" / "red.png")
    for _ in range(2):
        summary = _paint(painter, folder)
        assert summary.failed == 2
        assert "is not an image" in summary.reasons["broken.png"]
        assert "this image has colours" in summary.reasons["red.png"]
        assert summary.painted + summary.kept == COUNT
    assert {line["output"] for line in _lines(folder) if "error" in line} == {"broken.png", "red.png"}
    Image.new("L", (8, 8), 90).save(folder / "in" / "red.png")
    (folder / "in" / "broken.png").unlink()
    assert (_paint(painter, folder).painted, _paint(painter, folder).kept) == (1, COUNT + 1)


def test_a_batch_that_fails_is_halved(painter, folder, monkeypatch):
    given, sizes = type(painter).run, []

    def run(self, batch, watching):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if any(one.task.picture.endswith("07.png") for one in batch):
            raise lp.DivergenceError("the state is no longer finite")
        return given(self, batch, watching)

    monkeypatch.setattr(type(painter), "run", run)
    summary = _paint(painter, folder, batch=8)
    assert (summary.painted, summary.failed) == (COUNT - 1, 1)
    assert summary.reasons == {"07.png": "the state is no longer finite"}
    assert 2 in sizes


@pytest.mark.parametrize("what", ["a rename", "a line", "a limit"])
def test_a_full_disk_is_told_in_one_line_and_nothing_is_broken(painter, folder, monkeypatch, what):
    _paint(painter, folder, "undisturbed")
    count = [0]

    def full(given):
        def write(*arguments):
            count[0] += 1
            if count[0] == 3:
                if what == "a line":
                    return given(arguments[0], arguments[1][:30])
                raise OSError(errno.ENOSPC, "No space left on device")
            if count[0] == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
            return given(*arguments)

        return write

    if what == "a limit":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1200, hard))  # as much as a few lines of the ledger
        expected = "File too large"
    else:
        name = "replace" if what == "a rename" else "write"
        monkeypatch.setattr(os, name, full(getattr(os, name)))
        expected = "No space left on device"
    try:
        with pytest.raises(OSError, match=rf"cannot write to .*out: {expected}; what is done is kept") as told:
            _paint(painter, folder)
    finally:
        if what == "a limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(told.value)
    monkeypatch.undo()
    done = len(_outputs(folder))
    assert 0 < done < COUNT
    for line in _lines(folder):  # every line is whole, and says the truth
        assert ledgers._hash(folder / "out" / line["output"]) == line["sha256"]
    summary = _paint(painter, folder)
    assert summary.painted + summary.kept == COUNT
    assert summary.kept in (done, done - 1)
    assert _outputs(folder) == _outputs(folder, "undisturbed")
    assert _is_consistent(folder)


def test_masks_come_from_a_folder_or_from_the_pictures_themselves(painter, tmp_path, digits, box):
    for name in ("in", "masks"):
        (tmp_path / name).mkdir()
    for number in range(2):
        Image.fromarray(digits[number]).save(tmp_path / "in" / f"{number}.png")
    Image.fromarray(box).save(tmp_path / "masks" / "0.bmp")
    summary = lp.paint_folder(tmp_path / "in", tmp_path / "masks", tmp_path / "out", painter, settings=FEW)
    assert (summary.painted, summary.failed) == (1, 1)
    assert "has no mask for 1.png" in summary.reasons["1.png"]
    Image.fromarray(np.dstack([digits[0], 255 - box])).save(tmp_path / "in" / "0.png")
    own = lp.paint_folder(tmp_path / "in", None, tmp_path / "own", painter, settings=FEW)
    assert (own.painted, own.failed) == (1, 1)
    assert "nothing to paint" in own.reasons["1.png"]
    first, second = (np.array(Image.open(tmp_path / out / "0.png")) for out in ("out", "own"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_manifest_gives_each_row_its_own_mask_seed_and_settings(painter, folder, box, kind):
    Image.fromarray(255 - box).save(folder / "around.png")
    rows = [
        {"picture": "in/00.png", "mask": "mask.png", "seed": 7},
        {"picture": "in/01.png", "mask": "around.png", "settings": {"steps": 3, "inner_steps": 2}, "output": "a/b.png"},
        {"picture": "in/00.png", "mask": "mask.png", "seed": 8, "output": "again.png"},
    ]
    manifest = folder / f"rows.{kind}"
    if kind == "jsonl":
        manifest.write_text("\n".join(map(json.dumps, rows)))
    else:
        texts = [
            {name: json.dumps(value) if name == "settings" else value for name, value in row.items()} for row in rows
        ]
        with manifest.open("w", newline="") as file:
            import csv

            writer = csv.DictWriter(file, ["picture", "mask", "seed", "settings", "output"])
            writer.writeheader()
            writer.writerows(texts)
    assert lp.paint_folder(manifest, None, folder / "out", painter, settings=FEW).painted == 3
    for name, row in zip(("in/00.png", "a/b.png", "again.png"), rows, strict=True):
        line = next(line for line in _lines(folder) if line["output"] == name)
        seed, settings = row.get("seed", line["seed"]), row.get("settings", FEW)
        task = lp.Task(str(folder / row["picture"]), str(folder / row["mask"]), seed=seed, settings=settings)
        painted = np.array(Image.open(folder / "out" / name)).astype(int)
        assert np.abs(painted - np.array(painter.paint(task).picture)).max() <= 1
        assert line["seed"] == seed


MISTAKES = {
    "its own folder": (("in", "mask.png", "in"), "the output folder is the folder of pictures"),
    "no folder": (("nowhere", "mask.png", "out"), "is neither a folder nor a manifest"),
    "no pictures": (("empty", "mask.png", "out"), "empty has no pictures"),
    "no masks": (("in", "nowhere.png", "out"), "nowhere.png do not exist"),
    "a file as the output": (
        ("in", "mask.png", "mask.png"),
        "is a file; a folder of pictures is painted into a folder",
    ),
    "two of one name": (("twice", "mask.png", "out"), "would both be written to a.png"),
    "masks that are the pictures": (("in", "in", "out"), "the masks are the folder of pictures"),
    "a manifest of no rows": (("none.csv", "mask.png", "out"), "none.csv has no rows"),
    "a row of nothing": (("bad.jsonl", "mask.png", "out"), "row 1 of .*bad.jsonl has picture, and may have"),
    "a row that goes out": (("out.jsonl", "mask.png", "out"), "output must be a relative path"),
    "a row of bad settings": (("steps.jsonl", "mask.png", "out"), "row 1 of .*: steps must be a whole number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_before_anything_is_painted(painter, folder, digits, name):
    (folder / "none.csv").write_text("picture,mask\n")
    (folder / "empty").mkdir()
    (folder / "twice").mkdir()
    for ending in ("png", "jpg"):
        Image.fromarray(digits[0]).save(folder / "twice" / f"a.{ending}")
    (folder / "bad.jsonl").write_text('{"image": "a.png"}')
    (folder / "out.jsonl").write_text('{"picture": "in/00.png", "output": "../a.png"}')
    (folder / "steps.jsonl").write_text('{"picture": "in/00.png", "settings": {"steps": 0}}')
    (pictures, masks, out), told = MISTAKES[name]
    with pytest.raises(ValueError, match=told):
        lp.paint_folder(folder / pictures, folder / masks, folder / out, painter, settings=FEW)
    assert not (folder / "out").exists()


ROWS = {
    "a mask that is a number": ('{"picture": "a.png", "mask": 5}', "mask must be the path of a file, got 5"),
    "an output that is a list": ('{"picture": "a.png", "output": ["b.png"]}', "output must be the path of a file"),
    "a name that no file can have": ('{"picture": "a\\u0000.png"}', "picture must be the path of a file"),
    "half a character": ('{"picture": "a.png", "output": "\\ud800.png"}', "output must be the path of a file"),
    "the ledger's own folder": ('{"picture": "a.png", "output": ".lanpaint/a.png"}', "output must be a relative path"),
    "a seed that is a word": ('{"picture": "a.png", "seed": "x"}', "seed must be a whole number .* got 'x'"),
    "settings that are no JSON": ('{"picture": "a.png", "settings": "{steps"}', "settings must be a JSON object"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_row_is_told_with_its_number_and_what_is_expected(tmp_path, name):
    row, told = ROWS[name]
    (tmp_path / "rows.jsonl").write_text(f'{{"picture": "first.png"}}\n{row}\n')
    with pytest.raises(ValueError, match=f"^row 2 of .*rows.jsonl: {told}") as error:
        list_entries(tmp_path / "rows.jsonl")
    assert "\n" not in str(error.value)


def test_a_text_of_a_manifest_may_have_any_end_of_line_in_it(tmp_path):
    prompt = "one\ntwo\u2028three\x85four"
    (tmp_path / "rows.csv").write_text(f'picture,prompt\na.png,"{prompt}"\n', encoding="utf-8")
    row = json.dumps({"picture": "a.png", "prompt": prompt}, ensure_ascii=False)
    (tmp_path / "rows.jsonl").write_text(f"\n{row}\n\n", encoding="utf-8")
    for kind in ("csv", "jsonl"):
        assert [entry.prompt for entry in list_entries(tmp_path / f"rows.{kind}")] == [prompt]


OVER = {
    "a row's own picture": ("rows.csv", None, "."),
    "the picture of another row": ("turned.csv", None, "."),
    "masks": ("in", "masks", "masks"),
    "pictures by way of a link": ("rows.csv", None, "link"),
}


@pytest.mark.parametrize("name", OVER)
def test_no_picture_and_no_mask_is_painted_over(painter, tmp_path, digits, box, name):
    for where in ("in", "masks"):
        (tmp_path / where).mkdir()
    for number in range(2):
        Image.fromarray(digits[number]).save(tmp_path / f"{number}.png")
        Image.fromarray(digits[number]).save(tmp_path / "in" / f"{number}.png")
        Image.fromarray(box).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "rows.csv").write_text("picture,mask\n0.png,masks/0.png\n1.png,masks/0.png\n")
    (tmp_path / "turned.csv").write_text("picture,mask,output\n0.png,masks/0.png,1.png\n1.png,masks/0.png,2.png\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    pictures, masks, out = OVER[name]
    with pytest.raises(ValueError, match="is a picture or a mask of this run; name another output folder"):
        lp.paint_folder(tmp_path / pictures, masks and tmp_path / masks, tmp_path / out, painter, settings=FEW)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    assert lp.paint_folder(tmp_path / "rows.csv", None, tmp_path / "out", painter, settings=FEW).painted == 2


def test_results_and_masks_inside_of_the_folder_are_not_painted(painter, folder):
    (folder / "mask.png").rename(folder / "in" / "mask.png")
    (folder / "in" / "link").symlink_to(folder / "elsewhere")
    (folder / "elsewhere").mkdir()
    Image.new("L", (8, 8)).save(folder / "elsewhere" / "other.png")
    for out in ("in/out", "in/out", "in/sub/other"):
        summary = lp.paint_folder(folder / "in", folder / "in" / "mask.png", folder / out, painter, settings=FEW)
        assert summary.painted + summary.kept == COUNT
        assert summary.failed == 0


def test_the_command_line_paints_a_folder_and_says_what_failed(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(*options):
        given = ("inpaint", "in", "mask.png", "-o", "out", "--steps", "2", "--inner-steps", "1", "-q", *options)
        monkeypatch.setattr(sys, "argv", ["lanpaint", *given])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out.strip(), printed.err.strip()

    status, out, err = run("--shard", "1/2", "--batch", "4")
    assert (status, err) == (0, "")
    assert out.startswith("out: 8 painted, 0 there already, 0 failed")
    (folder / "in" / "broken.png").write_text("no picture")
    status, out, err = run("--batch", "4", "--verify")
    assert status == 1
    assert out.startswith("out: 4 painted, 8 there already, 1 failed")
    assert err.startswith("broken.png: the image in/broken.png is not an image")
    assert len(err.splitlines()) == 1
    for options, told in (
        (("--count", "2"), "--count: only for one picture"),
        (("--shard", "3/2"), "shard must be (i, n)"),
        (("--shard", "half"), "--shard takes I/N, such as 1/4"),
        (("--prompt", "a cat"), "--prompt: only for pipelines"),
    ):
        status, out, err = run(*options)
        assert (status, out) == (1, "")
        assert told in err
        assert len(err.splitlines()) == 1
