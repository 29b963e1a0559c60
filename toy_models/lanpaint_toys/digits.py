"""Real 8x8 handwritten digits, and a small unconditional diffusion model of them that ships with the repository.

The images are the 1,797 of `sklearn.datasets.load_digits`: the test part of the UCI data set "Optical Recognition of
Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0). They are few
and tiny, so a linear predictor, a diffusion model and an inpainting run on them each take seconds on a CPU.

`toy_models/lanpaint_toys/weights/digits/README.md` is the model card;
`python -m lanpaint_toys.train digits` trains the model anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lanpaint_toys.shipped import weights_folder

if TYPE_CHECKING:
    from diffusers import UNet2DModel

FOLDER = weights_folder("digits")
"""The shipped weights, in the folder layout of `diffusers.DDPMPipeline`."""

TEST_IMAGES = 360
"""Size of the test split: a fifth of the images, 35 to 37 of each digit."""

# Never change this. Nothing was ever chosen on the test images; a different split would train on some of them.
_SPLIT_SEED = 0


def load_digits(split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Return one part of the data set, always the same images in the same order.

    The split is stratified: each digit has the same share, up to rounding, of the 1,437 training and the 360 test
    images. The data set holds no image twice, so no test image has a copy among the training images. The data set does
    not say who wrote which image, so both parts have digits of the same writers.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Images ``(N, 1, 8, 8)``, float32, from -1 (paper) to 1 (ink) in steps of 1/8, and labels ``(N,)``, int64, 0-9.

    Raises:
        ValueError: If `split` has another value.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}, expected 'train' or 'test'")

    from sklearn import datasets, model_selection

    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1  # counts 0..16 of inked pixels in 4x4 blocks
    labels = torch.from_numpy(digits.target).long()
    train, test = model_selection.train_test_split(
        range(len(labels)), test_size=TEST_IMAGES, stratify=digits.target, random_state=_SPLIT_SEED
    )
    rows = torch.tensor(train if split == "train" else test)
    return images[rows], labels[rows]


def load_unet(dtype: torch.dtype = torch.float32) -> UNet2DModel:
    """Return the shipped network, frozen and in evaluation mode.

    ``unet(x, t).sample`` predicts the noise in ``x``, shape ``(N, 1, 8, 8)``, at the timesteps ``t``, shape ``(N,)``
    with values 0-999, of the `DDPMScheduler` in `FOLDER`.

    Args:
        dtype: Type of the parameters. They are stored as float32.

    Raises:
        OSError: If the weights are missing from `FOLDER`.
    """
    from diffusers import UNet2DModel

    unet = UNet2DModel.from_pretrained(
        FOLDER / "unet",
        torch_dtype=dtype,
        local_files_only=True,
        low_cpu_mem_usage=False,  # otherwise diffusers asks for `accelerate`, which so small a model does not need
    )
    return unet.eval().requires_grad_(False)
