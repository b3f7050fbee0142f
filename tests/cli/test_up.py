"""`portolan up` as a user runs it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cli.suite import Suite
from tests.running import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]

COMMAND = [sys.executable, "-c", "from cli.main import main; main()", "up"]
SECONDS = 60
"""How long something may take that is quick on an idle machine."""
NAMES = ["auth", "connections", "mapper", "jobs", "worker", "gateway"]


@contextmanager
def up(data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Suite]]:
    """A suite that was started from the command line, what it said when it was ready, and where it is."""
    port, base_port = free_ports()
    options = ["--json", "--data", str(data), "--port", str(port), "--base-port", str(base_port)]
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield process, ready, Suite(data, port=port, base_port=base_port)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(SECONDS)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as caller:
        return caller.connect_ex((host, int(port))) == 0


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


def test_all_parts_are_healthy_and_gone_after_the_stop(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready, _):
        assert list(ready["processes"]) == NAMES
        health = httpx.get(f"{ready['url']}/api/health")
        assert health.status_code == 200, health.text
        again = subprocess.run(
            [*COMMAND, "--data", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert again.returncode == 1
        assert "already runs on the data folder" in again.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert alive(ready["processes"].values()) == []
    assert (tmp_path / "enrolment-code").stat().st_mode & 0o777 == 0o600
    assert sorted(path.stem for path in (tmp_path / "logs").iterdir()) == sorted(NAMES)


def test_a_killed_service_comes_back_and_a_killed_supervisor_takes_all_with_it(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready, suite):
        os.kill(ready["processes"]["mapper"], signal.SIGKILL)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("portolan: mapper was killed by signal 9")
        until(lambda: answers(suite.addresses()["mapper"]))
        until(lambda: httpx.get(f"{suite.url}/api/health").status_code == 200)
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait()
        until(lambda: not alive(family))
