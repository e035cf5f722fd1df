"""Enhancing many photos at once, from a folder on this machine or a data set on a Ray cluster.

Reading, enhancing and writing a single photo belong to :mod:`kdlib.enhance.photos` and the Enhancer, not here.
"""
