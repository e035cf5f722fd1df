"""Kinds of photos beyond the plain ones: each is enhanced, or refused for what it is; nothing stale is written."""

import dataclasses
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import enhance_photo, plan
from kdlib.enhance.folders.others import in_words, passed_over
from kdlib.enhance.photos import kinds
from kdlib.enhance.photos.convert import converted
from kdlib.enhance.photos.formats import photoshop, xmp
from kdlib.enhance.photos.paths import PhotoError
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo
from tests import photo_corpus as corpus
from tests.photo_kinds import ROOT, counts, run, with_table

needs_heic = pytest.mark.skipif(not corpus.HAS_HEIC, reason="pillow-heif is not installed")
needs_raw = pytest.mark.skipif(not corpus.HAS_RAW, reason="rawpy is not installed")
needs_avif = pytest.mark.skipif(not corpus.HAS_AVIF, reason="this Pillow was built without AVIF")


def file(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def there_and_back(path):
    photo = decode_photo(path)
    return photo, decode_photo(encode_photo(photo, path.with_name(f"again{path.suffix}")))


def kdlib(*arguments):
    return CliRunner().invoke(app, ["enhance", *map(str, arguments)], env={"COLUMNS": "300"})


# ------------------------------------------------------------------------------------------------- the table


def test_every_kind_is_enhanced_or_truly_refused_as_the_page_says(tmp_path):
    chosen = [case for case in corpus.cases() if not case.needs]
    rows = run(chosen, tmp_path)
    found = counts(rows)
    assert found["refused wrongly"] == found["enhanced wrongly"] == found["wrong result"] == 0, rows
    stored = json.loads((ROOT / "results" / "photo_kinds.json").read_text(encoding="utf-8"))
    of_kind = {row["kind"]: row for row in stored["rows"]}
    assert [row["kind"] for row in stored["rows"]] == [case.kind for case in corpus.cases()]
    assert {row["kind"]: row for row in rows} == {case.kind: of_kind[case.kind] for case in chosen}
    assert stored["counts"] == counts(stored["rows"])
    page = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")
    assert with_table(page, "photos", stored) == page


def test_every_format_has_a_case():
    formats = {kinds.format_of(Path(case.name)) for case in corpus.cases()}
    assert formats >= set(kinds.FORMATS)


# ------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF", ".pgm", ".ppm"])
def test_a_folder_gives_photos_of_rare_extensions(suffix, tmp_path):
    (tmp_path / "album").mkdir()
    file(tmp_path / "album", f"photo{suffix}", b"")
    assert [job.target.name for job in plan([tmp_path / "album"], tmp_path / "out")] == [f"photo{suffix}"]


def test_a_name_with_jfif_is_one_of_a_jpeg(tmp_path):
    source = file(tmp_path, "photo.jfif", corpus.saved("JPEG"))
    assert plan([source], tmp_path / "out.jfif")[0].target == tmp_path / "out.jfif"
    assert plan([source], tmp_path / "out.jpg")[0].target == tmp_path / "out.jpg"


@pytest.fixture
def without_extras(monkeypatch):
    """As if neither pillow-heif nor rawpy were installed."""
    with monkeypatch.context() as patch:
        patch.setattr(kinds, "find_spec", lambda _: None)
        kinds.installed.cache_clear()
        yield
    kinds.installed.cache_clear()


@pytest.mark.usefixtures("without_extras")
def test_what_is_passed_over_is_counted_and_named_by_kind(tmp_path):
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.heic", "c.heic", "d.nef", "e.mp4", "f.txt", "deep/g.jxl", ".hidden.heic"):
        file(folder, name, corpus.saved("JPEG") if name == "a.jpg" else b"x")
    assert dict(passed_over([folder], None)) == {
        "HEIC: pip install 'kdlib[heic]' reads them, whose wheels are under the GPLv2": 2,
        "raw (.nef): pip install 'kdlib[raw]' reads them": 1,
        "video: kdlib video enhances them": 1,
        ".txt": 1,
    }
    assert passed_over([folder], None, recursive=True)["JPEG XL"] == 1
    result = kdlib(folder, "-o", tmp_path / "out", "--model", "student-565")
    assert result.exit_code == 0
    assert "1 enhanced" in result.stdout
    assert "5 files passed over (2 × HEIC: pip install 'kdlib[heic]' reads them" in result.stdout
    (folder / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"no photos found; 5 files passed over .*1 × raw"):
        plan([folder], tmp_path / "out2")
    assert in_words(passed_over([tmp_path / "out"], None)) == ""


def test_files_of_earlier_results_are_not_passed_over(tmp_path):
    file(tmp_path, "a.txt", b"x")
    (tmp_path / "out").mkdir()
    file(tmp_path / "out", "report.txt", b"x")
    assert passed_over([tmp_path], tmp_path / "out", recursive=True).total() == 1


def test_a_photo_that_needs_an_extra_names_it_and_its_terms(tmp_path):
    code = (
        "import sys; sys.modules['pillow_heif'] = sys.modules['rawpy'] = None\n"
        "from kdlib.enhance.photos.photo_file import decode_photo\n"
        "for path in sys.argv[1:]:\n"
        "    try: decode_photo(path)\n"
        "    except ValueError as error: print(error)\n"
    )
    paths = [file(tmp_path, "a.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), file(tmp_path, "b.dng", corpus.dng())]
    said = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    heic, raw = said.stdout.splitlines()
    assert heic == (
        f"{paths[0]}: a HEIC photo needs pillow-heif, which is not installed: pip install 'kdlib[heic]' "
        "(its wheels are under the GPLv2)"
    )
    assert raw == f"{paths[1]}: a raw photo needs rawpy, which is not installed: pip install 'kdlib[raw]'"


@pytest.mark.parametrize(
    ("brands", "is_heic"),
    [
        (b"heic\0\0\0\0mif1heic", True), (b"mif1\0\0\0\0mif1heic", True), (b"msf1\0\0\0\0msf1hevc", True),
        (b"mif1\0\0\0\0mif1heixMiHB", True), (b"mif1\0\0\0\0mif1avifmiaf", False), (b"avis\0\0\0\0msf1avis", False),
    ],
)  # fmt: skip
def test_brands_tell_heic_from_avif(brands, is_heic, tmp_path):
    from kdlib.enhance.photos.photo_file import _format

    path = file(tmp_path, "photo", struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(60))
    assert _format(path) == ("HEIC" if is_heic else "AVIF")


def test_format_and_quality_of_results(tmp_path):
    source = file(tmp_path, "photo.png", corpus.tagged("PNG", corpus.scene(4)))
    for name, start in (("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("tiff", b"II*\0"), ("ppm", b"P6"), ("bmp", b"BM")):
        result = kdlib(source, "-o", tmp_path / name, "--format", name, "--model", "student-565")
        assert result.exit_code == 0, result.stdout
        (written,) = [path for path in (tmp_path / name).iterdir() if not path.name.startswith(".")]
        assert written.read_bytes().startswith(start)
    with Image.open(tmp_path / "jpeg" / "photo.jpg") as image:
        assert image.getexif()[271] == "Camera"
        assert (image.info["icc_profile"], image.info["xmp"]) == (corpus.ICC, corpus.XMP)
    low = kdlib(source, "-o", tmp_path / "low.jpg", "--format", "jpeg", "--quality", "20", "--model", "student-565")
    assert low.exit_code == 0
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "jpeg" / "photo.jpg").stat().st_size
    refused = kdlib(source, "-o", tmp_path / "no.jpg")
    assert "photo.png stays a png file; name the result no.png, or add --format jpeg" in " ".join(
        refused.output.split()
    )


def test_a_photo_in_two_formats_has_two_results(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for name, form in (("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("b.png", "PNG"), ("c.jpeg", "JPEG")):
        file(folder, name, corpus.saved(form))
    result = kdlib(folder, "-o", tmp_path / "out", "--format", "jpeg", "--model", "student-565")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()} - {".kdlib.json"}
    assert names == {"a.JPG", "a_png.jpg", "a_webp.jpg", "b.jpg", "c.jpeg"}
    assert {decode_photo(tmp_path / "out" / name).format for name in names} == {"JPEG"}
    again = kdlib(folder, "-o", tmp_path / "out", "--format", "jpeg", "--model", "student-565", "--resume")
    assert "0 enhanced, 5 kept" in again.output
    [pair] = [job for job in plan([folder], folder, suffix="_x", wanted="PNG") if job.source.name == "a.webp"]
    assert pair.target.name == "a_webp_x.png"
    files = [folder / "a.png", folder / "a.JPG"]
    assert [job.target.name for job in plan(files, tmp_path / "out", wanted="JPEG")] == ["a_png.jpg", "a.JPG"]
    file(folder, "a_png.jpg", corpus.saved("JPEG"))
    with pytest.raises(ValueError, match=r"a\.png and .*a_png\.jpg would both be written to"):
        plan([folder], tmp_path / "new", wanted="JPEG")


def test_raw_photos_lie_beside_their_jpegs(tmp_path):
    for name in ("a.dng", "a.jpg", "b.dng", "b.nef", "b.tif"):
        (tmp_path / name).touch()

    def names(wanted=None):
        return [job.target.name for job in plan([tmp_path], tmp_path / "out", wanted=wanted)]

    assert names() == ["a.tif", "a.jpg", "b_dng.tif", "b_nef.tif", "b.tif"]
    assert names("JPEG") == ["a_dng.jpg", "a.jpg", "b_dng.jpg", "b_nef.jpg", "b_tif.jpg"]


@pytest.mark.parametrize("wanted", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_a_format_that_has_metadata_gets_those_of_any_other(wanted, tmp_path):
    for form, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
        photo = decode_photo(file(tmp_path, f"photo.{suffix}", corpus.tagged(form)))
        written = encode_photo(converted(photo, wanted), tmp_path / f"out.{wanted.lower()}")
        with Image.open(written) as image:
            image.load()
            assert image.getexif()[271] == "Camera"
            assert image.info["icc_profile"] == corpus.ICC
            assert (image.tag_v2[700] if wanted == "TIFF" else image.info["xmp"]) == corpus.XMP


def test_quality_of_a_jpeg_is_its_own_unless_another_is_wanted(tmp_path):
    photo = decode_photo(file(tmp_path, "photo.jpg", corpus.saved("JPEG", quality=75)))
    with Image.open(encode_photo(converted(photo, None, 40), tmp_path / "forty.jpg")) as image:
        coarse = image.quantization
    with Image.open(io.BytesIO(corpus.saved("JPEG", quality=40))) as image:
        assert coarse == image.quantization
    assert converted(photo) is photo


def test_date_of_modification_is_kept(tmp_path):
    source = file(tmp_path, "photo.png", corpus.saved("PNG"))
    os.utime(source, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    enhance_photo(source, tmp_path / "out.png", Enhancer("student-565", threads=1))
    assert (tmp_path / "out.png").stat().st_mtime_ns == 1_400_000_000_987_654_321


# ------------------------------------------------------------------------------------------------- strength 0


@pytest.mark.parametrize("model", ["grid-960", "glance-650", "student-565"])
def test_strength_0_is_the_photo_unless_denoising_is_asked_for(model, tmp_path):
    photo = corpus.scene()
    assert np.array_equal(Enhancer(model, strength=0)(photo), photo)
    frames = Enhancer(model, strength=0)  # as videos use it
    assert np.array_equal(frames.apply(photo, frames.estimate(photo)), photo)
    if model != "student-565":
        assert not np.array_equal(Enhancer(model, strength=0, denoise=1)(photo), photo)
    path = file(tmp_path, "ultra.jpg", corpus.ultra_hdr())
    result = kdlib(path, "-o", tmp_path / "same.jpg", "--strength", "0", "--model", model)
    assert result.exit_code == 0
    assert (tmp_path / "same.jpg").read_bytes() == path.read_bytes()  # the gain map included, which still holds


def test_strength_0_still_refuses_what_is_no_photo(tmp_path):
    path = file(tmp_path, "half.jpg", corpus.truncated(corpus.saved("JPEG")))
    assert kdlib(path, "-o", tmp_path / "same.jpg", "--strength", "0").exit_code == 1
    assert not (tmp_path / "same.jpg").exists()


# ------------------------------------------------------------------------------------------------- nothing stale


@pytest.mark.parametrize(("data", "gone"), [(corpus.MOTION_XMP, b"MotionPhoto="), (corpus.ULTRA_HDR_XMP, b"GainMap")])
@pytest.mark.parametrize("rename", [False, True])
def test_xmp_announces_nothing_that_was_left_out(data, gone, rename):
    if rename:  # a prefix may be any
        for prefix in (b"GCamera", b"hdrgm", b"Container"):
            data = data.replace(prefix + b":", b"x" + prefix + b":").replace(b"xmlns:" + prefix, b"xmlns:x" + prefix)
    found = xmp.of_picture_alone(data)
    assert gone in data
    assert not any(word in found.data for word in (b"MotionPhoto", b"GainMap", b"Directory", b"Version=", b"Length"))
    assert b'xmp:Rating="5"' in found.data
    ElementTree.fromstring(found.data)  # still well-formed
    assert (found.video, found.gain_map) == (b"MotionPhoto" in data, b"hdr-gain-map" in data)
    assert xmp.of_picture_alone(found.data).data == found.data


def test_xmp_without_attachments_stays_byte_for_byte():
    assert xmp.of_picture_alone(corpus.XMP) == (corpus.XMP, False, False)
    off = b"<x GCamera:MotionPhoto='0' a='b'/>"
    assert xmp.of_picture_alone(off) == (b"<x a='b'/>", False, False)
    thousands = b"<Container:Directory>" * 20_000  # never closed
    assert xmp.of_picture_alone(thousands).data == thousands


@pytest.mark.parametrize(
    ("make", "note"), [(corpus.motion_photo, "short video"), (corpus.ultra_hdr, "gain map for HDR displays")]
)
def test_jpeg_that_had_an_attachment_is_a_plain_photo(make, note, tmp_path):
    path = file(tmp_path, "phone.jpg", make())
    photo, _ = there_and_back(path)
    assert len(photo.notes) == 1
    assert note in photo.notes[0]
    written = (tmp_path / "again.jpg").read_bytes()
    assert not any(word in written for word in (b"MotionPhoto", b"hdrgm:", b"Directory", b"MPF\0", b"ftyp"))
    assert b'xmp:Rating="5"' in written
    assert written.endswith(b"\xff\xd9")


@needs_avif
def test_avif_and_webp_lose_stale_xmp_and_say_so(tmp_path):
    for form, suffix in (("AVIF", "avif"), ("WEBP", "webp")):
        path = file(tmp_path, f"phone.{suffix}", corpus.saved(form, xmp=corpus.ULTRA_HDR_XMP))
        photo, _ = there_and_back(path)
        assert b"hdrgm:" not in (tmp_path / f"again.{suffix}").read_bytes()
        assert bool(photo.notes) == (form == "AVIF")


@needs_avif
def test_gain_map_of_an_avif_is_noted(tmp_path):
    from kdlib.enhance.photos.formats.avif import has_gain_map

    data = corpus.saved("AVIF")
    assert has_gain_map(data[: data.index(b"mdat")] + b"infe" + bytes(8) + b"tmap" + data[data.index(b"mdat") :])
    assert not has_gain_map(data)
    assert not has_gain_map(data + b"tmap")


def test_photoshop_thumbnail_goes_and_other_resources_stay(tmp_path):
    thumbnail = corpus.saved("JPEG", corpus.scene()[:8, :8])
    whole = corpus.photoshop_resources(thumbnail)
    kept = photoshop.without_thumbnail(whole)
    assert thumbnail in whole
    assert thumbnail not in kept
    assert b"IPTC!" in kept
    assert len(whole) - len(kept) == 12 + 28 + len(thumbnail) + len(thumbnail) % 2
    assert photoshop.without_thumbnail(kept) == kept
    assert photoshop.without_thumbnail(whole[:-3]) == whole[:-3]  # damaged
    # A JPEG file, where resources may be spread over segments, and a TIFF file.
    long = corpus.photoshop_resources(thumbnail + bytes(100_000))
    head = b"Photoshop 3.0\0"
    for resources in (whole, long):
        parts = [resources[at : at + 65_000] for at in range(0, len(resources), 65_000)]
        path = file(tmp_path, "edited.jpg", corpus.jpeg_with(*((0xED, head + part) for part in parts)))
        there_and_back(path)
        written = (tmp_path / "again.jpg").read_bytes()
        assert thumbnail[20:60] not in written[: written.index(b"\xff\xdb")]
        assert b"IPTC!" in written
    path = file(tmp_path, "edited.tif", corpus.tiff(corpus.scene(), extratags=[(34377, 1, len(whole), whole, True)]))
    there_and_back(path)
    with tifffile.TiffFile(tmp_path / "again.tif") as written_tiff:
        assert bytes(written_tiff.pages[0].tags.valueof(34377)) == kept


@pytest.mark.parametrize(("channels", "sampling"), [(1, 1), (3, 1), (3, 2)])
def test_jpeg_with_12_bits_is_read_with_all_of_them(channels, sampling, tmp_path):
    rng = np.random.default_rng(3)
    side = 8 * sampling
    squares = rng.integers(0, 4096, (3, 4, channels), dtype=np.uint16)
    squares[0, 0], squares[0, 1] = 0, 4095
    whole = squares.repeat(side, 0).repeat(side, 1)
    whole = whole[..., 0] if channels == 1 else whole
    path = file(tmp_path, "a.jpg", corpus.deep_jpeg(whole, sampling))
    photo = decode_photo(path)
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.shape == whole.shape
    inside = np.arange(3 * side) // side * side + side // 2, np.arange(4 * side) // side * side + side // 2
    middle = photo.pixels[np.ix_(*inside)]  # where colour differences are not mixed with the next square's
    assert np.abs(middle - whole * (65535 / 4095)).max() <= 2 * 65535 / 4095
    assert photo.pixels[0, 0].max() == 0
    assert photo.pixels[side // 2, side + side // 2].min() == 65535
    assert not photo.notes
    eight = converted(photo)
    assert eight.notes == ("12 bits per channel became 8",)
    again = decode_photo(encode_photo(eight, tmp_path / "b.jpg"))
    assert np.abs(again.pixels[np.ix_(*inside)].astype(float) - whole / 4095 * 255).mean() < 3
    deep = converted(photo, "PNG")
    assert deep.pixels.dtype == np.uint16
    assert not deep.notes


def test_jpeg_with_12_bits_is_refused_where_it_is_cut_off_or_too_large(tmp_path):
    data = corpus.deep_jpeg(corpus.scene(depth=16) >> 4, 1)
    with pytest.raises(PhotoError, match="truncated"):
        decode_photo(file(tmp_path, "a.jpg", data[: len(data) // 2]))
    with pytest.raises(PhotoError, match="more than the limit"):
        decode_photo(file(tmp_path, "b.jpg", data), max_pixels=100)
    for frame, message in ((0xC3, "lossless JPEG is not supported"), (0xCA, "12-bit JPEG of this kind")):
        with pytest.raises(PhotoError, match=message):
            decode_photo(file(tmp_path, "c.jpg", data.replace(b"\xff\xc1", bytes([0xFF, frame]))))


def test_profile_of_a_bmp_is_kept(tmp_path):
    path = file(tmp_path, "photo.bmp", corpus.bmp_version_5())
    photo, again = there_and_back(path)
    assert photo.container.icc == again.container.icc == corpus.ICC
    assert np.array_equal(photo.pixels, corpus.scene())
    assert np.array_equal(again.pixels, photo.pixels)
    with Image.open(tmp_path / "again.bmp") as image:
        assert np.array_equal(np.asarray(image), corpus.scene())
    linked = bytearray(path.read_bytes())
    linked[70:74] = b"KNIL"
    photo = decode_photo(file(tmp_path, "linked.bmp", bytes(linked)))
    assert photo.notes == ("the colour profile is left out, because it is in another file",)


# ------------------------------------------------------------------------------------------------- unusual pixels


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x7E0, 0x1F)), (16, (0x7C00, 0x3E0, 0x1F)), (16, (0xF00, 0xF0, 0xF)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)), (32, (0xFF, 0xFF00, 0xFF0000)), (32, (0xFF000000, 0xFF0000, 0xFF00)),
    ],
)  # fmt: skip
def test_bmp_with_any_masks(bits, masks, tmp_path):
    photo, again = there_and_back(file(tmp_path, "photo.bmp", corpus.bmp(bits, masks)))
    steps = np.array([bin(mask).count("1") for mask in masks])
    most = 2**steps - 1
    levels = (corpus.scene().astype(int) * most + 127) // 255
    assert np.array_equal(photo.pixels, (levels * 255 + most // 2) // most)
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_packed_bits_of_a_tiff_become_sixteen(bits, tmp_path):
    content = corpus.tiff_by_hand(bits, 1, corpus.packed_bits(bits), photometric=1)
    photo, again = there_and_back(file(tmp_path, "camera.tif", content))
    most = 2**bits - 1
    levels = (corpus.scene(1, 16) >> (16 - bits)).astype(int)
    assert np.array_equal(photo.pixels, (levels * 65535 + most // 2) // most)
    assert photo.notes == (f"{bits} bits per channel are written as 16",)
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint32", "int16", "int32", "uint64"])
@pytest.mark.parametrize(
    "options",
    [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"tile": (32, 48)}, {"planarconfig": "separate"}],
    ids=str,
)
def test_wide_samples_of_a_tiff_come_back(dtype, options, tmp_path):
    top = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    values = corpus.scene(3, 16) / 65535
    values = (values * np.float64(top) * (1 - 1e-9)).astype(dtype)
    source = np.moveaxis(values, -1, 0) if "planarconfig" in options else values
    path = file(tmp_path, "deep.tif", corpus.tiff(source, **{"photometric": "rgb"} | options))
    photo, again = there_and_back(path)
    assert photo.pixels.dtype == np.float32
    assert np.allclose(photo.pixels, values / np.float64(top), atol=2e-7)
    with tifffile.TiffFile(tmp_path / "again.tif") as written:
        stored = written.asarray()
    assert stored.dtype == dtype
    tolerance = 2**-24 * float(top) if dtype in ("float64", "uint32", "int32", "uint64") else 0
    assert np.abs(stored.astype(np.float64) - values.astype(np.float64)).max() <= tolerance
    assert np.array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_predictors_of_wide_samples_are_undone(predictor, order, tmp_path):
    # Differences of integers, and of shuffled bytes of floating point, written by their definitions.
    values = (
        (corpus.scene(1, 16) / 65535).astype(np.float32) if predictor == 3 else corpus.scene(1, 16).astype(np.uint32)
    )
    height, width = values.shape
    if predictor == 3:
        shuffled = values.astype(">f4").view(np.uint8).reshape(height, width, 4).transpose(0, 2, 1).reshape(height, -1)
        rows = np.diff(shuffled.astype(np.int16), axis=1, prepend=0).astype(np.uint8).tobytes()
    else:
        rows = np.diff(values.astype(np.int64), axis=1, prepend=0).astype(np.uint32).astype(f"{order}u4").tobytes()
    strip = zlib.compress(rows)
    numbers = {256: width, 257: height, 258: 32, 259: 8, 262: 1, 273: 8, 277: 1, 278: height, 279: len(strip)}
    numbers |= {317: predictor, 339: 3 if predictor == 3 else 1}
    entries = b"".join(struct.pack(f"{order}HHII", number, 4, 1, value) for number, value in sorted(numbers.items()))
    position = 8 + len(strip) + len(strip) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", position)
    content = (head + strip).ljust(position, b"\0") + struct.pack(f"{order}H", len(numbers)) + entries + bytes(4)
    photo = decode_photo(file(tmp_path, "deep.tif", content))
    assert np.allclose(photo.pixels, values / (1 if predictor == 3 else 65535), atol=1e-7)


def test_highlights_above_white_are_kept_and_other_ranges_found(tmp_path):
    values = (corpus.scene() / 255).astype(np.float32)
    values[3, 4] = 7.5
    values[5, 6] = [-0.25, np.nan, 0.5]
    photo, _ = there_and_back(file(tmp_path, "hdr.tif", corpus.tiff(values)))
    assert photo.pixels.max() == 1
    assert photo.container.samples.white == 1
    stored = tifffile.imread(tmp_path / "again.tif")
    assert stored[3, 4].tolist() == [7.5, 7.5, 7.5]
    assert stored[5, 6].tolist() == [0, 0, 0.5]
    assert photo.notes == ("values that are no finite numbers became 0", "values below 0 became 0")
    for top in (255, 65_535):
        photo = decode_photo(file(tmp_path, "range.tif", corpus.tiff((values[10:] * top).astype(np.float32))))
        assert photo.container.samples.white == top
        assert np.allclose(photo.pixels, values[10:], atol=1e-6)


def test_libtiff_says_nothing_on_its_own(tmp_path, capfd):
    data = bytearray(corpus.saved("TIFF", compression="tiff_lzw"))
    at = int(tifffile.TiffFile(io.BytesIO(data)).pages[0].dataoffsets[0])
    data[at + 40 : at + 400] = b"\xff" * 360
    with pytest.raises(PhotoError, match=r"broken\.tif: cannot be decoded because"):
        decode_photo(file(tmp_path, "broken.tif", bytes(data)))
    assert capfd.readouterr() == ("", "")


def test_pnm_of_every_kind(tmp_path):
    bits = np.array([[0, 1, 1, 0], [1, 0, 0, 1]])
    expected = (1 - bits) * 255
    for content in (
        b"P1\n# c\n4 2\n0 1 1 0\n1001\n",
        b"P4 4 2\n" + np.packbits(bits.astype(np.uint8), axis=1).tobytes(),
    ):
        assert np.array_equal(decode_photo(file(tmp_path, "bits.pbm", content)).pixels, expected)
    scene, deep = corpus.scene(), corpus.scene(depth=16) >> 4
    text = b"P3 96 72 255\n" + b" ".join(b"%d" % level for level in scene.flat) + b"\n"
    assert np.array_equal(decode_photo(file(tmp_path, "text.ppm", text)).pixels, scene)
    photo, again = there_and_back(file(tmp_path, "deep.ppm", b"P6 96 72 4095\n" + deep.astype(">u2").tobytes()))
    assert np.array_equal(photo.pixels, (deep.astype(int) * 65535 + 2047) // 4095)
    assert np.array_equal(again.pixels, photo.pixels)
    seen = cv2.imread(str(tmp_path / "again.ppm"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(seen, deep)
    for content in (b"P5 4 4 255\n" + bytes(15), b"P2 2 2 9\n1 2 3", b"P6 2"):
        with pytest.raises(PhotoError, match="truncated"):
            decode_photo(file(tmp_path, "half.pgm", content))
    for content in (b"P2 1 1 9\n12", b"P5 1 1 70000\n\0\0", b"P2 1 1 9\nxx"):
        with pytest.raises(PhotoError, match="damaged"):
            decode_photo(file(tmp_path, "bad.pgm", content))


# ------------------------------------------------------------------------------------------------- frames and pages


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_frame_and_its_time_is_kept(form, channels, tmp_path):
    options = {"GIF": {"loop": 3, "disposal": 2}, "PNG": {"loop": 3}, "WEBP": {"loop": 3, "lossless": True}}.get(
        form, {}
    )
    path = file(tmp_path, f"clip.{form.lower()}", corpus.animated(form, channels, **options))
    photo, again = there_and_back(path)
    assert photo.timing.durations == again.timing.durations == tuple(Fraction(ms, 1000) for ms in corpus.DURATIONS)
    assert photo.timing.loop == again.timing.loop == (3 if options else photo.timing.loop)
    with Image.open(tmp_path / f"again.{form.lower()}") as seen:
        assert seen.n_frames == 3
        for number, frame in enumerate((photo.pixels, *photo.pages)):
            seen.seek(number)
            shown = np.asarray(seen.convert("RGBA")).astype(int)
            opaque = frame[..., 3] > 127 if frame.shape[2] == 4 else np.ones(frame.shape[:2], bool)
            assert (shown[..., 3] > 127).tolist() == opaque.tolist()
            error = np.abs(shown[..., :3] - frame[..., :3])[opaque]
            assert error.max() <= (0 if form in ("PNG", "WEBP") else 40)
            assert error.mean() <= (0 if form in ("PNG", "WEBP") else 2)


def test_frames_share_a_map_and_pages_do_not(tmp_path):
    enhance = Enhancer("student-565", threads=1)
    frames = [corpus.scene(), np.minimum(corpus.scene().astype(int) + 2, 255).astype(np.uint8)]
    stream = io.BytesIO()
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(stream, "PNG", save_all=True, append_images=images[1:], duration=10)
    enhance_photo(file(tmp_path, "clip.png", stream.getvalue()), tmp_path / "out.png", enhance)
    first, *further = [(p := decode_photo(tmp_path / "out.png")).pixels, *p.pages]
    assert np.array_equal(first, enhance(frames[0]))
    # Within 10 ms of the same scene, the map is hardly another.
    share = 1 - np.exp(-0.01 / 0.25)
    maps = [enhance.estimate(frame) for frame in frames]
    assert np.array_equal(further[0], enhance.apply(frames[1], maps[0] + np.float32(share) * (maps[1] - maps[0])))
    enhance_photo(file(tmp_path, "pages.tif", corpus.tiff_pages()), tmp_path / "out.tif", enhance)
    with tifffile.TiffFile(tmp_path / "out.tif") as written:
        assert len(written.pages) == 3
        with tifffile.TiffFile(tmp_path / "pages.tif") as source:
            for page, before in zip(written.pages, source.pages, strict=True):
                assert np.array_equal(page.asarray(), enhance(before.asarray()))


def test_animation_counts_all_its_frames_against_the_limit(tmp_path):
    path = file(tmp_path, "clip.gif", corpus.animated("GIF"))
    with pytest.raises(PhotoError, match=r"3 pictures of 96 × 72 pixels are more than the limit of 20,735; .* 20736"):
        decode_photo(path, max_pixels=20_735)
    assert len(decode_photo(path, max_pixels=20_736).pages) == 2
    pages = file(tmp_path, "pages.tif", corpus.tiff_pages())
    with pytest.raises(PhotoError, match="more than the limit of 14,000"):
        decode_photo(pages, max_pixels=14_000)


def test_picture_that_stands_for_an_animation_stays_apart(tmp_path):
    frames = [Image.fromarray(corpus.scene(shift=9 * number)) for number in range(3)]
    frames[0].save(
        tmp_path / "clip.png", save_all=True, append_images=frames[1:], default_image=True, duration=[40, 80]
    )
    photo, again = there_and_back(tmp_path / "clip.png")
    assert photo.container.still
    assert again.container.still
    with Image.open(tmp_path / "again.png") as seen:
        assert seen.default_image
        assert seen.n_frames == 3
    assert len(converted(photo, "GIF").pages) == 1  # the two frames only


def test_animation_goes_into_other_formats(tmp_path):
    photo = decode_photo(file(tmp_path, "clip.gif", corpus.animated("GIF", loop=0)))
    with Image.open(encode_photo(converted(photo, "WEBP"), tmp_path / "clip.webp")) as seen:
        assert seen.n_frames == 3
    pages = converted(photo, "TIFF")
    assert "the times of the frames are left out" in pages.notes
    with tifffile.TiffFile(encode_photo(pages, tmp_path / "clip.tif")) as seen:
        assert len(seen.pages) == 3
    one = converted(photo, "JPEG")
    assert "of 3 pictures, only the first one is kept in this format" in one.notes
    assert one.pages == ()


# ------------------------------------------------------------------------------------------------- HEIC


@needs_heic
@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_heic_keeps_depth_and_metadata(channels, depth, tmp_path):
    photo, again = there_and_back(file(tmp_path, "photo.heic", corpus.heic(channels, depth)))
    expected = corpus.scene(channels, 8 if depth == 8 else 16)
    assert photo.pixels.dtype == expected.dtype
    assert np.abs(photo.pixels.astype(float) - expected).mean() < np.iinfo(expected.dtype).max * 0.004
    assert (again.container.depth, again.container.chroma) == (depth, photo.container.chroma)
    assert again.container.icc == corpus.ICC
    assert again.container.xmp == corpus.XMP
    assert again.container.exif == photo.container.exif
    assert np.abs(again.pixels.astype(float) - photo.pixels).mean() < np.iinfo(expected.dtype).max * 0.008


@needs_heic
def test_heic_is_turned_upright_once(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    photo, again = there_and_back(file(tmp_path, "photo.heic", corpus.heic(exif=turned.tobytes())))
    assert photo.pixels.shape == again.pixels.shape == (96, 72, 3)
    assert np.abs(photo.pixels.astype(int) - np.rot90(corpus.scene(), -1)).mean() < 1.5
    exif = Image.Exif()
    exif.load(again.container.exif)
    assert exif[0x0112] == 1


@needs_heic
def test_heic_of_a_folder_is_on_its_contact_sheet(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    file(folder, "a.heic", corpus.heic())
    result = kdlib(folder, "--preview", "-o", tmp_path / "sheet.jpg", "--model", "student-565")
    assert result.exit_code == 0, result.output
    assert "1 photos before and after" in result.output


@needs_heic
def test_heic_becomes_jpeg_by_its_name_or_by_the_option(tmp_path):
    source = file(tmp_path, "photo.heic", corpus.heic())
    assert kdlib(source, "-o", tmp_path / "named.jpg", "--model", "student-565").exit_code == 0
    assert kdlib(source, "-o", tmp_path / "out", "--format", "jpeg", "--model", "student-565").exit_code == 0
    assert kdlib(source, "-o", tmp_path / "same.heic", "--model", "student-565").exit_code == 0
    bright = Enhancer("student-565")(decode_photo(source).pixels)
    for path in (tmp_path / "named.jpg", tmp_path / "out" / "photo.jpg", tmp_path / "same.heic"):
        photo = decode_photo(path)
        assert photo.format == ("HEIC" if path.suffix == ".heic" else "JPEG")
        assert np.abs(photo.pixels.astype(int) - bright).mean() < 2.5
    with Image.open(tmp_path / "named.jpg") as image:
        assert image.getexif()[271] == "Camera"
        assert image.info["icc_profile"] == corpus.ICC


# ------------------------------------------------------------------------------------------------- raw


@needs_raw
def test_raw_is_developed_as_dark_as_it_was_taken_in_sixteen_bits(tmp_path):
    photo = decode_photo(file(tmp_path, "night.dng", corpus.dng_with_exif()))
    light = corpus.linear_scene()
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert photo.format == "TIFF"
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.shape == light.shape
    inner = np.s_[16:-16, 16:160]  # beside the lamp, and off the borders of demosaicking
    difference = np.abs(photo.pixels[inner] / 65535 - expected[inner])
    assert np.median(difference) < 0.002
    assert photo.container.tags[274].integers == (1,)
    assert 34675 in photo.container.tags


@needs_raw
def test_enhancement_finds_in_the_shadows_of_a_raw_what_8_bits_lose(tmp_path):
    """Stripes that differ by less than a level of 255 come out apart; after rounding to 8 bits, they are one."""
    source = file(tmp_path, "night.dng", corpus.dng())
    enhance = Enhancer("student-565", strength=2, threads=1)
    enhance_photo(source, tmp_path / "out.tif", enhance, wanted="TIFF")
    with tifffile.TiffFile(tmp_path / "out.tif") as file_:
        deep = file_.asarray().astype(float) / 65535
    rounded = (decode_photo(source).pixels / 257).round().astype(np.uint8)
    shallow = enhance(rounded).astype(float) / 255
    columns = np.s_[16:60]  # of the deepest shadows
    rows = [np.arange(16, 144)[(np.arange(16, 144) // 8) % 2 == parity] for parity in (0, 1)]

    def contrast(photo):
        low, high = (photo[row][:, columns].mean(axis=(0, 2)) for row in rows)
        return (high - low) / (high + low)

    def steps(photo):
        return len(np.unique(photo[16:144, columns, 1]))

    assert (contrast(deep) > 0).all()
    assert steps(deep) > 20 * steps(shallow)
    assert steps(rounded) < 4


@needs_raw
def test_raw_becomes_jpeg_or_tiff_with_its_metadata(tmp_path):
    source = file(tmp_path, "night.dng", corpus.dng_with_exif())
    assert kdlib(source, "--model", "student-565").exit_code == 0
    with tifffile.TiffFile(tmp_path / "night_enhanced.tif") as written:
        assert written.pages[0].dtype == np.uint16
        assert written.pages[0].tags.valueof(271) == "Camera"
        assert written.pages[0].tags.valueof(34665)["ISOSpeedRatings"] == 3200
    assert kdlib(source, "-o", tmp_path / "night.jpg", "--quality", "80", "--model", "student-565").exit_code == 0
    with Image.open(tmp_path / "night.jpg") as image:
        assert image.getexif()[271] == "Camera"
        assert image.getexif().get_ifd(0x8769)[0x8827] == 3200
        assert image.info["icc_profile"]
    refused = kdlib(source, "-o", tmp_path / "night2.dng", "--model", "student-565")
    assert "only cameras write; name it night2.tif" in " ".join(refused.output.split())


@needs_raw
def test_turned_raw_is_upright_and_not_turned_again(tmp_path):
    photo = decode_photo(file(tmp_path, "night.dng", corpus.dng(orientation=6)))
    assert photo.pixels.shape == (240, 160, 3)
    assert photo.container.tags[274].integers == (1,)


@needs_raw
def test_plain_tiff_under_the_name_of_a_raw_file_is_read_as_one(tmp_path):
    photo = decode_photo(file(tmp_path, "photo.nef", corpus.tiff(corpus.scene())))
    assert np.array_equal(photo.pixels, corpus.scene())


def test_enlarged_pages_have_their_sizes(tmp_path):
    from kdlib.enhance.photos.photo_file import resized

    photo = decode_photo(file(tmp_path, "pages.tif", corpus.tiff_pages()))
    larger = [picture.repeat(2, 0).repeat(2, 1) for picture in (photo.pixels, *photo.pages)]
    again = decode_photo(encode_photo(resized(photo, larger[0], tuple(larger[1:])), tmp_path / "out.tif"))
    assert all(map(np.array_equal, (again.pixels, *again.pages), larger))
    assert dataclasses.replace(photo).pages is photo.pages
