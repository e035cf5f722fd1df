"""Coverage-guided fuzzing of the reader of weights: ``python -m tests.fuzz.weights --seconds 600``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["kdlib.weights", "kdlib.models", "pickletools"]):
    from kdlib.weights import header, load_model, pickled_header  # noqa: F401 - instrumented when first imported

from kdlib.enhance import Enhancer
from tests.fuzz.run import run

FOLDER = Path(tempfile.mkdtemp())
PHOTO = np.full((16, 24, 3), 40, np.uint8)


def weights(data: bytes) -> None:
    """One input. An exception other than ValueError is a defect, and so is a file that one of two readers reads."""
    path = FOLDER / ("model.safetensors" if data[8:9] == b"{" else "model.pth")
    path.write_bytes(data)
    if _refuses(load_model, path) != _refuses(Enhancer, path):
        raise AssertionError("one of two readers refuses it")
    if not _refuses(Enhancer, path):
        _refuses(Enhancer(path, threads=1), PHOTO)  # the weights may overflow


def _refuses(function: Callable[[Any], object], argument: Any) -> bool:
    try:
        function(argument)
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    run(weights, FOLDER, {".safetensors", ".pth"})
