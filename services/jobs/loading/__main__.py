"""The process of one load: it takes a task from its standard input and tells events on its standard output.

It is started before it is needed and waits for its task, so that a run starts at once. It dies with its
parent. Credentials come through the pipe only.
"""

import faulthandler
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator

from kernel import logs
from kernel.databases import files, queries
from kernel.databases import postgresql as postgresql_source
from kernel.databases import sqlite as sqlite_source
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import SourceUnavailableError
from kernel.errors import RefusedError, UnavailableError
from kernel.processes import die_with_parent
from services.jobs.loading import copying, postgresql, sqlite
from services.jobs.loading.engine import Load
from services.jobs.loading.errors import LoadError, StoppedError, UnconfirmedError
from services.jobs.loading.events import COMMIT, LENGTH, STOP, Event, Failed, framed, to_json
from services.jobs.loading.tasks import Task

STDIN, STDOUT, STDERR = 0, 1, 2
STOP_AGAIN_SECONDS = 0.2
PRELOADED = (copying, postgresql, sqlite, files, postgresql_source, sqlite_source)
"""What a load may need; each would otherwise be imported when it does."""


class Pipe:
    """The two ends of the pipe to the parent. Whatever else writes to standard output goes to the log."""

    def __init__(self) -> None:
        self._out = os.dup(STDOUT)
        self._telling = threading.Lock()
        os.dup2(STDERR, STDOUT)

    def tell(self, event: Event) -> None:
        """Sends an event; from any thread."""
        frame = memoryview(framed(to_json(event)))
        with self._telling:
            while frame:
                frame = frame[os.write(self._out, frame) :]

    def frames(self) -> Iterator[bytes]:
        """What the parent sends, until it is gone."""
        while length := self._exactly(LENGTH.size):
            if (frame := self._exactly(LENGTH.unpack(length)[0])) is None:
                return
            yield frame

    @staticmethod
    def _exactly(size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            if not (part := os.read(STDIN, size - len(found))):
                return None
            found += part
        return found


class Process:
    """A load and the parent's orders to it."""

    def __init__(self, task: Task, pipe: Pipe) -> None:
        self._task = task
        self._pipe = pipe
        self._load = Load(task, pipe.tell, self._ready)
        self._ordered = threading.Event()
        self._confirmed = False

    def run(self) -> None:
        """Loads, and tells the end of it."""
        threading.Thread(target=self._obey, daemon=True).start()
        try:
            self._load.run()
        except LoadError as error:
            self._pipe.tell(Failed(error.reason, sentence(str(error)), error.unavailable))
        except RefusedError as error:
            unavailable = isinstance(error, UnavailableError | SourceUnavailableError)
            self._pipe.tell(Failed(error.reason, sentence(error.message), unavailable))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must be told
            logs.logger(__name__).exception("fault in a load", run=self._task.run_id)
            self._pipe.tell(Failed("INTERNAL", f"A fault of Portolan's own: {type(error).__name__}."))

    def _ready(self) -> None:
        if not self._ordered.wait(self._task.confirm_seconds):
            raise UnconfirmedError(f"Nobody confirmed the load within {self._task.confirm_seconds:g} s.")
        if not self._confirmed:
            raise StoppedError("The load was stopped; the target is as it was.")

    def _obey(self) -> None:
        """Takes orders; the first one holds. When the parent is gone, so is this process, at once."""
        for order in self._pipe.frames():
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


def sentence(message: str) -> str:
    """A message, which may be a database's, as a sentence of the run's log."""
    text = " ".join(message.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def main() -> None:
    """Waits for a task and does it; ends quietly when there is none."""
    parent, level = int(sys.argv[1]), sys.argv[2]
    die_with_parent(signal.SIGKILL, parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold credentials
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, which then says what to do
    faulthandler.enable()
    logs.configure("jobs-load", level)
    for kind in DatabaseKind:
        queries.check("SELECT 1", kind)  # the parser loads what it knows of a dialect when it is used
    pipe = Pipe()
    if (text := next(pipe.frames(), None)) is not None:
        Process(Task.from_json(text), pipe).run()
    os._exit(os.EX_OK)  # what is open belongs to nobody any more, and closing it takes a while


if __name__ == "__main__":
    main()
