"""``kdlib enhance - -o -``: one photo through standard input and output."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from kdlib.cli._output import STREAM, errors_reported, escape, fail

if TYPE_CHECKING:
    from kdlib.enhance.enhancer import Enhancer


def enhance_stream(
    source: str,
    output: str | None,
    enhancer: Callable[[int | None], Enhancer],
    *,
    max_pixels: int | None = None,
    overwrite: bool = False,
) -> None:
    """Enhance one photo from a file or standard input, to a file or standard output. Messages go to standard error.

    Args:
        source: a file, or ``-`` for standard input.
        output: a file, or ``-`` or None for standard output. Nothing is written to it before the result is complete.
        enhancer: makes an Enhancer for a number of threads.
        max_pixels: as for :func:`kdlib.enhance.folders.local.enhance_photo`.
        overwrite: whether to replace the file if it exists.
    """
    from kdlib.enhance.folders.local import enhance_photo
    from kdlib.files import replacing

    target = None if output in {None, STREAM} else Path(str(output)).expanduser()
    if source == STREAM and sys.stdin.isatty():
        raise fail("- reads a photo from standard input, which is the terminal; pipe a photo into the command")
    if target is None and sys.stdout.isatty():
        raise fail("the result would be printed to the terminal; pipe it into a program, or name a file with --output")
    if target is not None and target.is_dir():
        raise fail(f"{target} is a folder; a photo from standard input has no name, so give --output a file name")
    if target is not None and os.path.lexists(target) and not overwrite:
        raise fail(f"{target} exists; --overwrite replaces it")
    with errors_reported(), TemporaryDirectory(prefix="kdlib-") as folder:
        photo, result = Path(folder, "photo"), Path(folder, "result")
        if source == STREAM:
            with photo.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            photo = Path(source).expanduser()
        try:
            notes = enhance_photo(photo, result, enhancer(None), max_pixels).notes
        except ValueError as error:
            raise ValueError(f"{'standard input' if source == STREAM else source}: {error}") from None
        if target is not None:
            _require_format(result, target)
            with replacing(target, overwrite=overwrite) as partial:
                shutil.copyfile(result, partial)
        else:
            _to_standard_output(result)
    for note in notes:
        Console(stderr=True).print(f"[yellow]{escape(note)}[/]", highlight=False, soft_wrap=True)


def _require_format(result: Path, target: Path) -> None:
    """Raise a ValueError if the name of the target promises another format than that of the result."""
    from PIL import Image

    with Image.open(result) as image:
        found = {"MPO": "JPEG"}.get(str(image.format), str(image.format))
    if (named := Image.registered_extensions().get(target.suffix.lower())) != found:
        raise ValueError(
            f"the photo stays {found}, but {target} names {named or 'no'} format; choose another extension"
        )


def _to_standard_output(result: Path) -> None:
    try:
        with result.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python would report it once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError("the program that reads the result has ended") from None
