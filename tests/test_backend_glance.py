"""GlanceNet through an Enhancer: the model's own results, faster; and what the Enhancer adds. Also ``network_side``."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli import app
from kdlib.enhance.kernels import denoise_rows as denoise_kernel
from kdlib.enhance.kernels.glance import GlanceNetwork, apply_power_curve
from kdlib.enhance.video.smoothing import MapSmoother
from kdlib.models import create_model
from kdlib.models.glance import BLACK, GlanceNet, noise_of
from kdlib.noise import TOP
from kdlib.weights import load_model, save_model
from tests.helpers import as_tensor

# Largest difference to the model's own result, and the share of samples that may differ at all.
TOLERANCE = {"uint8": (1, 0.001), "uint16": (1, 0.02), "float32": (1e-5, 1.0)}
SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (33, 64), (64, 31), (130, 400)]


def varied(seed=1, **arguments):
    """A GlanceNet whose maps differ from place to place, colour to colour and photo to photo."""
    torch.manual_seed(seed)
    model = create_model("glance-650", **arguments).eval()
    with torch.no_grad():
        model.globals.weight.normal_(0, 0.3)
        model.local.weight.normal_(0, 1.0)
        model.smoothing.log_tolerance.add_(torch.randn(3, 3) * 0.2)
    return model


def dark(size, channels=3, dtype="uint8", noise=1.0):
    """A dark gradient with noise and an edge; alpha is anything."""
    rng = np.random.default_rng(sum(size) + channels)
    height, width = size
    ramp = 12 + 40 * np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    ramp = ramp + np.where(np.arange(width) > width // 2, 30.0, 0.0)[None, :, None]
    photo = ramp + rng.normal(0, noise, (height, width, channels)) + 3 * np.arange(channels)
    if channels in {2, 4}:
        photo[..., -1] = rng.uniform(0, 255, size)
    photo = photo.clip(0, 255) / 255 * TOP[dtype]
    return (photo if dtype == "float32" else photo.round()).astype(dtype)


def by_the_model(model, photo, smooth=True):
    """What the model itself makes of a photo, in its dtype; grey with the mean of the colours' maps."""
    x = as_tensor(photo)
    grey = photo.shape[2] < 3
    with torch.no_grad():
        maps = model.curve_map(x)
        if grey:
            maps = torch.cat(
                [maps[:, k : k + 3].mean(1, keepdim=True).expand(-1, 3, -1, -1) for k in (0, 3)] + [maps[:, 6:]], 1
            )
        y = model.enhance(x, maps, noise_of(x) if smooth else None)[0].permute(1, 2, 0).numpy()
    y = y * TOP[photo.dtype.name]
    result = photo.copy()
    result[..., : 1 if grey else 3] = (y if photo.dtype == np.float32 else np.floor(y + 0.5))[..., : 1 if grey else 3]
    return result


def close(result, expected):
    """As close as TOLERANCE says."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    most, share = TOLERANCE[result.dtype.name]
    apart = np.abs(result.astype(np.float64) - expected)
    # Of a few pixels, some may lie on the edge between two levels.
    return apart.max() <= most and (apart > 0).sum() <= max(share * apart.size, 3)


# The network


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (2, 2), (7, 5), (32, 32), (50, 40)])
@pytest.mark.parametrize("arguments", [{}, {"width": 3, "hidden": 4}, {"width": 1, "hidden": 1}])
def test_network_without_torch_agrees_with_torch(arguments, size):
    model = varied(3, **arguments)
    with torch.no_grad():
        model.local.bias.normal_(0, 0.3)
        model.globals.bias[3:6] = torch.tensor([-0.95, 0.9, -0.3])  # gamma meets its limits
    network = GlanceNetwork({k: v.numpy(force=True) for k, v in model.state_dict().items()}, model.config)
    thumbnail = torch.rand(1, 3, *size)
    with torch.no_grad():
        theirs = model.estimate_curve(thumbnail)[0].numpy()
    ours = network(thumbnail[0].numpy())
    assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.allclose(network.limits, torch.exp(-2 * model.smoothing.log_tolerance).detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("size", [*SIZES, (32, 32), (31, 33), (600, 400)])
@pytest.mark.usefixtures("backend")
def test_estimate_is_that_of_the_thumbnail(size):
    model = varied()
    photo = dark(size)
    maps = Enhancer(model, device="cpu", threads=1).estimate(photo)
    assert maps.shape == (min(size[0], 32), min(size[1], 32), 7)
    assert maps.dtype == np.float32
    with torch.no_grad():
        thumbnail = F.adaptive_avg_pool2d(as_tensor(photo), model.thumbnail_size(*size))
        expected = model.estimate_curve(thumbnail)[0].permute(1, 2, 0).numpy()
    assert np.abs(maps - expected).max() <= 1e-5
    assert min(size) < 7 or expected[..., 0].std() > 0.01  # there was something to compare


@pytest.mark.parametrize("side", [1, 5, 31])
@pytest.mark.usefixtures("backend")
def test_max_network_side_bounds_the_thumbnail(side):
    maps = Enhancer(varied(), max_network_side=side, device="cpu").estimate(dark((40, 20)))
    assert maps.shape == (min(side, 32), min(side, 20), 7)


def test_model_with_a_larger_thumbnail():
    assert Enhancer(varied(side=48), device="cpu").estimate(dark((60, 40))).shape == (48, 40, 7)


# The pass over the photo


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("denoise", [0, 1])
@pytest.mark.usefixtures("backend")
def test_result_is_the_model_s_own(denoise, size, dtype):
    model = varied()
    photo = dark(size, dtype=dtype)
    result = Enhancer(model, denoise=denoise, device="cpu", threads=2)(photo)
    assert close(result, by_the_model(model, photo, smooth=denoise == 1))
    assert result.mean() > 1.5 * photo.mean()


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.usefixtures("backend")
def test_grey_stays_grey_and_alpha_untouched(channels, dtype):
    model = varied(2)
    photo = dark((61, 83), channels, dtype)
    result = Enhancer(model, device="cpu", threads=1)(photo)
    assert close(result, by_the_model(model, photo))
    if channels > 1:
        assert result[..., -1].tobytes() == photo[..., -1].tobytes()


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_large_photo_in_strips():
    model = varied(3)
    photo = dark((600, 1400))
    result = Enhancer(model, device="cpu", threads=2)(photo)
    assert close(result, by_the_model(model, photo))
    assert close(Enhancer(model, device="cpu", threads=2)(photo, out=photo), result)


def test_smoothing_is_noticed_and_rounds_only_at_the_end():
    """Smoothed values that went through 8 bits on the way would show as steps of the curve in the shadows."""
    model = varied()
    with torch.no_grad():
        model.globals.bias.copy_(torch.tensor([0.5] * 3 + [-0.7] * 3 + [0.7]))
        model.globals.weight.zero_()
        model.local.weight.zero_()
    photo = (3 + np.random.default_rng(0).random((80, 200, 3)) * 1.2).astype(np.uint8)  # threes, now and then a four
    smooth, plain = (Enhancer(model, denoise=amount, device="cpu")(photo) for amount in (2, 0))
    assert len(np.unique(plain)) == 2
    assert len(np.unique(smooth)) > 3
    assert smooth.std() < 0.5 * plain.std()
    assert close(smooth[..., :3], by_the_model_with_tolerance(model, photo, 2))


def by_the_model_with_tolerance(model, photo, factor):
    x = as_tensor(photo)
    with torch.no_grad():
        y = model.enhance(x, model.curve_map(x), factor * noise_of(x))[0].permute(1, 2, 0).numpy()
    return np.floor(y * 255 + 0.5).astype(np.uint8)


@pytest.mark.usefixtures("backend")
def test_denoise_multiplies_the_tolerance_and_is_1_by_default():
    model = varied()
    photo = dark((120, 160), noise=2.5)
    default = Enhancer(model, device="cpu")
    assert default.denoise == 1
    results = {amount: Enhancer(model, denoise=amount, device="cpu") for amount in (0, 0.5, 1, 2)}
    assert results[1](photo).tobytes() == default(photo).tobytes()
    assert close(results[2](photo), by_the_model_with_tolerance(model, photo, 2))
    assert close(results[0.5](photo), by_the_model_with_tolerance(model, photo, 0.5))
    assert close(results[0](photo), by_the_model(model, photo, smooth=False))
    steps = [float(np.abs(np.diff(e(photo).astype(float), axis=1)).mean()) for e in results.values()]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == 4
    for amount in (0, 2):  # denoise is not part of the estimate
        assert results[amount].estimate(photo).tobytes() == default.estimate(photo).tobytes()


def test_default_of_the_curve_networks_is_no_smoothing():
    photo = dark((60, 80))
    default = Enhancer("student-565", device="cpu")
    assert default.denoise == 0
    assert default(photo).tobytes() == Enhancer("student-565", denoise=0, device="cpu")(photo).tobytes()
    assert default(photo).tobytes() != Enhancer("student-565", denoise=1, device="cpu")(photo).tobytes()


@pytest.mark.usefixtures("backend")
def test_strength_multiplies_gamma_minus_1_and_the_brightness_of_white_not_the_tolerance():
    model = varied()
    photo = dark((50, 70), noise=2)
    whole = Enhancer(model, device="cpu")
    maps = whole.estimate(photo)
    black = 0.5 / 255
    for strength in (0.5, 1.7):
        scaled = maps.astype(float)
        gamma = 1 + scaled[..., 3:6]
        white = scaled[..., :3] + np.log((1 + black) ** gamma - black**gamma)
        gamma = (1 + strength * scaled[..., 3:6]).clip(0.1, 2)
        scaled[..., 3:6] = gamma - 1
        scaled[..., :3] = strength * white - np.log((1 + black) ** gamma - black**gamma)
        expected = whole.apply(photo, scaled.astype(np.float32))
        assert close(Enhancer(model, strength=strength, device="cpu")(photo), expected)
    assert Enhancer(model, strength=0.5, device="cpu").estimate(photo).tobytes() == maps.tobytes()
    means = [Enhancer(model, strength=s, device="cpu")(photo).mean() for s in (0, 0.25, 0.5, 1)]
    assert means == sorted(means)


def test_more_strength_never_darkens_a_photo_that_is_brightened():
    photo = dark((60, 80))
    means = [Enhancer("glance-650", strength=s, device="cpu")(photo).mean() for s in np.linspace(0, 2, 9)]
    assert means == sorted(means)
    assert means[-1] > means[4]


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.usefixtures("backend")
def test_nothing_to_do_leaves_the_photo_bit_for_bit(channels, dtype):
    model = varied()
    photo = dark((23, 31), channels, dtype)
    assert Enhancer(model, strength=0, denoise=0, device="cpu")(photo).tobytes() == photo.tobytes()
    nothing = np.zeros((2, 3, 7), np.float32)
    assert Enhancer(model, device="cpu").apply(photo, nothing).tobytes() == photo.tobytes()


@pytest.mark.usefixtures("backend")
def test_strength_0_still_smooths():
    photo = dark((90, 120), noise=2)
    result = Enhancer(varied(), strength=0, denoise=2, device="cpu")(photo)
    roughness = [np.abs(np.diff(p.astype(float), axis=1)).mean() for p in (photo, result)]
    assert roughness[1] < 0.7 * roughness[0]
    assert abs(result.mean() - photo.mean()) < 0.5


@pytest.mark.usefixtures("backend")
def test_tolerance_may_differ_from_place_to_place():
    photo = dark((80, 200), noise=2)
    enhancer = Enhancer(varied(), device="cpu")
    maps = np.zeros((1, 4, 7), np.float32)
    maps[:, 2:, 6] = 2
    result = enhancer.apply(photo, maps)
    assert np.array_equal(result[:, :60], photo[:, :60])
    assert np.abs(np.diff(result[:, 140:].astype(float), axis=1)).mean() < 2  # 2.2 and more in the photo
    assert np.abs(np.diff(photo[:, 140:].astype(float), axis=1)).mean() > 2.1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 4), (80, 200)])
def test_maps_of_any_size(size):
    model = varied()
    photo = dark((37, 50))
    rng = np.random.default_rng(5)
    maps = np.concatenate([rng.uniform(-0.5, 1, (*size, 3)), rng.uniform(-0.9, 1, (*size, 3)), np.ones((*size, 1))], 2)
    result = Enhancer(model, device="cpu", threads=1).apply(photo, maps)
    full = F.interpolate(
        torch.from_numpy(maps).permute(2, 0, 1)[None], photo.shape[:2], mode="bilinear", align_corners=True
    )
    x = as_tensor(photo)
    with torch.no_grad():
        y = model.enhance(x, full.float(), noise_of(x))[0].permute(1, 2, 0).numpy()
    assert close(result, np.floor(y * 255 + 0.5).astype(np.uint8))


@pytest.mark.parametrize("gain", [0.0, 1.0, 3.0, 20.0, 1e6])
@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.usefixtures("backend")
def test_black_stays_black_and_nothing_overflows(dtype, gain):
    photo = np.zeros((20, 30, 3), dtype)
    photo[:, 20:] = TOP[dtype]
    maps = np.zeros((3, 4, 7), np.float32)
    maps[..., :3] = gain
    maps[..., 3:6] = np.random.default_rng(0).uniform(-0.9, 1, (3, 4, 3))
    result = Enhancer(varied(), denoise=0, device="cpu").apply(photo, maps)
    assert (result[:, :20] == 0).all()
    assert gain < 1 or (result[:, 20:] >= 0.99 * TOP[dtype]).all()
    maps[..., :3] = -gain
    result = Enhancer(varied(), denoise=0, device="cpu").apply(photo, maps)
    assert np.isfinite(result.astype(float)).all()
    assert gain < 20 or (result <= 1e-6 * TOP[dtype]).all()


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.5, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("gain", [-1.0, 0.0, 0.4, 1.5])
def test_curve_is_right_to_float32(gain, gamma):
    x = np.concatenate([np.linspace(0, 1, 30001), np.linspace(0, 0.01, 10001)]).astype(np.float32).reshape(1, -1, 1)
    out = np.empty_like(x)
    settings = [np.full((1, 1, 1), value, np.float32) for value in (gain, gamma - 1)]
    apply_power_curve(x, *settings, np.zeros((1, 1), np.float32), np.ones((3, 3), np.float32), out=out)
    gain, gamma = float(np.float32(gain)), 1 + float(np.float32(gamma - 1))
    expected = np.exp(gain) * ((x.astype(np.float64) + BLACK) ** gamma - BLACK**gamma)
    assert np.abs(out - expected.clip(0, 1)).max() < 2e-6


def test_logarithm_and_power_are_right_to_float32():
    values = np.geomspace(BLACK, 1 + BLACK, 20001).astype(np.float32)
    logarithms = np.array([denoise_kernel.log2(v) for v in values], np.float64)
    assert np.abs(logarithms - np.log2(values.astype(np.float64))).max() < 6e-7
    exponents = np.linspace(-20, 20, 20001).astype(np.float32)
    powers = np.array([denoise_kernel.exp2(v) for v in exponents], np.float64)
    assert np.abs(powers / np.exp2(exponents.astype(np.float64)) - 1).max() < 3e-7
    assert denoise_kernel.exp2(np.float32(-1e9)) < 1e-37
    assert np.isfinite(denoise_kernel.exp2(np.float32(1e9)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m[..., :6], "shape h×w×7, not 2×3×6"),
        (lambda m: m[..., :3], "not 2×3×3"),
        (lambda m: m[0], "not 3×7"),
        (lambda m: m[:0], "not 0×3×7"),
        (lambda m: m + np.float32(np.nan), "NaN or infinite"),
        (lambda m: m + np.array([np.inf, 0, 0, 0, 0, 0, 0], np.float32), "NaN or infinite"),
        (lambda m: m + np.array([0, 0, 0, 0, 1.01, 0, 0], np.float32), r"gamma − 1 from 0 to 1\.01"),
        (lambda m: m - np.array([0, 0, 0, 0.91, 0, 0, 0], np.float32), r"gamma − 1 from -0\.91 to 0"),
        (lambda m: m - np.array([0, 0, 0, 0, 0, 0, 0.1], np.float32), "negative tolerance"),
        (lambda m: m.tolist(), "a curve map is an array"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_wrong_map_is_refused(change, says):
    with pytest.raises((TypeError, ValueError), match=says):
        Enhancer(varied(), device="cpu").apply(dark((9, 9)), change(np.zeros((2, 3, 7), np.float32)))


# Kinds, threads, video


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.usefixtures("backend")
def test_estimate_apply_batch_out_views_and_tensors_are_a_call(channels, dtype):
    enhancer = Enhancer(varied(), device="cpu", threads=1)
    photo = dark((61, 83), channels, dtype)
    expected = enhancer(photo).tobytes()
    assert enhancer.apply(photo, enhancer.estimate(photo)).tobytes() == expected
    assert enhancer(photo[None].repeat(2, axis=0)).tobytes() == 2 * expected
    assert enhancer(torch.from_numpy(photo)).numpy().tobytes() == expected
    flipped = photo[:, ::-1].copy()[:, ::-1]
    assert enhancer(flipped).tobytes() == expected
    out = np.empty_like(photo)
    assert enhancer(photo, out=out) is out
    assert out.tobytes() == expected
    assert enhancer(photo, out=photo) is photo
    assert photo.tobytes() == expected


@pytest.mark.parametrize("denoise", [0, 1])
@pytest.mark.parametrize("in_place", [False, True])
def test_number_of_threads_changes_no_byte(in_place, denoise):
    model = varied()
    photo = dark((243, 322))
    results = set()
    for threads in (1, 2, 3, 7, 100):
        given = photo.copy()
        out = given if in_place else np.empty_like(photo)
        Enhancer(model, denoise=denoise, threads=threads, device="cpu")(given, out=out)
        results.add(out.tobytes())
    assert len(results) == 1


@pytest.mark.usefixtures("backend")
def test_maps_smoothed_over_time_can_be_applied():
    enhancer, smoother = Enhancer(varied(), device="cpu"), MapSmoother(0.25)
    frames = [dark((60, 80)) + np.uint8(10 * k) for k in range(3)]
    maps = [enhancer.estimate(frame) for frame in frames]
    for k, (frame, own) in enumerate(zip(frames, maps, strict=True)):
        steady = smoother(own, frame, k / 25)
        assert steady.shape == own.shape == (32, 32, 7)
        assert enhancer.apply(frame, steady).shape == frame.shape
    low, high = (np.minimum.reduce(maps), np.maximum.reduce(maps))
    assert ((steady >= low - 1e-6) & (steady <= high + 1e-6)).all()
    assert np.abs(steady - maps[-1]).max() > 1e-3


@pytest.mark.parametrize(("option", "amount"), [([], 1), (["--denoise", "0"], 0), (["--denoise", "2"], 2)])
def test_command_line_leaves_smoothing_to_the_model_unless_told(option, amount, tmp_path):
    path = save_model(varied(), tmp_path / "g.safetensors")
    photo = dark((60, 80), noise=2)
    Image.fromarray(photo).save(tmp_path / "dark.png")
    result = CliRunner().invoke(
        app, ["enhance", str(tmp_path / "dark.png"), "-o", str(tmp_path / "out.png"), "--model", str(path), *option]
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), Enhancer(path, denoise=amount, device="cpu")(photo))


# Files


def test_file_memory_and_state_dict_give_the_same(tmp_path):
    model = varied()
    photo = dark((60, 80))
    expected = Enhancer(model, device="cpu")(photo).tobytes()
    assert Enhancer(save_model(model, tmp_path / "g.safetensors"), device="cpu")(photo).tobytes() == expected
    torch.save(model.state_dict(), tmp_path / "g.pth")
    assert Enhancer(tmp_path / "g.pth", device="cpu")(photo).tobytes() == expected


@pytest.mark.usefixtures("backend")
def test_later_training_does_not_reach_an_enhancer():
    model = varied()
    photo = dark((40, 50))
    enhancer = Enhancer(model, device="cpu")
    before = enhancer(photo).tobytes()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert enhancer(photo).tobytes() == before
    assert Enhancer(model, device="cpu")(photo).tobytes() != before


@pytest.mark.parametrize(
    "change", [{"width": 4}, {"width": "8"}, {"hidden": 0}, {"colour": "blue"}, {"family": "glimpse"}]
)
@pytest.mark.usefixtures("backend")
def test_file_with_an_architecture_that_does_not_fit_is_named(change, tmp_path):
    path = tmp_path / "model.safetensors"
    model = GlanceNet()
    save_file(model.state_dict(), path, metadata={"architecture": json.dumps(model.config | change)})
    for load in (load_model, Enhancer):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load(path)


def test_network_refuses_tensors_that_do_not_fit():
    # Compiled code does not look where an array ends.
    model = GlanceNet()
    state = {k: v.numpy(force=True) for k, v in model.state_dict().items()}
    for wrong in (
        {k: v for k, v in state.items() if k != "local.bias"},
        {**state, "local.bias": np.zeros(3, np.float32)},
        {**state, "smoothing.log_tolerance": np.zeros((2, 3), np.float32)},
        {**state, "more": np.zeros(3, np.float32)},
    ):
        with pytest.raises(ValueError, match="not those of the architecture"):
            GlanceNetwork(wrong, model.config)


@pytest.mark.slow
def test_enhancing_on_the_cpu_never_imports_torch(tmp_path):
    path = save_model(varied(), tmp_path / "g.safetensors")
    code = f"""
import sys
import numpy as np
import kdlib

enhancer = kdlib.Enhancer({str(path)!r}, device="cpu")
photo = np.full((30, 40, 3), 20, np.uint8)
assert enhancer(photo).mean() > 30
enhancer.apply(photo, enhancer.estimate(photo))
assert not {{"torch", "torchvision"}} & set(sys.modules)
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# network_side of the Zero-DCE family


@pytest.mark.parametrize(
    ("size", "side", "shape"),
    [
        ((400, 600), 0, (34, 50)),
        ((400, 600), 1000, (34, 50)),
        ((400, 600), 50, (34, 50)),
        ((400, 600), 32, (22, 32)),  # 1/19
        ((400, 610), 50, (31, 47)),  # 1/13, a whole number
        ((640, 320), 32, (32, 16)),  # 1/20
        ((400, 600), 4, (3, 4)),  # 1/150
        ((600, 400), 1, (1, 1)),
        ((30, 20), 4, (3, 2)),  # 1/12 is small enough
    ],
)
@pytest.mark.usefixtures("backend")
def test_network_side_sets_the_copy_as_the_model_does(size, side, shape):
    model = create_model("student-565", network_side=side)
    assert model.network_size(*size) == shape
    assert Enhancer(model, device="cpu").estimate(dark(size)).shape[:2] == shape


@pytest.mark.parametrize(("size", "side"), [((640, 320), 32), ((608, 416), 32), ((400, 600), 4), ((256, 256), 8)])
@pytest.mark.usefixtures("backend")
def test_network_side_gives_the_model_s_own_result_on_multiples(size, side):
    model = load_model("student-565", network_side=side)
    factor = model.shrink(*size)
    height, width = (length // factor * factor for length in size)
    assert model.shrink(height, width) == factor > 12
    photo = dark((height, width))
    with torch.no_grad():
        theirs = model(as_tensor(photo))[0][0].permute(1, 2, 0).numpy()
    ours = Enhancer(model, device="cpu")(photo)
    apart = np.abs(np.floor(theirs * 255 + 0.5) - ours)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.001


def test_max_network_side_still_holds_beside_network_side():
    model = create_model("student-565", network_side=32)
    assert max(Enhancer(model, max_network_side=10, device="cpu").estimate(dark((400, 600))).shape[:2]) == 10


@pytest.mark.slow
def test_files_older_than_network_side_open_without_torch_and_have_no_limit(tmp_path):
    model = create_model("student-565")
    config = {key: value for key, value in model.config.items() if key != "network_side"}
    old, new = (
        tmp_path / "old.safetensors",
        save_model(create_model("student-565", network_side=4), tmp_path / "n.safetensors"),
    )
    save_file(model.state_dict(), old, metadata={"architecture": json.dumps(config)})
    code = f"""
import sys
import numpy as np
import kdlib

photo = np.full((480, 600, 3), 20, np.uint8)
for path, shape in (({str(old)!r}, (40, 50, 3)), ({str(new)!r}, (4, 4, 3))):
    assert kdlib.Enhancer(path, device="cpu").estimate(photo).shape == shape
assert "torch" not in sys.modules
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("value", [-1, "4", 2.5, None])
def test_network_side_that_makes_no_sense_is_refused(value, tmp_path):
    path = tmp_path / "model.safetensors"
    model = create_model("student-565")
    save_file(model.state_dict(), path, metadata={"architecture": json.dumps({**model.config, "network_side": value})})
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        Enhancer(path, device="cpu")
