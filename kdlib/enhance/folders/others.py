"""Files in a folder that are not enhanced: counted by kind, so that none vanishes without a word."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdlib.enhance.photos.kinds import FORMATS, format_of, installed, is_video, kind_of
from kdlib.enhance.photos.paths import files_in


def passed_over(
    folders: Iterable[Path], output: Path | None, *, recursive: bool = False, videos: bool = False
) -> Counter[str]:
    """Count the files that are passed over in folders, by kind in words.

    Args:
        folders: searched as by :func:`kdlib.enhance.folders.local.plan`.
        output: the folder of results, whose files are not counted; None if there is none among the files.
        recursive: whether subfolders are searched, too.
        videos: whether videos are enhanced, and photos passed over.
    """
    found = (path for folder in folders for path in files_in(folder, recursive=recursive, results=output))
    return Counter(_told(path) for path in found if not (is_video(path) if videos else _is_photo(path)))


def _is_photo(path: Path) -> bool:
    name = format_of(path)
    return name is not None and installed(name)


def _told(path: Path) -> str:
    if _is_photo(path):
        return "photo: kdlib enhance enhances them"
    if is_video(path):
        return "video: kdlib video enhances them"
    name, kind = format_of(path), kind_of(path)
    if name is None:
        return kind
    terms = ", whose wheels are under the GPLv2" if name == "HEIC" else ""
    return f"{kind}: pip install 'kdlib[{FORMATS[name].extra}]' reads them{terms}"


def in_words(found: Counter[str]) -> str:
    """Return a sentence that names what was passed over, such as "2 files passed over (.txt)"; empty for nothing."""
    if not found:
        return ""
    kinds: Sequence[str] = [
        f"{count} × {kind}" for kind, count in sorted(found.items(), key=lambda kc: (-kc[1], kc[0]))
    ]
    files = "file" if found.total() == 1 else "files"
    return f"{found.total()} {files} passed over ({'; '.join(kinds)})"


def nothing_found(what: str, others: Counter[str]) -> str:
    """Return the message for folders without any photos or videos.

    Args:
        what: "photos" or "videos".
        others: the files that were passed over.
    """
    return "; ".join(filter(None, [f"no {what} found", in_words(others), "--recursive also searches subfolders"]))
