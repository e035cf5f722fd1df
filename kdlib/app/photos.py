"""The photos that the page has opened: decoded, enhanced and encoded like those of ``kdlib enhance``."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.frames import enhanced
from kdlib.enhance.folders.local import renamed
from kdlib.enhance.photos.convert import converted
from kdlib.enhance.photos.paths import PhotoError
from kdlib.enhance.photos.photo_file import PhotoFile, decode_photo, encode_photo, resized
from kdlib.enhance.photos.shown import eight_bits, orientation_of, upright

_HELD = 2  # photos that stay decoded, and results that stay in memory
_MOST_SHOWN = 4096  # longest side of what is shown at once


@dataclass(frozen=True)
class Settings:
    """What a user chooses: the arguments of :class:`kdlib.Enhancer` of the same names."""

    model: str
    strength: float = 1.0
    denoise: float | None = None

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Read the settings of a request.

        Raises:
            ValueError: one is missing or no number.
        """
        try:
            return cls(str(values["model"]), float(values.get("strength", 1)), float(values.get("denoise", 0)))
        except (KeyError, TypeError, ValueError):
            raise ValueError("a request takes model, strength and denoise") from None

    def enhancer(self, threads: int | None = None) -> Enhancer:
        """Return the Enhancer; it raises what :class:`kdlib.Enhancer` does."""
        return Enhancer(self.model, strength=self.strength, denoise=self.denoise, threads=threads)


@dataclass(frozen=True)
class OpenPhoto:
    """A photo that the page has opened.

    Attributes:
        path: the uploaded file.
        name: as it was on the user's disk.
        orientation: EXIF's, from 1 to 8.
        width, height: of the photo as a person sees it.
        notes: what a saved result will lack, for the user.
    """

    path: Path
    name: str
    orientation: int
    width: int
    height: int
    notes: tuple[str, ...]


class OpenPhotos:
    """All of them.

    Args:
        folder: for the files.

    Calls may come from several threads; photos are decoded and enhanced one at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._photos = folder, dict[str, OpenPhoto]()
        self._numbers, self._lock = itertools.count(), threading.RLock()
        self._decoded, self._results = OrderedDict[str, PhotoFile](), OrderedDict[tuple[str, Settings], np.ndarray]()

    def add(self, upload: Path, name: str) -> tuple[str, OpenPhoto]:
        """Open an uploaded file, which is deleted if that fails; return its key and the photo.

        Raises:
            PhotoError: see :func:`kdlib.enhance.photos.photo_file.decode_photo`.
        """
        with self._lock:
            key = str(next(self._numbers))
            try:
                decoded = _decode(upload, name)
                orientation = orientation_of(decoded)
                height, width = upright(decoded.pixels, orientation).shape[:2]
            except BaseException:
                upload.unlink()
                raise
            notes = decoded.notes
            if decoded.pages:
                kind = "pages" if decoded.timing is None else "pictures"
                notes += (f"Of {1 + len(decoded.pages)} {kind}, the first is shown and all are saved.",)
            self._photos[key] = OpenPhoto(upload, name, orientation, width, height, notes)
            _keep(self._decoded, key, decoded)
            return key, self._photos[key]

    def close(self, key: str) -> None:
        """Forget a photo and delete its file."""
        with self._lock:
            self[key].path.unlink(missing_ok=True)
            del self._photos[key]
            self._decoded.pop(key, None)
            for result in [result for result in self._results if result[0] == key]:
                del self._results[result]

    def __getitem__(self, key: str) -> OpenPhoto:
        """Return a photo; KeyError for one that was closed."""
        return self._photos[key]

    def view(
        self, key: str, settings: Settings | None, *, factor: int, x: int, y: int, width: int | None, height: int | None
    ) -> np.ndarray:
        """Return a region of a photo as a person sees it, H×W×4 uint8, enhanced if there are settings.

        Args:
            factor: the photo is reduced to 1 / factor, by averaging areas.
            x, y, width, height: the region in the reduced photo; the whole by default. An enlarged photo has more
                pixels in it.

        Raises:
            ValueError: the region lies outside the photo.
        """
        photo = self[key]
        columns, rows = -(-photo.width // factor), -(-photo.height // factor)
        width, height = width or columns, height or rows
        if not (0 <= x < x + width <= columns and 0 <= y < y + height <= rows):
            raise ValueError(f"the region is outside of the photo, which has {columns}×{rows} pixels")
        pixels = self._pixels(key) if settings is None else self._enhanced(key, settings)
        seen = upright(pixels, photo.orientation)
        more = seen.shape[1] // photo.width  # than 1 where the model enlarges
        part = seen[y * factor * more : (y + height) * factor * more, x * factor * more : (x + width) * factor * more]
        part = eight_bits(part)
        if factor > 1 or more > 1:
            shown = min(more, max(1, _MOST_SHOWN // max(width, height))) if factor == 1 else 1
            size = (width * shown, height * shown)
            part = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
        return _four_channels(part.reshape(*part.shape[:2], -1))

    def result(self, key: str, settings: Settings, target: Path) -> tuple[str, tuple[str, ...]]:
        """Write the enhanced photo in its own format and depth; return a name for it, and what it lacks."""
        photo = self[key]
        with self._lock:
            decoded = self._decode(key)
            if decoded.pages:  # of which all are enhanced, in their own memory
                done = enhanced(_decode(photo.path, photo.name), settings.enhancer())
            else:
                pixels = self._enhanced(key, settings)
                same = pixels.shape == decoded.pixels.shape
                done = replace(decoded, pixels=pixels) if same else resized(decoded, pixels)
            done = converted(done)
            encode_photo(done, target)
        return renamed(Path(photo.name), "_enhanced").name, done.notes

    def compare(self, key: str, settings: Settings, reference: Path, name: str) -> dict[str, str]:
        """Return measures of how near the enhanced photo is to a reference, by their names, as text.

        Raises:
            PhotoError: the reference is not a photo.
            ValueError: it has another size.
            ModuleNotFoundError: what measures is not installed.
        """
        from kdlib.enhance.photos.rgb import to_tensor
        from kdlib.evaluation.metrics import gt_mean, psnr, ssim

        truth = _decode(reference, name)
        ours = self._enhanced(key, settings)
        pair = [
            eight_bits(upright(ours, self[key].orientation)),
            eight_bits(upright(truth.pixels, orientation_of(truth))),
        ]
        if pair[0].shape[:2] != pair[1].shape[:2]:
            sizes = " and ".join(f"{a.shape[1]}×{a.shape[0]}" for a in pair)
            raise ValueError(f"the result and the reference must have the same size; they have {sizes} pixels")
        result, wanted = (to_tensor(_four_channels(a.reshape(*a.shape[:2], -1))[..., :3]) for a in pair)
        figures = {"PSNR": f"{psnr(result, wanted):.2f} dB"}
        figures["PSNR, same mean"] = f"{psnr(gt_mean(result, wanted), wanted):.2f} dB"
        if min(result.shape[-2:]) >= 11:
            figures["SSIM"] = f"{ssim(result, wanted):.3f}"
        return figures

    def _decode(self, key: str) -> PhotoFile:
        photo = self[key]
        with self._lock:
            if key not in self._decoded:
                _keep(self._decoded, key, _decode(photo.path, photo.name))
            self._decoded.move_to_end(key)
            return self._decoded[key]

    def _pixels(self, key: str) -> np.ndarray:
        return self._decode(key).pixels

    def _enhanced(self, key: str, settings: Settings) -> np.ndarray:
        with self._lock:
            if (key, settings) not in self._results:
                enhance = settings.enhancer()
                _keep(self._results, (key, settings), enhance(self._pixels(key)))
            self._results.move_to_end((key, settings))
            return self._results[key, settings]


def _keep(held: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    held[key] = value
    while len(held) > _HELD:
        held.popitem(last=False)


def _decode(path: Path, name: str) -> PhotoFile:
    try:
        return decode_photo(path)
    except PhotoError as error:
        raise PhotoError(f"{name}: {str(error).removeprefix(f'{path}: ')}") from None


def _four_channels(pixels: np.ndarray) -> np.ndarray:
    """Return H×W×4 of H×W×C with C from 1 to 4."""
    channels = pixels.shape[2]
    colours = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    alpha = pixels[..., -1:] if channels in {2, 4} else np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([colours, alpha], axis=2)
