"""Coverage-guided fuzzing of the reader of exported files: ``python -m tests.fuzz.exported --seconds 600``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["kdlib.weights.exported", "kdlib.enhance.backends.exported"]):
    from kdlib.enhance.backends import exported as backend  # noqa: F401 - instrumented when first imported
    from kdlib.weights.exported import SEAL, signed

from kdlib.enhance import Enhancer
from tests.fuzz.run import CORPUS, run

FOLDER = Path(tempfile.mkdtemp())
PHOTO = np.full((16, 24, 3), 40, np.uint8)
for sound in CORPUS.glob("*.onnx"):  # imports and compiles, which no input's time shall include
    Enhancer(sound, threads=1)(PHOTO)


def exported(data: bytes) -> None:
    """One input, as it is, and with a digest that fits it. An exception other than ValueError is a defect."""
    for content in (data, signed(data[:-SEAL])):
        path = FOLDER / "model.onnx"
        path.write_bytes(content)
        try:
            Enhancer(path, threads=1)(PHOTO)
        except ValueError:
            continue


if __name__ == "__main__":
    run(exported, FOLDER, {".onnx"})
