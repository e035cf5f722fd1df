"""Frames of animations: decoded whole, whatever part of the picture each one replaces, and written whole."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from kdlib.enhance.photos.formats.shared import CheckSize, Timing, pixels_of


def frames_of(image: Any, check_size: CheckSize) -> tuple[list[np.ndarray], Timing]:
    """Decode every frame of an open Pillow image as RGB, or as RGBA if any of them has transparent pixels."""
    width, height = image.size
    check_size(width, height, image.n_frames)
    frames, durations = [], []
    loop = image.info.get("loop")  # which Pillow forgets after the first frame
    for number in range(image.n_frames):
        image.seek(number)
        image.load()
        frames.append(pixels_of(image.convert("RGBA")))
        # The fraction that a file states, such as 1001/30000 s, is found again behind Pillow's decimals.
        durations.append((Fraction(image.info.get("duration") or 0) / 1000).limit_denominator(65535))
    if all((frame[..., 3] == 255).all() for frame in frames):
        frames = [np.ascontiguousarray(frame[..., :3]) for frame in frames]
    return frames, Timing(tuple(durations), loop)


def with_frames(images: Sequence[Image.Image], timing: Timing) -> dict[str, Any]:
    """Return the options with which Pillow writes the first of these images as an animation of all."""
    options: dict[str, Any] = {
        "save_all": True,
        "append_images": list(images[1:]),
        "duration": [round(1000 * seconds) for seconds in timing.durations],
    }
    return options if timing.loop is None else options | {"loop": timing.loop}
