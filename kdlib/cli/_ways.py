"""The other ways of ``kdlib enhance``: a folder that is watched, a contact sheet, and one photo in a pipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from kdlib.cli._output import STARTING, console, errors_reported, escape, fail, progress_bar, say
from kdlib.threads import available_threads

if TYPE_CHECKING:
    from kdlib.enhance.enhancer import Enhancer


class Ways(NamedTuple):
    """What all of them need.

    Attributes:
        inputs: as the command line gives them.
        output: the same.
        model: name or file of the network.
        options: for the Enhancer.
        workers: photos processed at a time; 0 is one per core.
        overwrite: whether to replace existing results.
        max_pixels: largest photo; None keeps the default.
    """

    inputs: list[str]
    output: str | None
    model: str
    options: dict[str, Any]
    workers: int
    overwrite: bool
    max_pixels: int | None

    def watch(self, *, recursive: bool, suffix: str, report: Path | None) -> None:
        """Enhance photos as they arrive in a folder."""
        from kdlib.cli._watch import watch_folder

        if len(self.inputs) != 1:
            raise fail("--watch takes one folder; run the command once for each folder")
        watch_folder(
            self.inputs[0],
            self.output,
            self._enhancer,
            {
                "recursive": recursive,
                "suffix": suffix,
                "overwrite": self.overwrite,
                "workers": self.workers or available_threads(),
                "max_pixels": self.max_pixels,
            },
            report,
        )

    def pipe(self) -> None:
        """Enhance one photo from or to a pipe."""
        from kdlib.cli._pipe import enhance_stream

        if len(self.inputs) != 1:
            raise fail("- stands for one photo; give no other input beside it, and one input with --output -")
        enhance_stream(
            self.inputs[0], self.output, self._enhancer, max_pixels=self.max_pixels, overwrite=self.overwrite
        )

    def preview(self, *, recursive: bool) -> None:
        """Write a contact sheet."""
        from kdlib.enhance.folders.local import expand
        from kdlib.enhance.folders.preview import SHEET_SUFFIXES, contact_sheet, write_sheet
        from kdlib.enhance.photos.kinds import readable_suffixes
        from kdlib.enhance.photos.paths import photos_in

        first = Path(os.path.realpath(os.path.expanduser(self.inputs[0])))
        sheet_file = Path(self.output) if self.output else first.with_name(f"{first.stem}_preview.jpg")
        if sheet_file.suffix.lower() not in SHEET_SUFFIXES or sheet_file.is_dir():
            raise fail(
                f"--preview writes one picture, and {sheet_file} names none; give --output a name with .jpg or .png"
            )
        if os.path.lexists(sheet_file) and not self.overwrite:
            raise fail(f"{sheet_file} exists; --overwrite replaces it")
        with errors_reported():
            found = [path for given in self.inputs for path in expand(given)]
            photos: list[Path] = []
            for path in found:
                below = photos_in(path, recursive=recursive, suffixes=readable_suffixes()) if path.is_dir() else [path]
                photos += below
            if any(os.path.realpath(photo) == os.path.realpath(sheet_file) for photo in photos):
                raise ValueError(f"{sheet_file} is one of the photos; give the sheet another name")
            if not photos:
                raise ValueError("no photos found; --recursive also searches subfolders")
            workers = min(self.workers or available_threads(), len(photos))
            with progress_bar() as bar:
                task = bar.add_task("", total=None, speed=STARTING)
                sheet = contact_sheet(
                    photos,
                    self._enhancer(1 if workers > 1 else None),
                    workers=workers,
                    max_pixels=self.max_pixels,
                    progress=lambda: bar.advance(task),
                )
            write_sheet(sheet, sheet_file, overwrite=self.overwrite)
        of = f" of {len(photos):,}" if sheet.shown < len(photos) else ""
        say(f"{sheet.shown}{of} photos before and after → {escape(str(sheet_file))}")
        for photo, reason in sheet.failed:
            say(f"[bold red]{escape(photo)}[/]: {escape(reason)}")
        if sheet.failed:
            console.print(f"[bold red]{len(sheet.failed)} could not be shown[/]", highlight=False)
            raise typer.Exit(1)

    def _enhancer(self, threads: int | None) -> Enhancer:
        from kdlib.enhance.enhancer import Enhancer

        return Enhancer(self.model, threads=threads, **self.options)
