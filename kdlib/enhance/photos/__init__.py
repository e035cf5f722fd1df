"""Reading and writing photos with everything that they contain: formats, paths, metadata and Pillow modes.

Nothing here depends on a network; the data sets for training are read with these modules too.
"""
