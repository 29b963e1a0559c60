"""Pipelines of diffusers from a folder or the hub, part by part, so that an error names the part at fault.

A loader of diffusers or transformers gives random numbers to weights that a file lacks, and says so in a log at most. A
pipeline with such a part runs, and paints what nobody asked for. So here a part that lacks weights is refused.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("diffusers", "transformers")  # their loaders tell which weights are missing


def read_index(folder: Path) -> dict[str, Any]:
    """The ``model_index.json`` of a folder.

    Raises:
        ValueError: When it is not the index of a pipeline.
    """
    index = folder / "model_index.json"
    parts = _read_object(index)
    for name, part in parts.items():
        if isinstance(part, list) and not (
            len(part) == 2 and all(isinstance(word, (str, type(None))) for word in part)
        ):
            raise ValueError(f"{index} must name a library and a class for {name}, got {part!r:.60}")
    return parts


def check_configs(folder: Path) -> None:
    """Raise ValueError unless every part that the index of a folder names is there, with configs of JSON objects."""
    for name, _, _ in _named_parts(read_index(folder)):
        if not (folder / name).is_dir():
            raise ValueError(
                f"{folder} has no folder {name}, which its model_index.json names; download the model again"
            )
        for config in ("config.json", "scheduler_config.json"):
            if (folder / name / config).is_file():
                _read_object(folder / name / config)


def load_whole(model: str, dtype: torch.dtype) -> Any:
    """A pipeline with every weight that it needs. Weights are read from safetensors alone: others can run any program.

    Args:
        model: A folder in diffusers' layout, or a hub id.
        dtype: The dtype of the weights.

    Raises:
        ValueError: When a part cannot be loaded, or lacks weights.
    """
    import diffusers

    folder, common = Path(model), {"torch_dtype": dtype, "use_safetensors": True}
    if folder.is_dir():
        common["local_files_only"] = True
    try:
        if folder.is_dir():
            check_configs(folder)
        index = read_index(folder) if folder.is_dir() else diffusers.DiffusionPipeline.load_config(model)
        _find("diffusers", index.get("_class_name"), "the pipeline")
        parts = {name: _load(model, name, kind, common) for name, kind in _loadable(index).items()}
        return diffusers.DiffusionPipeline.from_pretrained(model, **common, **parts)
    except Exception as error:  # a folder of unknown content can raise anything in the libraries that read it
        raise ValueError(f"cannot load {model!r} as a diffusers pipeline: {told(error)}") from error


def with_controlnet(pipe: Any, source: str, dtype: torch.dtype) -> Any:
    """A pipeline of the same family and the same parts that a ControlNet guides.

    Args:
        pipe: A text-to-image pipeline.
        source: A folder or a hub id of a ControlNet.
        dtype: The dtype of its weights.

    Raises:
        ValueError: When the ControlNet cannot be loaded, or does not fit the pipeline.
    """
    import diffusers

    local = {"local_files_only": True} if Path(source).is_dir() else {}
    try:
        config = diffusers.ControlNetModel.load_config(source, **local)
        kind = _find("diffusers", config.get("_class_name"), "it")
        if "controlnet" not in kind.__name__.lower():
            raise ValueError(f"it is a {kind.__name__}, and no ControlNet")
        network, info = kind.from_pretrained(
            source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **local
        )
        if info["missing_keys"]:
            raise ValueError(
                f"it lacks weights, such as {sorted(map(str, info['missing_keys']))[0]}; download it again"
            )
    except Exception as error:  # a folder of unknown content can raise anything in the libraries that read it
        raise ValueError(f"cannot load {source!r} as a ControlNet: {told(error)}") from error
    try:
        return diffusers.AutoPipelineForText2Image.from_pipe(pipe, controlnet=network.eval())
    except Exception as error:
        raise ValueError(f"{type(pipe).__name__} takes no {kind.__name__}: {told(error)}") from error


def told(error: Exception) -> str:
    """What an error of a library that loads a model says: two lines of it at most."""
    if not isinstance(error, (ValueError, OSError, ImportError, RuntimeError)):
        return f"a value in its configs is of a wrong type ({type(error).__name__})"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2])[:300]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must be a JSON object, got {found!r:.40}")
    return found


def _named_parts(index: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, library, class) of every part that an index names."""
    found = [(name, *part) for name, part in index.items() if isinstance(part, (list, tuple)) and len(part) == 2]
    return [(name, library, kind) for name, library, kind in found if library is not None and kind is not None]


def _find(library: str, kind: Any, what: str) -> Any:
    found = getattr(importlib.import_module(library), kind, None) if isinstance(kind, str) else None
    if found is None:
        version = importlib.import_module(library).__version__
        raise ValueError(f"{what} has the class {kind!r}, which {library} {version} does not have; update {library}")
    return found


def _loadable(index: dict[str, Any]) -> dict[str, Any]:
    """Name → class of the networks and schedulers among the parts."""
    from diffusers import SchedulerMixin

    found: dict[str, Any] = {}
    for name, library, kind in _named_parts(index):
        if library in sys.stdlib_module_names:
            raise ValueError(f"its {name} comes from {library}, which has no models; download the model again")
        if library in _LIBRARIES:
            made = _find(library, kind, f"its {name}")
            if isinstance(made, type) and issubclass(made, (torch.nn.Module, SchedulerMixin)):
                found[name] = made
    return found


def _load(model: str, name: str, kind: Any, common: dict[str, Any]) -> Any:
    is_network = issubclass(kind, torch.nn.Module)
    local = {key: value for key, value in common.items() if key == "local_files_only"}
    try:
        if not is_network:
            part = kind.from_pretrained(model, subfolder=name, **local)
        else:
            part, info = kind.from_pretrained(model, subfolder=name, output_loading_info=True, **common)
    except Exception as error:
        raise ValueError(f"its {name} does not load: {told(error)}") from error
    if is_network:
        missing = sorted(map(str, info["missing_keys"]))
        if missing:
            raise ValueError(f"its {name} lacks weights, such as {missing[0]}; download the model again")
    else:
        for numbers in ("alphas_cumprod", "sigmas"):
            values = getattr(part, numbers, None)
            if isinstance(values, torch.Tensor) and bool(torch.isnan(values).any()):
                raise ValueError(f"its {name} has NaN among its {numbers}; correct the betas in its config")
    return part
