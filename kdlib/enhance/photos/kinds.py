"""Kinds of files by their extension: which are photos, of what format, and how a result is named."""

from functools import cache
from importlib.util import find_spec
from pathlib import PurePath
from typing import NamedTuple


class Format(NamedTuple):
    """A format that photos are read from.

    Attributes:
        suffixes: extensions, the usual one first.
        extra: extra of the package that reads it, or an empty string.
        module: top-level module that this extra installs.
    """

    suffixes: tuple[str, ...]
    extra: str = ""
    module: str = ""


FORMATS = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo")),
    "PNG": Format((".png", ".apng")),
    "WEBP": Format((".webp",)),
    "BMP": Format((".bmp", ".dib")),
    "TIFF": Format((".tif", ".tiff")),
    "AVIF": Format((".avif", ".avifs")),
    "GIF": Format((".gif",)),
    "PNM": Format((".ppm", ".pgm", ".pnm", ".pbm")),
    "HEIC": Format((".heic", ".heif", ".hif"), "heic", "pillow_heif"),
    "RAW": Format(
        (
            *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".ori", ".rw2", ".rwl"),
            *(".pef", ".srw", ".3fr", ".fff", ".iiq", ".mrw", ".x3f", ".erf", ".mef", ".mos", ".kdc", ".dcr", ".gpr"),
        ),
        "raw",
        "rawpy",
    ),
}
"""Name as in :attr:`kdlib.enhance.photos.photo_file.PhotoFile.format` → what it is; RAW is every camera's own."""
WRITABLE = tuple(name for name in FORMATS if name != "RAW")
"""Formats that results can have; a raw photo becomes a 16-bit TIFF file unless another is asked for."""
RAW_BECOMES = "TIFF"

_OF_SUFFIX = {suffix: name for name, found in FORMATS.items() for suffix in found.suffixes}
SUFFIXES = frozenset(_OF_SUFFIX)
"""All extensions of photos, in lower case, whether or not the extra that reads them is installed."""


def format_of(path: PurePath) -> str | None:
    """Return the format that the extension of a path stands for, or None if it is none of a photo."""
    return _OF_SUFFIX.get(path.suffix.lower())


@cache
def installed(name: str) -> bool:
    """Whether photos of a format can be read, which takes an extra for some."""
    return not FORMATS[name].module or find_spec(FORMATS[name].module) is not None


def readable_suffixes() -> frozenset[str]:
    """Return the extensions of the photos that can be read here."""
    return frozenset(suffix for name, found in FORMATS.items() if installed(name) for suffix in found.suffixes)


def result_suffix(source: PurePath, wanted: str | None) -> str:
    """Return the extension of a result: the photo's own, unless its format changes.

    Args:
        source: the photo.
        wanted: format of the result; None for that of the photo.
    """
    own = format_of(source)
    becomes = wanted or (RAW_BECOMES if own == "RAW" else own)
    return source.suffix if becomes == own or becomes is None else FORMATS[becomes].suffixes[0]


def changed_format(source: PurePath, target: PurePath) -> str | None:
    """Return the format that the name of a result asks for, or None if it is that of the photo's name."""
    wanted = format_of(target)
    return None if wanted == format_of(source) else wanted


VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m4v", ".mkv", ".mod", ".mov"}
    | {".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".tod", ".ts", ".vob", ".webm", ".wmv"}
)
"""Extensions of videos, in lower case."""


def is_video(path: PurePath) -> bool:
    """Whether a file is a video by its extension."""
    return path.suffix.lower() in VIDEO_SUFFIXES


# What else lies in a folder of photos, by extension.
_OTHERS = {
    "video": tuple(VIDEO_SUFFIXES),
    "JPEG XL": (".jxl",),
    "JPEG 2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "Photoshop": (".psd", ".psb"),
    "SVG": (".svg",),
    "OpenEXR": (".exr",),
    "Radiance HDR": (".hdr",),
    "icon": (".ico", ".icns"),
    "HEIF image sequence": (".heics", ".heifs"),
}
_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _OTHERS.items() for suffix in suffixes}


def kind_of(path: PurePath) -> str:
    """Return in words what a file is by its extension: ``JPEG``, ``HEIC``, ``raw (.dng)``, ``video``, ``.txt``."""
    name, suffix = format_of(path), path.suffix.lower()
    if name is not None:
        return f"raw ({suffix})" if name == "RAW" else name
    return _KIND_OF_SUFFIX.get(suffix, suffix or "without extension")
