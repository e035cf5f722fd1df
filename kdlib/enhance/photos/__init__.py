"""Photo files read and written with all that they carry: formats, paths, metadata, Pillow modes.

No network is known here; the training data is read through here as well.
"""
