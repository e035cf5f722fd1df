"""The GIF format: every frame with its time, each with a palette of its own."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image

from kdlib.enhance.photos.formats.animation import frames_of, with_frames
from kdlib.enhance.photos.formats.shared import CheckSize, Decoded, Timing, require_pixels

_NOTE = "a GIF has at most 256 colours a frame, which were chosen anew"


@dataclass(frozen=True)
class GifContainer:
    """What a GIF file contains besides its pixels: the comment."""

    comment: bytes = b""


def decode(path: Path, check_size: CheckSize) -> Decoded:
    """Decode a GIF file to RGB, or to RGBA if it has transparent pixels."""
    data = path.read_bytes()
    image = GifImagePlugin.GifImageFile(io.BytesIO(data))
    check_size(*image.size)  # before the frames are counted, which takes reading all of them
    (first, *further), timing = frames_of(image, check_size)
    comment = image.info.get("comment", b"")
    container = GifContainer(comment.encode() if isinstance(comment, str) else comment)
    return Decoded(first, container, (_NOTE,), tuple(further), timing if further else None)


def resized(container: GifContainer, width: int, height: int) -> GifContainer:
    return container


def encode(pixels: np.ndarray, container: GifContainer, file: Path) -> None:
    encode_frames([pixels], container, Timing((), None), file)


def encode_frames(frames: Sequence[np.ndarray], container: GifContainer, timing: Timing, file: Path) -> None:
    """Write an animation. Frames that are equal become one, which is shown for their time together."""
    images = [_with_palette(frame) for frame in frames]
    options = with_frames(images, timing) if len(images) > 1 else {}
    # A frame with transparent pixels would else show those of the frame before.
    disposal = 2 if any("transparency" in image.info for image in images) else 0
    # In memory: writing to a file, Pillow does not notice when the system has written a part only.
    encoded = io.BytesIO()
    images[0].save(encoded, "GIF", comment=container.comment, disposal=disposal, optimize=False, **options)
    file.write_bytes(encoded.getvalue())


def _with_palette(pixels: np.ndarray) -> Image.Image:
    require_pixels(pixels, "GIF", (1, 3, 4), (np.uint8,))
    if pixels.ndim == 2:
        return Image.fromarray(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    if pixels.shape[2] == 3 or (pixels[..., 3] >= 128).all():
        return image.quantize(256, method=Image.Quantize.MEDIANCUT)
    image = image.quantize(255, method=Image.Quantize.MEDIANCUT)
    image.paste(255, mask=Image.fromarray((pixels[..., 3] < 128).astype(np.uint8) * np.uint8(255)))
    image.info["transparency"] = 255
    return image
