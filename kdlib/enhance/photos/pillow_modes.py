"""Pillow images to arrays and back, in the mode they came in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from kdlib.enhance.photos.formats.exif import with_size

# Pillow modes that are enhanced in another mode and then brought back.
_VIA = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
_NATIVE = ("L", "LA", "RGB", "RGBA", "I;16", "F")


def enhance_pillow(image: Image.Image, enhance: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Apply a function of arrays to a Pillow image; mode and info come back.

    The function may enlarge by a whole number; EXIF data then tell of the new size. A palette holds 256 colours: the
    result gets a new one, of the colours that suit it best.

    Raises:
        ValueError: a mode that holds no colours.
    """
    array, mode = as_array(image)
    enhanced = enhance(array)
    if (key := image.info.get("transparency")) is not None and image.mode in {"L", "RGB"}:
        # The transparent colour stays, and nothing else may take it.
        factor = enhanced.shape[0] // array.shape[0]
        array = array.repeat(factor, axis=0).repeat(factor, axis=1)
        was, is_now = ((a == key).reshape(*a.shape[:2], -1).all(2) for a in (array, enhanced))
        enhanced[is_now] ^= 1
        enhanced[was] = key
    if image.mode.startswith("I;16"):  # Pillow's own conversion between their byte orders clips to 8 bits
        order = ">u2" if image.mode == "I;16B" else "<u2"
        result, mode = Image.frombytes(image.mode, enhanced.shape[1::-1], enhanced.astype(order).tobytes()), image.mode
    else:
        result = Image.fromarray(enhanced)
    if result.mode != mode:
        result = result.convert(mode)
    if image.mode == "PA":
        alpha = result.getchannel("A")
        result = result.convert("RGB").quantize(256).convert("PA")
        result.putalpha(alpha)
    elif image.mode == "P" and "A" in mode:
        result = result.quantize(256, method=Image.Quantize.FASTOCTREE)
    elif result.mode != image.mode:
        result = result.convert(image.mode, palette=Image.Palette.ADAPTIVE)  # the palette matters to mode P alone
    result.info = {key: value for key, value in image.info.items() if not (image.mode == "P" and key == "transparency")}
    if result.size != image.size and isinstance(exif := result.info.get("exif"), bytes):
        result.info["exif"] = with_size(exif, *result.size)
    return result


def as_array(image: Image.Image) -> tuple[np.ndarray, str]:
    """The samples of a Pillow image, and the mode they are in, which may differ from the image's own."""
    mode = _VIA.get(image.mode, image.mode)
    if image.mode in {"P", "PA"}:
        mode = "RGBA" if image.mode == "PA" or image.has_transparency_data else "RGB"
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), "I;16"
    if mode not in _NATIVE:
        known = ", ".join(sorted({*_NATIVE, *_VIA, "P", "PA"}))
        raise ValueError(f"Pillow mode {image.mode!r} cannot be enhanced; convert to one of {known}")
    return np.asarray(image if image.mode == mode else image.convert(mode)), mode
