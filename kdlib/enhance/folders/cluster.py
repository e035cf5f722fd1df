"""Enhancing a data set with many Ray Data workers, on one machine or on a cluster."""

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlib.checks import check_number
from kdlib.enhance.enhancer import Enhancer
from kdlib.enhance.folders.local import Summary, settings_of
from kdlib.enhance.photos.kinds import SUFFIXES
from kdlib.extras import needed_by
from kdlib.threads import available_threads
from kdlib.weights.catalogue import DEFAULT_MODEL, catalogue, find_weights

# Least and most photos in a part. One worker processes a part as a whole, and another repeats it if the worker dies.
# Parts grow with the number of photos listed, because the driver keeps some kilobytes per part for the whole run.
_PARTS = (8, 256)
_STORE_BYTES = 256 * 2**20  # Ray's shared memory; it holds file names only, as photos never pass through it


def enhance_dataset(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    strength: float = 1.0,
    denoise: float | None = None,
    upscale: int | None = None,
    workers: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    recursive: bool = False,
    suffix: str = "",
    max_pixels: int | None = None,
    wanted: str | None = None,
    quality: int | None = None,
    address: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Enhance photos on Ray, with the same files as result as :func:`kdlib.enhance.folders.local.enhance_files`.

    Folders are listed while photos are being enhanced, so memory grows with the photos of one folder, not of all. Each
    worker has one core. When a worker dies, another repeats its part; a result appears under its name only when it is
    complete, so there is exactly one for each photo. A photo on which two workers died is given up.

    Args:
        inputs: files, folders and patterns; paths that all machines see, or addresses of any store that fsspec
            supports (``s3://bucket/photos``).
        output: path or address of a folder; new or empty, unless ``overwrite`` or ``resume`` is set.
        model, strength, denoise, upscale: as for :class:`kdlib.Enhancer`. A weights file is sent to the workers.
        workers: number of workers; 0 is one per core.
        overwrite, resume, max_pixels, quality: see :func:`~kdlib.enhance.folders.local.enhance_files`.
        recursive, suffix, wanted: see :func:`~kdlib.enhance.folders.local.plan`.
        address: address of a running cluster, such as ``auto`` or ``head:6379``. The default is the one in the
            environment variable RAY_ADDRESS, or else a cluster on this machine alone, which ends with the call.
        progress: called with the growing number of photos processed.

    Raises:
        MissingExtraError: Ray is not installed.
        FileNotFoundError, ValueError, ImportError: an input does not exist, a value is out of range, targets
            collide, the kind of store is unknown, or there are no photos; with ``resume``, the results were made with
            other settings.
        FileExistsError: the output is not empty.
        ConnectionError: there is no cluster at ``address``.
    """
    require_ray()
    from kdlib.enhance.folders.cluster_worker import Settings
    from kdlib.enhance.folders.stores import is_empty, memory_of, place, plan_inputs, tasks_of

    check_number("workers", workers)
    options: dict[str, Any] = {"strength": strength, "denoise": denoise, "upscale": upscale, "device": "cpu"}
    enhancer = Enhancer(model, threads=1, **options)  # reports wrong values before anything is started
    root = place(output)
    if Path(root.path).suffix.lower() in SUFFIXES and not root.store.isdir(root.path):
        raise ValueError(f"{output} names a file; --engine ray writes into a folder, so give one")
    plan = plan_inputs(inputs, root, suffix, wanted)
    if not (overwrite or resume or is_empty(root)):
        raise FileExistsError(f"{root} is not empty; --overwrite replaces existing results, --resume keeps them")
    memory = memory_of(root, suffix, settings_of(enhancer, quality), keeps=resume and not overwrite)
    memory.check()
    shipped = str(model) in catalogue()
    settings = Settings(
        options,
        str(model) if shipped else find_weights(model).suffix,
        None if shipped else find_weights(model).read_bytes(),
        max_pixels,
        list(dict.fromkeys([*(given.source.store for given in plan), root.store])),
        wanted,
        quality,
    )

    def parts(_: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        tasks = tasks_of(
            *(plan, root), recursive=recursive, suffix=suffix, resume=resume and not overwrite, wanted=wanted
        )
        listed, (least, most) = 0, _PARTS
        while part := list(itertools.islice(tasks, max(least, min(most, listed // 64)))):
            listed += len(part)
            yield {"tasks": [settings.packed(part)]}

    summary = Summary()
    with cluster(address, workers) as cores:
        memory.begin()
        for found in _run(parts, settings, workers or cores):
            summary.add(found)
            progress(summary.photos)
    if not summary.photos:
        raise ValueError("no photos found; --recursive also searches subfolders")
    # A file given by name may have any extension; the memory counts photos by theirs.
    others = sum(not given.folder and Path(given.target.path).suffix.lower() not in SUFFIXES for given in plan)
    memory.end(summary.done - others if overwrite and not summary.failed else 0)
    summary.failed.sort()
    summary.notes.sort()
    return summary


def _run(parts: Callable[..., Iterator[Any]], settings: Any, workers: int) -> Iterator[Summary]:
    import ray
    import ray.data

    from kdlib.enhance.folders.cluster_worker import Ledger, PhotoWorker

    # The ledger needs no core of its own, like the listing. It is pinned to the machine that started the run, so that
    # both end together.
    here = ray.get_runtime_context().get_node_id()
    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=pinned).remote()
    rows = ray.data.from_items([{"run": 0}])
    rows.context.enable_progress_bars = False
    rows.context.target_max_block_size = 1024  # one part per block; Ray would pack hundreds of thousands into one
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
            failed, notes = ([tuple(pair) for pair in found[name]] for name in ("failed", "notes"))
            yield Summary(found["done"], found["kept"], failed, notes, found["dark"])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OSError | ValueError):  # for example, a folder cannot be listed
            raise type(error.cause)(str(error.cause).splitlines()[0]) from None
        raise


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[int]:
    """Connect to a cluster, or start one on this machine, and yield its number of cores."""
    import ray

    if ray.is_initialized():  # by a program that uses Ray itself
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
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised anyway
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what Ray's C++ part prints when it starts; errors are raised anyway."""
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
    """Import Ray with its usage statistics and log messages switched off.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with needed_by("enhancing on a cluster"):
        import ray.data  # noqa: F401
