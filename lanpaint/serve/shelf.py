"""The models that the server was started with: their names for clients, and what kind each is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanpaint.methods import usual_method
from lanpaint.names import SHIPPED, model_folder

DEFAULT_MODELS = ("emoji-pixel", "emoji-flow", "digits")
_SENTENCES = {
    "emoji-pixel": "A diffusion of emoji, 32 × 32 pixels.",
    "emoji-flow": "A rectified flow of emoji, 32 × 32 pixels.",
    "emoji-async": "A rectified flow of emoji with a time for each pixel, 32 × 32 pixels.",
    "emoji-latent": "A latent diffusion of emoji, 64 × 64 pixels.",
    "digits": "Handwritten digits in grey, 8 × 8 pixels.",
}


@dataclass(frozen=True)
class Model:
    """A model of the server.

    Attributes:
        name: What clients call it: the last part of a folder's path, so that no path is told.
        source: What it is loaded from: a shipped model, a folder or a hub id.
        is_pipeline: Whether it is a pipeline of diffusers, with a prompt and so on.
        side: Side in pixels of the pictures that it was trained on; None while unknown.
        grey: Whether it takes grey pictures only.
        method: Name of the method that paints where none is named.
    """

    name: str
    source: str
    is_pipeline: bool
    side: int | None
    grey: bool
    method: str = usual_method(False)

    @property
    def sentence(self) -> str:
        """What it is, in one sentence."""
        if self.name in _SENTENCES:
            return _SENTENCES[self.name]
        kind = "A diffusers pipeline" if self.is_pipeline else "A pixel model"
        return kind + (f" for pictures of about {self.side} × {self.side} pixels." if self.side else ".")


def make_shelf(sources: Sequence[str]) -> dict[str, Model]:
    """Name → model.

    Raises:
        ValueError: For a model that is not there, and for two of one name.
    """
    shelf: dict[str, Model] = {}
    for source in sources:
        model = _model(source)
        if model.name in shelf:
            raise ValueError(f"two models are called {model.name!r}; give each once, or rename a folder")
        shelf[model.name] = model
    return shelf


def _model(source: str) -> Model:
    from lanpaint.adapters.diffusers import takes_time_maps
    from lanpaint.painting.pipeline import is_pixel_model, pipeline_parts

    where = model_folder(source)
    if Path(where).is_file():
        raise ValueError(f"model {source} is a file; give the folder of a model, or a name on the hub")
    parts = pipeline_parts(where)
    is_pipeline = not is_pixel_model(parts)
    folder = Path(where)
    name = source if source in SHIPPED or not folder.is_dir() else folder.absolute().name
    config = _config(folder, "unet", "transformer") if folder.is_dir() else {}
    side = config.get("sample_size")
    side = side[0] if isinstance(side, list) and side else side
    if is_pipeline and isinstance(side, int):
        vae = _config(folder, "vae", "vqvae", "movq")
        side *= 2 ** (len(vae.get("block_out_channels") or [0]) - 1)
    grey = not is_pipeline and config.get("in_channels") == 1
    method = usual_method(not is_pipeline and takes_time_maps(where))
    return Model(name, source, is_pipeline, side if isinstance(side, int) and side > 0 else None, grey, method)


def _config(folder: Path, *parts: str) -> dict[str, Any]:
    for place in (*(folder / part for part in parts), folder):
        try:
            found = json.loads((place / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}
