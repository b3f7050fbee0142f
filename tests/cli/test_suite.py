"""What keeps two suites from getting into each other's way, and what the one that starts says."""

import os
import socket
from pathlib import Path

import pytest

from cli.client import CommandError
from cli.suite import Suite
from cli.up import welcome


def test_a_data_folder_is_for_one_suite_at_a_time(tmp_path: Path) -> None:
    first, second = Suite(tmp_path, port=8181), Suite(tmp_path, port=8282)
    with first.claimed():
        message = f"already runs on the data folder .*: http://127.0.0.1:8181, process {os.getpid()}"
        with pytest.raises(CommandError, match=message), second.claimed():
            pass
    with second.claimed():
        pass


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(CommandError, match=f"The port {port} is in use"),
            Suite(tmp_path, base_port=port).running(print),
        ):
            pass
    assert not list(tmp_path.iterdir())


def test_the_way_to_the_first_administrator_leads_to_the_suite_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "enrolment-code").touch()
    for port, server in ((8080, ""), (8181, " --server http://127.0.0.1:8181")):
        welcome(Suite(tmp_path, port=port), 1.5)
        said = capsys.readouterr().out.splitlines()[-1]
        way = f"portolan admin bootstrap --email YOU@EXAMPLE.ORG --user YOU --data {tmp_path}{server}"
        assert said.strip() == way
