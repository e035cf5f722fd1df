"""A data set enhanced by many workers, on one machine or on a cluster, with Ray Data."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.local import Summary
from kdlib.enhance.photos.paths import PHOTO_SUFFIXES
from kdlib.extras import needed_by
from kdlib.threads import available_threads
from kdlib.weights.catalogue import catalogue, find_weights

# Photos in a part, which one worker does as a whole, and which is done again if it dies. Parts grow to the larger
# number with the photos that have been listed: the driver remembers some kilobytes of each as long as the run lasts.
_PARTS = (8, 256)
_STORE_BYTES = 256 * 2**20  # of Ray's shared memory, which holds names; photos never pass through it


def enhance_dataset(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path = "glance-650",
    strength: float = 1.0,
    denoise: float | None = None,
    upscale: int | None = None,
    workers: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    recursive: bool = False,
    suffix: str = "",
    max_pixels: int | None = None,
    address: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Enhance photos as :func:`kdlib.enhance.folders.local.enhance_files` does, file for file the same, on Ray.

    Folders are listed while photos are being enhanced; what is held at one time grows with the photos of one folder,
    not of all. Each worker has one core. Of a worker that dies, another does the part again; results appear under their
    names when they are whole, so there is exactly one for each photo. Over which two workers died, that photo
    is given up.

    Args:
        inputs: files, folders and patterns: paths that all machines see, or addresses of any store that fsspec knows
            (``s3://bucket/photos``).
        output: a folder, path or address; new or empty, unless ``overwrite`` or ``resume``.
        model, strength, denoise, upscale: of :class:`kdlib.Enhancer`. A weights file is sent to the workers.
        workers: how many; 0: one for each core.
        overwrite: replace results that exist.
        resume: keep results that exist.
        recursive: subfolders too.
        suffix: added to every file name, before the extension.
        max_pixels: refuse larger photos; None keeps the default.
        address: of a running cluster, such as ``auto`` or ``head:6379``; by default the one that the environment
            variable RAY_ADDRESS names, else a cluster of this machine alone, which ends with the call.
        progress: called with the number of photos looked at, as it grows.

    Raises:
        MissingExtraError: Ray is not installed.
        FileNotFoundError, ValueError, ImportError: an input that is not there, a value out of range, targets that
            collide, an unknown kind of store, or no photos.
        FileExistsError: the output is not empty.
        ConnectionError: no cluster at ``address``.
    """
    require_ray()
    from kdlib.enhance.folders.cluster_worker import Settings
    from kdlib.enhance.folders.stores import is_empty, place, plan_inputs, tasks_of

    if workers < 0:
        raise ValueError(f"workers is at least 1, or 0 for one on each core, not {workers}")
    options: dict[str, Any] = {"strength": strength, "denoise": denoise, "upscale": upscale, "device": "cpu"}
    Enhancer(model, threads=1, **options)  # a wrong value is said here, before anything is started
    root = place(output)
    if Path(root.path).suffix.lower() in PHOTO_SUFFIXES and not root.store.isdir(root.path):
        raise ValueError(f"{output} names a file; --engine ray writes into a folder")
    plan = plan_inputs(inputs, root, suffix)
    if not (overwrite or resume or is_empty(root)):
        raise FileExistsError(f"{root} is not empty; --overwrite replaces what is there, --resume keeps it")
    shipped = str(model) in catalogue()
    settings = Settings(
        options,
        str(model) if shipped else find_weights(model).suffix,
        None if shipped else find_weights(model).read_bytes(),
        max_pixels,
        list(dict.fromkeys([*(given.source.store for given in plan), root.store])),
    )

    def parts(_: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        tasks = tasks_of(plan, root, recursive=recursive, suffix=suffix, resume=resume and not overwrite)
        listed, (least, most) = 0, _PARTS
        while part := list(itertools.islice(tasks, max(least, min(most, listed // 64)))):
            listed += len(part)
            yield {"tasks": [settings.packed(part)]}

    summary = Summary()
    with cluster(address, workers) as cores:
        for found in _run(parts, settings, workers or cores):
            summary.add(found)
            progress(summary.photos)
    if not summary.photos:
        raise ValueError("no photos there; subfolders are searched with --recursive")
    summary.failed.sort()
    summary.notes.sort()
    return summary


def _run(parts: Callable[..., Iterator[Any]], settings: Any, workers: int) -> Iterator[Summary]:
    import ray
    import ray.data

    from kdlib.enhance.folders.cluster_worker import Ledger, PhotoWorker

    # Like the listing, it needs no core of its own; it stands on the machine from which the run was started, and dies
    # with it.
    here = ray.get_runtime_context().get_node_id()
    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=pinned).remote()
    rows = ray.data.from_items([{"run": 0}])
    rows.context.enable_progress_bars = False
    rows.context.target_max_block_size = 1024  # one part a block: Ray would gather them by the hundred thousand
    done = rows.map_batches(parts, batch_size=None, num_cpus=0).map_batches(
        PhotoWorker,
        fn_constructor_args=(settings, ledger),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    try:
        for row in done.iter_rows():
            found = json.loads(row["summary"])
            pairs = ([tuple(pair) for pair in found[name]] for name in ("failed", "notes"))
            yield Summary(found["done"], found["kept"], *pairs)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OSError | ValueError):  # such as a folder that cannot be listed
            raise type(error.cause)(str(error.cause).splitlines()[0]) from None
        raise


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[int]:
    """The cluster to work on, and its cores."""
    import ray

    if ray.is_initialized():  # of a program that uses Ray itself
        yield int(ray.cluster_resources().get("CPU", 1))
        return
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options["num_cpus"] = workers or available_threads()
    try:
        with _silent():
            ray.init(address or "local", **options)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Without what Ray's C++ part says on its start; what goes wrong is raised."""
    shown = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)


def require_ray() -> None:
    """Import Ray so that it neither phones home nor speaks of itself."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with needed_by("enhancing on a cluster"):
        import ray.data  # noqa: F401
