"""The page docs/use-with-your-model.md: its snippets run, as README's, every family has one, and its table is true."""

import functools
import inspect
import re

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import lanpaint as lp
from tests.adapters import table, tiny

PAGE = table.PAGE.read_text(encoding="utf-8")
SNIPPETS = [
    re.findall(r"```py\n(.*?)```", part, flags=re.DOTALL) for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
]
FIRST, *OTHERS = ["".join(snippets) for snippets in SNIPPETS if snippets]
MADE = {type(make().pipe).__name__: make for make in tiny.FAMILIES.values()}
PIPELINE = re.compile(r"(\w+Pipeline)\.from_pretrained")


def _speaking(made):
    """Whatever it is asked to encode becomes the embeddings that the small pipeline has."""
    encode = getattr(made.pipe, "encode_prompt", None)
    if encode is not None:
        names = inspect.signature(encode).parameters
        given = {name: value for name, value in made.call.items() if "_embeds" in name or "_mask" in name}
        given = {name: value for name, value in given.items() if name in names}

        @functools.wraps(encode)
        def encode_prompt(*args, **kwargs):
            return encode(*args, **{**kwargs, **given})

        made.pipe.encode_prompt = encode_prompt
    return made.pipe


def _quickly(self, call, *args, **kwargs):
    return call(self, *args, **{**kwargs, "steps": 2, "inner_steps": 1})


def _save_inputs(made):
    generator = np.random.default_rng(0)
    frames, *size = (1, *made.size)[-3:]
    pictures = [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(frames)]
    pictures[0].save("photo.png")
    pictures[0].convert("L").convert("RGB").save("edges.png")
    pictures[0].save("clip.gif", save_all=True, append_images=pictures[1:])
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, size[1] // 2 :] = 255
    Image.fromarray(mask).save("mask.png")


README = re.findall(r"```py\n(.*?)```", (table.PAGE.parents[1] / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("snippet", [*OTHERS, *README], ids=lambda snippet: PIPELINE.search(snippet)[1])
def test_a_snippet_runs_with_a_small_pipeline_of_its_class(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = MADE[PIPELINE.search(snippet)[1]]()

    def from_pretrained(cls, *args, **kwargs):
        assert cls is type(made.pipe)
        return _speaking(made)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", classmethod(from_pretrained))
    for kind in (diffusers.ModelMixin, transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase):
        monkeypatch.setattr(kind, "from_pretrained", classmethod(lambda *_, **__: None))
    monkeypatch.setattr(lp.Inpainter, "__call__", functools.partialmethod(_quickly, lp.Inpainter.__call__))
    _save_inputs(made)
    names = {}
    for code in (FIRST, "from diffusers.utils import export_to_video, load_video\n", snippet):
        exec(compile(code, "docs/use-with-your-model.md", "exec"), names)
    if "score" in names:  # the snippet of a network
        assert torch.isfinite(names["score"].score(torch.zeros(1, 4, 8, 8), lp.NoiseLevel(0.5, 0.5))).all()
        return
    stills = "image" in names
    painted = np.stack([np.asarray(picture) for picture in ([names["image"]] if stills else names["frames"])])
    if painted.dtype == np.float32:
        painted = (painted * 255).round().astype(np.uint8)
    given = [names["photo"]] if stills else names["load_video"]("clip.gif")
    known = np.stack([np.asarray(picture.convert("RGB")) for picture in given])
    half = made.size[-1] // 2
    assert np.array_equal(painted[..., :half, :], known[..., :half, :])


def test_every_family_has_a_snippet():
    shown = {PIPELINE.search(snippet)[1] for snippet in OTHERS}
    assert shown == set(MADE) - {"DDPMPipeline"}  # which is in the same section as Latent Diffusion


def test_the_table_has_all_families_and_schedulers_and_is_what_runs():
    lines = [line for line in table.MARKS.search(PAGE)[0].splitlines() if line.startswith("| ")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}
    assert cells.pop("") == [f"`{name}`" for name in table.NAMES]
    assert list(cells) == list(tiny.FAMILIES)
    for family in ("SD3", "Qwen-Image", "HiDream", "CogVideoX"):  # all of them: python -m tests.adapters.table
        assert cells[family] == table.row(family)
