"""The README's tour does what it says: each command is run, and its output held against the page."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.suite import Suite
from tests.running import free_ports

README = Path(__file__).parents[2] / "README.md"
BIN = Path(sys.executable).parent
ANYTHING = "…"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def steps() -> list[tuple[str, str]]:
    """The tour's commands, each with the output that is printed below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(output)) for command, output in found]


def pattern(output: str) -> re.Pattern[str]:
    """What an output must match: `…` alone on a line is any lines, within one it is any text."""
    lines = [
        r"(?:.*\n)*?" if line == ANYTHING else re.escape(line.rstrip()).replace(ANYTHING, ".*") + "\n"
        for line in output.strip().splitlines()
    ]
    return re.compile("".join(lines) + r"\s*")


@pytest.fixture
def tour(demonstrated: Path) -> Iterator[dict[str, str]]:
    """What replaces the README's ports and paths, while the demonstration's data are served."""
    port, base = free_ports()
    with Suite(demonstrated, None, port, base).running(lambda _: None):
        ports = {f"127.0.0.1:{50051 + n}": f"127.0.0.1:{base + n}" for n in range(4)}
        yield ports | {"127.0.0.1:8080": f"127.0.0.1:{port}", "data/": f"{demonstrated}/"}


def test_the_tour_does_what_it_says(tour: dict[str, str], demonstrated: Path) -> None:
    server = "http://" + tour["127.0.0.1:8080"]
    environment = {
        **os.environ,  # noqa: TID251 - handed on
        "XDG_CONFIG_HOME": str(demonstrated / "home"),
        "PORTOLAN_SERVER": server,
        "COLUMNS": "80",
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
    }
    signed_in = subprocess.run(
        [str(BIN / "portolan"), "login", "admin", "--password-stdin"],
        input=(demonstrated / "demo-password").read_text(),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert signed_in.returncode == 0, signed_in.stderr
    with subprocess.Popen(
        ["/bin/bash", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=README.parent,
        text=True,
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        for command, expected in steps():
            if "activate" in command:
                continue
            for written, real in tour.items():
                command = command.replace(written, real)  # noqa: PLW2901 - it stays the same command
            shell.stdin.write(f"{command}\necho\necho '<<end>>'\n")
            shell.stdin.flush()
            output = ""
            for line in iter(shell.stdout.readline, "<<end>>\n"):
                output += line.rstrip() + "\n"
            assert pattern(expected).fullmatch(output), f"{command}\n{output}"
        shell.stdin.close()
