"""Photo in, brighter or larger photo out, of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from kdlib.checks import check_number, keywords_suggested
from kdlib.enhance import array_kinds as kinds
from kdlib.enhance.backends.backend import DAMAGED
from kdlib.enhance.backends.choose import choose_backend
from kdlib.enhance.photos import pillow_modes as pillow
from kdlib.threads import available_threads
from kdlib.weights.catalogue import DEFAULT_MODEL, find_weights, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from kdlib.models.network import Network

Photo = TypeVar("Photo", bound="np.ndarray | Image.Image | Tensor")  # the result is of the same type


class Enhancer:
    """Brightens photos with a network, or enlarges them if its family does super-resolution.

    A network that estimates a curve map sees a small, area-averaged copy of the photo. The map is then applied to the
    full photo in one pass, which upsamples it bilinearly (with aligned corners) on the way. A network whose layers run
    at full size works tile by tile in PyTorch if its backend can. What it derives from the photo as a whole is computed
    once and holds for every tile, so that no seams appear.

    Super-resolution gives a larger result of the same type, dtype and mode. The photo is upsampled by bicubic
    interpolation, and the network refines it at its full size; alpha is upsampled only.

    The page on models says for each family how the arguments below apply to it. An Enhancer is thread-safe.

    Args:
        model: name of a shipped model, path of a weights file or of an exported ``.onnx`` file, or a model; by default
            :data:`kdlib.weights.catalogue.DEFAULT_MODEL`. Exported files run on the CPU, and their smoothing is fixed.
        strength: from 0 to 2. 0 returns the photo bit for bit, unless ``denoise`` asks for smoothing; 1 applies what
            the network proposes, and values up to 2 go further. The strength multiplies the curve map, which stays in
            its range; without a curve map, it multiplies the difference from the photo or, for super-resolution, from
            the bicubic result, and the sum is clipped.
        denoise: from 0 to 2. Smooths the noise that brightening amplifies, and keeps edges. 1 is right for most
            photos; 2 also removes single specks and some texture. None takes the family's own value
            (:attr:`kdlib.models.Family.denoise`), or 0 if the strength is 0. Some families have no denoising.
        max_network_side: largest side in pixels of the copy that the network sees, which bounds its time and memory. A
            network that sees 1/12 of the photo reaches the default with a side of 12,288 pixels. A network at full size
            derives what holds for the whole photo from such a copy. For super-resolution these are tiles, spread evenly
            over the photo, if the result has more pixels than a quarter of the square of this side.
        device: ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        threads: number of cores that one photo may use; all by default.
        upscale: factor by which the result is to be wider and higher. It must be the one that the network was made for,
            which is also the default: 1 unless its family does super-resolution.

    Attributes:
        backend: what runs the fused pass: ``"numba"`` on the CPU, ``"triton"`` on CUDA, and ``"torch"`` on other
            devices, where numba or Triton is missing, and for families that have no kernels; ``"onnxruntime"`` for an
            exported file that takes and returns photos.
        upscale: factor by which the result is wider and higher than the photo; 1 for networks that brighten.

    Raises:
        FileNotFoundError: no such weights file.
        ValueError: a value out of range, an unknown name or device, a damaged file, ``denoise`` above 0 for a network
            that has none, or an ``upscale`` that is not the network's.
        TypeError: ``model`` is neither name, path nor such a network, or an argument is unknown.
    """

    @keywords_suggested("Enhancer")
    def __init__(
        self,
        model: str | Path | Network = DEFAULT_MODEL,
        *,
        strength: float = 1.0,
        denoise: float | None = None,
        max_network_side: int = 1024,
        device: str = "auto",
        threads: int | None = None,
        upscale: int | None = None,
    ) -> None:
        for name, value in (("strength", strength), ("denoise", denoise)):
            if value is not None:
                check_number(name, value, 0, 2)
        check_number("max_network_side", max_network_side, 1)
        if threads is not None:
            check_number("threads", threads, 1)
        self.strength, self.max_network_side = float(strength), int(max_network_side)
        self.threads = threads or available_threads()
        self._model = model
        family, self._backend = choose_backend(model, device)
        self.backend: str = self._backend.name
        self.upscale: int = self._backend.upscale
        if upscale is not None and upscale != self.upscale:
            can = "does not enlarge photos" if self.upscale == 1 else f"enlarges photos by {self.upscale}"
            raise ValueError(f"this network {can}, and upscale asks for {upscale}; leave it out, or take another model")
        fixed = getattr(self._backend, "fixed_denoise", None)  # of a graph that smooths by itself
        if fixed is not None and denoise not in {None, fixed}:
            raise ValueError(f"the denoising of an exported file is fixed, here at {fixed:g}; leave denoise out")
        if fixed is None and family.denoise is None and denoise:
            raise ValueError(f"this network has no denoising, which {denoise:g} asks for; leave it out, or give 0")
        own = family.denoise if self.strength else 0  # without brightening there is nothing to smooth unasked
        self.denoise = float((own or 0) if denoise is None else denoise)

    @property
    def settings(self) -> dict[str, str | float]:
        """What decides how results look, to tell whether two of them were made the same way.

        The name of the model, the SHA-256 digest of its weights, strength, denoise and max_network_side. Device and
        threads are not among them, because they change no more than rounding.

        Raises:
            FileNotFoundError, ValueError: the weights file has gone or changed since it was read.
        """
        if isinstance(self._model, str | Path):
            name, digest = Path(self._model).name, sha256_of(find_weights(self._model))
        else:
            from kdlib.weights.models import digest_of

            name, digest = f"a network of the family {self._model.family}", digest_of(self._model)
        options = {"strength": self.strength, "denoise": self.denoise, "max_network_side": self.max_network_side}
        return {"model": name, "weights": digest, **options}

    def __call__(self, image: Photo, out: Photo | None = None) -> Photo:
        """Enhance a photo or a batch of photos of one size.

        Args:
            image: a Pillow image, a NumPy array or a PyTorch tensor. Arrays and tensors: H×W (grey), H×W×C, or B×H×W×C,
                with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha); uint8, uint16, or float32 in [0, 1].
            out: contiguous array or tensor to write to, with the dtype and shape of ``image``; it may be ``image``
                itself, also where that is the first three channels of an H×W×4 array. With an ``upscale`` above 1,
                height and width are larger by that factor, and ``image`` itself does not serve.

        Returns:
            ``out``, or a new photo of the same type, dtype, mode and, but for ``upscale``, shape. Alpha is kept, or
            upsampled by bicubic interpolation. The size in the EXIF data of a Pillow image is updated.

        Raises:
            TypeError: another type or dtype.
            ValueError: another shape or Pillow mode, NaN, infinite, or values outside [0, 1].
        """
        needed = bool(self.strength or self.denoise)
        return self._each(
            image, out, lambda photo, target: self._apply(photo, self._estimate(photo) if needed else None, target)
        )

    def estimate(self, image: np.ndarray | Image.Image | Tensor) -> np.ndarray:
        """Return the curve map of one photo (not of a batch), before strength, float32 at the network's resolution.

        Raises the same errors as a call.

        Returns:
            h×w×K; :attr:`kdlib.models.Family.curve_map` says what the values are, such as h×w×3 in [-1, 1] for a
            light-enhancement curve. 1×1×1 for a network that has no map. Maps that fit one photo only are not
            returned; :meth:`apply` computes them.
        """
        array: Any = pillow.as_array(image)[0] if isinstance(image, Image.Image) else image
        kinds.check(array)
        if array.ndim == 4:
            raise ValueError("estimate takes one photo at a time, not a batch")
        array = kinds.plain(self._reachable(array))
        maps = self._estimate(array.reshape(*array.shape[:2], -1))
        return np.moveaxis(self._backend.as_array(maps), 0, -1)

    def apply(self, image: Photo, curve_map: np.ndarray, out: Photo | None = None) -> Photo:
        """Enhance one photo with a given curve map instead of its own.

        The map has the form that :meth:`estimate` returns, with any h×w: for example that of the previous frame, or a
        smoothed or edited one. Strength and denoise apply as usual. Raises the same errors as a call.
        """
        if not (isinstance(curve_map, np.ndarray) or kinds.is_tensor(curve_map)):
            raise TypeError(f"a curve map is an array, as estimate() gives it, not {type(curve_map).__name__}")
        self._backend.check_map(curve_map)
        maps = self._backend.own(np.moveaxis(np.asarray(curve_map, dtype=np.float32), -1, 0))
        return self._each(image, out, lambda photo, target: self._apply(photo, maps, target))

    def _each(self, image: Any, out: Any, enhance: Callable[[Any, Any], None]) -> Any:
        """Check the input, allocate the result, and run ``enhance(photo, target)`` for each photo as H×W×C."""
        if isinstance(image, Image.Image):
            if out is not None:
                raise ValueError("out works with arrays; a Pillow image comes back as a new one")
            if self.changes_nothing:
                return image.copy()
            return pillow.enhance_pillow(image, lambda array: self._each(array, None, enhance))
        kinds.check(image)
        if out is image and self.upscale == 1 and (whole := kinds.padded(image)) is not None:
            self._each(whole, whole, enhance)  # the fourth channel is kept like alpha
            return out
        if out is None:
            out = kinds.empty_like(image, self.upscale)
        else:
            kinds.check_out(image, out, self.upscale)
        if self.changes_nothing:
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
            # Made contiguous in the result's memory and enhanced there, which saves a third copy.
            out[...] = image
            image = out
        photos, targets = (
            a if a.ndim == 4 else a.reshape(1, *a.shape[:2], -1) for a in map(self._reachable, (image, out))
        )
        for photo, target in zip(photos, targets, strict=True):
            enhance(photo, target)
        return out

    @property
    def changes_nothing(self) -> bool:
        """Whether every result is the photo as it is, bit for bit."""
        return self.strength == 0 and self.denoise == 0 and self.upscale == 1

    def _reachable(self, image: Any) -> Any:
        """Return the image as the backend takes it; compiled kernels see its memory as a writable array."""
        if self.backend != "numba":
            return image
        if not kinds.is_tensor(image):
            return kinds.writable(image)
        if image.device.type != "cpu":
            raise ValueError(f"the photo lies on {image.device}, this Enhancer runs on the CPU; give it a device")
        return image.detach().numpy()

    def _estimate(self, photo: Any) -> Any:
        maps = self._backend.estimate(photo, self.max_network_side, self._threads(photo))
        # Finite weights may still overflow, and kernels do not define what happens to NaN.
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
