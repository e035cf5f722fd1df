"""Checks and conversions of the arrays and tensors that an Enhancer accepts."""

import sys
from typing import Any

import numpy as np

DTYPES = ("uint8", "uint16", "float32")


def is_tensor(image: Any) -> bool:
    """Whether this is a PyTorch tensor. PyTorch is not imported, because no tensor exists before its import."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check(image: Any) -> None:
    """Check that an array or tensor is a photo or a batch of photos as :class:`kdlib.Enhancer` describes them.

    Raises:
        TypeError: the type or dtype is not supported.
        ValueError: the shape or the range of values is wrong.
    """
    if not (isinstance(image, np.ndarray) or is_tensor(image)):
        raise TypeError(f"a photo must be a Pillow image, NumPy array or PyTorch tensor, not {type(image).__name__}")
    dtype = _dtype(image)
    if dtype not in DTYPES:
        hint = "; convert it, for example with .astype('float32')" if dtype in {"float64", "float16"} else ""
        raise TypeError(f"a photo must have dtype {', '.join(DTYPES)}, not {dtype}{hint}")
    shape = "×".join(map(str, image.shape))
    if image.ndim not in {2, 3, 4} or 0 in image.shape:
        raise ValueError(
            f"a photo must have shape H×W, H×W×C or, in a batch, B×H×W×C with all sides ≥ 1, not {shape or '()'}"
        )
    if image.ndim > 2 and image.shape[-1] > 4:
        hint = "; channels must come last: convert C×H×W with .transpose(1, 2, 0)" if image.shape[-3] <= 4 else ""
        raise ValueError(f"a photo must have 1 to 4 channels in its last dimension, but the shape is {shape}{hint}")
    if dtype == "float32":
        image = image if isinstance(image, np.ndarray) else image.detach()
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # True for NaN as well
            what = f"values from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "NaN or infinite values"
            raise ValueError(f"a float32 photo must have values in [0, 1], but this one has {what}")


def check_out(image: Any, out: Any, upscale: int = 1) -> None:
    """Check that the result for ``image``, enlarged by ``upscale``, can be written to ``out``.

    Raises:
        TypeError: ``out`` is of another type than the photo.
        ValueError: ``out`` has the wrong shape, dtype, device or memory layout, or overlaps the photo.
    """
    if not isinstance(out, np.ndarray if isinstance(image, np.ndarray) else sys.modules["torch"].Tensor):
        raise TypeError(f"out is {type(out).__name__}, but the photo is {type(image).__name__}; give the same type")
    wanted = enlarged_shape(image, upscale)
    if tuple(out.shape) != wanted or out.dtype != image.dtype:
        what = "photo" if upscale == 1 else f"result of enlarging by {upscale}"
        raise ValueError(
            f"out is {'×'.join(map(str, out.shape))} {out.dtype}, but the {what} is "
            f"{'×'.join(map(str, wanted))} {image.dtype}; shape and dtype must be the same"
        )
    if is_tensor(out) and out.device != image.device:
        raise ValueError(f"out is on {out.device}, but the photo is on {image.device}; both must be on one device")
    if not is_contiguous(out):
        raise ValueError("out is a strided view; give a C-contiguous array, such as np.empty_like(photo, order='C')")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only; give a writable array")
    if upscale > 1:
        # Parts of the result are written before all of the photo has been read.
        on_cpu = isinstance(out, np.ndarray) or str(out.device) == "cpu"
        if on_cpu and np.may_share_memory(on_host(image), on_host(out)):
            raise ValueError("out overlaps the photo; give a separate array or tensor")
        return
    in_array = isinstance(out, np.ndarray) and image.flags.c_contiguous
    if in_array and image.ctypes.data != out.ctypes.data and np.may_share_memory(image, out):
        raise ValueError("out overlaps the photo; give the photo itself or a separate array")


def enlarged_shape(image: Any, upscale: int) -> tuple[int, ...]:
    """Return the shape of an array or tensor with height and width multiplied by ``upscale``."""
    first = 1 if image.ndim == 4 else 0
    return tuple(side * upscale if first <= k < first + 2 else side for k, side in enumerate(image.shape))


def is_contiguous(image: Any) -> bool:
    """Whether an array or tensor is C-contiguous."""
    return bool(image.flags.c_contiguous if isinstance(image, np.ndarray) else image.is_contiguous())


def padded(image: Any) -> np.ndarray | None:
    """Return H×W×4 uint8, C-contiguous, if H×W×3 are the first three channels of such an array; else None."""
    memory = image.base if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 else None
    if not isinstance(memory, np.ndarray) or image.dtype != np.uint8 or not memory.flags.c_contiguous:
        return None
    height, width, _ = image.shape
    first, size = image.ctypes.data - memory.ctypes.data, 4 * height * width
    if memory.dtype != np.uint8 or image.strides != (4 * width, 4, 1) or not 0 <= first <= memory.size - size:
        return None
    return memory.reshape(-1)[first : first + size].reshape(height, width, 4)


def empty_like(image: Any, upscale: int = 1) -> Any:
    """Return a contiguous array or tensor of the same kind and dtype, with height and width times ``upscale``."""
    shape = enlarged_shape(image, upscale)
    return np.empty(shape, image.dtype) if isinstance(image, np.ndarray) else image.new_empty(shape)


def plain(image: Any) -> Any:
    """Return the image itself, or a copy, that is contiguous and in native byte order."""
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
    return image.contiguous()


def writable(array: np.ndarray) -> np.ndarray:
    """Return an array that shares its memory and is writable, for functions that do not write to it.

    Read-only arrays, such as those of Pillow, are of another type for numba, which would compile all kernels once more.
    """
    return array if array.flags.writeable else np.asarray(_Memory(array))


class _Memory:
    """The memory of an array, which it keeps alive."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def on_host(image: Any) -> np.ndarray:
    """Return an array unchanged, or a tensor as an array that shares its memory if the tensor is on the CPU."""
    return image.detach().cpu().numpy() if is_tensor(image) else image


def as_tensor(array: np.ndarray) -> Any:
    """Return an array as a tensor that shares its memory."""
    return sys.modules["torch"].from_numpy(array)


def _dtype(image: Any) -> str:
    return image.dtype.name if isinstance(image, np.ndarray) else str(image.dtype).removeprefix("torch.")
