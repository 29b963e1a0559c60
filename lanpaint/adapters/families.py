"""The families of pipelines that are tested, and what each family supports.

Other pipelines of diffusers may run as well: no code checks whether a pipeline is in this list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from lanpaint.adapters.networks import FAMILIES as NETWORKS


@dataclass(frozen=True)
class SupportedFamily:
    """One family of pipelines, a row of the table.

    Attributes:
        name: Name of the model family.
        pipelines: Names of its pipeline classes in diffusers.
        formalism: ``"diffusion"`` or ``"flow"``.
        makes: ``"image"`` or ``"video"``.
        guidance: Name of the pipeline's argument for the weight of classifier-free guidance; None if it has none.
        negative_prompt: Whether the pipeline takes a negative prompt.
        known_guidance: Whether the known part can have a different guidance weight through the bridge.
    """

    name: str
    pipelines: tuple[str, ...]
    formalism: str
    makes: str = "image"
    guidance: str | None = "guidance_scale"
    negative_prompt: bool = True
    known_guidance: bool = True

    @property
    def network_adapter(self) -> str | None:
        """Name of the function that makes a score of the family's network; None if no function does."""
        if all(pipeline in NETWORKS for pipeline in self.pipelines):
            return "network_score"
        return None


def _without_prompt(name: str, *pipelines: str) -> SupportedFamily:
    return SupportedFamily(name, pipelines, "diffusion", guidance=None, negative_prompt=False, known_guidance=False)


SUPPORTED: tuple[SupportedFamily, ...] = (
    _without_prompt("DDPM, pixels", "DDPMPipeline", "DDIMPipeline"),
    _without_prompt("Latent Diffusion", "LDMPipeline"),
    SupportedFamily("Stable Diffusion 1, 2", ("StableDiffusionPipeline",), "diffusion"),
    SupportedFamily("… with ControlNet", ("StableDiffusionControlNetPipeline",), "diffusion"),
    SupportedFamily("Stable Diffusion XL", ("StableDiffusionXLPipeline",), "diffusion"),
    SupportedFamily("Stable Diffusion 3", ("StableDiffusion3Pipeline",), "flow"),
    SupportedFamily("Flux.1", ("FluxPipeline",), "flow", guidance="true_cfg_scale"),
    SupportedFamily("PixArt-α, PixArt-Σ", ("PixArtAlphaPipeline", "PixArtSigmaPipeline"), "diffusion"),
    SupportedFamily("Sana", ("SanaPipeline",), "flow"),
    SupportedFamily("Qwen-Image", ("QwenImagePipeline",), "flow", guidance="true_cfg_scale", known_guidance=False),
    SupportedFamily("Z-Image", ("ZImagePipeline",), "flow"),
    SupportedFamily("HiDream-I1", ("HiDreamImagePipeline",), "flow"),
    SupportedFamily("Wan 2", ("WanPipeline",), "flow", makes="video"),
    SupportedFamily("LTX-Video", ("LTXPipeline",), "flow", makes="video"),
    SupportedFamily("CogVideoX", ("CogVideoXPipeline",), "diffusion", makes="video"),
)


def table() -> str:
    """The families as a table in Markdown."""
    rows = [
        ["family", "pipeline", "model", "makes", "bridge", "network adapter", "guidance", "negative", "known part's"]
    ]
    for family in SUPPORTED:
        adapter, guidance = family.network_adapter or "–", family.guidance or "–"
        yes = ["yes" if supported else "–" for supported in (family.negative_prompt, family.known_guidance)]
        names = ", ".join(name.removesuffix("Pipeline") for name in family.pipelines)
        rows.append([family.name, names, family.formalism, family.makes, "yes", adapter, guidance, *yes])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def tested() -> dict[str, str]:
    """The verdict on each further pipeline class that was built small and tried: its name → a word.

    ``"right"``, ``"refused"`` (in one line that says what to do) with the reason, ``"silent wrong"`` or
    ``"misleading"``. Reasons are another class that is to be given, no right answer, and a limit of this library. The
    file is written by ``python -m tests.adapters.zoo``, and a test holds the classes at it.
    """
    text = resources.files("lanpaint.adapters").joinpath("tested.json").read_text(encoding="utf-8")
    verdicts: dict[str, str] = json.loads(text)
    return verdicts


def tested_in_words() -> str:
    """The verdicts, a paragraph for each."""
    verdicts = tested()
    told = {
        "right": "paint rightly",
        "refused: another class": "are refused, in a line that says which class to give",
        "refused: no right answer": "are refused, since there is no right answer",
        "refused: a limit": "are refused, a limit of this library",
    }
    groups = {words: [name for name, word in verdicts.items() if word == verdict] for verdict, words in told.items()}
    groups["do not paint rightly yet"] = [name for name, word in verdicts.items() if word not in told]
    return "\n\n".join(f"{len(names)} {words}: {'; '.join(names)}" for words, names in groups.items() if names)
