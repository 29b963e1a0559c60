"""The networks behind LPIPS and FID, computed from their published weights with torch alone.

    python -m lanpaint.metrics.networks

fetches the weights into the cache of torch.hub (``$TORCH_HOME/hub/checkpoints``), where torchvision and torch-fidelity
keep the same files. Neither package is needed: a network is a function of its state dict, and all numbers of channels
are read from there.

- **LPIPS** (Zhang et al., 2018, arXiv:1801.03924): AlexNet's five convolutions with torchvision's weights, and the
  heads that torchmetrics ships.
- **FID** (Heusel et al., 2017, arXiv:1706.08500): the Inception network of 2015 in its TensorFlow form. Average pools
  do not count the padding, the last block's pool is a maximum, and pictures are resized as TensorFlow 1 does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

State = Mapping[str, Tensor]

ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
SMALLEST = 32
"""Least side of a picture in pixels that AlexNet takes."""
_SIDE = 299  # of Inception's pictures
_ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))  # (place, stride, padding) of its convolutions
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, per colour


def weights(url: str) -> State:
    """A state dict from the cache of torch.hub.

    Raises:
        FileNotFoundError: When it is not there. Nothing is fetched.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


class LPIPS(nn.Module):
    """LPIPS with AlexNet.

    Args:
        state: Weights of torchvision's AlexNet.
        heads: Weights of the heads, ``lin0.model.1.weight`` and so on, each (1, C, 1, 1).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, state: State, heads: State) -> None:
        super().__init__()
        for place, (number, _, _) in enumerate(_ALEXNET):
            self.register_buffer(f"weight{place}", state[f"features.{number}.weight"].float())
            self.register_buffer(f"bias{place}", state[f"features.{number}.bias"].float())
            self.register_buffer(f"head{place}", heads[f"lin{place}.model.1.weight"].float())
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])

    def features(self, x: Tensor) -> list[Tensor]:
        """The outputs of the five convolutions, each vector of channels of length 1."""
        x, found = (x - self.shift) / self.scale, []
        for place, (_, stride, padding) in enumerate(_ALEXNET):
            if place in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            weight, bias = getattr(self, f"weight{place}"), getattr(self, f"bias{place}")
            x = F.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances (B,) of pictures x and y, both (B, 3, H, W) in [−1, 1], sides of 32 pixels or more."""
        distance = torch.zeros(len(x), device=x.device)
        for place, (one, other) in enumerate(zip(self.features(x), self.features(y), strict=True)):
            distance = distance + F.conv2d((one - other).square(), getattr(self, f"head{place}")).mean((1, 2, 3))
        return distance


class Inception(nn.Module):
    """The 2048 features of FID.

    Args:
        state: Weights in the layout of torch-fidelity and pytorch-fid: ``Conv2d_1a_3x3.conv.weight`` and so on.

    Attributes:
        num_features: Number of features, 2048 for the published weights.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in state if not name.startswith("fc")}
        for name, legal in self.names.items():
            self.register_buffer(legal, state[name].float() if state[name].is_floating_point() else state[name])
        last = ("branch1x1", *(f"branch3x3_2{s}" for s in "ab"), *(f"branch3x3dbl_3{s}" for s in "ab"), "branch_pool")
        self.num_features = sum(len(state[f"Mixed_7c.{name}.conv.weight"]) for name in last)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, H, W) in [0, 1], or uint8."""
        whole = pictures.float() if pictures.dtype == torch.uint8 else (255 * pictures.float()).floor()
        x = (_resized(whole, _SIDE) - 128) / 128
        x = self._conv("Conv2d_1a_3x3", x, stride=2, same=False)
        x = self._conv("Conv2d_2b_3x3", self._conv("Conv2d_2a_3x3", x, same=False))
        x = F.max_pool2d(x, 3, 2)
        x = self._conv("Conv2d_4a_3x3", self._conv("Conv2d_3b_1x1", x), same=False)
        x = F.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d"):
            x = self._block(name, x, ["1x1"], ["5x5_1", "5x5_2"], ["3x3dbl_1", "3x3dbl_2", "3x3dbl_3"])
        x = self._shrunk("6a", x, ["3x3"], ["3x3dbl_1", "3x3dbl_2", "3x3dbl_3"])
        for name in ("6b", "6c", "6d", "6e"):
            seven = [[f"7x7{kind}_{place}" for place in range(1, last)] for kind, last in (("", 4), ("dbl", 6))]
            x = self._block(name, x, ["1x1"], *seven)
        x = self._shrunk("7a", x, ["3x3_1", "3x3_2"], [f"7x7x3_{place}" for place in range(1, 5)])
        for name, is_last in (("7b", False), ("7c", True)):
            forked = (["3x3_1"], "3x3_2"), (["3x3dbl_1", "3x3dbl_2"], "3x3dbl_3")
            parts = [self._chain(name, x, ["1x1"])]
            for chain, fork in forked:
                stem = self._chain(name, x, chain)
                parts += [self._chain(name, stem, [fork + side]) for side in "ab"]
            x = torch.cat([*parts, self._pooled(name, x, is_last)], 1)
        return x.mean((2, 3))

    def _conv(self, name: str, x: Tensor, stride: int = 1, same: bool = True) -> Tensor:
        """A convolution, a batch norm and a ReLU."""
        weight, mean, variance, scale, shift = (
            getattr(self, f"{name}.{part}".replace(".", "/"))
            for part in ("conv.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
        )
        padding = [side // 2 for side in weight.shape[2:]] if same else 0
        return F.batch_norm(F.conv2d(x, weight, None, stride, padding), mean, variance, scale, shift, eps=1e-3).relu()

    def _chain(self, block: str, x: Tensor, names: Sequence[str], shrinks: bool = False) -> Tensor:
        """Convolutions after each other; the last one may halve the resolution."""
        for name in names:
            last = shrinks and name == names[-1]
            x = self._conv(f"Mixed_{block}.branch{name}", x, stride=2 if last else 1, same=not last)
        return x

    def _pooled(self, block: str, x: Tensor, maximum: bool = False) -> Tensor:
        pool = F.max_pool2d if maximum else partial(F.avg_pool2d, count_include_pad=False)
        return self._conv(f"Mixed_{block}.branch_pool", pool(x, 3, 1, 1))

    def _block(self, block: str, x: Tensor, *chains: Sequence[str]) -> Tensor:
        return torch.cat([*(self._chain(block, x, chain) for chain in chains), self._pooled(block, x)], 1)

    def _shrunk(self, block: str, x: Tensor, *chains: Sequence[str]) -> Tensor:
        return torch.cat([*(self._chain(block, x, chain, True) for chain in chains), F.max_pool2d(x, 3, 2)], 1)


def _resized(x: Tensor, side: int) -> Tensor:
    """Pictures (B, C, H, W) of another size, as TensorFlow 1: linear between pixels at whole coordinates from 0 on."""
    for axis in (-2, -1):
        size = x.shape[axis]
        place = torch.arange(side, device=x.device) * (size / side)
        low = place.long()
        share = (place - low).unsqueeze(-1) if axis == -2 else place - low
        first = x.index_select(axis, low)
        x = first + (x.index_select(axis, (low + 1).clamp(max=size - 1)) - first) * share
    return x


@cache
def lpips_network(device: str = "cpu") -> LPIPS:
    """LPIPS with the published weights.

    Raises:
        FileNotFoundError: When AlexNet's weights are not in the cache of torch.hub.
    """
    import torchmetrics.functional.image as shipped

    heads = Path(str(shipped.__file__)).parent / "lpips_models" / "alex.pth"
    return LPIPS(weights(ALEXNET), torch.load(heads, map_location="cpu", weights_only=True)).to(device)


@cache
def inception_network(device: str = "cpu") -> Inception:
    """Inception with the published weights.

    Raises:
        FileNotFoundError: When the weights are not in the cache of torch.hub.
    """
    return Inception(weights(INCEPTION)).to(device)


if __name__ == "__main__":
    for url in (ALEXNET, INCEPTION):
        torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        print(Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name)
