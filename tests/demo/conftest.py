"""The demonstration, run once for all tests that need what it leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import free_ports


@pytest.fixture(scope="session")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that the demonstration leaves."""
    data = tmp_path_factory.mktemp("demonstration")
    port, base_port = free_ports()
    ended = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "portolan"), "demo", "--data", str(data)),
            *("--port", str(port), "--base-port", str(base_port)),
        ],
        env={**os.environ, "XDG_CONFIG_HOME": str(data / "home")},  # noqa: TID251 - handed on
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return data
