"""``python -m tests.web --out results/web.json``: how long the page takes, and how large it is."""

from __future__ import annotations

import argparse
import base64
import gzip
import io
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from kdlib.app.export import MODELS
from kdlib.files import write_json
from tests.web.browser import WEB, browser, scene, served

SIZES = {"1 MP": (816, 1224), "12 MP": (3000, 4000), "50 MP": (5774, 8660)}
# In the page: milliseconds from the file to its first picture, of a new picture for a moved slider, with smoothing and
# without, at the size of the screen; of one for which every pixel of the photo is computed; and until it is a file.
MEASURE = """async ([content, repeats]) => {
    const { engine, photos, render, settings, view } = await import("./app.js");
    const timed = async (act) => {
        const start = performance.now();
        await act();
        // Drawing has only been ordered until pixels are read.
        const gl = engine.gl?.gl;
        if (gl) gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
        return performance.now() - start;
    };
    const several = async (act) => {
        const times = [];
        for (let n = 0; n < repeats; n++) times.push(await timed(() => act(n)));
        return times;
    };
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const file = new File([bytes], "photo.jpg", { type: "image/jpeg" });
    const input = document.getElementById("files");
    const list = new DataTransfer();
    list.items.add(file);
    const open = await timed(async () => {
        input.files = list.files;
        input.dispatchEvent(new Event("change"));
        while (engine.shown.photo === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
    });
    const slide = async (denoise) => {
        settings.denoise = denoise;
        await render();
        return several(async (n) => {
            settings.strength = 1 + (n + 1) / 100;
            await render();
        });
    };
    const [smooth, plain] = [await slide(1), await slide(0)];
    const entry = photos[0];
    const { model } = settings;
    const whole = await several((n) => engine.enhanced(entry.photo, { model, strength: 1 + n / 100, denoise: 1 }));
    const plainWhole = await several((n) => engine.enhanced(entry.photo, { model, strength: 1 + n / 100, denoise: 0 }));
    const save = await timed(() => engine.save(entry.photo, { model, strength: 1, denoise: 1 }));
    const canvas = document.getElementById("after");
    return {
        how: engine.how, open, save, slider: smooth, slider_without_denoise: plain, full_size: whole,
        full_size_without_denoise: plainWhole, shown: [canvas.width, canvas.height],
    };
}"""
WITHOUT_WEBGL = """
    const original = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
        return kind.startsWith("webgl") ? null : original.call(this, kind, ...more);
    };
"""


def measure(repeats: int, sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Return the page's times in milliseconds, by engine and size."""
    rows, how, version = [], {}, ""
    with served() as address, browser() as chromium:
        version = chromium.version
        for engine, script in (("WebGL2", ""), ("JavaScript", WITHOUT_WEBGL)):
            for name, (height, width) in sizes.items():
                if engine == "JavaScript" and height * width > 20e6:
                    continue
                file = io.BytesIO()
                Image.fromarray(np.tile(scene(height // 2, width // 2), (2, 2, 1))).save(file, "JPEG", quality=90)
                context = chromium.new_context(viewport={"width": 1280, "height": 800})
                page = context.new_page()
                page.set_default_timeout(600_000)
                if script:
                    page.add_init_script(script)
                page.goto(address)
                page.wait_for_selector("html[data-ready]")
                content = base64.b64encode(file.getvalue()).decode()
                times = page.evaluate(MEASURE, [content, repeats])
                how[engine] = times.pop("how")
                row = {"engine": engine, "size": name, "width": width, "height": height, "shown": times.pop("shown")}
                for key, value in times.items():
                    row[f"{key}_ms"] = round(median(value) if isinstance(value, list) else value, 1)
                rows.append(row)
                print(row, flush=True)
                context.close()
    return {"browser": f"Chromium {version}", "engines": how, "repeats": repeats, "rows": rows}


def times_table(result: dict[str, Any]) -> str:
    """Return the times as Markdown."""
    columns = {
        "open_ms": "open", "slider_ms": "slider", "slider_without_denoise_ms": "slider, denoise 0",
        "full_size_ms": "full size", "full_size_without_denoise_ms": "full size, denoise 0", "save_ms": "save",
    }  # fmt: skip
    lines = [["engine", "photo", *columns.values()], ["---", "---", *["---:"] * len(columns)]]
    for row in result["rows"]:
        lines.append([row["engine"], row["size"], *(f"{row[key]:,.0f}" for key in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    files = {path.name: len(gzip.compress(path.read_bytes())) for path in sorted(WEB.iterdir()) if path.is_file()}
    result = {
        "command": "python -m tests.web",
        "model": MODELS[0],
        # Without a graphics processor, the shaders are computed on the CPU.
        "rendering": "software (SwiftShader), two cores",
        "bytes_compressed": {**files, "all": sum(files.values())},
        **measure(arguments.repeats, SIZES),
    }
    print(times_table(result))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
