"""Training and evaluation data: photos, pairs and super-resolution patches as tensors, and synthetic darkening.

Nothing here may import a model or a loss; photo files are read by :mod:`kdlib.enhance.photos`.
"""

from kdlib.data.datasets import PhotoSet, dark_photos, evaluation_pairs, find_pairs, load_photos
from kdlib.data.degrade import Darkening, darken
from kdlib.data.samples import sample_crops, sample_pairs, sample_photos
from kdlib.data.super_resolution_images import JoinedImages, SharpImages, Vimeo90K
from kdlib.data.super_resolution_pairs import PatchPairs, augment_pair
from kdlib.enhance.photos.rgb import PhotoError, list_photos, read_photo, to_array, to_tensor, write_photo

__all__ = [
    "Darkening", "JoinedImages", "PatchPairs", "PhotoError", "PhotoSet", "SharpImages", "Vimeo90K", "augment_pair",
    "dark_photos", "darken", "evaluation_pairs", "find_pairs", "list_photos", "load_photos", "read_photo",
    "sample_crops", "sample_pairs", "sample_photos", "to_array", "to_tensor", "write_photo",
]  # fmt: skip
