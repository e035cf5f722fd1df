"""The embedded photos: colour photos shipped with scikit-image, so that every notebook runs without a download."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data.degrade import Darkening, darken
from kdlib.enhance.photos.rgb import to_tensor

SAMPLES: dict[str, Callable[[], np.ndarray]] = {
    "astronaut": skimage.data.astronaut,
    "chelsea": skimage.data.chelsea,
    "coffee": skimage.data.coffee,
    "rocket": skimage.data.rocket,
    "motorcycle": lambda: skimage.data.stereo_motorcycle()[0],
    "motorcycle-right": lambda: skimage.data.stereo_motorcycle()[1],
}

# The notebooks do not train on these two by default, so scores on them measure generalisation.
HELD_OUT = ("chelsea", "coffee")
# The ranges are wide because a handful of photos has to represent all dark photos.
CROP_DARKENING = Darkening(stops=(0.0, 6.0), cast=0.3, unevenness=1.0)


@cache
def _decoded(load: Callable[[], np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(load())


def sample_photos() -> dict[str, np.ndarray]:
    """Return the embedded photos by name, each H×W×3 uint8.

    They are decoded once, which takes longer than much of what is done with them; the caller owns the arrays.
    """
    return {name: _decoded(load).copy() for name, load in SAMPLES.items()}


def sample_pairs(stops: float = 3.5, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each embedded photo darkened by ``stops``, with the original as ground truth.

    Returns:
        name → (dark, truth), both 3×H×W in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    darkening = Darkening(stops=(stops, stops))
    pairs = {}
    for name, photo in sample_photos().items():
        truth = to_tensor(photo)
        pairs[name] = (darken(truth[None], darkening, generator=generator)[0], truth)
    return pairs


def sample_crops(count: int, size: int, seed: int = 0, *, darkened: bool = True) -> Tensor:
    """Return random dark crops of the embedded photos that are not held out, as a small training set.

    For each crop, a photo, a crop size (1/6 of the photo's short side up to all of it), a position, a flip, a channel
    order and, unless ``darkened`` is False, a darkening are drawn at random.

    Returns:
        count×3×size×size, uint8.
    """
    generator = torch.Generator().manual_seed(seed)
    photos = [to_tensor(photo) for name, photo in sample_photos().items() if name not in HELD_OUT]
    crops = random_crops(photos, count, size, generator)
    if darkened:
        crops = darken(crops, CROP_DARKENING, generator=generator)
    return crops.clamp(0, 1).mul(255).round().byte()


def random_crops(photos: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw crops of photos at random: photo, side, position, flip and channel order, as in :func:`sample_crops`.

    Args:
        photos: 3×H×W each, in [0, 1].

    Returns:
        count×3×size×size, in [0, 1] but for rounding.
    """
    crops = torch.empty(count, 3, size, size)
    for i in range(count):
        pick, zoom, top, left, flip = torch.rand(5, generator=generator).tolist()
        photo = photos[int(pick * len(photos))]
        side = int(min(photo.shape[1:]) * (1 / 6) ** (1 - zoom))
        y, x = int(top * (photo.shape[1] - side)), int(left * (photo.shape[2] - side))
        crop = photo[torch.randperm(3, generator=generator), y : y + side, x : x + side]
        if flip < 0.5:
            crop = crop.flip(-1)
        crops[i] = F.interpolate(crop[None], size=(size, size), mode="bilinear", antialias=True)[0]
    return crops
