"""Score methods on bracketed scenes: every exposure of a scene should become like the fusion of all of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from kdlib.data.brackets import Bracket
from kdlib.enhance.photos.rgb import to_tensor
from kdlib.evaluation.appearance import halos, hue_shift, tone
from kdlib.evaluation.classical import Method
from kdlib.evaluation.metrics import capped_psnr, lpips, lpips_available, psnr, quantise, ssim

# Mean brightness below which an input counts as dark, and from which it counts as bright.
DARK, BRIGHT = 0.2, 0.55
GROUPS = ("dark", "middle", "bright", "backlit")
COLUMNS = {
    "method": ("method", "s"),
    "parameters": ("parameters", ",d"),
    "psnr": ("PSNR", ".2f"),
    "psnr_dark": ("dark", ".2f"),
    "psnr_middle": ("middle", ".2f"),
    "psnr_bright": ("bright", ".2f"),
    "psnr_backlit": ("backlit", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
}
LOOKS = {
    "method": ("method", "s"),
    "consistency": ("consistency, dB", ".1f"),
    "lightness": ("lightness", ".3f"),
    "contrast": ("contrast", ".2f"),
    "chroma": ("chroma", ".2f"),
    "hue_shift": ("hue, °", ".1f"),
    "reversals": ("reversals", ".2%"),
    "overshoot": ("overshoot", ".2f"),
}


def is_backlit(photo: Tensor) -> bool:
    """Return whether a photo (3×H×W in [0, 1]) has large dark and large bright parts.

    The mean of R, G and B is below 0.12 in more than a quarter of the pixels and above 0.7 in more than a twelfth. One
    curve for the whole photo fails on such photos.
    """
    grey = photo.mean(0)
    return bool((grey < 0.12).float().mean() > 1 / 4 and (grey > 0.7).float().mean() > 1 / 12)


def groups_of(photo: Tensor) -> list[str]:
    """Return the groups to which an input (3×H×W in [0, 1]) belongs: dark, middle or bright, and perhaps backlit."""
    mean = float(photo.mean())
    level = "dark" if mean < DARK else "bright" if mean >= BRIGHT else "middle"
    return [level, "backlit"] if is_backlit(photo) else [level]


def best_exposed(exposures: Sequence[Tensor]) -> int:
    """Return the index of the exposure whose mean brightness is nearest 0.45."""
    return int(np.argmin([abs(float(photo.mean()) - 0.45) for photo in exposures]))


def score_bracket(methods: Mapping[str, Method], bracket: Bracket) -> dict[str, dict[str, list[float]]]:
    """Score every method on one scene.

    Args:
        methods: by name, each maps a photo (3×H×W in [0, 1]) to a photo, which is rounded to 8 bits.

    Returns:
        By method and metric, one value for each exposure: ``psnr``, ``ssim``, ``lpips`` (if available), the relative
        ``contrast`` and ``chroma`` and the difference of ``lightness`` from the best-exposed photo of the bracket,
        ``hue_shift``, ``reversals`` and ``overshoot``; and ``consistency``, one value for each pair of exposures, the
        PSNR between their outputs.
    """
    inputs, truth = [to_tensor(photo) for photo in bracket.exposures], to_tensor(bracket.fused)
    best = tone(inputs[best_exposed(inputs)])
    scores: dict[str, dict[str, list[float]]] = {}
    for name, method in methods.items():
        outputs = [quantise(method(photo)) for photo in inputs]
        rows = []
        for before, after in zip(inputs, outputs, strict=True):
            look = tone(after)
            row = {
                "psnr": psnr(after, truth),
                "ssim": ssim(after, truth),
                "lightness": look["lightness"] - best["lightness"],
                "contrast": look["contrast"] / max(best["contrast"], 1e-3),
                "chroma": look["chroma"] / max(best["chroma"], 1e-3),
                "hue_shift": hue_shift(before, after),
                **halos(before, after),
            }
            if lpips_available():
                row["lpips"] = lpips(after, truth)
            rows.append(row)
        scores[name] = {key: [row[key] for row in rows] for key in rows[0]}
        pairs = [(a, b) for i, a in enumerate(outputs) for b in outputs[:i]]
        scores[name]["consistency"] = [capped_psnr(a, b) for a, b in pairs]
    return scores


def score_brackets(
    methods: Mapping[str, Method],
    brackets: Iterable[Bracket],
    progress: Callable[[Bracket], object] = lambda bracket: None,
) -> list[dict[str, Any]]:
    """Score methods on all scenes.

    Args:
        methods, brackets: see :func:`score_bracket` and :func:`kdlib.data.brackets.read_brackets`.
        progress: called with each scene after it has been scored.

    Returns:
        A row for each method with the mean of every metric over the inputs, ``psnr_dark``, ``psnr_middle``,
        ``psnr_bright`` and ``psnr_backlit`` (likewise for SSIM) over the inputs of a group, and ``scenes``: each
        scene's mean PSNR, for :func:`paired_difference`. A group without inputs has no entry.

    Raises:
        ValueError: there are no scenes.
    """
    collected: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
    groups: list[list[str]] = []
    scenes: dict[str, dict[str, float]] = {name: {} for name in methods}
    for bracket in brackets:
        groups += [groups_of(to_tensor(photo)) for photo in bracket.exposures]
        for name, scores in score_bracket(methods, bracket).items():
            for key, values in scores.items():
                collected[name].setdefault(key, []).extend(values)
            scenes[name][bracket.name] = float(np.mean(scores["psnr"]))
        progress(bracket)
    if not groups:
        raise ValueError("no brackets to score methods on")
    rows = []
    for name, scores in collected.items():
        row: dict[str, Any] = {"method": name, "inputs": len(groups)}
        row |= {key: float(np.mean(values)) for key, values in scores.items() if values}
        for group in GROUPS:
            members = [i for i, own in enumerate(groups) if group in own]
            for key in ("psnr", "ssim"):
                if members:
                    row[f"{key}_{group}"] = float(np.mean([scores[key][i] for i in members]))
        rows.append({**row, "scenes": scenes[name]})
    return rows


def paired_difference(
    row: Mapping[str, Any], other: Mapping[str, Any], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return by how much a method is ahead of another one in mean PSNR per scene, with its 95% interval.

    The interval comes from resampling scenes with replacement (Efron, 1979), because exposures of one scene are not
    independent.

    Args:
        row, other: of :func:`score_brackets`, on the same scenes.
        draws: number of resampled sets.
        seed: of the draws.

    Returns:
        Difference, and lower and upper end of the interval, in dB.

    Raises:
        ValueError: the rows are about different scenes.
    """
    if row["scenes"].keys() != other["scenes"].keys():
        raise ValueError(f"{row['method']} and {other['method']} were scored on different scenes")
    apart = np.array([row["scenes"][name] - other["scenes"][name] for name in row["scenes"]])
    picks = np.random.default_rng(seed).integers(0, len(apart), (draws, len(apart)))
    low, high = np.quantile(apart[picks].mean(1), (0.025, 0.975))
    return float(apart.mean()), float(low), float(high)
