"""One module per photo format, which separates a file into pixels and everything else, and writes both again.

Each module has ``decode(path, check_size)``, which returns a :class:`~kdlib.enhance.photos.formats.shared.Decoded`,
``encode(pixels, container, file)``, and ``resized(container, width, height)`` for pixels of another size. Pillow and
OpenCV decode and encode the pixels only, in files without metadata; metadata are copied as bytes.
"""
