"""One module per photo format, which separates a file into pixels and everything else, and writes both again.

Each module has ``decode(path, check_size)``, which returns a :class:`~kdlib.enhance.photos.formats.shared.Decoded`,
``encode(pixels, container, file)``, and ``resized(container, width, height)``, which returns the container for a photo
of another size, with the size tags in its EXIF data updated. Pillow and OpenCV decode and encode the pixels only, in
files without metadata; metadata are copied as bytes.
"""
