"""How each photo format is taken apart into pixels and all the rest, and put together again.

Each module has ``decode(path, check_size)``, which gives a :class:`~kdlib.enhance.photos.formats.shared.Decoded`,
``encode(pixels, container, file)``, and ``resized(container, width, height)`` for pixels of another size. Pixels are
decoded by Pillow and OpenCV. These are given files without metadata and asked for files without metadata; metadata are
carried over as the bytes that they are.
"""
