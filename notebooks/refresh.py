"""Execute notebooks in place and store their outputs: ``python notebooks/refresh.py [NOTEBOOK …]``.

The solutions, in ``notebooks/solutions/``, belong to all of them. Time and peak memory of each go to
``results/notebooks.json``, to the opening of the lesson, and to the table in ``docs/course.md``.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageChops

from kdlib.evaluation import write_json

FOLDER = Path(__file__).resolve().parent
MOST_BYTES = 1_000_000  # of a notebook
RESULTS = FOLDER.parent / "results" / "notebooks.json"
COURSE = FOLDER.parent / "docs" / "course.md"


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a progress bar, a warning or the note of a download rather than a result."""
    shown = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return shown or output.get("name") == "stderr" or output.get("text", "").startswith("Downloading: ")


def shrink(output: nbformat.NotebookNode) -> None:
    """Store a picture as JPEG if it is a photo, and with at most 256 colours if it is a drawing.

    A drawing keeps its text sharp and its colours to within 8 of 255. Photos need more colours than that.
    """
    encoded = output.get("data", {}).get("image/png")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))) if encoded else None
    if picture is None or picture.convert("RGBA").getextrema()[3][0] < 255:  # transparent in places
        return
    picture = picture.convert("RGB")
    # Of Pillow's methods, this one keeps colours that few pixels have, such as those of a scale.
    drawing = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    apart = max(most for _, most in ImageChops.difference(picture, drawing.convert("RGB")).getextrema())
    png = saved(drawing, "PNG", optimize=True)
    jpeg = saved(picture, "JPEG", quality=80, optimize=True, progressive=True)
    kind, content = ("png", png) if apart <= 8 and len(png) <= 2 * len(jpeg) else ("jpeg", jpeg)
    if len(content) >= len(encoded):
        return
    del output["data"]["image/png"]
    output["data"][f"image/{kind}"] = content
    if size := output.get("metadata", {}).pop("image/png", None):
        output["metadata"][f"image/{kind}"] = size


def saved(picture: Image.Image, kind: str, **options: Any) -> str:
    """Return a picture as a notebook stores it, in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def refresh(path: Path) -> dict[str, float | None]:
    """Execute one notebook from its own folder and write it back without widget state, which GitHub cannot show.

    Returns:
        ``seconds``; and ``cpu_seconds`` and ``peak_gib``, the kernel's CPU time and peak memory (None where the system
        does not tell).
    """
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    seconds = time.perf_counter() - started
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
            for output in cell.outputs:
                shrink(output)
    found: dict[str, float | None] = {"seconds": round(seconds, 1), "cpu_seconds": None, "peak_gib": None}
    with suppress(ImportError):  # Windows
        import resource

        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        found["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 1)
        found["peak_gib"] = round(used.ru_maxrss * unit / 1024**3, 2)
    state(notebook.cells[0], found)
    nbformat.write(notebook, path)
    return found


def state(opening: nbformat.NotebookNode, measured: Mapping[str, float | None]) -> None:
    """Write time and memory into the opening of a lesson; short times to the second, others to five."""
    seconds, gib = measured["seconds"], measured["peak_gib"]
    assert seconds is not None
    step = 1 if seconds < 10 else 5
    rounded = f"about {step * round(seconds / step)} seconds with"
    opening.source = re.sub(r"about \d+ seconds with", rounded, opening.source)
    if gib is not None:
        opening.source = re.sub(r"[\d.]+ GiB of memory", f"{gib:.1f} GiB of memory", opening.source, count=1)


def state_all(measured: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write the times into the table of the course."""
    lines = COURSE.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines):
        if (row := re.match(r"\| \[(\w+)\]", line)) and row[1] in measured:
            lines[number] = re.sub(r"[\d.]+ s \|$", f"{measured[row[1]]['seconds']:.0f} s |", line)
    COURSE.write_text("".join(lines), encoding="utf-8")


def keep(measured: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write what was measured beside what earlier runs have measured."""
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["notebooks"] if RESULTS.is_file() else {}
    everything = dict(sorted({**before, **measured}.items()))
    write_json(RESULTS, {"command": "python notebooks/refresh.py", "notebooks": everything})
    state_all(everything)


def main() -> None:
    """Refresh the notebooks named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all, with the solutions")
    paths = [path.resolve() for path in parser.parse_args().notebooks] or [
        *sorted(FOLDER.glob("*.ipynb")),
        *sorted(FOLDER.glob("solutions/*.ipynb")),
    ]
    if missing := [path for path in paths if not path.is_file()]:
        parser.error(f"no notebook at {missing[0]}")
    os.environ["OMP_NUM_THREADS"] = "1"  # as the openings of the lessons say
    measured = {}
    # A process of its own for each notebook, because the system only tells the largest peak of all children.
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=1) as pool:
        for path in paths:
            name = f"{'solutions/' * (path.parent.name == 'solutions')}{path.stem}"
            measured[name] = pool.submit(refresh, path).result()
            size = path.stat().st_size
            large = f", more than {MOST_BYTES:,}: show fewer or smaller pictures" * (size > MOST_BYTES)
            print(f"{name}: {measured[name]}, {size:,} bytes{large}", flush=True)
            keep(measured)


if __name__ == "__main__":
    main()
