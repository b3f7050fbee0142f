"""Runs a program that ends when its parent does: `python tied.py PARENT PROGRAM ARGUMENT…`.

A process of its own, since code between fork and exec would be unsafe in a parent that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Makes the kernel signal this process when the one that started it ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def main() -> None:
    """Becomes the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew what to do then
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - it is there to become what its caller names


if __name__ == "__main__":
    main()
