"""Decoding and encoding photos: files that are none, limits, threads. Each format has its tests beside this file."""

import dataclasses
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, features

from kdlib.enhance.photos.photo_file import MAX_PIXELS, PhotoError, decode_photo, encode_photo

NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 4), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (32, 48, 3), dtype=np.uint16)
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


def encoded(image_format, mode="RGB", pixels=NOISE, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


def deep_tiff(**options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP, photometric="rgb", **options)
    return buffer.getvalue()


def kinds():
    """Files of every kind that is decoded in its own way."""
    files = {
        "rgb.jpg": encoded("JPEG"),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "ink.jpg": encoded("JPEG", "CMYK"),
        "rgba.png": encoded("PNG", "RGBA"),
        "palette.png": encoded("PNG", "P"),
        "deep.png": cv2.imencode(".png", DEEP)[1].tobytes(),
        "lossy.webp": encoded("WEBP", quality=90),
        "lossless.webp": encoded("WEBP", "RGBA", lossless=True),
        "rgb.bmp": encoded("BMP"),
        "palette.bmp": encoded("BMP", "P"),
        "rgb.tif": encoded("TIFF"),
        "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded("TIFF", compression="jpeg"),
        "palette.tif": encoded("TIFF", "P", compression="packbits"),
        "deep.tif": deep_tiff(),
        "deflate.tif": deep_tiff(compression="zlib", predictor=True, rowsperstrip=5),
        "big.tif": deep_tiff(bigtiff=True, byteorder=">"),
    }
    if features.check("avif"):
        files["rgb.avif"] = encoded("AVIF")
    return files


KINDS = kinds()


# ------------------------------------------------------------------------------------------------- bad files


def reason(path, **options):
    """Why a photo was refused, without its name, which must come first."""
    with pytest.raises(PhotoError) as caught:
        decode_photo(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_missing_photo(tmp_path):
    assert reason(tmp_path / "absent.jpg") == "no such file"


def test_folder(tmp_path):
    (tmp_path / "album.jpg").mkdir()
    assert reason(tmp_path / "album.jpg") == "this is a folder, not a photo"


def test_empty_file(tmp_path):
    (tmp_path / "nothing.jpg").touch()
    assert reason(tmp_path / "nothing.jpg") == "the file is empty"


def test_file_that_may_not_be_read(tmp_path, before_call):
    path = tmp_path / "secret.png"
    path.write_bytes(KINDS["rgba.png"])

    def refuse(_path):
        raise PermissionError("not for you")

    before_call("open", path.name, refuse)
    assert reason(path) == "no permission to read it"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") in ("not a regular file", "the file is empty")


@pytest.mark.parametrize("content", [b"a dark photo\n", b"\xff", b"%PDF-1.7 " * 9, b"P7 1 1 255\n\0\0\0", bytes(500)])
def test_file_that_is_no_photo(content, tmp_path):
    (tmp_path / "notes.jpg").write_bytes(content)
    assert reason(tmp_path / "notes.jpg").startswith("not a photo in a known format (JPEG, PNG, WebP")


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", *FORMATS[5:]])
def test_animations_and_pages_are_decoded_whole(image_format, tmp_path):
    frames = [Image.fromarray(np.roll(NOISE[..., :3], shift, axis=0)) for shift in range(3)]
    frames[0].save(tmp_path / "clip", image_format, save_all=True, append_images=frames[1:])
    photo = decode_photo(tmp_path / "clip")
    assert len(photo.pages) == 2
    assert (photo.timing is None) == (image_format == "TIFF")
    if image_format in ("PNG", "TIFF"):
        for found, frame in zip((photo.pixels, *photo.pages), frames, strict=True):
            assert np.array_equal(found, np.asarray(frame))


@pytest.mark.parametrize("name", KINDS)
def test_truncated_file_is_never_half_a_photo(name, tmp_path):
    path = tmp_path / name
    whole = KINDS[name]
    # The last two bytes of these BMP files only fill a row up.
    end = len(whole) - (2 if name.endswith("bmp") else 0)
    for size in sorted({*range(17, end, max(1, end // 40)), *range(end - 9, end)}):
        path.write_bytes(whole[:size])
        why = reason(path)
        assert "truncated" in why or "damaged" in why
        if size in (end // 2, end - 1) and not name.endswith("avif"):
            assert "truncated" in why
    path.write_bytes(whole)
    decode_photo(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_damage_is_a_photo_error_or_unseen(name, tmp_path):
    path = tmp_path / name
    rng = np.random.default_rng(2)
    for _ in range(80):
        damaged = bytearray(KINDS[name])
        # As often in the first bytes, which hold what decoders rely on, as anywhere.
        damaged[rng.integers(min(len(damaged), rng.choice([300, len(damaged)])))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            photo = decode_photo(path, max_pixels=10_000_000)
        except PhotoError:  # any other error would show
            continue
        else:
            assert photo.pixels.dtype in (np.uint8, np.uint16)
            encode_photo(photo, tmp_path / "again")


def test_damage_that_a_png_hides_behind_right_checksums(tmp_path):
    for name in ("rgba.png", "deep.png"):
        data = KINDS[name]
        at = data.index(b"IDAT")
        size = struct.unpack(">I", data[at - 4 : at])[0]
        content = data[at + 4 : at + 4 + size]
        for changed in (content[: size // 2], content[:-1] + bytes([content[-1] ^ 1]), b"rubbish"):
            body = b"IDAT" + changed
            chunk = struct.pack(">I", len(changed)) + body + struct.pack(">I", zlib.crc32(body))
            (tmp_path / name).write_bytes(data[:33] + chunk + data[-12:])
            if changed[:-1] != content[:-1] or name == "deep.png":  # Pillow does not look at the sum of the pixels
                assert "damaged" in reason(tmp_path / name) or "truncated" in reason(tmp_path / name)


def test_wrong_checksum_names_the_place(tmp_path):
    data = bytearray(KINDS["rgba.png"])
    data[60] ^= 1
    (tmp_path / "photo.png").write_bytes(data)
    assert reason(tmp_path / "photo.png") == "the file is damaged; the IDAT chunk at byte 33 has a bad checksum"


@pytest.mark.parametrize(
    ("pixels", "options", "why"),
    [
        (np.zeros((4, 5), np.complex64), {}, "64-bit complex samples"),
        (np.zeros((9, 9, 6), np.uint8), {"photometric": "rgb", "planarconfig": "contig"}, "6 channels"),
        (np.zeros((4, 5), np.uint16), {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}, "a raw file of a camera"),
        (np.zeros((4, 5), np.uint8), {"subfiletype": 1}, "only a thumbnail"),
    ],
    ids=["complex", "many channels", "raw", "thumbnail"],
)
def test_tiff_of_an_unsupported_kind_says_so(pixels, options, why, tmp_path):
    tifffile.imwrite(tmp_path / "photo.tif", pixels, **{"photometric": "minisblack"} | options)
    assert why in reason(tmp_path / "photo.tif")


def test_jpeg_with_other_bits_says_so(tmp_path):
    data = bytearray(KINDS["rgb.jpg"])
    data[data.index(b"\xff\xc0") + 4] = 16
    (tmp_path / "photo.jpg").write_bytes(data)
    assert "16-bit JPEG is not supported" in reason(tmp_path / "photo.jpg")


# ------------------------------------------------------------------------------------------------- too large


def bomb(name):
    """A file whose header promises 50,000 × 40,000 pixels, or what its format can promise."""
    data = bytearray(KINDS[name])
    width, height = 50_000, 40_000
    if name.endswith("jpg"):
        at = data.index(b"\xff\xc2" if name.startswith("progressive") else b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif name.endswith("png"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "lossy.webp":
        data[26:30] = struct.pack("<HH", 16383, 16383)
    elif name == "lossless.webp":
        at = data.index(b"VP8L")
        data[at + 9 : at + 13] = struct.pack("<I", 16383 | 16383 << 14 | 1 << 28)
        if b"VP8X" in data:
            at = data.index(b"VP8X") + 12
            data[at : at + 6] = (16383).to_bytes(3, "little") * 2
    elif name.endswith("bmp"):
        data[18:26] = struct.pack("<II", width, height)
    else:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            places = [file.pages[0].tags[number] for number in (256, 257)]
            for tag, value in zip(places, (width, height), strict=True):
                number = struct.pack(file.byteorder + {3: "H", 4: "I"}[tag.dtype], value)
                data[tag.valueoffset : tag.valueoffset + len(number)] = number
    return bytes(data)


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith("avif")])
def test_bomb_is_refused_by_its_header(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(bomb(name))
    for module in (cv2, Image.Image):  # nothing may be decoded
        monkeypatch.setattr(module, "imdecode" if module is cv2 else "load", None)
    why = reason(tmp_path / name)
    assert f"more than the limit of {MAX_PIXELS:,}" in why
    assert "--max-pixels" in why


@pytest.mark.parametrize("name", KINDS)
def test_limit_of_pixels_is_the_callers(name, tmp_path, monkeypatch, recwarn):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    assert "32 pixels are more than the limit of 1,535; --max-pixels 1536 allows them" in reason(path, max_pixels=1535)
    decode_photo(path, max_pixels=1536)
    # Pillow's own limit has no say, and prints no warning.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    large = encoded_large(name)
    if large is not None:
        path.write_bytes(large)
        assert decode_photo(path, max_pixels=None).pixels.shape[:2] == (640, 650)
    assert not [warning for warning in recwarn if issubclass(warning.category, Image.DecompressionBombWarning)]


def encoded_large(name):
    """A photo of a kind, twice as large as Pillow would have it."""
    rgba, deep = np.zeros((640, 650, 4), np.uint8), np.zeros((640, 650, 3), np.uint16)
    if name == "deep.png":
        return cv2.imencode(".png", deep)[1].tobytes()
    if name in ("deep.tif", "deflate.tif", "big.tif"):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, deep, photometric="rgb")
        return buffer.getvalue()
    mode = {"palette": "P", "ink": "CMYK", "rgba": "RGBA"}.get(name.split(".")[0], "RGB")
    image_format = {"jpg": "JPEG", "tif": "TIFF"}.get(name.split(".")[1], name.split(".")[1].upper())
    return encoded(image_format, mode, rgba)


def test_size_of_nothing_is_damage(tmp_path):
    data = bytearray(KINDS["rgba.png"])
    data[16:20] = bytes(4)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "photo.png").write_bytes(data)
    assert reason(tmp_path / "photo.png") == "the file is damaged; its header gives the size 0 × 32"


# ------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", KINDS)
def test_other_pixels_are_put_in(name, tmp_path):
    (tmp_path / name).write_bytes(KINDS[name])
    photo = decode_photo(str(tmp_path / name))
    most = np.iinfo(photo.pixels.dtype).max
    flat = np.full_like(photo.pixels, 3 * (most // 4))
    written = encode_photo(dataclasses.replace(photo, pixels=flat), str(tmp_path / "new folder" / name))
    assert [path.name for path in written.parent.iterdir()] == [name]
    again = decode_photo(written)
    assert (again.format, again.pixels.shape, again.pixels.dtype) == (photo.format, flat.shape, flat.dtype)
    assert np.abs(again.pixels.astype(int) - flat).max() <= most // 100


@pytest.mark.parametrize("name", KINDS)
def test_pixels_may_be_a_view_of_others(name, tmp_path):
    (tmp_path / name).write_bytes(KINDS[name])
    photo = decode_photo(tmp_path / name)
    turned = dataclasses.replace(photo, pixels=photo.pixels[::-1, ::2])
    copied = dataclasses.replace(photo, pixels=turned.pixels.copy())
    files = [encode_photo(turned, tmp_path / "view"), encode_photo(copied, tmp_path / "copy")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_extension_does_not_change_the_format(tmp_path):
    (tmp_path / "really.png").write_bytes(KINDS["rgb.jpg"])
    photo = decode_photo(tmp_path / "really.png")
    assert photo.format == "JPEG"
    assert encode_photo(photo, tmp_path / "again.png").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("rgb.jpg", DEEP),
        ("rgb.jpg", NOISE),
        ("lossy.webp", NOISE[..., 0]),
        ("rgb.bmp", NOISE[..., :2]),
        ("rgba.png", NOISE.astype(np.float32)),
        ("rgba.png", NOISE[..., :1]),
        ("rgba.png", NOISE[:0]),
        ("rgba.png", NOISE[None]),
        ("rgb.tif", NOISE.astype(np.int32)),
        ("rgb.tif", np.zeros((4, 4, 5), np.uint8)),
    ],
)
def test_pixels_that_a_format_cannot_hold_are_refused(name, pixels, tmp_path):
    (tmp_path / name).write_bytes(KINDS[name])
    photo = dataclasses.replace(decode_photo(tmp_path / name), pixels=pixels)
    with pytest.raises(ValueError, match="cannot hold pixels of shape"):
        encode_photo(photo, tmp_path / "new" / name)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", KINDS)
def test_failed_write_leaves_the_old_photo_and_nothing_else(name, tmp_path, little_room):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    photo = decode_photo(path)
    little_room(len(KINDS[name]) // 2)
    with pytest.raises(OSError, match=r"File too large|only .* bytes of it could be written"):
        encode_photo(photo, path)
    assert path.read_bytes() == KINDS[name]
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------- threads, imports


def test_threads_do_not_disturb_each_other(tmp_path):
    def there_and_back(number):
        name = list(KINDS)[number % len(KINDS)]
        (tmp_path / f"{number} {name}").write_bytes(KINDS[name])
        photo = decode_photo(tmp_path / f"{number} {name}")
        return name, photo.pixels.tobytes(), encode_photo(photo, tmp_path / f"{number} new {name}").read_bytes()

    alone = {name: rest for name, *rest in map(there_and_back, range(len(KINDS)))}
    with ThreadPoolExecutor(8) as pool:
        for name, *rest in pool.map(there_and_back, range(100, 100 + 6 * len(KINDS))):
            if name != "ink.jpg":  # a profile that is made says when
                assert rest == alone[name], name


def test_reading_photos_imports_neither_pytorch_nor_opencv(tmp_path):
    (tmp_path / "photo.png").write_bytes(KINDS["rgba.png"])
    script = (
        "import sys; from kdlib.enhance.photos.photo_file import decode_photo, encode_photo; "
        "encode_photo(decode_photo(sys.argv[1]), sys.argv[2]); print({'torch', 'cv2'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "photo.png"), str(tmp_path / "again.png")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("sides", [(300_000, 1), (1, 300_000)])
def test_photo_of_one_row_is_refused_before_it_fills_the_memory(sides, tmp_path):
    # Smoothing holds rows in float32: 500 bytes for each pixel of a photo that is a single row.
    Image.new("L", sides).save(tmp_path / "line.png")
    assert reason(tmp_path / "line.png").endswith("exceed the limit of 262,144 for a side; cut the photo into parts")
    assert decode_photo(tmp_path / "line.png", max_pixels=None).pixels.shape == sides[::-1]


def test_jpeg_that_has_fewer_samples_of_green_and_blue_is_written_with_all(tmp_path):
    # Found by fuzzing: it can be read, but not be written like this.
    data = encoded("JPEG", subsampling=2)
    assert data[2:4] == b"\xff\xe0"
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # the last byte: no luma and chroma, but RGB
    (tmp_path / "rgb.jpg").write_bytes(data[:2] + adobe + data[20:])
    photo = decode_photo(tmp_path / "rgb.jpg")
    assert photo.container.rgb
    written = decode_photo(encode_photo(photo, tmp_path / "out.jpg"))
    assert written.container.rgb
    assert np.abs(written.pixels.astype(int) - photo.pixels).mean() < 3
