"""``kdlib.scale.enhance_dataset``: the public name of :mod:`kdlib.enhance.folders.cluster`."""

from kdlib.enhance.folders.cluster import enhance_dataset

__all__ = ["enhance_dataset"]
