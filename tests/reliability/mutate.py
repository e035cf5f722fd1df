"""Damage as files get it, and as people make it who know the formats."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

_BOXES = (b"meta", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco", b"dinf", b"edts", b"udta", b"stsd")
_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    0x7F,
    0xFF,
    0x100,
    4096,
    16_383,
    0x7FFF,
    0xFFFF,
    0x10000,
    10**6,
    0x7FFFFFFF,
    0xFFFFFFFF,
)


class Layout(NamedTuple):
    """What a format's reader goes by.

    Attributes:
        fields: whole numbers: position, size in bytes, byte order ("<" or ">").
        parts: segments, chunks or boxes: first byte, and the byte behind.
    """

    fields: list[tuple[int, int, str]]
    parts: list[tuple[int, int]]


def mutated(data: bytes, kind: str, others: list[bytes], rng: random.Random) -> bytes:
    """A damaged copy.

    Args:
        data: a sound file.
        kind: its extension, with the dot.
        others: further files of that kind, to splice from.
        rng: decides all.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if kind == ".safetensors" and rng.random() < 0.5:
            data = _of_header(data, rng)
        elif kind == ".pth" and rng.random() < 0.5:
            data = _of_pickle(data, rng)
        elif rng.random() < 0.5 and (layout := _layout(data, kind)).parts:
            data = _of_layout(data, layout, rng)
        else:
            data = rng.choice(_BLIND)(data, others, rng)
    # Without sound checksums, most damage to a PNG file would never get beyond them.
    return _with_checksums(data) if kind == ".png" and rng.random() < 0.8 else data


# Without knowing the format


def _place(data: bytes, rng: random.Random) -> int:
    # Half of them within the header.
    return rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    out = bytearray(data or b"\0")
    for _n in range(rng.choice((1, 1, 2, 8, 64))):
        out[_place(out, rng)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _overwrite(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    at, width = _place(data, rng), rng.choice((1, 2, 4))
    return (
        data[:at]
        + (rng.choice(_NUMBERS) % 256**width).to_bytes(width, rng.choice(("little", "big")))
        + data[at + width :]
    )


def _truncate(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _splice(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _duplicate(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at : at + rng.choice((1, 16, 256))] * rng.choice((2, 3, 50)) + data[at:]


def _zero(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    at, length = _place(data, rng), rng.choice((1, 4, 64, 512))
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def _cut_out(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 16, 256)) :]


def _insert(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 16, 256))) + data[at:]


_BLIND: tuple[Callable[[bytes, list[bytes], random.Random], bytes], ...] = (
    *(_flip, _flip, _overwrite, _overwrite, _truncate, _splice, _duplicate, _zero, _cut_out, _insert),
)


# Knowing it


def _of_layout(data: bytes, layout: Layout, rng: random.Random) -> bytes:
    """Change a length, a size or a count; or double, drop or exchange a part."""
    what = rng.random()
    if what < 0.6 and layout.fields:
        at, width, order = rng.choice(layout.fields)
        little = order == "<"
        old = int.from_bytes(data[at : at + width], "little" if little else "big")
        new = rng.choice((*_NUMBERS, old - 1, old + 1, 2 * old, old // 2, len(data), 256**width - 1)) % 256**width
        return data[:at] + new.to_bytes(width, "little" if little else "big") + data[at + width :]
    first, last = rng.choice(layout.parts)
    if what < 0.7:
        return data[:last] + data[first:last] * rng.choice((1, 1, 40)) + data[last:]
    if what < 0.8:
        return data[:first] + data[last:]
    other = rng.choice(layout.parts)
    return data[:first] + data[slice(*other)] + data[last:]


def _layout(data: bytes, kind: str) -> Layout:
    try:
        return _LAYOUTS[kind](data)
    except (KeyError, struct.error, IndexError, OverflowError):
        return Layout([], [])


def _jpeg(data: bytes) -> Layout:
    fields, parts, at = [], [], 2
    while at + 4 < len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        fields.append((at + 2, 2, ">"))
        if data[at + 1] in (0xC0, 0xC2):
            fields += [(at + 4, 1, ">"), (at + 9, 1, ">"), (at + 11, 1, ">"), (at + 12, 1, ">")]
            fields += [(at + 5, 2, ">"), (at + 7, 2, ">")] * 3
        if data[at + 4 : at + 8] == b"Exif":
            fields += [(at + 10 + n, 2, ">") for n in range(0, min(end - at - 12, 60), 2)]
        parts.append((at, end))
        at = end
    return Layout(fields, [*parts, (at, len(data))])


def _png(data: bytes) -> Layout:
    fields, parts, at = [(16, 4, ">"), (20, 4, ">"), (24, 1, ">"), (25, 1, ">"), (28, 1, ">")], [], 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        fields.append((at, 4, ">"))
        parts.append((at, end))
        at = end
    return Layout(fields, parts)


def _with_checksums(data: bytes) -> bytes:
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + struct.unpack_from(">I", out, at)[0]
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def _webp(data: bytes) -> Layout:
    fields, parts, at = [(4, 4, "<")], [], 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        fields += [(at + 4, 4, "<"), (at + 8, 1, "<"), (at + 12, 2, "<"), (at + 14, 2, "<"), (at + 9, 4, "<")]
        parts.append((at, at + 8 + size + size % 2))
        at += 8 + size + size % 2
    return Layout(fields, parts)


def _bmp(data: bytes) -> Layout:
    fields = [(at, 4, "<") for at in (2, 10, 14, 18, 22, 30, 34, 38, 42, 46, 50)] + [(26, 2, "<"), (28, 2, "<")]
    return Layout(fields, [(0, 14), (14, 54), (54, len(data))])


def _tiff(data: bytes) -> Layout:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    first, entry, room = (8, 20, 8) if big else (4, 12, 4)
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, first)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    fields, parts = [(first, room, order), (at, 8 if big else 2, order)], []
    for n in range(min(count, 40)):
        start = at + (8 if big else 2) + n * entry
        fields += [(start, 2, order), (start + 2, 2, order), (start + 4, room, order), (start + 4 + room, room, order)]
        fields += [(start + 4 + room, 2, order)] * 2
        parts.append((start, start + entry))
    return Layout(fields, parts)


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        last = start + size if size >= 8 else end
        yield name, start, min(last, end)
        if name in _BOXES:
            yield from _boxes(data, start + 8 + {b"meta": 4, b"stsd": 8}.get(name, 0), min(last, end))
        start = last


def _iso(data: bytes) -> Layout:
    fields, parts = [], []
    for _, first, last in _boxes(data):
        fields += [(first, 4, ">")] + [(at, 4, ">") for at in range(first + 8, min(last, first + 40), 4)]
        parts.append((first, last))
    return Layout(fields, parts)


_LAYOUTS = {".jpg": _jpeg, ".png": _png, ".webp": _webp, ".bmp": _bmp, ".tif": _tiff, ".avif": _iso, ".mp4": _iso}


def _of_header(data: bytes, rng: random.Random) -> bytes:
    """Change a number or a word in the header of a safetensors file."""
    if len(data) < 8 or (length := struct.unpack_from("<Q", data)[0]) > len(data) - 8:
        return data
    text = data[8 : 8 + length].decode(errors="replace")
    found = list(re.finditer(r"\d+" if rng.random() < 0.7 else r"\w+", text))
    if found:
        new = rng.choice((*map(str, _NUMBERS), "-1", "1e9", "true", "null", "[]", "NaN", "9" * 5000, json.dumps("F64")))
        chosen = rng.choice(found)
        text = text[: chosen.start()] + new + text[chosen.end() :]
    header = text.encode()
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _of_pickle(data: bytes, rng: random.Random) -> bytes:
    """Damage the pickle in an archive, whose checksum then fits again."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
            for member in old.infolist():
                content = old.read(member)
                if member.filename.endswith("data.pkl") or rng.random() < 0.05:
                    content = rng.choice(_BLIND)(content, [content], rng)
                new.writestr(member.filename, content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, zlib.error, EOFError):
        return _flip(data, [], rng)
    return buffer.getvalue()
