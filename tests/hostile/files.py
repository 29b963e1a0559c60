"""Pictures, masks, models, results and grids on disk, each with what is known of it: what a reader must see in it."""

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

GOOD, BAD, EITHER = "good", "bad", "either"


@dataclass(frozen=True)
class File:
    """A picture or a mask.

    Attributes:
        name: The file's name in the folder.
        verdict: GOOD if it must be read, BAD if it must be refused, EITHER if both are honest.
        pixels: What a picture shows, (H, W, 3).
        painted: What is painted: of a mask the white part, of a picture its transparent part; (H, W) or None.
        frames: Number of frames.
    """

    name: str
    verdict: str
    pixels: np.ndarray | None = None
    painted: np.ndarray | None = None
    frames: int = 1


def _png(header: tuple, rows: bytes, *further: tuple[bytes, bytes], end: bool = True) -> bytes:
    """A PNG from its raw parts, so that it can be wrong in any of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *further, (b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts) + (chunk(b"IEND", b"") if end else b"")


def pictures(folder: Path, side: int, colour: bool, prefix: str) -> list[File]:
    """Pictures of ``side`` × ``side`` pixels, grey or coloured, of every kind that a person may have."""
    rng = np.random.default_rng(side)
    grey = rng.integers(60, 200, (side, side), dtype=np.uint8)
    rgb = rng.integers(60, 200, (side, side, 3), dtype=np.uint8) if colour else np.repeat(grey[..., None], 3, 2)
    hole = np.zeros((side, side), dtype=bool)
    hole[side // 4 : side // 2, side // 4 : -side // 4] = True
    made: list[File] = []

    def add(name, verdict, image=None, content=None, pixels=rgb, painted=None, frames=1, **options):
        path = folder / (prefix + name)
        if image is not None:
            image.save(path, **options)
        elif content is not None:
            path.write_bytes(content)
        made.append(File(prefix + name, verdict, pixels, painted, frames))

    full = Image.fromarray(rgb)
    alpha = np.where(hole, 0, 255).astype(np.uint8)
    shown = full if colour else Image.fromarray(grey)
    add("plain.png", GOOD, shown)
    add("with space.png", GOOD, shown)
    add("ünïcode-☃.png", GOOD, shown)
    add("new\nline.png", GOOD, shown)
    add("UPPER.PNG", GOOD, shown)
    add("no-ending", GOOD, shown, format="PNG")
    add("wrong-ending.jpg", GOOD, shown, format="PNG")
    add("rgb.png", GOOD, full)
    add("plain.bmp", GOOD, full)
    add("plain.tif", GOOD, full)
    add("lossless.webp", GOOD, full, lossless=True)
    add("plain.ppm", GOOD, full)
    add("opaque.png", GOOD, Image.fromarray(np.dstack([rgb, np.full_like(alpha, 255)])))
    add("cut.png", GOOD, Image.fromarray(np.dstack([rgb, alpha])), painted=hole)
    add(
        "half-alpha.png",
        GOOD,
        Image.fromarray(np.dstack([rgb, np.where(hole, 100, 255).astype(np.uint8)])),
        painted=hole,
    )
    add("interlaced-icc.png", EITHER, full, icc_profile=b"\0" * 200)
    quantized = full.quantize(64)
    add("palette.png", GOOD, quantized, pixels=np.array(quantized.convert("RGB")))
    add("palette.gif", GOOD, quantized, pixels=np.array(quantized.convert("RGB")))
    two = Image.fromarray(np.where(grey > 128, 255, 0).astype(np.uint8)).convert("1")
    add("one-bit.png", GOOD, two, pixels=np.array(two.convert("RGB")))
    grey_alpha = Image.fromarray(np.dstack([grey, alpha]))
    add("grey-alpha.png", GOOD, grey_alpha, pixels=np.repeat(grey[..., None], 3, 2), painted=hole)
    keyed = np.where(hole, 7, grey)
    keyed_file = Image.fromarray(keyed.astype(np.uint8))
    add("keyed.png", GOOD, keyed_file, pixels=np.repeat(keyed[..., None], 3, 2), painted=hole, transparency=7)
    lain = Image.fromarray(np.rot90(rgb).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    add("lying.png", GOOD, lain, exif=exif, pixels=np.array(lain.transpose(Image.Transpose.ROTATE_270)))
    exif = Image.Exif()
    exif[0x0112] = 99
    add("exif-nonsense.png", GOOD, full, exif=exif)
    add("exif-broken.jpg", EITHER, full, exif=b"Exif\0\0garbage", quality=95, pixels=None)
    if colour:
        add("photo.jpg", GOOD, full, quality=95, pixels=None)
        made[-1] = File(
            prefix + "photo.jpg", GOOD, np.array(Image.open(folder / (prefix + "photo.jpg")).convert("RGB"))
        )
        add("cmyk.tif", GOOD, full.convert("CMYK"), pixels=np.array(full.convert("CMYK").convert("RGB")))
        add("cmyk.jpg", EITHER, full.convert("CMYK"), quality=95, pixels=None)
        add("lab.tif", EITHER, full.convert("LAB"), pixels=None)
        add("lossy.webp", EITHER, full, quality=90, pixels=None)
    add("sixteen-bit.png", BAD, Image.fromarray(grey.astype(np.uint16) * 257))
    add("sixteen-bit-colour.png", BAD, content=_png((side, side, 16, 2, 0, 0, 0), (b"\0" + b"\7" * 6 * side) * side))
    add("thirty-two.tif", BAD, Image.fromarray(grey.astype(np.int32)))
    add("floats.tif", BAD, Image.fromarray(grey.astype(np.float32)))
    add("moving.gif", BAD, quantized, save_all=True, append_images=[full.rotate(90).quantize(64)], frames=2)
    add("moving.png", BAD, full, save_all=True, append_images=[full.rotate(90)], frames=2)
    add("pages.tif", EITHER, full, save_all=True, append_images=[full.rotate(90)], frames=2)
    png = (folder / (prefix + "rgb.png")).read_bytes()
    add("truncated.png", BAD, content=png[: len(png) * 2 // 3])
    add("header-alone.png", BAD, content=png[:40])
    add("no-end.png", EITHER, content=png[:-12])
    add("crc.png", BAD, content=png[:29] + b"\0\0\0\0" + png[33:])
    add("flipped.png", BAD, content=png[:60] + bytes(255 - b for b in png[60:64]) + png[64:])
    gif = (folder / (prefix + "moving.gif")).read_bytes()
    add("truncated.gif", EITHER, content=gif[: len(gif) // 2], pixels=None)
    add("header.gif", BAD, content=gif[:20])
    add("empty.png", BAD, content=b"")
    add("text.png", BAD, content=b"not an image\n")
    add("page.svg", BAD, content=b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    add("page.pdf", BAD, content=b"%PDF-1.4\n")
    add("drawing.eps", BAD, content=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")
    add("film.mp4", BAD, content=b"\0\0\0\x18ftypmp42 nothing more")
    add("zeros.png", BAD, content=bytes(1000))
    add("bomb.png", BAD, content=_png((200_000, 200_000, 8, 0, 0, 0, 0), b"\0"))
    add("no-size.png", BAD, content=_png((0, 0, 8, 0, 0, 0, 0), b""))
    add("a-bit-odd.png", GOOD, full.crop((0, 0, side - 1, side)), pixels=rgb[:, : side - 1])
    add("line.png", GOOD, full.crop((0, 0, side, 1)), pixels=rgb[:1])
    add("dot.png", GOOD, full.crop((0, 0, 1, 1)), pixels=rgb[:1, :1])
    add("large.png", EITHER, full.resize((side * 5, side * 5)), pixels=np.array(full.resize((side * 5, side * 5))))
    add("missing.png", BAD)
    add("nowhere/at/all.png", BAD)
    add("n" * 300 + ".png", BAD)
    (folder / (prefix + "folder.png")).mkdir()
    made.append(File(prefix + "folder.png", BAD))
    os.symlink("nowhere-at-all.png", folder / (prefix + "broken-link.png"))
    made.append(File(prefix + "broken-link.png", BAD))
    os.symlink(prefix + "plain.png", folder / (prefix + "link.png"))
    made.append(File(prefix + "link.png", GOOD, rgb))
    os.symlink(prefix + "circle.png", folder / (prefix + "circle.png"))
    made.append(File(prefix + "circle.png", BAD))
    made.append(File(f"{prefix}plain.png/inside.png", BAD))
    made.append(File("/dev/null", BAD))
    made.append(File("", BAD))
    return made


def masks(folder: Path, side: int, prefix: str) -> list[File]:
    """Masks of ``side`` × ``side`` pixels, of every kind that editors and segmentation make."""
    box = np.zeros((side, side), dtype=bool)
    box[side // 4 : -side // 4, side // 4 : -side // 4] = True
    bytes_ = np.where(box, 255, 0).astype(np.uint8)
    made: list[File] = []

    def add(name, verdict, image=None, content=None, painted=box, frames=1, **options):
        path = folder / (prefix + name)
        if image is not None:
            image.save(path, **options)
        elif content is not None:
            path.write_bytes(content)
        made.append(File(prefix + name, verdict, None, painted, frames))

    plain = Image.fromarray(bytes_)
    add("mask.png", GOOD, plain)
    add("mask-rgb.png", GOOD, plain.convert("RGB"))
    add("mask-opaque.png", GOOD, plain.convert("RGBA"))
    add("mask-grey-alpha.png", GOOD, plain.convert("LA"))
    add("mask-bit.png", GOOD, plain.convert("1"))
    add("mask-palette.gif", GOOD, plain.convert("RGB").quantize(4))
    add("mask-ones.png", GOOD, Image.fromarray(box.astype(np.uint8)))
    labels = Image.fromarray(box.astype(np.uint8)).convert("P")
    add("mask-labels.png", GOOD, labels)
    add("mask-soft.png", EITHER, Image.fromarray((bytes_ * 0.8 + 20).astype(np.uint8)))
    add("mask-dark.png", BAD, Image.fromarray(np.where(box, 90, 0).astype(np.uint8)))
    add("mask-sixteen.png", GOOD, Image.fromarray(np.where(box, 65535, 0).astype(np.uint16)))
    add("mask-int.tif", GOOD, Image.fromarray(np.where(box, 255, 0).astype(np.int32)))
    add("mask-float.tif", GOOD, Image.fromarray(box.astype(np.float32)))
    add("mask-nan.tif", BAD, Image.fromarray(np.where(box, np.nan, 0).astype(np.float32)))
    add("mask-huge.tif", BAD, Image.fromarray(np.where(box, 1e30, 0).astype(np.float32)))
    add("mask-negative.tif", BAD, Image.fromarray(np.where(box, 255, -3).astype(np.int32)))
    strokes = np.dstack([np.full((side, side, 3), 255, np.uint8), bytes_])
    add("mask-strokes.png", GOOD, Image.fromarray(strokes))
    cut = np.dstack([np.full((side, side, 3), 90, np.uint8), 255 - bytes_])
    add("mask-cut.png", GOOD, Image.fromarray(cut))
    add("mask-white.png", GOOD, Image.new("L", (side, side), 255), painted=np.ones_like(box))
    add("mask-black.png", BAD, Image.new("L", (side, side), 0))
    add("mask-jpeg.jpg", EITHER, plain, quality=30, painted=None)
    add("mask-cmyk.tif", GOOD, plain.convert("RGB").convert("CMYK"))
    add("mask-narrow.png", BAD, plain.crop((0, 0, side - 2, side)))
    add("mask-dot.png", BAD, Image.new("L", (1, 1), 255))
    add("mask-large.png", BAD, plain.resize((side * 3, side * 3)))
    add("mask-moving.gif", BAD, plain, save_all=True, append_images=[Image.new("L", (side, side), 90), plain], frames=3)
    png = (folder / (prefix + "mask.png")).read_bytes()
    add("mask-truncated.png", BAD, content=png[: len(png) // 2])
    add("mask-empty.png", BAD, content=b"")
    add("mask-text.png", BAD, content=b"{}")
    add("mask-missing.png", BAD)
    (folder / (prefix + "mask-folder")).mkdir()
    made.append(File(prefix + "mask-folder", BAD))
    exif = Image.Exif()
    exif[0x0112] = 3
    top = np.zeros((side, side), dtype=np.uint8)
    top[: side // 2] = 255
    add("mask-upside-down.png", GOOD, Image.fromarray(top[::-1].copy()), painted=top > 0, exif=exif)
    return made


def models(folder: Path) -> list[str]:
    """Model folders that are wrong in one thing each, beside whole ones from which they are made. Their names."""
    import shutil

    from safetensors.torch import load_file, save_file

    from tests.adapters import tiny

    tiny.with_clip(tiny.sd()).pipe.save_pretrained(folder / "sd")
    tiny.ddpm().pipe.save_pretrained(folder / "ddpm")
    tiny.ldm().pipe.save_pretrained(folder / "ldm")
    names: list[str] = []

    def wrong(base, kind, change):
        name = f"{base}-{kind}"
        shutil.copytree(folder / base, folder / name)
        change(folder / name)
        names.append(name)

    def rewritten(file, **values):
        def change(path):
            config = json.loads((path / file).read_text())
            for key, value in values.items():
                if value is None:
                    config.pop(key, None)
                else:
                    config[key] = value
            (path / file).write_text(json.dumps(config))

        return change

    def text(file, content):
        return lambda path: (path / file).write_bytes(content)

    def cut(file):
        return lambda path: (path / file).write_bytes((path / file).read_bytes()[:300])

    def removed(file):
        def change(path):
            shutil.rmtree(path / file) if (path / file).is_dir() else (path / file).unlink()

        return change

    def pickled(file):
        def change(path):
            import torch

            torch.save(load_file(path / file), path / Path(file).with_suffix(".bin"))
            (path / file).unlink()

        return change

    def keyless(file, part):
        def change(path):
            tensors = load_file(path / file)
            kept = {key: value for key, value in tensors.items() if part not in key}
            assert 0 < len(kept) < len(tensors), file
            save_file(kept, path / file, metadata={"format": "pt"})

        return change

    def filled(file, value):
        def change(path):
            tensors = {key: tensor * 0 + value for key, tensor in load_file(path / file).items()}
            save_file(tensors, path / file, metadata={"format": "pt"})

        return change

    unet, vae = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
    clip = "text_encoder/model.safetensors"
    for base in ("sd", "ddpm"):
        wrong(base, "index-not-json", text("model_index.json", b"{not json"))
        wrong(base, "index-list", text("model_index.json", b"[1, 2]"))
        wrong(base, "index-number", text("model_index.json", b"3"))
        wrong(base, "index-empty", text("model_index.json", b""))
        wrong(base, "index-binary", text("model_index.json", b"\xff\xfe\x00"))
        wrong(base, "index-unknown-class", rewritten("model_index.json", _class_name="NoSuchPipeline"))
        wrong(base, "index-no-class", rewritten("model_index.json", _class_name=None))
        wrong(base, "index-class-number", rewritten("model_index.json", _class_name=3))
        wrong(base, "index-unknown-part", rewritten("model_index.json", unet=["diffusers", "NoSuchNetwork"]))
        wrong(base, "index-strange-library", rewritten("model_index.json", unet=["os", "system"]))
        wrong(base, "index-part-short", rewritten("model_index.json", unet=["diffusers"]))
        wrong(base, "index-part-empty", rewritten("model_index.json", unet=[]))
        wrong(base, "index-part-text", rewritten("model_index.json", unet="UNet2DModel"))
        wrong(base, "index-part-numbers", rewritten("model_index.json", unet=[1, 2]))
        wrong(base, "config-not-json", text("unet/config.json", b"{"))
        wrong(base, "config-list", text("unet/config.json", b"[]"))
        wrong(base, "config-null", text("unet/config.json", b"null"))
        wrong(base, "config-empty", text("unet/config.json", b"{}"))
        wrong(base, "config-types", rewritten("unet/config.json", block_out_channels="many"))
        wrong(base, "config-negative", rewritten("unet/config.json", in_channels=-1))
        wrong(base, "config-float", rewritten("unet/config.json", layers_per_block=1.5))
        wrong(base, "config-other-width", rewritten("unet/config.json", block_out_channels=[4, 4]))
        wrong(base, "config-unknown-block", rewritten("unet/config.json", down_block_types=["Up", "Down"]))
        wrong(base, "no-config", removed("unet/config.json"))
        wrong(base, "no-weights", removed(unet))
        wrong(base, "no-unet", removed("unet"))
        wrong(base, "no-scheduler", removed("scheduler"))
        wrong(base, "scheduler-not-json", text("scheduler/scheduler_config.json", b"?"))
        wrong(base, "scheduler-list", text("scheduler/scheduler_config.json", b"[]"))
        wrong(base, "scheduler-betas", rewritten("scheduler/scheduler_config.json", beta_start="low"))
        wrong(base, "scheduler-nan", rewritten("scheduler/scheduler_config.json", beta_end=1e400))
        wrong(base, "scheduler-steps", rewritten("scheduler/scheduler_config.json", num_train_timesteps=0))
        wrong(base, "scheduler-prediction", rewritten("scheduler/scheduler_config.json", prediction_type="wish"))
        wrong(base, "scheduler-schedule", rewritten("scheduler/scheduler_config.json", beta_schedule="wish"))
        wrong(base, "truncated", cut(unet))
        wrong(base, "zero-weights-file", text(unet, b""))
        wrong(base, "garbage-weights", text(unet, b"\xff" * 400))
        wrong(base, "pickle", pickled(unet))
        wrong(base, "half-the-keys", keyless(unet, "up_blocks"))
        wrong(base, "nan-weights", filled(unet, float("nan")))
    wrong("sd", "text-encoder-pickle", pickled(clip))
    wrong("sd", "text-encoder-keyless", keyless(clip, "layers.0"))
    wrong("sd", "text-encoder-nothing", removed(clip))
    wrong("sd", "text-encoder-truncated", cut(clip))
    wrong("sd", "text-encoder-config", text("text_encoder/config.json", b"[]"))
    wrong("sd", "vae-keyless", keyless(vae, "decoder"))
    wrong("sd", "vae-nan", filled(vae, float("nan")))
    wrong("sd", "vae-config", rewritten("vae/config.json", latent_channels="four"))
    wrong("sd", "no-vae", removed("vae"))
    wrong("sd", "no-tokenizer", removed("tokenizer"))
    (folder / "sd-empty").mkdir()
    (folder / "sd-file").write_text("a file")
    return [*names, "sd-empty", "sd-file"]


ROW = {
    "section": "",
    "settings": {
        "target": "gaussian",
        "method": "lanpaint",
        "steps": 2,
        "inner_steps": 1,
        "levels": "paper",
        "solver": "euler",
        "samples": 50,
        "seed": 0,
    },
    "figures": {"kl": 0.5},
    "floors": {"kl": 0.1},
    "merits": ["kl"],
    "nfe": 4,
    "diverged": None,
    "memory": 10.0,
    "versions": {"lanpaint": "0.1.0"},
    "seconds": 0.1,
    "device": "cpu",
}


def rows(folder: Path) -> dict[str, str]:
    """Files of results: name → verdict."""
    made: dict[str, str] = {}

    def add(name, verdict, content):
        path = folder / f"{name}.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        made[path.name] = verdict

    def row(**changes):
        if isinstance(changes.get("settings"), dict):
            changes["settings"] = {**ROW["settings"], **changes["settings"]}
        return json.dumps({key: value for key, value in {**ROW, **changes}.items() if value != "absent"}) + "\n"

    add("rows-good", GOOD, row() + row(settings={"seed": 1}))
    add("rows-crlf", EITHER, (row() + row(settings={"seed": 1})).replace("\n", "\r\n"))
    add("rows-cut", EITHER, row() + row(settings={"seed": 1})[:60])
    add("rows-empty", BAD, "")
    add("rows-blank", BAD, "\n\n")
    add("rows-binary", BAD, b"\xff\xfe\x00\x01")
    add("rows-bom", EITHER, b"\xef\xbb\xbf" + row().encode())
    add("rows-nul", BAD, row().encode() + b"\0\0\0\n")
    for name, content in {
        "list": "[1, 2]\n",
        "number": "3\n",
        "null": "null\n",
        "text": '"kl"\n',
        "no-json": "{kl: 3\n",
        "csv": "kl,nfe\n1,2\n",
        "object": "{}\n",
    }.items():
        add(f"rows-{name}", BAD, content)
    for key in ("settings", "figures", "floors", "merits", "nfe", "memory", "seconds"):
        add(f"rows-without-{key}", BAD, row(**{key: "absent"}))
        for kind, value in {"text": "many", "list": [1], "null": None, "object": {"a": {"b": 1}}, "number": 7}.items():
            whole = (key, kind) in {("nfe", "number"), ("memory", "number"), ("seconds", "number")}
            add(f"rows-{key}-{kind}", GOOD if whole else BAD, row(**{key: value}))
    add("rows-figure-text", BAD, row(figures={"kl": "low"}))
    add("rows-figure-list", BAD, row(figures={"kl": [1]}))
    add("rows-figure-nan", EITHER, row(figures={"kl": "nan"}))
    add("rows-merit-missing", EITHER, row(merits=["psnr"]))
    add("rows-merit-number", BAD, row(merits=[3]))
    add("rows-floor-text", BAD, row(floors={"kl": "low"}))
    add("rows-further-field", BAD, row(colour="red"))
    add("rows-section-number", BAD, row(section=3))
    add("rows-device-list", BAD, row(device=[1]))
    add("rows-versions-list", BAD, row(versions=[1]))
    add("rows-diverged-number", BAD, row(diverged=3))
    for key, value in {
        "steps": "two",
        "seed": -1,
        "inner_steps": -1,
        "method": 3,
        "target": None,
        "samples": "many",
        "lam": [1],
        "levels": 4,
        "wish": {"a": 1},
        "wish2": [1, 2],
    }.items():
        add(f"rows-setting-{key}", BAD, row(settings={key: value}))
    add("rows-unknown-target", EITHER, row(settings={"target": "moon"}) + row(settings={"target": "moon", "seed": 1}))
    add("rows-unknown-method", EITHER, row(settings={"method": "magic"}) + row(settings={"method": "magic", "seed": 1}))
    return made


def grids(folder: Path) -> dict[str, str]:
    """YAML files of grids: name → verdict."""
    small = "target: gaussian\nsteps: 2\ninner_steps: 1\nsamples: 50\n"
    texts = {
        "good": (GOOD, small),
        "titled": (GOOD, f"- title: A\n  {small.strip().replace(chr(10), chr(10) + '  ')}\n"),
        "empty": (BAD, ""),
        "null": (BAD, "null\n"),
        "number": (BAD, "3\n"),
        "text": (BAD, "target\n"),
        "list-of-numbers": (BAD, "[1, 2]\n"),
        "empty-list": (BAD, "[]\n"),
        "empty-object": (BAD, "{}\n"),
        "not-yaml": (BAD, "target: [gaussian\n"),
        "tabs": (BAD, "target:\n\t- gaussian\n"),
        "binary": (BAD, b"\xff\xfe\x00"),
        "python": (BAD, "!!python/object/apply:os.system ['true']\n"),
        "unknown-key": (BAD, small + "wish: 3\n"),
        "number-key": (BAD, small + "3: 4\n"),
        "null-key": (BAD, small + "null: 4\n"),
        "list-key": (BAD, small + "[1, 2]: 4\n"),
        "no-target": (BAD, "steps: 2\n"),
        "target-null": (BAD, "target: null\n"),
        "target-number": (BAD, "target: 3\n"),
        "target-object": (BAD, "target: {a: 1}\n"),
        "target-unknown": (BAD, "target: moon\n"),
        "steps-text": (BAD, "target: gaussian\nsteps: many\n"),
        "steps-nan": (BAD, "target: gaussian\nsteps: .nan\n"),
        "steps-null": (BAD, "target: gaussian\nsteps: null\nsamples: 50\n"),
        "steps-object": (BAD, "target: gaussian\nsteps: {a: 1}\n"),
        "steps-empty": (BAD, "target: gaussian\nsteps: []\n"),
        "steps-nested": (BAD, "target: gaussian\nsteps: [[1, 2]]\n"),
        "steps-zero": (BAD, "target: gaussian\nsteps: 0\n"),
        "steps-huge": (BAD, "target: gaussian\nsteps: 1000000000\nsamples: 50\n"),
        "steps-date": (BAD, "target: gaussian\nsteps: 2020-01-01\n"),
        "inner-huge": (BAD, "target: gaussian\nsteps: 2\nsamples: 50\ninner_steps: 1000000000\n"),
        "samples-huge": (BAD, "target: gaussian\nsteps: 2\nsamples: 100000000000\n"),
        "lam-nan": (BAD, small + "lam: .nan\n"),
        "lam-inf": (BAD, small + "lam: .inf\n"),
        "lam-text": (BAD, small + "lam: high\n"),
        "step-size-negative": (BAD, small + "step_size: -1\n"),
        "method-number": (BAD, small + "method: 3\n"),
        "method-null": (EITHER, small + "method: null\n"),
        "method-unknown": (BAD, small + "method: magic\n"),
        "method-list-of-null": (BAD, small + "method: [null, lanpaint]\n"),
        "dynamics-number": (BAD, small + "dynamics: 3\n"),
        "dynamics-unknown": (BAD, small + "dynamics: magic\n"),
        "solver-unknown": (BAD, small + "solver: magic\n"),
        "solver-true": (BAD, small + "solver: true\n"),
        "seed-negative": (BAD, small + "seed: -1\n"),
        "seed-huge": (BAD, small + "seed: 99999999999\n"),
        "title-list": (EITHER, small + "title: [1]\n"),
        "title-null": (EITHER, small + "title: null\n"),
        "images-missing": (BAD, "target: emoji-pixel:box\nimages: nowhere\n"),
        "bomb": (
            BAD,
            "target: [gaussian]\n"
            + "".join(f"{k}: {list(range(1, 60))}\n" for k in ("steps", "inner_steps", "lam", "step_size", "friction")),
        ),
        "option-null": (EITHER, small + "psi: null\n"),
        "all-methods-inner": (
            EITHER,
            "target: gaussian\nsteps: 2\nsamples: 50\nmethod: [lanpaint, replace]\ninner_steps: 1\n",
        ),
    }
    for name, (_, content) in texts.items():
        (folder / f"grid-{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return {f"grid-{name}.yaml": verdict for name, (verdict, _) in texts.items()}
