"""Write photos that the virtual camera takes, for trainings that need photos without targets.

Run as ``python -m kdlib.experiments.virtual_photos FOLDER OUT``; ``FOLDER`` has light and photos with ``LICENCES.tsv``.
"""

import argparse
from pathlib import Path

import torch

from kdlib.data.exposures import Exposures
from kdlib.enhance.photos.rgb import to_array, write_photo
from kdlib.training.exposure import CAMERA, load_exposures


def take_photos(scenes: Exposures, folder: str | Path, count: int, *, seed: int = 0) -> list[Path]:
    """Take photos of random scenes, with random exposure, noise, white balance and tone curve.

    Args:
        scenes: see :class:`~kdlib.data.exposures.Exposures`.
        folder: gets ``0000.png`` and so on; is created.
        count: number of photos.
        seed: of scenes and camera.

    Raises:
        FileExistsError: a photo of such a name is there.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    paths = []
    for number in range(count):
        scene = scenes[torch.randint(len(scenes), (1,), generator=generator)]
        settings = CAMERA.draw(scene.stops, scene.kept, scene.bend, generator)
        path = folder / f"{number:04d}.png"
        if path.exists():
            raise FileExistsError(f"{path} exists; choose an empty folder")
        write_photo(path, to_array(settings.photo(scene.radiance, generator)[0]))
        paths.append(path)
    return paths


def main() -> None:
    """Take the photos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--licences", default="free", help="free or any")
    parser.add_argument("--views", type=int, default=40, help="of each panorama")
    parser.add_argument("--size", type=int, default=128, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    scenes = load_exposures(chosen.folder, None, chosen.licences, chosen.views, chosen.size, chosen.seed)
    paths = take_photos(scenes, chosen.out, chosen.count, seed=chosen.seed)
    print(f"{len(paths)} photos in {chosen.out}")


if __name__ == "__main__":
    main()
