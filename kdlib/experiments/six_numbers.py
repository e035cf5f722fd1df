"""Fit the six numbers of :class:`~kdlib.evaluation.exposure_rivals.SixNumbers`: what brightness alone can teach.

Run as ``python -m kdlib.experiments.six_numbers FOLDER``; the result goes to ``results/six_numbers.json``.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from kdlib.data.exposures import Exposures
from kdlib.evaluation.exposure_rivals import SixNumbers
from kdlib.files import write_json
from kdlib.training.exposure import CAMERA, load_exposures, picture_error

_BATCH, _RATE = 64, 0.03
_BLACK = 1e-4  # keeps the gradient of x^γ finite


def correct(photo: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """Apply six numbers to B×3×H×W in [0, 1]; ``gain`` and ``gamma`` have three coefficients each."""
    mean = photo.mean(dim=(1, 2, 3))
    powers = torch.stack([torch.ones_like(mean), mean, mean.square()], dim=1)
    factor, exponent = ((powers @ own).exp().view(-1, 1, 1, 1) for own in (gain, gamma))
    return factor * photo.clamp_min(_BLACK) ** exponent


def fit_six_numbers(exposures: Exposures, *, steps: int = 400, seed: int = 0) -> SixNumbers:
    """Fit gain and gamma to photos of a virtual camera, with the loss and data of the networks.

    Args:
        exposures: scenes, none of which may be used for scoring.
        steps: batches of 64 photos.
        seed: of the camera.
    """
    generator = torch.Generator().manual_seed(seed)
    gain, gamma = (torch.zeros(3, requires_grad=True) for _ in range(2))
    optimiser = torch.optim.Adam([gain, gamma], lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for _ in range(steps):
        batch = exposures[torch.randint(len(exposures), (_BATCH,), generator=generator)]
        settings = CAMERA.draw(batch.stops, batch.kept, batch.bend, generator)
        wanted = settings.wanted(batch.target, settings.photo(batch.radiance))
        loss = picture_error(correct(settings.photo(batch.radiance, generator), gain, gamma), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return SixNumbers(tuple(gain.tolist()), tuple(gamma.tolist()))


def main() -> None:
    """Fit the numbers and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="light and photos with LICENCES.tsv")
    parser.add_argument("--licences", default="free", help="free or any")
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/six_numbers.json"))
    chosen = parser.parse_args()
    exposures = load_exposures(chosen.folder, None, chosen.licences, chosen.views, 64, chosen.seed)
    numbers = fit_six_numbers(exposures.split(0.15, chosen.seed)[0], seed=chosen.seed)
    content = {
        "command": f"python -m kdlib.experiments.six_numbers {chosen.folder.name} --licences {chosen.licences} "
        f"--views {chosen.views} --seed {chosen.seed}",
        "gain": numbers.gain,
        "gamma": numbers.gamma,
    }
    write_json(chosen.out, content)
    print(f"gain {numbers.gain}, gamma {numbers.gamma}; written to {chosen.out}")


if __name__ == "__main__":
    main()
