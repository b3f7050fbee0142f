"""One load in a process of its own: it takes a task from its worker, tells events, and obeys orders.

It dies with its worker. Credentials come through its socket only.
"""

import os
import threading
from collections.abc import Iterator

from kernel import logs
from kernel.databases.errors import SourceUnavailableError
from kernel.errors import RefusedError, UnavailableError, sentence
from services.jobs.loading.engine import Load
from services.jobs.loading.errors import LoadError, StoppedError, UnconfirmedError
from services.jobs.loading.events import COMMIT, LENGTH, STOP, Event, Failed, framed, to_json
from services.jobs.loading.tasks import Task

STOP_AGAIN_SECONDS = 0.2


class Channel:
    """A load's end of the socket to its worker."""

    def __init__(self, socket: int) -> None:
        self._socket = socket
        self._telling = threading.Lock()

    def tell(self, event: Event) -> None:
        """Sends an event; from any thread."""
        frame = memoryview(framed(to_json(event)))
        with self._telling:
            while frame:
                frame = frame[os.write(self._socket, frame) :]

    def frames(self) -> Iterator[bytes]:
        """What the worker sends, until it is gone."""
        while length := self._exactly(LENGTH.size):
            if (frame := self._exactly(LENGTH.unpack(length)[0])) is None:
                return
            yield frame

    def _exactly(self, size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            if not (part := os.read(self._socket, size - len(found))):
                return None
            found += part
        return found


class Process:
    """A load and its worker's orders to it."""

    def __init__(self, task: Task, channel: Channel) -> None:
        self._task = task
        self._channel = channel
        self._load = Load(task, channel.tell, self._ready)
        self._ordered = threading.Event()
        self._confirmed = False

    def run(self) -> None:
        """Loads, and tells the end of it."""
        threading.Thread(target=self._obey, daemon=True).start()
        try:
            self._load.run()
        except LoadError as error:
            self._channel.tell(Failed(error.reason, _line(str(error)), error.unavailable))
        except RefusedError as error:
            unavailable = isinstance(error, UnavailableError | SourceUnavailableError)
            self._channel.tell(Failed(error.reason, _line(error.message), unavailable))
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must be told
            logs.logger(__name__).exception("fault in a load", run=self._task.run_id)
            self._channel.tell(Failed("INTERNAL", f"A fault of Portolan's own: {type(error).__name__}."))

    def _ready(self) -> None:
        if not self._ordered.wait(self._task.confirm_seconds):
            raise UnconfirmedError(f"Nobody confirmed the load within {self._task.confirm_seconds:g} s.")
        if not self._confirmed:
            raise StoppedError("The load was stopped; the target is as it was.")

    def _obey(self) -> None:
        """Takes orders; the first one holds. When the worker is gone, so is this process, at once."""
        for order in self._channel.frames():
            if self._ordered.is_set():
                continue
            self._confirmed = order == COMMIT
            self._ordered.set()
            if order == STOP:
                threading.Thread(target=self._stop, daemon=True).start()
        os._exit(os.EX_OK)

    def _stop(self) -> None:
        while True:
            self._load.stop()
            threading.Event().wait(STOP_AGAIN_SECONDS)


def _line(message: str) -> str:
    """A message as a line of the run's log."""
    return sentence(" ".join(message.split()))


def run(socket: int) -> None:
    """Waits for a task and does it; returns when there is none."""
    channel = Channel(socket)
    if (text := next(channel.frames(), None)) is not None:
        Process(Task.from_json(text), channel).run()
