"""Networks of LPIPS and FID with random weights in the layout of the published files; Inception is narrower."""

import torch

from lanpaint.metrics.networks import ALEXNET, INCEPTION

# Of the first convolutions: name, side of the kernel, channels in and out. Of those in blocks: rows and columns.
_STEM = (
    ("1a_3x3", 3, 3, 32),
    ("2a_3x3", 3, 32, 32),
    ("2b_3x3", 3, 32, 64),
    ("3b_1x1", 1, 64, 80),
    ("4a_3x3", 3, 80, 192),
)


def _blocks():
    for name, given, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        yield name, [
            ("1x1", 1, 1, given, 64), ("5x5_1", 1, 1, given, 48), ("5x5_2", 5, 5, 48, 64),
            ("3x3dbl_1", 1, 1, given, 64), ("3x3dbl_2", 3, 3, 64, 96), ("3x3dbl_3", 3, 3, 96, 96),
            ("_pool", 1, 1, given, pool),
        ]  # fmt: skip
    yield (
        "6a",
        [("3x3", 3, 3, 288, 384), ("3x3dbl_1", 1, 1, 288, 64), ("3x3dbl_2", 3, 3, 64, 96), ("3x3dbl_3", 3, 3, 96, 96)],
    )
    for name, mid in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        yield name, [
            ("1x1", 1, 1, 768, 192), ("7x7_1", 1, 1, 768, mid), ("7x7_2", 1, 7, mid, mid), ("7x7_3", 7, 1, mid, 192),
            ("7x7dbl_1", 1, 1, 768, mid), ("7x7dbl_2", 7, 1, mid, mid), ("7x7dbl_3", 1, 7, mid, mid),
            ("7x7dbl_4", 7, 1, mid, mid), ("7x7dbl_5", 1, 7, mid, 192), ("_pool", 1, 1, 768, 192),
        ]  # fmt: skip
    yield "7a", [
        ("3x3_1", 1, 1, 768, 192), ("3x3_2", 3, 3, 192, 320), ("7x7x3_1", 1, 1, 768, 192), ("7x7x3_2", 1, 7, 192, 192),
        ("7x7x3_3", 7, 1, 192, 192), ("7x7x3_4", 3, 3, 192, 192),
    ]  # fmt: skip
    for name, given in (("7b", 1280), ("7c", 2048)):
        yield name, [
            ("1x1", 1, 1, given, 320), ("3x3_1", 1, 1, given, 384), ("3x3_2a", 1, 3, 384, 384),
            ("3x3_2b", 3, 1, 384, 384), ("3x3dbl_1", 1, 1, given, 448), ("3x3dbl_2", 3, 3, 448, 384),
            ("3x3dbl_3a", 1, 3, 384, 384), ("3x3dbl_3b", 3, 1, 384, 384), ("_pool", 1, 1, given, 192),
        ]  # fmt: skip


def inception(divide=16, seed=0):
    """Weights of Inception with one ``divide``-th of its channels."""
    generator, state = torch.Generator().manual_seed(seed), {}

    def put(name, rows, columns, given, made):
        given, made = given if given == 3 else given // divide, made // divide
        shape = (made, given, rows, columns)
        state[f"{name}.conv.weight"] = torch.randn(shape, generator=generator) * (2 / (given * rows * columns)) ** 0.5
        for part in ("weight", "running_var"):
            state[f"{name}.bn.{part}"] = 0.5 + torch.rand(made, generator=generator)
        for part in ("bias", "running_mean"):
            state[f"{name}.bn.{part}"] = 0.1 * torch.randn(made, generator=generator)

    for name, side, given, made in _STEM:
        put(f"Conv2d_{name}", side, side, given, made)
    for block, convolutions in _blocks():
        for name, *sizes in convolutions:
            put(f"Mixed_{block}.branch{name}", *sizes)
    state["fc.weight"], state["fc.bias"] = torch.zeros(1008, 2048 // divide), torch.zeros(1008)
    return state


def alexnet(seed=0):
    """Weights of AlexNet's convolutions; LPIPS's heads fix their number of channels."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for number, given, made, side in (
        (0, 3, 64, 11),
        (3, 64, 192, 5),
        (6, 192, 384, 3),
        (8, 384, 256, 3),
        (10, 256, 256, 3),
    ):
        weight = torch.randn(made, given, side, side, generator=generator)
        state[f"features.{number}.weight"] = weight * (2 / weight[0].numel()) ** 0.5
        state[f"features.{number}.bias"] = 0.1 * torch.randn(made, generator=generator)
    return state


def put_weights(folder):
    """Write both files where torch.hub keeps them under ``$TORCH_HOME = folder``."""
    cache = folder / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for url, state in ((ALEXNET, alexnet()), (INCEPTION, inception())):
        torch.save(state, cache / url.rpartition("/")[2])
