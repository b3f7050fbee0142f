"""The supervisor, with real programs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli.supervisor import Program, StartError, Supervisor

SECONDS = 60
"""How long something may take that is quick on an idle machine."""
SLEEPER = "import time, sys; print('begun', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


def program(name: str, code: str, healthy: Callable[[], bool] = lambda: True) -> Program:
    return Program(name, [sys.executable, "-c", code], dict(os.environ), healthy)  # noqa: TID251 - handed on


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_program_is_started_again_and_its_end_reported(tmp_path: Path) -> None:
    reports: list[str] = []
    with Supervisor([program("one", SLEEPER)], tmp_path, reports.append) as supervisor:
        supervisor.wait_healthy(SECONDS)
        first = supervisor.pids()["one"]
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.pids().get("one", first) != first)
        supervisor.wait_healthy(SECONDS)
    assert reports == ["one was killed by signal 9; starting it again in 0.2 s"]


def test_nothing_is_left_after_the_stop_and_the_last_started_stops_first(tmp_path: Path) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print(time.time())))
print('begun', flush=True)
time.sleep(600)
"""
    with Supervisor([program(name, code) for name in "abc"], tmp_path, print) as supervisor:
        until(lambda: all("begun" in text(tmp_path, name) for name in "abc"))
        pids = supervisor.pids()
    assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    ends = [float(text(tmp_path, name).split()[-1]) for name in "abc"]
    assert ends == sorted(ends, reverse=True)


def test_a_program_that_ignores_the_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.supervisor.STOP_SECONDS", 0.5)
    reports: list[str] = []
    with Supervisor([program("mule", STUBBORN)], tmp_path, reports.append) as supervisor:
        until(lambda: "begun" in text(tmp_path, "mule"))
        pid = supervisor.pids()["mule"]
    until(lambda: not psutil.pid_exists(pid))
    assert reports == ["mule did not stop in 0.5 s and is killed"]


def test_a_program_that_cannot_start_fails_the_start_with_its_last_words(tmp_path: Path) -> None:
    broken = program("broken", "import sys; sys.exit('no such database')", lambda: False)
    supervisor = Supervisor([broken], tmp_path, lambda _text: None)
    with supervisor, pytest.raises(StartError, match="broken does not start: no such database"):
        supervisor.wait_healthy(SECONDS)


def test_a_program_that_is_never_healthy_fails_the_start(tmp_path: Path) -> None:
    supervisor = Supervisor([program("slow", SLEEPER, lambda: False)], tmp_path, lambda _text: None)
    with supervisor, pytest.raises(StartError, match="slow is not healthy after 1 s"):
        supervisor.wait_healthy(1)


def test_warnings_are_reported_and_all_lines_are_kept(tmp_path: Path) -> None:
    lines = ['{"event": "quiet", "level": "info"}', '{"event": "look here", "level": "warning"}', "no JSON"]
    word = tmp_path / "word"
    code = f"""
import os, time
while not os.path.exists({str(word)!r}): time.sleep(0.02)
for line in {lines!r}: print(line, flush=True)
time.sleep(600)
"""
    reports: list[str] = []
    with Supervisor([program("one", code)], tmp_path, reports.append) as supervisor:
        supervisor.wait_healthy(SECONDS)
        word.touch()
        until(lambda: "no JSON" in text(tmp_path, "one"))
        until(lambda: bool(reports))
    assert reports == ["one: look here"]
    assert text(tmp_path, "one").splitlines() == lines


def test_a_log_that_grows_too_large_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.supervisor.LOG_BYTES", 1000)
    code = "for n in range(100): print('x' * 99)\nprint('last', flush=True)\nimport time; time.sleep(600)"
    with Supervisor([program("one", code)], tmp_path, print):
        until(lambda: "last" in text(tmp_path, "one"))
    assert (tmp_path / "one.log").stat().st_size < 1200
    assert (tmp_path / "one.log.1").stat().st_size < 1200


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_programs_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from cli.supervisor import Program, Supervisor
program = Program("one", [sys.executable, "-c", {SLEEPER!r}], {{}})
with Supervisor([program], Path({str(tmp_path)!r}), print) as supervisor:
    supervisor.wait_healthy({SECONDS})
    print(supervisor.pids()["one"], flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()
    until(lambda: not psutil.pid_exists(child))


def text(folder: Path, name: str) -> str:
    try:
        return (folder / f"{name}.log").read_text()
    except FileNotFoundError:  # not begun yet, or put aside just now
        return ""
