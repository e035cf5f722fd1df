"""Directories of TIFF files: tags taken out and put into another file as they are, whatever they mean."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from kdlib.enhance.photos.paths import PhotoError

# Bytes of one value of each type, and the size of the numbers in it, which is what a change of byte order turns.
_TYPES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4)}
_TYPES |= {10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8), 17: (8, 8), 18: (8, 8)}
SHORT, LONG = 3, 4
DAMAGED_TAGS = "the file is truncated, or its list of tags is damaged"
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_POINTERS = frozenset({34665, 34853, 40965})  # EXIF, GPS, interoperability: directories of their own


class Tag(NamedTuple):
    """A tag's type, its bytes in little-endian order, or the directory that it points to."""

    type: int
    data: bytes
    directory: dict[int, Tag] | None = None

    @property
    def integers(self) -> tuple[int, ...]:
        """The values of a tag of unsigned integers; none if it is of another type."""
        kind = _INTEGERS.get(self.type)
        return tuple(np.frombuffer(self.data, dtype=f"<{kind}").tolist()) if kind else ()


Directory = dict[int, Tag]


def tag(type_: int, *values: int) -> Tag:
    """A tag of SHORT or LONG values."""
    return Tag(type_, np.array(values, dtype=f"<{_INTEGERS[type_]}").tobytes())


class TiffReader:
    """Reads the directories of a TIFF or BigTIFF file in memory.

    Attributes:
        order: "<" or ">".
        first: where the first directory is.
        missing: tags that were left out because they lie outside the file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.missing: set[int] = set()
        self.order = "<" if data[:2] == b"II" else ">"
        self._big = self._unpack("H", 2)[0] == 43
        (self.first,) = self._unpack("Q", 8) if self._big else self._unpack("I", 4)

    def _unpack(self, layout: str, position: int) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(self.order + layout, self.data, position)
        except (struct.error, OverflowError):
            raise PhotoError(DAMAGED_TAGS) from None

    def read(self, position: int, *, depth: int = 0) -> tuple[Directory, int]:
        """The directory at a position, and where the next one is, or 0. Tags that lie outside the file are left out."""
        (count,) = self._unpack("Q" if self._big else "H", position)
        entry_size, layout, room = (20, "HHQ8s", 8) if self._big else (12, "HHI4s", 4)
        position += 8 if self._big else 2
        directory: Directory = {}
        budget = len(self.data)  # many tags that point to the same bytes could fill the memory
        for entry in range(count):
            number, type_, values, field = self._unpack(layout, position + entry * entry_size)
            size, number_size = _TYPES.get(type_, (0, 1))
            size *= values
            start = position + entry * entry_size + entry_size - room
            if size > room:
                start = int.from_bytes(field, "little" if self.order == "<" else "big")
                budget -= size
            if not size:
                continue
            if start + size > len(self.data) or budget < 0:
                self.missing.add(number)
                continue
            data = self.data[start : start + size]
            if self.order == ">" and number_size > 1:
                data = np.frombuffer(data, dtype=f">u{number_size}").astype(f"<u{number_size}").tobytes()
            found = Tag(type_, data)
            if number in _POINTERS and depth < 3:
                if not found.integers:
                    continue
                found = found._replace(directory=self.read(found.integers[0], depth=depth + 1)[0])
            directory[number] = found
        end = position + count * entry_size
        if end == len(self.data):  # some programs leave the pointer to a next page out
            return directory, 0
        (following,) = self._unpack("Q" if self._big else "I", end)
        return directory, following


def directory_bytes(directory: Directory, position: int, order: str = "<") -> bytes:
    """A directory for a classic TIFF file, to be put at ``position``, an even number; no other one follows it."""
    entries = sorted(directory.items())
    head = [struct.pack(f"{order}H", len(entries))]
    tail: list[bytes] = []
    end = position + 2 + 12 * len(entries) + 4
    for number, found in entries:
        type_, data = found.type, found.data
        if found.directory is not None:
            inner = directory_bytes(found.directory, end, order)
            data, type_ = np.array([end], dtype="<u4").tobytes(), LONG
            tail.append(inner)
            end += len(inner)
        elif type_ in (16, 18) and max(found.integers) < 2**32:  # 64-bit integers are for BigTIFF files only
            data, type_ = np.array(found.integers, dtype="<u4").tobytes(), LONG
        size, number_size = _TYPES[type_]
        count = len(data) // size
        if order == ">" and number_size > 1:
            data = np.frombuffer(data, dtype=f"<u{number_size}").astype(f">u{number_size}").tobytes()
        if len(data) > 4:
            data += bytes(len(data) % 2)
            tail.append(data)
            data, end = struct.pack(f"{order}I", end), end + len(data)
        head.append(struct.pack(f"{order}HHI", number, type_, count) + data.ljust(4, b"\0"))
    return b"".join([*head, bytes(4), *tail])
