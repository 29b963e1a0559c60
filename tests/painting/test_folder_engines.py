"""A folder painted by Lightning and by Ray: the bytes of paint_folder, by other drivers."""

import numpy as np
import pytest
from PIL import Image

import lanpaint as lp
from tests.painting.test_folder import FEW, _is_consistent, _lines, _outputs, _paint

COUNT = 6


@pytest.fixture
def folder(tmp_path, digits, box, painter):
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        Image.fromarray(digits[number]).save(tmp_path / "in" / f"{number}.png")
    Image.fromarray(box).save(tmp_path / "mask.png")
    _paint(painter, tmp_path, "undisturbed", batch=2)
    return tmp_path


def _trainer(writer, **options):
    from lightning.pytorch import Trainer

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", callbacks=[writer], **quiet, **options)


@pytest.mark.parametrize("options", [{"devices": 1}, {"devices": 2, "strategy": "ddp_fork"}], ids=["one", "two"])
def test_lightning_paints_each_picture_once_on_any_number_of_devices(folder, options, monkeypatch):
    from lanpaint.painting.lightning import PaintingModule, PictureFolder, PictureWriter

    monkeypatch.chdir(folder)
    data = PictureFolder(str(folder / "in"), str(folder / "mask.png"), settings=FEW, batch=2)
    for _ in range(2):  # the second finds all there
        trainer = _trainer(PictureWriter(str(folder / "out")), **options)
        assert not trainer.predict(PaintingModule("digits"), data, return_predictions=False)
    assert sorted(line["output"] for line in _lines(folder)) == sorted(f"{n}.png" for n in range(COUNT))
    assert _outputs(folder) == _outputs(folder, "undisturbed")
    assert _is_consistent(folder)


def test_lightning_ends_with_an_error_where_a_picture_failed(folder, monkeypatch):
    from lanpaint.painting.lightning import PaintingModule, PictureFolder, PictureWriter

    monkeypatch.chdir(folder)
    (folder / "in" / "z.png").write_text("no picture")
    data = PictureFolder(str(folder / "in"), str(folder / "mask.png"), settings=FEW, batch=2)
    writer = PictureWriter(str(folder / "out"))
    with pytest.raises(RuntimeError, match=r"6 painted, 0 there already, 1 failed.*z\.png: .* is not an image"):
        _trainer(writer, devices=1).predict(PaintingModule("digits"), data, return_predictions=False)
    assert (writer.summary.painted, writer.summary.failed) == (COUNT, 1)
    assert _is_consistent(folder)


def test_lightning_paints_over_no_picture_and_paints_no_results(folder, monkeypatch):
    from lanpaint.painting.lightning import PaintingModule, PictureFolder, PictureWriter

    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in (folder / "in").iterdir()}
    for out in ("in/out", "in", "in/out"):
        data = PictureFolder("in", "mask.png", settings=FEW, batch=2)
        writer = PictureWriter(out)
        run = lambda: _trainer(writer, devices=1).predict(PaintingModule("digits"), data, return_predictions=False)  # noqa: B023, E731
        if out == "in":
            with pytest.raises(ValueError, match="is a picture or a mask of this run"):
                run()
        else:
            run()
            assert writer.summary.painted + writer.summary.kept == COUNT
    assert {path: path.read_bytes() for path in (folder / "in").iterdir() if path.is_file()} == before


CONFIG = """
trainer:
  accelerator: cpu
  devices: 1
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lanpaint.painting.lightning.PictureWriter
      init_args: {out: out}
model: {model: digits}
data:
  pictures: in
  masks: mask.png
  batch: 2
  settings: {steps: 2, inner_steps: 1}
return_predictions: false
"""


def test_the_command_line_of_lightning_runs_a_folder_from_a_file(folder, monkeypatch):
    from lightning.pytorch.cli import LightningCLI

    from lanpaint.painting.lightning import PaintingModule, PictureFolder

    monkeypatch.chdir(folder)
    (folder / "folder.yaml").write_text(CONFIG)
    LightningCLI(PaintingModule, PictureFolder, save_config_callback=None, args=["predict", "--config", "folder.yaml"])
    assert _outputs(folder) == _outputs(folder, "undisturbed")


def test_the_file_on_the_page_is_the_one_that_is_tested():
    from pathlib import Path

    page = (Path(lp.__file__).parents[1] / "docs" / "folders.md").read_text()
    assert CONFIG.strip() in page


def test_an_actor_of_ray_paints_each_picture_once(folder):
    from lanpaint.painting.entries import batches, list_entries
    from lanpaint.painting.ray import PaintingActor

    actor = PaintingActor("digits", str(folder / "out"))
    entries = list_entries(folder / "in", folder / "mask.png", settings=FEW)
    rows = np.array(["\n".join(entry.to_json() for entry in part) for part in batches(entries, 2)])
    made = actor({"entries": rows})
    assert sorted(made["output"]) == sorted(entry.output for entry in entries)
    assert not any(made["error"])
    assert not actor({"entries": rows})["output"]
    actor.worker.ledger.close()
    assert _outputs(folder) == _outputs(folder, "undisturbed")


def test_ray_paints_a_folder(folder):
    pytest.importorskip("ray.data", exc_type=ImportError)
    from lanpaint.painting.ray import paint_by_ray

    summary = paint_by_ray(folder / "in", folder / "mask.png", folder / "out", workers=1, batch=2, settings=FEW)
    assert (summary.painted, summary.failed) == (COUNT, 0)
    assert _outputs(folder) == _outputs(folder, "undisturbed")
    with pytest.raises(ValueError, match="is a picture or a mask of this run"):
        paint_by_ray(folder / "in", folder / "mask.png", folder / "in", batch=2, settings=FEW)
