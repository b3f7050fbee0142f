"""Reading ahead: a thread that fills a short queue, so that reading and writing overlap in flat memory."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

DEPTH = 4
POLL_SECONDS = 0.05

T = TypeVar("T")


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class ReadAhead(Generic[T]):
    """Iterates over items that a thread of its own reads; only a few wait.

    An error of the items is raised where they are used. When they are not used up at the end of the context,
    `cancel` is called and must make the thread's current read end.
    """

    def __init__(self, items: Iterator[T], cancel: Callable[[], None], depth: int = DEPTH) -> None:
        self._items = items
        self._cancel = cancel
        self._waiting: queue.Queue[T | _End] = queue.Queue(depth)
        self._abandoned = threading.Event()
        self._finished = threading.Event()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        if not self._finished.is_set():
            self._cancel()
        while self._reader.is_alive():
            try:
                self._waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _read(self) -> None:
        end = _End()
        try:
            for item in self._items:
                self._waiting.put(item)
                if self._abandoned.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are used
            end = _End(error)
        self._finished.set()
        self._waiting.put(end)
