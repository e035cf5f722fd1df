"""Photos for supervised training: well-exposed photos for synthetic pairs, and real dark photos with ground truth."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kdlib.data.datasets import find_pairs, square
from kdlib.enhance.photos.rgb import PhotoError, open_photo

# A photo serves as a target if its mean brightness is in this range and at most this fraction of it is clipped.
WELL_EXPOSED, MOST_CLIPPED = (0.25, 0.65), 0.05
# Two photos show the same scene if the rank correlation of their brightness exceeds this.
SAME_SCENE = 0.9
# Below this rank correlation, the camera or an object moved between the two photos of a pair.
MISALIGNED = 0.7


def well_exposed(photos: Tensor) -> Tensor:
    """Return which photos (N×3×S×S uint8) can serve as targets, as N booleans.

    Their mean brightness is in [0.25, 0.65], and at most 5% of the pixels are clipped (250 or more in every channel).
    """
    least, most = WELL_EXPOSED
    chosen = []
    for batch in photos.split(64):
        brightness = batch.float().mean(dim=(1, 2, 3)) / 255
        clipped = (batch >= 250).all(dim=1).float().mean(dim=(1, 2))
        chosen.append((brightness > least) & (brightness < most) & (clipped < MOST_CLIPPED))
    return torch.cat(chosen)


def brightness_order(photos: Tensor) -> Tensor:
    """Rank the brightness values of each photo at 16×16.

    Ranks do not depend on the exposure, because a monotonic curve preserves them.

    Args:
        photos: N×3×H×W, of any dtype.

    Returns:
        N×256 ranks, centred and normalised to unit length; the dot product of two rows is their rank correlation.
    """
    small = torch.cat([F.adaptive_avg_pool2d(batch.float().mean(1), 16).flatten(1) for batch in photos.split(64)])
    ranks = small.argsort(dim=1).argsort(dim=1).float()
    return F.normalize(ranks - ranks.mean(dim=1, keepdim=True), dim=1)


def find_scenes(photos: Tensor) -> Tensor:
    """Group photos (N×3×S×S uint8) by scene: N integers, equal for photos of the same scene at different exposures."""
    shapes = brightness_order(photos)
    scene = torch.full((len(photos),), -1)
    for i in range(len(photos)):
        if scene[i] >= 0:
            continue
        scene[i] = i
        members = [i]
        while members:  # similarity is transitive: a photo that resembles any member joins the scene
            near = (shapes @ shapes[members.pop()] > SAME_SCENE) & (scene < 0)
            scene[near] = i
            members += near.nonzero()[:, 0].tolist()
    return scene


def split_scenes(photos: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split photos (N×3×S×S uint8) into a training and a validation set that share no scene.

    Returns:
        Two shuffled index tensors, training first; validation has about ``fraction`` of the photos, and neither is
        empty.

    Raises:
        ValueError: all photos show the same scene.
    """
    scene = find_scenes(photos)
    names = scene.unique()
    if len(names) < 2:
        raise ValueError(
            f"training needs photos of at least 2 scenes, one of them for validation; all {len(photos)} photos show "
            "the same scene"
        )
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed))
    wanted = max(1, round(len(photos) * fraction))
    held: set[int] = set()
    count = 0
    for index in order.tolist():
        if count >= wanted or len(held) == len(names) - 1:
            break
        if (name := int(scene[index])) not in held:
            held.add(name)
            count += int((scene == name).sum())
    is_held = torch.tensor([int(scene[i]) in held for i in order])
    return order[~is_held], order[is_held]


def as_batch(images: Sequence[Image.Image]) -> Tensor:
    """Stack RGB images of equal size into N×3×H×W uint8."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def load_pairs(data_dir: str | Path, *, size: int = 128, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Load real pairs into memory.

    Misaligned pairs, whose brightness at 16×16 has a rank correlation below 0.7, are skipped with a warning. In the
    training set of LOL-v1 these are eight pairs of three scenes, with correlations from 0.58 to 0.69; all other pairs
    reach 0.79.

    Args:
        data_dir: a folder with ``low/`` and ``high/``.
        size: side of the square training images in pixels.
        limit: maximum number of pairs, taken at even intervals.

    Returns:
        Dark photos and ground truth, each N×3×S×S uint8.

    Raises:
        ValueError: the folder has no pairs, or none of them is usable.
    """
    pairs = find_pairs(data_dir)
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i * len(pairs) // limit] for i in range(limit)]

    def decode(pair: tuple[str, Path, Path]) -> Tensor | str:
        name, *paths = pair
        try:
            photos = [open_photo(path) for path in paths]
            # The fixed size makes the choice of pairs independent of the training size.
            dark, truth = brightness_order(as_batch([square(photo, 64) for photo in photos]))
            if (alike := float(dark @ truth)) < MISALIGNED:
                return f"{name}: its photos are misaligned (rank correlation {alike:.2f})"
            return as_batch([square(photo, size) for photo in photos])
        except PhotoError as error:
            return f"{name}: {error}"

    kept: list[Tensor] = []
    with ThreadPoolExecutor() as pool:
        for result in pool.map(decode, pairs):
            if isinstance(result, str):
                warnings.warn(f"skipped the pair {result}", stacklevel=2)
            else:
                kept.append(result)
    if not kept:
        raise ValueError(f"none of the {len(pairs)} pairs in {data_dir} is usable; the warnings give the reasons")
    dark, truth = torch.stack(kept).unbind(dim=1)
    return dark.contiguous(), truth.contiguous()
