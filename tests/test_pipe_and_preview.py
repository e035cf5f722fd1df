"""``kdlib enhance - -o -``, and ``--preview``."""

import io

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli import app
from kdlib.enhance.folders.preview import MOST, contact_sheet
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.noise import TOP
from tests import photo_corpus as corpus
from tests.helpers import kdlib, said

FAST = ["--model", "student-565"]


def dark(height=12, width=16, **options):
    """A PNG, as bytes."""
    pixels = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return pixels, buffer.getvalue()


def pipe(*words, given=b""):
    return CliRunner().invoke(app, ["enhance", *map(str, words), *FAST], input=given)


@pytest.mark.parametrize("words", [["-", "-o", "-"], ["-"]], ids=" ".join)
def test_a_pipe_holds_the_photo_and_nothing_else(words):
    pixels, png = dark(dpi=(300, 300))
    result = pipe(*words, given=png)
    assert result.exit_code == 0, result.output
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        np.testing.assert_array_equal(np.asarray(image), Enhancer("student-565")(pixels))
        assert round(image.info["dpi"][0]) == 300
    assert result.stderr == ""


def test_either_end_may_be_a_file(tmp_path):
    pixels, png = dark()
    (tmp_path / "dark.png").write_bytes(png)
    piped = pipe(tmp_path / "dark.png", "-o", "-").stdout_bytes
    assert pipe("-", "-o", tmp_path / "bright.png", given=png).exit_code == 0
    assert (tmp_path / "bright.png").read_bytes() == piped
    assert np.asarray(Image.open(io.BytesIO(piped))).mean() > pixels.mean()
    again = pipe("-", "-o", tmp_path / "bright.png", given=png)
    assert again.exit_code == 1
    assert "--overwrite replaces it" in again.stderr
    assert pipe("-", "-o", tmp_path / "bright.png", "--overwrite", given=png).exit_code == 0


def test_bad_input_leaves_the_pipe_empty_and_says_why(tmp_path):
    _, png = dark()
    for words, given, reason in (
        (["-", "-o", "-"], b"", "standard input: the file is empty"),
        (["-", "-o", "-"], b"no photo", "standard input: not a photo"),
        (["-", "-o", "-"], png[: len(png) // 2], "standard input: the file is truncated"),
        (["-", "-o", "-", "--max-pixels", 10], png, "more than the limit of 10"),
        ([tmp_path / "none.png", "-o", "-"], b"", "none.png: no such file"),
        (["-", "-o", tmp_path], png, "is a folder"),
        (["-", "-o", tmp_path / "a.jpg"], png, "the photo stays PNG"),
        (["-", tmp_path / "a.png", "-o", "-"], png, "stands for one photo"),
        (["-", "--preview"], png, "exclude each other"),
    ):
        result = pipe(*words, given=given)
        assert result.exit_code == 1, words
        assert result.stdout_bytes == b"", words
        assert reason in " ".join(result.stderr.split()), result.stderr
        assert not list(tmp_path.iterdir())


def test_a_preview_shows_each_photo_before_and_after_and_writes_no_result(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(dark(240, 320)[1])
    (tmp_path / "d.png").write_bytes(b"no photo")
    result = kdlib("enhance", tmp_path, "--preview", "-o", tmp_path / "sheet.png", *FAST)
    assert result.exit_code == 1
    assert "3 of 4 photos before and after" in said(result)
    assert "d.png: not a photo" in said(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "d.png", "sheet.png"]
    sheet, pixels = Image.open(tmp_path / "sheet.png"), dark(240, 320)[0]
    at = [(x, y) for y in range(12, sheet.height - 240, 270) for x in range(12, sheet.width - 640, 656)]
    for x, y in at[:3]:
        np.testing.assert_array_equal(np.asarray(sheet.crop((x, y, x + 320, y + 240))), pixels)
        after = np.asarray(sheet.crop((x + 324, y, x + 644, y + 240)))
        np.testing.assert_array_equal(after, Enhancer("student-565")(pixels))


def test_photos_on_a_sheet_are_upright_and_of_any_kind(tmp_path):
    turned = Image.new("RGB", (640, 320), (10, 10, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # by 90°
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((5, 900), 9000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (3, 3), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    Image.new("L", (1, 1), 9).save(tmp_path / "dot.png")
    enhance = Enhancer("student-565")
    upright = contact_sheet([tmp_path / "turned.jpg"], enhance).image
    column = np.asarray(upright)[12:252, 12 + 320 - 120 : 12 + 320]  # at the right end of its place
    assert (np.abs(column.astype(int) - (10, 10, 40)) < 8).all()
    sheet = contact_sheet(sorted(tmp_path.iterdir()), enhance)
    assert (sheet.shown, sheet.failed) == (4, [])


def test_every_kind_of_photo_is_on_a_sheet(tmp_path):
    cases = [case for case in corpus.cases() if not case.needs and not case.refused]
    for case in cases:
        (tmp_path / case.name).write_bytes(case.make())
    enhance = Enhancer("student-565")
    sheet = contact_sheet(sorted(tmp_path.iterdir()), enhance)
    assert (sheet.shown, sheet.failed) == (len({case.name for case in cases}), [])
    for name in ["float.tif", *(["turned.dng"] if corpus.HAS_RAW else [])]:
        if name == "turned.dng":
            (tmp_path / name).write_bytes(corpus.dng(orientation=6))
        pixels = decode_photo(tmp_path / name).pixels
        eight = np.rint(pixels * (255 / TOP[pixels.dtype.name])).astype(int)
        (height, width), right = eight.shape[:2], 12 + 320
        shown = np.asarray(contact_sheet([tmp_path / name], enhance).image).astype(int)
        place = shown[12 + 240 - height : 12 + 240, right - width : right]
        assert np.abs(place - eight).max() <= 1, name


def test_of_many_photos_a_sheet_shows_some_from_all_over(tmp_path):
    (tmp_path / "a.png").write_bytes(dark(2, 2)[1])
    seen = []
    sheet = contact_sheet([tmp_path / "a.png"] * 500, Enhancer("student-565"), progress=lambda: seen.append(1))
    assert sheet.shown == len(seen) == MOST


def test_a_preview_replaces_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(dark()[1])
    assert kdlib("enhance", tmp_path / "a.png", "--preview", *FAST).exit_code == 0
    assert Image.open(tmp_path / "a_preview.jpg").format == "JPEG"
    for words, reason in (
        ([tmp_path / "a.png"], "--overwrite replaces it"),
        ([tmp_path / "a.png", "-o", tmp_path / "a.png", "--overwrite"], "is one of the photos"),
        ([tmp_path / "a.png", "-o", tmp_path / "folder"], "names none"),
        ([tmp_path / "none.png"], "no such file"),
    ):
        refused = kdlib("enhance", *words, "--preview", *FAST)
        assert refused.exit_code == 1
        assert reason in said(refused)
