"""Taking out of XMP data what announces pictures and videos that the written file does not contain."""

import re
from typing import NamedTuple

# Namespaces, whose prefixes a file may choose, with the usual prefix and the properties that describe an attachment.
_GAIN_MAP = rb"Version|BaseRenditionIsHDR|GainMapM(?:in|ax)|Gamma|OffsetS?H?DR|HDRCapacityM(?:in|ax)"
_ATTACHED = {
    b"http://ns.google.com/photos/1.0/camera/": (b"GCamera", rb"MotionPhoto\w{0,40}|MicroVideo\w{0,40}"),
    b"http://ns.google.com/photos/1.0/container/": (b"Container", rb"Directory|Version"),
    b"http://ns.google.com/photos/dd/1.0/device/": (b"Device", rb"Container"),
    b"http://ns.adobe.com/hdr-gain-map/1.0/": (b"hdrgm", _GAIN_MAP),
    b"http://ns.apple.com/HDRGainMap/1.0/": (b"HDRGainMap", rb"HDRGainMapVersion|HDRGainMapHeadroom"),
}
_SAYS_VIDEO = re.compile(rb"""(?:MotionPhoto|MicroVideo)\s*(?:=\s*["']\s*[1-9]|>\s*[1-9])""")
_SAYS_GAIN_MAP = re.compile(rb"hdr-gain-map|hdrgm:|HDRGainMap|Semantic\s*=\s*[\"']GainMap")


class PictureAlone(NamedTuple):
    """XMP data that hold for the picture alone, and which attachments they announced before."""

    data: bytes
    video: bool
    gain_map: bool


def of_picture_alone(data: bytes) -> PictureAlone:
    """Remove the properties for motion photos, gain maps and directories of attached files; all else stays as it is."""
    video, gain_map = _SAYS_VIDEO.search(data) is not None, _SAYS_GAIN_MAP.search(data) is not None
    for namespace, (usual, names) in _ATTACHED.items():
        bound = re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace) + rb"[\"']", data)
        for prefix in {usual, *bound}:
            name = re.escape(prefix) + rb":(?:" + names + rb")"
            data = _without_elements(data, re.compile(rb"<(" + name + rb")(?=[\s/>])[^<>]*>"))
            data = re.sub(rb"\s" + name + rb"""\s*=\s*(?:"[^"]*"|'[^']*')""", b"", data)
    return PictureAlone(data, video, gain_map)


def _without_elements(data: bytes, opening: re.Pattern[bytes]) -> bytes:
    """Remove the elements that begin with such a tag, with their content."""
    kept, position, unclosed = [], 0, set()
    for tag in opening.finditer(data):
        if tag.start() < position or tag[1] in unclosed:
            continue
        end = tag.end()
        if not tag[0].endswith(b"/>"):
            close = re.compile(rb"</" + re.escape(tag[1]) + rb"\s*>").search(data, end)
            if close is None:  # looked for once only, because damaged data may hold thousands of such tags
                unclosed.add(tag[1])
                continue
            end = close.end()
        kept.append(data[position : tag.start()])
        position = end
    return b"".join([*kept, data[position:]])
