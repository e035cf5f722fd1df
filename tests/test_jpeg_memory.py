"""JPEG photos decoded into, enhanced in and encoded from one memory: the pixels and bytes of a copy."""

import numpy as np
import pytest
from PIL import Image

from kdlib.enhance import Enhancer
from kdlib.enhance.array_kinds import padded
from kdlib.enhance.photos.formats import jpeg_pixels
from kdlib.enhance.photos.formats.jpeg_pixels import PixelMemory
from kdlib.enhance.photos.paths import PhotoError
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo

JPEGS = {
    "420": {"quality": 90, "subsampling": 2},
    "444": {"quality": 97, "subsampling": 0},
    "progressive": {"quality": 80, "progressive": True},
    "optimised": {"quality": 70, "optimize": True},
    "rgb": {"quality": 90, "keep_rgb": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("how", JPEGS)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (37, 61), (64, 48)])
def test_a_jpeg_in_kept_memory_has_the_pixels_and_the_bytes_of_a_copy(channels, how, size, tmp_path):
    source = np.random.default_rng(3).integers(0, 90, (*size, channels), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(source[..., 0] if channels == 1 else source).save(path, **JPEGS[how])
    memory = PixelMemory()
    memory.array((200, 200, 4))[:] = 77  # of an earlier photo
    photo, copied = decode_photo(path, memory=memory), decode_photo(path)
    assert np.array_equal(photo.pixels, np.asarray(Image.open(path)))
    assert np.array_equal(copied.pixels, photo.pixels)
    assert copied.pixels.flags.c_contiguous
    if channels == 3:
        assert padded(photo.pixels).shape == (*size, 4)
        photo.pixels[...] = 255 - photo.pixels
        copied.pixels[...] = 255 - copied.pixels
    written = [encode_photo(one, tmp_path / f"{k}.jpg").read_bytes() for k, one in enumerate((photo, copied))]
    assert written[0] == written[1]


def test_memory_serves_one_photo_after_the_other_and_is_bounded(monkeypatch):
    monkeypatch.setattr(jpeg_pixels, "_MOST_KEPT", 1000)
    memory = PixelMemory()
    small = memory.array((5, 6, 4))
    assert memory.array((3, 4)).base is small.base
    grown = memory.array((10, 20, 4))
    assert grown.base is not small.base
    assert memory.array((7, 7)).base is grown.base
    large = memory.array((10, 26, 4))
    assert memory.array((7, 7)).base is not large.base


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_jpeg_says_the_same_with_kept_memory(share, tmp_path):
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    said = []
    for memory in (None, PixelMemory()):
        with pytest.raises(PhotoError, match="truncated") as error:
            decode_photo(path, memory=memory)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_cmyk_needs_a_copy_and_becomes_rgb(tmp_path):
    path = tmp_path / "inks.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8), "CMYK").save(path)
    photo, again = decode_photo(path, memory=PixelMemory()), decode_photo(path)
    assert photo.pixels.shape == (20, 30, 3)
    assert np.array_equal(photo.pixels, again.pixels)
    assert photo.notes == again.notes != ()


@pytest.mark.parametrize("model", ["student-565", "grid-960", "glance-650"])
def test_the_first_three_of_four_channels_are_enhanced_in_place(model):
    whole = np.random.default_rng(5).integers(0, 60, (50, 530, 4), dtype=np.uint8)
    fourth, expected = whole[..., 3].copy(), Enhancer(model, device="cpu")(np.ascontiguousarray(whole[..., :3]))
    pixels = whole[..., :3]
    assert Enhancer(model, device="cpu")(pixels, out=pixels) is pixels
    assert np.array_equal(pixels, expected)
    assert np.array_equal(whole[..., 3], fourth)


def test_other_views_are_not_taken_for_padded_pixels():
    flat = np.zeros(1000, np.uint8)
    whole = flat[8:808].reshape(10, 20, 4)
    assert padded(whole[..., :3]).ctypes.data == whole.ctypes.data
    assert padded(flat[203:].reshape(-1)[:600].reshape(10, 20, 3)) is None
    assert padded(whole[:, ::-1, :3]) is None
    assert padded(whole[:, :10, :3]) is None
    assert padded(np.zeros((10, 20, 4), np.uint16)[..., :3]) is None
    end = flat[201:][-799:]  # one byte too few for the last pixel's fourth channel
    view = np.lib.stride_tricks.as_strided(end, (10, 20, 3), (80, 4, 1))
    assert padded(view) is None
