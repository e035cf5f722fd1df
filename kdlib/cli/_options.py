"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="Name of a shipped model, or a weights file.")]
Strength = Annotated[float, typer.Option(help="0 changes nothing, 1 is the network's choice, 2 the most.")]
Denoise = Annotated[
    float | None,
    typer.Option(
        help="0 (off) to 2: smooth the noise in a photo. [default: the model's own, 1 for glance-650, else 0]"
    ),
]
Smoothing = Annotated[
    float, typer.Option(help="Seconds in which the brightening follows the scene; 0: at once, frame by frame.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")]
