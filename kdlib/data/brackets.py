"""Brackets: photos of one scene at several exposures, whose fusion shows what each of them should have looked like.

The exposure fusion of a bracket (Mertens, Kautz and Van Reeth, "Exposure Fusion", Pacific Graphics 2007) keeps from
every exposure what is well exposed in it. It is a natural target for all of them, the dark and the over-exposed ones,
and needs no labelling.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from kdlib.data.degrade import srgb_to_linear
from kdlib.data.pairs import find_scenes
from kdlib.enhance.photos.rgb import list_photos, open_photo, read_photo

# A bracket has this many exposures. A larger group of similar photos holds several scenes.
FEWEST, MOST = 3, 11
# Photos of a bracket are displaced against each other by at most this fraction of their side.
MOST_SHIFT = 0.01
# Peaks of the phase correlation of unrelated photos stay below this; those of two exposures of a scene are above.
_CLEAR_PEAK = 0.2
FUSED = "fused"
# Shares of red, green and blue in luminance.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
# Light meters are calibrated so that the average of a scene is recorded at an eighth of white (ISO 2720, K = 12.5).
METERED = 0.12
# Share of the way from the fusion to the metered photo that the target's brightness goes. Fusions are brighter and
# flatter than photos that were exposed for one scene.
_TOWARDS_METERED = 0.25
_SIDE = 512
_LINEAR = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255).numpy()  # of each level


@dataclass(frozen=True)
class Bracket:
    """One scene.

    Attributes:
        name: the scene's folder.
        exposures: H×W×3 uint8 each, in the order of their file names.
        fused: H×W×3 uint8.
    """

    name: str
    exposures: list[np.ndarray]
    fused: np.ndarray


@dataclass(frozen=True)
class BracketedPhotos:
    """The photos of all brackets of a folder, resized for training.

    Attributes:
        photos: N×3×S×S uint8.
        targets: N×3×S×S uint8, for each photo the fusion of its bracket, see :func:`toned`.
        scene: N integers, equal for photos of the same scene.
        left_out: one message for each group of photos that is no bracket.
    """

    photos: Tensor
    targets: Tensor
    scene: Tensor
    left_out: list[str]


def fuse_exposures(photos: Sequence[np.ndarray]) -> np.ndarray:
    """Return the exposure fusion of H×W×3 uint8 photos of one size, H×W×3 uint8."""
    fused: np.ndarray = cv2.createMergeMertens().process(list(photos))
    return np.rint(fused.clip(0, 1) * 255).astype(np.uint8)


def log_average(luminance: np.ndarray) -> float:
    """Return the geometric mean of luminance, to which a thousandth of the median is added for the sake of zeros."""
    return float(np.exp(np.log(luminance + 1e-3 * np.median(luminance) + 1e-9).mean()))


def toned(fused: np.ndarray, metered: np.ndarray) -> np.ndarray:
    """Return a fusion with brightness and contrast a part of the way to those of the photo with the metered exposure.

    A power of the luminance, as a gain of all channels, makes its mean lie between those of the two.

    Args:
        fused, metered: H×W×3 uint8 of the same scene.
    """
    photo = fused.astype(np.float32) / 255
    luminance, other = (np.float32(image) @ LUMINANCE / 255 for image in (fused, metered))
    wanted = luminance.mean() + _TOWARDS_METERED * (other.mean() - luminance.mean())
    low, high = 0.4, 2.5
    for _ in range(20):  # the mean decreases with the exponent
        exponent = (low + high) / 2
        low, high = (exponent, high) if (luminance**exponent).mean() > wanted else (low, exponent)
    gained = photo * np.maximum(luminance, 1 / 510)[..., None] ** (exponent - 1)
    return np.rint(255 * gained / np.maximum(gained.max(axis=2, keepdims=True), 1)).astype(np.uint8)


def most_shift(photos: Sequence[np.ndarray]) -> float:
    """Return the largest displacement between neighbouring exposures, as a fraction of the photo's side.

    It is the peak of the phase correlation of their edges, after histogram equalisation. Pairs without a clear peak,
    one of which is nearly black or white, do not count.

    Args:
        photos: H×W×3 uint8, sorted by exposure.
    """

    def edges(photo: np.ndarray) -> np.ndarray:
        grey = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (256, 256), interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(cv2.equalizeHist(grey).astype(np.float32), (0, 0), 1.5)
        found = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        return found - found.mean()

    window = cv2.createHanningWindow((256, 256), cv2.CV_32F)
    found = [edges(photo) for photo in photos]
    peaks = [cv2.phaseCorrelate(a, b, window) for a, b in pairwise(found)]
    return max((max(map(abs, shift)) / 256 for shift, peak in peaks if peak > _CLEAR_PEAK), default=0.0)


def read_brackets(folder: str | Path) -> Iterator[Bracket]:
    """Read one bracket after another from a folder with a subfolder for each scene.

    A file named ``fused``, with any photo's extension, is the fusion of the bracket; without one, the exposures are
    fused.

    Raises:
        FileNotFoundError, NotADirectoryError: the folder does not exist or is a file.
        ValueError: no subfolder has photos, or the photos of a scene differ in size.
        PhotoError: a photo cannot be read.
    """
    photos = list_photos(folder)
    folders = sorted({path.parent for path in photos} - {Path(folder)})
    if not folders:
        raise ValueError(f"{folder} has no subfolders with photos; a bracket is a folder with the exposures of a scene")
    for scene in folders:
        paths = [path for path in photos if path.parent == scene]
        exposures = [read_photo(path) for path in paths if path.stem != FUSED]
        fused = [read_photo(path) for path in paths if path.stem == FUSED]
        if not exposures:
            raise ValueError(f"{scene} has no exposures, only the fusion")
        if sizes := {photo.shape for photo in fused + exposures[1:]} - {exposures[0].shape}:
            height, width, _ = sizes.pop()
            raise ValueError(f"{scene} has photos of different sizes, one of them {width}×{height}")
        yield Bracket(scene.name, exposures, fused[0] if fused else fuse_exposures(exposures))


def load_bracketed_photos(folder: str | Path, size: int = 128) -> BracketedPhotos:
    """Find the brackets among the photos of a folder, fuse them, and resize photos and fusions to squares.

    Scenes are found by :func:`~kdlib.data.pairs.find_scenes`. A group of fewer than three photos is no bracket; one of
    more than eleven holds several scenes; and one whose photos are displaced by more than 1% of their side is
    misaligned. These are left out and named in one warning.

    Args:
        folder: photos, searched recursively.
        size: side in pixels; at most 512, the side at which exposures are fused.

    Raises:
        FileNotFoundError, NotADirectoryError: the folder does not exist or is a file.
        ValueError: the folder has no bracket.
        PhotoError: a photo cannot be read.
    """
    paths = list_photos(folder)

    def decode(path: Path) -> np.ndarray:
        photo = np.asarray(open_photo(path))
        return cv2.resize(photo, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)

    def small(photo: np.ndarray) -> np.ndarray:
        return cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)

    with ThreadPoolExecutor() as pool:
        thumbnails = list(
            pool.map(lambda path: cv2.resize(decode(path), (64, 64), interpolation=cv2.INTER_AREA), paths)
        )
    scenes = find_scenes(torch.from_numpy(np.stack(thumbnails)).permute(0, 3, 1, 2))
    columns: list[tuple[np.ndarray, np.ndarray, int]] = []
    left_out = []
    for name in scenes.unique().tolist():
        members = (scenes == name).nonzero()[:, 0].tolist()
        label = f"{paths[members[0]].name} and {len(members) - 1} more"
        if not FEWEST <= len(members) <= MOST:
            left_out.append(f"{label}: a bracket has {FEWEST} to {MOST} exposures")
            continue
        members.sort(key=lambda i: float(thumbnails[i].mean()))
        photos = [decode(paths[i]) for i in members]
        if (shift := most_shift(photos)) > MOST_SHIFT:
            left_out.append(f"{label}: displaced by {shift:.1%} of their side")
            continue
        averages = [log_average(_LINEAR[photo] @ LUMINANCE) for photo in photos]
        metered = photos[int(np.argmin(np.abs(np.log(np.array(averages) / METERED))))]
        target = small(toned(fuse_exposures(photos), metered))
        columns += [(small(photo), target, name) for photo in photos]
    if not columns:
        raise ValueError(f"none of the {len(paths)} photos in {folder} form a bracket of {FEWEST} to {MOST} exposures")
    if left_out:
        warnings.warn(f"{folder}: {len(left_out)} groups of photos are left out: {'; '.join(left_out)}", stacklevel=2)
    photos, targets, scene = zip(*columns, strict=True)
    return BracketedPhotos(_planes(photos), _planes(targets), torch.tensor(scene), left_out)


def _planes(photos: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).contiguous()
