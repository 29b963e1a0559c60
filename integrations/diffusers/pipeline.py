# SPDX-License-Identifier: Apache-2.0
"""A community pipeline of diffusers: any text-to-image pipeline inpaints. pip install 'lanpaint[pipelines]'.

.. code-block:: python

    pipe = DiffusionPipeline.from_pretrained(MODEL, custom_pipeline="integrations/diffusers", trust_remote_code=True)
    picture = pipe("a blue shirt", image=photo, mask_image=mask, num_inference_steps=20, inner_steps=5).images[0]

MODEL is a model of any pipeline class with the parts below. The class that its ``model_index.json`` names does the
work, and :class:`lanpaint.Inpainter` turns it inside out. Without an image it is called as it is.
"""

from typing import Any, ClassVar

import diffusers
from diffusers import DiffusionPipeline

import lanpaint

_PARTS = (
    *("vae", "vqvae", "unet", "transformer", "transformer_2", "scheduler"),
    *("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"),
    *("image_encoder", "feature_extractor", "safety_checker", "controlnet"),
)


class LanPaintPipeline(DiffusionPipeline):
    """The pipeline of a model, with ``image`` and ``mask_image``.

    Args:
        **parts: The parts of the model, as ``from_pretrained`` gives them.
    """

    _optional_components: ClassVar[list[str]] = list(_PARTS)

    def __init__(
        self,
        vae: Any = None,
        vqvae: Any = None,
        unet: Any = None,
        transformer: Any = None,
        transformer_2: Any = None,
        scheduler: Any = None,
        text_encoder: Any = None,
        text_encoder_2: Any = None,
        text_encoder_3: Any = None,
        tokenizer: Any = None,
        tokenizer_2: Any = None,
        tokenizer_3: Any = None,
        image_encoder: Any = None,
        feature_extractor: Any = None,
        safety_checker: Any = None,
        controlnet: Any = None,
    ) -> None:
        super().__init__()
        given = locals()
        self.register_modules(**{name: given[name] for name in _PARTS})
        self._inpainter: lanpaint.Inpainter | None = None

    @property
    def inpainter(self) -> lanpaint.Inpainter:
        """The inpainter of the model's own pipeline, which shares the parts of this one."""
        parts = {name: part for name, part in self.components.items() if part is not None}
        if self._inpainter is None or self._inpainter.pipe.scheduler is not self.scheduler:
            index = DiffusionPipeline.load_config(self.config._name_or_path)
            kind: Any = getattr(diffusers, index["_class_name"])
            names = kind._get_signature_keys(kind)
            own = {name: parts.get(name) for name in names[0]}
            own |= {name: index[name] for name in names[1] if name in index and not isinstance(index[name], list)}
            self._inpainter = lanpaint.Inpainter(kind(**own))
        return self._inpainter

    def __call__(self, prompt: Any = None, image: Any = None, mask_image: Any = None, **arguments: Any) -> Any:
        """The output of the model's own pipeline, with the known pixels of ``image`` in its pictures.

        Args:
            prompt: The prompt, for a model that takes one.
            image: The picture, or several.
            mask_image: What to paint: white is painted. By default the transparent pixels of ``image``.
            **arguments: As :meth:`lanpaint.Inpainter.__call__`: arguments of the pipeline, ``inner_steps``, ``crop``, …

        Raises:
            TypeError, ValueError: As :class:`lanpaint.Inpainter`.
        """
        if prompt is not None:
            arguments["prompt"] = prompt
        if image is None and mask_image is None:
            return self.inpainter.pipe(**arguments)
        return self.inpainter(image, mask_image, **arguments)
