"""Photoshop's image resources, in which a thumbnail would go on showing the dark photo."""

import struct

_THUMBNAILS = frozenset({1033, 1036})
_SIGNATURES = (b"8BIM", b"AgHg", b"DCSR", b"PHUT", b"MeSa")


def without_thumbnail(resources: bytes) -> bytes:
    """Return image resources without their thumbnails; resources that cannot be read are returned unchanged.

    Args:
        resources: the resources one after another, without the head that a JPEG segment has.
    """
    kept, position = [], 0
    while position < len(resources):
        name_end = position + 7 + resources[position + 6] if position + 6 < len(resources) else len(resources)
        name_end += (name_end - position) % 2
        if resources[position : position + 4] not in _SIGNATURES or name_end + 4 > len(resources):  # padding
            kept.append(resources[position:])
            break
        (number,) = struct.unpack_from(">H", resources, position + 4)
        (size,) = struct.unpack_from(">I", resources, name_end)
        end = name_end + 4 + size + size % 2
        if name_end + 4 + size > len(resources):
            return resources
        if number not in _THUMBNAILS:
            kept.append(resources[position:end])
        position = end
    return b"".join(kept)
