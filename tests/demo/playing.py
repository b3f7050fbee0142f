"""Plays the demonstration as a user does."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.running import free_ports


@dataclass(frozen=True)
class Played:
    """A demonstration that ended."""

    data: Path
    told: str


def demo(data: Path, *arguments: str) -> str:
    """Runs the demonstration to its end, sees that nothing of it is left, and gives what it printed."""
    port, base_port = free_ports()
    command = ["demo", "--data", data, "--port", port, "--base-port", base_port, *arguments]
    ended = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *map(str, command)],
        env={**os.environ, "XDG_CONFIG_HOME": str(data / "home"), "COLUMNS": "80"},  # noqa: TID251 - handed on
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    commands = ("  portolan ", "  curl ")  # are printed whole, to be copied
    assert all(len(line) <= 80 for line in ended.stdout.splitlines() if not line.startswith(commands))
    left = [
        process for process in psutil.process_iter(["cmdline"]) if str(base_port) in _environment(process)
    ]
    assert not left
    return ended.stdout


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("PORTOLAN_AUTH_ADDRESS", "")
    except psutil.Error:
        return ""
