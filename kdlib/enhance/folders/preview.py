"""A contact sheet: photos before and after, side by side, to choose a model and its strength from."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.photos.paths import PhotoError
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.enhance.photos.shown import eight_bits, orientation_of, profile_of, upright
from kdlib.files import replacing

MOST = 60
"""Photos on a sheet; of more, that many are chosen, evenly spread."""
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")
_BOX = (320, 240)  # pixels of a photo on the sheet, at most
_GAP, _TEXT = 12, 18
_GROUND, _INK = (48, 48, 48), (235, 235, 235)


class Sheet(NamedTuple):
    """A contact sheet.

    Attributes:
        image: RGB; each photo takes one place, before on the left and after on the right, its name below.
        shown: number of photos on it.
        failed: photos that cannot be read, each with the reason.
    """

    image: Image.Image
    shown: int
    failed: list[tuple[str, str]]


def contact_sheet(
    photos: Sequence[Path],
    enhance: Enhancer,
    *,
    workers: int = 1,
    max_pixels: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Sheet:
    """Enhance up to :data:`MOST` of the photos, at their full size, and show them reduced, upright and in sRGB.

    Args:
        photos: files, at least one.
        enhance: makes the pictures on the right.
        workers: number of photos processed at a time.
        max_pixels: photos with more pixels are refused; None keeps the default.
        progress: called after each photo.

    Raises:
        ValueError: none of the photos can be read.
    """
    places = np.linspace(0, len(photos) - 1, min(MOST, len(photos))).round().astype(int)
    chosen = [photos[place] for place in places]

    def pair(photo: Path) -> tuple[Image.Image, Image.Image] | str:
        try:
            return _pair(photo, enhance, max_pixels)
        except (PhotoError, OSError, ValueError, MemoryError) as error:
            return str(error).removeprefix(f"{photo}: ") or type(error).__name__
        finally:
            progress()

    with ThreadPoolExecutor(workers, thread_name_prefix="preview") as pool:
        pairs = list(zip(chosen, pool.map(pair, chosen), strict=True))
    good = [(photo, made) for photo, made in pairs if not isinstance(made, str)]
    failed = [(str(photo), made) for photo, made in pairs if isinstance(made, str)]
    if not good:
        raise ValueError(f"no photo can be shown; {failed[0][0]}: {failed[0][1]}")
    return Sheet(_arranged(good), len(good), failed)


def write_sheet(sheet: Sheet, path: Path, *, overwrite: bool = False) -> None:
    """Write the sheet as JPEG or PNG, as the name says.

    Raises:
        MadeMeanwhileError: the file exists and must not be replaced.
        OSError: the file cannot be written.
    """
    png = path.suffix.lower() == ".png"
    with replacing(path, overwrite=overwrite) as partial:
        sheet.image.save(partial, "PNG" if png else "JPEG", **({} if png else {"quality": 92}))


def _pair(path: Path, enhance: Enhancer, max_pixels: int | None) -> tuple[Image.Image, Image.Image]:
    limit: dict[str, Any] = {} if max_pixels is None else {"max_pixels": max_pixels}
    photo = decode_photo(path, **limit, upscale=enhance.upscale)
    profile, turn = profile_of(photo), orientation_of(photo)
    before = _reduced(photo.pixels, profile, turn)
    return before, _reduced(enhance(photo.pixels), profile, turn).resize(before.size)


def _reduced(pixels: np.ndarray, profile: bytes, turn: int) -> Image.Image:
    """Return pixels as a small RGB picture, upright and in sRGB, on the sheet's ground where they are transparent."""
    pixels = upright(eight_bits(pixels), turn)
    mode = {2: "L"}.get(pixels.ndim) or {2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    image = Image.fromarray(np.ascontiguousarray(pixels), mode)
    image.thumbnail(_BOX, Image.Resampling.BOX, reducing_gap=None)
    alpha = image.getchannel("A") if "A" in mode else None
    image = image.convert("RGB")
    if profile:
        image = _in_srgb(image, profile)
    return Image.composite(image, Image.new("RGB", image.size, _GROUND), alpha) if alpha else image


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile, or one of another colour space
        return image
    return converted or image


def _arranged(pairs: list[tuple[Path, tuple[Image.Image, Image.Image]]]) -> Image.Image:
    width, height = 2 * _BOX[0] + _GAP // 3 + _GAP, _BOX[1] + _TEXT + _GAP
    columns = 1 if len(pairs) == 1 else 2
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for at, (photo, (before, after)) in enumerate(pairs):
        left, top = _GAP + at % columns * width, _GAP + at // columns * height
        middle = left + _BOX[0] + _GAP // 6
        sheet.paste(before, (middle - _GAP // 6 - before.width, top + _BOX[1] - before.height))
        sheet.paste(after, (middle + _GAP // 6, top + _BOX[1] - after.height))
        name = photo.name.encode("utf-8", "replace").decode()
        while len(name) > 1 and draw.textlength(name, font) > 2 * _BOX[0]:
            name = f"{name[:-2]}…"
        draw.text((middle, top + _BOX[1] + _TEXT // 2), name, _INK, font, anchor="mm")
    return sheet
