"""Each format, there and back: pixels, metadata, and the way in which the pixels are stored."""

import dataclasses
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    PngImagePlugin,
    features,
)

from kdlib.enhance.photos.formats.exif import without_thumbnail
from kdlib.enhance.photos.paths import PhotoError
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
AVIF = pytest.param("avif", marks=needs_avif)
SIZES = [(1, 1), (1, 7), (7, 1), (65, 129)]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rating>5</rating></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def smooth(height=48, width=64):
    """A photo that lossy formats hold well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x + y, 4 * y, 200 - 2 * x], axis=-1).clip(0, 255).astype(np.uint8)


def saved(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def round_trip(path):
    """The photo decoded, its re-encoded file, and that file decoded."""
    photo = decode_photo(path)
    written = encode_photo(photo, path.with_name(f"again{path.suffix}"))
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, written.name])
    assert photo.pixels.flags.c_contiguous
    assert photo.pixels.flags.writeable
    return photo, written, decode_photo(written)


def exif_block(order="<", orientation=6):
    """EXIF data as a camera writes them: a maker note, a directory of its own for exposure, and a linked thumbnail."""
    thumbnail = io.BytesIO()
    Image.new("RGB", (16, 8), (10, 10, 10)).save(thumbnail, "JPEG")
    maker_note = b"MAKER\0" + bytes(range(60))

    def entry(tag, kind, count, value):
        return struct.pack(f"{order}HHI", tag, kind, count) + value

    def long(value):
        return struct.pack(f"{order}I", value)

    first, exif, second = 8, 8 + 2 + 3 * 12 + 4, 8 + 2 + 3 * 12 + 4 + 2 + 2 * 12 + 4
    data = second + 2 + 2 * 12 + 4
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + long(first)
    block += struct.pack(f"{order}H", 3) + entry(0x010F, 2, 4, b"Kam\0")
    block += entry(0x0112, 3, 1, struct.pack(f"{order}HH", orientation, 0)) + entry(0x8769, 4, 1, long(exif))
    block += long(second)
    block += struct.pack(f"{order}H", 2) + entry(0x927C, 7, len(maker_note), long(data)) + entry(0xA001, 3, 1, bytes(4))
    block += long(0)
    block += struct.pack(f"{order}H", 2) + entry(0x0201, 4, 1, long(data + len(maker_note)))
    block += entry(0x0202, 4, 1, long(len(thumbnail.getvalue()))) + long(0)
    return block + maker_note + thumbnail.getvalue()


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


# ------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("suffix", "channels", "options"),
    [
        *[("png", channels, {}) for channels in (1, 2, 3, 4)],
        *[("bmp", channels, {}) for channels in (1, 3)],
        *[("webp", channels, {"lossless": True, "exact": True}) for channels in (3, 4)],
        *[("tif", channels, {"compression": c}) for channels in (1, 2, 3, 4) for c in ("raw", "tiff_lzw", "packbits")],
    ],
)
def test_lossless_photo_comes_back_exactly(suffix, channels, options, size, tmp_path):
    pixels = noise(*size, channels) if channels > 1 else noise(*size)
    photo, written, again = round_trip(saved(tmp_path / f"photo.{suffix}", pixels, **options))
    assert np.array_equal(photo.pixels, pixels)
    assert np.array_equal(again.pixels, pixels)
    assert photo.notes == ()
    assert again.format == photo.format == {"tif": "TIFF"}.get(suffix, suffix.upper())
    with Image.open(written) as image:
        assert np.array_equal(np.asarray(image), pixels)


def png16(pixels, *chunks):
    """A 16-bit PNG file, rows unfiltered."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8)
    header = struct.pack(">IIBB", *pixels.shape[1::-1], 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels]) + bytes(3)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_keeps_its_bits(channels, size, tmp_path):
    pixels = noise(*size, channels, dtype=np.uint16) if channels > 1 else noise(*size, dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(png16(pixels))
    photo, written, again = round_trip(tmp_path / "deep.png")
    assert photo.pixels.dtype == again.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, pixels)
    assert np.array_equal(again.pixels, pixels)
    seen = cv2.imread(str(written), cv2.IMREAD_UNCHANGED)  # blue first; grey with alpha as blue, green, red and alpha
    order = {1: ..., 2: np.s_[..., [0, 3]], 3: np.s_[..., ::-1], 4: np.s_[..., [2, 1, 0, 3]]}[channels]
    assert np.array_equal(seen[order], pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "predictor": True, "byteorder": ">", "bigtiff": True},
        {"rowsperstrip": 2, "compression": "zlib", "predictor": True},
        {"tile": (16, 32), "compression": "zlib", "predictor": True},
        {"tile": (32, 16)},
        {"planarconfig": "separate", "compression": "zlib", "predictor": True},
        {"planarconfig": "separate", "rowsperstrip": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_any_layout_comes_back_exactly(options, channels, size, dtype, tmp_path):
    pixels = noise(*size, channels, dtype=dtype) if channels > 1 else noise(*size, dtype=dtype)
    source = pixels
    if options.get("planarconfig") == "separate":
        if channels == 1:
            pytest.skip("one plane is not separate")
        source = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(
        tmp_path / "deep.tif",
        source,
        photometric="rgb" if channels > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        metadata=None,
        **({"planarconfig": "contig"} if channels > 1 else {}) | options,
    )
    photo, written, again = round_trip(tmp_path / "deep.tif")
    assert photo.pixels.dtype == dtype
    assert np.array_equal(photo.pixels, pixels)
    assert np.array_equal(again.pixels, pixels)
    with tifffile.TiffFile(written) as file:
        assert len(file.pages) == 1
        assert np.array_equal(file.asarray().reshape(pixels.shape), pixels)
        assert file.pages[0].compression == (8 if "compression" in options else 1)
        assert file.pages[0].tags["SamplesPerPixel"].value == channels


def test_sixteen_bit_tiff_with_lzw_comes_back_exactly(tmp_path):
    pixels = noise(33, 47, 3, dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "lzw.tif"), pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    with tifffile.TiffFile(tmp_path / "lzw.tif") as file:
        assert file.pages[0].compression == 5
        assert file.pages[0].predictor == 2
    _, _, again = round_trip(tmp_path / "lzw.tif")
    assert np.array_equal(again.pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inverted_grey_is_put_right(dtype, tmp_path):
    pixels = noise(9, 11, dtype=dtype)
    tifffile.imwrite(tmp_path / "film.tif", ~pixels, photometric="miniswhite")
    photo, _, again = round_trip(tmp_path / "film.tif")
    assert np.array_equal(photo.pixels, pixels)
    assert np.array_equal(again.pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_taken_out_of_colours_that_were_multiplied_by_it(dtype, tmp_path):
    most = np.iinfo(dtype).max
    pixels = np.array([[[most, most // 2, 0, most], [most // 4, most // 2, 0, most // 2], [0, 0, 0, 0]]], dtype=dtype)
    tifffile.imwrite(tmp_path / "glass.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    photo, _, again = round_trip(tmp_path / "glass.tif")
    expected = [[most, most // 2, 0, most], [most // 4 * most / (most // 2), most, 0, most // 2], [0, 0, 0, 0]]
    assert np.abs(photo.pixels[0] - np.array(expected)).max() <= 0.5
    assert np.array_equal(again.pixels, photo.pixels)
    assert len(photo.notes) == 1


def test_fourth_channel_that_is_no_alpha_stays_one(tmp_path):
    pixels = noise(9, 11, 4)
    tifffile.imwrite(tmp_path / "mask.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    _, written, again = round_trip(tmp_path / "mask.tif")
    assert np.array_equal(again.pixels, pixels)
    with tifffile.TiffFile(written) as file:
        assert file.pages[0].extrasamples == (0,)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit_becomes_grey_and_palettes_become_colours(suffix, tmp_path):
    pixels = noise(9, 13, 3) & 0xC0
    bits = saved(tmp_path / f"bits.{suffix}", pixels, "1")
    with Image.open(bits) as image:
        assert image.mode == "1"
        assert np.array_equal(decode_photo(bits).pixels, np.asarray(image) * np.uint8(255))
    bits.unlink()
    palette = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / f"palette.{suffix}")
    photo, _, again = round_trip(tmp_path / f"palette.{suffix}")
    assert np.array_equal(photo.pixels, np.asarray(palette.convert("RGB")))
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_transparent_colour_becomes_an_alpha_channel(mode, tmp_path):
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [0, 0, 0]]], dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "hole.png", transparency={"RGB": (0, 0, 0)}.get(mode, 0))
    photo, _, again = round_trip(tmp_path / "hole.png")
    assert photo.pixels[..., -1].tolist() == [[0, 255, 0]]
    assert photo.pixels.shape[2] == (4 if mode in ("P", "RGB") else 2)
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour_of_sixteen_bits_becomes_an_alpha_channel(channels, tmp_path):
    pixels = noise(3, 5, channels, dtype=np.uint16)
    colour = pixels[1, 2].astype(">u2").tobytes()
    (tmp_path / "hole.png").write_bytes(png16(pixels if channels == 3 else pixels[..., 0], (b"tRNS", colour)))
    photo, _, again = round_trip(tmp_path / "hole.png")
    assert np.array_equal(photo.pixels[..., :-1], pixels)
    assert np.argwhere(photo.pixels[..., -1] == 0).tolist() == [[1, 2]]
    assert set(photo.pixels[..., -1].flat) == {0, 65535}
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("suffix", ["webp", AVIF])
@pytest.mark.parametrize("size", SIZES)
def test_lossy_photo_stays_close(suffix, size, tmp_path):
    sampling = {"subsampling": "4:4:4"} if suffix == "avif" else {}
    photo, written, again = round_trip(saved(tmp_path / f"photo.{suffix}", smooth(*size), quality=80, **sampling))
    assert again.pixels.shape == photo.pixels.shape == (*size, 3)
    assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 3
    if suffix == "webp":
        assert b"VP8L" not in written.read_bytes()


def test_lossless_webp_stays_lossless_below_transparent_pixels(tmp_path):
    pixels = noise(12, 20, 4)
    pixels[:6, :, 3] = 0
    _, written, again = round_trip(saved(tmp_path / "photo.webp", pixels, lossless=True, exact=True))
    assert b"VP8L" in written.read_bytes()
    assert np.array_equal(again.pixels, pixels)


def test_bmp_keeps_alpha_and_resolution(tmp_path):
    pixels = noise(5, 7, 4)
    photo = decode_photo(saved(tmp_path / "photo.bmp", pixels[..., :3], dpi=(300, 150)))
    written = encode_photo(dataclasses.replace(photo, pixels=pixels), tmp_path / "alpha.bmp")
    with Image.open(written) as image:
        assert image.mode == "RGBA"
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(cv2.imread(str(written), cv2.IMREAD_UNCHANGED), pixels[..., [2, 1, 0, 3]])
    assert np.array_equal(decode_photo(written).pixels, pixels)


def test_resolution_that_a_bmp_lacks_is_not_made_up(tmp_path):
    _, written, _ = round_trip(saved(tmp_path / "photo.bmp", smooth(), dpi=(0, 0)))
    with Image.open(written) as image:
        assert "dpi" not in image.info


# ------------------------------------------------------------------------------------------------- JPEG


def tables_of(path):
    with Image.open(path) as image:
        layers = [(across, down, tuple(image.quantization[table])) for _, across, down, table in image.layer]
        if len(layers) == 1:  # what has one component has no sampling
            layers = [(1, 1, layers[0][2])]
        return layers, bool(image.info.get("progressive"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 60, "subsampling": 0},
        {"quality": 75, "subsampling": 1, "progressive": True},
        {"quality": 92, "subsampling": 2, "optimize": True},
        {"quality": 100, "subsampling": 0},
        {"qtables": [[3] * 64, [5] * 64, [7] * 64], "subsampling": 1},
        {"qtables": [[300] * 64], "subsampling": 2},
    ],
    ids=str,
)
def test_jpeg_keeps_its_quantisation_and_sampling(options, mode, size, tmp_path):
    photo, written, again = round_trip(saved(tmp_path / "photo.jpg", smooth(*size), mode, **options))
    assert tables_of(written) == tables_of(tmp_path / "photo.jpg")
    assert photo.pixels.shape == ((*size, 3) if mode == "RGB" else size)
    # The pixels come from these very tables, so that rounding is all that a second encoding adds.
    if "qtables" not in options and options["subsampling"] == 0:
        assert np.abs(again.pixels.astype(int) - photo.pixels).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("optimise", [False, True])
def test_jpeg_is_optimised_if_it_was(optimise, mode, tmp_path):
    path = saved(tmp_path / "photo.jpg", smooth(), mode, optimize=optimise)
    _, written, again = round_trip(path)
    sizes = [sum(len(data) for marker, data in jpeg_segments(file) if marker == 0xC4) for file in (path, written)]
    standard = 208 if mode == "L" else 416
    assert all(size < standard if optimise else size == standard for size in sizes)
    assert again.container.optimised == optimise


@pytest.mark.parametrize("factor", ["411", "440"])
def test_unusual_sampling_becomes_full_resolution(factor, tmp_path):
    sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}")
    cv2.imwrite(str(tmp_path / "photo.jpg"), smooth(), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])
    _, written, _ = round_trip(tmp_path / "photo.jpg")
    (luma, *chroma), _ = tables_of(written)
    assert luma[:2] == chroma[0][:2] == chroma[1][:2]


@pytest.mark.parametrize("adobe", [True, False])
def test_jpeg_of_red_green_and_blue_stays_one(adobe, tmp_path):
    path = saved(tmp_path / "rgb.jpg", noise(16, 16, 3), keep_rgb=True, quality=100, subsampling=0)
    if not adobe:  # then the components' names say what they are
        data = path.read_bytes()
        at = data.index(b"\xff\xee")
        path.write_bytes(data[:at] + data[at + 16 :])
    photo, written, again = round_trip(path)
    assert np.abs(again.pixels.astype(int) - photo.pixels).max() <= 2
    assert (b"Adobe" in written.read_bytes()) == adobe
    with Image.open(written) as image:
        assert bytes(layer[0] for layer in image.layer) == b"RGB"


def jpeg_segments(path):
    """Marker and content of all segments before the pixels."""
    data, position, found = path.read_bytes(), 2, []
    while data[position + 1] != 0xDA:
        size = struct.unpack_from(">H", data, position + 2)[0]
        found.append((data[position + 1], data[position + 4 : position + 2 + size]))
        position += 2 + size
    return found


def with_segments(path, *segments):
    data = path.read_bytes()
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    path.write_bytes(data[:20] + extra + data[20:])  # behind the JFIF segment
    return path


def test_jpeg_header_is_kept_byte_for_byte(tmp_path):
    kept = [
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"a second part"),
        (0xE2, b"ICC_PROFILE\0\2\2" + noise(40_000).tobytes()),
        (0xE2, b"ICC_PROFILE\0\1\2" + noise(65_000, seed=1).tobytes()),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x04IPTC"),
        (0xE5, b"SAMSUNG"),
        (0xFE, b"a comment \xff\xd8\xff with bytes like markers"),
        (0xFE, b"another one"),
    ]
    dropped = [(0xE0, b"JFXX\0\x10thumbnail"), (0xEB, b"JP\0\1signature of the pixels")]
    path = saved(tmp_path / "photo.jpg", smooth(), dpi=(72, 71), quality=88)
    with_segments(path, *kept[:3], *dropped, *kept[3:])
    _, written, _ = round_trip(path)
    assert [segment for segment in jpeg_segments(written) if segment[0] >= 0xE0] == [jpeg_segments(path)[0], *kept]
    with Image.open(written) as image:
        assert image.info["dpi"] == (72, 71)
        assert image.info["xmp"] == XMP
        assert image.info["comment"] == b"another one"


def test_first_picture_of_a_phone_jpeg_is_written_as_a_plain_one(tmp_path):
    first, second = Image.fromarray(smooth()), Image.fromarray(255 - smooth(12, 16))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second], exif=b"Exif\0\0" + exif_block())
    with Image.open(tmp_path / "phone.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    photo, written, _ = round_trip(tmp_path / "phone.jpg")
    assert photo.format == "JPEG"
    assert photo.pixels.shape == (48, 64, 3)
    assert "further pictures" in photo.notes[0]
    with Image.open(written) as image:
        assert (image.format, image.getexif()[0x0112]) == ("JPEG", 6)
        assert type(image) is JpegImagePlugin.JpegImageFile


def test_video_behind_a_photo_is_noted(tmp_path):
    path = with_segments(
        saved(tmp_path / "motion.jpg", smooth()), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x GCamera:MotionPhoto='1'/>")
    )
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42")
    assert decode_photo(path).notes == ("the short video attached to the photo is left out",)


# ------------------------------------------------------------------------------------------------- EXIF and colours


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnail_is_unlinked_and_nothing_else_touched(order, prefix):
    block = exif_block(order)
    exif = Image.Exif()
    exif.load(block)
    assert exif.get_ifd(ExifTags.IFD.IFD1)[0x0201] > 0
    without = without_thumbnail(prefix + block)
    assert len(without) == len(prefix + block)
    changed = [i for i, (a, b) in enumerate(zip(prefix + block, without, strict=True)) if a != b]
    assert set(changed) <= set(range(len(prefix) + 46, len(prefix) + 50))
    exif = Image.Exif()
    exif.load(without)
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert exif[0x010F] == "Kam"
    assert exif.get_ifd(0x8769)[0x927C].startswith(b"MAKER")
    assert without_thumbnail(without) == without


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0", b"II*\0\x08\0\0\0", b"II*\0\x08\0\0\0\xff\xff", b"rubbish" * 9]
)
def test_exif_data_that_cannot_be_read_are_left_alone(exif):
    assert without_thumbnail(exif) == exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", AVIF])
def test_photo_keeps_its_place_and_its_orientation(suffix, orientation, tmp_path):
    path = tmp_path / f"turned.{suffix}"
    if suffix == "tif":
        Image.fromarray(smooth(40, 64)).save(path, tiffinfo={0x0112: orientation}, compression="tiff_lzw")
    else:
        Image.fromarray(smooth(40, 64)).save(path, exif=b"Exif\0\0" + exif_block(orientation=orientation), quality=95)
    photo, written, _ = round_trip(path)
    assert photo.pixels.shape == (40, 64, 3)
    assert np.abs(photo.pixels.astype(int) - smooth(40, 64)).max() <= 12
    for file in (path, written):
        assert upright(file).shape == ((64, 40, 3) if orientation >= 5 else (40, 64, 3))
    assert np.abs(upright(path).astype(int) - upright(written)).max() <= 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", AVIF])
def test_exif_xmp_and_profile_are_kept_byte_for_byte(suffix, tmp_path):
    block = exif_block(">", orientation=1)
    # An AVIF file has its orientation elsewhere, so that Pillow would rewrite the block to take it out.
    block = block.replace(b"\x01\x12\0\x03\0\0\0\x01\0\x01\0\0", b"\x01\x06\0\x03\0\0\0\x01\0\x01\0\0")
    exif = b"Exif\0\0" + block
    Image.fromarray(smooth()).save(tmp_path / f"photo.{suffix}", exif=exif, xmp=XMP, icc_profile=ICC)
    if suffix == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        Image.fromarray(smooth()).save(tmp_path / "photo.png", exif=exif, pnginfo=info, icc_profile=ICC)
    _, written, _ = round_trip(tmp_path / f"photo.{suffix}")
    with Image.open(written) as image:
        image.load()
        assert image.info["exif"].removeprefix(b"Exif\0\0") == without_thumbnail(block)
        assert image.info["xmp"] == XMP
        assert image.info["icc_profile"] == ICC


def test_damaged_exif_data_are_no_reason_to_refuse_a_photo(tmp_path, recwarn):
    path = saved(tmp_path / "photo.jpg", smooth(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    photo, written, _ = round_trip(path)
    assert photo.pixels.shape == (48, 64, 3)
    assert b"Exif\0\0II*\0\x08\0\0\0\xff\xff" in written.read_bytes()
    assert not recwarn.list


def cmyk_profile():
    """A printer's profile of the smallest kind: the 16 combinations of inks and their colours in L*a*b*."""
    colours = []
    for inks in np.ndindex(2, 2, 2, 2):
        cyan, magenta, yellow, black = inks
        lightness = 10 if black else 100 - 15 * (cyan + magenta + yellow)
        colours += [round(lightness * 2.55), 128 + (40 * magenta - 20 * cyan) * (not black)]
        colours += [128 + (50 * yellow - 30 * cyan) * (not black)]
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(colours) + identity * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"public domain\0"
    parts, tags, offset = b"", b"", 128 + 4 + 12 * 3
    for name, data in ((b"A2B0", table), (b"wtpt", white), (b"cprt", text)):
        tags += name + struct.pack(">II", offset + len(parts), len(data))
        parts += data + bytes(-len(data) % 4)
    body = struct.pack(">I", 3) + tags + parts
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + body


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {"quality": 100}), ("tif", {}), ("tif", {"compression": "jpeg"})]
)
def test_cmyk_becomes_srgb_through_its_profile(suffix, options, tmp_path):
    inks = np.zeros((16, 48, 4), dtype=np.uint8)
    inks[:, 16:32, 0], inks[:, 32:, 2] = 255, 255  # paper, cyan, yellow
    path = saved(tmp_path / f"print.{suffix}", inks, "CMYK", icc_profile=cmyk_profile(), **options)
    Image.fromarray(inks, "CMYK").save(path, icc_profile=cmyk_profile(), **options)
    photo, written, again = round_trip(path)
    paper, cyan, yellow = (photo.pixels[8, column].astype(int) for column in (8, 24, 40))
    # The formula without a profile gives (255, 255, 255), (0, 255, 255) and (255, 255, 0).
    assert paper.tolist() == [255, 255, 255]
    expected = [[255, 255, 255], *lab_to_srgb([(85, -20, -30), (85, 0, 50)])]
    assert np.abs(np.array([paper, cyan, yellow]) - expected).max() <= 2
    assert photo.notes == ("CMYK colours became sRGB",)
    assert again.notes == ()
    assert np.abs(again.pixels.astype(int) - photo.pixels).max() <= (3 if suffix == "jpg" else 0)
    with Image.open(written) as image:
        assert image.mode == "RGB"
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])).profile
        assert "sRGB" in profile.profile_description
        assert "adobe" not in image.info


def lab_to_srgb(colours):
    """L*a*b* as profiles have it, against the white of D50, to sRGB levels."""
    lightness, green_red, blue_yellow = np.array(colours).T
    f = (lightness + 16) / 116 + np.array([green_red / 500, 0 * lightness, -blue_yellow / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)).T * [0.9642, 1, 0.8249]
    # Bradford's adaptation to D65 and the primaries of sRGB in one
    to_rgb = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    light = (xyz @ np.array(to_rgb).T).clip(0, 1)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * levels).round().astype(int).tolist()


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("icc", [None, b"no profile", ICC])
def test_cmyk_without_a_usable_profile_becomes_rgb_by_formula(icc, suffix, tmp_path):
    inks = np.zeros((8, 8, 4), dtype=np.uint8)
    inks[..., 1] = 100
    Image.fromarray(inks, "CMYK").save(tmp_path / f"print.{suffix}", **({"icc_profile": icc} if icc else {}))
    photo, written, _ = round_trip(tmp_path / f"print.{suffix}")
    assert np.abs(photo.pixels.astype(int) - [255, 155, 255]).max() <= 1
    assert len(photo.notes) == 1
    with Image.open(written) as image:
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info


def test_lab_and_ycbcr_tiffs_become_rgb(tmp_path):
    lab = np.zeros((4, 4, 3), dtype=np.uint8)
    lab[...] = (85 * 255 // 100, 0, 50)
    Image.fromarray(lab, "LAB").save(tmp_path / "lab.tif")
    assert np.abs(decode_photo(tmp_path / "lab.tif").pixels[0, 0].astype(int) - lab_to_srgb([(85, 0, 50)])).max() <= 2
    saved(tmp_path / "video.tif", smooth(), "YCbCr")
    with Image.open(tmp_path / "video.tif") as image:
        assert np.array_equal(decode_photo(tmp_path / "video.tif").pixels, np.asarray(image.convert("RGB")))


# ------------------------------------------------------------------------------------------------- PNG


def png_chunks(path):
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        found.append((name, data[position + 8 : position + 8 + size]))
        position += 12 + size
    return found


@pytest.mark.parametrize("deep", [False, True])
def test_png_chunks_that_still_hold_are_kept_byte_for_byte(deep, tmp_path):
    before = [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"iCCP", b"a name\0\0" + zlib.compress(ICC)),
        (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        (b"tEXt", b"Title\0caf\xe9"),
        (b"iTXt", b"Comment\0\0\0de\0\0" + "Grüße".encode()),
        (b"tIME", struct.pack(">H5B", 2024, 5, 6, 7, 8, 9)),
        (b"prVt", b"safe to copy"),
    ]
    after = [(b"zTXt", b"Note\0\0" + zlib.compress(b"late")), (b"eXIf", exif_block())]
    stale = [(b"sBIT", bytes([5, 5, 5])), (b"bKGD", bytes(6)), (b"prVT", b"only for these very pixels")]
    if deep:
        data = png16(noise(9, 7, 3, dtype=np.uint16))
    else:
        data = saved(tmp_path / "photo.png", noise(9, 7, 3)).read_bytes()
    head, body = data[:33], data[33:-12]
    encoded = [b"".join(png_chunk(*chunk) for chunk in chunks) for chunks in (before, stale, after)]
    (tmp_path / "photo.png").write_bytes(head + encoded[0] + encoded[1] + body + encoded[2] + data[-12:])
    _, written, _ = round_trip(tmp_path / "photo.png")
    found = png_chunks(written)
    names = [name for name, _ in found]
    at = names.index(b"IDAT")
    assert found[1:at] == before
    assert [chunk for chunk in found[at:-1] if chunk[0] != b"IDAT"] == [
        after[0],
        (b"eXIf", without_thumbnail(after[1][1])),
    ]
    with Image.open(written) as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.text == {"Title": "café", "Comment": "Grüße", "Note": "late"}


def test_gamma_of_a_png_is_not_applied(tmp_path):
    pixels = noise(9, 7, 3, dtype=np.uint16)
    (tmp_path / "gamma.png").write_bytes(png16(pixels, (b"gAMA", struct.pack(">I", 100_000))))
    assert np.array_equal(decode_photo(tmp_path / "gamma.png").pixels, pixels)


def test_single_frame_of_an_animated_png_is_a_photo(tmp_path):
    pixels = noise(9, 7, 3)
    data = saved(tmp_path / "photo.png", pixels).read_bytes()
    control = png_chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 7, 9, 0, 0, 1, 10, 0, 0))
    (tmp_path / "photo.png").write_bytes(data[:33] + control + frame + data[33:])
    photo, written, _ = round_trip(tmp_path / "photo.png")
    assert np.array_equal(photo.pixels, pixels)
    assert {name for name, _ in png_chunks(written)} == {b"IHDR", b"IDAT", b"IEND"}


# ------------------------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_tags_are_kept(dtype, big, order, tmp_path):
    extra = [
        (270, 2, None, "Grüße".encode(), True),
        (274, 3, 1, 8, True),
        (305, 2, None, "camera", True),
        (700, 1, len(XMP), XMP, True),
        (33432, 2, None, "nobody", True),
        (34675, 7, len(ICC), ICC, True),
        (65000, 12, 2, (0.1, -2.5), True),
        (65001, 9, 3, (-1, 2, -3), True),
        (65002, 10, 1, (-1, 3), True),
        (37724, 7, 9, b"old layer", True),
    ]
    if big:
        extra += [(65003, 16, 2, (7, 70_000), True), (65004, 16, 1, 2**40, True)]
    pixels = noise(9, 7, 3, dtype=dtype)
    options = {"byteorder": order, "bigtiff": big, "resolution": (300, 150.5), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "photo.tif", pixels, photometric="rgb", metadata=None, extratags=extra, **options)
    _, written, again = round_trip(tmp_path / "photo.tif")
    assert np.array_equal(again.pixels, pixels)
    with tifffile.TiffFile(tmp_path / "photo.tif") as source, tifffile.TiffFile(written) as result:
        tags = {tag.code: tag.value for tag in source.pages[0].tags if tag.code not in (273, 278, 279, 339, 37724)}
        found = {tag.code: tag.value for tag in result.pages[0].tags}
        assert {code: found.get(code) for code in tags} == tags
        assert set(found) - set(tags) <= {273, 278, 279}
        types = {tag.code: tag.dtype for tag in result.pages[0].tags}
        assert types.get(65003, 4) == 4
    with Image.open(written) as image:
        assert image.info["icc_profile"] == ICC
        assert image.getexif()[274] == 8


def tiff_directory(order, position, *entries):
    """Entries of number, type, count and content as the bytes of a directory that lies at ``position``."""
    head, tail = struct.pack(f"{order}H", len(entries)), b""
    for number, kind, count, content in entries:
        if len(content) > 4:
            place = position + 2 + 12 * len(entries) + 4 + len(tail)
            tail += content + bytes(len(content) % 2)
            content = struct.pack(f"{order}I", place)
        head += struct.pack(f"{order}HHI", number, kind, count) + content.ljust(4, b"\0")
    return head + bytes(4) + tail


@pytest.mark.parametrize("order", ["<", ">"])
def test_directories_inside_tiff_tags_are_kept(order, tmp_path):
    def pack(layout, *values):
        return struct.pack(order + layout, *values)

    pixels, at = noise(4, 5), 1000
    interoperability = tiff_directory(order, 900, (1, 2, 4, b"R98\0"))
    exif = tiff_directory(
        *(order, 600, (0x829A, 5, 1, pack("2I", 1, 30)), (0x9003, 2, 20, b"2024:05:06 07:08:09\0")),
        *((0x9204, 10, 1, pack("2i", -1, 3)), (0x927C, 7, 11, b"maker note\xff"), (0xA005, 4, 1, pack("I", 900))),
    )
    position = tiff_directory(order, 800, (1, 2, 2, b"N\0"), (2, 5, 3, pack("6I", 48, 1, 8, 1, 305, 10)))
    tags = tiff_directory(
        *(order, 8, (256, 3, 1, pack("H", 5)), (257, 3, 1, pack("H", 4)), (258, 3, 1, pack("H", 8))),
        *((259, 3, 1, pack("H", 1)), (262, 3, 1, pack("H", 1)), (273, 4, 1, pack("I", at)), (277, 3, 1, pack("H", 1))),
        *((278, 3, 1, pack("H", 4)), (279, 4, 1, pack("I", 20)), (0x8769, 4, 1, pack("I", 600))),
        *((0x8825, 4, 1, pack("I", 800)),),
    )
    data = ({"<": b"II*\0", ">": b"MM\0*"}[order] + pack("I", 8) + tags).ljust(600, b"\0") + exif
    data = (data.ljust(800, b"\0") + position).ljust(900, b"\0") + interoperability
    (tmp_path / "photo.tif").write_bytes(data.ljust(at, b"\0") + pixels.tobytes())
    _, written, again = round_trip(tmp_path / "photo.tif")
    assert np.array_equal(again.pixels, pixels)
    with Image.open(tmp_path / "photo.tif") as source, Image.open(written) as result:
        for pointer, count in ((0x8769, 5), (0x8825, 2), (0xA005, 1)):
            expected, found = (dict(image.getexif().get_ifd(pointer)) for image in (source, result))
            assert len(expected) == count
            for values in (expected, found):
                values.pop(0xA005, None)  # where the directory lies
            assert found == expected
    assert encode_photo(again, tmp_path / "third.tif").read_bytes() == written.read_bytes()


def test_thumbnail_page_is_not_counted_and_left_out(tmp_path):
    pixels = noise(32, 48, 3)
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(pixels, photometric="rgb", metadata=None)
        file.write(pixels[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
    photo, written, _ = round_trip(tmp_path / "photo.tif")
    assert np.array_equal(photo.pixels, pixels)
    with Image.open(written) as image:
        assert image.n_frames == 1


# ------------------------------------------------------------------------------------------------- AVIF


def avif_coding(path):
    """The bits for monochrome and for the chroma sampling."""
    data = path.read_bytes()
    return data[data.index(b"av1C") + 6] & 0b11100


@needs_avif
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_avif_keeps_its_sampling_and_mode(mode, sampling, tmp_path):
    path = saved(tmp_path / "photo.avif", noise(20, 30, 4), mode, subsampling="4:0:0" if mode == "L" else sampling)
    photo, written, again = round_trip(path)
    assert avif_coding(written) == avif_coding(path)
    assert again.pixels.shape == photo.pixels.shape
    assert again.container == photo.container


@needs_avif
def test_avif_keeps_its_colour_description(tmp_path):
    path = saved(tmp_path / "photo.avif", smooth())
    data = path.read_bytes()
    at = data.index(b"colrnclx") + 8
    wide = struct.pack(">HH", 12, 16)  # the primaries of P3, the transfer function of HDR displays
    assert data[at : at + 4] != wide
    path.write_bytes(data[:at] + wide + data[at + 4 :])
    _, written, _ = round_trip(path)
    assert b"colrnclx" + wide in written.read_bytes()
    with Image.open(written) as image:
        assert np.abs(np.asarray(image).astype(int) - smooth()).max() <= 12


@needs_avif
def test_loss_of_bits_is_noted(tmp_path):
    try:
        done = cv2.imwrite(
            str(tmp_path / "deep.avif"), noise(16, 16, 3, dtype=np.uint16) >> 6, [cv2.IMWRITE_AVIF_DEPTH, 10]
        )
    except cv2.error:
        done = False
    if not done:
        pytest.skip("this OpenCV writes no AVIF")
    assert decode_photo(tmp_path / "deep.avif").notes == ("10 bits per channel became 8",)


def test_photos_of_the_reference_data_come_back_exactly(shared, tmp_path):
    paths = sorted((shared / "data" / "lol_v1" / "eval15" / "low").glob("*.png"))[:3]
    assert paths
    for path in paths:
        photo = decode_photo(path)
        written = encode_photo(photo, tmp_path / path.name)
        with Image.open(path) as source, Image.open(written) as result:
            assert np.array_equal(np.asarray(source), np.asarray(result))
            assert len(list(ImageSequence.Iterator(result))) == 1


def test_a_damaged_type_of_a_tiff_tag_is_no_number_that_cannot_be_written(tmp_path):
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, np.zeros((4, 5, 4), np.uint8), photometric="rgb", bigtiff=True, extrasamples=["unassalpha"])
    content = path.read_bytes()
    of_extra_samples = struct.pack("<HHQQ", 338, 3, 1, 2)
    assert content.count(of_extra_samples) == 1
    path.write_bytes(content.replace(of_extra_samples, struct.pack("<HHQQ", 338, 16, 1, 2**48)))
    with pytest.raises(PhotoError, match="list of tags is damaged"):
        decode_photo(path)
