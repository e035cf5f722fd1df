"""Light with its true range: panoramas and photos in Radiance's format, and views of them with their own bracket."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from kdlib.data.brackets import LUMINANCE, METERED, fuse_exposures, log_average, toned
from kdlib.data.degrade import linear_to_srgb
from kdlib.data.licences import LISTING, LicenceRow, read_licences
from kdlib.enhance.photos.paths import PhotoError

HDR_FOLDER, PHOTO_FOLDER = "hdr", "photos"
# Side at which a view is rendered and its bracket fused.
_RENDERED = 192
# Photographers deviate from the meter by about this much (standard deviation, stops), and let the night be dark.
_DEVIATION = 0.6
_DARKER = {"night": 1.2, "dawn_dusk": 0.4}
# Cameras bracket with three to five exposures around the metered one, this many stops apart.
_COUNTS, _APART = (3, 5), (1.0, 2.0)
_APART_OF_THREE = 2.5
# Cameras render more contrast than sRGB's curve alone; the strength of their curve differs.
_MOST_BEND = 0.7


@dataclass(frozen=True)
class Light:
    """Radiance from all or some directions.

    Attributes:
        row: the file's row in the listing of licences.
        radiance: H×W×3 float32, linear RGB without a common scale, at least 0.
    """

    row: LicenceRow
    radiance: np.ndarray

    @property
    def panorama(self) -> bool:
        """Whether the image shows all directions: an equirectangular one is twice as wide as high."""
        return self.radiance.shape[1] == 2 * self.radiance.shape[0]

    @property
    def sky_only(self) -> bool:
        """Whether only the upper half was photographed."""
        return "sky" in Path(self.row.file).stem.split("_") or "puresky" in self.row.file


def read_light(folder: str | Path, allowed: str = "any") -> Iterator[Light]:
    """Read one image of light after another.

    Args:
        folder: has ``LICENCES.tsv`` and the files that it lists in ``hdr/``.
        allowed: see :func:`~kdlib.data.licences.read_licences`.

    Raises:
        FileNotFoundError: there is no listing.
        ValueError: the listing has no image of light with such a licence.
        PhotoError: a listed file is missing or damaged.
    """
    folder = Path(os.path.expanduser(folder))
    rows = [row for row in read_licences(folder, allowed) if row.file.startswith(f"{HDR_FOLDER}/")]
    if not rows:
        raise ValueError(
            f"{folder / LISTING} lists no file in {HDR_FOLDER}/ with a licence that is allowed ({allowed})"
        )
    for row in rows:
        image = cv2.imread(str(folder / row.file), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.float32 or image.ndim != 3:
            raise PhotoError(f"{folder / row.file} is missing, damaged or not in Radiance's format (.hdr)")
        radiance = np.nan_to_num(image[..., ::-1], nan=0.0, posinf=0.0).clip(0)
        yield Light(row, np.ascontiguousarray(radiance))


def view(light: Light, rng: np.random.Generator, size: int = _RENDERED) -> np.ndarray:
    """Return a random view, size×size×3 float32 in linear light.

    Of a panorama, the camera looks in any direction near the horizon, 50 to 95 degrees wide, with an aspect ratio from
    2:3 to 3:2, which is squashed to a square. Of other images, it shows a window of 55 to 100% of each side.
    """
    radiance = light.radiance
    height, width = radiance.shape[:2]
    if not light.panorama:
        part = rng.uniform(0.55, 1)
        rows, columns = max(int(height * part), 2), max(int(width * part), 2)
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        return cv2.resize(radiance[top : top + rows, left : left + columns], (size, size), interpolation=cv2.INTER_AREA)
    reach = np.tan(np.radians(rng.uniform(50, 95)) / 2)
    yaw = rng.uniform(0, 2 * np.pi)
    pitch = np.radians(rng.uniform(8, 35) if light.sky_only else rng.uniform(-22, 22))
    aspect = rng.choice([2 / 3, 3 / 4, 1, 4 / 3, 3 / 2])
    across, down = np.meshgrid(*2 * [(2 * np.arange(size) + 1) / size - 1])
    across, down = across * reach * min(aspect, 1), down * reach / max(aspect, 1)
    # Directions: x to the right, y up, z ahead; the camera is tilted by the pitch.
    length = np.sqrt(across**2 + down**2 + 1)
    up = (np.sin(pitch) - down * np.cos(pitch)) / length
    ahead = np.cos(pitch) + down * np.sin(pitch)
    column = ((np.arctan2(across, ahead) + yaw) / (2 * np.pi) % 1) * width + 0.5
    row = (0.5 - np.arcsin(up.clip(-1, 1)) / np.pi) * height - 0.5
    closed = np.concatenate([radiance[:, -1:], radiance, radiance[:, :1]], axis=1)  # the panorama is a ring
    return cv2.remap(
        closed, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def bracket_stops(metered: float, rng: np.random.Generator) -> np.ndarray:
    """Return the exposures of a bracket as a photographer might choose it, in stops, ascending.

    Args:
        metered: see :func:`metered_stops`.
        rng: draws the photographer's deviation from the light meter, and the bracket.
    """
    centre = metered + _DEVIATION * rng.standard_normal()
    count = rng.integers(_COUNTS[0], _COUNTS[1] + 1)
    apart = rng.uniform(_APART[0], _APART_OF_THREE if count == 3 else _APART[1])
    stops: np.ndarray = centre + apart * (np.arange(count) - (count - 1) / 2)
    return stops


def metered_stops(radiance: np.ndarray, kind: str = "") -> float:
    """Return the exposure that a light meter suggests, less at night, in stops.

    Args:
        radiance: H×W×3 in linear light.
        kind: the scene's kind, as the listing of licences states it.
    """
    luminance = radiance @ LUMINANCE
    metered = np.log2(METERED / log_average(luminance))
    return float(metered - sum(by for name, by in _DARKER.items() if name in kind))


def contrast_range(radiance: np.ndarray) -> float:
    """Return the range from the shadows to the highlights of H×W×3 in linear light, in stops."""
    shadow, highlight = np.percentile(radiance @ LUMINANCE, [10, 98.5]) + 1e-9
    return float(np.log2(highlight / shadow))


def encode(radiance: np.ndarray, stops: float, bend: float) -> np.ndarray:
    """Return the 8-bit photo of radiance exposed by some stops, without noise, H×W×3 uint8; see :func:`develop`."""
    photo = develop(torch.from_numpy(radiance * np.float32(2**stops)), bend)
    return (photo * 255).round().byte().numpy()


def develop(light: Tensor, bend: Tensor | float) -> Tensor:
    """Encode linear light as a camera does: sRGB's curve, then an S-shaped one of strength ``bend``.

    Args:
        light: any shape, at least 0; values above 1 become white.
        bend: 0 for sRGB alone, 1 for a slope of 2 at medium grey; slightly below 0 flattens.

    Returns:
        The photo in [0, 1].
    """
    photo = linear_to_srgb(light)
    return (photo + 2 * bend * photo * (1 - photo) * (2 * photo - 1)).clamp(0, 1)


def fused_view(light: Light, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw two views, keep the one with the wider range, and fuse a bracket of it.

    Scenes of a wide range, such as a room with a window, are rare and the hardest to learn.

    Returns:
        Radiance, size×size×3 float32, scaled so that exposure 0 is the metered one; the fusion, size×size×3 uint8, see
        :func:`toned`; and the strength of the camera's tone curve.
    """
    radiance = max((view(light, rng), view(light, rng)), key=contrast_range)
    bend = rng.uniform(0, _MOST_BEND)
    metered = metered_stops(radiance, light.row.kind)
    fused = fuse_exposures([encode(radiance, stops, bend) for stops in bracket_stops(metered, rng)])
    target = toned(fused, encode(radiance, metered, bend))

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)

    return small(radiance * np.float32(2**metered)), small(target), bend
