"""`portolan up` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.running import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]

COMMAND = [sys.executable, "-c", "from cli.main import main; main()", "up"]
NAMES = ["auth", "connections", "mapper", "jobs", "worker", "gateway"]


@contextmanager
def up(data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A suite that was started from the command line, and what it said when it was ready."""
    port, base_port = free_ports()
    options = ["--json", "--data", str(data), "--port", str(port), "--base-port", str(base_port)]
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


def gone(pids: dict[str, int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) for pid in pids.values()):
            return True
        time.sleep(0.05)
    return False


def test_all_parts_are_healthy_in_ten_seconds_and_gone_after_the_stop(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready):
        assert list(ready["processes"]) == NAMES
        assert ready["seconds"] < 10
        health = httpx.get(f"{ready['url']}/api/health")
        assert health.status_code == 200, health.text
        again = subprocess.run(
            [*COMMAND, "--data", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert again.returncode == 1
        assert "already runs on the data folder" in again.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert gone(ready["processes"], 0.1)
    assert (tmp_path / "enrolment-code").stat().st_mode & 0o777 == 0o600
    assert sorted(path.stem for path in (tmp_path / "logs").iterdir()) == sorted(NAMES)


def test_a_killed_service_comes_back_and_a_killed_supervisor_takes_all_with_it(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready):
        os.kill(ready["processes"]["mapper"], signal.SIGKILL)
        end = time.monotonic() + 15
        while httpx.get(f"{ready['url']}/api/health").status_code == 200:
            assert time.monotonic() < end, "nobody saw the mapper die"
        while httpx.get(f"{ready['url']}/api/health").status_code != 200:
            assert time.monotonic() < end, "the mapper did not come back"
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        children = {str(child.pid): child.pid for child in family}
        process.kill()
        process.wait()
        assert gone(children)
