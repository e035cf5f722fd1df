"""Draw README's first picture: four photos, what ``glance-650`` makes of them, and what the default network does.

Run as ``python -m kdlib.viz.every_photo FOLDER``; ``FOLDER`` has light and photos with ``LICENCES.tsv``. The
picture goes to ``results/every_photo.png``.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from kdlib.data.degrade import linear_to_srgb, srgb_to_linear
from kdlib.data.light import HDR_FOLDER, develop, metered_stops, read_light
from kdlib.enhance.photos.rgb import read_photo, to_tensor
from kdlib.evaluation.metrics import enhance_tensor
from kdlib.viz.common import before_after
from kdlib.weights import load_model
from kdlib.weights.catalogue import DEFAULT_MODEL

OLD = "glance-650"
# The night is under-exposed by two stops, the backlight and the noon are as they were taken, and the fourth is exposed
# two stops above the meter. All are in the public domain or under CC0, Apache and BSD licences.
_PHOTOS = {
    "night": "photos/palapeli_cincinnati-bridge.webp",
    "backlight": "photos/usfs_homepage_bg.webp",
    "noon": "photos/owncloud_Lake-Constance.webp",
}
_LIGHT = "hdr/exr_MtTamNorth.hdr"
_UNDER, _OVER, _BEND = -2.0, 2.0, 0.3


def four_photos(folder: Path) -> dict[str, Tensor]:
    """Return the photos by kind of light, 3×H×W in [0, 1]."""
    photos = {name: to_tensor(read_photo(folder / file)) for name, file in _PHOTOS.items()}
    photos["night"] = linear_to_srgb(srgb_to_linear(photos["night"]) * 2**_UNDER)
    light = next(light for light in read_light(folder, "free") if light.row.file == _LIGHT)
    stops = metered_stops(light.radiance) + _OVER
    exposed = torch.from_numpy(light.radiance).permute(2, 0, 1) * 2**stops
    return {**photos, "over-exposed": develop(exposed, _BEND)}


def main() -> None:
    """Draw the picture and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help=f"has {HDR_FOLDER}/, photos/ and LICENCES.tsv")
    parser.add_argument("--out", type=Path, default=Path("results/every_photo.png"))
    chosen = parser.parse_args()
    models = {name: load_model(name) for name in (OLD, DEFAULT_MODEL)}
    rows = {
        kind: {"photo": photo} | {name: enhance_tensor(model, photo) for name, model in models.items()}
        for kind, photo in four_photos(chosen.folder).items()
    }
    before_after(rows).savefig(chosen.out)
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
