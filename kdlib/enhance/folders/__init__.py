"""Many photos at once: a folder on this machine, or a data set on a Ray cluster.

What happens to a single photo is decided in :mod:`kdlib.enhance.photos` and by the Enhancer, not here.
"""
