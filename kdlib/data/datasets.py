"""Load photos for training and evaluation from the embedded set, a folder of photos, or a folder of pairs."""

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdlib.checks import check_number
from kdlib.data.samples import HELD_OUT, sample_crops, sample_pairs
from kdlib.enhance.photos.rgb import PhotoError, list_photos, open_photo, read_photo, to_tensor

# Names of the two folders of a paired data set, in any case: dark photos and ground truth (Normal in LOL-v2).
DARK_FOLDER, TRUTH_FOLDERS = "low", ("high", "normal")
LOL_V2 = "real_captured"
PREFIX = re.compile(r"^(low|high|normal)[_-]?(?=.)", re.IGNORECASE)
# Larger sets of decoded photos are kept in a memory-mapped temporary file. In bytes.
MEMORY_LIMIT = 2 * 1024**3


@dataclass(frozen=True)
class PhotoSet:
    """Photos, all decoded to the same size.

    Attributes:
        photos: N×3×S×S, uint8.
        skipped: one message for each photo that could not be read.
    """

    photos: Tensor
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.photos)


def square(image: Image.Image, size: int) -> Image.Image:
    """Crop the central square of a photo and resize it to ``size`` × ``size`` by area averaging."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((size, size), Image.Resampling.BOX, box=(left, top, left + side, top + side), reducing_gap=3.0)


def _subfolder(folder: Path, *names: str) -> Path | None:
    """Return the first of the named subfolders that exists, ignoring case."""
    found = {path.name.casefold(): path for path in sorted(folder.glob("*/"), reverse=True)}
    return next((found[name] for name in names if name in found), None)


def pair_folders(folder: str | Path, part: str = "train") -> tuple[Path, Path] | None:
    """Return a data set's folders of dark photos and of ground truth, or None if it holds no pairs.

    Args:
        folder: contains ``low/`` and ``high/`` (or ``Low/`` and ``Normal/``), or ``Train/`` and ``Test/`` with these
            subfolders, as LOL-v2's ``Real_captured`` does, or a folder ``Real_captured``.
        part: ``train`` or ``test``, used if the data set has both.
    """
    folder = Path(os.path.expanduser(folder))
    dark, truth = _subfolder(folder, DARK_FOLDER), _subfolder(folder, *TRUTH_FOLDERS)
    if dark and truth:
        return dark, truth
    inner = _subfolder(folder, part) or _subfolder(folder, LOL_V2)
    return pair_folders(inner, part) if inner else None


def training_folder(folder: str | Path, part: str = "train") -> Path:
    """Return the folder of a data set's dark photos: its ``low/`` if it holds pairs, otherwise the folder itself.

    Args:
        folder, part: see :func:`pair_folders`.
    """
    found = pair_folders(folder, part)
    return found[0] if found else Path(os.path.expanduser(folder))


def load_photos(
    data_dir: str | Path | None = None,
    *,
    size: int = 64,
    count: int = 1024,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[Iterator[object], int], Iterator[object]] | None = None,
) -> PhotoSet:
    """Load a training set into memory.

    Args:
        data_dir: a folder of photos, searched recursively, or None for random dark crops of the embedded photos. Only
            the dark photos of a folder with ``low/`` and ``high/`` are used.
        size: side of the square training images in pixels.
        count: number of embedded crops; ignored for a folder.
        limit: maximum number of photos, taken at even intervals from the folder.
        seed: seed of the embedded crops.
        progress: wraps the iteration over photos, for example in a tqdm; called with the iterator and its length.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: the folder does not exist or has no readable photo.
    """
    check_number("size (in pixels)", size, 16)
    if limit is not None:
        check_number("limit", limit, 1)
    if data_dir is None:
        return PhotoSet(sample_crops(count if limit is None else min(count, limit), size, seed))
    paths = list_photos(training_folder(data_dir))
    if limit is not None and limit < len(paths):
        paths = [paths[i * len(paths) // limit] for i in range(limit)]

    def decode(path: Path) -> np.ndarray | str:
        try:
            return np.asarray(square(open_photo(path), size))
        except PhotoError as error:
            return str(error)

    photos = _allocate((len(paths), 3, size, size))
    skipped: list[str] = []
    kept = 0
    with ThreadPoolExecutor() as pool:
        results: Iterator[object] = pool.map(decode, paths)
        for result in progress(results, len(paths)) if progress else results:
            if isinstance(result, str):
                skipped.append(result)
                warnings.warn(f"skipped {result}", stacklevel=2)
            else:
                photos[kept] = torch.from_numpy(np.array(result)).permute(2, 0, 1)
                kept += 1
    if kept == 0:
        raise ValueError(f"none of the {len(paths)} photos in {data_dir} can be read; the first error: {skipped[0]}")
    return PhotoSet(photos[:kept], skipped)


def _allocate(shape: tuple[int, ...]) -> Tensor:
    if int(np.prod(shape)) <= MEMORY_LIMIT:
        return torch.empty(shape, dtype=torch.uint8)
    # The file has no name, so the system deletes it with its last reference, even if the process crashes.
    return torch.from_numpy(np.memmap(tempfile.TemporaryFile(), dtype=np.uint8, mode="w+", shape=shape))


def find_pairs(folder: str | Path, part: str = "train") -> list[tuple[str, Path, Path]]:
    """Return the pairs of a data set, matched by file name without extension.

    If the names differ, the prefixes low, high and normal are ignored: LOL-v2's ``low00001.png`` and
    ``normal00001.png`` form the pair ``00001``.

    Args:
        folder, part: see :func:`pair_folders`.

    Returns:
        (name, dark photo, ground truth), sorted by name.

    Raises:
        ValueError: the subfolders are missing, or a photo has no partner.
    """
    folders = pair_folders(folder, part)
    if folders is None:
        raise ValueError(
            f"{folder} holds no pairs: it needs the subfolders low and high (or Low and Normal, as in LOL-v2), "
            f"which may also be inside {part.title()}"
        )
    low, high = (_by_name(where) for where in folders)
    if low.keys() != high.keys():
        without = tuple(_by_name(where, without_prefix=True) for where in folders)
        if len(without[0].keys() ^ without[1].keys()) < len(low.keys() ^ high.keys()):
            low, high = without
    if alone := sorted(low.keys() ^ high.keys()):
        raise ValueError(f"{folder}: {len(alone)} photos have no partner with the same name: {', '.join(alone[:5])}")
    return [(name, low[name], high[name]) for name in sorted(low)]


def _by_name(folder: Path, *, without_prefix: bool = False) -> dict[str, Path]:
    """Map names without extension, and optionally without prefix, to the photos of a folder."""
    named: dict[str, Path] = {}
    for path in list_photos(folder):
        stem = PREFIX.sub("", path.stem) if without_prefix else path.stem
        name = path.relative_to(folder).with_name(stem).as_posix()
        if name in named:
            raise ValueError(f"{folder} holds two photos named {name}: {named[name].name} and {path.name}")
        named[name] = path
    return named


def evaluation_pairs(
    data_dir: str | Path | None = None, *, stops: float = 3.5, seed: int = 0
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield dark photos with ground truth, one at a time at full size.

    A pair with an unreadable photo is skipped with a warning.

    Args:
        data_dir: a folder with ``low/`` and ``high/`` (the test pairs in the case of LOL-v2), or None for the embedded
            photos darkened by ``stops``.

    Yields:
        (name, dark, truth), both photos 3×H×W in [0, 1].

    Raises:
        ValueError: the folder has no pairs, or the photos of a pair differ in size.
    """
    if data_dir is None:
        for name, (dark, truth) in sample_pairs(stops, seed).items():
            yield name, dark, truth
        return
    for name, low, high in find_pairs(data_dir, "test"):
        try:
            dark, truth = to_tensor(read_photo(low)), to_tensor(read_photo(high))
        except PhotoError as error:
            warnings.warn(f"skipped the pair {name}: {error}", stacklevel=2)
            continue
        if dark.shape != truth.shape:
            raise ValueError(f"{low} and {high} differ in size: {tuple(dark.shape[1:])} and {tuple(truth.shape[1:])}")
        yield name, dark, truth


def dark_photos(folders: Sequence[str | Path] = (), *, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield dark photos at full size, without ground truth, for comparing two models.

    Args:
        folders: folders of photos or of pairs, of which only the dark photos are used; if empty, the held-out embedded
            photos are used, each at four exposures.

    Yields:
        (name, photo 3×H×W in [0, 1]). Unreadable photos are skipped with a warning.
    """
    if isinstance(folders, (str, Path)):
        folders = [folders]
    if not folders:
        for stops in (1.5, 2.5, 3.5, 4.5):
            for name, (dark, _) in sample_pairs(stops, seed).items():
                if name in HELD_OUT:
                    yield f"{name}, {stops} stops down", dark
        return
    for folder in folders:
        for path in list_photos(training_folder(folder, "test")):
            try:
                yield str(path), to_tensor(read_photo(path))
            except PhotoError as error:
                warnings.warn(f"skipped {error}", stacklevel=2)
