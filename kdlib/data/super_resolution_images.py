"""Data sets of sharp images, map-style: any folder of photos, and Vimeo-90K as it is unpacked.

An image that cannot be read is reported and replaced by the next one, never by a black one: a network would learn from
black images, too, without anyone noticing.
"""

import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from kdlib.checks import check_choice, check_number
from kdlib.enhance.photos.rgb import PhotoError, list_photos, read_photo

MOST_IN_A_ROW = 20
"""So many unreadable images in a row are skipped; more mean that the whole folder is wrong."""

_SEQUENCE = re.compile(r"\d{5}/\d{4}", re.ASCII)
_LAYOUTS = {"septuplet": ("sep", 7), "triplet": ("tri", 3)}


class SharpSet(Dataset[Tensor], ABC):
    """Images 3×H×W uint8 of any size. Unreadable ones are skipped, and all workers of a loader know them.

    Args:
        count: the number of images.
        least_side: images with a shorter side than this count as unreadable.

    Attributes:
        alike: the number of consecutive images that show the same scene.
    """

    alike = 1

    def __init__(self, count: int, least_side: int = 1) -> None:
        check_number("least_side", least_side, 1)
        self.least_side = least_side
        # In shared memory, so that the process that owns the data set learns which images its workers could not read.
        self._failed = torch.zeros(count, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self._failed)

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of an image, counted from 0."""

    @property
    def unreadable(self) -> list[str]:
        """The files that could not be read so far, in any worker."""
        return [str(self.path(index)) for index in self._failed.nonzero()[:, 0].tolist()]

    def __getitem__(self, index: int) -> Tensor:
        """The image, or the next one that can be read (after the last comes the first).

        Raises:
            IndexError: there are fewer images.
            ValueError: more than 20 images in a row cannot be read, or none at all.
        """
        first, reason = range(len(self))[index], ""
        tries = min(len(self), MOST_IN_A_ROW + 1)
        for k in ((first + step) % len(self) for step in range(tries)):
            if self._failed[k]:
                continue
            try:
                return self._image(k)
            except PhotoError as error:
                reason = f"; the last: {error}"
                self._report(k, error)
        raise ValueError(f"{tries} images in a row cannot be read, from {self.path(first)} on{reason}")

    def _image(self, index: int) -> Tensor:
        """Decode an image, or raise a PhotoError that names its file."""
        path = self.path(index)
        photo = read_photo(path)
        height, width = photo.shape[:2]
        if min(height, width) < self.least_side:
            raise PhotoError(f"{path}: {width} × {height} pixels; its sides must have {self.least_side} or more")
        return torch.from_numpy(photo).permute(2, 0, 1).contiguous()

    def _report(self, index: int, error: PhotoError) -> None:
        self._failed[index] = True
        warnings.warn(f"skipped {error}", stacklevel=3)


class SharpImages(SharpSet):
    """The photos of a folder and its subfolders, sorted by name.

    Args:
        folder: of photos.
        in_memory: decode all of them once and keep them, for small sets. Otherwise each is decoded on access.
        least_side: photos with a shorter side than this are reported as unreadable.
        progress: wraps the decoding for ``in_memory``, for example tqdm; takes the iterator and the total.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: no such folder, no photo in it, or (``in_memory``) none that
            can be read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        in_memory: bool = False,
        least_side: int = 1,
        progress: Callable[[Iterator[object], int], Iterator[object]] | None = None,
    ) -> None:
        self.folder = Path(os.path.expanduser(folder))
        # One array instead of a list of strings: reading a string counts a reference, which copies its memory page into
        # every forked worker.
        self._names = np.array([os.fsencode(path.relative_to(self.folder)) for path in list_photos(self.folder)])
        super().__init__(len(self._names), least_side)
        self._pixels: Tensor | None = None
        if in_memory:
            self._load(progress)

    def path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self._names[index].item())

    def _load(self, progress: Callable[[Iterator[object], int], Iterator[object]] | None) -> None:
        def decode(index: int) -> Tensor | PhotoError:
            try:
                return SharpSet._image(self, index)
            except PhotoError as error:
                return error

        images: list[Tensor] = []
        with ThreadPoolExecutor() as pool:
            results: Iterator[object] = pool.map(decode, range(len(self)))
            for index, result in enumerate(progress(results, len(self)) if progress else results):
                if isinstance(result, PhotoError):
                    self._report(index, result)
                images.append(result if isinstance(result, Tensor) else torch.empty((3, 0, 0), dtype=torch.uint8))
        if self._failed.all():
            raise ValueError(f"none of the {len(self)} photos in {self.folder} can be read; the first: {self.path(0)}")
        # A single tensor: the workers of a loader then share one file instead of one for each photo.
        self._shapes = torch.tensor([image.shape for image in images])
        self._ends = self._shapes.prod(dim=1).cumsum(dim=0)
        self._pixels = torch.cat([image.flatten() for image in images])

    def _image(self, index: int) -> Tensor:
        if self._pixels is None:
            return super()._image(index)
        shape, end = self._shapes[index].tolist(), int(self._ends[index])
        return self._pixels[end - shape[1] * shape[2] * 3 : end].view(shape).clone()


class JoinedImages(ConcatDataset[Tensor]):
    """Several data sets of sharp images, one after the other.

    An unreadable image is replaced by the next one of its own set.
    """

    datasets: list[SharpSet]  # type: ignore[assignment]  # as they were given

    def __init__(self, sets: Sequence[SharpSet]) -> None:
        if not sets:
            raise ValueError("there is no data set to join")
        super().__init__(sets)

    @property
    def unreadable(self) -> list[str]:
        """The files of all sets that could not be read so far, in any worker."""
        return [name for images in self.datasets for name in images.unreadable]


class Vimeo90K(SharpSet):
    """The frames of Vimeo-90K: short clips of 7 frames (septuplets) or 3 (triplets), 448×256, read in place.

    Image ``i`` is frame ``i % F`` of clip ``i // F``, where F frames of each clip are used. The list takes four bytes
    of memory per clip.

    Args:
        root: the folder of the unpacked archive, with ``sequences/00001/0001/im1.png`` … and the lists of clips.
        split: ``train`` or ``test``.
        layout: ``septuplet`` (``sep_trainlist.txt``, ``sep_testlist.txt``) or ``triplet`` (``tri_…``).
        frames: the frames to use, counted from 1; all unless given. Those of one clip resemble each other.
        least_side: frames with a shorter side than this are reported as unreadable.
        check: look for the folder of every clip immediately. That takes a while on a slow network disk; otherwise a
            missing one is reported on access.

    Raises:
        FileNotFoundError: no such folder, no list, or a clip of the list is missing; the message names the list and
            the line.
        ValueError: unknown split, layout or frame, or a line of the list that does not name a clip.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        layout: str = "septuplet",
        *,
        frames: Sequence[int] | None = None,
        least_side: int = 1,
        check: bool = True,
    ) -> None:
        check_choice("split", split, ("train", "test"))
        check_choice("layout", layout, _LAYOUTS)
        prefix, length = _LAYOUTS[layout]
        self.frames = tuple(frames) if frames is not None else tuple(range(1, length + 1))
        if not self.frames or not set(self.frames) <= set(range(1, length + 1)):
            raise ValueError(f"frames of a {layout} are numbered from 1 to {length}, got {self.frames}")
        self.root = Path(os.path.expanduser(root))
        if not self.root.is_dir():
            raise FileNotFoundError(f"the folder {self.root} does not exist")
        self.list_path = self.root / f"{prefix}_{split}list.txt"
        if not self.list_path.is_file():
            there = vimeo_layout(self.root, split)
            hint = f"; there is one of layout {there!r}" if there else "; give the folder that holds sequences/ too"
            raise FileNotFoundError(f"the list {self.list_path} does not exist{hint}")
        self._clips = _read_list(self.list_path)
        self.alike = len(self.frames)
        super().__init__(len(self._clips) * len(self.frames), least_side)
        for clip in range(len(self._clips) if check else 0):
            self._folder(clip)

    def path(self, index: int) -> Path:
        clip, frame = divmod(index, len(self.frames))
        return self.root / "sequences" / _clip_name(self._clips[clip]) / f"im{self.frames[frame]}.png"

    def _folder(self, clip: int) -> None:
        name = _clip_name(self._clips[clip])
        # A string is faster than a Path, and this is done for every clip.
        if not os.path.isdir(f"{self.root}/sequences/{name}"):
            raise FileNotFoundError(
                f"{self.list_path}, line {clip + 1}: there is no folder {self.root}/sequences/{name}"
            )

    def _image(self, index: int) -> Tensor:
        self._folder(index // len(self.frames))
        return super()._image(index)


def vimeo_layout(folder: str | Path, split: str = "train") -> str | None:
    """The layout of Vimeo-90K in a folder, from its list of clips, septuplets first; None for other folders."""
    root = Path(os.path.expanduser(folder))
    return next(
        (name for name, (prefix, _) in _LAYOUTS.items() if (root / f"{prefix}_{split}list.txt").is_file()), None
    )


def _read_list(path: Path) -> np.ndarray:
    """The clips of a list: ``00012/0345`` as the number 120345."""
    # Latin-1 decodes anything; a line that is not a clip is then refused with its number.
    text = path.read_text(encoding="latin-1").rstrip()
    if not text:
        raise ValueError(f"the list {path} is empty")

    def numbers() -> Iterator[int]:
        for line, name in enumerate(map(str.strip, text.split("\n")), 1):
            if not _SEQUENCE.fullmatch(name):
                raise ValueError(f"{path}, line {line}: {name[:40]!r} is not a clip; clips look like 00001/0001")
            yield int(name.replace("/", ""))

    return np.fromiter(numbers(), np.uint32)


def _clip_name(clip: np.uint32) -> str:
    return "{:05d}/{:04d}".format(*divmod(int(clip), 10_000))
