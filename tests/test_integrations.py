"""The files of integrations/: diffusers itself loads the pipeline; the node meets the contract that its file states."""

import asyncio
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import lanpaint as lp
from tests.adapters import tiny

FOLDER = Path(__file__).parents[1] / "integrations"


def test_diffusers_loads_the_community_pipeline_and_it_inpaints(tmp_path):
    made = tiny.with_clip(tiny.sd()).pipe
    made.save_pretrained(tmp_path / "sd")
    pipe = DiffusionPipeline.from_pretrained(
        str(tmp_path / "sd"), custom_pipeline=str(FOLDER / "diffusers"), trust_remote_code=True
    )
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    given = {"num_inference_steps": 2, "inner_steps": 1}
    seeded = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    picture = pipe("a cat", image=photo, mask_image=Image.fromarray(mask), generator=seeded(), **given).images[0]
    same = lp.Inpainter(made)(photo, Image.fromarray(mask), prompt="a cat", generator=seeded(), **given).images[0]
    assert np.array_equal(np.array(picture), np.array(same))
    assert np.array_equal(np.array(picture)[:, :8], np.array(photo)[:, :8])
    assert pipe("a cat", num_inference_steps=1).images[0].size == photo.size  # without a picture, as it is
    assert {name for name, part in pipe.components.items() if part is not None} == {
        name for name, part in made.components.items() if part is not None
    }


class _Recorded:
    """Keeps what it is made with, and refuses a name that the contract does not have."""

    names: tuple[str, ...] = ()

    def __init__(self, *values, **given):
        assert set(given) <= set(self.names), set(given) - set(self.names)
        self.values, self.given = values, given


def _kind(*inputs, output=False):
    common = ("optional", "tooltip", "default")
    made = {"Input": type("Input", (_Recorded,), {"names": (*common, *inputs)})}
    if output:
        made["Output"] = type("Output", (_Recorded,), {"names": ("display_name",)})
    return SimpleNamespace(**made)


@pytest.fixture
def comfy(monkeypatch):
    """What the file of the node states of ComfyUI's V3 interface."""
    schema = ("node_id", "display_name", "category", "description", "inputs", "outputs")
    io = SimpleNamespace(
        ComfyNode=type("ComfyNode", (), {}),
        Schema=type("Schema", (_Recorded,), {"names": schema}),
        NodeOutput=type("NodeOutput", (_Recorded,), {}),
        Image=_kind(output=True),
        Mask=_kind(),
        String=_kind("multiline"),
        Int=_kind("min", "max", "step"),
        Float=_kind("min", "max", "step"),
        Boolean=_kind(),
        Combo=_kind("options"),
    )
    bars, state = [], SimpleNamespace(interrupted=False)

    class ProgressBar:
        def __init__(self, total):
            self.total, self.values = total, []
            bars.append(self)

        def update_absolute(self, value):
            self.values.append(value)

    def throw():
        if state.interrupted:
            raise InterruptedError("cancelled")

    parts = {
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.model_management": {"throw_exception_if_processing_interrupted": throw},
        "comfy_api": {},
        "comfy_api.latest": {"io": io, "ComfyExtension": type("ComfyExtension", (), {})},
    }
    for name, values in parts.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    spec = importlib.util.spec_from_file_location("lanpaint_node", FOLDER / "comfyui" / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(module=module, bars=bars, state=state)


def test_the_node_of_comfyui_paints_a_batch_and_keeps_known_pixels_bit_for_bit(comfy):
    with ThreadPoolExecutor(1) as thread:  # a loop may be running here, left by the tests of the page
        found = thread.submit(lambda: asyncio.run(asyncio.run(comfy.module.comfy_entrypoint()).get_node_list()))
    (node,) = found.result()
    schema = node.define_schema().given
    defaults = {one.values[0]: one.given.get("default") for one in schema["inputs"]}
    image = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0)).mean(-1, keepdim=True).expand(2, 8, 8, 3)
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 2:6] = 1
    given = {**defaults, "image": image, "mask": mask, "model": "digits", "steps": 2, "inner_steps": 1, "seed": 4}
    (painted,) = node.execute(**given).values
    assert painted.shape == image.shape
    assert painted.dtype == image.dtype
    hole = mask[0] > 0
    assert torch.equal(painted[:, ~hole], image[:, ~hole])
    assert not torch.equal(painted[:, hole], image[:, hole])
    second = node.execute(**{**given, "image": image[1:], "seed": 5}).values[0]
    assert torch.allclose(second[0], painted[1], atol=1.5 / 255)  # the seed counts up in a batch
    assert comfy.bars[0].values[-1] == comfy.bars[0].total // 2
    alpha = torch.full((2, 8, 8, 1), 0.25)
    (clear,) = node.execute(**{**given, "image": torch.cat([image, alpha], -1)}).values
    assert torch.equal(clear, torch.cat([painted, alpha], -1))
    for masks, told in ((mask.expand(3, -1, -1), "3 masks for 2 images"), (mask[:, :4], "mask")):
        with pytest.raises(ValueError, match=told) as error:
            node.execute(**{**given, "mask": masks})
        assert "\n" not in str(error.value)
    comfy.state.interrupted = True
    with pytest.raises(InterruptedError):
        node.execute(**given)
