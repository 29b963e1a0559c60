"""guided-diffusion's layout: random weights, and a forward pass written from the paper's description of the network."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lanpaint.adapters.adm import convert, save
from lanpaint.adapters.diffusers import load_pixel_model

WIDTH, MULTIPLES, BLOCKS, HEAD, ATTENDS = 32, (1, 2, 2), 2, 16, (False, True, True)


def _layout():
    """Modules in the order of guided-diffusion: (name, kind, channels in, channels out) of each, in lists of blocks."""
    channels, levels = [WIDTH * m for m in MULTIPLES], len(MULTIPLES)
    now, skips, down, up = WIDTH, [WIDTH], [[("conv", 3, WIDTH)]], []
    for level in range(levels):
        for _ in range(BLOCKS):
            down.append([("res", now, channels[level]), *([("att", channels[level])] if ATTENDS[level] else [])])
            now = channels[level]
            skips.append(now)
        if level < levels - 1:
            down.append([("down", now, now)])
            skips.append(now)
    for level in reversed(range(levels)):
        for place in range(BLOCKS + 1):
            block = [
                ("res", now + skips.pop(), channels[level]),
                *([("att", channels[level])] if ATTENDS[level] else []),
            ]
            now = channels[level]
            up.append([*block, *([("up", now, now)] if level and place == BLOCKS else [])])
    return down, [("res", channels[-1], channels[-1]), ("att", channels[-1]), ("res", channels[-1], channels[-1])], up


def _weights(seed=0):
    generator, state = torch.Generator().manual_seed(seed), {}

    def put(name, *shape):
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(shape[0], generator=generator)

    def norm(name, size):
        put(name, size)
        state[f"{name}.weight"] = 1 + 0.2 * state[f"{name}.weight"]

    def module(name, kind, *sizes):
        if kind == "conv":
            put(name, sizes[1], sizes[0], 3, 3)
        elif kind == "att":
            norm(f"{name}.norm", sizes[0])
            put(f"{name}.qkv", 3 * sizes[0], sizes[0], 1)
            put(f"{name}.proj_out", sizes[0], sizes[0], 1)
        else:
            norm(f"{name}.in_layers.0", sizes[0])
            put(f"{name}.in_layers.2", sizes[1], sizes[0], 3, 3)
            put(f"{name}.emb_layers.1", 2 * sizes[1], 4 * WIDTH)
            norm(f"{name}.out_layers.0", sizes[1])
            put(f"{name}.out_layers.3", sizes[1], sizes[1], 3, 3)
            if sizes[0] != sizes[1]:
                put(f"{name}.skip_connection", sizes[1], sizes[0], 1, 1)

    put("time_embed.0", 4 * WIDTH, WIDTH)
    put("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    down, middle, up = _layout()
    for part, blocks in (("input_blocks", down), ("output_blocks", up)):
        for number, block in enumerate(blocks):
            for place, (kind, *sizes) in enumerate(block):
                module(f"{part}.{number}.{place}", kind, *sizes)
    for place, (kind, *sizes) in enumerate(middle):
        module(f"middle_block.{place}", kind, *sizes)
    norm("out.0", WIDTH)
    put("out.2", 6, WIDTH, 3, 3)  # with the variance
    return state


def _forward(state, x, time):
    """ε̂ of the network, from its description."""

    def of(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def normed(name, h):
        return F.group_norm(h, 32, *of(name), eps=1e-5)

    def residual(name, h, change):
        a = change(F.silu(normed(f"{name}.in_layers.0", h)))
        a = F.conv2d(a, *of(f"{name}.in_layers.2"), padding=1)
        scale, shift = F.linear(F.silu(embedded), *of(f"{name}.emb_layers.1"))[..., None, None].chunk(2, 1)
        a = normed(f"{name}.out_layers.0", a) * (1 + scale) + shift
        a = F.conv2d(F.silu(a), *of(f"{name}.out_layers.3"), padding=1)
        h = change(h)
        if f"{name}.skip_connection.weight" in state:
            h = F.conv2d(h, *of(f"{name}.skip_connection"))
        return h + a

    def attention(name, h):
        flat = h.flatten(2)
        qkv = F.conv1d(normed(f"{name}.norm", flat), *of(f"{name}.qkv"))
        out = []
        for head in qkv.split(3 * HEAD, dim=1):
            q, k, v = head.split(HEAD, dim=1)
            out.append(v @ torch.softmax(q.mT @ k / HEAD**0.5, dim=-1).mT)
        return h + F.conv1d(torch.cat(out, 1), *of(f"{name}.proj_out")).reshape(h.shape)

    def block(name, kinds, h):
        for place, (kind, *_) in enumerate(kinds):
            one = f"{name}.{place}"
            if kind == "conv":
                h = F.conv2d(h, *of(one), padding=1)
            elif kind == "att":
                h = attention(one, h)
            else:
                change = {
                    "res": lambda y: y,
                    "down": lambda y: F.avg_pool2d(y, 2),
                    "up": lambda y: F.interpolate(y, scale_factor=2, mode="nearest"),
                }[kind]
                h = residual(one, h, change)
        return h

    speeds = torch.exp(-math.log(10_000) * torch.arange(WIDTH // 2, dtype=x.dtype) / (WIDTH // 2))
    angles = time[:, None] * speeds
    embedded = F.linear(torch.cat([angles.cos(), angles.sin()], 1), *of("time_embed.0"))
    embedded = F.linear(F.silu(embedded), *of("time_embed.2"))
    down, middle, up = _layout()
    h, skips = x, []
    for number, kinds in enumerate(down):
        h = block(f"input_blocks.{number}", kinds, h)
        skips.append(h)
    h = block("middle_block", middle, h)
    for number, kinds in enumerate(up):
        h = block(f"output_blocks.{number}", kinds, torch.cat([h, skips.pop()], 1))
    return F.conv2d(F.silu(normed("out.0", h)), *of("out.2"), padding=1)[:, :3]


def test_the_converted_network_is_the_network():
    state = _weights()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    time = torch.tensor([3.0, 700.0])
    unet = convert(state, 16, head_channels=HEAD)
    with torch.no_grad():
        found = unet(x, time).sample
    expected = _forward({name: tensor.double() for name, tensor in state.items()}, x.double(), time.double())
    assert expected.std() > 0.3
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_every_tensor_of_a_checkpoint_has_a_part():
    """A change of any tensor, but the variance's rows of the last one, changes the answer."""
    state = _weights()
    x, time = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([40.0])
    unet = convert(state, 16, head_channels=HEAD)
    kept = sum(tensor.numel() for tensor in unet.state_dict().values())
    assert kept == sum(tensor.numel() for tensor in state.values()) - 3 * (WIDTH * 9 + 1)
    with torch.no_grad():
        before = unet(x, time).sample
        state["out.2.weight"][3:] = 0.0
        assert torch.equal(convert(state, 16, head_channels=HEAD)(x, time).sample, before)


def test_a_saved_checkpoint_is_a_pixel_model(tmp_path):
    state = _weights()
    for name in list(state):
        if name.endswith(("qkv.weight", "qkv.bias")):
            state[name] = state[name].clone()
    score = load_pixel_model(save(state, tmp_path / "adm", 16))
    x = torch.zeros(1, 3, 16, 16)
    assert score.predict(x, score.schedule.level(torch.tensor(500.0))).denoised.shape == x.shape


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.update({"label_emb.weight": torch.zeros(3, 3)}), "conditioned on a class"),
        (lambda state: state.pop("time_embed.0.weight"), "no checkpoint of guided-diffusion"),
        (
            lambda state: [state.pop(k) for k in list(state) if k.startswith("output_blocks.2.2")],
            "resblock_updown|not those",
        ),
    ],
)
def test_other_checkpoints_are_refused_in_a_line(change, told):
    state = _weights()
    change(state)
    with pytest.raises(ValueError, match=told):
        convert(state, 16, head_channels=HEAD)
