"""Pipeline stages that run in parallel, each in its own thread, connected by short queues."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from queue import Empty, Full, Queue
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")
_PATIENCE = 0.1  # seconds between a waiting thread's checks whether it should stop


def ahead(items: Generator[T, None, None], size: int) -> Generator[T, None, None]:
    """Run a generator in its own thread, up to ``size`` items ahead of the consumer.

    Its exceptions are raised again here. Closing this generator, or an exception in the loop over it, also closes
    ``items``, so that a chain of stages stops from either end and leaves no thread behind.
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
        except BaseException as error:  # handed to the consumer, including KeyboardInterrupt
            end = error
        finally:
            items.close()
            put((False, end))

    thread = threading.Thread(target=work, name=f"kdlib-{getattr(items, '__name__', 'stage')}", daemon=True)
    thread.start()
    try:
        while True:
            try:
                # Short waits let Ctrl-C through on Windows as well.
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


class Stage(Generic[In, Out]):
    """A stage that makes something of each item of a kind, and passes other items through unchanged.

    Args:
        kind: class of the items.
        work: function of an item.

    Attributes:
        seconds: total that ``work`` has taken so far.
    """

    def __init__(self, kind: type[In], work: Callable[[In], Out]) -> None:
        self._kind, self._work = kind, work
        self.seconds = 0.0

    def run(self, items: Generator[In | T, None, None]) -> Generator[Out | T, None, None]:
        """Yield what becomes of the items."""
        with closing(items):
            for item in items:
                if not isinstance(item, self._kind):
                    yield item  # type: ignore[misc]
                    continue
                begun = perf_counter()
                made = self._work(item)
                self.seconds += perf_counter() - begun
                yield made


class Timed(Generic[T]):
    """A measurement of how long an iterator takes to produce its items.

    Attributes:
        seconds: total so far.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.seconds = 0.0

    def run(self) -> Generator[T, None, None]:
        """Yield the same items while measuring."""
        while True:
            begun = perf_counter()
            try:
                item = next(self._items)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - begun
            yield item
