"""A network with a time for each pixel: it is the ordinary one where the map is constant, and local where it is not."""

import copy
import pickle

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DModel

from lanpaint.adapters.diffusers import PixelModel, load_pixel_model
from lanpaint.adapters.time_map import TimeMapUNet, _TimePyramid
from lanpaint.noise import NoiseLevel
from lanpaint.schedules import Flow
from lanpaint.score import NetworkScore
from lanpaint_toys import emoji, recipes

TINY = {
    "sample_size": 8,
    "in_channels": 2,
    "out_channels": 2,
    "layers_per_block": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def _tiny(**changes):
    torch.manual_seed(0)
    return UNet2DModel(**{**TINY, **changes}).double().eval().requires_grad_(False)


def _x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["scale_shift", "default"])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)], ids=str)
def test_a_constant_map_gives_the_output_of_the_ordinary_network(kind, size):
    unet = _tiny(resnet_time_scale_shift=kind)
    network = TimeMapUNet.from_unet(unet)
    x, times = _x(3, 2, *size), torch.tensor([0.0, 17.3, 999.0], dtype=torch.float64)
    expected = unet(x, times).sample
    assert (expected[0] - unet(x, times.flip(0)).sample[0]).abs().max() > 1e-4  # the time matters
    for given in (times, times.view(-1, 1, 1, 1).expand(3, 1, *size).contiguous()):
        torch.testing.assert_close(network(x, given).sample, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        network(x, times[1].expand(3, 1, *size)).sample, unet(x, times[1]).sample, rtol=0, atol=1e-12
    )


def test_the_weights_of_the_flow_model_give_its_output_for_constant_maps():
    unet = emoji.load_unet(emoji.FLOW)
    network = TimeMapUNet.from_unet(unet)
    x, times = _x(2, 3, 32, 32).float(), torch.tensor([3.0, 640.0])
    with torch.no_grad():
        ordinary, mapped = unet(x, times).sample, network(x, times.view(2, 1, 1, 1).expand(2, 1, 32, 32)).sample
    torch.testing.assert_close(mapped, ordinary, rtol=0, atol=2e-5)


def test_each_position_of_a_block_is_modulated_by_its_own_time():
    """With a second convolution that changes nothing, a position's output depends on that position's time alone."""
    network = TimeMapUNet.from_unet(_tiny(resnet_time_scale_shift="scale_shift")).requires_grad_(False)
    block = network.down_blocks[0].resnets[0]
    block.conv2.weight.zero_()
    block.conv2.weight[:, :, 1, 1] = torch.eye(4)
    x, times = _x(2, 4, 3, 5), torch.tensor([0.0, 400.0, 1000.0], dtype=torch.float64)
    which = torch.randint(3, (2, 1, 3, 5), generator=torch.Generator().manual_seed(2))
    mixed = block(x, _TimePyramid(times[which], network._embed))
    for number, time in enumerate(times):
        alone = block(x, network._embed(time.expand(2)))
        here = (which == number).expand_as(alone)
        torch.testing.assert_close(mixed[here], alone[here], rtol=0, atol=1e-12)
        assert (mixed - alone)[~here].abs().max() > 1e-4


def test_inner_layers_see_the_mean_of_the_pixels_that_they_cover():
    """If the outer layers ignore time, a checkerboard of 0 and 1000 is 500."""
    network = TimeMapUNet.from_unet(_tiny(resnet_time_scale_shift="scale_shift")).requires_grad_(False)
    for block in (*network.down_blocks[0].resnets, *network.up_blocks[1].resnets):
        block.time_emb_proj.weight.zero_()
    board = 1000.0 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2).double().expand(2, 1, 8, 8)
    x = _x(2, 2, 8, 8)
    torch.testing.assert_close(network(x, board).sample, network(x, torch.full((2,), 500.0)).sample, rtol=0, atol=1e-12)
    assert (network(x, board).sample - network(x, 0.0 * board).sample).abs().max() > 1e-4


def _single(**changes):
    """A small network in float32 that is not trained, so its maps are interpolated."""
    return TimeMapUNet.from_unet(_tiny(**changes)).float().requires_grad_(False)


def _times(*shape):
    return 1000 * torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def _relative(made, exact):
    return float((made.double() - exact).norm() / exact.norm())


@torch.no_grad()
def test_interpolated_maps_are_as_exact_as_float32():
    """The weights of the flow model and a time for each pixel: as near to float64 as the embeddings in float32 are."""
    network = TimeMapUNet.from_unet(emoji.load_unet(emoji.FLOW))
    x, times = _x(2, 3, 32, 32), _times(2, 1, 32, 32)
    tabulated = network(x.float(), times).sample
    assert network._table.is_accurate
    with torch.enable_grad():
        computed = network.requires_grad_(True)(x.float(), times).sample
    exact = network.double()(x, times.double()).sample
    assert _relative(tabulated, exact) < min(1e-5, 2 * _relative(computed, exact) + 1e-7)


@pytest.mark.parametrize("kind", ["scale_shift", "default"])
def test_gradients_of_the_input_pass_an_interpolated_map(kind):
    network, times = _single(resnet_time_scale_shift=kind), _times(2, 1, 8, 8)
    gradients = []
    for each in (network, copy.deepcopy(network).double()):
        x = _x(2, 2, 8, 8).to(each.dtype).requires_grad_()
        gradients.append(torch.autograd.grad(each(x, times.to(each.dtype)).sample.square().sum(), x)[0])
    assert network._table is not None
    assert _relative(*gradients) < 1e-5


@pytest.mark.parametrize("kind", ["scale_shift", "default"])
def test_weights_that_are_trained_get_the_gradients_of_the_ordinary_network(kind):
    unet = _tiny(resnet_time_scale_shift=kind).float().requires_grad_(True)
    network = TimeMapUNet.from_unet(unet)
    x, times = _x(2, 2, 8, 8).float(), torch.tensor([40.3, 700.0])
    for each, given in ((unet, times), (network, times.view(2, 1, 1, 1).expand(2, 1, 8, 8).contiguous())):
        each(x, given).sample.square().mean().backward()
    assert network._table is None
    for (name, one), other in zip(unet.named_parameters(), network.parameters(), strict=True):
        assert one.grad.abs().max() > 0 or "to_k.bias" in name
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-6)


def _optimizer_step(network):
    network.requires_grad_(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(_x(2, 2, 8, 8).float(), _times(2, 1, 8, 8)).sample.square().mean().backward()
    optimizer.step()
    network.requires_grad_(False)


def _averaged(network):
    for parameter in network.parameters():  # as diffusers' EMAModel writes, past the counters of versions
        parameter.data.copy_(0.9 * parameter.data)


CHANGES = {
    "load_state_dict": lambda network: network.load_state_dict({n: 0.9 * v for n, v in network.state_dict().items()}),
    "an optimizer's step": _optimizer_step,
    "an average": _averaged,
    "to float64 and back": lambda network: network.double().float(),
    "one projection": lambda network: network.mid_block.resnets[1].time_emb_proj.bias.data.add_(0.1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_table_outlives_its_weights(change):
    network, x, times = _single(), _x(2, 2, 8, 8).float(), _times(2, 1, 8, 8)
    network(x, times)
    assert network._table.is_accurate
    change(network)
    fresh = copy.deepcopy(network)
    assert fresh._table is None
    assert torch.equal(network(x, times).sample, fresh(x, times).sample)


def test_a_table_is_made_once_and_does_not_travel():
    network, x, times = _single(), _x(2, 2, 8, 8).float(), _times(2, 1, 8, 8)
    with torch.inference_mode():
        first = network(x, times).sample
    table = network._table
    assert torch.equal(network(x, times).sample, first)
    assert network._table is table
    copied = pickle.loads(pickle.dumps(network))
    assert copied._table is None
    assert torch.equal(copied(x, times).sample, first)
    assert copied.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("time", [-3.0, 1200.0])
def test_times_outside_of_the_table_are_those_of_the_ordinary_network(time):
    unet = _tiny().float()
    network, x, given = TimeMapUNet.from_unet(unet), _x(2, 2, 8, 8).float(), torch.full((2, 1, 8, 8), time)
    torch.testing.assert_close(network(x, given).sample, unet(x, torch.full((2,), time)).sample, rtol=0, atol=1e-5)


def test_an_embedding_too_sharp_for_the_table_is_computed():
    network, x, times = _single(), _x(2, 2, 8, 8), _times(2, 1, 8, 8)
    network.time_embedding.linear_1.weight.mul_(300.0)
    made = network(x.float(), times).sample
    assert not network._table.is_accurate
    assert _relative(made, network.double()(x, times.double()).sample) < 1e-3  # float32 has no more of such phases


def test_other_dtypes_and_autocast_take_maps():
    network, x, times = _single(), _x(2, 2, 8, 8), _times(2, 1, 8, 8)
    exact = copy.deepcopy(network).double()(x, times.double()).sample
    with torch.autocast("cpu", torch.bfloat16):
        assert _relative(network(x.float(), times).sample, exact) < 0.05
    half = torch.nn.Module.to(network, torch.bfloat16)
    made = half(x.bfloat16(), times).sample
    assert made.dtype == torch.bfloat16
    assert _relative(made, exact) < 0.05


def test_it_saves_and_loads_as_itself_and_as_an_ordinary_pipeline(tmp_path):
    """`lanpaint` finds the network that takes maps; diffusers finds an ordinary one with the same weights."""
    recipe = recipes.RECIPES["digits-async"]
    module = recipe.make_module(recipe.defaults)
    recipe.save(module, tmp_path)
    model = load_pixel_model(tmp_path)
    assert isinstance(model.unet, TimeMapUNet)
    assert model.time_maps
    pipe = DiffusionPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert type(pipe.unet) is UNet2DModel
    x, times = _x(2, 1, 8, 8).float(), torch.tensor([3.0, 640.0])
    with torch.no_grad():
        torch.testing.assert_close(model.unet(x, times).sample, pipe.unet(x, times).sample, rtol=0, atol=1e-6)
    assert not load_pixel_model(emoji.FLOW).time_maps


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (3, 1, 8, 8), (2, 2, 8, 8), (8, 8)], ids=str)
def test_a_map_of_another_size_is_refused_in_one_line(shape):
    network = TimeMapUNet.from_unet(_tiny())
    with pytest.raises(ValueError, match=r"must have the shape \(2, 1, 8, 8\) for x of shape .*, got") as error:
        network(_x(2, 2, 8, 8), torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"time_embedding_type": "fourier"}, {"num_class_embeds": 3}], ids=str)
def test_networks_whose_time_is_used_elsewhere_are_refused(changes):
    with pytest.raises(ValueError, match="without classes and without a Fourier embedding"):
        TimeMapUNet(**{**TINY, **changes})


class _Recorder(torch.nn.Module):
    """A network that remembers the time that it was called with."""

    def forward(self, x, time):
        self.time = time
        return 0.5 * x


@pytest.mark.parametrize("shape", [(3, 4, 6, 5), (2, 16, 4, 4), (2, 3, 7)], ids=["latents", "more channels", "a line"])
def test_a_network_that_takes_maps_gets_one_of_the_size_of_pixels_or_latents(shape):
    network = _Recorder()
    score = NetworkScore(network, "flow", Flow(), time_maps=True)
    time = torch.rand(shape[-2:] if len(shape) == 4 else shape[-1:], dtype=torch.float64)
    x = _x(*shape)
    made = score.predict(x, Flow().level(time))  # a level without axes for batch and channels broadcasts to them
    assert network.time.shape == (shape[0], 1, *shape[2:])
    torch.testing.assert_close(network.time.double(), time.expand(shape[0], 1, *shape[2:]).double())
    torch.testing.assert_close(made.denoised, x - time * 0.5 * x)
    score.predict(x, Flow().level(0.25))
    assert network.time.tolist() == [0.25] * shape[0]


def test_a_clean_pixel_is_what_it_is_and_has_no_score():
    score = NetworkScore(_Recorder(), "flow", Flow(), time_maps=True)
    time = torch.tensor([0.0, 0.7], dtype=torch.float64).view(1, 1, 1, 2).expand(1, 1, 2, 2)
    x = _x(2, 3, 2, 2)
    made = score.predict(x, Flow().level(time))
    assert torch.equal(made.denoised[..., 0], x[..., 0])
    assert torch.equal(made.score[..., 0], torch.zeros(2, 3, 2, dtype=torch.float64))


def test_coordinates_of_another_formalism_are_those_of_the_network():
    """x scaled by c, with a c for each pixel, has the score divided by c."""
    score = PixelModel(TimeMapUNet.from_unet(_tiny()), _FlowScheduler())
    time = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    level, x = Flow().level(time), _x(2, 2, 8, 8)
    factor = 0.5 + torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    scaled = score.predict(factor * x, level.rescale(factor))
    torch.testing.assert_close(scaled.denoised, score.predict(x, level).denoised)
    torch.testing.assert_close(scaled.score * factor, score.predict(x, level).score)


class _FlowScheduler:
    config = type("Config", (), {"shift": 1.0, "num_train_timesteps": 1000})


_FlowScheduler.__name__ = "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize(
    ("shape", "declared", "message"),
    [
        ((2, 1, 4, 4), False, r"one noise level per batch or per sample.*declare NetworkScore\(…, time_maps=True\)"),
        ((2, 3, 4, 4), True, r"one time for all channels, so a level of shape \(2, 1, 4, 4\)"),
        ((2, 1, 3, 4), True, r"\(2, 1, 3, 4\) does not broadcast to x of shape \(2, 3, 4, 4\)"),
        ((1, 2, 1, 4, 4), True, "does not broadcast"),
    ],
)
def test_levels_that_a_network_cannot_take_are_refused_in_one_line(shape, declared, message):
    score = NetworkScore(_Recorder(), "flow", Flow(), time_maps=declared)
    with pytest.raises(ValueError, match=message) as error:
        score.predict(torch.zeros(2, 3, 4, 4), NoiseLevel(torch.full(shape, 0.5), torch.full(shape, 0.5)))
    assert "\n" not in str(error.value)
