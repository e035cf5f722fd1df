"""Properties that hold for any photo, tested with random shapes, dtypes, strides, byte orders and strengths."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kdlib import Enhancer
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo
from kdlib.noise import TOP
from tests.fuzz.make_corpus import CORPUS

# Every run uses the same examples, because a test that fails at random is of no use.
repeatable = settings(derandomize=True, deadline=None, max_examples=80, database=None)
MODELS = ("student-565", "glance-650")
sides = st.one_of(st.just(1), st.integers(1, 40))
channels = st.sampled_from([None, 1, 2, 3, 4])
dtypes = st.sampled_from(list(TOP))
strengths = st.sampled_from([0.0, 0.25, 1.0, 1.9, 2.0])


@cache
def enhancer(model, strength=1.0, denoise=None):
    return Enhancer(model, strength=strength, denoise=denoise, device="cpu", threads=1)


def photo(shape, dtype, seed):
    """A dark, noisy photo with black and white specks."""
    rng = np.random.default_rng(seed)
    values = rng.random(shape) * rng.choice([0.3, 1.0])
    values[rng.random(shape) < 0.05] = rng.choice([0.0, 1.0])
    return (values.astype(np.float32) * TOP[dtype]).astype(dtype)


@st.composite
def photos(draw, batches=True):
    shape = [draw(sides), draw(sides)]
    if (count := draw(channels)) is not None:
        shape.append(count)
        if batches and draw(st.booleans()):
            shape.insert(0, draw(st.integers(1, 3)))
    return photo(tuple(shape), draw(dtypes), draw(st.integers(0, 2**32 - 1)))


@st.composite
def views(draw, arrays):
    """The same photo with a different memory layout."""
    array = draw(arrays)
    for way in draw(st.lists(st.sampled_from(sorted(WAYS)), max_size=3)):
        array = WAYS[way](array, draw(st.integers(0, array.ndim - 1)))
    return array


def _spread(array, axis):
    """Every third row, column or channel of a larger array."""
    shape = list(array.shape)
    shape[axis] *= 3
    wide = np.zeros(shape, array.dtype)
    part = tuple(slice(1, None, 3) if k == axis else slice(None) for k in range(array.ndim))
    wide[part] = array
    return wide[part]


def _repeated(array, axis):
    """One row, column or channel repeated with a stride of 0."""
    first = tuple(slice(0, 1) if k == axis else slice(None) for k in range(array.ndim))
    return np.broadcast_to(array[first], array.shape)


def _unaligned(array, _):
    """An array that starts at an unaligned address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _read_only(array, _):
    array = array[...]
    array.flags.writeable = False
    return array


WAYS = {
    "backwards": lambda array, axis: np.flip(array, axis),
    "columns first": lambda array, _: np.asfortranarray(array),
    "axes exchanged": lambda array, axis: (
        np.ascontiguousarray(np.moveaxis(array, axis, 0)).swapaxes(0, axis)
        if array.ndim == 2 and array.shape[0] == array.shape[1]
        else array
    ),
    "other byte order": lambda array, _: array.astype(array.dtype.newbyteorder()),
    "read-only": _read_only,
    "repeated": _repeated,
    "spread": _spread,
    "unaligned": _unaligned,
}


@pytest.mark.slow
@repeatable
@given(views(photos()), st.sampled_from(MODELS), strengths)
@example(np.zeros((1, 1), np.uint8), "glance-650", 1.0)
@example(np.broadcast_to(np.float32(0.5), (5, 7, 3)), "glance-650", 1.0)
def test_the_memory_layout_of_a_photo_has_no_effect(image, model, strength):
    enhance = enhancer(model, strength)
    before = image.copy()
    result = enhance(image)
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.may_share_memory(result, image)
    assert image.tobytes() == before.tobytes()
    plain = np.array(image, dtype=image.dtype.newbyteorder("="), order="C")
    expected = enhance(plain)
    assert np.array_equal(result, expected)
    if image.dtype.kind == "f":
        assert 0 <= result.min() <= result.max() <= 1
    out = np.full(image.shape, 9, image.dtype)
    assert enhance(image, out=out) is out
    assert np.array_equal(out, expected)
    assert enhance(plain, out=plain) is plain
    assert np.array_equal(plain, expected)


@repeatable
@given(photos(), st.sampled_from(MODELS), st.sampled_from(["plain", "permuted", "expanded", "spread"]))
def test_the_memory_layout_of_a_tensor_has_no_effect(image, model, way):
    tensor = torch.from_numpy(image)
    if way == "permuted":
        tensor = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    elif way == "expanded":
        tensor = tensor[:1].expand(tensor.shape)
    elif way == "spread":
        tensor = torch.stack([tensor, tensor], dim=-1)[..., 0]
    before = tensor.clone()
    result = enhancer(model)(tensor)
    assert type(result) is torch.Tensor
    assert (result.shape, result.dtype) == (tensor.shape, tensor.dtype)
    assert np.array_equal(result.numpy(), enhancer(model)(tensor.contiguous().numpy()))
    assert np.array_equal(tensor.numpy(), before.numpy())


@repeatable
@given(views(photos()), st.sampled_from(MODELS))
def test_zero_strength_changes_nothing(image, model):
    result = enhancer(model, 0.0, 0.0)(image)
    assert result.dtype == image.dtype
    assert result.tobytes() == image.tobytes()


@pytest.mark.slow
@repeatable
@given(views(photos()), st.sampled_from(MODELS), strengths)
def test_alpha_is_unchanged(image, model, strength):
    assume(image.ndim > 2 and image.shape[-1] in (2, 4))
    assert np.array_equal(enhancer(model, strength)(image)[..., -1], image[..., -1])


@repeatable
@given(photos(), st.sampled_from(MODELS))
def test_a_batch_gives_the_same_results_as_its_photos(image, model):
    assume(image.ndim == 4)
    assert np.array_equal(enhancer(model)(image), np.stack([enhancer(model)(one) for one in image]))


@repeatable
@given(st.lists(st.integers(0, 5), max_size=6), dtypes)
def test_arrays_that_are_not_photos_are_refused(shape, dtype):
    image = np.zeros(shape, dtype)
    is_photo = len(shape) in (2, 3, 4) and image.size and (len(shape) == 2 or shape[-1] <= 4)
    if is_photo:
        assert enhancer("student-565")(image).shape == image.shape
    else:
        with pytest.raises(ValueError, match=r"a photo must have (shape|1 to 4 channels)"):
            enhancer("student-565")(image)


@repeatable
@given(
    st.sampled_from(["bool", "int8", "int16", "int32", "uint32", "int64", "float16", "float64", "complex64", "O", "U3"])
)
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="a photo must have dtype uint8, uint16, float32, not"):
        enhancer("student-565")(np.zeros((4, 5, 3), dtype))


@repeatable
@given(st.floats(), st.sampled_from(["strength", "denoise"]))
def test_strengths_outside_0_to_2_are_refused(value, name):
    if 0 <= value <= 2:
        assert getattr(Enhancer("nano-161", device="cpu", **{name: value}), name) == value
    else:
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 2"):
            Enhancer("nano-161", device="cpu", **{name: value})


@repeatable
@given(photos(batches=False), st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_values_outside_0_to_1_are_refused(image, value):
    assume(image.dtype == np.float32 and not 0 <= value <= 1)
    image.flat[image.size // 2] = value
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        enhancer("student-565")(image)


@repeatable
@given(
    dtypes,
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    strengths,
    st.sampled_from(["student-565", "nano-161"]),
)
def test_curve_is_monotonic(dtype, curve, strength, model):
    # With one map for the whole photo, the order of brightness is preserved, and black and white are fixed points.
    levels = np.linspace(0, TOP[dtype], 256).astype(dtype)
    ramp = np.repeat(levels[None, :, None], 3, axis=2)
    result = enhancer(model, strength).apply(ramp, np.array(curve, np.float32)[None, None]).astype(np.float64)
    assert (np.diff(result, axis=1) >= (-1e-6 if dtype == "float32" else 0)).all()
    assert (result[:, 0] == 0).all()
    assert (result[:, -1] == TOP[dtype]).all()


@repeatable
@given(
    dtypes,
    st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3),
    st.lists(st.floats(-0.875, 1, width=32), min_size=3, max_size=3),
    strengths,
)
def test_power_curve_is_monotonic(dtype, gain, gamma, strength):
    levels = np.linspace(0, TOP[dtype], 256).astype(dtype)
    ramp = np.repeat(levels[None, :, None], 3, axis=2)
    curve = np.array([*gain, *gamma, 0], np.float32)[None, None]
    result = enhancer("glance-650", strength).apply(ramp, curve).astype(np.float64)
    assert (np.diff(result, axis=1) >= (-1e-6 if dtype == "float32" else 0)).all()
    assert (result[:, 0] == 0).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoded")


FILES = {
    "rgb.png": ("uint8", "uint16"),
    "rgb.tif": ("uint8", "uint16"),
    "lzw.tif": ("uint8", "uint16"),
    "rgb.bmp": ("uint8",),
}


@repeatable
@given(views(photos(batches=False)), st.sampled_from(sorted(FILES)))
def test_lossless_files_preserve_any_pixels(folder, image, name):
    assume(image.dtype.name in FILES[name] and not (image.ndim == 3 and image.shape[2] == 1))
    assume(name != "rgb.bmp" or image.ndim == 2 or image.shape[2] != 2)
    path = encode_photo(replace(decode_photo(CORPUS / name), pixels=image), folder / name)
    assert np.array_equal(decode_photo(path).pixels, image)
