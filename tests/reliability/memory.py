"""Memory that `kdlib enhance` takes for a photo, beyond what the program takes itself, and for enlarging one (Linux).

``python -m tests.reliability.memory --out results/memory.json``
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from kdlib.weights.catalogue import DEFAULT_MODEL

# Height and width, as a camera has them.
SHAPES = {"6000×4000": (4000, 6000)}
_MEASURE = """
import re, sys
from pathlib import Path
from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import Job, enhance_files

def status(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, large, out, model = sys.argv[1:]
enhancer = Enhancer(model, threads=1)
enhance_files([Job(Path(small), Path(out))], lambda _: enhancer, workers=1, overwrite=True)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmHWM")
summary = enhance_files([Job(Path(large), Path(out))], lambda _: enhancer, workers=1, overwrite=True)
assert summary.done, summary.failed
print(status("VmHWM") - before)
"""
_ENLARGE = """
import re, sys
from pathlib import Path
import numpy as np
from kdlib.enhance import Enhancer

small = np.random.default_rng(0).integers(0, 256, (750, 1000, 3), np.uint8)
Enhancer(sys.argv[1], device="cpu", threads=int(sys.argv[2]))(small)
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""


def picture(shape: tuple[int, int], top: int) -> np.ndarray:
    """H×W×3, noise around a gradient."""
    rng = np.random.default_rng(0)
    gradient = np.linspace(0, 0.3 * top, shape[1])[None, :, None]
    samples = gradient + rng.integers(0, top // 20, (*shape, 3))
    return samples.astype(np.uint8 if top == 255 else np.uint16)


def write(path: Path, shape: tuple[int, int]) -> Path:
    """A photo of the kind that the file's name says: 16 bits if that begins with "deep"."""
    if not path.name.startswith("deep"):
        Image.fromarray(picture(shape, 255)).save(path)
    elif path.suffix == ".png":
        cv2.imwrite(str(path), picture(shape, 65535))
    else:
        tifffile.imwrite(path, picture(shape, 65535), photometric="rgb", compression="zlib")
    return path


def measure(model: str = DEFAULT_MODEL) -> dict[str, dict[str, float]]:
    """Bytes for each pixel, by kind of photo and sides."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("8.jpg", "8.png", "8.webp", "8.bmp", "8.tif", "8.avif", "deep.png", "deep.tif"):
            small = write(folder / f"{Path(name).stem}_small{Path(name).suffix}", (60, 80))
            for label, shape in SHAPES.items():
                large = write(folder / name, shape)
                arguments = [str(small), str(large), str(folder / f"out{large.suffix}"), model]
                done = subprocess.run(
                    [sys.executable, "-c", _MEASURE, *arguments], check=True, capture_output=True, text=True
                )
                found.setdefault(name, {})[label] = round(int(done.stdout) / (shape[0] * shape[1]), 1)
                print(name, label, found[name][label], flush=True)
                large.unlink()
    return found


def measure_enlarging(model: str = "light-msafn") -> dict[str, int]:
    """Bytes of the whole program that makes a result of 12 megapixels, by the number of threads."""
    found = {}
    for threads in ("1", "2", "16"):
        command = [sys.executable, "-c", _ENLARGE, model, threads]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[threads] = int(done.stdout)
        print(model, threads, "threads", f"{found[threads]:,}", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {"bytes_a_pixel": measure(), "enlarging_by_threads": measure_enlarging()}
    if given.out:
        from kdlib.files import write_json

        write_json(given.out, {"command": "python -m tests.reliability.memory", **result})
