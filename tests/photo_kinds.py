"""Every kind of photo through `kdlib enhance`: what is read, written, kept and noted, as a table and with counts.

``python -m tests.photo_kinds --out results/photo_kinds.json --page docs/kinds.md``
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import enhance_photo
from kdlib.enhance.photos.kinds import changed_format, result_suffix
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.files import replacing
from tests.photo_corpus import Case, cases

ROOT = Path(__file__).resolve().parent.parent
_NAMES = {"WEBP": "WebP", "PNM": "PPM or PGM"}
_TYPES = {"uint8": "8 bits", "uint16": "16 bits", "float32": "float"}


def run(chosen: Iterable[Case], folder: Path) -> list[dict[str, Any]]:
    """Enhance every case, and return what was seen of each."""
    enhance = Enhancer("student-565", threads=1)
    return [_seen(case, folder, enhance) for case in chosen]


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the outcomes; ``refused wrongly`` and ``wrong result`` are defects."""
    found = Counter(row["outcome"] for row in rows)
    names = ("enhanced", "refused truly", "refused wrongly", "enhanced wrongly", "wrong result")
    return {name: found[name] for name in names}


def _seen(case: Case, folder: Path, enhance: Enhancer) -> dict[str, Any]:
    source = folder / case.name
    source.write_bytes(case.make())
    target = folder / "out" / Path(case.name).with_suffix(result_suffix(source, None)).name
    try:
        notes = enhance_photo(source, target, enhance, wanted=changed_format(source, target)).notes
    except ValueError as error:
        truly = bool(case.refused) and re.search(case.refused, str(error)) is not None
        # What libheif says of a file differs from version to version.
        said = str(error).partition(" (")[0].strip()
        return {"kind": case.kind, "outcome": "refused truly" if truly else "refused wrongly", "said": said}
    if case.refused:
        return {"kind": case.kind, "outcome": "enhanced wrongly"}
    before, after = decode_photo(source), decode_photo(target)
    dark, bright = looked_at(source), looked_at(target)
    same = len(before.pages) == len(after.pages) and before.timing == after.timing and dark.shape == bright.shape
    brighter = bright.mean() > dark.mean() or case.kind.startswith("PBM")  # which is black and white
    return {
        "kind": case.kind,
        "outcome": "enhanced" if same and brighter else "wrong result",
        "read": _form(before),
        "written": f"{_NAMES.get(after.format, after.format)}, {_form(after, stored=True)}",
        "kept": _kept(source, target),
        "noted": list(notes),
    }


def looked_at(path: Path) -> np.ndarray:
    """Return a photo as a program other than kdlib shows it, H×W×3 in [0, 1]; of several pictures, the first."""
    if path.suffix in {".heic", ".heif", ".hif"}:
        import pillow_heif

        with pillow_heif.open_heif(path).to_pillow() as image:
            return np.asarray(image.convert("RGB")) / 255
    if path.suffix == ".dng":
        import rawpy

        with rawpy.imread(str(path)) as raw:
            return raw.postprocess(use_camera_wb=True, no_auto_bright=True) / 255
    if path.suffix in {".tif", ".ppm"} or path.name == "deep.png":
        if path.suffix == ".tif":
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                if page.compression in (1, 8) and page.bitspersample != 12 and page.photometric != 5:
                    pixels = page.asarray()
                    top = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
                    return _three(pixels / top)
            pixels = decode_photo(path).pixels  # no other program here reads it
            return _three(pixels / np.iinfo(pixels.dtype).max)
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
        return pixels / (255 if pixels.dtype == np.uint8 else 65535 if path.suffix == ".png" else 4095)
    if path.name in {"ten.bmp", "medical.jpg"}:  # of which Pillow reads the results only
        pixels = decode_photo(path).pixels
        return pixels / np.iinfo(pixels.dtype).max
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) / 255


def _three(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[..., :3]


def _form(photo: Any, *, stored: bool = False) -> str:
    channels = 1 if photo.pixels.ndim == 2 else photo.pixels.shape[2]
    colours = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGB and alpha"}[channels]
    samples = getattr(photo.container, "samples", None)
    depth = samples.dtype.name if stored and samples is not None else _TYPES[photo.pixels.dtype.name]
    frames = f", {1 + len(photo.pages)} {'frames' if photo.timing else 'pages'}" if photo.pages else ""
    return f"{colours}, {depth}{frames}"


def _metadata(path: Path) -> dict[str, Any]:
    if path.suffix in {".heic", ".heif", ".hif"}:
        import pillow_heif

        info = dict(pillow_heif.open_heif(path)[0].info)
    elif path.suffix == ".bmp":
        data, info = path.read_bytes(), {}
        if data[14] == 124:
            start, size = np.frombuffer(data, "<u4", 2, 126)
            info["icc_profile"] = data[14 + start : 14 + start + size]
    elif path.suffix in {".tif", ".dng"}:
        with tifffile.TiffFile(path) as file:
            tags = file.pages[0].tags
            info = {
                name: tags.valueof(number) for name, number in (("camera", 271), ("xmp", 700), ("icc_profile", 34675))
            }
    elif path.name == "medical.jpg":  # without metadata, and of 12 bits, which Pillow does not read
        info = {}
    else:
        with Image.open(path) as image:
            info = {**image.info, "camera": image.getexif().get(271)}
    return {
        "EXIF": info.get("camera") or (info.get("exif") or None),
        "XMP": info.get("xmp") or None,
        "profile": info.get("icc_profile") or None,
    }


def _kept(source: Path, target: Path) -> list[str]:
    had, has = _metadata(source), _metadata(target)
    kept = [name for name, value in had.items() if value and bool(has[name])]
    before, after = decode_photo(source), decode_photo(target)
    if before.timing is not None and before.timing.durations == after.timing.durations:
        kept.append("times")
    return kept


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| kind | read as | written as | kept | noted |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if row["outcome"] == "enhanced":
            cells = [row["kind"], row["read"], row["written"], ", ".join(row["kept"]), "; ".join(row["noted"])]
        else:
            cells = [row["kind"], "", "", "", f"{row['outcome']}: {row.get('said', '')}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page: str, what: str, result: Mapping[str, Any]) -> str:
    """Return the page with a table, and a sentence with the counts, between two marks that name what it shows."""
    begin, end = (f"<!-- {what}: {mark} -->" for mark in ("begin", "end"))
    head, rest = page.split(begin)
    tail = rest.split(end)[1]
    found = result["counts"]
    sentence = (
        f"Of {len(result['rows'])} kinds, {found['enhanced']} are enhanced and {found['refused truly']} are refused "
        f"with their reason; {found['refused wrongly']} are refused wrongly."
    )
    return f"{head}{begin}\n\n{sentence}\n\n{table(result['rows'])}\n\n{end}{tail}"


def store(result: Mapping[str, Any], out: Path, page: Path, what: str) -> None:
    """Write a result to a JSON file, and its table to a page."""
    for path, text in (
        (out, json.dumps(result, indent=1, ensure_ascii=False) + "\n"),
        (page, with_table(page.read_text(encoding="utf-8"), what, result)),
    ):
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    print(result["counts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the rows and counts")
    parser.add_argument("--page", type=Path, required=True, help="page that holds the table")
    arguments = parser.parse_args()
    chosen = cases()
    if missing := {case.needs for case in chosen if case.needs}:
        parser.error(f"needs {', '.join(sorted(missing))}: pip install 'kdlib[heic,raw]'")
    with tempfile.TemporaryDirectory() as folder:
        rows = run(chosen, Path(folder))
    result = {"counts": counts(rows), "rows": rows}
    store(result, arguments.out, arguments.page, "photos")


if __name__ == "__main__":
    main()
