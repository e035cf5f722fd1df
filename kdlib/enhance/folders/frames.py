"""Enhancing every page of a document and every frame of an animation."""

from dataclasses import replace

import numpy as np

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.photos.photo_file import PhotoFile, resized
from kdlib.enhance.video.smoothing import MapSmoother, coarse_copy


def enhanced(photo: PhotoFile, enhance: Enhancer) -> PhotoFile:
    """Return a photo with all its pictures enhanced, in its own memory unless they grow.

    Pages are photos of their own. Frames share a curve map that follows the scene as in a video, so that the animation
    does not flicker; with a network that enlarges, each frame is enhanced alone.
    """
    pictures = [photo.pixels, *photo.pages]
    if enhance.upscale > 1:
        larger, *others = (enhance(picture) for picture in pictures)
        return resized(photo, larger, tuple(others))
    if photo.timing is None:
        for picture in pictures:
            enhance(picture, out=picture)
        return photo
    smoother, time = MapSmoother(), 0.0
    for picture, seconds in zip(pictures, photo.timing.durations, strict=True):
        curve_map = smoother(enhance.estimate(picture), coarse_copy(_colours(picture)), time)
        enhance.apply(picture, curve_map, out=picture)
        time += float(seconds)
    return replace(photo, pixels=pictures[0], pages=tuple(pictures[1:]))


def _colours(picture: np.ndarray) -> np.ndarray:
    """Return a frame as H×W×3, without its alpha."""
    if picture.ndim == 2 or picture.shape[2] < 3:
        return np.repeat(picture.reshape(*picture.shape[:2], -1)[..., :1], 3, axis=2)
    return picture[..., :3]
