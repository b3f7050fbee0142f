"""A bound on how many callers look into one connection at once, so that a slow one holds up no others."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kernel.errors import OverloadedError

RETRY_SECONDS = 1.0


class Bulkhead:
    """Lets `limit` callers in for each key; more are refused at once instead of waiting in a thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def enter(self, key: str) -> Iterator[None]:
        """A place for the time of the block; OverloadedError when there is none."""
        with self._lock:
            if self._inside[key] >= self._limit:
                text = "too many calls look into this connection at once; try again in a second"
                raise OverloadedError(text, retry_after=RETRY_SECONDS)
            self._inside[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[key] -= 1
                if not self._inside[key]:
                    del self._inside[key]
