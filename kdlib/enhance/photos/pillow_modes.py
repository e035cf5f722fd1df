"""Converting Pillow images to arrays and back to their original mode."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from kdlib.enhance.photos.formats.exif import with_size

# Pillow modes that are enhanced in another mode and then converted back.
_VIA = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
_NATIVE = ("L", "LA", "RGB", "RGBA", "I;16", "F")


def enhance_pillow(image: Image.Image, enhance: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Apply a function of arrays to a Pillow image, keeping its mode and info.

    The function may enlarge by an integer factor; the EXIF data then contain the new size. A palette holds 256
    colours, so a result in palette mode gets a new palette, chosen for its colours.

    Raises:
        ValueError: the mode holds no colours.
    """
    array, mode = as_array(image)
    enhanced = enhance(array)
    if (key := image.info.get("transparency")) is not None and image.mode in {"L", "RGB"}:
        # The transparent colour is kept, and pixels that happen to get it are changed by one level.
        factor = enhanced.shape[0] // array.shape[0]
        array = array.repeat(factor, axis=0).repeat(factor, axis=1)
        was, is_now = ((a == key).reshape(*a.shape[:2], -1).all(2) for a in (array, enhanced))
        enhanced[is_now] ^= 1
        enhanced[was] = key
    if image.mode.startswith("I;16"):  # Pillow's conversion between byte orders clips to 8 bits
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
        result = result.convert(image.mode, palette=Image.Palette.ADAPTIVE)  # the palette matters only for mode P
    result.info = {key: value for key, value in image.info.items() if not (image.mode == "P" and key == "transparency")}
    if result.size != image.size and isinstance(exif := result.info.get("exif"), bytes):
        result.info["exif"] = with_size(exif, *result.size)
    return result


def as_array(image: Image.Image) -> tuple[np.ndarray, str]:
    """Return the samples of a Pillow image and their mode, which may differ from the mode of the image."""
    mode = _VIA.get(image.mode, image.mode)
    if image.mode in {"P", "PA"}:
        mode = "RGBA" if image.mode == "PA" or image.has_transparency_data else "RGB"
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), "I;16"
    if mode not in _NATIVE:
        known = ", ".join(sorted({*_NATIVE, *_VIA, "P", "PA"}))
        raise ValueError(f"Pillow mode {image.mode!r} cannot be enhanced; convert the image to one of {known}")
    return np.asarray(image if image.mode == mode else image.convert(mode)), mode
