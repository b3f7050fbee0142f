"""Becomes a program that ends with the process that started it, from its first instruction on.

The services ask the kernel for the same, but only once they have been imported; in between they would outlive
a supervisor that is killed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """`python -m cli.child PARENT PROGRAM ARGUMENT…`; the parent is the id of the process that must live."""
    parent, *program = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent):  # otherwise it has died before the kernel knew what was wanted
        os.execv(program[0], program)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
