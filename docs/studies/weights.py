"""Which of two sets of weights of a small model fills held-out pictures better: the tables of docs/models.md.

`python docs/studies/weights.py IMAGES OLD_FOLDER NEW_FOLDER` paints held-out pictures, one of each family. It uses
LanPaint, 20 steps of 5 inner steps, under the four masks. It prints the PSNR of the hole and the squared MMD to the
true pictures in the features of ``lanpaint_toys.features``, each with its standard error over pictures. Seeds, pictures
and masks are the same for all folders. `--features FOLDER` takes the features of another autoencoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.metrics import mmd
from lanpaint_toys import emoji, features
from lanpaint_toys.images import load_images

STEPS, INNER = 20, 5


def pictures(path: str, side: int, count: int) -> Tensor:
    """Held-out pictures, the first of each family, (count, 3, side, side) in [−1, 1]."""
    found = load_images(path, side).unseen().families_first()
    return found.images[: min(count, len(set(found.families)))]


def fill_pixels(folder: str, truth: Tensor, known: Tensor) -> Tensor:
    """Fills of a pixel model."""
    paint = lp.LanPaint(load_pixel_model(folder), steps=STEPS, inner_steps=INNER)
    parts = list(torch.arange(len(truth)).split(16))
    return torch.cat([paint(lp.Observation(truth[rows], known), generator=lp.seeded(rows.tolist())) for rows in parts])


def fill_latents(folder: str, truth: Tensor, known: Tensor) -> Tensor:
    """Fills of a latent pipeline, encoded and decoded; its known pixels are the given ones."""
    inpaint = lp.Inpainter(emoji.load_latent_pipeline(Path(folder)), inner_steps=INNER)
    out = []
    for rows in torch.arange(len(truth)).split(16):
        generators = [torch.Generator().manual_seed(int(row)) for row in rows]
        given = (truth[rows] + 1) / 2
        made = inpaint(given, (~known).float(), steps=STEPS, generator=generators, output_type="np").images
        out.append(torch.as_tensor(made).permute(0, 3, 1, 2).float() * 2 - 1)
    return torch.cat(out)


def mean_text(values: Tensor) -> str:
    """Mean ± its standard error."""
    return f"{float(values.mean()):.2f} ± {float(values.std()) / len(values) ** 0.5:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    if given.features:
        features.FOLDER = given.features
    print("| weights | mask | PSNR of the hole, dB | less the first's | MMD² in features |\n|---|---|---|---|---|")
    first: dict[str, Tensor] = {}
    for folder in given.folders:
        latent = (Path(folder) / "vqvae").is_dir()
        truth = pictures(given.images, 64 if latent else 32, given.count)
        for name, make in MASKS.items():
            known = make(*truth.shape[-2:])
            fills = (fill_latents if latent else fill_pixels)(folder, truth, known)
            psnr = hole_psnr(fills, truth, known)
            kernel = mmd(features.picture_features(fills), features.picture_features(truth))
            gain = mean_text(psnr - first.setdefault(name, psnr))
            features_text = f"{kernel.value:.5f} ± {kernel.error:.5f}"
            print(f"| `{folder}` | {name} | {mean_text(psnr)} | {gain} | {features_text} |", flush=True)


if __name__ == "__main__":
    main()
