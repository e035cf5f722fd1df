"""Writing the networks of the page in ``web/`` as a JavaScript module.

``python -m kdlib.app.page_models`` writes ``web/models.js`` anew; a test compares the file with the shipped weights.
The module holds the weights and every constant of the kernels, so that no number is written twice.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdlib import gain_grid, noise
from kdlib.enhance.kernels import denoise, denoise_rows
from kdlib.files import replacing
from kdlib.models.families import grid, zero_dce
from kdlib.models.registry import find_family
from kdlib.weights.catalogue import catalogue
from kdlib.weights.file import WeightsFile

MODELS = ("grid-960", "student-565-free", "student-565")
"""The networks of the page; the first is chosen when it opens."""
_DEFAULTS: dict[str, Mapping[str, Any]] = {"grid": grid.DEFAULTS, "zero-dce": zero_dce.DEFAULTS}
TARGET = Path(__file__).resolve().parents[2] / "web" / "models.js"


def exported(names: Sequence[str] = MODELS) -> str:
    """Return the source of the module: ``models``, by name, and ``constants`` of the kernels.

    Raises:
        FileNotFoundError, ValueError: see :class:`kdlib.weights.file.WeightsFile`.
    """
    parts = (("models", {name: _model(name) for name in names}), ("constants", _constants()))
    lines = [f"export const {name} = {json.dumps(value, indent=1, ensure_ascii=False)};" for name, value in parts]
    return "\n".join(["// Written by python -m kdlib.app.page_models.", *lines, ""])


def _model(name: str) -> dict[str, Any]:
    entry, file = catalogue()[name], WeightsFile(name)
    family = find_family(file.architecture)
    if family.name not in _DEFAULTS:
        raise ValueError(f"{name} is of the family {family.name}, which the page cannot run")
    arguments = {**_DEFAULTS[family.name], **file.architecture}
    wanted = {"body": "separable", "separable": True, "shared_map": True}
    if any(arguments.get(key, value) != value for key, value in wanted.items()):
        raise ValueError(f"{name} has layers or maps that the page cannot run")
    tensors = {key: np.ascontiguousarray(array, "<f4") for key, array in sorted(file.arrays().items())}
    return {
        "family": family.name,
        "use": entry.use,
        "licence": entry.licence,
        "sha256": entry.sha256,
        "denoise": family.denoise,
        "architecture": {key: value for key, value in arguments.items() if key != "family"},
        # 32-bit floats, lowest byte first, in base64: exact, and half as long as digits.
        "tensors": {
            key: {"shape": array.shape, "data": base64.b64encode(array.tobytes()).decode()}
            for key, array in tensors.items()
        },
    }


def _constants() -> dict[str, Any]:
    return {
        "grid": {
            "knots": gain_grid.KNOTS,
            # Luminances between which the histogram that the network sees is interpolated.
            "histogramKnots": gain_grid.KNOTS,
            "mostGain": gain_grid.MOST_GAIN,
            "mostChroma": gain_grid.MOST_CHROMA,
            "mostLossOfWhite": gain_grid.MOST_LOSS_OF_WHITE,
            "floor": gain_grid.FLOOR,
            "deep": gain_grid.DEEP,
            "clipped": gain_grid.CLIPPED,
            "nearlyClipped": gain_grid.NEARLY_CLIPPED,
            "certainClipped": gain_grid.CERTAIN_CLIPPED,
            "fallingOff": gain_grid.FALLING_OFF,
            "samples": gain_grid.SAMPLES,
            "leastDivisor": gain_grid.LEAST_DIVISOR,
            "leastSignal": gain_grid.LEAST_SIGNAL,
            "taps": [
                {"step": step, "diagonal": diagonal, "colourOnly": colour_only}
                for step, diagonal, colour_only in gain_grid.TAPS
            ],
        },
        "lifted": {
            "rounds": denoise_rows.ROUNDS,
            "tolerances": [denoise.LUMINANCE, denoise.COLOUR_EDGE, denoise.COLOUR],
            "narrows": [denoise.LUMINANCE_NARROWS, denoise.COLOUR_NARROWS],
            "diagonal": float(denoise_rows.DIAGONAL),
        },
        "noise": {
            "least": noise.LEAST,
            "most": noise.MOST,
            "block": noise.BLOCK,
            "border": noise.BORDER,
            "blocks": noise.BLOCKS,
            "leastTolerated": noise.LEAST_TOLERATED,
        },
        # Side of the largest copy that a network sees, as in kdlib.Enhancer.
        "maxNetworkSide": 1024,
    }


def main() -> None:
    """Write ``web/models.js``."""
    with replacing(TARGET) as partial:
        partial.write_text(exported(), encoding="utf-8")
    print(f"written to {TARGET}")


if __name__ == "__main__":
    main()
