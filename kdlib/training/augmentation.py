"""Random exposures, windows and flips of training photos."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.checks import check_choice
from kdlib.data.degrade import Darkening, darken

GAMMA_RANGE = (0.5, 1.5)
AUGMENTATIONS = ("none", "gamma", "darken")
# Half of the photos of a batch stay as they are, the others lose up to 5.3 stops (a factor of 10^1.6) of light.
TRAINING_DARKENING = Darkening(stops=(0.0, 5.3))


def augment(photos: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Vary the exposure of a batch and flip it at random.

    Args:
        photos: B×3×H×W in [0, 1].
        kind: ``none`` (photos as they are), ``gamma`` (each photo to the power of a uniform draw from [0.5, 1.5]) or
            ``darken`` (every other photo physically, by up to 5.3 stops).
        generator: on the photos' device.
    """
    check_choice("augmentation", kind, AUGMENTATIONS)
    if kind == "none":
        return photos
    if torch.rand((), generator=generator, device=photos.device) < 0.5:
        photos = photos.flip(-1)
    if kind == "gamma":
        low, high = GAMMA_RANGE
        draw = torch.rand((len(photos), 1, 1, 1), generator=generator, device=photos.device)
        return photos ** (low + (high - low) * draw)
    photos = photos.clone()
    photos[::2] = darken(photos[::2], TRAINING_DARKENING, generator=generator)
    return photos


def darken_once(photos: Tensor, seed: int) -> Tensor:
    """Augment photos (N×3×S×S uint8) as :func:`augment` does with ``darken``, but once and for all.

    A teacher's answers can then be cached although it sees every other photo darkened.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [augment(batch.float() / 255, "darken", generator) for batch in photos.split(64)]
    return torch.cat([part.mul(255).round().byte() for part in parts])


def random_window(columns: Tensor, side: int, whole: float, generator: torch.Generator) -> Tensor:
    """The same random window, flip and quarter turn for everything that belongs to a photo.

    Args:
        columns: B×C×S×S, everything that has to stay aligned.
        side: of the result.
        whole: in this share of the calls the window is the whole photo, downsampled; else its side is drawn from
            ``side`` to S.

    Returns:
        B×C×side×side.
    """
    full = columns.shape[-1]
    drawn, zoom, top, left, flip, turn = torch.rand(6, generator=generator, device=generator.device).tolist()
    kept = full if drawn < whole else side + int(zoom * (full - side + 1))
    top, left = int(top * (full - kept + 1)), int(left * (full - kept + 1))
    window = columns[..., top : top + kept, left : left + kept]
    if kept != side:
        window = F.interpolate(window, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    if flip < 0.5:
        window = window.flip(-1)
    return window.rot90(int(turn * 4), dims=(-2, -1))
