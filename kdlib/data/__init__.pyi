from .datasets import PhotoSet, dark_photos, evaluation_pairs, find_pairs, load_photos
from .degrade import Darkening, darken
from .images import PhotoError, list_photos, read_photo, to_array, to_tensor, write_photo
from .samples import sample_crops, sample_pairs, sample_photos
from .sharp import JoinedImages, SharpImages, Vimeo90K
from .sharp_pairs import PatchPairs, augment_pair

__all__ = [
    "Darkening",
    "JoinedImages",
    "PatchPairs",
    "PhotoError",
    "PhotoSet",
    "SharpImages",
    "Vimeo90K",
    "augment_pair",
    "dark_photos",
    "darken",
    "evaluation_pairs",
    "find_pairs",
    "list_photos",
    "load_photos",
    "read_photo",
    "sample_crops",
    "sample_pairs",
    "sample_photos",
    "to_array",
    "to_tensor",
    "write_photo",
]
