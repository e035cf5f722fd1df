"""What an Enhancer takes and gives back: kinds of photo, strength, maps, models, errors."""

import io
import json
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import kdlib
from kdlib import Enhancer
from kdlib.enhance.kernels.compiled import Compiled
from kdlib.models import create_model
from kdlib.noise import TOP
from kdlib.weights import load_model, save_model


def dark(dtype="uint8", *shape):
    """A noisy photo, its colours in the darkest third, its alpha anywhere."""
    shape = shape or (37, 50, 3)
    values = np.random.default_rng(math.prod(shape)).random(shape)
    colours = len(shape) > 2 and shape[-1] in {2, 4} and shape[-1] - 1
    values[..., slice(colours) if colours else slice(None)] /= 3
    return (values.astype(np.float32) * TOP[dtype]).astype(dtype)


@pytest.fixture
def enhancer(backend):
    enhancer = Enhancer("student-565", device="cpu", threads=1)
    assert enhancer.backend == backend
    return enhancer


@pytest.fixture
def weak(backend):
    # Without a model's own wish to brighten: strength and maps decide alone.
    return Enhancer(create_model("student-565"), device="cpu", threads=1)


def same(result, expected):
    """The same photo, bit for bit, of the same type, dtype and shape."""
    assert type(result) is type(expected)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if isinstance(result, torch.Tensor):
        result, expected = result.numpy(), expected.numpy()
    return result.tobytes() == expected.tobytes()


# Arrays and tensors


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_photo_comes_back_as_what_it_was_but_brighter(channels, dtype, enhancer):
    image = dark(dtype, 37, 50, *channels)
    before = image.copy()
    result = enhancer(image)
    assert same(image, before)
    assert type(result) is np.ndarray
    assert result.dtype == image.dtype
    assert result.shape == image.shape
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, image)
    colours = channels[0] - 1 if channels in {(2,), (4,)} else 3
    seen = (slice(None), slice(None), slice(colours))[: image.ndim]
    assert result[seen].mean() > 1.5 * image[seen].mean()
    if channels in {(2,), (4,)}:
        assert result[..., -1].tobytes() == image[..., -1].tobytes()


@pytest.mark.parametrize("dtype", TOP)
def test_alpha_and_the_form_of_grey_change_nothing(dtype, enhancer):
    colour = dark(dtype, 23, 31, 4)
    opaque = enhancer(np.ascontiguousarray(colour[..., :3]))
    assert np.allclose(enhancer(colour)[..., :3], opaque, rtol=0, atol=1e-6)
    grey = dark(dtype, 23, 31, 2)
    alone = np.ascontiguousarray(grey[..., 0])
    assert np.allclose(enhancer(grey)[..., 0], enhancer(alone), rtol=0, atol=1e-6)
    assert same(enhancer(alone[..., None])[..., 0], enhancer(alone))


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_batch_is_one_photo_after_the_other(channels, dtype, enhancer):
    batch = dark(dtype, 3, 19, 26, channels) * np.linspace(0.2, 1, 3)[:, None, None, None]
    batch = batch.astype(dtype)
    result = enhancer(batch)
    assert same(result, np.stack([enhancer(photo) for photo in batch]))
    out = np.empty_like(batch)
    assert enhancer(batch, out=out) is out
    assert same(out, result)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (11, 12), (12, 12), (13, 25)])
@pytest.mark.parametrize("dtype", TOP)
def test_smallest_and_odd_sizes(size, dtype, enhancer):
    image = dark(dtype, *size, 3)
    result = enhancer(image)
    assert result.shape == image.shape
    assert result.astype(float).mean() > image.astype(float).mean()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(23, 31), (23, 31, 1), (23, 31, 2), (23, 31, 3), (23, 31, 4), (2, 23, 31, 3)])
def test_tensor_gives_the_tensor_of_the_same_values(shape, dtype, enhancer):
    image = dark(dtype, *shape)
    tensor = torch.from_numpy(image.copy())
    result = enhancer(tensor)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == tensor.dtype
    assert same(result.numpy(), enhancer(image))
    assert same(tensor.numpy(), image)
    out = torch.empty_like(tensor)
    assert enhancer(tensor, out=out) is out
    assert torch.equal(out, result)
    assert enhancer(tensor, out=tensor) is tensor
    assert torch.equal(tensor, result)


@pytest.mark.parametrize("view", ["transpose", "step", "narrow", "expand"])
def test_strided_tensors(view, enhancer):
    tensor = torch.from_numpy(dark("uint8", 40, 30, 3))
    image = {
        "transpose": lambda: tensor.transpose(0, 1),
        "step": lambda: tensor[::2, 1::3],
        "narrow": lambda: tensor[5:20, 3:9, :2],
        "expand": lambda: tensor[:, :, :1].expand(-1, -1, 3),
    }[view]()
    assert not image.is_contiguous()
    assert torch.equal(enhancer(image), enhancer(image.contiguous()))


def test_tensor_that_needs_a_gradient_is_enhanced_without_one(enhancer):
    tensor = torch.from_numpy(dark("float32"))
    expected = enhancer(tensor)
    for image in (tensor.clone(), tensor.transpose(0, 1).contiguous().transpose(0, 1)):
        result = enhancer(image.requires_grad_(True))
        assert not result.requires_grad
        assert torch.equal(result, expected)


VIEWS = {
    "upside down": lambda a: a[::-1],
    "mirrored": lambda a: a[:, ::-1],
    "transposed": lambda a: a.swapaxes(0, 1),
    "every other": lambda a: a[::2, 1::3],
    "cut out": lambda a: a[3:20, 5:33],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big-endian, transposed": lambda a: a.astype(a.dtype.newbyteorder(">")).swapaxes(0, 1),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": lambda a: unaligned(a),
    "read-only": lambda a: read_only(a),
    "memory map": lambda a: a.view(np.memmap),
}


def unaligned(a):
    moved = np.frombuffer(bytearray(a.nbytes + 1), a.dtype, a.size, offset=1).reshape(a.shape)
    moved[...] = a
    return moved


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(37, 50), (37, 50, 3), (30, 50, 40, 3)])
def test_memory_layout_does_not_matter(shape, view, dtype, enhancer):
    image = VIEWS[view](dark(dtype, *shape))
    if len(shape) == 4:
        image = image[:2]
    plain = np.array(image, dtype=dtype, order="C")
    expected = enhancer(plain)
    result = enhancer(image)
    assert result.dtype == image.dtype
    assert same(np.array(result, dtype=dtype, order="C"), expected)
    out = np.empty(image.shape, image.dtype)
    assert enhancer(image, out=out) is out
    assert same(out.astype(dtype), expected)
    assert same(np.array(image, dtype=dtype, order="C"), plain), "the photo was written to"
    if len(shape) < 4:
        assert same(enhancer.estimate(image), enhancer.estimate(plain))


def test_a_read_only_photo_needs_no_code_of_its_own(monkeypatch):
    enhancer, photo = Enhancer("student-565", device="cpu", threads=1), dark("uint8", 37, 50, 3)
    expected = enhancer(photo)
    monkeypatch.setattr(Compiled, "_prepared", None)
    assert same(enhancer(read_only(photo)), expected)
    assert same(np.asarray(enhancer(Image.fromarray(photo))), expected)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_single_row_or_column_upside_down(size, enhancer):
    # NumPy calls these contiguous, whatever their strides.
    image = dark("uint8", *size, 3)
    assert same(enhancer(image[::-1, ::-1]), enhancer(image[::-1, ::-1].copy()))


def test_nothing_is_warned_of(enhancer):
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enhancer(read_only(dark()))
            enhancer(pillow("RGB"))
            enhancer(torch.from_numpy(dark("float32")).requires_grad_(True))
            enhancer.apply(dark(), read_only(enhancer.estimate(dark())))
    finally:
        torch.set_warn_always(False)


# out


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("shape", [(37, 50), (37, 50, 2), (37, 50, 3), (37, 50, 4), (2, 37, 50, 3)])
def test_out_is_filled_and_returned_and_may_be_the_photo(shape, dtype, enhancer):
    image = dark(dtype, *shape)
    expected = enhancer(image)
    out = np.full_like(image, TOP[dtype])
    assert enhancer(image, out=out) is out
    assert same(out, expected)
    assert enhancer(image, out=image) is image
    assert same(image, expected)


def test_out_may_be_a_view_of_the_photo_s_memory(enhancer):
    square = dark("uint8", 40, 40, 3)
    for view in (lambda a: a[::-1], lambda a: a.swapaxes(0, 1), lambda a: a[:, ::-1]):
        image = square.copy()
        expected = enhancer(view(image).copy())
        enhancer(view(image), out=image)
        assert same(image, expected)


@pytest.mark.parametrize("shift", [1, -1, 3])
def test_out_that_overlaps_the_photo_is_right_or_refused(shift, enhancer):
    rows = dark("uint8", 43, 50, 3)
    image, out = (rows[:-shift], rows[shift:]) if shift > 0 else (rows[-shift:], rows[:shift])
    expected = enhancer(image.copy())
    try:
        enhancer(image, out=out)
    except ValueError as error:
        assert "overlap" in str(error)  # noqa: PT017 - right without an error as well
    else:
        assert same(np.array(out), expected)


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        (lambda a: np.empty((50, 37, 3), np.uint8), ValueError, "out is 50×37×3 uint8, but the photo is 37×50×3 uint8"),
        (lambda a: np.empty((37, 50), np.uint8), ValueError, "out is 37×50 uint8"),
        (lambda a: np.empty(a.shape, np.uint16), ValueError, "out is 37×50×3 uint16, but the photo is 37×50×3 uint8"),
        (lambda a: np.empty((37, 100, 3), np.uint8)[:, ::2], ValueError, "strided"),
        (lambda a: np.empty((37, 50, 3), np.uint8, order="F"), ValueError, "strided"),
        (read_only, ValueError, "read-only"),
        (lambda a: torch.from_numpy(a), TypeError, "out is Tensor, but the photo is ndarray"),
        (lambda a: Image.fromarray(a), TypeError, "out is Image"),
        (lambda a: a.tolist(), TypeError, "out is list"),
    ],
)
def test_wrong_out_is_refused(out, error, says, enhancer):
    image = dark()
    wrong = out(image)
    before = image.copy()
    with pytest.raises(error, match=says):
        enhancer(image, out=wrong)
    with pytest.raises(error, match=says):
        enhancer.apply(image, np.zeros((2, 2, 3), np.float32), out=wrong)
    assert same(image, before)


def test_wrong_byte_order_of_out_is_named(enhancer):
    image = dark("uint16")
    with pytest.raises(ValueError, match=r"byte order|endian|>u2"):
        enhancer(image, out=np.empty(image.shape, ">u2"))


def test_out_of_a_subclass_will_do(enhancer):
    # A memory map is how a photo that is larger than memory is read and written.
    image = dark()
    out = np.empty_like(image)
    assert enhancer(image.view(np.memmap), out=out) is out
    assert same(out, enhancer(image))
    mapped = np.empty_like(image).view(np.memmap)
    assert enhancer(image, out=mapped) is mapped
    assert same(np.array(mapped), out)


# Pillow


def pillow(mode):
    if mode == "1":
        return Image.fromarray(dark("uint8", 37, 50)).point(lambda v: 255 * (v > 60)).convert("1")
    if mode == "F":
        return Image.fromarray(dark("float32", 37, 50))
    if mode.startswith("I;16"):
        order = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, (50, 37), dark("uint16", 37, 50).astype(order).tobytes())
    colour = Image.fromarray(dark("uint8", 37, 50, 4))
    if mode in {"RGBA", "RGBa"}:
        return colour.convert(mode)
    if mode in {"LA", "La"}:
        return Image.fromarray(dark("uint8", 37, 50, 2)).convert(mode)
    return colour.convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
def test_pillow_image_gives_what_its_array_gives(mode, enhancer):
    image = pillow(mode)
    assert image.mode == mode
    image.info = {"dpi": (300, 300), "exif": b"Exif", "icc_profile": b"icc"}
    before = np.array(image)
    result = enhancer(image)
    assert isinstance(result, Image.Image)
    assert (result.mode, result.size, result.info) == (mode, image.size, image.info)
    assert same(np.array(result), enhancer(before))
    assert same(np.array(image), before)
    assert same(enhancer.estimate(image), enhancer.estimate(before))


@pytest.mark.parametrize("mode", ["I;16B", "I;16L"])
def test_sixteen_bits_in_any_byte_order(mode, enhancer):
    # Big-endian TIFF files open in mode I;16B.
    image = pillow(mode)
    result = enhancer(image)
    assert (result.mode, result.size) == (mode, image.size)
    assert same(np.asarray(result).astype(np.uint16), enhancer(dark("uint16", 37, 50)))


@pytest.mark.parametrize(("mode", "via"), [("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("RGBX", "RGB")])
def test_other_colour_spaces_go_there_and_back(mode, via, enhancer):
    image = pillow(mode)
    image.info["dpi"] = (72, 72)
    result = enhancer(image)
    assert (result.mode, result.size, result.info) == (mode, image.size, image.info)
    expected = Image.fromarray(enhancer(np.array(image.convert(via)))).convert(mode)
    assert result.tobytes() == expected.tobytes()
    assert np.asarray(result.convert("RGB")).mean() > 1.5 * np.asarray(image.convert("RGB")).mean()


@pytest.mark.parametrize(("mode", "plain"), [("RGBa", "RGBA"), ("La", "LA")])
def test_premultiplied_alpha_is_untouched(mode, plain, enhancer):
    image = pillow(mode)
    result = enhancer(image)
    assert (result.mode, result.size) == (mode, image.size)
    assert result.tobytes()[len(mode) - 1 :: len(mode)] == image.tobytes()[len(mode) - 1 :: len(mode)]
    assert np.asarray(result.convert(plain))[..., 0].mean() > np.asarray(image.convert(plain))[..., 0].mean()


def test_black_and_white_has_nothing_to_brighten(enhancer):
    image = pillow("1")
    result = enhancer(image)
    assert result.mode == "1"
    assert result.tobytes() == image.tobytes()


def rgba(image):
    return np.asarray(image.convert("RGBA")).astype(int)


def palette_image(transparency):
    """Mode P as each way of transparency leaves it: none, one colour, all colours' alphas, or an RGBA palette."""
    y, x = np.mgrid[0:60, 0:80]
    colours = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8) // 8 * 8
    if transparency == "palette":
        alpha = ((x // 20 + y // 20) % 2 * 255).astype(np.uint8)
        return Image.fromarray(np.dstack([colours, alpha])).quantize(200, method=Image.Quantize.FASTOCTREE)
    image = Image.fromarray(colours).quantize(100)
    assert np.asarray(image).max() > 5
    if transparency:
        image.info["transparency"] = {"colour": 5, "alphas": bytes([0, 255] * 50)}[transparency]
    return image


@pytest.mark.parametrize("transparency", [None, "colour", "alphas", "palette"])
def test_palette_image_gets_a_palette_that_suits_it(transparency, enhancer):
    image = palette_image(transparency)
    image.info["dpi"] = (300, 300)
    result = enhancer(image)
    assert (result.mode, result.size) == ("P", image.size)
    assert result.info["dpi"] == (300, 300)
    before, after = rgba(image), rgba(result)
    assert np.array_equal(after[..., 3], before[..., 3])
    assert (len(np.unique(before[..., 3])) == 2) == bool(transparency)
    expected = enhancer(before.astype(np.uint8))
    opaque = before[..., 3] > 0
    assert np.abs(after - expected)[..., :3][opaque].mean() < 6


@pytest.mark.parametrize("transparency", [None, "colour", "alphas", "palette"])
def test_enhanced_palette_image_can_be_saved_and_enhanced_again(transparency, enhancer):
    image = palette_image(transparency)
    alpha = rgba(image)[..., 3]
    once = enhancer(image)
    file = io.BytesIO()
    once.save(file, "PNG")
    assert np.array_equal(rgba(Image.open(file))[..., 3], alpha)
    twice = enhancer(once)
    assert twice.mode == "P"
    assert np.array_equal(rgba(twice)[..., 3], alpha)


def test_palette_with_an_alpha_channel_keeps_it(enhancer):
    image = palette_image(None).convert("PA")
    alpha = Image.fromarray(dark("uint8", 60, 80) * 3)
    image.putalpha(alpha)
    assert image.mode == "PA"
    result = enhancer(image)
    assert (result.mode, result.size) == ("PA", image.size)
    assert np.array_equal(rgba(result)[..., 3], np.asarray(alpha))
    assert rgba(result)[..., :3].mean() > rgba(image)[..., :3].mean()


@pytest.mark.parametrize(("mode", "key"), [("RGB", (8, 8, 8)), ("L", 8)])
def test_transparent_colour_stays_transparent_and_no_other_becomes_so(mode, key, enhancer):
    # PNG marks one colour of an image without alpha as transparent.
    steps = np.indices((60, 80)).sum(axis=0) % 256 // 8 * 8
    image = Image.fromarray(steps.astype(np.uint8)).convert(mode)
    image.info["transparency"] = key
    result = enhancer(image)
    assert (result.mode, result.info) == (mode, image.info)
    assert 0 < (rgba(image)[..., 3] == 0).mean() < 0.5
    assert np.array_equal(rgba(result)[..., 3], rgba(image)[..., 3])


@pytest.mark.parametrize("mode", ["I", "LAB"])
def test_modes_without_a_meaning_are_refused(mode):
    enhancer = Enhancer("student-565", device="cpu")
    with pytest.raises(ValueError, match=f"mode '{mode}' cannot be enhanced; convert the image to one of 1, CMYK"):
        enhancer(Image.new(mode, (5, 4)))


def test_pillow_image_has_no_out(enhancer):
    image = pillow("RGB")
    with pytest.raises(ValueError, match="out works with arrays"):
        enhancer(image, out=image)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_empty_pillow_image_is_refused(size, enhancer):
    with pytest.raises(ValueError, match="all sides ≥ 1"):
        enhancer(Image.new("RGB", size))


# Strength


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.usefixtures("backend")
def test_strength_0_is_the_identity_bit_for_bit(channels, dtype):
    off = Enhancer("student-565", strength=0, device="cpu")
    image = dark(dtype, 17, 23, channels)
    if dtype == "float32":
        image[::2] = -0.0
    result = off(image)
    assert same(result, image)
    assert not np.shares_memory(result, image)
    out = np.ones_like(image)
    assert off(image, out=out) is out
    assert same(out, image)
    assert same(off(image[::-1]), image[::-1].copy())
    assert same(off(torch.from_numpy(image)), torch.from_numpy(image))
    assert same(off.apply(image, np.ones((1, 1, 3), np.float32)), image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "RGBa", "I;16", "I;16B", "F", "1", "CMYK", "YCbCr", "HSV"])
def test_strength_0_is_the_identity_for_pillow_images(mode):
    image = pillow(mode)
    image.info["dpi"] = (300, 300)
    result = Enhancer("student-565", strength=0)(image)
    assert result is not image
    assert (result.mode, result.info) == (mode, image.info)
    assert result.tobytes() == image.tobytes()


@pytest.mark.parametrize("transparency", [None, "colour", "alphas", "palette"])
def test_strength_0_keeps_the_palette(transparency):
    image = palette_image(transparency)
    result = Enhancer("student-565", strength=0)(image)
    assert (result.info, result.getpalette()) == (image.info, image.getpalette())
    assert np.array_equal(rgba(result), rgba(image))


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.usefixtures("backend")
def test_more_strength_is_brighter_everywhere(dtype):
    image = dark(dtype, 47, 61, 3)
    last = image.astype(float)
    for strength in (0, 0.25, 0.5, 1, 1.5, 2):
        result = Enhancer("student-565", strength=strength, device="cpu")(image).astype(float)
        assert (result >= last).all()
        assert strength == 0 or result.mean() > last.mean()
        last = result


@pytest.mark.usefixtures("backend")
def test_strength_1_is_what_the_network_proposes():
    image = dark()
    assert same(Enhancer("student-565", strength=1, device="cpu")(image), Enhancer("student-565", device="cpu")(image))
    assert same(
        Enhancer("student-565", strength=1.0, device="cpu").estimate(image),
        Enhancer("student-565", strength=0.3, device="cpu").estimate(image),
    )


@pytest.mark.parametrize("name", ["strength", "denoise"])
@pytest.mark.parametrize("value", [-0.01, 2.01, math.nan, math.inf, -math.inf])
def test_strength_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 2, not {value}"):
        Enhancer("student-565", **{name: value})


@pytest.mark.parametrize("name", ["max_network_side", "threads"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_1_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number of at least 1, not {value}"):
        Enhancer("student-565", **{name: value})


# What is no photo


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (None, TypeError, "not NoneType"),
        ("photo.jpg", TypeError, "not str"),
        (b"bytes", TypeError, "not bytes"),
        ([[1, 2], [3, 4]], TypeError, "not list"),
        (np.uint8(3), TypeError, "not uint8"),
        (
            dark("float32").astype(np.float64),
            TypeError,
            r"not float64; convert it, for example with \.astype\('float32",
        ),
        (dark("float32").astype(np.float16), TypeError, "not float16"),
        (dark().astype(np.int32), TypeError, "not int32"),
        (dark().astype(np.int64), TypeError, "not int64"),
        (dark().astype(np.int8), TypeError, "not int8"),
        (dark() > 30, TypeError, "not bool"),
        (dark("float32").astype(np.complex64), TypeError, "not complex64"),
        (np.array([["a"]]), TypeError, "not str"),
        (np.array([[None]]), TypeError, "not object"),
        (torch.zeros(4, 4, 3, dtype=torch.float64), TypeError, "not float64"),
        (torch.zeros(4, 4, 3, dtype=torch.float16), TypeError, "not float16"),
        (torch.zeros(4, 4, 3, dtype=torch.int64), TypeError, "not int64"),
        (torch.zeros(4, 4, 3, dtype=torch.bool), TypeError, "not bool"),
        (np.array(3, np.uint8), ValueError, r"shape H×W, H×W×C .* not \(\)"),
        (dark()[0, 0], ValueError, "not 3$"),
        (dark()[None, None], ValueError, "not 1×1×37×50×3"),
        (dark()[:0], ValueError, "all sides ≥ 1, not 0×50×3"),
        (dark()[:, :0], ValueError, "not 37×0×3"),
        (dark()[:, :, :0], ValueError, "not 37×50×0"),
        (dark()[None][:0], ValueError, "not 0×37×50×3"),
        (torch.zeros(0, 4, 3), ValueError, "not 0×4×3"),
        (
            dark("uint8", 3, 37, 50),
            ValueError,
            r"shape is 3×37×50; channels must come last: convert .*transpose\(1, 2, 0",
        ),
        (dark("uint8", 2, 3, 37, 50), ValueError, r"shape is 2×3×37×50; channels must come last"),
        (torch.zeros(3, 37, 50), ValueError, "channels must come last"),
        (dark("uint8", 37, 50, 5), ValueError, "1 to 4 channels in its last dimension, but the shape is 37×50×5$"),
        (dark("uint8", 2, 37, 50, 5), ValueError, "1 to 4 channels"),
    ],
)
def test_what_is_no_photo_is_refused(image, error, says):
    enhancer = Enhancer("student-565", device="cpu")
    for call in (enhancer, enhancer.estimate, lambda image: enhancer.apply(image, np.zeros((2, 2, 3), np.float32))):
        with pytest.raises(error, match=says):
            call(image)


@pytest.mark.parametrize("kind", ["array", "tensor", "batch", "Pillow", "strided"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "NaN or infinite"),
        (math.inf, "NaN or infinite"),
        (-math.inf, "NaN or infinite"),
        (1.5, r"values in \[0, 1\], but this one has values from 0 to 1\.5"),
        (255.0, "from 0 to 255"),
        (-0.1, r"from -0\.1 to 0\.5"),
    ],
)
def test_floats_that_are_no_light_are_refused(kind, value, says):
    enhancer = Enhancer("student-565", device="cpu")
    image = np.zeros((9, 8), np.float32)
    image[0] = 0.5
    image[7, 3] = value
    image = {
        "array": lambda: image,
        "tensor": lambda: torch.from_numpy(image),
        "batch": lambda: image.reshape(1, 9, 8, 1).repeat(2, axis=0),
        "Pillow": lambda: Image.fromarray(image),
        "strided": lambda: image[:, ::-1],
    }[kind]()
    with pytest.raises(ValueError, match=says):
        enhancer(image)
    if kind != "batch":
        with pytest.raises(ValueError, match=says):
            enhancer.estimate(image)


# Maps


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_estimate_and_apply_are_a_call(channels, dtype, enhancer):
    image = dark(dtype, 61, 83, channels)
    curve_map = enhancer.estimate(image)
    assert type(curve_map) is np.ndarray
    assert curve_map.dtype == np.float32
    assert curve_map.shape == (6, 7, 3)
    assert np.abs(curve_map).max() <= 1
    assert same(enhancer.apply(image, curve_map), enhancer(image))
    assert same(enhancer.apply(torch.from_numpy(image), curve_map), torch.from_numpy(enhancer(image)))


@pytest.mark.usefixtures("backend")
def test_strength_is_applied_once_and_never_to_the_estimate():
    image = dark()
    half, whole = Enhancer("student-565", strength=0.5, device="cpu"), Enhancer("student-565", device="cpu")
    assert same(half.apply(image, whole.estimate(image)), half(image))
    assert same(whole.apply(image, whole.estimate(image) * np.float32(0.5)), half(image))


@pytest.mark.usefixtures("backend")
def test_model_with_a_map_for_each_iteration():
    torch.manual_seed(1)
    model = create_model("student-565", shared_map=False, iterations=4, scale_factor=3)
    enhancer = Enhancer(model, device="cpu")
    image = dark()
    curve_map = enhancer.estimate(image)
    assert curve_map.shape == (13, 17, 12)
    assert same(enhancer.apply(image, curve_map), enhancer(image))
    four_times = np.tile(curve_map[..., :3], 4)
    assert same(enhancer.apply(image, four_times), enhancer.apply(image, curve_map[..., :3]))
    assert not same(enhancer.apply(image, four_times), enhancer(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 4), (37, 50), (80, 200)])
def test_map_may_have_any_size_and_memory_layout(size, weak):
    image = dark()
    curve_map = np.random.default_rng(2).uniform(-1, 1, (*size, 3)).astype(np.float32)
    kept = curve_map.copy()
    expected = weak.apply(image, curve_map)
    for same_map in (
        np.asfortranarray(curve_map),
        curve_map.astype(np.float64),
        curve_map[::-1].copy()[::-1],
        read_only(curve_map),
    ):
        assert same(weak.apply(image, same_map), expected)
    assert same(curve_map, kept)
    if size == (1, 1):
        flat = np.broadcast_to(curve_map, (7, 8, 3))
        assert same(weak.apply(image, flat), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 3)])
def test_constant_map_larger_than_the_photo(size, weak):
    image = dark("uint8", *size, 3)
    small, large = np.full((1, 1, 3), -0.3, np.float32), np.full((12, 15, 3), -0.3, np.float32)
    result = weak.apply(image, large)
    assert same(result, weak.apply(image, small))
    assert result.mean() > image.mean()


def test_zero_map_changes_nothing(weak):
    for dtype in TOP:
        image = dark(dtype, 17, 19, 4)
        assert same(weak.apply(image, np.zeros((2, 3, 3), np.float32)), image)


@pytest.mark.parametrize(
    ("curve_map", "says"),
    [
        (np.zeros((3, 3), np.float32), "shape h×w×3, not 3×3"),
        (np.zeros((2, 3, 4), np.float32), "not 2×3×4"),
        (np.zeros((3, 5, 5), np.float32), "not 3×5×5"),
        (np.zeros((1, 2, 3, 3), np.float32), "not 1×2×3×3"),
        (np.zeros((0, 3, 3), np.float32), "not 0×3×3"),
        (np.full((2, 2, 3), 1.01, np.float32), r"outside \[-1, 1\]"),
        (np.full((2, 2, 3), -1.01, np.float32), r"outside \[-1, 1\]"),
        (np.full((2, 2, 3), np.nan, np.float32), r"outside \[-1, 1\]"),
        (np.full((2, 2, 3), -np.inf, np.float32), r"outside \[-1, 1\]"),
        (None, "curve map"),
        ([[[0.1, 0.1, 0.1]]], "curve map"),
        ("map", "curve map"),
    ],
)
def test_wrong_map_is_refused(curve_map, says, enhancer):
    if isinstance(curve_map, list):
        # A list of lists is refused, or understood.
        try:
            result = enhancer.apply(dark(), curve_map)
        except (TypeError, ValueError) as error:
            assert says in str(error)  # noqa: PT017
        else:
            assert same(result, enhancer.apply(dark(), np.array(curve_map, np.float32)))
        return
    with pytest.raises((TypeError, ValueError), match=says):
        enhancer.apply(dark(), curve_map)


def test_estimate_takes_no_batch(enhancer):
    with pytest.raises(ValueError, match="one photo at a time"):
        enhancer.estimate(dark("uint8", 2, 9, 9, 3))


@pytest.mark.parametrize("scale_factor", [1, 12])
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2500), (130, 97)])
@pytest.mark.usefixtures("backend")
def test_network_side_is_bounded(size, scale_factor):
    model = create_model("nano-161", scale_factor=scale_factor)
    image = dark("uint8", *size, 3)
    for side in (1, 7, 100, 1024):
        height, width, _ = Enhancer(model, max_network_side=side, device="cpu").estimate(image).shape
        shrink = max(scale_factor, max(size) / side)
        assert max(height, width) == min(side, -(-max(size) // scale_factor))
        assert min(height, width) == max(1, math.ceil(min(size) / shrink - 1e-6))


def test_extreme_proportions(enhancer):
    for size in ((1, 5000), (5000, 1)):
        image = dark("uint8", *size, 3)
        result = enhancer(image)
        assert result.mean() > image.mean()
        assert same(result, enhancer.apply(image, enhancer.estimate(image)))


# Models


def test_result_is_close_to_the_model_s_own(enhancer):
    # The small copy is averaged over areas where the model's own forward picks pixels: on a smooth photo, the same.
    y, x = np.mgrid[0:477, 0:631]
    smooth = np.stack([30 + 25 * np.sin(x / 90 + c) * np.cos(y / 70 - c) for c in range(3)], axis=-1)
    image = smooth.round().astype(np.uint8)
    model = load_model("student-565")
    with torch.no_grad():
        theirs, _ = model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    theirs = (theirs[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    ours = enhancer(image)
    error = np.mean((ours.astype(float) - theirs) ** 2)
    assert 10 * np.log10(255**2 / error) > 45
    assert ours.mean() > 3 * image.mean()


@pytest.mark.parametrize("name", ["student-565", "nano-161", "zero-dce++", "zero-dce"])
@pytest.mark.usefixtures("backend")
def test_model_file_and_state_dict_give_the_same(name, tmp_path):
    torch.manual_seed(3)
    model = create_model(name, **({"scale_factor": 4} if name == "zero-dce" else {}))
    saved = save_model(model, tmp_path / "model.safetensors")
    image = dark("uint8", 45, 60, 3)
    expected = Enhancer(model, device="cpu")(image)
    assert same(Enhancer(saved, device="cpu")(image), expected)
    assert same(Enhancer(str(saved), device="cpu")(image), expected)
    assert not same(expected, image)
    if name != "zero-dce":  # whose scale factor a state dict does not tell
        torch.save(model.state_dict(), tmp_path / "model.pth")
        assert same(Enhancer(tmp_path / "model.pth", device="cpu")(image), expected)


@pytest.mark.parametrize("name", ["zero-dce", "zero-dce++"])
def test_plain_convolutions_run_through_torch(name, backend):
    torch.manual_seed(4)
    model = create_model(name, separable=False, scale_factor=2)
    enhancer = Enhancer(model, device="cpu")
    assert enhancer.backend == backend
    image = dark("uint8", 24, 36, 3)
    small = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        theirs = model.estimate_curve(torch.nn.functional.adaptive_avg_pool2d(small, (12, 18)))[0]
    assert np.allclose(np.moveaxis(enhancer.estimate(image), -1, 0), theirs.numpy(), rtol=0, atol=1e-6)
    assert same(enhancer.apply(image, enhancer.estimate(image)), enhancer(image))


@pytest.mark.parametrize("name", ["student-565", "zero-dce"])
@pytest.mark.usefixtures("backend")
def test_model_given_is_left_alone(name):
    model = create_model(name, scale_factor=4).train()
    Enhancer(model, device="cpu")(dark())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["student-565", "zero-dce"])
@pytest.mark.usefixtures("backend")
def test_later_training_does_not_reach_an_enhancer(name):
    torch.manual_seed(5)
    model = create_model(name, scale_factor=4)
    enhancer = Enhancer(model, device="cpu")
    before = enhancer(dark())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(0.2)
    assert same(enhancer(dark()), before)
    assert not same(Enhancer(model, device="cpu")(dark()), before)


def test_misspelt_argument_is_answered_with_the_nearest():
    with pytest.raises(
        TypeError, match=r"unknown argument 'strenght': did you mean 'strength'\? Enhancer takes model, "
    ):
        Enhancer(strenght=1)


@pytest.mark.usefixtures("backend")
def test_unknown_name_lists_those_that_are_known():
    with pytest.raises(ValueError, match=r"named 'student-566'; did you mean 'student-565'\? choose from .*nano-161"):
        Enhancer("student-566")
    with pytest.raises(ValueError, match=r"'iat' is an architecture without shipped weights; choose from .*nano-161"):
        Enhancer("iat")


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth"])
@pytest.mark.usefixtures("backend")
def test_missing_file_is_named(name, tmp_path):
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(FileNotFoundError, match=name):
            Enhancer(path)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.usefixtures("backend")
def test_damaged_file_is_named(kept, suffix, tmp_path):
    model = create_model("student-565")
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_model(model, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"damaged|not a readable") as caught:
        Enhancer(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 0},
        {"iterations": "8"},
        {"scale_factor": 0},
        {"scale_factor": "12"},
        {"scale_factor": 2.5},
        {"width": 0},
        {"depth": 10**6},
        {"curve_activation": "relu"},
        {"colour": "blue"},
        {"tensors": "one too many"},
        {"tensors": "one too few"},
        {"tensors": "one too large"},
    ],
)
@pytest.mark.usefixtures("backend")
def test_file_with_an_architecture_that_does_not_work_is_named(change, tmp_path):
    # What kdlib.load_model refuses, an Enhancer refuses too.
    model = create_model("student-565")
    state = dict(model.state_dict())
    key = "e_conv7.point_conv.bias"
    match change.get("tensors"):
        case "one too many":
            state["e_conv8.point_conv.bias"] = torch.zeros(3)
        case "one too few":
            del state[key]
        case "one too large":
            state[key] = torch.zeros(4)
        case None:
            state["e_conv1.depth_conv.bias"] = state["e_conv1.depth_conv.bias"].clone()
    config = model.config | {key: value for key, value in change.items() if key != "tensors"}
    path = tmp_path / "model.safetensors"
    save_file(state, path, metadata={"format": "pt", "architecture": json.dumps(config)})
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_model(path)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        Enhancer(path)


@pytest.mark.parametrize("model", [None, 3, ["student-565"], torch.nn.Linear(2, 2)])
@pytest.mark.usefixtures("backend")
def test_what_is_no_model_is_refused(model):
    with pytest.raises(
        TypeError, match=f"model is a name, a path or a network of a known family, not {type(model).__name__}"
    ):
        Enhancer(model)


# Devices


@pytest.mark.parametrize("device", ["gpu", "CPU", "", "xpu:0", None])
def test_unknown_device_is_refused(device):
    with pytest.raises((TypeError, ValueError), match=f"device '?{device}'? is unknown; choose from auto, cpu"):
        Enhancer("student-565", device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_absent_cuda_is_named(device):
    with pytest.raises(ValueError, match=f"device '{device}': PyTorch finds none here; use device='cpu'"):
        Enhancer("student-565", device=device)


def test_device_may_be_torch_s():
    assert Enhancer("student-565", device=torch.device("cpu")).backend == "numba"


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert Enhancer().backend == "numba"


def test_tensor_elsewhere_is_refused_by_the_cpu():
    with pytest.raises(ValueError, match="the photo lies on meta, this Enhancer runs on the CPU"):
        Enhancer("student-565", device="cpu")(torch.zeros(4, 4, 3, dtype=torch.uint8, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gpu_agrees_with_the_cpu(channels, dtype):
    on_gpu, on_cpu = Enhancer("student-565", device="cuda"), Enhancer("student-565", device="cpu")
    assert on_gpu.backend == "triton"
    image = dark(dtype, 477, 631, channels)
    assert np.abs(on_gpu.estimate(image) - on_cpu.estimate(image)).max() <= 1e-5
    curve_map = on_cpu.estimate(image)
    error = np.abs(on_gpu.apply(image, curve_map).astype(float) - on_cpu.apply(image, curve_map))
    assert error.max() <= (1e-5 if dtype == "float32" else 1)
    assert dtype == "float32" or (error > 0).mean() <= 0.001
    tensor = torch.from_numpy(image)
    assert same(on_gpu(tensor.cuda()).cpu(), on_gpu(tensor))
    out = torch.empty_like(tensor.cuda())
    assert on_gpu(tensor.cuda(), out=out) is out


def test_public_names_are_listed():
    assert {"Enhancer", "load_model", "save_model", "create_model"} <= set(dir(kdlib))
    assert kdlib.Enhancer is Enhancer
