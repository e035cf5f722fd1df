"""``python -m tests.web --out results/web.json``: how long the page takes, and how large it is."""

from __future__ import annotations

import argparse
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from kdlib.app.page_models import MODELS
from kdlib.files import write_json
from tests.web.browser import WEB, WITHOUT_WEBGL, browser, scene, served

SIZES = {"1 MP": (816, 1224), "12 MP": (3000, 4000), "50 MP": (5774, 8660)}
MOST_IN_JAVASCRIPT = 20e6  # pixels; larger photos would take minutes
# What is timed. Drawing has only been ordered until pixels are read, which `done` does.
PREPARE = """async () => {
    window.page = await import("./app.js");
    const gl = page.engine.gl?.gl;
    window.done = () => gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    window.slide = async (denoise) => {
        Object.assign(page.settings, { denoise, strength: 1.5 - Math.abs(page.settings.strength - 1) / 2 });
        await page.render();
        done();
    };
    window.whole = (denoise) => page.engine.enhanced(page.photos[0].photo, { ...page.settings, denoise });
}"""
OPEN = """async () => {
    while (page.engine.shown.photo === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
    done();
}"""
STEPS = {
    "slider_without_denoise": "() => slide(0)",
    "slider": "() => slide(1)",
    "full_size_without_denoise": "async () => { await whole(0); }",
    "full_size": "async () => { await whole(1); }",
    "save": "async () => { await page.engine.save(page.photos[0].photo, { ...page.settings, denoise: 1 }); }",
}


def measure(repeats: int, earlier: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the page's times in milliseconds after each photo: by the clock, and of the CPU in all processes.

    Args:
        repeats: how often each is taken, for a median.
        earlier: what an interrupted measurement has yielded last; its photos are not measured again.
    """
    rows, how = earlier.get("rows", []), earlier.get("engines", {})
    known = {(row["engine"], row["size"]) for row in rows}
    with served() as address, browser() as chromium:
        processes = chromium.new_browser_cdp_session()

        def cpu() -> float:
            return sum(process["cpuTime"] for process in processes.send("SystemInfo.getProcessInfo")["processInfo"])

        def timed(page: Any, code: str) -> tuple[float, float]:
            clock, before = perf_counter(), cpu()
            page.evaluate(code)
            return 1000 * (perf_counter() - clock), 1000 * (cpu() - before)

        for engine, script in (("WebGL2", ""), ("JavaScript", WITHOUT_WEBGL)):
            for name, (height, width) in SIZES.items():
                if (engine == "JavaScript" and height * width > MOST_IN_JAVASCRIPT) or (engine, name) in known:
                    continue
                file = io.BytesIO()
                photo = np.tile(scene(height // 2, width // 2), (2, 2, 1))
                Image.fromarray(photo).save(file, "JPEG", quality=90)
                page = chromium.new_page(viewport={"width": 1280, "height": 800})
                page.set_default_timeout(900_000)
                page.add_init_script(script or "0")
                page.goto(address)
                page.wait_for_selector("html[data-ready]")
                page.evaluate(PREPARE)
                upload = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}
                page.set_input_files("#files", upload)  # carries the file into the browser, which takes time as well
                page.evaluate(OPEN)
                how[engine] = page.evaluate("page.engine.how")
                row: dict[str, Any] = {"engine": engine, "size": name, "width": width, "height": height}
                for step, code in STEPS.items():
                    if step.startswith("slider"):
                        page.evaluate(code)  # compiles what the other steps use, too
                    times = np.median([timed(page, code) for _ in range(repeats)], axis=0)
                    row[f"{step}_ms"], row[f"{step}_cpu_ms"] = map(round, times.tolist())
                rows.append(row)
                page.close()
                yield {"browser": f"Chromium {chromium.version}", "engines": how, "repeats": repeats, "rows": rows}


def times_table(result: dict[str, Any]) -> str:
    """Return the seconds of CPU time as Markdown."""
    columns = {
        "slider_without_denoise": "slider, denoise 0", "slider": "slider",
        "full_size_without_denoise": "full size, denoise 0", "full_size": "full size", "save": "save",
    }  # fmt: skip
    lines = [["engine", "photo", *columns.values()], ["---", "---", *["---:"] * len(columns)]]
    for row in result["rows"]:
        lines.append([row["engine"], row["size"], *(f"{row[f'{key}_cpu_ms'] / 1000:.2f}" for key in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resume", action="store_true", help="continue what is in the file")
    arguments = parser.parse_args()
    files = {path.name: len(gzip.compress(path.read_bytes())) for path in sorted(WEB.iterdir()) if path.is_file()}
    about = {
        "command": "python -m tests.web",
        "model": MODELS[0],
        # Without a graphics processor, the shaders are computed on the CPU.
        "rendering": "software (SwiftShader), two cores",
        "bytes_compressed": {**files, "all": sum(files.values())},
    }
    earlier = json.loads(arguments.out.read_text()) if arguments.resume and arguments.out else {}
    for times in measure(arguments.repeats, earlier):
        print(times_table(times).splitlines()[-1], flush=True)
        if arguments.out:
            write_json(arguments.out, about | times)


if __name__ == "__main__":
    main()
