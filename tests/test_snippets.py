"""Every Python snippet of README and docs runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```python" in path.read_text()
]


def test_readme_has_snippets():
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_snippets_of_a_page_run_in_order(page, capsys, tmp_path, monkeypatch):
    from diffusers import UNet2DModel

    monkeypatch.chdir(tmp_path)  # where they may write

    images = torch.zeros(2, 1, 8, 8)
    names = {  # what a page takes as given: a network, images and a mask
        "unet": UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        ),
        "images": images,
        "known": torch.ones(8, 8, dtype=torch.bool).triu(),
    }
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(snippet, str(page), "exec"), names)
    if page.name == "README.md":
        assert torch.equal(names["filled"][:, :, names["known"]], images[:, :, names["known"]])
        kl = float(capsys.readouterr().out.split()[-1])
        assert kl < 0.3  # Replace has 0.32 there
