"""Measure how a method behaves, independently of any ground truth.

Two questions are not answered by scores. *Is the method more than a fixed curve?* A network that brightens every photo
in the same way could be replaced by a table of 3×256 numbers. *Does the method preserve well-exposed photos?* A method
for dark photos is also applied to bright ones.
"""

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

# The embedded photos with a mean brightness from 1/3 to 2/3, which need no correction. This excludes the rocket, taken
# at dusk (0.26). Only the left photo of the stereo pair is included, so that its scene does not count twice.
WELL_EXPOSED = ("astronaut", "chelsea", "coffee", "motorcycle")


class FixedCurve:
    """The fixed curve that best approximates a method on a set of photos: one output per channel and input level.

    Each entry of the table is the mean output, which minimises the squared error. For each photo only the joint
    histogram of input and output levels is stored (1.5 MB at most, whatever its size); it determines both the table and
    the photo's distance from it.
    """

    def __init__(self) -> None:
        self._photos: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Add one photo before and after the method, both H×W×3 uint8.

        Raises:
            ValueError: the shapes differ.
        """
        if before.shape != after.shape:
            raise ValueError(f"the method changed a photo of shape {before.shape} to {after.shape}; sizes must match")
        met = np.concatenate(
            [
                np.bincount(before[..., c].ravel() * np.intp(256) + after[..., c].ravel(), minlength=65536)
                for c in range(3)
            ]
        )
        codes = np.flatnonzero(met)
        self._photos.append((codes, met[codes]))

    def table(self) -> np.ndarray:
        """Return the fitted curve: 3×256, float64 from 0 to 255, NaN for levels that occur in no photo."""
        totals, counts = np.zeros(768), np.zeros(768)
        for codes, met in self._photos:
            totals += np.bincount(codes // 256, met * (codes % 256), minlength=768)
            counts += np.bincount(codes // 256, met, minlength=768)
        return np.divide(totals, counts, out=np.full(768, np.nan), where=counts > 0).reshape(3, 256)

    def psnr(self) -> float:
        """Return the mean PSNR in dB between the fitted curve's output, rounded to 8 bits, and the method's output.

        A photo that the curve reproduces exactly counts as 100 dB.

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
    """Measure how well one fixed curve per channel reproduces a method on a set of photos, in dB.

    Above 45 dB the two are hardly distinguishable, and the method is in effect a fixed curve. A fixed gamma scores 100
    dB.

    Args:
        method: maps a photo to a photo; both are rounded to 8 bits.
        photos: (name, 3×H×W in [0, 1]), for example from :func:`kdlib.data.dark_photos`; iterated once.

    Raises:
        ValueError: there are no photos.
    """
    curve = FixedCurve()
    for _, photo in photos:
        curve.add(to_array(photo), to_array(method(photo)))
    return curve.psnr()


def daylight_photos() -> dict[str, Tensor]:
    """Return the well-exposed embedded photos (:data:`WELL_EXPOSED`) by name, 3×H×W in [0, 1]."""
    return {name: to_tensor(photo) for name, photo in sample_photos().items() if name in WELL_EXPOSED}


def daylight_change(method: Method, photos: Iterable[tuple[str, Tensor]] | None = None) -> dict[str, Any]:
    """Measure how much a method changes the mean brightness of well-exposed photos, as |after / before − 1|.

    Args:
        method: maps a photo to a photo; its output is rounded to 8 bits.
        photos: (name, 3×H×W in [0, 1]); :func:`daylight_photos` by default.

    Returns:
        ``daylight``, the mean over the photos, and ``daylight_worst``, the maximum; 0 means no change, 1 a photo that
        becomes twice as bright.

    Raises:
        ValueError: there are no photos, or one is black.
    """
    changes = []
    for name, photo in daylight_photos().items() if photos is None else photos:
        before = to_array(photo).mean(dtype=np.float64)
        if before == 0:
            raise ValueError(f"{name} is black, so its relative change of brightness is undefined")
        changes.append(abs(float(to_array(method(photo)).mean(dtype=np.float64) / before) - 1))
    if not changes:
        raise ValueError("no photos to measure the change of daylight on")
    return {"daylight": sum(changes) / len(changes), "daylight_worst": max(changes)}


@torch.no_grad()
def shared_map_psnr(model: ZeroDCE, photos: Iterable[tuple[str, Tensor]]) -> float:
    """Measure how well one map shared by all iterations replaces a network's separate maps.

    The shared map is the mean of the network's maps; nothing is trained.

    Args:
        model: a network with one map per iteration.
        photos: (name, 3×H×W in [0, 1]).

    Returns:
        Mean PSNR in dB between the two outputs, at most 100 for each photo.

    Raises:
        ValueError: the network already has a shared map, or there are no photos.
    """
    if model.shared_map:
        raise ValueError("this network already shares one map between all iterations")
    scores = []
    for _, photo in photos:
        enhanced, curve_map = model(photo[None])
        mean = torch.stack(curve_map.split(3, dim=1)).mean(dim=0)
        scores.append(capped_psnr(apply_curve(photo[None], mean, model.iterations)[0], enhanced[0]))
    if not scores:
        raise ValueError("no photos to compare the maps on")
    return sum(scores) / len(scores)
