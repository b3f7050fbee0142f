"""A caller who hangs up, or whose deadline passes: what is done for it ends with it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class Cancellation:
    """Whether the caller of a call is gone, and what is to end when it goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._endings: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Ends what is done for the caller, now and from now on; it may take as long as an ending does."""
        with self._lock:
            self._cancelled = True
            for end in self._endings:
                end()

    @contextlib.contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """Calls `end` when the caller goes in the time of the block, or has gone; not after the block."""
        with self._lock:
            self._endings.append(end)
            if self._cancelled:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._endings.remove(end)


current: ContextVar[Cancellation] = ContextVar("cancellation")


@contextlib.contextmanager
def on_cancel(end: Callable[[], object]) -> Iterator[None]:
    """Calls `end`, from another thread, when the caller of the RPC that is being served goes in the block.

    Where no RPC is being served there is no caller who could.
    """
    with current.get(Cancellation()).ending(end):
        yield
