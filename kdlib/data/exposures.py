"""A virtual camera: photos of known scenes at any exposure, each with the picture that it should have become.

Three sources have the same form. Views of light with its true range can be exposed in any way; their target is the
fusion of their own bracket. Photographed brackets have several exposures of a scene and their fusion. Well-exposed
photos are their own target, and are exposed less or more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from kdlib.data.brackets import load_bracketed_photos
from kdlib.data.degrade import linear_to_srgb, srgb_to_linear
from kdlib.data.licences import LicenceRow, read_licences
from kdlib.data.light import PHOTO_FOLDER, develop, fused_view, read_light
from kdlib.enhance.photos.rgb import read_photo

# Ranges of exposure in stops, and the share of photos that stay as they were taken.
# Views are exposed far beyond what a photographer would choose. Over a narrow range, a dark photo would mostly be of
# a dark scene, and the network would learn to leave it dark.
_VIEW_STOPS = (-6.0, 4.0)
_PHOTO_STOPS, _PHOTOS_KEPT = (-5.0, 2.0), 0.6
_BRACKET_STOPS, _BRACKETS_KEPT = (-0.8, 0.5), 0.6
_KEPT_DEVIATION = 0.25
# A photo is of the night if nearly everything is dark but a few lights; shares of pixels, from none to wholly. The
# target then lies up to this part of the way back to the photo: a black sky stays black, and lamps keep their colour.
_NIGHT = 0.3
_DARK, _LIT = 0.12, 0.7
_DARK_SHARES, _LIT_SHARES, _BACKLIT_SHARES = (0.75, 0.9), (0.0005, 0.003), (0.02, 0.04)
# Brightest radiance that is stored, within the range of 16 bits.
_BRIGHTEST = 60000.0
_BATCH = 256


@dataclass(frozen=True)
class Exposures:
    """Scenes that a virtual camera can photograph, all of the same size.

    Attributes:
        radiance: N×3×S×S float16, linear light; at exposure 0 a value of 1 becomes white.
        target: N×3×S×S uint8, what each photo of the scene should become.
        stops: N×2, the range from which an exposure is drawn.
        kept: N, the probability with which the exposure stays near 0 instead.
        bend: N, the strength of the camera's tone curve, with which the target was made.
        source: N integers; items with the same number show the same place.
    """

    radiance: Tensor
    target: Tensor
    stops: Tensor
    kept: Tensor
    bend: Tensor
    source: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, chosen: Tensor) -> "Exposures":
        """Return the chosen items: indices or booleans."""
        return Exposures(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def split(self, fraction: float, seed: int) -> tuple["Exposures", "Exposures"]:
        """Split into training and validation, which has about ``fraction`` of the sources and at least one.

        Raises:
            ValueError: there is only one source.
        """
        names = self.source.unique()
        if len(names) < 2:
            raise ValueError("training needs at least 2 scenes, one of them for validation; there is 1")
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        held = names[order[: min(len(names) - 1, max(1, round(len(names) * fraction)))]]
        is_held = torch.isin(self.source, held)
        return self[~is_held], self[is_held]

    def resized(self, size: int) -> "Exposures":
        """Return the same scenes at a side that divides theirs, averaged over areas."""
        factor = self.radiance.shape[-1] // size

        def small(images: Tensor) -> Tensor:
            parts = [torch.nn.functional.avg_pool2d(part.float(), factor) for part in images.split(_BATCH)]
            averaged = torch.cat(parts)
            return averaged.round().byte() if images.dtype == torch.uint8 else averaged.to(images.dtype)

        if factor == 1:
            return self
        return Exposures(small(self.radiance), small(self.target), self.stops, self.kept, self.bend, self.source)


def join(parts: Sequence[Exposures]) -> Exposures:
    """Concatenate sets; scenes of different sets count as different sources."""
    first, shifted = 0, []
    for part in parts:
        shifted.append(part.source + first)
        first = int(shifted[-1].max()) + 1
    columns = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Exposures)}
    return Exposures(**{**columns, "source": torch.cat(shifted)})


def views_of_light(
    folder: str | Path, *, allowed: str = "any", views: int = 40, size: int = 128, seed: int = 0
) -> tuple[Exposures, list[LicenceRow]]:
    """Draw random views of all images of light.

    Args:
        folder, allowed: see :func:`kdlib.data.light.read_light`.
        views: per panorama; images that show only a part of the surroundings get a third.
        size: side in pixels, at most 192.
        seed: of the views.

    Returns:
        The views, and the rows of the files that were used.

    Raises:
        FileNotFoundError, ValueError, PhotoError: as :func:`kdlib.data.light.read_light`.
    """
    rng = np.random.default_rng(seed)
    drawn, source, rows = [], [], []
    for number, light in enumerate(read_light(folder, allowed)):
        rows.append(light.row)
        count = views if light.panorama and not light.sky_only else max(1, views // 3)
        drawn += [fused_view(light, rng, size) for _ in range(count)]
        source += [number] * count
    radiance, target, bend = (np.stack(column) for column in zip(*drawn, strict=True))
    return Exposures(
        _planes(np.minimum(radiance, _BRIGHTEST).astype(np.float16)),
        _planes(target),
        torch.tensor(_VIEW_STOPS).repeat(len(source), 1),
        torch.zeros(len(source)),
        torch.from_numpy(bend).float(),
        torch.tensor(source),
    ), rows


def licensed_photos(
    folder: str | Path, *, allowed: str = "any", crops: int = 4, size: int = 128, seed: int = 0
) -> tuple[Exposures, list[LicenceRow]]:
    """Return well-exposed photos as their own targets: each whole, and as random windows.

    Photos that are dark or bright on purpose (``low-key`` and ``high-key`` in the listing) are never exposed
    differently. They are rare, so that there are three times as many windows of each.

    Args:
        folder: has ``LICENCES.tsv`` and the files that it lists in ``photos/``.
        allowed: see :func:`~kdlib.data.licences.read_licences`.
        crops: windows of 60 to 100% of each side per ordinary photo, counting the whole; every other is mirrored.
        size: side in pixels, to which a window is squashed.
        seed: of the windows.

    Returns:
        The photos, and the rows of the files that were used.

    Raises:
        FileNotFoundError, ValueError, PhotoError: no listing, no such row, or a photo that cannot be read.
    """
    rows = [row for row in read_licences(folder, allowed) if row.file.startswith(f"{PHOTO_FOLDER}/")]
    if not rows:
        raise ValueError(f"{folder} lists no file in {PHOTO_FOLDER}/ with a licence that is allowed ({allowed})")
    rng = np.random.default_rng(seed)
    targets, kept, source = [], [], []
    for number, row in enumerate(rows):
        photo = read_photo(Path(folder) / row.file)
        on_purpose = row.kind.endswith("key")
        for crop in range(crops * 3 if on_purpose else crops):
            part = 1.0 if crop == 0 else rng.uniform(0.6, 1)
            height, width = (max(1, int(side * part)) for side in photo.shape[:2])
            top, left = (
                rng.integers(0, side - own + 1) for side, own in zip(photo.shape, (height, width), strict=False)
            )
            window = photo[top : top + height, left : left + width]
            small = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
            targets.append(small[:, ::-1] if crop % 2 else small)
            kept.append(1.0 if on_purpose else _PHOTOS_KEPT)
            source.append(number)
    target = _planes(np.stack(targets))
    return _as_taken(target, target, _PHOTO_STOPS, torch.tensor(kept), torch.tensor(source)), rows


def bracketed(folder: str | Path, *, size: int = 128) -> Exposures:
    """Return the photos of all brackets in a folder: see :func:`kdlib.data.brackets.load_bracketed_photos`."""
    found = load_bracketed_photos(folder, size)
    kept = torch.full((len(found.photos),), _BRACKETS_KEPT)
    return _as_taken(found.photos, found.targets, _BRACKET_STOPS, kept, found.scene)


def _as_taken(photos: Tensor, targets: Tensor, stops: tuple[float, float], kept: Tensor, source: Tensor) -> Exposures:
    """Return scenes of which only a photo is known, N×3×S×S uint8: at exposure 0 it is recorded as it is."""
    radiance = torch.cat([srgb_to_linear(batch.float() / 255).half() for batch in photos.split(_BATCH)])
    return Exposures(radiance, targets, torch.tensor(stops).repeat(len(kept), 1), kept, torch.zeros(len(kept)), source)


def _planes(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class VirtualCamera:
    """Ranges from which a photo's noise and rendering are drawn, separately for each photo of a batch.

    Attributes:
        shot: logarithms (base 10) of the least and the greatest variance of the noise of white's photons.
        read: likewise of the standard deviation of the read noise, in linear light.
        bend: largest deviation of the tone curve from the one with which the target was made.
        balance: standard deviation, in stops, of the white balance's error of red and blue, which every other photo
            and its target have.
        black: logarithms (base 10) of the least and the greatest standard deviation of the error of the channels'
            black levels, in linear light, which every other photo has and no target.
    """

    shot: tuple[float, float] = (-5.2, -3.6)
    read: tuple[float, float] = (-4.3, -2.8)
    bend: float = 0.15
    balance: float = 0.25
    black: tuple[float, float] = (-4.5, -3.3)

    def draw(self, stops: Tensor, kept: Tensor, bend: Tensor, generator: torch.Generator) -> "Settings":
        """Draw how each photo of a batch is taken.

        Args:
            stops, kept, bend: columns of :class:`Exposures`.
            generator: source of all random numbers, on the tensors' device.
        """
        count, device = len(stops), stops.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        def between(limits: tuple[float, float]) -> Tensor:
            return limits[0] + (limits[1] - limits[0]) * uniform(count, 1, 1, 1)

        chosen = stops[:, 0] + (stops[:, 1] - stops[:, 0]) * uniform(count)
        chosen = torch.where(uniform(count) < kept, _KEPT_DEVIATION * normal(count), chosen)
        balance = self.balance * normal(count, 3, 1, 1) * (uniform(count, 1, 1, 1) < 0.5)
        return Settings(
            exposure=2 ** chosen.view(-1, 1, 1, 1),
            balance=2 ** (balance - balance[:, 1:2]),
            shot=10 ** between(self.shot),
            read=10 ** (2 * between(self.read)),
            bend=bend.view(-1, 1, 1, 1) + between((-self.bend, self.bend)),
            mirrored=uniform(count, 1, 1, 1) < 0.5,
            black=10 ** between(self.black) * normal(count, 3, 1, 1) * (uniform(count, 1, 1, 1) < 0.5),
        )


@dataclass(frozen=True)
class Settings:
    """How the photos of a batch are taken; B×1×1×1 each, and B×3×1×1 for the balance and the black level.

    Attributes:
        exposure, balance: factors of linear light; the balance is that of the white, with an error of its own.
        shot, read: variance of white's shot noise, and of the read noise, in linear light.
        bend: strength of the tone curve, see :func:`kdlib.data.light.develop`.
        mirrored: whether the photo is flipped.
        black: what is added to linear light.
    """

    exposure: Tensor
    balance: Tensor
    shot: Tensor
    read: Tensor
    bend: Tensor
    mirrored: Tensor
    black: Tensor

    def photo(self, radiance: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the photos of scenes, B×3×S×S in [0, 1].

        Args:
            radiance: B×3×S×S, linear light.
            generator: source of the noise; None for photos without noise that are not rounded to 8 bits.
        """
        light = (radiance.float() * self.balance * self.exposure + self.black).clamp_min(0)
        if generator is not None:
            deviation = (light.clamp(0, 1) * self.shot + self.read).sqrt()
            light = light + deviation * torch.randn(light.shape, generator=generator, device=light.device)
        photo = develop(light, self.bend)
        if generator is not None:
            photo = (photo * 255).round() / 255
        return torch.where(self.mirrored, photo.flip(-1), photo)

    def wanted(self, target: Tensor, photo: Tensor) -> Tensor:
        """Return what photos should become, B×3×S×S in [0, 1].

        Args:
            target: B×3×S×S uint8, which gets the same balance.
            photo: B×3×S×S, the photos without noise; the target of a night photo lies between the two.
        """
        balanced = linear_to_srgb(srgb_to_linear(target.float() / 255) * self.balance)
        balanced = torch.where(self.mirrored, balanced.flip(-1), balanced)
        return balanced.lerp(photo, _NIGHT * night_likeness(photo))


def night_likeness(photo: Tensor) -> Tensor:
    """Return whether photos (B×3×H×W in [0, 1]) are dark but for a few lights, from 0 to 1, B×1×1×1.

    A dark room with a bright window is no night: it has more bright pixels. Nor is a dim photo without any.
    """
    luminance = (photo[:, :1] + 2 * photo[:, 1:2] + photo[:, 2:]) / 4

    def rising(share: Tensor, limits: tuple[float, float]) -> Tensor:
        return ((share - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)

    dark, lit = ((part).float().mean(dim=(1, 2, 3), keepdim=True) for part in (luminance < _DARK, luminance > _LIT))
    return rising(dark, _DARK_SHARES) * rising(lit, _LIT_SHARES) * (1 - rising(lit, _BACKLIT_SHARES))
