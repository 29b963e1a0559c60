"""The table of modular pipelines in docs/use-with-your-model.md.

``python -m tests.adapters.modular_table`` paints with every family of :mod:`tests.adapters.tiny_modular`, and writes
into the page what each of them does.
"""

import functools
import logging
import re
from pathlib import Path

import torch

import lanpaint as lp
from lanpaint.adapters.bridge.call import CALLED_BY
from lanpaint.adapters.modular.blocks import after, decoder_input
from tests.adapters import tiny_modular

PAGE = Path(__file__).parents[2] / "docs" / "use-with-your-model.md"
MARKS = re.compile(r"(<!-- modular -->\n).*?(<!-- end of modular -->)", re.DOTALL)
COLUMNS = ("calls", "latents", "pixels", "untouched", "unchanged", "decoded")
STEPS = 3


def generator():
    return torch.Generator().manual_seed(0)


class Keep(lp.Callback):
    """Keeps the last state and the observation."""

    def on_level_end(self, sampler, state):
        self.x, self.observation = state.x, state.observation


def picture_of(made):
    """A picture (C, H, W), or a video (frames, C, H, W), and a mask whose right half is painted."""
    picture = torch.rand(3, *made.size, generator=generator())
    mask = torch.zeros(made.size[-2:])
    mask[:, made.size[-1] // 2 :] = 1
    return (picture.transpose(0, 1) if len(made.size) == 3 else picture), mask


def pictures_in(state):
    """The first picture or video in the output, as a tensor."""
    made = next(state.values[name] for name in ("images", "videos") if state.values.get(name) is not None)
    return torch.as_tensor(made[0])


def counted(made, run):
    """What ``run()`` gives, and how often it calls the networks."""
    calls = []
    hooks = [getattr(made.pipe, part).register_forward_hook(lambda *_: calls.append(1)) for part in made.networks]
    try:
        return run(), len(calls)
    finally:
        for hook in hooks:
            hook.remove()


def snapshot(pipe):
    """What an object and its scheduler hold, by identity and by value."""
    return (
        type(pipe),
        {name: id(value) for name, value in vars(pipe).items()},
        {name: repr(value) for name, value in vars(pipe.scheduler).items()},
        type(pipe._blocks),
        CALLED_BY in vars(pipe),
    )


def judge(made):
    """Column → whether it is so. Raises what the pipeline, or what paints with it, raises."""
    pipe, call = made.pipe, {**made.call, "num_inference_steps": STEPS, "output_type": "pt"}
    if "control_image" in made.extra:  # as the pipelines call it that have no other picture
        call["image"] = made.extra["control_image"]
    picture, mask = picture_of(made)
    before, verdict = snapshot(pipe), {}

    keep = Keep()
    inpaint = lp.Inpainter(pipe, inner_steps=2, callbacks=[keep])
    rest = {name: value for name, value in call.items() if name not in ("height", "width", "num_frames", "image")}
    rest |= made.extra
    output, calls = counted(made, lambda: inpaint(picture, mask, generator=generator(), **rest))
    verdict["calls"] = calls == made.calls_per_evaluation * inpaint.bridge.planned == 9 * made.calls_per_evaluation
    known = keep.observation.known.expand(keep.x.shape)
    part = known.float().mean()
    verdict["latents"] = torch.equal(keep.x[known], keep.observation.values[known]) and 0 < part < 1
    verdict["latents"] &= lies_left(made, call, known)
    half = mask == 0
    painted, colours = pictures_in(output), pictures_in(output)[..., :3, :, :]
    verdict["pixels"] = bool(torch.isfinite(painted).all()) and torch.equal(colours[..., half], picture[..., half])

    verdict["unchanged"] = snapshot(pipe) == before
    plain = pictures_in(pipe(generator=generator(), **call))
    with lp.bridged(pipe, functools.partial(lp.LanPaint, inner_steps=0)):
        through = pictures_in(pipe(generator=generator(), **call))
    verdict["untouched"] = torch.equal(plain, through)
    verdict["decoded"] = decodes(made, call, picture, inpaint.layout)
    return verdict


def lies_left(made, call, known):
    """Whether known entries of the latents are what the decoder is given for the left half, and no others are."""
    found = []

    def observe(latents):
        bridge = vars(made.pipe)[CALLED_BY]
        rest = after(made.pipe._blocks, bridge.loop)
        zeros, marked = (
            decoder_input(made.pipe, rest, bridge.state, part.to(latents))
            for part in (torch.zeros_like(latents), known)
        )
        found.append((marked != zeros).flatten(0, -2).any(0))
        return lp.Observation.none(latents.shape)

    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=0), observe):
        made.pipe(generator=generator(), **call)
    return torch.equal(found[0], torch.arange(len(found[0])) < len(found[0]) // 2)


def decodes(made, call, picture, layout):
    """Whether the pipeline decodes what is wholly known to what the autoencoder alone makes of it."""
    video = len(made.size) == 3
    pictures = picture.transpose(0, 1)[None] if video else picture[None]
    if layout.channels == 4:
        pictures = torch.cat([pictures, torch.ones_like(pictures[:, :1])], dim=1)
    change = torch.zeros_like(pictures[:, :1])

    def observe(latents):
        return layout.observation(pictures, change, latents)

    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=0), observe):
        decoded = pictures_in(made.pipe(generator=generator(), **call))
    vae = made.pipe.vae
    single = not video and hasattr(vae, "temperal_downsample")  # it is made for videos
    with torch.no_grad():
        encoded = vae.encode(2 * (pictures.unsqueeze(2) if single else pictures) - 1).latent_dist.mode()
        alone = vae.decode(encoded, **made.decode).sample[0]
    alone = alone.squeeze(1) if single else alone
    alone = (alone / 2 + 0.5).clamp(0, 1)
    return bool((decoded - (alone.transpose(0, 1) if video else alone)).abs().max() < 1e-4)


def table():
    """The families in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, make in tiny_modular.FAMILIES.items():
        verdict = judge(make())
        lines.append(f"| {name} | " + " | ".join("✓" if verdict[column] else "" for column in COLUMNS) + " |")
    return "\n".join(lines)


def main():
    """Write the table into the page."""
    logging.disable(logging.ERROR)
    text, made = PAGE.read_text(encoding="utf-8"), table()
    PAGE.write_text(MARKS.sub(lambda marks: f"{marks[1]}\n{made}\n\n{marks[2]}", text), encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
