"""A video of two views as phones and headsets record it (MV-HEVC), of which no encoder here can make one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av

_VPS, _SEI = 32, 39  # types of NAL units


class Bits:
    """Bits one after the other.

    Args:
        content: the first ones.
    """

    def __init__(self, content: str = "") -> None:
        self.content = content

    def number(self, value: int, length: int) -> Bits:
        self.content += format(value, f"0{length}b")
        return self

    def golomb(self, value: int) -> Bits:
        """Add a number of the length that the number needs (ue(v) of the standard)."""
        digits = format(value + 1, "b")
        self.content += "0" * (len(digits) - 1) + digits
        return self

    def aligned(self, fill: str) -> Bits:
        self.content += fill * (-len(self.content) % 8)
        return self

    def tobytes(self) -> bytes:
        whole = self.content + "1"
        whole += "0" * (-len(whole) % 8)
        return int(whole, 2).to_bytes(len(whole) // 8, "big")


class _Read:
    def __init__(self, content: bytes) -> None:
        self.bits, self.place = "".join(format(byte, "08b") for byte in content), 0

    def number(self, length: int) -> int:
        self.place += length
        return int(self.bits[self.place - length : self.place], 2)

    def golomb(self) -> int:
        zeros = self.bits.index("1", self.place) - self.place
        self.place += zeros
        return self.number(zeros + 1) - 1


def of_two_layers(vps: bytes, width: int, height: int) -> bytes:
    """Return a video parameter set that announces a second view (ISO/IEC 23008-2, 7.3.2.1 and F.7.3.2.1).

    Args:
        vps: NAL unit of a video with one view, without sub-layers and timing, 8 bits, 4:2:0.
        width, height: of the pictures.
    """
    content = vps[2:].replace(b"\0\0\3", b"\0\0")
    read, profile = _Read(content), content[4:16]
    read.place = 8 * 16
    bits = Bits(read.bits[:6]).number(1, 6).number(0, 3).number(1, 1)  # two layers
    bits.content += read.bits[16 : 8 * 16]
    bits.number(read.number(1), 1)
    for _ in range(3):  # the size of the decoder's memory
        bits.golomb(read.golomb())
    bits.number(1, 6).golomb(1).number(0b11, 2)  # two layer sets, of which the second has both layers
    bits.number(0, 1)  # no timing
    bits.number(1, 1).aligned("1")  # the extension
    bits.number(profile[11], 8)  # the level; the rest as before
    bits.number(0, 1).number(1 << 14, 16)  # layers differ in the view
    bits.number(0, 3).number(0, 1).number(1, 1)  # the second layer's view is number 1
    bits.number(1, 4).number(0, 1).number(1, 1)  # names of the views: 0 and 1
    bits.number(1, 1).number(0, 1).number(0, 1).number(0, 1)  # the second depends on the first
    bits.golomb(2).number(1, 1)  # another profile
    bits.content += "".join(format(byte, "08b") for byte in profile)
    bits.golomb(0).number(0, 2)  # no further sets; the highest layer is shown
    bits.number(1, 2).number(2, 2)  # the profiles of both layers
    bits.golomb(0).number(width, 16).number(height, 16).number(1, 1).number(1, 2).number(0, 8).number(0, 1)
    bits.number(1, 1).number(1, 1)
    bits.number(0, 1).golomb(4).golomb(4).golomb(2).golomb(0)
    bits.golomb(0).number(1, 1).number(2, 2)
    bits.golomb(0).number(0, 1)  # nothing on display
    bits.number(0, 1)
    return vps[:2] + _escaped(bits.tobytes())


def _escaped(content: bytes) -> bytes:
    found = bytearray()
    for byte in content:
        if byte <= 3 and found[-2:] == b"\0\0":
            found.append(3)
        found.append(byte)
    return bytes(found)


def _units(content: bytes, size: int) -> Iterator[bytes]:
    """Yield units that each follow their length, a number of ``size`` bytes."""
    while content:
        end = size + int.from_bytes(content[:size], "big")
        yield content[size:end]
        content = content[end:]


def _with_two_layers(extradata: bytes, width: int, height: int) -> bytes:
    """Return the description of an HEVC stream (ISO/IEC 14496-15, 8.3.3.1) with other video parameters."""
    place = extradata.index(bytes([_VPS, 0, 1]))
    (size,) = struct.unpack_from(">H", extradata, place + 3)
    vps = of_two_layers(extradata[place + 5 : place + 5 + size], width, height)
    return extradata[: place + 3] + struct.pack(">H", len(vps)) + vps + extradata[place + 5 + size :]


def _second_view(unit: bytes) -> bytes:
    return bytes([unit[0], unit[1] | 1 << 3]) + unit[2:]  # in layer 1


def spatial(left: Path, right: Path, path: Path) -> Path:
    """Write two videos of the same size as the two views of one.

    The parameters of the second view are left out, as no decoder needs them that shows the first view only.

    Args:
        left, right: MP4 files of one HEVC track, 8 bits, 4:2:0.
        path: an MP4, MOV or MKV file. MP4 and MOV announce the views also in boxes of their own.
    """
    with av.open(str(left)) as one, av.open(str(right)) as other, av.open(str(path), "w") as out:
        source = one.streams.video[0]
        stream = out.add_stream_from_template(source, opaque=True)
        whole = bytes(source.codec_context.extradata or b"")
        stream.codec_context.codec_tag = "hvc1"
        stream.codec_context.extradata = _with_two_layers(whole, source.width, source.height)
        for packet, second in zip(one.demux(video=0), other.demux(video=0), strict=True):
            if not packet.size:
                continue
            units = [*_units(bytes(packet), 4), *map(_second_view, _units(bytes(second), 4))]
            made = av.Packet(b"".join(struct.pack(">I", len(unit)) + unit for unit in units))
            made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
            made.time_base, made.is_keyframe, made.stream = packet.time_base, packet.is_keyframe, stream
            out.mux(made)
    if path.suffix != ".mkv":
        boxes = (
            _box(b"lhvC", b"\1\xf0\0\xfc\xcb\1" + bytes([0x80 | _SEI, 0, 1, 0, 3, _SEI << 1, 1 << 3 | 1, 0x80]))
            + _box(b"vexu", _eyes())
            + _box(b"hfov", struct.pack(">I", 63_400))
        )
        path.write_bytes(_with_boxes(path.read_bytes(), boxes))
    return path


def _eyes() -> bytes:
    """Return what Apple's players look for: that there is a left and a right view, and how far they are apart."""
    distance = _box(b"cams", _box(b"blin", struct.pack(">II", 0, 19_240)))
    return _box(b"eyes", _box(b"stri", struct.pack(">IB", 0, 0b11)) + distance)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def _with_boxes(content: bytes, boxes: bytes) -> bytes:
    """Return a file whose index lies at its end, with more boxes in the description of its only track."""
    whole, place, places = bytearray(content), 0, []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        place = whole.index(name, place + 4 if places else 0)
        places.append(place - 4)
    end = places[-1] + int.from_bytes(whole[places[-1] : places[-1] + 4], "big")
    whole[end:end] = boxes
    for place in places:
        size = int.from_bytes(whole[place : place + 4], "big") + len(boxes)
        whole[place : place + 4] = size.to_bytes(4, "big")
    return bytes(whole)
