"""``kdlib.scale.enhance_dataset``: the public name of :mod:`kdlib.enhance.folders.cluster`."""

from kdlib.enhance.folders.cluster import enhance_dataset

__all__ = ["enhance_dataset"]

__path__: list[str] = []  # as of a package, so that kdlib._moved is asked for the modules that were in it
