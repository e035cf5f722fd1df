"""What a method does, apart from how near it comes to a ground truth.

Questions that no score answers. *Is it more than a fixed curve?* A network that lifts every photo alike could be
replaced by a table of 3×256 numbers. *Does it leave daylight alone?* A method for dark photos meets bright ones too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data.samples import sample_photos
from kdlib.enhance.photos.rgb import to_array, to_tensor
from kdlib.evaluation.classical import Method
from kdlib.evaluation.metrics import FIDELITY_CAP, capped_psnr
from kdlib.models import ZeroDCE, apply_curve

# Well-exposed photos among the embedded ones: a mean brightness in the middle third, 1/3 to 2/3, which nobody would
# want brightened or darkened. That leaves out the rocket, taken at dusk (0.26). Of the stereo pair, the left photo: the
# same scene twice would count double.
WELL_EXPOSED = ("astronaut", "chelsea", "coffee", "motorcycle")


class FixedCurve:
    """The one table, a mean output for each colour and input level, that comes nearest to a method on a set of photos.

    The mean is what least squares asks for. Of each photo only how often each output level meets each input level is
    kept (1.5 MB at most, whatever its size): that decides the table, and how far each photo is from it.
    """

    def __init__(self) -> None:
        self._photos: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Take note of one photo before and after the method; both H×W×3 uint8.

        Raises:
            ValueError: they differ in shape.
        """
        if before.shape != after.shape:
            raise ValueError(f"a photo of shape {before.shape} became one of shape {after.shape}; sizes have to stay")
        met = np.concatenate(
            [
                np.bincount(before[..., c].ravel() * np.intp(256) + after[..., c].ravel(), minlength=65536)
                for c in range(3)
            ]
        )
        codes = np.flatnonzero(met)
        self._photos.append((codes, met[codes]))

    def table(self) -> np.ndarray:
        """3×256, float64 from 0 to 255; NaN for levels that no photo has."""
        totals, counts = np.zeros(768), np.zeros(768)
        for codes, met in self._photos:
            totals += np.bincount(codes // 256, met * (codes % 256), minlength=768)
            counts += np.bincount(codes // 256, met, minlength=768)
        return np.divide(totals, counts, out=np.full(768, np.nan), where=counts > 0).reshape(3, 256)

    def psnr(self) -> float:
        """Mean over the photos of the PSNR between the table's output, rounded to 8 bits, and the method's, in dB.

        A photo that the table gives exactly counts as 100 dB.

        Raises:
            ValueError: no photo was added.
        """
        if not self._photos:
            raise ValueError("no photos to fit a fixed curve to")
        rounded = np.rint(self.table()).ravel()
        scores = []
        for codes, met in self._photos:
            error = np.average((rounded[codes // 256] - codes % 256) ** 2, weights=met)
            scores.append(min(10 * np.log10(255**2 / error), FIDELITY_CAP) if error else FIDELITY_CAP)
        return float(np.mean(scores))


def fixed_curve_psnr(method: Method, photos: Iterable[tuple[str, Tensor]]) -> float:
    """How well one fixed curve for each colour would replace a method on a set of photos, in dB.

    From 45 dB up, hardly anyone could tell the two apart: the method is a fixed curve in disguise. A fixed gamma has
    100.

    Args:
        method: from photo to photo; both are rounded to 8 bits.
        photos: (name, 3×H×W in [0, 1]), for example from :func:`kdlib.data.dark_photos`. Gone through once.

    Raises:
        ValueError: no photos.
    """
    curve = FixedCurve()
    for _, photo in photos:
        curve.add(to_array(photo), to_array(method(photo)))
    return curve.psnr()


def daylight_photos() -> dict[str, Tensor]:
    """The embedded photos that are well exposed (:data:`WELL_EXPOSED`) by name, 3×H×W in [0, 1]."""
    return {name: to_tensor(photo) for name, photo in sample_photos().items() if name in WELL_EXPOSED}


def daylight_change(method: Method, photos: Iterable[tuple[str, Tensor]] | None = None) -> dict[str, Any]:
    """How much a method changes the mean brightness of photos that need no brightening, as |after / before − 1|.

    Args:
        method: from photo to photo; its output is rounded to 8 bits.
        photos: (name, 3×H×W in [0, 1]); :func:`daylight_photos` by default.

    Returns:
        ``daylight``, the mean over the photos, and ``daylight_worst``; 0 is no change, 1 twice as bright.

    Raises:
        ValueError: no photos, or one that is black.
    """
    changes = []
    for name, photo in daylight_photos().items() if photos is None else photos:
        before = to_array(photo).mean(dtype=np.float64)
        if before == 0:
            raise ValueError(f"{name} is black: no daylight to leave alone")
        changes.append(abs(float(to_array(method(photo)).mean(dtype=np.float64) / before) - 1))
    if not changes:
        raise ValueError("no photos to measure the change of daylight on")
    return {"daylight": sum(changes) / len(changes), "daylight_worst": max(changes)}


@torch.no_grad()
def shared_map_psnr(model: ZeroDCE, photos: Iterable[tuple[str, Tensor]]) -> float:
    """How well one map for all iterations would replace the map for each: mean PSNR in dB, 100 at most a photo.

    The one map is the mean of the network's maps; nothing is trained for it.

    Args:
        model: with a map for each iteration.
        photos: (name, 3×H×W in [0, 1]).

    Raises:
        ValueError: a network with one map, or no photos.
    """
    if model.shared_map:
        raise ValueError("this network has one map for all iterations already")
    scores = []
    for _, photo in photos:
        enhanced, curve_map = model(photo[None])
        mean = torch.stack(curve_map.split(3, dim=1)).mean(dim=0)
        scores.append(capped_psnr(apply_curve(photo[None], mean, model.iterations)[0], enhanced[0]))
    if not scores:
        raise ValueError("no photos to compare the maps on")
    return sum(scores) / len(scores)
