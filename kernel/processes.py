"""Processes that end when the one that started them does, however it ends (on Linux).

Also a program: `python processes.py PARENT SIGNAL PROGRAM ARGUMENT…` becomes another one, tied from its first
instruction on. It is a process of its own, since code between fork and exec would be unsafe in a parent that
has threads, and it imports next to nothing, for it starts whenever anything does.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals = signal.SIGTERM, parent: int | None = None) -> None:
    """Makes the kernel signal this process when the thread that started it ends.

    Exits at once when the parent, where its id is given, had ended before the kernel knew what to do then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        sys.exit("the parent is gone")


def tied(program: Sequence[str], number: signal.Signals) -> list[str]:
    """The command that runs a program which gets a signal when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *program]


def main() -> None:
    """Becomes the program."""
    parent, number, *program = sys.argv[1:]
    die_with_parent(signal.Signals(int(number)), int(parent))
    os.execv(program[0], program)  # noqa: S606 - it is there to become what its caller names


if __name__ == "__main__":
    main()
