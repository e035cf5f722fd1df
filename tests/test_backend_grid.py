"""GridNet through an Enhancer: the model's own results, faster; and what the Enhancer adds."""

import os
import pickle
import runpy
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from PIL import Image

from kdlib import Enhancer
from kdlib.enhance.kernels import compiled as compiling
from kdlib.enhance.kernels.grid import GridNetwork
from kdlib.enhance.video.smoothing import MapSmoother
from kdlib.gain_grid import DEEP, KNOTS, MOST_CHROMA
from kdlib.models import create_model
from kdlib.models.glance import noise_of
from kdlib.models.grid import within_white
from kdlib.noise import TOP
from kdlib.weights import save_model
from tests.helpers import as_tensor

# Largest difference to the model's own result, and the share of samples that may differ at all. The smoothing is
# computed in float32, which 16 bits exceed.
EXACT = {"uint8": (1, 0.001), "uint16": (1, 0.001), "float32": (2e-6, 1.0)}
SMOOTHED = {"uint8": (1, 0.001), "uint16": (1, 0.02), "float32": (1e-5, 1.0)}
SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (33, 64), (64, 31), (130, 400)]
# The compiled smoothing stores rows in tiles of 512 columns, and each thread also reads rows of its neighbours.
TILED = [(3, 511), (2, 512), (12, 513), (5, 519), (40, 1025)]


def varied(seed=1, name="grid-960", **arguments):
    """A GridNet whose gains differ from cell to cell, luminance to luminance and photo to photo."""
    torch.manual_seed(seed)
    model = create_model(name, **arguments).eval()
    with torch.no_grad():
        model.knots.weight.normal_(0, 0.7)
        model.knots.bias.normal_(0.3, 0.3)
        model.saturate.weight.normal_(0, 0.3)
        model.chroma.copy_(torch.tensor([0.3, 0.6]))
        model.floor.fill_(2.0)
        model.smoothing.log_tolerance.add_(torch.randn_like(model.smoothing.log_tolerance) * 0.2)
    return model


def backlit(size, channels=3, dtype="uint8", noise=1.0):
    """Shadows beside highlights, with colour, noise and an edge; alpha is anything."""
    rng = np.random.default_rng(sum(size) + channels)
    height, width = size
    ramp = 12 + 40 * np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    ramp = ramp + np.where(np.arange(width) > width // 2, 150.0, 0.0)[None, :, None]
    photo = ramp + rng.normal(0, noise, (height, width, channels)) + 9 * np.arange(channels)
    if channels in {2, 4}:
        photo[..., -1] = rng.uniform(0, 255, size)
    photo = photo.clip(0, 255) / 255 * TOP[dtype]
    return (photo if dtype == "float32" else photo.round()).astype(dtype)


def by_formula(photo, grid, chroma, strength=1.0):
    """The gains in float64 and NumPy, without smoothing; ``grid`` is h×w×9, in logarithms."""
    height, width, channels = photo.shape
    factors = np.exp(strength * grid.astype(np.float64))
    for axis, size in ((0, height), (1, width)):
        count = factors.shape[axis]
        place = ((np.arange(size) + 0.5) * count / size - 0.5).clip(0, count - 1)
        low = place.astype(int)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        factors = factors.take(low, axis) * (1 - share) + factors.take(np.minimum(low + 1, count - 1), axis) * share
    colours = 3 if channels >= 3 else 1
    x = photo[..., :colours].astype(np.float64) / TOP[photo.dtype.name]
    y = (x[..., 0] + 2 * x[..., 1] + x[..., 2]) / 4 if colours == 3 else x[..., 0]
    gain = sum(factors[..., k] * np.interp(y, KNOTS, np.eye(len(KNOTS))[k]) for k in range(len(KNOTS)))
    lost = 1 + chroma[0] * np.maximum(gain - 1, 0) * np.maximum(1 - y / DEEP, 0)
    kept = (1 + chroma[1] * np.maximum(1 - gain, 0)) / lost
    y, gain, kept = y[..., None], gain[..., None], (factors[..., -1] * kept)[..., None]
    enhanced = (gain * (y + kept * (x - y))).clip(0)
    enhanced = enhanced / enhanced.max(axis=-1, keepdims=True).clip(1) * TOP[photo.dtype.name]
    result = photo.copy()
    result[..., :colours] = enhanced if photo.dtype == np.float32 else np.floor(enhanced + 0.5)
    return result


def by_the_model(model, photo, amount=1.0):
    """What the model itself makes of a photo, in its dtype."""
    x = as_tensor(photo)
    with torch.no_grad():
        y = model.apply_grid(x, model.grid_of(x), amount * noise_of(x) if amount else None)
    y = within_white(y)[0].permute(1, 2, 0).numpy() * TOP[photo.dtype.name]
    colours = 3 if photo.shape[2] >= 3 else 1
    result = photo.copy()
    result[..., :colours] = (y if photo.dtype == np.float32 else np.floor(y + 0.5))[..., :colours]
    return result


def close(result, expected, tolerance):
    """As close as the tolerance says."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    most, share = tolerance[result.dtype.name]
    apart = np.abs(result.astype(np.float64) - expected)
    # Of a few pixels, some may lie on the edge between two levels.
    return apart.max() <= most and (apart > 0).sum() <= max(share * apart.size, 3)


def random_grid(size, deviation=0.5, seed=0):
    rng = np.random.default_rng(seed)
    grid = rng.normal(0.2, deviation, (*size, 9)).clip(-3, 3)
    grid[..., -1] = rng.uniform(-0.3, 0.3, size)
    return grid.astype(np.float32)


# The network


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (2, 2), (3, 4), (7, 5), (32, 32), (31, 30), (50, 40)])
@pytest.mark.parametrize("arguments", [{}, {"width": 3, "hidden": 4}, {"width": 1, "hidden": 1}])
def test_network_without_torch_agrees_with_torch(arguments, size):
    model = varied(3, **arguments)
    network = GridNetwork({k: v.numpy(force=True) for k, v in model.state_dict().items()}, model.config)
    thumbnail = torch.rand(1, 3, *size) ** 3
    thumbnail[..., :1, :1] = 0
    with torch.no_grad():
        theirs = model.estimate_grid(thumbnail)[0].numpy()
    ours = network(thumbnail[0].numpy())
    assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.allclose(network.tolerances, model.smoothing.log_tolerance.exp().detach().numpy(), rtol=1e-6)
    assert np.array_equal(network.chroma, model.chroma.detach().numpy())
    assert network.floor == 2


@pytest.mark.parametrize("name", ["grid-960", "grid-teacher"])
@pytest.mark.parametrize("size", [*SIZES, (32, 32), (31, 33), (600, 400)])
@pytest.mark.usefixtures("backend")
def test_estimate_is_that_of_the_thumbnail(size, name):
    model = varied(name=name)
    photo = backlit(size)
    grid = Enhancer(model, device="cpu", threads=1).estimate(photo)
    side = 32 if name == "grid-960" else 64
    assert grid.shape == (-(min(size[0], side) // -4), -(min(size[1], side) // -4), 9)
    assert grid.dtype == np.float32
    with torch.no_grad():
        expected = model.grid_of(as_tensor(photo))[0].permute(1, 2, 0).numpy()
    assert np.abs(grid - expected).max() <= 3e-5
    assert min(size) < 7 or expected[..., 0].std() > 0.01  # there was something to compare


@pytest.mark.parametrize("side", [1, 5, 31])
@pytest.mark.usefixtures("backend")
def test_max_network_side_bounds_the_thumbnail(side):
    grid = Enhancer(varied(), max_network_side=side, device="cpu").estimate(backlit((40, 20)))
    assert grid.shape == (-(min(side, 32) // -4), -(min(side, 20) // -4), 9)


def test_model_with_a_larger_thumbnail():
    assert Enhancer(varied(side=48), device="cpu").estimate(backlit((60, 40))).shape == (12, 10, 9)


# The pass over the photo


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("denoise", [0, 1])
@pytest.mark.parametrize("name", ["grid-960", "grid-teacher"])
@pytest.mark.usefixtures("backend")
def test_result_is_the_model_s_own(name, denoise, size, dtype):
    model = varied(name=name)
    photo = backlit(size, dtype=dtype)
    enhancer = Enhancer(model, denoise=denoise, device="cpu", threads=2)
    result = enhancer(photo)
    # The model computes in float32, which 16 bits exceed.
    assert close(result, by_the_model(model, photo, denoise), SMOOTHED)
    assert np.abs(result.astype(float) - photo).mean() > 0.01 * TOP[dtype]
    if not denoise:
        grid = enhancer.estimate(photo)
        assert close(result, by_formula(photo, grid, model.chroma.detach().numpy().astype(float)), EXACT)


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("size", TILED)
def test_smoothing_across_tiles_and_threads_is_the_model_s_own(size, dtype):
    model = varied()
    photo = backlit(size, dtype=dtype, noise=2)
    for threads in (1, 3):
        result = Enhancer(model, denoise=2, device="cpu", threads=threads)(photo)
        assert close(result, by_the_model(model, photo, 2), SMOOTHED)


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0, 2.0])
@pytest.mark.usefixtures("backend")
def test_gains_are_right_to_the_type_s_precision(strength, channels, dtype):
    model, photo = varied(), backlit((130, 400), channels, dtype, noise=20)
    grid = random_grid((8, 6), deviation=0.5)
    result = Enhancer(model, denoise=0, strength=strength, device="cpu", threads=1).apply(photo, grid)
    expected = by_formula(photo, grid, model.chroma.detach().numpy().astype(float), strength)
    # With a strength of 2, gains reach 32, which multiply the rounding errors of float32.
    assert close(result, expected, {**EXACT, "float32": (5e-6, 1.0)} if strength == 2 else EXACT)
    if strength == 0:
        assert result.tobytes() == photo.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 4), (16, 16), (80, 200)])
@pytest.mark.parametrize("photo_size", [(37, 50), (1, 1), (3, 700)])
@pytest.mark.usefixtures("backend")
def test_maps_of_any_size(photo_size, size):
    model, photo, grid = varied(), backlit(photo_size), random_grid(size)
    result = Enhancer(model, denoise=0, device="cpu", threads=1).apply(photo, grid)
    assert close(result, by_formula(photo, grid, model.chroma.detach().numpy().astype(float)), EXACT)


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.usefixtures("backend")
def test_every_luminance_has_its_own_gain(dtype):
    """A ramp through all knots, under extreme gains."""
    ramp = np.linspace(0, TOP[dtype], 1021)
    photo = np.repeat((ramp if dtype == "float32" else ramp.round())[None, :, None], 3, axis=2).astype(dtype)
    grid = np.zeros((1, 1, 9), np.float32)
    grid[0, 0, :8] = [3, -3, 2, -2, 3, -1, 0.5, -0.1]
    result = Enhancer(varied(), denoise=0, device="cpu").apply(photo, grid)
    assert close(result, by_formula(photo, grid, (0.3, 0.6)), {**EXACT, "float32": (5e-6, 1.0)})
    assert (result[..., 0] == result[..., 2]).all()


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.usefixtures("backend")
def test_grey_stays_grey_and_alpha_untouched(channels, dtype):
    model = varied(2)
    photo = backlit((61, 83), channels, dtype)
    result = Enhancer(model, device="cpu", threads=1)(photo)
    assert close(result, by_the_model(model, photo), SMOOTHED)
    if channels > 1:
        assert result[..., -1].tobytes() == photo[..., -1].tobytes()


@pytest.mark.usefixtures("backend")
def test_grey_and_three_equal_channels_give_the_same():
    photo = backlit((61, 83), 1)
    enhancer = Enhancer(varied(), device="cpu")
    grey, colour = enhancer(photo), enhancer(np.repeat(photo, 3, axis=2))
    assert close(np.repeat(grey, 3, axis=2), colour, EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("denoise", [0, 1])
@pytest.mark.usefixtures("backend")
def test_large_photo_in_strips(denoise):
    model = varied(3)
    photo = backlit((600, 1400))
    result = Enhancer(model, denoise=denoise, device="cpu", threads=2)(photo)
    assert close(result, by_the_model(model, photo, denoise), SMOOTHED)
    assert close(Enhancer(model, denoise=denoise, device="cpu", threads=2)(photo, out=photo), result, SMOOTHED)


@pytest.mark.usefixtures("backend")
def test_denoise_multiplies_the_noise_and_is_1_by_default():
    model = varied()
    photo = backlit((120, 160), noise=2.5)
    default = Enhancer(model, device="cpu")
    assert default.denoise == 1
    results = {amount: Enhancer(model, denoise=amount, device="cpu") for amount in (0, 0.5, 1, 2)}
    assert results[1](photo).tobytes() == default(photo).tobytes()
    for amount, enhancer in results.items():
        assert close(enhancer(photo), by_the_model(model, photo, amount), SMOOTHED)
        assert enhancer.estimate(photo).tobytes() == default.estimate(photo).tobytes()
    steps = [float(np.abs(np.diff(e(photo).astype(float), axis=1)).mean()) for e in results.values()]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == 4


@pytest.mark.usefixtures("backend")
def test_near_black_the_gain_approaches_1():
    model, grid = varied(), np.full((1, 1, 9), 2, np.float32)
    grid[..., -1] = 0
    photo = np.random.default_rng(0).integers(0, 3, (60, 80, 3)).astype(np.uint8)
    smoothed, plain = (Enhancer(model, denoise=amount, device="cpu").apply(photo, grid) for amount in (1, 0))
    assert plain.mean() > 4 * photo.mean()
    assert smoothed.mean() < 0.8 * plain.mean()
    black = np.zeros((20, 20, 3), np.uint8)
    assert not Enhancer(model, device="cpu").apply(black, grid).any()


def test_smoothing_is_noticed_and_rounds_only_at_the_end():
    """Smoothed values that went through 8 bits on the way would show as steps of the gain in the shadows."""
    model, grid = varied(), np.full((1, 1, 9), 2, np.float32)
    grid[..., -1] = 0
    with torch.no_grad():
        model.floor.zero_()
    photo = (3 + np.random.default_rng(0).random((80, 200, 1)) * 1.2).astype(np.uint8)  # threes, now and then a four
    smooth, plain = (Enhancer(model, denoise=amount, device="cpu").apply(photo, grid) for amount in (2, 0))
    assert len(np.unique(plain)) == 2
    assert len(np.unique(smooth)) > 3
    assert smooth.std() < 0.6 * plain.std()


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.usefixtures("backend")
def test_nothing_to_do_leaves_the_photo_bit_for_bit(channels, dtype):
    model = varied()
    photo = backlit((23, 31), channels, dtype)
    assert Enhancer(model, strength=0, denoise=0, device="cpu")(photo).tobytes() == photo.tobytes()
    nothing = np.zeros((2, 3, 9), np.float32)
    assert Enhancer(model, denoise=0, device="cpu").apply(photo, nothing).tobytes() == photo.tobytes()


@pytest.mark.usefixtures("backend")
def test_strength_0_still_smooths():
    photo = backlit((90, 120), noise=2)
    result = Enhancer(varied(), strength=0, denoise=2, device="cpu")(photo)
    roughness = [np.abs(np.diff(p.astype(float), axis=1)).mean() for p in (photo, result)]
    assert roughness[1] < 0.75 * roughness[0]
    assert abs(result.mean() - photo.mean()) < 0.5


@pytest.mark.usefixtures("backend")
def test_strength_multiplies_the_logarithms():
    photo = backlit((50, 70), noise=2)
    whole = Enhancer(varied(), device="cpu")
    grid = whole.estimate(photo) / 2
    for strength in (0.5, 1.7):
        enhancer = Enhancer(varied(), strength=strength, device="cpu")
        assert close(enhancer.apply(photo, grid), whole.apply(photo, grid * np.float32(strength)), EXACT)
        assert enhancer.estimate(photo).tobytes() == whole.estimate(photo).tobytes()


@pytest.mark.parametrize("value", [-1.0, 1.0])
@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.usefixtures("backend")
def test_extreme_grids_stay_in_range_and_black_stays_black(dtype, value):
    photo = np.zeros((20, 30, 3), dtype)
    photo[:, 20:] = TOP[dtype]
    grid = np.full((3, 4, 9), 3 * value, np.float32)
    grid[..., -1] = value * MOST_CHROMA
    for denoise in (0, 2):
        result = Enhancer(varied(), strength=2, denoise=denoise, device="cpu").apply(photo, grid).astype(float)
        assert (result[:, :20] == 0).all()
        assert ((result >= 0) & (result <= TOP[dtype])).all()
        assert (result[:, 20:] == TOP[dtype]).all() if value > 0 else (result <= 0.003 * TOP[dtype] + 1).all()


@pytest.mark.parametrize("chroma", [(-5.0, -5.0), (1e6, 1e6), (-0.05, 0.0)])
@pytest.mark.usefixtures("backend")
def test_untrained_factors_of_chroma_give_no_nan(chroma):
    model = varied()
    with torch.no_grad():
        model.chroma.copy_(torch.tensor(chroma))
    result = Enhancer(model, denoise=0, device="cpu").apply(backlit((30, 40), dtype="float32"), random_grid((3, 3), 2))
    assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_absurd_tolerances_count_all_or_no_neighbours(sign):
    model, photo, results = varied(), backlit((30, 40), dtype="float32"), []
    for size in (11, 80):
        with torch.no_grad():
            model.smoothing.log_tolerance.fill_(sign * size)
        results.append(Enhancer(model, device="cpu")(photo))
    assert close(*results, SMOOTHED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m[..., :8], "shape h×w×9, not 2×3×8"),
        (lambda m: m[..., :3], "not 2×3×3"),
        (lambda m: m[0], "not 3×9"),
        (lambda m: m[:0], "not 0×3×9"),
        (lambda m: m + np.float32(np.nan), "NaN or infinite"),
        (lambda m: m + np.array([np.inf, *[0] * 8], np.float32), "gains that are NaN or infinite"),
        (lambda m: m + np.array([*[0] * 8, np.nan], np.float32), "chroma that are NaN or infinite"),
        (lambda m: m + np.array([0, 3.01, *[0] * 7], np.float32), r"gains from 0 to 3\.01; values from -3 to 3"),
        (lambda m: m - np.array([*[0] * 7, 3.5, 0], np.float32), r"gains from -3\.5 to 0"),
        (lambda m: m + np.array([*[0] * 8, 0.6], np.float32), r"chroma from 0\.6 to 0\.6; values from -0\.3 to 0\.3"),
        (lambda m: m.tolist(), "a curve map is an array"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_wrong_map_is_refused(change, says):
    with pytest.raises((TypeError, ValueError), match=says):
        Enhancer(varied(), device="cpu").apply(backlit((9, 9)), change(np.zeros((2, 3, 9), np.float32)))


def test_gains_of_the_limits_are_accepted():
    enhancer = Enhancer(varied(), device="cpu")
    for sign in (-1, 1):
        grid = sign * np.array([3] * 8 + [MOST_CHROMA], np.float32).reshape(1, 1, 9)
        assert enhancer.apply(backlit((9, 9)), grid).shape == (9, 9, 3)


# The Triton kernel, by its interpreter

# In another process, as in tests/test_kernels_curve.py. Interpreting takes 40 ms for a row of a photo: the cases are
# few and small, and strips have few rows.
TRITON = """
import pickle, sys

sys.modules["numba"] = None
import torch
from kdlib import Enhancer
from kdlib.enhance.backends import torch_base, torch_grid
from kdlib.enhance.kernels import triton
from kdlib.enhance.kernels.plain_torch import precise
from kdlib.enhance.kernels.triton_grid import apply_gains

torch_grid.pixel_kernels = lambda device: ("triton", triton)  # as on CUDA
torch_base._STRIP, torch_base._STRIP_ROWS = 1, 9
work = pickle.load(sys.stdin.buffer)
done = {"enhanced": [], "unchanged": []}
for k, (model, photo, grid, options) in enumerate(work["enhance"]):
    enhancer = Enhancer(model, device="cpu", threads=1, **options)
    assert enhancer.backend == "triton"
    out = photo if k % 2 else None  # every other one in place
    done["enhanced"].append(enhancer(photo, out=out) if grid is None else enhancer.apply(photo, grid, out=out))
for photo in work["leave"]:
    image = torch.from_numpy(photo)
    out = torch.zeros_like(image)
    apply_gains(image, torch.ones(9, 2, 3, dtype=precise(image)), (0.3, 0.6), None, out)
    done["unchanged"].append(out.numpy())
sys.stdout.buffer.write(pickle.dumps(done))
"""


def triton_cases():
    """Every dtype and number of channels, with a grid and without smoothing; sizes, grids and strengths cycle."""
    sizes = [(1, 1), (1, 37), (5, 1), (2, 2), (3, 5), (2, 261), (4, 17)]
    grids = [(1, 1), (1, 4), (3, 1), (2, 2), (8, 6), (16, 16)]
    cases = []
    for turn in range(24):
        dtype, channels = list(TOP)[turn % 3], turn // 3 % 4 + 1
        photo = backlit(sizes[turn % 7], channels, dtype, noise=20)
        cases.append((photo, random_grid(grids[turn // 2 % 6], seed=turn), (1.0, 0.4, 2.0)[turn // 4 % 3]))
    extreme = np.array([3, -3, 2, -2, 3, -1, 0.5, -0.1, 0], np.float32).reshape(1, 1, 9)
    for dtype in TOP:  # all luminances; a colour that has to be limited to white; black and white
        ramp = np.linspace(0, TOP[dtype], 1021)
        ramp = np.repeat((ramp if dtype == "float32" else ramp.round())[None, :, None], 3, axis=2).astype(dtype)
        cases.append((ramp, extreme, 1.0))
        orange = np.array([[[0.8, 0.4, 0.1], [0, 0, 0], [1, 1, 1]]]) * TOP[dtype]
        cases.append((orange.astype(dtype), np.full((3, 2, 9), [2] * 8 + [0], np.float32), 1.0))
    return cases


SMOOTHED_CASES = [((11, 9), 3, 1), ((2, 9), 4, 2), ((3, 12), 1, 1), ((1, 1), 3, 1), ((2, 3), 2, 0.5)]


@pytest.fixture(scope="module")
def triton_results():
    pytest.importorskip("triton")
    enhance = [(varied(), photo, grid, {"denoise": 0, "strength": s}) for photo, grid, s in triton_cases()]
    for size, channels, amount in SMOOTHED_CASES:
        enhance += [(varied(), backlit(size, channels, dtype, noise=2), None, {"denoise": amount}) for dtype in TOP]
    leave = [backlit((2, 7), channels, dtype, noise=40) for dtype in TOP for channels in (1, 3)]
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        input=pickle.dumps({"enhance": enhance, "leave": leave}),
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return pickle.loads(done.stdout), leave


@pytest.mark.slow
def test_triton_kernel_is_exact(triton_results):
    cases, samples, unequal = triton_cases(), dict.fromkeys(TOP, 0), dict.fromkeys(TOP, 0)
    for (photo, grid, strength), result in zip(cases, triton_results[0]["enhanced"], strict=False):
        expected = by_formula(photo, grid, (0.3, 0.6), strength)
        assert close(result, expected, {**EXACT, "float32": (5e-6, 1.0)}), (photo.dtype, photo.shape, grid.shape)
        samples[photo.dtype.name] += photo.size
        unequal[photo.dtype.name] += int((result != expected).sum())
    for dtype in ("uint8", "uint16"):
        assert samples[dtype] > 3000
        assert unequal[dtype] <= samples[dtype] / 1000


@pytest.mark.slow
def test_triton_kernel_limits_to_white_and_keeps_the_hue(triton_results):
    tested = 0
    for (photo, _, _), result in zip(triton_cases(), triton_results[0]["enhanced"], strict=False):
        if photo.shape == (1, 3, 3):
            red, green, blue = result[0, 0].astype(float)
            assert red == TOP[photo.dtype.name]
            assert (green - blue) / (red - blue) == pytest.approx(3 / 7, abs=0.02)
            assert not result[0, 1].any()
            assert (result[0, 2] == TOP[photo.dtype.name]).all()
            tested += 1
    assert tested == len(TOP)


@pytest.mark.slow
def test_triton_kernel_leaves_the_photo_where_gains_are_1(triton_results):
    results, photos = triton_results
    for photo, result in zip(photos, results["unchanged"], strict=True):
        assert result.tobytes() == photo.tobytes()


@pytest.mark.slow
def test_triton_kernel_after_smoothing_is_the_model_s_own(triton_results):
    model, results = varied(), iter(triton_results[0]["enhanced"][len(triton_cases()) :])
    for size, channels, amount in SMOOTHED_CASES:
        for dtype in TOP:
            photo = backlit(size, channels, dtype, noise=2)
            assert close(next(results), by_the_model(model, photo, amount), SMOOTHED), (size, channels, dtype)
    assert next(results, None) is None


# Kinds, threads, video, files


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("denoise", [0, 1])
@pytest.mark.usefixtures("backend")
def test_estimate_apply_batch_out_views_and_tensors_are_a_call(denoise, channels, dtype):
    enhancer = Enhancer(varied(), denoise=denoise, device="cpu", threads=1)
    photo = backlit((61, 83), channels, dtype)
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
    photo = backlit((243, 322))
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
    frames = [backlit((60, 80)) // 2 + np.uint8(10 * k) for k in range(3)]
    grids = [enhancer.estimate(frame) for frame in frames]
    for k, (frame, own) in enumerate(zip(frames, grids, strict=True)):
        steady = smoother(own, frame, k / 25)
        assert steady.shape == own.shape == (8, 8, 9)
        assert enhancer.apply(frame, steady).shape == frame.shape
    low, high = np.minimum.reduce(grids), np.maximum.reduce(grids)
    assert ((steady >= low - 1e-6) & (steady <= high + 1e-6)).all()
    assert np.abs(steady - grids[-1]).max() > 1e-3


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_pillow_images_keep_their_mode(mode):
    image = Image.fromarray(backlit((30, 40), 3)).convert(mode)
    result = Enhancer(varied(), device="cpu")(image)
    assert (result.mode, result.size) == (image.mode, image.size)


@pytest.mark.parametrize("name", ["grid-960", "grid-teacher"])
@pytest.mark.usefixtures("backend")
def test_weights_file_gives_the_model_s_result(name, tmp_path):
    model = varied(name=name)
    photo = backlit((60, 80))
    path = save_model(model, tmp_path / "grid.safetensors")
    assert Enhancer(path, device="cpu")(photo).tobytes() == Enhancer(model, device="cpu")(photo).tobytes()


@pytest.mark.slow
def test_weights_file_opens_without_torch(tmp_path):
    path, photo, result = save_model(varied(), tmp_path / "grid.safetensors"), tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(photo, backlit((60, 80)))
    code = f"""
import sys
import numpy as np
import kdlib

enhancer = kdlib.Enhancer({str(path)!r}, device="cpu")
assert enhancer.backend == "numba"
np.save({str(result)!r}, enhancer(np.load({str(photo)!r})))
assert "torch" not in sys.modules
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.array_equal(np.load(result), Enhancer(varied(), device="cpu")(np.load(photo)))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("chroma"),
        lambda state: state.update({"floor": np.zeros(1, np.float32)}),
        lambda state: state.update({"other": np.zeros(1, np.float32)}),
        lambda state: state.update({"knots.weight": np.zeros((9, 8, 1, 1), np.float32)}),
    ],
)
def test_tensors_of_another_network_are_refused(change):
    model = varied()
    state = {k: v.numpy(force=True) for k, v in model.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match="not those of the architecture"):
        GridNetwork(state, model.config)


def test_compiler_is_told_to_use_wide_vectors():
    """The result is the same without, only slower: what would be lost without notice is seen in LLVM's code alone."""

    compiling._register_wide_vectors()  # as for the first kernel that is compiled

    @numba.njit
    def marked():
        compiling.wide_vectors()
        return 1

    assert marked() == 1
    (code,) = marked.inspect_llvm().values()
    assert '"prefer-vector-width"="512"' in code


@pytest.mark.parametrize(("later", "found"), [("same", True), ("other", False)])
def test_machine_code_is_reused_only_while_no_kernel_changes(later, found, tmp_path, monkeypatch):
    path = tmp_path / "kernel.py"
    path.write_text("def twice(x):\n    return 2 * x\n")
    for digest in ("same", later):
        monkeypatch.setattr(compiling, "_sources", lambda digest=digest: digest)
        kernel = compiling.compiled(runpy.run_path(str(path))["twice"])
        assert kernel(4) == 8
    assert bool(kernel.dispatcher.stats.cache_hits) is found
