"""Photo in, brighter or larger photo out, of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.backend import DAMAGED
from kdlib.enhance.backends.choose import choose_backend
from kdlib.enhance.photos import pillow_modes as pillow
from kdlib.threads import available_threads

if TYPE_CHECKING:
    from kdlib.models.network import Network

Photo = TypeVar("Photo")  # np.ndarray, PIL.Image.Image or torch.Tensor: the result is of the same type


class Enhancer:
    """Brightens photos with a curve network, or with IAT or its student; or enlarges them with MSAFN or LightMSAFN.

    A curve network sees a small, area-averaged copy of the photo; its curve map is then applied to the full photo in
    one pass, the map stretched bilinearly (with aligned corners) on the way. IAT and its student convolve at full
    resolution, part by part, in PyTorch; a photo larger than ``max_network_side`` is shrunk for what they decide about
    the whole of it, colour matrix and gamma.

    MSAFN and LightMSAFN sharpen: the photo comes back four times as wide and high, of the same type, dtype and mode. It
    is enlarged by bicubic, and the network then goes over it at its full size, tile by tile, in PyTorch; alpha is
    enlarged by bicubic alone. How the network weighs its channels depends on the whole photo. Beyond a quarter of
    ``max_network_side`` squared, in pixels of the result, that is found from tiles spread evenly over it, once, and
    holds for all of it, so that no seams appear.

    Thread-safe.

    Args:
        model: name of a shipped model, path of a weights file, or a model.
        strength: 0 does not brighten (and with ``denoise=0`` leaves the photo as it is, bit for bit); 1 is what the
            network proposes; up to 2 goes further. It multiplies the curve map, which stays in its range; of
            GlanceNet's, gamma − 1 and the logarithm of white's brightness; of IAT and its student, the difference to
            the photo, and the result is cut off at black and white; of MSAFN and LightMSAFN the difference to the
            photo enlarged by bicubic, which is what 0 gives.
        denoise: 0 to 2; smooths the noise that brightening lifts, edges kept. 0 leaves it, 1 is right for most photos,
            2 also takes single specks and some texture. None is the model's own: 1 for GlanceNet, which was trained
            with its smoothing, 0 for the Zero-DCE family, for which it runs on the CPU. IAT, MSAFN and their students
            have none.
        max_network_side: the small copy has at most this many pixels a side, which bounds the network's time and
            memory. Networks that see 1/12 of the photo reach 1024 with a side of 12,288; IAT and its student, which
            see it whole, with one of 1024; MSAFN and LightMSAFN see tiles of a result of more than 512×512 pixels.
        device: ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        threads: how many cores one photo may use; all by default.
        upscale: how many times as wide and high the result is to be; it has to be what the network was made for, which
            is the default: 4 for MSAFN and LightMSAFN, 1 for all others.

    Attributes:
        backend: what runs the fused pass: ``"numba"`` (CPU), ``"triton"`` (CUDA), or ``"torch"``, the plain form, on
            other devices and where numba or Triton is missing; always, for IAT, MSAFN and their students.
        upscale: how many times as wide and high as the photo the result is; 1 for networks that brighten.

    Raises:
        FileNotFoundError: no such weights file.
        ValueError: a value out of range, an unknown name or device, a damaged file, ``denoise`` above 0 for a network
            that has none, or an ``upscale`` that is not the network's.
        TypeError: ``model`` is neither name, path nor such a network.
    """

    def __init__(
        self,
        model: str | Path | Network = "glance-650",
        *,
        strength: float = 1.0,
        denoise: float | None = None,
        max_network_side: int = 1024,
        device: str = "auto",
        threads: int | None = None,
        upscale: int | None = None,
    ) -> None:
        for name, value in (("strength", strength), ("denoise", denoise)):
            if value is not None and not 0 <= value <= 2:
                raise ValueError(f"{name} is a number from 0 to 2, not {value}")
        if max_network_side < 1:
            raise ValueError(f"max_network_side is at least 1, not {max_network_side}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is at least 1, not {threads}")
        self.strength, self.max_network_side = float(strength), int(max_network_side)
        self.threads = threads or available_threads()
        self._backend = choose_backend(model, device)
        self.backend: str = self._backend.name
        self.upscale: int = self._backend.upscale
        if upscale is not None and upscale != self.upscale:
            can = "does not enlarge photos" if self.upscale == 1 else f"enlarges photos by {self.upscale}"
            raise ValueError(f"this network {can}, and upscale asks for {upscale}; leave it out, or take another model")
        if self._backend.denoise is None and denoise:
            raise ValueError(f"this network has no denoising, which {denoise:g} asks for; leave it out, or give 0")
        self.denoise = float((self._backend.denoise or 0) if denoise is None else denoise)

    def __call__(self, image: Photo, out: Photo | None = None) -> Photo:
        """Enhance a photo or a batch of photos of one size.

        Args:
            image: a Pillow image, a NumPy array or a PyTorch tensor. Arrays and tensors: H×W (grey), H×W×C, or B×H×W×C,
                with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha); uint8, uint16, or float32 in [0, 1].
            out: contiguous array or tensor like ``image`` to write to; ``image`` itself will do. With an ``upscale``
                above 1 it has so many times the height and width, and is other memory.

        Returns:
            ``out``, or a new photo of the same type, dtype, mode, and, but for ``upscale``, shape. Alpha is untouched,
            or enlarged by bicubic. What EXIF data in a Pillow image say of its size follows.

        Raises:
            TypeError: another type or dtype.
            ValueError: another shape or Pillow mode, NaN, infinite, or values outside [0, 1].
        """
        needed = bool(self.strength or self.denoise)
        return self._each(
            image, out, lambda photo, target: self._apply(photo, self._estimate(photo) if needed else None, target)
        )

    def estimate(self, image: Any) -> np.ndarray:
        """The curve map of one photo (not of a batch), before strength, float32 at the network's resolution.

        Returns:
            h×w×3 in [-1, 1]; h×w×(3·iterations) for networks with a map for each iteration; h×w×7 for GlanceNet:
            logarithm of the gain (3), gamma − 1 (3), tolerance in multiples of the noise (1); 1×1×10 for IAT and its
            student: colour matrix, row by row (9), gamma (1), for their local maps belong to the photo alone, and
            :meth:`apply` computes them; 1×1×K for MSAFN and LightMSAFN, in [0, 1]: the weights of their channels.
            Raises as a call does.
        """
        array = pillow.as_array(image)[0] if isinstance(image, Image.Image) else image
        kinds.check(array)
        if array.ndim == 4:
            raise ValueError("estimate takes one photo at a time, not a batch")
        array = kinds.plain(self._reachable(array))
        maps = self._estimate(array.reshape(*array.shape[:2], -1))
        return np.moveaxis(self._backend.as_array(maps), 0, -1)

    def apply(self, image: Photo, curve_map: np.ndarray, out: Photo | None = None) -> Photo:
        """Enhance one photo with a given curve map (as :meth:`estimate` gives it, any h×w) instead of its own: the map
        of the frame before, a smoothed or an edited one. Strength and denoise hold. Raises as a call does."""
        if not (isinstance(curve_map, np.ndarray) or kinds.is_tensor(curve_map)):
            raise TypeError(f"a curve map is an array, as estimate() gives it, not {type(curve_map).__name__}")
        self._backend.check_map(curve_map)
        maps = self._backend.own(np.moveaxis(np.asarray(curve_map, dtype=np.float32), -1, 0))
        return self._each(image, out, lambda photo, target: self._apply(photo, maps, target))

    def _each(self, image: Any, out: Any, enhance: Callable[[Any, Any], None]) -> Any:
        """Check, make the result, and run ``enhance(photo, target)`` for each photo as H×W×C."""
        if isinstance(image, Image.Image):
            if out is not None:
                raise ValueError("out works with arrays; a Pillow image comes back as a new one")
            if self._copies:
                return image.copy()
            return pillow.enhance_pillow(image, lambda array: self._each(array, None, enhance))
        kinds.check(image)
        if out is None:
            out = kinds.empty_like(image, self.upscale)
        else:
            kinds.check_out(image, out, self.upscale)
        if self._copies:
            out[...] = image
            return out
        if isinstance(image, np.ndarray) and not image.dtype.isnative:
            out[...] = self._each(kinds.plain(image), None, enhance)
            return out
        if kinds.is_tensor(image):
            image = image.detach()
        if self.upscale > 1:
            image = kinds.plain(image)
        elif not kinds.is_contiguous(image):
            # Straightened out in the result's memory and enhanced there: no third copy.
            out[...] = image
            image = out
        photos, targets = (
            a if a.ndim == 4 else a.reshape(1, *a.shape[:2], -1) for a in map(self._reachable, (image, out))
        )
        for photo, target in zip(photos, targets, strict=True):
            enhance(photo, target)
        return out

    @property
    def _copies(self) -> bool:
        """Whether the result is the photo as it is."""
        return self.strength == 0 and self.denoise == 0 and self.upscale == 1

    def _reachable(self, image: Any) -> Any:
        """The image as the backend takes it: the kernels for the CPU share a tensor's memory as an array."""
        if self.backend != "numba" or not kinds.is_tensor(image):
            return image
        if image.device.type != "cpu":
            raise ValueError(f"the photo lies on {image.device}, this Enhancer runs on the CPU; give it a device")
        return image.detach().numpy()

    def _estimate(self, photo: Any) -> Any:
        maps = self._backend.estimate(photo, self.max_network_side, self._threads(photo))
        # Weights may be finite and still overflow; what kernels make of NaN is anyone's guess.
        if not np.isfinite(self._backend.as_array(maps)).all():
            raise ValueError(DAMAGED)
        return maps

    def _threads(self, photo: Any) -> int:
        height, width, channels = photo.shape
        return self.threads if height * width * channels >= self._backend.worth_threads else 1

    def _apply(self, photo: Any, maps: Any, target: Any) -> None:
        self._backend.apply(
            photo, maps, target, strength=self.strength, denoise=self.denoise, threads=self._threads(photo)
        )
