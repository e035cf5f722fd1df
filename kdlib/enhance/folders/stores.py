"""Photos in any store that fsspec supports, including local disks: listing, choosing targets, fetching and storing."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from kdlib.enhance.folders.local import expand, renamed, told_apart
from kdlib.enhance.folders.memory import MEMORY, LocalMemory, Memory
from kdlib.enhance.photos.kinds import readable_suffixes
from kdlib.files import partial_name

# Protocols of stores that show an object only after all of it has arrived. In others, a result is renamed at the end.
_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2", "memory"}


@dataclass(frozen=True)
class Place:
    """A file or folder in a store."""

    store: AbstractFileSystem
    path: str

    def __str__(self) -> str:
        return self.path if isinstance(self.store, LocalFileSystem) else str(self.store.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> Self:
        return replace(self, path=f"{self.path.rstrip('/')}/{name}" if self.path else name)

    def is_in(self, folder: Self) -> bool:
        """Whether this is that folder, or lies in it."""
        root = folder.path.rstrip("/")
        return self.store == folder.store and (not root or f"{self.path}/".startswith(f"{root}/"))


@dataclass(frozen=True)
class Input:
    """A photo with the file for its result, or a folder of photos with the folder in which results are mirrored."""

    source: Place
    target: Place
    folder: bool


@dataclass(frozen=True)
class Task:
    """One photo to enhance; ``kept`` says that its result exists from an earlier run."""

    source: Place
    target: Place
    kept: bool


def place(url: str | Path) -> Place:
    """Return the place of a path or of an address such as ``s3://bucket/folder``, without accessing a remote store.

    Raises:
        ValueError, ImportError: the kind of store is unknown, or the package for it is not installed.
    """
    store, path = url_to_fs(str(url))
    if isinstance(store, LocalFileSystem):
        local = Path(path)  # a link to a photo keeps its own name
        path = (local.resolve() if local.is_dir() else local.parent.resolve() / local.name).as_posix()
    return Place(store, path)


def plan_inputs(inputs: Sequence[str | Path], output: Place, suffix: str, wanted: str | None = None) -> list[Input]:
    """Choose targets for the inputs as :func:`kdlib.enhance.folders.local.plan` does, without listing any folder.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: two inputs have the same target, or a target is an input.
    """
    places = [found for pattern in inputs for found in _expand(pattern)]
    folders = [found for found, folder in places if folder]
    chosen: dict[Place, Input] = {}
    files = [PurePosixPath(found.path).name for found, folder in places if not folder]
    results = iter(_named(files, suffix, wanted))
    for source, folder in places:
        name = PurePosixPath(source.path).name
        inside = output / name if len(folders) > 1 else output
        target = inside if folder else output / next(results)[1]
        if target == source and not (folder and suffix):
            raise ValueError(f"{source} would be overwritten by its result; choose another --output or a --suffix")
        beside = folders[0] / name if not folder and len(folders) == 1 else None
        if target in chosen or (beside is not None and beside.store.exists(beside.path)):
            other = chosen[target].source if target in chosen else beside
            raise ValueError(f"{other} and {source} would both be written to {target}; run them separately")
        chosen[target] = Input(source, target, folder)
    return list(chosen.values())


def _expand(pattern: str | Path) -> list[tuple[Place, bool]]:
    found = place(pattern)
    if isinstance(found.store, LocalFileSystem):
        files = expand(found.path if "://" in str(pattern) else pattern)
        return [(place(path), path.is_dir()) for path in files]
    if found.store.exists(found.path):
        return [(found, found.store.isdir(found.path))]
    matches = found.store.glob(found.path, detail=True) if set("*?[") & set(found.path) else {}
    shown = [path for path, info in sorted(matches.items()) if info["type"] == "file" and "/." not in f"/{path}"]
    if not shown:
        raise FileNotFoundError(f"{pattern}: no such file or folder")
    return [(Place(found.store, path), False) for path in shown]


def tasks_of(
    inputs: Sequence[Input],
    output: Place,
    *,
    recursive: bool,
    suffix: str,
    resume: bool,
    wanted: str | None = None,
) -> Iterator[Task]:
    """Yield the photos of the inputs, one folder at a time.

    Photos are recognised by their extension; hidden ones, and those in the output, are left out. Existing results are
    found by listing the folders of the output, not by asking for each file. The order depends only on the content of
    the folders, because Ray may run this again and needs the same parts.

    Raises:
        OSError: a folder cannot be listed.
        ValueError: two photos in a folder have the same target, because a format was asked for.
    """
    for given in inputs:
        given.source.store.invalidate_cache()
        if not given.folder:
            yield Task(given.source, given.target, resume and given.target.store.exists(given.target.path))
            continue
        store = given.source.store
        waiting = [(given.source.path, given.target)]
        while waiting:
            folder, target = waiting.pop()
            found = {info["name"].rstrip("/").rpartition("/")[2]: info for info in store.ls(folder, detail=True)}
            photos = {name for name, info in found.items() if _is_photo(store, name, info)}
            existing = _names_in(target) if resume and photos else set()
            chosen: dict[str, str] = {}
            for name, result in _named(sorted(photos), suffix, wanted):
                if given.target == given.source and _is_result(name, suffix, photos):
                    continue
                if (other := chosen.setdefault(result, name)) != name:
                    raise ValueError(
                        f"{other} and {name} in {Place(store, folder)} would both be written to {result}; "
                        "run them separately"
                    )
                yield Task(Place(store, found[name]["name"]), target / result, result in existing)
            for name in sorted(found, reverse=True) if recursive else ():
                below = Place(store, found[name]["name"].rstrip("/"))
                is_folder = found[name]["type"] == "directory" and below.path != folder.rstrip("/")
                nested = given.target != given.source and below.is_in(output)
                if is_folder and not (nested or name.startswith(".")):  # links may be circular
                    waiting.append((below.path, target / name))


def _named(names: Iterable[str], suffix: str, wanted: str | None) -> list[tuple[str, str]]:
    """Return the names of photos in one folder, each with that of its result."""

    def rename(photo: PurePosixPath, told: str) -> PurePosixPath:
        return renamed(photo, told + suffix, wanted)

    photos = [PurePosixPath(name) for name in names]
    pairs = told_apart([(photo, rename(photo, "")) for photo in photos], rename)
    return [(source.name, target.name) for source, target in pairs]


def _is_photo(store: AbstractFileSystem, name: str, info: dict[str, Any]) -> bool:
    if name.startswith(".") or PurePosixPath(name).suffix.lower() not in readable_suffixes():
        return False
    return info["type"] == "file" or (bool(info.get("islink")) and store.isfile(info["name"]))


def _is_result(name: str, suffix: str, photos: set[str]) -> bool:
    """Whether this is the result of one of the photos beside it."""
    path = PurePosixPath(name)
    return path.stem.endswith(suffix) and path.with_name(path.stem.removesuffix(suffix) + path.suffix).name in photos


def _names_in(folder: Place) -> set[str]:
    try:
        return {path.rpartition("/")[2] for path in folder.store.ls(folder.path, detail=False)}
    except FileNotFoundError:
        return set()


def is_empty(folder: Place) -> bool:
    """Whether a folder does not exist, or holds no more than the memory of a run without results."""
    return _names_in(folder) <= {MEMORY}


class _StoreMemory(Memory):
    """The memory of a folder in a remote store, where runs that begin at the same moment cannot lock it."""

    def __init__(self, root: Place, suffix: str, settings: Mapping[str, Any], *, keeps: bool) -> None:
        super().__init__(str(root), suffix, settings, keeps=keeps)
        self._root, self._place = root, root / MEMORY

    @property
    def path(self) -> str:
        """The address of the file."""
        return str(self._place)

    def _files(self) -> Iterator[PurePosixPath]:
        store, root = self._root.store, self._root.path.rstrip("/")
        store.invalidate_cache()
        if not store.exists(self._root.path):
            return
        for folder, _, names in store.walk(self._root.path, on_error="raise"):
            inside = PurePosixPath(folder.rstrip("/").removeprefix(root).lstrip("/"))
            yield from (inside / name for name in names)

    def _content(self) -> bytes | None:
        try:
            with _reported("read"), suppress(FileNotFoundError):
                return bytes(self._root.store.cat_file(self._place.path))
        except OSError as error:
            raise OSError(f"{self.path} {error}") from None
        return None

    def _store(self, content: bytes) -> None:
        with published(self._place) as path:
            path.write_bytes(content)


def memory_of(root: Place, suffix: str, settings: Mapping[str, Any], *, keeps: bool) -> Memory:
    """Return the memory of a folder of results; see :class:`kdlib.enhance.folders.memory.Memory`."""
    if isinstance(root.store, LocalFileSystem):
        return LocalMemory(Path(root.path), suffix, settings, keeps=keeps)
    return _StoreMemory(root, suffix, settings, keeps=keeps)


@contextmanager
def as_file(source: Place) -> Iterator[Path]:
    """Yield a photo as a file on this machine: the photo itself, or a temporary copy."""
    if isinstance(source.store, LocalFileSystem):
        yield Path(source.path)
        return
    with tempfile.TemporaryDirectory(prefix="kdlib-") as folder:
        path = Path(folder, PurePosixPath(source.path).name)
        with _reported("fetched"):
            source.store.get_file(source.path, str(path))
        yield path


@contextmanager
def published(target: Place) -> Iterator[Path]:
    """Yield a path to write on this machine; if the block succeeds, the complete file is moved to the store."""
    if isinstance(target.store, LocalFileSystem):
        yield Path(target.path)  # encode_photo replaces atomically
        return
    name = PurePosixPath(target.path).name
    with tempfile.TemporaryDirectory(prefix="kdlib-") as folder:
        path = Path(folder, name)
        yield path
        with _reported("stored"):
            _put(path, target)


def _put(path: Path, target: Place) -> None:
    store, parent = target.store, target.path.rpartition("/")[0]
    protocols = {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
    if parent:
        store.makedirs(parent, exist_ok=True)
    if protocols & _PUT_WHOLE:
        store.put_file(str(path), target.path)
    else:
        partial = partial_place(target)
        store.put_file(str(path), partial.path)
        store.mv(partial.path, target.path)


@contextmanager
def _reported(done: str) -> Iterator[None]:
    """Turn any error of a store into OSError, so that it counts as the failure of one photo."""
    try:
        yield
    except Exception as error:
        raise OSError(f"cannot be {done} ({type(error).__name__}: {error})") from error


def partial_place(target: Place) -> Place:
    """Return the place of a result until it is complete."""
    path = PurePosixPath(target.path)
    return Place(target.store, path.with_name(partial_name(path.name)).as_posix())
