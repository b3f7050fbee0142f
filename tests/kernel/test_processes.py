"""What is started ends with who started it."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from kernel.processes import tied

STARTS_AND_TELLS = """
import signal, subprocess, sys, time
from kernel.processes import tied
started = subprocess.Popen(tied([sys.executable, "-c", "import time; time.sleep(600)"], signal.SIGKILL))
print(started.pid, flush=True)
time.sleep(600)
"""


def test_a_tied_program_is_the_program() -> None:
    program = [sys.executable, "-c", "import os, sys; print(os.getpid(), *sys.argv[1:])", "one", "two"]
    with subprocess.Popen(tied(program, signal.SIGKILL), stdout=subprocess.PIPE, text=True) as started:
        output, _ = started.communicate()
    assert output == f"{started.pid} one two\n"


def test_a_program_whose_parent_is_gone_does_not_start() -> None:
    command = tied([sys.executable, "-c", "print('started')"], signal.SIGKILL)
    command[command.index(str(os.getpid()))] = "1"
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "the parent is gone\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_tied_program_ends_with_a_parent_that_is_killed() -> None:
    code = [sys.executable, "-c", STARTS_AND_TELLS]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
