"""The process that forks one for each load, with all imported that loads need.

Its standard input is a socket of its worker's. A request on it is one byte and the socket of the load that is
to be forked. Answers are lines: the request's number, from 1, and the process id of the load; the same once
more, and the exit code, when the load has ended. It dies with its worker, and the loads die with it.
"""

import contextlib
import faulthandler
import gc
import os
import resource
import selectors
import signal
import socket
import sys
from itertools import count
from typing import NoReturn

import pyarrow as pa

from kernel import logs
from kernel.databases import files, queries
from kernel.databases import postgresql as postgresql_source
from kernel.databases import sqlite as sqlite_source
from kernel.databases.endpoints import DatabaseKind
from kernel.processes import die_with_parent
from services.jobs.loading import child, copying, postgresql, sqlite

STDIN, STDOUT, STDERR = 0, 1, 2
PRELOADED = (child, copying, postgresql, sqlite, files, postgresql_source, sqlite_source)
"""What a load may need; each would otherwise be imported when it does."""


class Forker:
    """The loads of a worker."""

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._requests = count(1)
        self._ready = selectors.DefaultSelector()
        self._ready.register(worker, selectors.EVENT_READ, self._fork)

    def serve(self) -> None:
        """Forks what is asked for, until the worker and all loads are gone."""
        while self._ready.get_map():
            for key, _ in self._ready.select():
                key.data()

    def _fork(self) -> None:
        _, sockets, _, _ = socket.recv_fds(self._worker, 1, 1)
        if not sockets:
            self._ready.unregister(self._worker)
            return
        # All other processes close the end that a load keeps open, so the other end tells when it is gone.
        gone, kept = os.pipe()
        parent = os.getpid()
        if not (pid := os.fork()):
            self._load(sockets[0], parent)
        for end in (*sockets, kept):
            os.close(end)
        name = f"{next(self._requests)} {pid}"
        self._tell(name)
        self._ready.register(gone, selectors.EVENT_READ, lambda: self._reap(name, pid, gone))

    def _load(self, channel: int, parent: int) -> NoReturn:
        """Is the child. It closes nothing at its end: what is open belongs to nobody any more."""
        status = os.EX_SOFTWARE
        try:
            die_with_parent(signal.SIGKILL, parent)
            self._worker.close()
            child.run(channel)
            status = os.EX_OK
        except Exception:  # noqa: BLE001 - the worker hears only that this process has ended
            logs.logger(__name__).exception("fault in a load's process")
        finally:
            os._exit(status)

    def _reap(self, name: str, pid: int, gone: int) -> None:
        self._ready.unregister(gone)
        os.close(gone)
        _, status = os.waitpid(pid, 0)
        self._tell(f"{name} {os.waitstatus_to_exitcode(status)}")

    def _tell(self, answer: str) -> None:
        with contextlib.suppress(ConnectionError):  # then the worker is gone
            self._worker.sendall(f"{answer}\n".encode())


def main() -> None:
    """Serves the worker that started this process."""
    parent, level = int(sys.argv[1]), sys.argv[2]
    die_with_parent(signal.SIGKILL, parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold credentials
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the worker, which then says what to do
    faulthandler.enable()
    logs.configure("jobs-load", level)
    worker = socket.socket(fileno=os.dup(STDIN))
    os.dup2(os.open(os.devnull, os.O_RDONLY), STDIN)
    os.dup2(STDERR, STDOUT)
    for kind in DatabaseKind:
        queries.check("SELECT 1", kind)  # the parser loads what it knows of a dialect when it is used
    pa.array([])  # which loads pandas and numpy where they are
    gc.freeze()  # what is shared with the children stays so
    Forker(worker).serve()


if __name__ == "__main__":
    main()
