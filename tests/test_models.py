import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib.models import (
    ARCHITECTURES,
    FAMILIES,
    ZeroDCE,
    apply_curve,
    count_parameters,
    create_model,
    family_of,
    infer_architecture,
    to_published,
)
from tests.helpers import random_photo

PARAMETERS = {"zero-dce": 79_416, "zero-dce++": 10_561, "student-565": 565, "nano-161": 161}
SIZES = [(1, 1), (1, 7), (5, 3), (11, 13), (24, 36), (37, 50)]


def vivid(name, **overrides):
    # New weights give a nearly constant map, which would hide errors; larger weights make every curve vary.
    torch.manual_seed(0)
    model = create_model(name, **overrides)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.mul_(2.2)
    return model.eval()


def published_network(model, x, mirrored_first=True):
    # The seven layers as published for Zero-DCE and Zero-DCE++; a re-implementation concatenates in the opposite order.
    def join(mirrored, last):
        return torch.cat([mirrored, last] if mirrored_first else [last, mirrored], dim=1)

    x1 = F.relu(model.e_conv1(x))
    x2 = F.relu(model.e_conv2(x1))
    x3 = F.relu(model.e_conv3(x2))
    x4 = F.relu(model.e_conv4(x3))
    x5 = F.relu(model.e_conv5(join(x3, x4)))
    x6 = F.relu(model.e_conv6(join(x2, x5)))
    return torch.tanh(model.e_conv7(join(x1, x6)))


def straight_network(model, x):
    return torch.tanh(model.e_conv3(F.relu(model.e_conv2(F.relu(model.e_conv1(x))))))


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameter_count_matches_the_published_one(name, expected):
    assert count_parameters(create_model(name)) == expected


def test_every_curve_network_is_tested():
    assert FAMILIES["zero-dce"].models.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_registered_network_takes_photos_of_any_size_and_has_the_parameters_of_its_record(name):
    model = create_model(name).eval()
    family = family_of(model)
    assert count_parameters(model) == family.parameters[name]
    for size in ((1, 1), (5, 3), (16, 20)):
        with torch.no_grad():
            enhanced, _ = model(random_photo(*size))
        assert enhanced.shape == (1, 3, *size)
        assert enhanced.isfinite().all()
    with torch.no_grad():
        torch.testing.assert_close(model.for_inference()(random_photo(16, 20))[0], enhanced, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "seen"), [((32, 24), (32, 24)), ((33, 64), (17, 32)), ((400, 600), (22, 32))])
def test_network_side_limits_the_size_of_the_networks_input(size, seen):
    model = vivid("student-565", scale_factor=1, network_side=32)
    assert model.network_size(*size) == seen
    photo = random_photo(*size)
    with torch.no_grad():
        enhanced, curve_map = model(photo)
    assert enhanced.shape == curve_map.shape == photo.shape
    factor = model.shrink(*size)
    if factor > 1 and not size[0] % factor and not size[1] % factor:
        with torch.no_grad():
            small = model.estimate_curve(F.avg_pool2d(photo, factor))
        assert torch.allclose(curve_map[..., 0, 0], small[..., 0, 0], atol=1e-6)
        assert torch.allclose(curve_map[..., -1, -1], small[..., -1, -1], atol=1e-6)


def test_the_published_networks_downsample_photos_of_any_size_by_12():
    assert create_model("zero-dce++").network_size(12_000, 6_000) == (1000, 500)
    assert create_model("zero-dce++", network_side=32).network_size(12_000, 6_000) == (32, 16)


@pytest.mark.parametrize("side", [-1, 1.5])
def test_an_invalid_network_side_is_refused(side):
    with pytest.raises(ValueError, match="network_side must be a whole number"):
        create_model("student-565", network_side=side)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_output_has_the_size_and_range_of_the_photo(name, size, batch):
    model = vivid(name)
    photo = random_photo(*size, batch=batch)
    with torch.no_grad():
        enhanced, curve_map = model(photo)
    assert enhanced.shape == photo.shape
    assert curve_map.shape == (batch, 24 if name == "zero-dce" else 3, *size)
    assert enhanced.isfinite().all()
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    assert curve_map.abs().max() < 1


@pytest.mark.parametrize("scale_factor", [4, 12])
@pytest.mark.parametrize("name", ["zero-dce++", "student-565", "nano-161"])
@torch.no_grad()
def test_output_is_the_published_formula_where_the_scale_factor_divides_the_size(name, scale_factor):
    model = vivid(name, scale_factor=scale_factor)
    photo = random_photo(24, 36, batch=2)
    network = straight_network if name == "nano-161" else published_network

    small = F.interpolate(photo, scale_factor=1 / scale_factor, mode="bilinear")
    r = nn.UpsamplingBilinear2d(scale_factor=scale_factor)(network(model, small))
    x = photo
    for _ in range(4 if name == "nano-161" else 8):
        x = x + r * (x**2 - x)

    enhanced, curve_map = model(photo)
    assert r.std() > 0.02
    torch.testing.assert_close(curve_map, r, rtol=0, atol=1e-5)
    torch.testing.assert_close(enhanced, x, rtol=0, atol=1e-5)


@torch.no_grad()
def test_zero_dce_runs_at_full_size_with_a_map_for_each_iteration():
    model = vivid("zero-dce")
    photo = random_photo(11, 13, batch=2)
    maps = published_network(model, photo)
    x = photo
    for r in torch.split(maps, 3, dim=1):
        x = x + r * (x**2 - x)
    enhanced, curve_map = model(photo)
    assert maps.shape[1] == 24
    torch.testing.assert_close(curve_map, maps, rtol=0, atol=1e-5)
    torch.testing.assert_close(enhanced, x, rtol=0, atol=1e-5)


@torch.no_grad()
def test_photos_of_a_batch_are_independent():
    model = vivid("student-565")
    photos = random_photo(37, 50, batch=3)
    alone = torch.cat([model(photo[None])[0] for photo in photos])
    torch.testing.assert_close(model(photos)[0], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["zero-dce++", "student-565", "nano-161"])
@torch.no_grad()
def test_constant_photo_has_a_constant_map_at_every_size(name, size):
    model = vivid(name)
    # With only the central taps, the network ignores the zero padding, and only the resampling remains.
    for layer in model.children():
        kernel = layer.depth_conv.weight
        centre = kernel[:, :, 1, 1].clone()
        kernel.zero_()
        kernel[:, :, 1, 1] = centre
    photo = torch.tensor([0.2, 0.1, 0.4]).view(1, 3, 1, 1).expand(1, 3, *size)
    for result in model(photo):
        torch.testing.assert_close(result, result[..., :1, :1].expand_as(result), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["zero-dce++", "student-565", "nano-161"])
@torch.no_grad()
def test_odd_sized_photo_is_enhanced_like_its_padded_version(name):
    model = vivid(name)
    photo = random_photo(37, 50)
    continued = F.pad(photo, (0, 60 - 50, 0, 48 - 37), mode="replicate")
    for part, whole in zip(model(photo), model(continued), strict=True):
        torch.testing.assert_close(part, whole[..., :37, :50], rtol=0, atol=1e-6)


@torch.no_grad()
def test_map_of_an_odd_sized_photo_is_continuous():
    model = vivid("zero-dce++")
    photo = random_photo(37, 50)
    curve_map = model(photo)[1]
    continued = F.pad(photo, (0, 60 - 50, 0, 48 - 37), mode="replicate")
    small = model.estimate_curve(F.interpolate(continued, size=(4, 5), mode="bilinear"))
    # The map is linear between 4 points over 48 pixels, or 5 over 60, so a step between pixels is at most 3/47, or
    # 4/59, of that between points.
    assert small.diff(dim=-2).abs().max() > 0.05
    assert curve_map.diff(dim=-2).abs().max() <= small.diff(dim=-2).abs().max() * 3 / 47 + 1e-6
    assert curve_map.diff(dim=-1).abs().max() <= small.diff(dim=-1).abs().max() * 4 / 59 + 1e-6


@pytest.mark.parametrize("size", [(1, 7), (5, 3), (37, 50)])
@pytest.mark.parametrize("border", [(..., -1, slice(None)), (..., slice(None), -1)], ids=["last row", "last column"])
@torch.no_grad()
def test_map_depends_on_the_last_row_and_column(size, border):
    model = vivid("zero-dce++")
    photo = random_photo(*size)
    changed = photo.clone()
    changed[border] = 1 - changed[border]
    for before, after in zip(model(photo), model(changed), strict=True):
        assert (before - after)[border].abs().max() > 1e-3


@torch.no_grad()
def test_network_input_is_downsampled_by_the_scale_factor():
    model = create_model("student-565", scale_factor=4)
    seen = []
    model.e_conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    model(random_photo(37, 50))
    assert model.scale_factor == 4
    assert seen == [(1, 3, 10, 13)]
    assert model.network_size(37, 50) == (10, 13)


@torch.no_grad()
def test_photo_keeps_its_precision_under_mixed_precision():
    model = vivid("student-565")
    photo = random_photo(24, 36)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        enhanced, curve_map = model(photo)
    assert enhanced.dtype == curve_map.dtype == torch.float32
    torch.testing.assert_close(enhanced, model(photo)[0], rtol=0, atol=0.05)


def test_curve_by_hand():
    # 0.5 − 0.6 · (0.25 − 0.5) = 0.65, then 0.65 − 0.6 · (0.4225 − 0.65) = 0.7865
    image, curve_map = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), -0.6)
    assert apply_curve(image, curve_map, 1).flatten().tolist() == pytest.approx([0.65] * 3)
    assert apply_curve(image, curve_map, 2).flatten().tolist() == pytest.approx([0.7865] * 3)


def test_curve_applies_its_maps_in_order():
    # 0.5 − 1 · (0.25 − 0.5) = 0.75, then 0.75 + 0.4 · (0.5625 − 0.75) = 0.675; the other order gives 0.64
    image = torch.full((1, 3, 1, 1), 0.5)
    curve_map = torch.cat([torch.full((1, 3, 1, 1), -1.0), torch.full((1, 3, 1, 1), 0.4)], dim=1)
    assert apply_curve(image, curve_map, 2).flatten().tolist() == pytest.approx([0.675] * 3)


@pytest.mark.parametrize("r", [-1.0, -0.4, 0.0, 0.7, 1.0])
def test_curve_is_monotonic_within_range_and_has_fixed_end_points(r):
    image = torch.linspace(0, 1, 1001).expand(1, 3, 1, -1)
    curve = apply_curve(image, torch.full_like(image, r), 8)
    assert curve[..., 0].eq(0).all()
    assert curve[..., -1].eq(1).all()
    assert curve.diff(dim=-1).min() >= 0
    assert curve.min() >= 0
    assert curve.max() <= 1


def test_negative_r_brightens_and_positive_r_darkens():
    image = torch.linspace(0.01, 0.99, 99).expand(1, 3, 1, -1)
    assert (apply_curve(image, torch.full_like(image, -0.2), 8) > image).all()
    assert (apply_curve(image, torch.full_like(image, 0.2), 8) < image).all()


@pytest.mark.parametrize("channels", [1, 4, 6, 21, 27])
def test_curve_map_with_the_wrong_channel_count_is_refused(channels):
    with pytest.raises(ValueError, match=rf"3 or 24 channels, got {channels}"):
        apply_curve(random_photo(2, 2), torch.zeros(1, channels, 2, 2), 8)


@torch.no_grad()
def test_sigmoid_activation_equals_tanh_of_half_the_input():
    with_sigmoid, with_tanh = vivid("student-565", curve_activation="sigmoid"), vivid("student-565")
    with_tanh.e_conv7.point_conv.weight.mul_(0.5)
    with_tanh.e_conv7.point_conv.bias.mul_(0.5)
    photo = random_photo(24, 36)
    torch.testing.assert_close(with_sigmoid(photo)[1], with_tanh(photo)[1], rtol=0, atol=1e-6)
    assert (with_sigmoid(photo)[1] - vivid("student-565")(photo)[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"curve_activation": "relu"}, r"'relu'; choose from .*tanh.*sigmoid"),
        ({"depth": 6}, "depth must be .* odd and at least 3 with skips, got 6"),
        ({"depth": 1}, "depth must be .* got 1"),
        ({"depth": 1, "skips": False}, "at least 2 without skips"),
        ({"scale_factor": 0}, "scale_factor must be a whole number of at least 1, not 0"),
        ({"scale_factor": 2.5}, r"not 2\.5"),
        ({"width": 0}, "width must be a number of at least 1, not 0"),
        ({"iterations": 0}, "iterations must be a number of at least 1, not 0"),
        ({"layers": 7}, "'layers'"),
    ],
)
def test_error_names_an_invalid_argument(overrides, message):
    with pytest.raises(ValueError, match=message):
        create_model("student-565", **overrides)


def test_error_on_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'student-566'; choose from ") as error:
        create_model("student-566")
    assert all(name in str(error.value) for name in ARCHITECTURES)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (torch.rand(3, 8, 8), "3×8×8 torch.float32"),
        (torch.rand(8, 8), "8×8 torch.float32"),
        (torch.rand(1, 4, 8, 8), "1×4×8×8"),
        (torch.rand(1, 8, 8, 3), "1×8×8×3"),
        (torch.rand(1, 3, 0, 8), "1×3×0×8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_input_with_the_wrong_shape_or_type_is_refused_and_described(image, shown):
    with pytest.raises(ValueError, match=f"expected a B×3×H×W floating-point tensor.*{shown}"):
        create_model("student-565")(image)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_reaches_every_parameter(name):
    model = vivid(name, scale_factor=1)
    model(random_photo(24, 36, batch=2))[0].square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", PARAMETERS)
def test_architecture_is_inferred_from_the_tensors(name):
    model = create_model(name)
    assert ZeroDCE(**infer_architecture(model.state_dict())).config == model.config


@pytest.mark.parametrize(
    "config",
    [
        {"width": 6, "depth": 5},
        {"width": 5, "depth": 4, "skips": False, "separable": False},
        {"width": 8, "depth": 3, "iterations": 3, "shared_map": False, "scale_factor": 1},
    ],
)
def test_architecture_without_a_name_is_inferred_from_the_tensors(config):
    model = ZeroDCE(**config)
    assert ZeroDCE(**infer_architecture(model.state_dict())).config == model.config


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "no tensors"),
        ({"features.0.weight": torch.zeros(1)}, r"found features\.0\.weight"),
        ({"e_conv1.weight": torch.zeros(4, 3, 3, 3), "e_conv3.weight": torch.zeros(3, 4, 3, 3)}, "found e_conv1"),
        ({"e_conv1.bias": torch.zeros(4)}, r"e_conv1\.weight.* is missing"),
    ],
)
def test_tensors_of_another_network_are_refused(state, message):
    with pytest.raises(ValueError, match=f"not the weights of a known architecture.*{message}"):
        infer_architecture(state)


def test_config_rebuilds_the_model():
    model = ZeroDCE(width=3, depth=5, iterations=2, separable=False, shared_map=False, scale_factor=3)
    again = ZeroDCE(**model.config)
    again.load_state_dict(model.state_dict(), strict=True)
    assert again.config == model.config


@torch.no_grad()
def test_layout_of_the_reimplementation_computes_the_same():
    theirs = vivid("zero-dce")
    photo = random_photo(11, 13)
    state = {f"module.{key.removeprefix('e_')}": tensor for key, tensor in theirs.state_dict().items()}
    ours = create_model("zero-dce")
    ours.load_state_dict(to_published(state), strict=True)
    wanted = published_network(theirs, photo, mirrored_first=False)
    torch.testing.assert_close(ours(photo)[1], wanted, rtol=0, atol=1e-5)
    assert (wanted - published_network(theirs, photo)).abs().max() > 0.01
