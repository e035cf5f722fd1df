"""Stages that work at the same time, each in a thread of its own, connected by short queues."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")
_PATIENCE = 0.1  # seconds after which a waiting thread looks whether it should stop


def ahead(items: Generator[T, None, None], size: int) -> Generator[T, None, None]:
    """Run a generator in a thread of its own, up to ``size`` items ahead of whoever iterates.

    Its exceptions come out here. Closing this generator, or an exception in the loop over it, closes ``items`` too, so
    that a chain of stages stops from either end; no thread is left behind.
    """
    queue: Queue[tuple[bool, T | BaseException | None]] = Queue(size)
    stop = threading.Event()

    def put(entry: tuple[bool, T | BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                queue.put(entry, timeout=_PATIENCE)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                if not put((True, item)):
                    break
        except BaseException as error:  # handed to the thread that iterates, KeyboardInterrupt too
            end = error
        finally:
            items.close()
            put((False, end))

    thread = threading.Thread(target=work, name=f"kdlib-{getattr(items, '__name__', 'stage')}", daemon=True)
    thread.start()
    try:
        while True:
            try:
                # Waiting in short turns lets Ctrl-C through on Windows as well.
                more, item = queue.get(timeout=_PATIENCE)
            except Empty:
                continue
            if not more:
                if isinstance(item, BaseException):
                    raise item
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


class Timed(Generic[T]):
    """Measures how long an iterator takes to come up with its items.

    Attributes:
        seconds: so far.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.seconds = 0.0

    def run(self) -> Generator[T, None, None]:
        """The same items."""
        while True:
            begun = perf_counter()
            try:
                item = next(self._items)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - begun
            yield item
