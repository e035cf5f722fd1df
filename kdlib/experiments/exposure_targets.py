"""Does a low exposure target darken bright areas? One network, trained for several targets from several seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdlib.data.datasets import dark_photos, load_photos
from kdlib.data.samples import HELD_OUT, sample_crops, sample_photos
from kdlib.enhance.photos.rgb import to_tensor
from kdlib.experiments.measurement import Measurement
from kdlib.models import ZeroDCE
from kdlib.training.config import LoopConfig
from kdlib.training.pretrain import pretrain
from kdlib.training.task import digest

TARGETS = (0.4, 0.5, 0.6, 0.7)
OBJECTIVES = ("zero-dce-absolute", "zero-dce")
# Brightness (mean of RGB) of the input above which a pixel counts as bright, and below which as dark.
BRIGHT, DARK = 0.7, 0.3
# A bright pixel counts as darkened if it loses more than this; less is not visible.
VISIBLE = 0.02
# Photos are examined at their own resolution, as in training, and only at their centre, because the network is slow.
MIDDLE, MOST_PHOTOS, LEAST_SHARE = 192, 16, 0.02
FULL_SIDE = 512


def own_size_crops(data_dir: str | Path | None, count: int, size: int, seed: int = 0) -> Tensor:
    """One random crop of each of ``count`` photos, which are scaled to 512 pixels a side and no further.

    A patch of the exposure loss then covers as much of a photo as in training on whole photos.

    Args:
        data_dir: a folder of photos, or None for crops of the embedded ones, which are zoomed.

    Returns:
        N×3×size×size, uint8.
    """
    if data_dir is None:
        return sample_crops(count, size, seed)
    photos = load_photos(data_dir, size=FULL_SIDE, limit=count).photos
    places = torch.randint(FULL_SIDE - size + 1, (len(photos), 2), generator=torch.Generator().manual_seed(seed))
    crops = [
        photo[:, top : top + size, left : left + size]
        for photo, (top, left) in zip(photos, places.tolist(), strict=True)
    ]
    return torch.stack(crops)


def photos_with_bright_areas(folder: str | Path | None = None) -> Tensor:
    """The centres of up to 16 photos, N×3×192×192 in [0, 1], of which 2% or more are bright.

    Args:
        folder: of photos, or None for the held-out embedded ones in daylight.

    Raises:
        ValueError: no such photo.
    """
    from torchvision.transforms.v2.functional import center_crop

    found: Iterable[Tensor] = (
        (photo for _, photo in dark_photos([folder]))
        if folder is not None
        else (to_tensor(photo) for name, photo in sample_photos().items() if name in HELD_OUT)
    )
    middles = [center_crop(photo, [MIDDLE, MIDDLE]) for photo in found]
    suited = [photo for photo in middles if (photo.mean(dim=0) > BRIGHT).float().mean() >= LEAST_SHARE]
    if not suited:
        raise ValueError(f"no photo in {folder} is brighter than {BRIGHT} on {LEAST_SHARE:.0%} of its centre or more")
    count = min(MOST_PHOTOS, len(suited))
    return torch.stack([suited[i * len(suited) // count] for i in range(count)])


@torch.no_grad()
def tone_change(model: ZeroDCE, photos: Tensor) -> dict[str, float]:
    """A model's effect on bright and on dark areas, averaged over photos.

    Args:
        photos: N×3×H×W in [0, 1], each with bright areas (:func:`photos_with_bright_areas`).

    Returns:
        ``bright`` and ``dark``: mean change of brightness where the input is above 0.7 and below 0.3; ``darkened``:
        the share of bright pixels that lose more than 0.02; ``positive``: the share of the curve map's values there
        that are positive, which darkens. ``dark`` averages over the photos that have such areas.
    """
    rows: list[dict[str, float]] = []
    for photo in photos:
        enhanced, curve_map = model(photo[None])
        before = photo.mean(dim=0)
        change = enhanced[0].mean(dim=0) - before
        bright, dark = before > BRIGHT, before < DARK
        row = {
            "bright": float(change[bright].mean()),
            "darkened": float((change[bright] < -VISIBLE).float().mean()),
            "positive": float((curve_map[0][:, bright] > 0).float().mean()),
        }
        rows.append(row | ({"dark": float(change[dark].mean())} if dark.any() else {}))
    names = ("bright", "darkened", "positive", "dark")
    return {name: statistics.fmean([row[name] for row in rows if name in row] or [0.0]) for name in names}


def measure_targets(
    results_path: str | Path,
    data_dir: str | Path | None = None,
    bright_dir: str | Path | None = None,
    *,
    model: str = "zero-dce",
    objectives: Sequence[str] = OBJECTIVES,
    targets: Sequence[float] = TARGETS,
    seeds: Sequence[int] = (0, 1, 2),
    photos: int = 400,
    size: int = 32,
    epochs: int = 4,
    learning_rate: float = 0.003,
    **loop: Any,
) -> dict[str, Any]:
    """Train a network for every objective, exposure target and seed, and measure its effect on bright areas.

    The file is written after each run, and runs that it holds are not repeated: an interrupted measurement continues.

    Args:
        results_path: a JSON file: new, or of a measurement with the same settings.
        data_dir: training photos (:func:`own_size_crops`), or None for embedded ones.
        bright_dir: photos to examine (:func:`photos_with_bright_areas`), or None for embedded ones.
        model: a curve network by name; it sees photos at their own resolution.
        photos, size: training crops, and their side in pixels.
        epochs, learning_rate, loop: see :class:`~kdlib.training.config.LoopConfig`.

    Returns:
        The content of the file: ``settings`` and ``rows``, one for each run: ``objective``, ``target``, ``seed``, what
        :func:`tone_change` returns, and ``seconds``.

    Raises:
        ValueError: the file holds results with other settings.
    """
    once = {"epochs": epochs, "learning_rate": learning_rate, **loop}
    LoopConfig(**once)  # fails before any work is done
    crops, looked_at = own_size_crops(data_dir, photos, size), photos_with_bright_areas(bright_dir)
    settings: dict[str, Any] = {"data": Path(data_dir).absolute().name if data_dir else "embedded"}
    settings |= {"bright": Path(bright_dir).absolute().name if bright_dir else "embedded", "model": model}
    settings |= {"photos": len(crops), "looked_at": len(looked_at), "digest": digest(crops, looked_at), "size": size}
    settings |= {name: value for name, value in once.items() if name != "progress"}
    measurement = Measurement(results_path, settings)
    done = measurement.done("objective", "target", "seed")
    every = [(objective, target, seed) for objective in objectives for seed in seeds for target in targets]
    for objective, target, seed in tqdm([run for run in every if run not in done], desc="targets", unit="run"):
        run = pretrain(
            model, photos=crops, objective=objective, exposure_target=target, augmentation="none", seed=seed,
            progress=False, **{name: value for name, value in once.items() if name != "progress"},
        )  # fmt: skip
        network: Any = run.model
        network.scale_factor = 1
        row = {"objective": objective, "target": target, "seed": seed, **tone_change(network, looked_at)}
        measurement.add({**row, "seconds": round(run.seconds, 2)})
    return measurement.content


def summarise_targets(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and sample standard deviations over seeds, a row for each objective and target, in the rows' order.

    Returns:
        ``objective``, ``target``, ``seeds`` and, for ``bright``, ``darkened``, ``positive`` and ``dark``, the mean and
        ``<name>_sd`` (None for one seed): what :func:`~kdlib.evaluation.markdown_table` shows as mean ± deviation.
    """
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["objective"], row["target"]), []).append(row)
    summary = []
    for (objective, target), runs in groups.items():
        line: dict[str, Any] = {"objective": objective, "target": target, "seeds": len(runs)}
        for name in ("bright", "darkened", "positive", "dark"):
            values = [run[name] for run in runs]
            line |= {name: statistics.fmean(values), f"{name}_sd": statistics.stdev(values) if len(runs) > 1 else None}
        summary.append(line)
    return summary
