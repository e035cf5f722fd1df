"""Options that several commands share, and a check of the names that they take."""

from collections.abc import Iterable
from typing import Annotated

import typer

from kdlib.models.registry import FAMILIES
from kdlib.weights.catalogue import catalogue, find_weights


def _own_denoise() -> str:
    """Return the defaults of the models that are denoised unasked."""
    return "".join(
        f"{family.denoise:g} for {name}, " for family in FAMILIES.values() if family.denoise for name in family.models
    )


def _shipped_models() -> str:
    """Return a Markdown list of what each of the shipped models is for."""
    try:
        entries = catalogue().values()
    except (OSError, ValueError):  # a damaged installation, which `kdlib weights verify` describes
        return ""
    return "\n".join(["\n", *(f"- `{entry.name}`: {entry.use}" for entry in entries)])


Model = Annotated[
    str, typer.Option(help=f"Name of a shipped model, or path of a weights file. Shipped:{_shipped_models()}")
]
Strength = Annotated[
    float,
    typer.Option(
        help="Strength of the brightening: 0 leaves all as it is unless --denoise is given, 1 is the network's "
        "choice, 2 the maximum."
    ),
]
Denoise = Annotated[
    float | None,
    typer.Option(
        help=f"Strength of the denoising, from 0 (off) to 2. Default: the model's own, {_own_denoise()}otherwise 0; "
        "0 with --strength 0."
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(help="Time constant in seconds with which the brightening follows the scene; 0 is no smoothing."),
]
Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:N or mps.")]


def check_weights(names: Iterable[str]) -> None:
    """Look for weights by name or path before PyTorch is imported, which takes seconds.

    Raises:
        FileNotFoundError, ValueError: see :func:`kdlib.weights.catalogue.find_weights`.
    """
    for name in names:
        find_weights(name)
