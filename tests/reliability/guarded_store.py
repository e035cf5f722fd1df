"""A store of another kind than local disks, in which some things cannot be had; Ray's workers import it."""

import os
import signal
from typing import Any

import fsspec
from fsspec.implementations.dirfs import DirFileSystem


class Guarded(DirFileSystem):
    """A folder of this machine (``guarded://…`` below the folder in KDLIB_GUARDED). One photo kills who fetches it,
    another cannot be fetched, and one folder may not be listed."""

    protocol = "guarded"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path.removeprefix("guarded://").strip("/") if isinstance(path, str) else path

    @staticmethod
    def _get_kwargs_from_urls(_: str) -> dict[str, str]:
        return {"path": os.environ["KDLIB_GUARDED"]}

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> Any:
        if "killer" in rpath:
            os.kill(os.getpid(), signal.SIGKILL)
        if "lost" in rpath:
            raise RuntimeError("the shelf is empty")
        return super().get_file(rpath, lpath, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if "secret" in path:
            raise PermissionError("nobody may look into it")
        return super().ls(path, detail=detail, **kwargs)


fsspec.register_implementation("guarded", Guarded, clobber=True)
