from itertools import pairwise

import pytest
import torch

from kdlib.models import GlanceNet, count_parameters, create_model, infer_architecture
from kdlib.models.glance import BLACK, NoiseAwareSmoothing, apply_power_curve, noise_of
from tests.helpers import random_photo

SIZES = [(1, 1), (1, 9), (2, 3), (12, 12), (31, 33), (40, 57)]


def vivid(seed=0, **overrides):
    # New weights give the same constant map for every photo, which would hide errors; these make every curve vary.
    torch.manual_seed(seed)
    model = create_model("glance-650", **overrides)
    with torch.no_grad():
        for layer, deviation in ((model.decide, 1.0), (model.globals, 0.3), (model.local, 0.3)):
            layer.weight.normal_(std=deviation)
    return model.eval()


def noisy(levels, deviation=1.5, seed=0):
    """A grey photo with the given levels (H×W, in 255ths) and noise: 1×3×H×W in [0, 1]."""
    noise = deviation * torch.randn(1, 3, *levels.shape, generator=torch.Generator().manual_seed(seed))
    return (levels.expand(1, 3, *levels.shape) + noise) / 255


def step_edge():
    return torch.where(torch.arange(64) < 32, 40.0, 90.0).expand(64, 64)


# The architecture


def test_it_has_650_parameters_distributed_as_designed():
    model = create_model("glance-650")
    parts = {name: count_parameters(part) for name, part in model.named_children()}
    assert count_parameters(model) == 650
    assert parts == {
        "conv": 224,
        "depth_conv": 80,
        "point_conv": 72,
        "decide": 170,
        "globals": 77,
        "local": 18,
        "smoothing": 9,
    }


def test_architecture_is_inferred_from_the_tensors():
    model = GlanceNet(width=6, hidden=5)
    config = infer_architecture(model.state_dict())
    assert (config["family"], config["width"], config["hidden"]) == ("glance", 6, 5)


@pytest.mark.parametrize("argument", ["width", "hidden", "side"])
def test_arguments_below_one_are_refused(argument):
    with pytest.raises(ValueError, match="at least 1"):
        GlanceNet(**{argument: 0})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_output_has_the_size_of_any_photo_and_is_in_range(size, batch):
    photo = random_photo(*size, batch=batch)
    enhanced, curve_map = vivid()(photo)
    assert enhanced.shape == photo.shape
    assert curve_map.shape == (batch, 7, *size)
    assert enhanced.isfinite().all()
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    assert (curve_map[:, 3:6] + 1).min() >= 0.1 - 1e-6
    assert (curve_map[:, 3:6] + 1).max() <= 2 + 1e-6
    assert curve_map[:, 6].min() > 0


@torch.no_grad()
def test_photos_of_a_batch_are_independent():
    model, photos = vivid(), random_photo(40, 36, batch=3)
    together = model(photos)[0]
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], model(photos[k : k + 1])[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_decision_follows_the_mean_logarithm_of_brightness():
    # These weights pass the green channel's logarithm to one hidden unit, and that unit to the gain.
    model = create_model("glance-650")
    for layer in (model.conv, model.depth_conv, model.point_conv, model.decide, model.globals, model.local):
        layer.weight.zero_()
        layer.bias.zero_()
    model.conv.weight[0, 1, 1, 1] = model.depth_conv.weight[0, 0, 1, 1] = model.point_conv.weight[0, 0] = 1
    model.decide.weight[0, 0] = model.globals.weight[0, 0] = 1
    for brightness in (0.1, 0.3, 0.9):
        photo = brightness * (0.8 + 0.2 * random_photo(32, 32))
        wanted = torch.tanh((torch.log(photo[:, 1] + 1 / 255) / 3 + 1).mean())
        maps = model.curve_map(photo)
        torch.testing.assert_close(maps[0, 0], wanted.expand(32, 32))
        torch.testing.assert_close(maps[0, 1:6], torch.zeros(5, 32, 32))


def test_every_part_of_a_photo_influences_the_curve_of_every_other():
    photo = random_photo(96, 96).requires_grad_()
    vivid().curve_map(photo)[0, :6, 0, 0].sum().backward()
    said = torch.nn.functional.max_pool2d(photo.grad.abs().amax(dim=1), 12)  # 4 cells of the thumbnail a side
    assert (said > 0).all()


@torch.no_grad()
def test_the_thumbnail_never_exceeds_the_photo_or_the_side():
    model = create_model("glance-650")
    assert model.thumbnail_size(3000, 4000) == (32, 32)
    assert model.thumbnail_size(5, 4000) == (5, 32)
    assert model.estimate_curve(random_photo(5, 32)).shape == (1, 7, 5, 32)


@pytest.mark.parametrize(
    "wrong",
    [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.rand(1, 3, 0, 8)],
)
def test_input_that_is_not_a_batch_of_photos_is_refused(wrong):
    with pytest.raises(ValueError, match="B×3×H×W"):
        create_model("glance-650")(wrong)


# The curve


def test_zero_maps_leave_a_photo_unchanged():
    photo = random_photo(24, 36)
    enhanced = vivid().enhance(photo, torch.zeros(1, 7, 24, 36), torch.full((1, 1, 1, 1), 1.0))
    torch.testing.assert_close(enhanced, photo, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_black_stays_black(seed):
    assert vivid(seed)(torch.zeros(1, 3, 40, 40))[0].max() < 1e-6


@torch.no_grad()
def test_the_power_curve_preserves_the_order_of_brightness():
    ramp = torch.linspace(0, 1, 256, dtype=torch.float64).expand(1, 3, 1, 256)
    for log_gain in (-1.0, 0.0, 1.5):
        for gamma in (0.1, 0.5, 2.0):
            shape = torch.zeros_like(ramp)
            assert (apply_power_curve(ramp, shape + log_gain, shape + gamma).diff(dim=-1) > 0).all()


def test_the_power_curve_matches_its_formula():
    x, gain, gamma = torch.tensor([0.0, 0.2, 1.0]).expand(1, 3, 1, 3), torch.tensor(0.7), torch.tensor(0.4)
    wanted = torch.exp(gain) * ((x + BLACK) ** gamma - BLACK**gamma)
    torch.testing.assert_close(apply_power_curve(x, gain, gamma), wanted)


# Gradients

PHOTOS = {
    "black": torch.zeros(1, 3, 40, 40),
    "white": torch.ones(1, 3, 40, 40),
    "grey": torch.full((1, 3, 40, 40), 0.3),
    "one pixel": torch.full((1, 3, 1, 1), 0.02),
    "noise": random_photo(40, 40) / 8,
}


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", PHOTOS)
def test_every_gradient_is_finite(name, fresh):
    model = create_model("glance-650") if fresh else vivid()
    photo = PHOTOS[name].clone().requires_grad_()
    (model(photo)[0] - 0.4).square().mean().backward()
    for owner, tensor in (("photo", photo), *model.named_parameters()):
        assert tensor.grad is not None, f"{owner} has no gradient"
        assert tensor.grad.isfinite().all(), owner


def test_every_part_learns_from_a_noisy_photo():
    model = vivid()
    (model(noisy(step_edge()))[0] - 0.4).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# The smoothing


@torch.no_grad()
def test_zero_tolerance_means_no_smoothing():
    photo = noisy(step_edge()).mul(255).round() / 255  # as photos come, in 8 bits
    smoothed = NoiseAwareSmoothing()(photo, torch.zeros(1, 1, 1, 1))
    torch.testing.assert_close(smoothed, photo, atol=1e-6, rtol=0)


@torch.no_grad()
def test_zero_tolerance_hardly_changes_values_between_8_bit_levels():
    # The tolerance is at least a thousandth of a level, and each round changes a value by less than its fraction of it.
    smoothing, photo = NoiseAwareSmoothing(), noisy(step_edge())
    most = 1e-3 * float(smoothing.log_tolerance.exp().amax(dim=1).sum()) / 255
    assert (smoothing(photo, torch.zeros(1, 1, 1, 1)) - photo).abs().max() < most
    assert most < 0.1 / 255


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_a_uniform_photo_is_unchanged_at_any_size(size):
    photo = torch.tensor([0.1, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, *size)
    torch.testing.assert_close(NoiseAwareSmoothing()(photo, torch.full((1, 1, 1, 1), 1.0)), photo, atol=1e-6, rtol=0)


@torch.no_grad()
def test_smoothing_a_uniform_patch_reduces_noise_and_preserves_the_mean():
    photo = noisy(torch.full((64, 64), 40.0))
    smoothed = NoiseAwareSmoothing()(photo, noise_of(photo))
    assert (smoothed.std(dim=(2, 3)) < 0.4 * photo.std(dim=(2, 3))).all()
    torch.testing.assert_close(smoothed.mean(dim=(2, 3)), photo.mean(dim=(2, 3)), atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_step_edge_keeps_its_position_and_height():
    photo = noisy(step_edge())
    row = NoiseAwareSmoothing()(photo, noise_of(photo)).mul(255).mean(dim=(0, 1, 2))
    assert row[32] - row[31] > 49, "a blur of one pixel would leave half of the 50 levels"
    assert row[31] == pytest.approx(40, abs=1)
    assert row[32] == pytest.approx(90, abs=1)


@torch.no_grad()
def test_more_tolerance_smooths_more():
    photo = noisy(torch.full((48, 48), 40.0))
    smoothing = NoiseAwareSmoothing()
    deviations = [float(smoothing(photo, torch.full((1, 1, 1, 1), noise)).std()) for noise in (0.0, 0.25, 0.5, 1.0)]
    assert all(less < more for more, less in pairwise(deviations)), deviations


@torch.no_grad()
def test_noise_is_measured_for_each_photo():
    quiet, loud = (noisy(torch.full((64, 64), 60.0), deviation) for deviation in (0.5, 1.5))
    measured = noise_of(torch.cat([quiet, loud]))
    assert measured.shape == (2, 1, 1, 1)
    assert measured[1] > 2 * measured[0]
    torch.testing.assert_close(measured[:1], noise_of(quiet))
