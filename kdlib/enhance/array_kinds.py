"""The kinds of array and tensor that an Enhancer takes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

DTYPES = ("uint8", "uint16", "float32")


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
        image = image if isinstance(image, np.ndarray) else image.detach()
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # also when they are NaN
            what = f"values from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "NaN or infinite values"
            raise ValueError(f"a float32 photo has values in [0, 1], this one has {what}")


def check_out(image: Any, out: Any, upscale: int = 1) -> None:
    """Raise unless the result for ``image``, so many times as wide and high, can be written to ``out``."""
    if not isinstance(out, np.ndarray if isinstance(image, np.ndarray) else sys.modules["torch"].Tensor):
        raise TypeError(f"out is {type(out).__name__}, the photo {type(image).__name__}; both must be of one type")
    wanted = enlarged_shape(image, upscale)
    if tuple(out.shape) != wanted or out.dtype != image.dtype:
        what = "photo" if upscale == 1 else f"result of enlarging by {upscale}"
        raise ValueError(
            f"out is {'×'.join(map(str, out.shape))} {out.dtype}, the {what} is "
            f"{'×'.join(map(str, wanted))} {image.dtype}; both must agree"
        )
    if is_tensor(out) and out.device != image.device:
        raise ValueError(f"out lies on {out.device}, the photo on {image.device}")
    if not is_contiguous(out):
        raise ValueError("out is a strided view; give a C-contiguous array, such as np.empty_like(photo, order='C')")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only")
    if upscale > 1:
        # The photo is read again after parts of the result have been written.
        on_cpu = isinstance(out, np.ndarray) or str(out.device) == "cpu"
        if on_cpu and np.may_share_memory(on_host(image), on_host(out)):
            raise ValueError("out overlaps the photo; give other memory")
        return
    in_array = isinstance(out, np.ndarray) and image.flags.c_contiguous
    if in_array and image.ctypes.data != out.ctypes.data and np.may_share_memory(image, out):
        raise ValueError("out overlaps the photo; give the photo itself, or other memory")


def enlarged_shape(image: Any, upscale: int) -> tuple[int, ...]:
    """The shape of an array or tensor whose height and width are so many times as large."""
    first = 1 if image.ndim == 4 else 0
    return tuple(side * upscale if first <= k < first + 2 else side for k, side in enumerate(image.shape))


def is_contiguous(image: Any) -> bool:
    """Whether the samples lie in memory one after another, row by row."""
    return bool(image.flags.c_contiguous if isinstance(image, np.ndarray) else image.is_contiguous())


def empty_like(image: Any, upscale: int = 1) -> Any:
    """A contiguous array or tensor of the same dtype and shape, but for so many times the height and width."""
    shape = enlarged_shape(image, upscale)
    return np.empty(shape, image.dtype) if isinstance(image, np.ndarray) else image.new_empty(shape)


def plain(image: Any) -> Any:
    """The image, or a copy of it that is contiguous and in the machine's byte order."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
    return image.contiguous()


def on_host(image: Any) -> np.ndarray:
    """An array as it is; a tensor as an array, which shares its memory if that is the CPU's."""
    return image.detach().cpu().numpy() if is_tensor(image) else image


def as_tensor(array: np.ndarray) -> Any:
    """An array as a tensor that shares its memory."""
    return sys.modules["torch"].from_numpy(array)


def _dtype(image: Any) -> str:
    return image.dtype.name if isinstance(image, np.ndarray) else str(image.dtype).removeprefix("torch.")
