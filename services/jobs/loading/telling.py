"""Who hears how a load goes on, and can make it stop."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from services.jobs.loading.events import RejectedRow


class Teller(Protocol):
    """Hears how reading goes on. Any of its methods may raise StoppedError."""

    def line(self, message: str) -> None:
        """Takes a line of the log."""

    def read(self, rows: int) -> None:
        """Takes the number of rows that were read so far."""

    def reject(self, rows: list[RejectedRow]) -> None:
        """Takes rows that cannot be loaded."""

    def cancelling(self, cancel: Callable[[], None]) -> AbstractContextManager[None]:
        """While this lasts, `cancel` is called when the load is to stop."""
