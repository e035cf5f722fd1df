"""Samples of TIFF files other than 8 and 16 bits: packed ones, wide integers and floating point."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kdlib.enhance.photos.paths import PhotoError

UNSIGNED, SIGNED, FLOATING = 1, 2, 3
_LETTERS = {UNSIGNED: "u", SIGNED: "i", FLOATING: "f"}
_WIDE = {UNSIGNED: (32, 64), SIGNED: (8, 16, 32, 64), FLOATING: (16, 32, 64)}
_DIFFERENCES, _SHUFFLED = 2, 3  # predictors
_WHITES = (1, 255, 65_535, 2**32 - 1)


@dataclass(frozen=True, eq=False)
class Samples:
    """How samples are stored that are enhanced as float32 in [0, 1].

    Attributes:
        dtype: of the samples in the file.
        white: the value that 1 stands for.
        above: what values exceed white by, such as the highlights of an HDR photo; None if none does.
    """

    dtype: np.dtype
    white: float = 1.0
    above: np.ndarray | None = None

    def stored(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 pixels in [0, 1] as the file holds them."""
        values = pixels.astype(np.float64) * self.white
        if self.above is not None and self.above.shape == values.shape:
            values += self.above
        if self.dtype.kind != "f":
            most = np.iinfo(self.dtype).max
            # The highest 64-bit integer is no float64, so that comparing has to be with integers.
            return np.where(
                values >= most, most, np.rint(np.minimum(values, most - 1 if most > 2**53 else most))
            ).astype(self.dtype)
        return values.astype(self.dtype)


class Layout(NamedTuple):
    """How a plane of samples lies in its rows of bytes.

    Attributes:
        order: byte order, "<" or ">".
        bits: of a sample.
        kind: UNSIGNED, SIGNED or FLOATING.
        channels: samples that lie together for each pixel.
        predictor: 1 for none, 2 for differences, 3 for differences of shuffled bytes.
        step: pixels after which the predictor starts anew, the width of a tile or of the photo.
    """

    order: str
    bits: int
    kind: int
    channels: int
    predictor: int
    step: int


def kind_of(dtype: np.dtype) -> int:
    """Return UNSIGNED, SIGNED or FLOATING."""
    return next(kind for kind, letter in _LETTERS.items() if letter == dtype.kind)


def require_supported(bits: int, kind: int, predictor: int) -> None:
    """Raise PhotoError for samples that cannot be read."""
    if kind not in _LETTERS or (bits not in _WIDE[kind] and not (kind == UNSIGNED and bits <= 16)):
        what = {SIGNED: "signed integer", FLOATING: "floating-point", 5: "complex", 6: "complex"}.get(kind, "unsigned")
        raise PhotoError(f"{bits}-bit {what} samples are not supported; convert it to 8 or 16 bits per channel")
    if predictor not in (1, _DIFFERENCES, _SHUFFLED) or (predictor != 1 and bits % 8):
        raise PhotoError(f"the predictor {predictor} for {bits}-bit samples is not supported; save it uncompressed")


def unpacked(rows: np.ndarray, width: int, layout: Layout) -> np.ndarray:
    """Return the samples in rows of bytes, H×W×channels; packed integers of up to 16 bits become uint16 up to 65535.

    Args:
        rows: H×(bytes of a row) uint8; changed if there is a predictor.
        width: pixels in a row.
        layout: how they lie there.
    """
    height, count = len(rows), width * layout.channels
    if layout.kind == UNSIGNED and layout.bits <= 16:
        return _scaled(rows, count, layout.bits).reshape(height, width, layout.channels)
    size = layout.bits // 8
    dtype = np.dtype(f"{layout.order if size > 1 else '='}{_LETTERS[layout.kind]}{size}")
    if layout.predictor == _SHUFFLED:
        _unshuffle(rows, layout, size)
    pixels = rows[:, : count * size].view(dtype).reshape(height, width, layout.channels)
    pixels = pixels.astype(dtype.newbyteorder("="))
    if layout.predictor == _DIFFERENCES:
        for left in range(0, width, layout.step):
            part = pixels[:, left : left + layout.step]
            whole = part.view(f"u{size}") if layout.kind != FLOATING else part
            np.add.accumulate(whole, axis=1, dtype=whole.dtype, out=whole)
    return pixels


def normalised(values: np.ndarray) -> tuple[np.ndarray, Samples, tuple[str, ...]]:
    """Return samples as float32 in [0, 1], how to store them again, and notes.

    White is 1, 255 or the most that 16 or 32 bits hold: the lowest of these that at most one sample of a hundred
    exceeds. What exceeds it is put back afterwards, so that the highlights of HDR photos remain.
    """
    notes: tuple[str, ...] = ()
    narrow = values.dtype == np.float32 or values.dtype.itemsize <= 2  # which float32 holds exactly
    wide = values.astype(np.float32 if narrow else np.float64)
    if not np.isfinite(wide).all():
        wide = np.nan_to_num(wide, nan=0.0, posinf=0.0, neginf=0.0)
        notes += ("values that are no finite numbers became 0",)
    if wide.size and wide.min() < 0:
        wide = np.maximum(wide, 0)
        notes += ("values below 0 became 0",)
    common = np.partition(wide, -(wide.size // 100) - 1, axis=None)[-(wide.size // 100) - 1]
    whites: list[float] = [white for white in _WHITES if white >= common and (white > 1 or values.dtype.kind == "f")]
    if values.dtype.kind != "f":
        whites = [min(whites[0] if whites else np.inf, np.iinfo(values.dtype).max)]
    white = float(whites[0] if whites else wide.max())
    above = np.maximum(np.subtract(wide, white), 0) if wide.max(initial=0) > white else None
    if values.dtype.kind != "f" and values.dtype.itemsize > 3 and white > 2**24:
        notes += (f"{8 * values.dtype.itemsize} bits per channel are enhanced with a precision of 24",)
    np.divide(wide, white or 1, out=wide)
    np.minimum(wide, 1, out=wide)
    return wide.astype(np.float32, copy=False), Samples(values.dtype, white, above), notes


def _scaled(rows: np.ndarray, count: int, bits: int) -> np.ndarray:
    most = 2**bits - 1
    samples = np.empty((len(rows), count), np.uint16)
    powers = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint32)
    for top in range(0, len(rows), 16):  # each bit takes a byte meanwhile
        ones = np.unpackbits(rows[top : top + 16], axis=1, count=count * bits).reshape(-1, count, bits)
        samples[top : top + 16] = ((ones @ powers) * 65535 + most // 2) // most
    return samples


def _unshuffle(rows: np.ndarray, layout: Layout, size: int) -> None:
    """Undo the predictor for floating point in place; it leaves the bytes in the file's order."""
    across = layout.step * layout.channels * size
    for left in range(0, rows.shape[1], across):
        part = rows[:, left : left + across]
        whole = part[:, : part.shape[1] // (layout.channels * size) * layout.channels * size]
        differences = whole.reshape(len(rows), -1, layout.channels)
        summed = np.add.accumulate(differences, axis=1, dtype=np.uint8).reshape(len(rows), size, -1)
        summed = summed if layout.order == ">" else summed[:, ::-1]
        whole[...] = summed.transpose(0, 2, 1).reshape(len(rows), -1)
