"""Exported files, run by ONNX Runtime on the CPU.

A file of the flavour ``photo`` does all that happens to a photo itself. Of one that holds the network alone, the
runtime computes the maps, and the compiled backend of its family applies them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.backend import DAMAGED, Backend, check_shape
from kdlib.extras import needed_by
from kdlib.models.family import Family, follow
from kdlib.models.registry import FAMILIES, check_config
from kdlib.noise import TOP
from kdlib.weights.exported import Exported, read_exported

# Pixels of the result: a network that works at full size keeps about 800 bytes for each, one that sees a thumbnail far
# fewer.
_MOST_FULL_SIZE, _MOST = 1920 * 1080, 64 * 10**6


class Session:
    """A checked file in ONNX Runtime, thread-safe.

    Args:
        path: for messages.
        content: of the file.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content
        self._sessions: dict[int, Any] = {}
        self._lock = Lock()
        self._session(1)  # what the runtime finds wrong is said at once

    def __reduce__(self) -> Any:
        return Session, (self._path, self._content)

    def __call__(self, image: np.ndarray, threads: int) -> np.ndarray:
        """Return the first output for an input, float32.

        Raises:
            ValueError: the runtime fails, or gives values that are NaN or infinite.
        """
        session = self._session(threads)
        try:
            found = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(image, np.float32)})[0]
        except Exception as error:  # the runtime has an exception for each kind of failure
            raise ValueError(f"{self._path} cannot be run: {_first_line(error)}") from None
        if not np.isfinite(found).all():
            raise ValueError(DAMAGED)
        array: np.ndarray = found
        return array

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._opened(threads)
            return self._sessions[threads]

    def _opened(self, threads: int) -> Any:
        with needed_by(str(self._path)):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # errors are raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            # What it would fall back to, and announce, is the CPU again.
            return onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"], enable_fallback=False
            )
        except Exception as error:
            raise ValueError(f"{self._path} cannot be run: {_first_line(error)}") from None


class Maps:
    """Estimates the maps, K×h×w, of a thumbnail, 3×h×w, with a file that holds the network alone.

    Attributes:
        check: raises ValueError unless it gets maps, h×w×K, of the family. The kernels that apply them look at neither
            shape nor values, and a graph may return anything.
    """

    check: Callable[[np.ndarray], None]

    def __init__(self, path: Path, session: Session) -> None:
        self._path, self._session = path, session

    def __call__(self, thumbnail: np.ndarray, threads: int = 1) -> np.ndarray:
        batch = self._session(thumbnail[None], threads)
        try:
            if batch.ndim != 4 or len(batch) != 1:
                raise ValueError(f"a batch of maps has shape 1×K×h×w, not {'×'.join(map(str, batch.shape))}")
            self.check(np.moveaxis(batch[0], 0, 2))
        except ValueError as error:
            raise ValueError(f"the graph of {self._path} does not return the maps of its family: {error}") from None
        maps: np.ndarray = batch[0]
        return maps


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def open_exported(path: Path) -> tuple[Family, Backend]:
    """Return the family of an exported file, as far as it still applies, and the backend that runs the file.

    Raises:
        FileNotFoundError, ValueError, MissingExtraError: see :func:`kdlib.weights.exported.read_exported`.
    """
    about, content = read_exported(path)
    family = FAMILIES[about.family]
    session = Session(path, content)
    if about.flavour == "photo":
        # Its smoothing is part of the graph.
        return replace(family, denoise=None), ExportedPhoto(path, session, about, family)
    if not family.compiled:
        raise ValueError(
            f"{path} holds a network that works at full size, without what happens around it; export it again with the "
            "flavour photo"
        )
    try:
        architecture = check_config(json.loads(about.architecture))
        parameters = {name: np.array(value, np.float32) for name, value in json.loads(about.parameters).items()}
        maps = Maps(path, session)
        backend: Backend = follow(family.compiled).around(maps, parameters, architecture)
        maps.check = backend.check_map
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: what its metadata say of the network cannot be read ({error})") from None
    return family, backend


class ExportedPhoto:
    """A graph that takes and returns photos; there is no map, so that it is a single 0 (1×1×1).

    Attributes:
        fixed_denoise: the only amount of smoothing that can be asked for, which is that of the graph.
    """

    name = "onnxruntime"
    worth_threads = 200_000

    def __init__(self, path: Path, session: Session, about: Exported, family: Family) -> None:
        self._path, self._session = path, session
        self.upscale = int(about.upscale)
        self._most = _MOST_FULL_SIZE if family.full_size else _MOST
        self.fixed_denoise = 0.0 if about.smoothing == "nothing" else 1.0

    def check_map(self, curve_map: Any) -> None:
        """Raise ValueError unless 1×1×1: the graph decides from the photo itself."""
        check_shape(curve_map, 1)

    def own(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def as_array(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def estimate(self, photo: Any, limit: int, threads: int) -> np.ndarray:
        return np.zeros((1, 1, 1), np.float32)

    def apply(self, photo: Any, maps: Any, out: Any, *, strength: float, denoise: float, threads: int) -> None:
        image = kinds.on_host(photo)
        height, width, channels = image.shape
        if height * width * self.upscale**2 > self._most:
            raise ValueError(
                f"{self._path} would need too much memory for a photo of {width}×{height} pixels, because the graph "
                f"takes it as a whole; results of up to {self._most / 1e6:.1f} megapixels are possible"
            )
        colours, top = 3 if channels >= 3 else 1, TOP[image.dtype.name]
        planes = np.moveaxis(image, 2, 0).astype(np.float32) / top
        enhanced = self._session(np.broadcast_to(planes[:colours], (3, height, width))[None], threads)[0]
        wanted = (3, height * self.upscale, width * self.upscale)
        if enhanced.shape != wanted:
            raise ValueError(f"{self._path} returns {'×'.join(map(str, enhanced.shape))} instead of the photo")
        before = _enlarged(planes, self.upscale)
        if colours == 1:
            enhanced = enhanced.mean(0, keepdims=True)
        blended = before[:colours] + np.float32(strength) * (enhanced - before[:colours])
        result = np.concatenate([blended, before[colours:]]).clip(0, 1) * np.float32(top)
        if image.dtype.kind == "u":
            result = np.floor(result + np.float32(0.5))
        samples = np.moveaxis(result, 0, 2).astype(image.dtype)
        if self.upscale == 1:  # alpha and every bit of a float32 photo's
            samples[..., colours:] = image[..., colours:]
        if isinstance(out, np.ndarray):
            out[...] = samples
        else:
            out.copy_(kinds.as_tensor(samples))


def _enlarged(planes: np.ndarray, factor: int) -> np.ndarray:
    """Return C×H×W enlarged by bicubic interpolation, in [0, 1]; Pillow's kernel is the one of the package."""
    if factor == 1:
        return planes
    size = (planes.shape[2] * factor, planes.shape[1] * factor)
    large = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(large).clip(0, 1)
