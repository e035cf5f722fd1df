"""Files in a folder that are not enhanced: counted by kind, so that none vanishes without a word."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdlib.enhance.photos.kinds import FORMATS, format_of, installed, kind_of
from kdlib.enhance.photos.paths import files_in


def passed_over(folders: Iterable[Path], output: Path | None, *, recursive: bool = False) -> Counter[str]:
    """Count the files that are passed over in folders, by kind in words.

    Args:
        folders: searched as by :func:`kdlib.enhance.folders.local.plan`.
        output: the folder of results, whose files are not counted; None if there is none among the files.
        recursive: whether subfolders are searched, too.
    """
    found: Counter[str] = Counter()
    results = None if output is None else Path(os.path.realpath(output))
    for folder in folders:
        nested = results is not None and results != Path(os.path.realpath(folder))
        for path in files_in(folder, recursive=recursive):
            if nested and results is not None and Path(os.path.realpath(path)).is_relative_to(results):
                continue
            name = format_of(path)
            if name is None or not installed(name):
                found[_told(path)] += 1
    return found


def _told(path: Path) -> str:
    name, kind = format_of(path), kind_of(path)
    if name is not None:
        terms = ", whose wheels are under the GPLv2" if name == "HEIC" else ""
        return f"{kind}: pip install 'kdlib[{FORMATS[name].extra}]' reads them{terms}"
    return "video: kdlib video enhances them" if kind == "video" else kind


def in_words(found: Counter[str]) -> str:
    """Return a sentence that names what was passed over, such as "2 files passed over (.txt)"; empty for nothing."""
    if not found:
        return ""
    kinds: Sequence[str] = [
        f"{count} × {kind}" for kind, count in sorted(found.items(), key=lambda kc: (-kc[1], kc[0]))
    ]
    files = "file" if found.total() == 1 else "files"
    return f"{found.total()} {files} passed over ({'; '.join(kinds)})"
