"""Editing EXIF blocks without moving their content: removing the thumbnail and updating the size."""

import struct
from collections.abc import Mapping

# Tags for the size of the photo in the first directory, and in the EXIF directory, to which the first one points.
SIZE_TAGS = {256: "width", 257: "height"}
EXIF_SIZE_TAGS = {40962: "width", 40963: "height"}
EXIF_DIRECTORY = 34665

_SHORT, _LONG = 3, 4
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def without_thumbnail(exif: bytes) -> bytes:
    """Remove the link to the embedded thumbnail, which would still show the dark photo.

    Only the pointer to it is set to zero. All other bytes and offsets stay, including those in maker notes, whose
    layout is proprietary. A block that cannot be read is returned unchanged.
    """
    start, order = _header(exif)
    if order is None:
        return exif
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start + directory)
    except struct.error:
        return exif
    pointer = start + directory + 2 + 12 * entries
    if pointer + 4 > len(exif):
        return exif
    return exif[:pointer] + bytes(4) + exif[pointer + 4 :]


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """Set the existing size tags to this size, for a photo that was enlarged.

    No tags are added, and all other bytes and offsets stay. A block that cannot be read is returned unchanged.
    """
    start, order = _header(exif)
    if order is None:
        return exif
    block, size = bytearray(exif), {"width": width, "height": height}

    def directory(position: int, tags: Mapping[int, str]) -> int:
        """Change tags in the directory at a position; return the position of the EXIF directory, or 0."""
        found = 0
        (entries,) = struct.unpack_from(f"{order}H", block, start + position)
        for entry in range(start + position + 2, start + position + 2 + 12 * entries, 12):
            number, type_, count = struct.unpack_from(f"{order}HHI", block, entry)
            if number == EXIF_DIRECTORY:
                (found,) = struct.unpack_from(f"{order}I", block, entry + 8)
            elif number in tags and type_ in (_SHORT, _LONG) and count == 1:
                # The value field has room for a long integer in either case.
                struct.pack_into(f"{order}HHII", block, entry, number, _LONG, 1, size[tags[number]])
        return found

    try:
        (first,) = struct.unpack_from(f"{order}I", block, start + 4)
        if inner := directory(first, SIZE_TAGS):
            directory(inner, EXIF_SIZE_TAGS)
    except struct.error:
        return exif
    return bytes(block)


def _header(exif: bytes) -> tuple[int, str | None]:
    """Return the start of a block and its byte order, or None for the order if it is not EXIF data."""
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    return start, _BYTE_ORDERS.get(exif[start : start + 4])
