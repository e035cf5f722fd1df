"""A file of every kind of photo, made here: as cameras, phones, browsers and scanners write them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, features

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description rating="5"/></x:xmpmeta>'
SIZE = (96, 72)
DURATIONS = (40, 80, 120)  # ms
HAS_AVIF, HAS_HEIC, HAS_RAW = features.check("avif"), bool(find_spec("pillow_heif")), bool(find_spec("rawpy"))


class Case(NamedTuple):
    """A file of one kind.

    Attributes:
        kind: in words, for the table.
        name: of the file.
        make: returns its content.
        refused: pattern of the message with which it is refused; empty if it is enhanced.
        needs: what has to be installed, in words; empty if it is.
    """

    kind: str
    name: str
    make: Callable[[], bytes]
    refused: str = ""
    needs: str = ""


@cache
def scene(channels: int = 3, depth: int = 8, shift: int = 0) -> np.ndarray:
    """A dark scene: slopes, a lamp, and some noise; uint8 or uint16."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float64)
    x = (x + shift) % SIZE[0]
    light = 0.05 + 0.1 * x / SIZE[0] + 0.05 * np.sin(y / 7)
    light += 0.7 * np.exp(-((x - 70) ** 2 + (y - 20) ** 2) / 40)
    colours = [light * gain for gain in (1.0, 0.9, 0.7)]
    photo = np.stack([*colours, np.where(y > 8, 1.0, 0.0)], axis=-1)
    photo += np.random.default_rng(shift).normal(0, 0.004, photo.shape) * [1, 1, 1, 0]
    selected = {1: photo[..., 0], 2: photo[..., [0, 3]], 3: photo[..., :3], 4: photo}[channels]
    return np.rint(selected.clip(0, 1) * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def exif() -> bytes:
    block = Image.Exif()
    block[0x010F], block[0x0132] = "Camera", "2024:05:06 07:08:09"
    return block.tobytes()


def saved(form: str, pixels: np.ndarray | None = None, mode: str | None = None, **options: object) -> bytes:
    image = Image.fromarray(scene() if pixels is None else pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def tagged(form: str, pixels: np.ndarray | None = None, mode: str | None = None, **options: object) -> bytes:
    """As :func:`saved`, with EXIF and XMP data and a profile."""
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return saved(form, pixels, mode, exif=exif(), icc_profile=ICC, pnginfo=text, **options)
    if form == "TIFF":
        return saved(
            form, pixels, mode, tiffinfo={271: "Camera", 306: "2024:05:06 07:08:09", 700: XMP}, icc_profile=ICC
        )
    return saved(form, pixels, mode, exif=exif(), icc_profile=ICC, xmp=XMP, **options)


def animated(form: str, channels: int = 3, **options: object) -> bytes:
    frames = [Image.fromarray(scene(channels, shift=9 * number)) for number in range(3)]
    stream = io.BytesIO()
    common = {"save_all": True, "append_images": frames[1:], "duration": list(DURATIONS)}
    frames[0].save(stream, form, **common, **options)
    return stream.getvalue()


def jpeg_with(*segments: tuple[int, bytes], behind: bytes = b"") -> bytes:
    data = saved("JPEG", quality=90)
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return data[:20] + extra + data[20:] + behind


MOTION_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"
 GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" GCamera:MotionPhotoPresentationTimestampUs="500000">
<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg"
 Item:Semantic="Primary"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4"
 Item:Semantic="MotionPhoto" Item:Length="5000"/></rdf:li></rdf:Seq></Container:Directory>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
ULTRA_HDR_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5" hdrgm:Version="1.0">
<hdrgm:GainMapMax><rdf:Seq><rdf:li>2.5</rdf:li><rdf:li>2.5</rdf:li></rdf:Seq></hdrgm:GainMapMax>
<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"
 Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap"
 Item:Mime="image/jpeg" Item:Length="3000"/></rdf:li></rdf:Seq></Container:Directory>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
_XAP = b"http://ns.adobe.com/xap/1.0/\0"


def deep_jpeg(pixels: np.ndarray, sampling: int) -> bytes:
    """A JPEG of 12 bits per channel, of flat squares (ITU T.81).

    Args:
        pixels: H×W (grey) or H×W×3, up to 4095. The means of squares of 8 pixels times ``sampling`` are written.
        sampling: samples of luma for one of the colour differences, across and down, 1 or 2; 1 for grey.
    """
    side = 8 * sampling
    height, width = (length // side * side for length in pixels.shape[:2])
    squares = pixels[:height, :width].reshape(height // side, side, width // side, side, -1).mean((1, 3))
    if squares.shape[2] == 3:
        luma = squares @ [0.299, 0.587, 0.114]
        blue, red = (squares[..., 2] - luma) / 1.772 + 2048, (squares[..., 0] - luma) / 1.402 + 2048
        squares = np.stack([luma, blue, red], axis=-1)
    channels = squares.shape[2]
    blocks = [sampling**2 if c == 0 and channels == 3 else 1 for c in range(channels)]  # of each channel in a square
    bits, last = [], [0] * channels
    for square in np.rint(8 * (squares.reshape(-1, channels) - 2048)).astype(int).tolist():
        for channel, level in enumerate(square):
            for _ in range(blocks[channel]):
                step, last[channel] = level - last[channel], level
                size = abs(step).bit_length()
                low = step if step >= 0 else step + 2**size - 1
                bits.append(f"{size:05b}" + (f"{low:0{size}b}" if size else "") + "0")  # and no other coefficients
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    corner = 16 * sampling + sampling if channels == 3 else 0x11
    frame = b"".join(bytes([c + 1, corner if c == 0 else 0x11, 0]) for c in range(channels))
    steps = bytes([0]) + bytes(4) + bytes([16]) + bytes(11) + bytes(range(16))  # sixteen codes of 5 bits
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xE0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, 0, 1, 1, 0, 0)),
            segment(0xDB, bytes([0]) + bytes([1] * 64)),
            segment(0xC1, struct.pack(">BHHB", 12, height, width, channels) + frame),
            segment(0xC4, steps),
            segment(0xC4, bytes([0x10, 1]) + bytes(15) + bytes([0])),
            segment(0xDA, bytes([channels, *(b for c in range(channels) for b in (c + 1, 0)), 0, 63, 0])),
            scan + b"\xff\xd9",
        ]
    )


def motion_photo() -> bytes:
    return jpeg_with((0xE1, _XAP + MOTION_XMP), behind=b"\0\0\0\x18ftypmp42" + bytes(4988))


def ultra_hdr() -> bytes:
    data, content = animated("MPO"), _XAP + ULTRA_HDR_XMP  # before the index, which counts from its own place
    return data[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(content) + 2) + content + data[2:]


def photoshop_resources(thumbnail: bytes) -> bytes:
    def resource(number: int, content: bytes) -> bytes:
        return (
            b"8BIM"
            + struct.pack(">H", number)
            + b"\0\0"
            + struct.pack(">I", len(content))
            + content
            + bytes(len(content) % 2)
        )

    return (
        resource(1005, bytes(16))
        + resource(1036, struct.pack(">6I2H", 1, 8, 8, 24, 192, 99, 24, 1) + thumbnail)
        + (resource(1028, b"IPTC!"))
    )


def photoshop_jpeg() -> bytes:
    return jpeg_with((0xED, b"Photoshop 3.0\0" + photoshop_resources(saved("JPEG"))))


def with_frame_marker(marker: int, precision: int = 8) -> bytes:
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, precision
    return bytes(data)


def bmp(bits: int, masks: tuple[int, int, int], header: int = 40, icc: bytes = b"") -> bytes:
    """A BMP file with masks, or of version 5 with a profile."""
    width, height = SIZE
    levels = scene().astype(np.uint64)
    packed = np.zeros((height, width), np.uint64)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        packed |= (levels[..., channel] * (mask >> shift) + 127) // 255 << np.uint64(shift)
    rows = packed[::-1].astype("<u2" if bits == 16 else "<u4").tobytes()
    head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, 3, len(rows), 2835, 2835, 0, 0)
    head += struct.pack("<3I", *masks)
    if header == 124:
        head += struct.pack("<I4s", 0, b"DEBM") + bytes(48) + struct.pack("<4I", 4, 124 + len(rows), len(icc), 0)
    size = 14 + len(head) + len(rows) + len(icc)
    return struct.pack("<2sIII", b"BM", size, 0, 14 + len(head)) + head + rows + icc


def bmp_version_5() -> bytes:
    plain = saved("BMP")
    width, height = SIZE
    rows = plain[54:]
    head = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(rows), 2835, 2835, 0, 0) + bytes(16)
    head += b"DEBM" + bytes(48) + struct.pack("<4I", 4, 124 + len(rows), len(ICC), 0)
    return struct.pack("<2sIII", b"BM", 14 + 124 + len(rows) + len(ICC), 0, 14 + 124) + head + rows + ICC


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    photometric = "rgb" if pixels.ndim == 3 and pixels.shape[2] in (3, 4) else "minisblack"
    tifffile.imwrite(stream, pixels, **{"photometric": photometric, "metadata": None, **options})
    return stream.getvalue()


def tiff_pages() -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(scene(), photometric="rgb", metadata=None)
        file.write(scene(1, 16)[:50], photometric="minisblack", metadata=None, compression="zlib")
        file.write(scene(shift=9)[:, :40], photometric="rgb", metadata=None)
    return stream.getvalue()


def tiff_by_hand(
    bits: int, compression: int, strip: bytes, *, photometric: int = 2, extra: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """A TIFF file with a single strip, whose directory comes last and has no pointer to a next one."""
    channels = 3 if photometric in (2, 6) else 1
    position = 8 + len(strip) + len(strip) % 2
    numbers = {256: SIZE[0], 257: SIZE[1], 258: bits, 259: compression, 262: photometric, 273: 8, 277: channels}
    numbers |= {278: SIZE[1], 279: len(strip), **dict(extra)}
    entries = b""
    for number, value in sorted(numbers.items()):
        if number == 258 and channels == 3:
            at = position + 2 + 12 * len(numbers)
            entries += struct.pack("<HHII", number, 3, 3, 8 if compression == 6 else at - 6)
        else:
            entries += struct.pack("<HHII", number, 4, 1, value)
    return (
        struct.pack("<2sHI", b"II", 42, position)
        + strip.ljust(position - 8, b"\0")
        + (struct.pack("<H", len(numbers)) + entries)
    )


def packed_bits(bits: int) -> bytes:
    """Grey samples of some bits, one behind the other, each row beginning with a byte."""
    levels = scene(1, 16) >> (16 - bits)
    ones = (levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(levels), -1).astype(np.uint8), axis=1).tobytes()


def tiff_without_next() -> bytes:
    return tiff_by_hand(8, 1, scene(1).tobytes(), photometric=1)


def tiff_old_jpeg() -> bytes:
    photo = saved("JPEG", scene(1), quality=95)
    return tiff_by_hand(8, 6, photo, photometric=1, extra=((512, 1), (513, 8), (514, len(photo))))


def deep_png() -> bytes:
    return cv2.imencode(".png", scene(depth=16)[..., ::-1])[1].tobytes()


def deep_avif() -> bytes:
    ok, data = cv2.imencode(".avif", scene(depth=16)[..., ::-1] >> 6, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert ok
    return data.tobytes()


def huge_avif() -> bytes:
    data = bytearray(saved("AVIF"))
    at = data.index(b"ispe")
    data[at + 8 : at + 16] = struct.pack(">II", 40_000, 100)
    return bytes(data)


def heic(channels: int = 3, depth: int = 8, brand: bytes = b"", **options: object) -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + ("" if depth == 8 else ";16")
    pixels = scene(channels, 8 if depth == 8 else 16)
    described = {"exif": exif(), "xmp": XMP, "icc_profile": ICC, "quality": 95, "chroma": 444, **options}
    pillow_heif.encode(mode, SIZE, pixels.tobytes(), stream, bit_depth=depth, **described)
    data = stream.getvalue()
    return data if not brand else data[:8] + brand + data[12:]


# What a camera's sensor of 14 bits sees of a scene with 12 stops, from a lamp down to shadows below one level of 255.
DNG_BLACK, DNG_WHITE = 256, 16_383


def linear_scene(height: int = 160, width: int = 240) -> np.ndarray:
    """Light on a sensor, H×W×3 in [0, 1]: fine stripes in deep shadows, a slope, and a lamp."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    light = 2.0 ** (-13 + 7 * x / width)
    light *= np.where((y // 8).astype(int) % 2 == 0, 1.0, 1.25)
    light += np.exp(-((x - 0.85 * width) ** 2 + (y - 0.2 * height) ** 2) / (2 * (width / 30) ** 2))
    return np.stack([light, light, light], axis=-1).clip(0, 1)


def dng(light: np.ndarray | None = None, *, orientation: int = 1) -> bytes:
    """A raw file as a camera writes it: one colour at each pixel, linear, 14 bits, with metadata."""
    light = linear_scene() if light is None else light
    levels = np.rint(DNG_BLACK + light * (DNG_WHITE - DNG_BLACK)).astype(np.uint16)
    mosaic = levels[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = levels[::2, ::2, 0], levels[1::2, 1::2, 2]
    # From XYZ to the camera's colours, here those of sRGB, in ten thousandths.
    matrix = [32405, -15372, -4985, -9693, 18760, 416, 556, -2040, 10572]
    extra = [
        (271, 2, None, "Camera", True), (272, 2, None, "Camera One", True), (306, 2, None, "2024:05:06 07:08:09", True),
        (274, 3, 1, orientation, True), (33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50706, 1, 4, bytes([1, 4, 0, 0]), True), (50707, 1, 4, bytes([1, 1, 0, 0]), True),
        (50708, 2, None, "Camera One", True), (50714, 3, 1, DNG_BLACK, True), (50717, 3, 1, DNG_WHITE, True),
        (50721, 10, 9, tuple(number for value in matrix for number in (value, 10_000)), True),
        (50728, 5, 3, (1, 1, 1, 1, 1, 1), True), (50778, 3, 1, 21, True),
    ]  # fmt: skip
    return tiff(mosaic, photometric=32803, extratags=extra)


def dng_with_exif() -> bytes:
    """The same with a directory of EXIF data, as every camera writes it."""
    data = dng()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.byteorder == "<"
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    entries = [data[first + 2 + 12 * k : first + 14 + 12 * k] for k in range(count)]
    data += bytes(len(data) % 2)
    exif_at = len(data)
    data += struct.pack("<HHHIHHI", 1, 0x8827, 3, 1, 3200, 0, 0)  # ISO 3200
    entries.append(struct.pack("<HHII", 0x8769, 4, 1, exif_at))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    at = len(data)
    data += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", at) + data[8:]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _heic_needs() -> str:
    return "" if HAS_HEIC else "pillow-heif"


def _raw_needs() -> str:
    return "" if HAS_RAW else "rawpy"


def cases() -> list[Case]:
    """Return a case of each kind, those that are refused last."""
    avif = "" if HAS_AVIF else "a Pillow with AVIF"
    heif, raw = _heic_needs(), _raw_needs()
    return [
        Case("JPEG", "photo.jpg", lambda: tagged("JPEG", quality=90)),
        Case("JPEG, progressive", "progressive.jpeg", lambda: tagged("JPEG", quality=90, progressive=True)),
        Case("JPEG, grey", "grey.jpg", lambda: tagged("JPEG", scene(1), quality=90)),
        Case("JPEG, CMYK", "print.jpg", lambda: saved("JPEG", mode="CMYK", quality=95)),
        Case("JPEG under the name .jfif", "browser.jfif", lambda: tagged("JPEG", quality=90)),
        Case("JPEG under the name .jpe", "old.jpe", lambda: tagged("JPEG", quality=90)),
        Case("JPEG with further pictures (MPO)", "phone.jpg", lambda: animated("MPO")),
        Case("JPEG with a video (motion photo)", "motion.jpg", motion_photo),
        Case("JPEG with a gain map (Ultra HDR)", "ultra.jpg", ultra_hdr),
        Case("JPEG, 12 bits", "medical.jpg", lambda: deep_jpeg(scene(depth=16) >> 4, 1)),
        Case("JPEG with Photoshop's thumbnail", "edited.jpg", photoshop_jpeg),
        Case("PNG", "photo.png", lambda: tagged("PNG")),
        Case("PNG with alpha", "cut.png", lambda: tagged("PNG", scene(4))),
        Case("PNG, grey", "grey.png", lambda: tagged("PNG", scene(1))),
        Case("PNG with a palette", "palette.png", lambda: saved("PNG", mode="P")),
        Case("PNG, 16 bits", "deep.png", deep_png),
        Case("PNG, animated (APNG)", "moving.png", lambda: animated("PNG", 4)),
        Case("WebP, lossy", "photo.webp", lambda: tagged("WEBP", quality=90)),
        Case("WebP, lossless, with alpha", "cut.webp", lambda: tagged("WEBP", scene(4), lossless=True)),
        Case("WebP, animated", "moving.webp", lambda: animated("WEBP", lossless=True)),
        Case("AVIF", "photo.avif", lambda: tagged("AVIF", quality=90), needs=avif),
        Case("AVIF with alpha", "cut.avif", lambda: tagged("AVIF", scene(4), quality=90), needs=avif),
        Case("AVIF, 10 bits", "deep.avif", deep_avif, needs=avif),
        Case("AVIF, animated", "moving.avif", lambda: animated("AVIF", quality=90), needs=avif),
        Case("GIF", "still.gif", lambda: saved("GIF", mode="P")),
        Case("GIF, animated", "moving.gif", lambda: animated("GIF", loop=0)),
        Case("GIF, animated, transparent", "sticker.gif", lambda: animated("GIF", 4, loop=0, disposal=2)),
        Case("BMP", "photo.bmp", lambda: saved("BMP")),
        Case("BMP, 16 bits a pixel in masks", "packed.bmp", lambda: bmp(16, (0xF800, 0x7E0, 0x1F))),
        Case("BMP, 10 bits per channel in masks", "ten.bmp", lambda: bmp(32, (0x3FF00000, 0xFFC00, 0x3FF))),
        Case("BMP with a profile (version 5)", "profile.bmp", bmp_version_5),
        Case("TIFF", "photo.tif", lambda: tagged("TIFF")),
        Case("TIFF, 16 bits, with alpha", "deep.tif", lambda: tiff(scene(4, 16), extrasamples=["unassalpha"])),
        Case("TIFF, LZW", "lzw.tif", lambda: saved("TIFF", compression="tiff_lzw")),
        Case("TIFF, JPEG", "jpeg.tif", lambda: saved("TIFF", compression="jpeg")),
        Case("TIFF, old-style JPEG", "scan.tif", tiff_old_jpeg),
        Case("TIFF, CMYK", "print.tif", lambda: saved("TIFF", mode="CMYK")),
        Case("TIFF, 12 bits", "camera.tif", lambda: tiff_by_hand(12, 1, packed_bits(12), photometric=1)),
        Case("TIFF, 32-bit integers", "wide.tif", lambda: tiff(scene(depth=16).astype(np.uint32) * 65537)),
        Case("TIFF, float16", "half.tif", lambda: tiff((scene(depth=16) / 65535).astype(np.float16))),
        Case(
            "TIFF, float32", "float.tif", lambda: tiff((scene(depth=16) / 65535).astype(np.float32), compression="zlib")
        ),
        Case("TIFF, float64", "double.tif", lambda: tiff(scene(1, 16) / 65535)),
        Case("TIFF with pages", "document.tif", tiff_pages),
        Case("TIFF without a pointer to a next page", "single.tif", tiff_without_next),
        Case("BigTIFF", "big.tif", lambda: tiff(scene(), bigtiff=True)),
        Case("PBM, as text", "bits.pbm", lambda: b"P1\n# dark\n4 2\n0 1 1 0\n1001\n"),
        Case("PGM, as text", "text.pgm", lambda: b"P2 3 2 255\n10 20 30\n# half\n40 50 60\n"),
        Case("PGM", "grey.pgm", lambda: b"P5\n%d %d\n255\n" % SIZE + scene(1).tobytes()),
        Case("PPM", "photo.ppm", lambda: b"P6\n# a dark photo\n%d %d\n255\n" % SIZE + scene().tobytes()),
        Case(
            *("PPM, 12 bits", "deep.ppm"),
            lambda: b"P6\n%d %d\n4095\n" % SIZE + (scene(depth=16) >> 4).astype(">u2").tobytes(),
        ),
        Case("HEIC", "phone.heic", heic, needs=heif),
        Case("HEIC, 10 bits", "camera.hif", lambda: heic(depth=10), needs=heif),
        Case("HEIC with alpha", "cut.heic", lambda: heic(4), needs=heif),
        Case("HEIC, grey", "grey.heif", lambda: heic(1), needs=heif),
        Case("HEIC whose first brand is mif1", "general.heic", lambda: heic(brand=b"mif1"), needs=heif),
        Case("raw (DNG)", "night.dng", dng_with_exif, needs=raw),
        Case("JPEG, lossless", "exact.jpg", lambda: with_frame_marker(0xC3), "lossless JPEG is not supported"),
        Case(
            *("TIFF, JPEG 2000", "map.tif"),
            lambda: tiff_by_hand(8, 34712, b"\0" * 99, photometric=1),
            "JPEG 2000 in TIFF is not supported",
        ),
        Case(
            *("TIFF with six channels", "bands.tif"),
            lambda: tiff(np.zeros((9, 9, 6), np.uint8), photometric="rgb", planarconfig="contig"),
            "6 channels are not supported",
        ),
        Case("AVIF beyond the decoder's limit", "large.avif", huge_avif, "too many for an AVIF decoder", avif),
        Case(
            *("BMP that holds a PNG", "printer.bmp"),
            lambda: (data := saved("BMP"))[:30] + struct.pack("<I", 5) + data[34:],
            "contains a PNG file is not supported",
        ),
        Case("truncated JPEG", "half.jpg", lambda: truncated(saved("JPEG")), "truncated"),
        Case("truncated HEIC", "half.heic", lambda: truncated(heic()), "truncated", heif),
        Case("truncated raw", "half.dng", lambda: truncated(dng()), "truncated", raw),
        Case("no photo", "letter.jpg", lambda: b"%PDF-1.7 " * 9, "not a photo in a known format"),
        Case("video", "clip.heic", lambda: b"\0\0\0\x18ftypisom" + bytes(99), "kdlib video"),
    ]
