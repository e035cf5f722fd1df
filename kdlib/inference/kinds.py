"""The kinds of photo that an Enhancer takes, and how each becomes an array and comes back as what it was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

DTYPES = ("uint8", "uint16", "float32")
# Pillow modes that are enhanced in another mode and then brought back.
_VIA = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
_NATIVE = ("L", "LA", "RGB", "RGBA", "I;16", "F")


def is_tensor(image: Any) -> bool:
    """Whether this is a PyTorch tensor; does not import PyTorch, as no tensor exists before that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check(image: Any) -> None:
    """Raise unless an array or tensor is a photo or a batch of photos, as :class:`kdlib.Enhancer` describes them."""
    if not (isinstance(image, np.ndarray) or is_tensor(image)):
        raise TypeError(f"a photo is a Pillow image, a NumPy array or a PyTorch tensor, not {type(image).__name__}")
    dtype = _dtype(image)
    if dtype not in DTYPES:
        hint = "; convert it, for example with .astype('float32')" if dtype in {"float64", "float16"} else ""
        raise TypeError(f"a photo is of dtype {', '.join(DTYPES)}, not {dtype}{hint}")
    shape = "×".join(map(str, image.shape))
    if image.ndim not in {2, 3, 4} or 0 in image.shape:
        raise ValueError(
            f"a photo has shape H×W, H×W×C or, in a batch, B×H×W×C with all sides ≥ 1, not {shape or '()'}"
        )
    if image.ndim > 2 and image.shape[-1] > 4:
        hint = "; channels come last: C×H×W becomes H×W×C with .transpose(1, 2, 0)" if image.shape[-3] <= 4 else ""
        raise ValueError(f"a photo has 1 to 4 channels in its last dimension, this one has shape {shape}{hint}")
    if dtype == "float32":
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # also when they are NaN
            what = f"values from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "NaN or infinite values"
            raise ValueError(f"a float32 photo has values in [0, 1], this one has {what}")


def check_out(image: Any, out: Any) -> None:
    """Raise unless the result for ``image`` can be written to ``out``."""
    if type(out) is not type(image):
        raise TypeError(f"out is {type(out).__name__}, the photo {type(image).__name__}; both must be of one type")
    if out.shape != image.shape or out.dtype != image.dtype:
        raise ValueError(
            f"out is {'×'.join(map(str, out.shape))} {out.dtype}, the photo is "
            f"{'×'.join(map(str, image.shape))} {image.dtype}; both must agree"
        )
    if is_tensor(out) and out.device != image.device:
        raise ValueError(f"out lies on {out.device}, the photo on {image.device}")
    if not is_contiguous(out):
        raise ValueError("out is a strided view; give a C-contiguous array, such as np.empty_like(photo, order='C')")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only")


def is_contiguous(image: Any) -> bool:
    """Whether the samples lie in memory one after another, row by row."""
    return bool(
        image.flags.c_contiguous and image.dtype.isnative if isinstance(image, np.ndarray) else image.is_contiguous()
    )


def empty_like(image: Any) -> Any:
    """A contiguous array or tensor of the same shape and dtype."""
    if isinstance(image, np.ndarray):
        return np.empty(image.shape, image.dtype)
    return image.new_empty(image.shape)


def filled(image: Any) -> Any:
    """A contiguous copy."""
    copy = empty_like(image)
    copy[...] = image
    return copy


def on_host(image: Any) -> np.ndarray:
    """An array as it is; a tensor as an array, which shares its memory if that is the CPU's."""
    return image.detach().cpu().numpy() if is_tensor(image) else image


def as_tensor(array: np.ndarray) -> Any:
    """An array as a tensor that shares its memory."""
    return sys.modules["torch"].from_numpy(array)


def _dtype(image: Any) -> str:
    return image.dtype.name if isinstance(image, np.ndarray) else str(image.dtype).removeprefix("torch.")


def enhance_pillow(image: Image.Image, enhance: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Apply a function of arrays to a Pillow image; mode and info come back.

    A palette holds 256 colours: the result gets a new one, of the colours that suit it best.

    Raises:
        ValueError: a mode that holds no colours.
    """
    array, mode = as_array(image)
    result = Image.fromarray(enhance(array))
    if result.mode != mode:
        result = result.convert(mode)
    if image.mode in {"P", "PA"} and "A" in mode:
        result = result.quantize(256, method=Image.Quantize.FASTOCTREE)
    elif result.mode != image.mode:
        result = result.convert(image.mode, palette=Image.Palette.ADAPTIVE)  # the palette matters to mode P alone
    result.info = {key: value for key, value in image.info.items() if not (image.mode == "P" and key == "transparency")}
    return result


def as_array(image: Image.Image) -> tuple[np.ndarray, str]:
    """The samples of a Pillow image, and the mode they are in, which may differ from the image's own."""
    mode = _VIA.get(image.mode, image.mode)
    if image.mode in {"P", "PA"}:
        mode = "RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), "I;16"
    if mode not in _NATIVE:
        known = ", ".join(sorted({*_NATIVE, *_VIA, "P", "PA"}))
        raise ValueError(f"Pillow mode {image.mode!r} cannot be enhanced; convert to one of {known}")
    return np.asarray(image if image.mode == mode else image.convert(mode)), mode
