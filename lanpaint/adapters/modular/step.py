"""LanPaint as blocks for a modular pipeline that is put together by hand.

:class:`~lanpaint.Inpainter` needs none of this. The blocks are for pipelines that are to be shared, or that do other
things beside: they inpaint in each call that has a mask, and leave the other calls as they are::

    blocks = with_lanpaint(QwenImageAutoBlocks().get_workflow("text2image"))
    pipe = blocks.init_pipeline("Qwen/Qwen-Image")
    pipe.load_components(dtype=torch.bfloat16)
    image = pipe(prompt="a blue shirt", known_image=photo, paint_mask=mask, inner_steps=5, output="images")[0]

:class:`LanPaintDenoiseStep` takes the place of a denoising loop and has the loop in it; :class:`LanPaintPasteStep` puts
the known pixels into what is decoded.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from torch import Tensor

from lanpaint.adapters.bridge import Bridge
from lanpaint.adapters.bridge.call import turn
from lanpaint.adapters.modular.blocks import after, is_loop
from lanpaint.adapters.modular.layout import ModularLayout
from lanpaint.observation import Observation
from lanpaint.pasting import pasted, seam_weight
from lanpaint.pictures import read_change, read_pictures, with_channels
from lanpaint.samplers import LanPaint

_PICTURE = [
    InputParam("known_image", description="The picture, or the frames of the video, whose unmasked part is kept."),
    InputParam("paint_mask", description="What to paint, as large as the picture: white, 1 or True is painted anew."),
]


class LanPaintDenoiseStep(ModularPipelineBlocks):
    """A denoising loop that keeps what is known. It takes the place of the loop of a modular pipeline.

    Without a picture and without known latents it is the loop.

    Args:
        loop: The loop, a block of the pipeline's family.
        tail: The blocks that come after it, up to the decoder. They tell where a picture lies in the latents, and are
            needed for ``known_image``, not for ``known_latents``.
    """

    def __init__(self, loop: Any, tail: list[Any] | None = None) -> None:
        super().__init__()
        self.loop, self.tail = loop, tail or []

    @property
    def model_name(self) -> str | None:  # type: ignore[override]
        """That of the loop."""
        name: str | None = self.loop.model_name
        return name

    @property
    def description(self) -> str:
        """What the block does."""
        return (
            "Denoises with LanPaint: what is known stays as it is, and what is painted is drawn given what is known. "
            "The network is called by the sub-blocks of " + type(self.loop).__name__ + ". Give `known_image` and "
            "`paint_mask`, or `known_latents` and `known_latents_mask`; without these the loop runs as it is."
        )

    @property
    def expected_components(self) -> list[Any]:
        """Those of the loop, and of the tail."""
        found = list(self.loop.expected_components)
        return found + [part for block in self.tail for part in block.expected_components if part not in found]

    @property
    def expected_configs(self) -> list[Any]:
        """Those of the loop."""
        return list(self.loop.expected_configs)

    @property
    def inputs(self) -> list[Any]:
        """Those of the loop, and what is known."""
        return [
            *self.loop.inputs,
            *_PICTURE,
            InputParam(
                "known_latents",
                type_hint=torch.Tensor,
                description="Clean latents of which a part is known, in the layout of `latents`, instead of a picture.",
            ),
            InputParam(
                "known_latents_mask",
                type_hint=torch.Tensor,
                description="Where `known_latents` are known: boolean, True where known, broadcastable to `latents`.",
            ),
            InputParam("inner_steps", type_hint=int, default=5, description="Langevin steps at each noise level."),
            InputParam(
                "sampler_options",
                type_hint=dict,
                description="Further options of `lanpaint.LanPaint`, such as `lam`; `sampler` is another class.",
            ),
            InputParam("generator", type_hint=torch.Generator, description="Determines the sampler's random numbers."),
        ]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """Those of the loop."""
        return list(self.loop.intermediate_outputs)

    def set_progress_bar_config(self, **options: Any) -> None:
        """As of the loop."""
        self.loop.set_progress_bar_config(**options)

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run the loop with a sampler in it.

        Raises:
            ValueError: For a mask without a picture or latents, pictures of another size than the pipeline paints, and
                as :func:`~lanpaint.bridged`.
        """
        given: Any = self.get_block_state(state)
        observation: Any = None
        if given.known_latents is not None:
            if given.known_latents_mask is None:
                raise ValueError("known_latents needs known_latents_mask: boolean, True where the latents are known")
            observation = Observation(given.known_latents, given.known_latents_mask)
        elif given.known_image is not None or given.paint_mask is not None:
            if given.known_image is None or given.paint_mask is None:
                raise ValueError("known_image and paint_mask belong together; give both, or neither")
            layout = ModularLayout(components)
            layout.tail = self.tail, copy.copy(state)
            shown = _read(layout, given.known_image, given.paint_mask)
            observation = functools.partial(layout.observation, *shown)
        if observation is None:
            stepped: tuple[Any, Any] = self.loop(components, state)
            return stepped
        options = dict(given.sampler_options or {})
        factory = functools.partial(options.pop("sampler", LanPaint), inner_steps=given.inner_steps, **options)
        with turn(components):
            return Bridge(components, factory, observation, None).run_loop(self.loop, state)


class LanPaintPasteStep(ModularPipelineBlocks):
    """Puts the known pixels into what a modular pipeline has decoded. It is the last block.

    Args:
        output: The name of the decoded pictures.
    """

    def __init__(self, output: str = "images") -> None:
        super().__init__()
        self.output = output

    @property
    def description(self) -> str:
        """What the block does."""
        return "Puts the known pixels of `known_image` into the decoded pictures, exactly."

    @property
    def inputs(self) -> list[Any]:
        """The decoded pictures and what is known."""
        return [
            InputParam(self.output, description="The decoded pictures, of any output type."),
            InputParam("output_type", default="pil"),
            *_PICTURE,
            InputParam("feather", type_hint=int, default=0, description="Width in pixels of a seam on the known side."),
        ]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """The pictures."""
        return [OutputParam(self.output, description="The pictures, with the known pixels in them.")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Paste."""
        given: Any = self.get_block_state(state)
        if given.known_image is not None and given.paint_mask is not None and given.output_type != "latent":
            layout = ModularLayout(components)
            pictures, change = _read(layout, given.known_image, given.paint_mask)
            made = getattr(given, self.output)
            setattr(given, self.output, pasted(made, pictures, seam_weight(change == 0, given.feather)))
        self.set_block_state(state, given)
        return components, state


def with_lanpaint(blocks: Any, output: str | None = None) -> Any:
    """A copy of the blocks of a modular pipeline that inpaints in calls with ``known_image`` and ``paint_mask``.

    Args:
        blocks: The blocks: of a pipeline (``pipe.blocks``), of a family (``QwenImageAutoBlocks()``), or a workflow.
        output: The name of the decoded pictures. By default ``"videos"`` where the blocks give videos, else
            ``"images"``.

    Raises:
        ValueError: For blocks without a denoising loop.
    """
    copied = copy.deepcopy(blocks)
    if not _replace_loops(copied, copied):
        raise ValueError(
            f"{type(blocks).__name__} has no denoising loop of blocks that LanPaint could take the place of"
        )
    names = {made.name for made in copied.outputs}
    name = output or ("videos" if "videos" in names else "images")
    return SequentialPipelineBlocks.from_blocks_dict({**copied.sub_blocks, "paste_known": LanPaintPasteStep(name)})


def _replace_loops(block: Any, root: Any) -> int:
    count = 0
    for name, part in list(block.sub_blocks.items()):
        if is_loop(part):
            block.sub_blocks[name] = LanPaintDenoiseStep(part, after(root, part))
            count += 1
        else:
            count += _replace_loops(part, root)
    return count


def _read(layout: ModularLayout, image: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """Pictures (n, C, [frames,] H, W) in [0, 1], and how much may change, (n, 1, [frames,] H, W)."""
    pictures = with_channels(read_pictures(image)[0], layout.channels)
    height, width = pictures.shape[-2:]
    change = read_change(mask, (height, width), len(pictures))
    if layout.is_video:
        pictures, change = ((part[None] if part.ndim == 4 else part).transpose(1, 2) for part in (pictures, change))
    return pictures, change.expand(pictures[:, :1].shape)
