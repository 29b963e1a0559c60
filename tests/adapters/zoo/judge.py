"""What a pipeline class does with a picture and a mask, column by column, and what that amounts to."""

from __future__ import annotations

import functools
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lanpaint as lp
from lanpaint.adapters.known_cells import KnownCells
from lanpaint.adapters.schedulers import fingerprint
from tests.adapters.zoo.case import Case

INNER = 2
COLUMNS = {
    "runs": "paints to its end, in finite numbers",
    "calls": "as many network calls as the plan declares",
    "latents": "known latents exact",
    "pixels": "known pixels exact",
    "untouched": "nothing known and no inner steps: the untouched pipeline's picture, bit for bit",
    "unchanged": "the pipeline is the same afterwards",
    "decodes": "the known latents decode to what the VAE makes of the known picture",
}
RIGHT, REFUSED, SILENT, MISLEADING = "right", "refused", "silent wrong", "misleading"
_PACKAGE = str(Path(lp.__file__).parent)


@dataclass
class Verdict:
    """Of one class: each column True, False, or None where it does not apply or was not reached; and the error."""

    columns: dict[str, bool | None] = field(default_factory=lambda: dict.fromkeys(COLUMNS))
    word: str = RIGHT
    message: str = ""


class _Keep(lp.Callback):
    """Keeps the last state and the observation."""

    x: torch.Tensor
    observation: lp.Observation

    def on_level_end(self, sampler: Any, state: Any) -> None:
        self.x, self.observation = state.x, state.observation


class _Calls:
    """Counts the calls of a case's networks."""

    def __init__(self, made: Case) -> None:
        self.count, self._parts = 0, made.parts

    def __enter__(self) -> _Calls:
        self._hooks = [part.register_forward_hook(self._tick) for part in self._parts]
        return self

    def _tick(self, *_: Any) -> None:
        self.count += 1

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()


def judge(made: Case) -> Verdict:
    """The verdict on a class."""
    verdict = Verdict()
    try:
        if made.makes not in ("picture", "video"):
            _refused_as_pictures(made, verdict)
        elif made.refused is not None:
            _inpaint(made, _Keep())
            verdict.columns["runs"] = True
        if verdict.word == RIGHT:
            _columns(made, verdict)
        if not all(value is not False for value in verdict.columns.values()):
            verdict.word = SILENT
    except BrokenCaseError:
        raise
    except Exception as error:
        verdict.columns["runs"] = False
        _refusal(made, verdict, error)
    return verdict


def _refused_as_pictures(made: Case, verdict: Verdict) -> None:
    """What makes no pictures is refused by the door for pictures, and runs within ``bridged``."""
    try:
        _inpaint(made, _Keep())
    except Exception as error:
        _refusal(made, verdict, error)
        if verdict.word == REFUSED:
            verdict.word = RIGHT
        return
    verdict.word = SILENT


def _refusal(made: Case, verdict: Verdict, error: Exception) -> None:
    """A refusal is clear when this library raises it, in one line that the case knows."""
    told = str(error).strip()
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = frames[-1].startswith(_PACKAGE) and isinstance(error, (ValueError, TypeError, RuntimeError))
    known = made.refused is not None and re.search(made.refused, told) is not None
    verdict.message = f"{type(error).__name__}: {told.splitlines()[0] if told else ''}"
    verdict.word = REFUSED if ours and known and "\n" not in told else MISLEADING


class BrokenCaseError(Exception):
    """The case itself is wrong: its pipeline does not run untouched, or its decoder cannot tell pictures apart."""


def picture(made: Case, seed: int = 0) -> torch.Tensor:
    """A random picture (1, C, [F,] H, W) of bytes, in [0, 1]."""
    shape = (1, made.channels, *made.size)
    return torch.randint(0, 256, shape, generator=_generator(seed)).float() / 255


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _columns(made: Case, verdict: Verdict) -> None:
    columns, made_by_pictures = verdict.columns, made.makes in ("picture", "video")
    try:
        with _Calls(made) as alone:
            expected = _plain(made)
    except Exception as error:
        raise BrokenCaseError(f"{made.name} does not run untouched: {type(error).__name__}: {error}") from error
    before = _snapshot(made)

    keep = _Keep()
    with _Calls(made) as counted:
        if made_by_pictures:
            painted, bridge = _inpaint(made, keep)
        else:
            painted, bridge = _bridged(made, _half_known, keep, INNER)
    columns["runs"] = bool(torch.isfinite(painted).all())
    known = keep.observation.known.expand(keep.x.shape)
    share = float(known.float().mean())
    columns["latents"] = 0.1 < share < 0.9 and torch.equal(keep.x[known], keep.observation.values[known])
    if made_by_pictures:
        given = picture(made)
        same = painted.shape == given.shape
        if same:
            kept = ~_mask(made).bool()
            exact = painted if made.output_type != "pil" else (painted * 255).round() / 255
            columns["pixels"] = torch.equal(exact[..., kept], given[..., kept])
        else:
            columns["pixels"] = False

    with _Calls(made) as untouched:
        got, plain_bridge = _bridged(made, None, _Keep(), 0)
    columns["untouched"] = torch.equal(got, expected)
    planned, plain_planned = bridge.planned, plain_bridge.planned
    per_evaluation = alone.count / plain_planned
    columns["calls"] = (
        untouched.count == alone.count
        and counted.count == round(per_evaluation * planned)
        and bridge.evaluations == planned
        and bridge.outer_steps == plain_bridge.outer_steps
    )
    columns["unchanged"] = _snapshot(made) == before
    if made_by_pictures:
        columns["decodes"] = _decodes(made)


def _decodes(made: Case) -> bool:
    """All known: the pipeline's own picture is decode(encode(picture)), and not that of another picture."""
    given, other = picture(made), picture(made, seed=1)
    reconstruct = made.reconstruct or functools.partial(_reconstruct, made.pipe)
    with torch.no_grad():
        expected, wrong = reconstruct(given), reconstruct(other)
    if (expected - wrong).abs().max() < 1e-2:
        raise BrokenCaseError(f"the decoder of {made.name} cannot tell pictures apart")
    layout = lp.Inpainter(made.pipe).layout
    control = {} if made.control is None else {made.control_name: made.control}
    layout.learn({made.steps: made.count, **made.call, **control})
    nothing = torch.zeros(given[:, :1].shape)  # may change
    got, _ = _bridged(made, KnownCells(layout, given, nothing).observe, _Keep(), 1)
    return got.shape == expected.shape and bool((got - expected).abs().max() < 5e-3)  # some round to bytes


def _reconstruct(pipe: Any, pictures: torch.Tensor) -> torch.Tensor:
    parts = (getattr(pipe, name, None) for name in ("vae", "vqvae", "movq"))
    vae: Any = next((part for part in parts if part is not None), None)
    if vae is None:
        return pictures
    pixels = 2 * pictures - 1
    single = pictures.ndim == 4 and any(
        weight.ndim == 5 for weight in vae.encoder.parameters()
    )  # of videos, for stills
    encoded = vae.encode(pixels.unsqueeze(2) if single else pixels)
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode()
    else:
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    plain = {"force_not_quantize": True} if vae is getattr(pipe, "movq", None) else {}  # as its pipelines do
    decoded = vae.decode(latents, return_dict=False, **plain)[0]
    return ((decoded.squeeze(2) if single else decoded) / 2 + 0.5).clamp(0, 1)


def _half_known(latents: torch.Tensor) -> lp.Observation:
    known = torch.zeros(latents.shape, dtype=torch.bool)
    axis = max(range(1, latents.ndim), key=lambda axis: latents.shape[axis])
    known.narrow(axis, 0, latents.shape[axis] // 2).fill_(True)
    return lp.Observation(torch.randn(latents.shape, generator=_generator(2)).to(latents), known)


def _mask(made: Case) -> torch.Tensor:
    mask = torch.zeros(made.size[-2:])
    mask[:, made.size[-1] // 2 :] = 1
    return mask


def _inpaint(made: Case, keep: _Keep) -> tuple[torch.Tensor, Any]:
    """As a user does it."""
    given = picture(made)[0]
    given = given.transpose(0, 1) if len(made.size) == 3 else given
    inpaint = lp.Inpainter(made.pipe, inner_steps=INNER, callbacks=[keep])
    sizes = ("height", "width", "num_frames", "frames", "video_length", "batch_size")
    call = {name: value for name, value in made.call.items() if name not in sizes}
    if made.control is not None:
        call["control_image"] = made.control
    steps = {made.steps: made.count} if made.steps else {}
    steps = {"steps": made.count} if made.steps == "num_inference_steps" else steps
    output = inpaint(given, _mask(made), generator=_generator(), **steps, **_output_type(made), **call)
    return _tensor(made, output), inpaint.bridge


def _plain(made: Case) -> torch.Tensor:
    torch.manual_seed(0)  # some pipelines draw from the global generator beside the one that they are given
    call = dict(made.call)
    if made.control is not None:
        call[made.control_name] = made.control
    return _tensor(made, made.pipe(generator=_generator(), **{made.steps: made.count}, **_output_type(made), **call))


def _bridged(made: Case, known: Any, keep: _Keep, inner_steps: int) -> tuple[torch.Tensor, Any]:
    sampler = functools.partial(lp.LanPaint, inner_steps=inner_steps, callbacks=[keep])
    with lp.bridged(made.pipe, sampler, known) as bridge:
        return _plain(made), bridge


def _output_type(made: Case) -> dict[str, str]:
    return {"output_type": made.output_type} if made.output_type else {}


def _tensor(made: Case, output: Any) -> torch.Tensor:
    """What a pipeline made as (n, C, [F,] H, W); anything but pictures as it is."""
    output = output[0] if isinstance(output, tuple) else next(iter(output.values()))
    return _stacked(output, len(made.size) == 3)


def _stacked(output: Any, video: bool) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output.transpose(1, 2) if video and output.ndim == 5 else output
    if isinstance(output, np.ndarray):
        tensor = torch.from_numpy(output.copy())
        if tensor.ndim < 4:
            return tensor
        tensor = tensor.movedim(-1, -3)
        return tensor.transpose(1, 2) if video else tensor
    if isinstance(output, (list, tuple)):
        if isinstance(output[0], np.ndarray):
            return _stacked(np.stack(output), video)
        if isinstance(output[0], torch.Tensor):
            return _stacked(torch.stack(list(output)), video)
        if isinstance(output[0], (list, tuple)):
            return torch.cat([_stacked(one, False).transpose(0, 1)[None] for one in output])
        return torch.stack([_bytes(one) for one in output])
    raise BrokenCaseError(f"an output of type {type(output).__name__} is not known to the zoo")


def _bytes(image: Any) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).movedim(-1, 0).float() / 255


def _snapshot(made: Case) -> Any:
    """All of a pipeline that a run might leave changed."""
    pipe = made.pipe
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    state = {
        name: (id(part), sorted(vars(part)), sum(float(p.double().sum()) for p in part.parameters()), str(part.dtype))
        for name, part in modules.items()
        if hasattr(part, "dtype")
    }
    scheduler = pipe.scheduler
    set_to_times = getattr(scheduler, "timesteps", None) is not None
    return (
        type(pipe),
        sorted(vars(pipe)),
        state,
        id(scheduler),
        sorted(vars(scheduler)),
        fingerprint(scheduler) if set_to_times else "",
        dict(pipe.config),
    )
