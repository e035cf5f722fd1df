"""The three forms of the fused pass and of the small copy, and the compiled network, against float64 and PyTorch."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdlib import Enhancer
from kdlib.enhance.kernels import curve, plain_torch
from kdlib.enhance.kernels import separable as network
from kdlib.models import create_model
from kdlib.noise import TOP

SIZES = [(1, 1), (1, 37), (41, 1), (2, 2), (13, 17), (97, 101), (5, 701)]
SMALL_SIZES = [(1, 1), (1, 37), (9, 1), (2, 2), (6, 17), (5, 701)]
GRIDS = [(1, 1), (1, 4), (3, 1), (2, 2), (9, 11), (130, 120)]
# Iterations, maps and whether there are four channels. Each is compiled for itself, as for each dtype, which takes a
# second: all with eight iterations, which every network of the package has, and each other number once or twice.
OF_EIGHT = [(8, 1, False), (8, 8, False), (8, 1, True), (8, 8, True)]
KINDS = {
    "uint8": [(1, 1, False), (4, 4, False), *OF_EIGHT, (16, 1, False), (4, 4, True)],
    "uint16": [*OF_EIGHT, (16, 1, False)],
    "float32": [*OF_EIGHT, (16, 1, False)],
}
ITERATIONS = {"uint8": [1, 4, 8, 16], "uint16": [8, 16], "float32": [8, 16]}
EVERY_KIND = [(n, maps, four) for n in (1, 4, 8, 16) for maps in sorted({1, n}) for four in (False, True)]
CPU_FORMS = ["numba", "torch"]
ALL_FORMS = [*CPU_FORMS, pytest.param("triton", marks=pytest.mark.slow)]  # by its interpreter


def photo(rng, dtype, *shape):
    if dtype == "float32":
        values = rng.uniform(0, 1, shape).astype(np.float32)
        # Where a rounding error would leave the range.
        values.flat[:4] = (0, 1, 1e-8, 1 - 6e-8)[: values.size]
        return values
    return rng.integers(0, TOP[dtype] + 1, shape).astype(dtype)


def colours_of(image):
    return 3 if image.shape[2] >= 3 else 1


def along(count, size):
    """The two grid positions around each of ``size`` pixels, ends on ends, and the second one's weight."""
    position = np.linspace(0, count - 1, size) if size > 1 else np.zeros(1)
    lower = np.minimum(np.floor(position).astype(int), max(count - 2, 0))
    return lower, np.minimum(lower + 1, count - 1), position - lower


def stretched(maps, height, width):
    top, bottom, down = along(maps.shape[1], height)
    left, right, across = along(maps.shape[2], width)
    maps = maps.astype(np.float64)
    rows = maps[:, top] * (1 - down)[:, None] + maps[:, bottom] * down[:, None]
    return rows[:, :, left] * (1 - across) + rows[:, :, right] * across


def reference(image, maps, iterations):
    """The enhanced photo in float64, step by step: full-size map, iterations, rounding. Alpha is copied."""
    height, width, _ = image.shape
    colours, top = colours_of(image), TOP[image.dtype.name]
    steps = stretched(maps, height, width).reshape(-1, colours, height, width).transpose(0, 2, 3, 1)
    x = image[..., :colours].astype(np.float64) / top
    for n in range(iterations):
        r = steps[n] if len(steps) > 1 else steps[0]
        x = x + r * (x**2 - x)
    result = image.astype(np.float64)
    result[..., :colours] = np.floor(x * top + 0.5) if top > 1 else x
    return result


@dataclass
class Case:
    image: np.ndarray
    maps: np.ndarray
    iterations: int

    def __str__(self):
        h, w, c = self.image.shape
        return f"{self.image.dtype} {h}×{w}×{c}, maps {'×'.join(map(str, self.maps.shape))}, {self.iterations} steps"


def cases(kinds=KINDS, *, small=False):
    """Every dtype, channel count, number of iterations, kind of map; sizes and grids cycle through."""
    rng = np.random.default_rng(20)
    sizes = SMALL_SIZES if small else SIZES
    turn = 0
    made = []
    for dtype in TOP:
        for iterations, own, four in kinds[dtype]:
            for _ in range(2 if small else 7):
                size, grid = sizes[turn % len(sizes)], GRIDS[turn // 2 % len(GRIDS)]
                channels = 4 if four else (3, 1, 2)[turn // 3 % 3]
                turn += 1
                image = photo(rng, dtype, *size, channels)
                # Clipped as after a strength of 2 in a third of the cases: many values are exactly −1 or 1.
                maps = rng.uniform(-1, 1, (own * colours_of(image), *grid)) * (2 if turn % 3 == 0 else 1)
                made.append(Case(image, maps.clip(-1, 1).astype(np.float32), iterations))
    return made


def every_level(dtype, iterations):
    """All values a sample can have (256 of them for 16 bits and floats), under maps from −1 to 1."""
    levels = np.arange(256, dtype=dtype) * (257 if dtype == "uint16" else 1)
    image = levels / np.float32(255) if dtype == "float32" else levels
    image = np.repeat(np.tile(image.astype(dtype), (9, 1))[..., None], 3, axis=2)
    maps = np.linspace(-1, 1, 9, dtype=np.float32)[None, :, None].repeat(3, axis=0)
    return Case(np.ascontiguousarray(image), maps, iterations)


def numba_form(case):
    return curve.apply_curve_map(case.image, case.maps, case.iterations)


def torch_form(case):
    image = torch.from_numpy(case.image)
    out = torch.empty_like(image)
    plain_torch.apply_curve_map(image, torch.from_numpy(case.maps), case.iterations, out)
    return out.numpy()


LEVELS = [every_level(dtype, iterations) for dtype in TOP for iterations in ITERATIONS[dtype]]
COPIES = [((1, 1), (1, 1)), ((13, 17), (13, 17)), ((13, 17), (5, 3)), ((25, 29), (3, 3)), ((1, 500), (1, 42))]
LARGE_COPIES = [((97, 101), (9, 9)), ((500, 1), (7, 1)), ((50, 60), (5, 6)), ((90, 40), (1, 1)), ((60, 1003), (3, 67))]


def copies(*, small=False):
    """Photos of every kind, and the size of the copy."""
    rng = np.random.default_rng(21)
    turns = [(dtype, *sizes) for dtype in TOP for sizes in COPIES + (LARGE_COPIES if not small else [])]
    return [
        (photo(rng, dtype, *full, channels), size)
        for turn, (dtype, full, size) in enumerate(turns)
        for channels in ((1, 2, 3, 4) if not small else (turn % 4 + 1,))
    ]


# Triton decides between compiling and interpreting when it is imported, hence another process. Interpreting takes 10 ms
# for a row of a photo: the cases are few and small.
TRITON = """
import pickle, sys
import torch
from kdlib.enhance.kernels import triton as triton_kernels

work = pickle.load(sys.stdin.buffer)
done = {"curve": [], "copy": []}
for k, (image, maps, iterations) in enumerate(work["curve"]):
    image = torch.from_numpy(image)
    out = image if k % 2 else torch.empty_like(image)  # every other one in place
    triton_kernels.apply_curve_map(image, torch.from_numpy(maps), iterations, out)
    done["curve"].append(out.numpy())
for image, size in work["copy"]:
    done["copy"].append(triton_kernels.small_copy(torch.from_numpy(image), size).numpy())
sys.stdout.buffer.write(pickle.dumps(done))
"""


@pytest.fixture(scope="module")
def triton_results():
    pytest.importorskip("triton")
    work = {"curve": [(c.image, c.maps, c.iterations) for c in cases(small=True) + LEVELS], "copy": copies(small=True)}
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        input=pickle.dumps(work),
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return pickle.loads(done.stdout)


def assert_close_to_float64(pairs):
    """At most one level from float64, and equal to it at 99.9 % of all samples; floats within rounding, in [0, 1]."""
    samples, unequal = {"uint8": 0, "uint16": 0}, {"uint8": 0, "uint16": 0}
    for case, result in pairs:
        assert result.shape == case.image.shape, case
        assert result.dtype == case.image.dtype, case
        expected = reference(case.image, case.maps, case.iterations)
        colours, dtype = colours_of(case.image), case.image.dtype.name
        assert np.array_equal(result[..., colours:], case.image[..., colours:]), f"alpha of {case}"
        error = np.abs(result[..., :colours] - expected[..., :colours])
        if dtype == "float32":
            # A rounding error doubles with each iteration where the curve is steepest.
            assert error.max() <= (1e-5 if case.iterations <= 8 else 1e-4), case
            assert result.min() >= 0, case
            assert result.max() <= 1, case
        else:
            assert error.max() <= 1, case
            samples[dtype] += error.size
            unequal[dtype] += int((error > 0).sum())
    for dtype, count in samples.items():
        assert count > 2000
        assert unequal[dtype] <= count / 1000, f"{unequal[dtype]} of {count} samples of {dtype}"


def test_cases_cover_what_they_should():
    made = cases()
    for dtype in TOP:
        own = [case for case in made if case.image.dtype == dtype]
        assert {case.image.shape[:2] for case in own} == set(SIZES)
        assert {case.maps.shape[1:] for case in own} == set(GRIDS)
        assert {case.image.shape[2] for case in own} == {1, 2, 3, 4}
        assert {case.iterations for case in own} == {*ITERATIONS[dtype]}
        assert len({len(case.maps) // colours_of(case.image) for case in own}) > 1
    assert any((np.abs(case.maps) == 1).mean() > 0.4 for case in made)


def test_reference_stretches_maps_as_torch_does():
    maps = np.random.default_rng(0).uniform(-1, 1, (3, 9, 11))
    for size in SIZES:
        theirs = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=True)[0].numpy()
        assert np.allclose(stretched(maps, *size), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", [numba_form, torch_form])
def test_fused_pass_is_exact(form):
    assert_close_to_float64((case, form(case)) for case in cases())


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("form", [numba_form, torch_form])
def test_fused_pass_is_exact_in_every_combination(form):
    assert_close_to_float64((case, form(case)) for case in cases(dict.fromkeys(TOP, EVERY_KIND)))


@pytest.mark.parametrize("form", [numba_form, torch_form])
def test_every_level_is_exact_under_every_strength_of_curve(form):
    assert_close_to_float64((case, form(case)) for case in LEVELS)


@pytest.mark.slow
def test_triton_kernel_is_exact(triton_results):
    assert_close_to_float64(zip(cases(small=True) + LEVELS, triton_results["curve"], strict=True))


@pytest.mark.parametrize("form", [numba_form, torch_form])
@pytest.mark.parametrize("dtype", TOP)
def test_black_and_white_stay_and_none_leaves_the_range(form, dtype):
    # Sixteen iterations double a rounding error 65,536 times: a white that overflowed would come back black.
    image = np.zeros((4, 6, 3), dtype)
    image[:, 3:] = TOP[dtype]
    for r in (-1, 1):
        result = form(Case(image, np.full((3, 2, 2), r, np.float32), 16))
        assert np.array_equal(result, image)


@pytest.mark.parametrize("form", [numba_form, torch_form])
@pytest.mark.parametrize(("size", "grid"), [((7, 1), (3, 5)), ((1, 7), (5, 3)), ((1, 1), (4, 6)), ((2, 3), (40, 50))])
def test_map_may_be_larger_than_the_photo(form, size, grid):
    rng = np.random.default_rng(3)
    case = Case(photo(rng, "uint8", *size, 3), rng.uniform(-1, 1, (3, *grid)).astype(np.float32), 8)
    result = form(case)
    assert np.abs(result - reference(case.image, case.maps, 8)).max() <= 1


def test_wide_photo_keeps_its_map_in_place():
    # In float32 the position of column 65,000 would be off by a few thousandths of a map column.
    image = np.tile(np.arange(256, dtype=np.uint16)[None, :, None] * 257, (1, 256, 1))
    maps = np.random.default_rng(4).uniform(-1, 1, (1, 1, 1024)).astype(np.float32)
    for form in (numba_form, torch_form):
        result = form(Case(image, maps, 8))
        assert (result == reference(image, maps, 8)).mean() >= 0.999


@pytest.mark.parametrize("form", [numba_form, torch_form])
def test_fused_pass_leaves_its_inputs_alone(form):
    for case in cases()[::5]:
        image, maps = case.image.copy(), case.maps.copy()
        form(case)
        assert np.array_equal(case.image, image)
        assert np.array_equal(case.maps, maps)


@pytest.mark.parametrize("form", CPU_FORMS)
@pytest.mark.parametrize("dtype", TOP)
def test_strength_multiplies_the_map(form, dtype, monkeypatch):
    rng = np.random.default_rng(5)
    maps = rng.uniform(-1, 1, (9, 11, 3)).astype(np.float32)
    pairs = []
    for strength in (0.25, 1, 1.5, 2):
        enhancer = on_cpu(form, monkeypatch, strength=strength)
        strong = (maps * np.float32(strength)).clip(-1, 1).transpose(2, 0, 1)
        for channels in (1, 2, 3, 4):
            image = photo(rng, dtype, 41, 53, channels)
            # Grey takes the mean of the three maps.
            own = strong if channels >= 3 else (maps.mean(2) * np.float32(strength)).clip(-1, 1)[None]
            pairs.append((Case(image, own, 8), enhancer.apply(image, maps)))
    for case, result in pairs:
        colours = colours_of(case.image)
        error = np.abs(result - reference(case.image, case.maps, 8))[..., :colours]
        assert error.max() <= (1e-5 if dtype == "float32" else 1)
        assert (error > 1e-5).mean() <= 0.001
        assert np.array_equal(result[..., colours:], case.image[..., colours:])


@pytest.mark.parametrize("form", CPU_FORMS)
def test_enhancing_is_the_reference_with_the_estimated_map(form, monkeypatch):
    enhancer = on_cpu(form, monkeypatch)
    image = photo(np.random.default_rng(6), "uint8", 97, 101, 3) // 4
    expected = reference(image, np.moveaxis(enhancer.estimate(image), -1, 0), 8)
    error = np.abs(enhancer(image) - expected)
    assert error.max() <= 1
    assert (error > 0).mean() <= 0.001


def on_cpu(form, monkeypatch, **arguments):
    """An Enhancer on the CPU, with numba or as where numba is not installed."""
    if form == "torch":
        monkeypatch.setitem(sys.modules, "numba", None)
    enhancer = Enhancer("student-565", device="cpu", threads=1, **arguments)
    assert enhancer.backend == form
    return enhancer


@pytest.mark.parametrize("form", ALL_FORMS)
def test_small_copy_is_adaptive_average_pooling(form, request):
    made = copies(small=form == "triton")
    assert {image.shape[2] for image, _ in made} == {1, 2, 3, 4}
    if form == "triton":
        results = request.getfixturevalue("triton_results")["copy"]
    elif form == "torch":
        results = [plain_torch.small_copy(torch.from_numpy(image), size).numpy() for image, size in made]
    else:
        results = [network.small_copy(image, size) for image, size in made]
    for (image, size), result in zip(made, results, strict=True):
        values = torch.from_numpy(image[..., : colours_of(image)].astype(np.float64) / TOP[image.dtype.name])
        expected = F.adaptive_avg_pool2d(values.permute(2, 0, 1), size).expand(3, *size).numpy()
        assert result.dtype == np.float32
        assert result.shape == (3, *size)
        assert np.allclose(result, expected, rtol=0, atol=1e-6), (image.dtype, image.shape, size)


@pytest.mark.parametrize("form", CPU_FORMS)
@pytest.mark.parametrize("dtype", TOP)
def test_average_of_many_pixels_is_not_lost_in_rounding(form, dtype):
    # One window of a million pixels: a running sum in float32 would stop growing, or grow in steps.
    image = np.full((1000, 1000, 1), TOP[dtype] / 17, dtype)
    copy = network.small_copy(image, (1, 1)) if form == "numba" else plain_torch.small_copy(torch.tensor(image), (1, 1))
    assert float(copy[0, 0, 0]) == pytest.approx(1 / 17, rel=1e-4)


NETWORKS = [
    ("student-565", {}),
    ("nano-161", {}),
    ("zero-dce++", {}),
    ("student-565", {"curve_activation": "sigmoid"}),
    ("student-565", {"shared_map": False}),
    ("student-565", {"skips": False}),
    ("student-565", {"depth": 3}),
    ("zero-dce++", {"depth": 5, "width": 1, "shared_map": False, "iterations": 2}),
    ("nano-161", {"depth": 2, "width": 7}),
]


@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_compiled_network_agrees_with_torch(name, changes):
    torch.manual_seed(7)
    model = create_model(name, **changes).eval()
    compiled = network.SeparableNetwork({k: v.numpy(force=True) for k, v in model.state_dict().items()}, model.config)
    assert (compiled.iterations, compiled.scale_factor) == (model.iterations, model.scale_factor)
    spread = 0.0
    for height, width in [(1, 1), (1, 20), (20, 1), (2, 2), (3, 5), (33, 57), (90, 160)]:
        small = torch.rand(1, 3, height, width)
        with torch.no_grad():
            theirs = model.estimate_curve(small)[0].numpy()
        for threads in (1, 3):
            ours = compiled(small[0].numpy(), threads)
            assert ours.dtype == np.float32
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= 1e-6
        spread = max(spread, float(np.ptp(theirs)))
    assert spread > 0.05  # it was no comparison of zeros


def test_compiled_network_refuses_tensors_that_do_not_fit():
    # Compiled code does not look where an array ends.
    model = create_model("student-565")
    state = {k: v.numpy(force=True) for k, v in model.state_dict().items()}
    key = "e_conv3.point_conv.weight"
    with pytest.raises(ValueError, match=f"{key} is missing"):
        network.SeparableNetwork({k: v for k, v in state.items() if k != key}, model.config)
    with pytest.raises(ValueError, match=f"{key} has shape 4×3×1×1 instead of 4×4×1×1"):
        network.SeparableNetwork({**state, key: state[key][:, :3]}, model.config)
