"""libtiff as Pillow brings it: its messages go to standard error, without the name of the file."""

import ctypes
import logging
from contextlib import suppress
from functools import cache

from PIL import Image


@cache
def silence() -> None:
    """Switch libtiff's messages off, where it is a library that can be reached; what fails is raised as an error.

    What Pillow logs goes to a program's own handlers only, and no longer to standard error where there are none.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):  # such as on Windows, where it is linked statically
        libtiff = ctypes.CDLL(Image.core.__file__)
        for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(libtiff, handler)
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            set_handler(None)
