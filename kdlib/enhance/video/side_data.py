"""What frames carry beside their pixels: HDR metadata, which is kept, and other kinds, whose loss is told."""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import av
import numpy as np
from av.sidedata.sidedata import Type

# Kinds that no encoder here can be given → what they are
_LOST = {
    "DOVI_RPU_BUFFER": "Dolby Vision's metadata for each frame",
    "DOVI_METADATA": "Dolby Vision's metadata for each frame",
    "DYNAMIC_HDR_PLUS": "HDR10+'s metadata for each frame",
    "DYNAMIC_HDR_VIVID": "HDR Vivid's metadata for each frame",
    "STEREO3D": "what makes the video stereo (spatial)",
    "VIEW_ID": "the second view of a spatial video (MV-HEVC)",
    "SPHERICAL": "what makes the video a 360° one",
    "A53_CC": "closed captions inside the pictures",
    "ICC_PROFILE": "the ICC profile of the frames",
}
_SIDE_DATA_KINDS = 64  # more than FFmpeg has
_VIEW_ID = 29  # AV_FRAME_DATA_VIEW_ID


def side_data(frame: av.VideoFrame) -> Mapping[str, bytes]:
    """Return what a frame carries, by FFmpeg's names.

    Of the kinds that PyAV has no name for, only ``VIEW_ID`` is among them, and without its content.
    """
    held: Any  # PyAV describes it as a mapping, which it is only in part
    try:
        held = frame.side_data
    except ValueError:  # PyAV raises it for all of them if it does not know one, such as those of spatial video
        kinds: Any = Type
        unknown = range(max(kind.value for kind in kinds) + 1, _SIDE_DATA_KINDS)
        known = _filtered(frame, *(f"mode=delete:type={kind}" for kind in unknown))
        assert known is not None
        view = {"VIEW_ID": b""} if _filtered(frame, f"mode=select:type={_VIEW_ID}") else {}
        return {**side_data(known), **view}
    return {data.type.name: bytes(data) for data in held}


def _filtered(frame: av.VideoFrame, *settings: str) -> av.VideoFrame | None:
    """Return the frame after FFmpeg's filter "sidedata" with each of these settings, or None if one dropped it."""
    graph = av.filter.Graph()
    chain = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))]
    try:
        chain += [graph.add("sidedata", setting) for setting in settings]
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain).configure()
        graph.push(frame)
        found = graph.pull()
    except BlockingIOError:  # it was dropped
        return None
    return found if isinstance(found, av.VideoFrame) else None


def lost_kinds(held: Mapping[str, bytes]) -> list[str]:
    """Return a note for each kind of side data that an enhanced video cannot keep."""
    lost = dict.fromkeys(what for kind, what in _LOST.items() if kind in held)
    return [f"{what} cannot be kept" for what in lost]


@dataclass(frozen=True)
class Light:
    """Metadata of HDR videos that are the same for all pictures: what they were mastered on, and how bright they are.

    Attributes:
        mastering: chromaticities x and y of red, green, blue and white, and least and highest luminance in cd/m²; or
            None.
        levels: maximum content light level and maximum frame-average light level in cd/m²; or None.
        ambient: illuminance in lux and chromaticity x and y of the surroundings that the video is made for; or None.
    """

    mastering: tuple[Fraction, ...] | None = None
    levels: tuple[int, int] | None = None
    ambient: tuple[Fraction, ...] | None = None

    @classmethod
    def of(cls, held: Mapping[str, bytes]) -> Self:
        """Return the metadata among a frame's side data, which are in FFmpeg's own layout."""
        mastering = levels = ambient = None
        if (content := held.get("MASTERING_DISPLAY_METADATA")) is not None:
            numbers = np.frombuffer(content, np.int32)
            if numbers[20] and numbers[21]:  # whether chromaticities, and luminances, are given
                mastering = _fractions(numbers[:20])
        if (content := held.get("CONTENT_LIGHT_LEVEL")) is not None:
            highest, average = np.frombuffer(content, np.uint32)[:2]
            levels = int(highest), int(average)
        if (content := held.get("AMBIENT_VIEWING_ENVIRONMENT")) is not None:
            ambient = _fractions(np.frombuffer(content, np.int32)[:6])
        return cls(mastering, levels, ambient)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self != Light()

    @property
    def x265(self) -> str:
        """The settings with which x265 writes them into the stream, in its own form; empty if there are none."""
        settings = []
        if self.mastering is not None:
            red, green, blue, white, low, high = self._mastering_numbers()
            named = zip(("G", "B", "R", "WP"), (green, blue, red, white), strict=True)
            places = "".join(f"{name}({x},{y})" for name, (x, y) in named)
            settings.append(f"master-display={places}L({high},{low})")
        if self.levels is not None:
            settings.append("max-cll={},{}".format(*self.levels))
        return ":".join(settings)

    def boxes(self) -> bytes:
        """The boxes with which MP4 and MOV describe them (ISO/IEC 14496-12, 12.1)."""
        found = b""
        if self.mastering is not None:
            red, green, blue, white, low, high = self._mastering_numbers()
            found += _box(b"mdcv", struct.pack(">8H2I", *green, *blue, *red, *white, high, low))
        if self.levels is not None:
            found += _box(b"clli", struct.pack(">2H", *(min(level, 0xFFFF) for level in self.levels)))
        if self.ambient is not None:
            lux, *place = self.ambient
            found += _box(b"amve", struct.pack(">I2H", round(lux * 10_000), *_chromaticity(*place)))
        return found

    def _mastering_numbers(self) -> tuple[Any, ...]:
        """Return four chromaticities and two luminances in the units of the standards."""
        assert self.mastering is not None
        pairs = [_chromaticity(*self.mastering[i : i + 2]) for i in range(0, 8, 2)]
        return (*pairs, *(round(luminance * 10_000) for luminance in self.mastering[8:]))


def _fractions(numbers: np.ndarray) -> tuple[Fraction, ...]:
    pairs = numbers.reshape(-1, 2).tolist()
    return tuple(Fraction(numerator, denominator or 1) for numerator, denominator in pairs)


def _chromaticity(x: Fraction, y: Fraction) -> tuple[int, int]:
    return round(x * 50_000), round(y * 50_000)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


# The boxes of MP4 and MOV that lead to the description of a track's pictures, each inside the one before
_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def described(head: bytes, light: Light) -> av.VideoStream:
    """Return a template of a stream that carries HDR metadata, which PyAV gives to no stream that it makes itself.

    Args:
        head: the head of an MP4 or MOV file whose only track is the stream.
        light: the metadata to add.
    """
    content, place = bytearray(head), -8
    places = [place := content.index(name, place + 8) - 4 for name in _WAY]
    places.append(place + 16)  # the description, after the head of the list of which it is the only entry
    boxes = light.boxes()
    end = places[-1] + int.from_bytes(content[places[-1] : places[-1] + 4], "big")
    content[end:end] = boxes
    for place in places:
        size = int.from_bytes(content[place : place + 4], "big") + len(boxes)
        content[place : place + 4] = size.to_bytes(4, "big")
    return av.open(io.BytesIO(bytes(content))).streams.video[0]
