"""Keeps a set of programs running: starts them together, starts anew what dies, and stops them together.

Each program has a thread that starts it and waits for its end, since the kernel ties a child's life to the
thread that started it, and another that writes its output to a log file and reports its warnings and errors.
"""

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from kernel.processes import tied

Report = Callable[[str], None]
Probe = Callable[[], bool]

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
STEADY_SECONDS = 3
"""A program that ran this long has its pause before a restart reset."""
STARTS = 3
"""A program that dies this often before it was ever healthy is not started again."""
STOP_SECONDS = 20
"""How long a program may take to stop before it is killed."""
LOG_BYTES = 16 << 20
"""A log that reaches this size becomes `<name>.log.1`, in place of the one before."""


@dataclass(frozen=True)
class Program:
    """What to run, and how to see that it is healthy."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    healthy: Probe = lambda: True


class StartError(Exception):
    """A program cannot be brought to run."""


class Supervisor:
    """Runs programs until it is stopped, in order of their start and, at the stop, in reverse."""

    def __init__(self, programs: Sequence[Program], logs: Path, report: Report) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._keepers = [_Keeper(program, logs / f"{program.name}.log", report) for program in programs]

    def __enter__(self) -> Self:
        for keeper in self._keepers:
            keeper.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for keeper in self._keepers:
            keeper.retire()
        for keeper in reversed(self._keepers):
            keeper.stop()

    def wait_healthy(self, timeout: float) -> float:
        """Waits until every program is healthy and returns the seconds that it took; raises StartError."""
        begun = time.monotonic()
        for keeper in self._keepers:
            while not (keeper.running and keeper.program.healthy()):
                if keeper.given_up:
                    raise StartError(f"{keeper.program.name} does not start: {keeper.last_words}")
                if time.monotonic() - begun > timeout:
                    raise StartError(
                        f"{keeper.program.name} is not healthy after {timeout:.0f} s: {keeper.last_words}"
                    )
                time.sleep(0.05)
            keeper.was_healthy = True
        return time.monotonic() - begun

    def pids(self) -> dict[str, int]:
        """The process ids of the programs that run now, by name."""
        return {
            keeper.program.name: keeper.process.pid for keeper in self._keepers if keeper.process is not None
        }


class _Keeper(threading.Thread):
    """The thread of one program."""

    def __init__(self, program: Program, log: Path, report: Report) -> None:
        super().__init__(name=program.name, daemon=True)
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.was_healthy = False
        self.given_up = False
        self.last_words = f"see {log}"
        self._log = log
        self._report = report
        self._retired = threading.Event()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def run(self) -> None:
        pause, starts = FIRST_PAUSE, 0
        while not self._retired.is_set():
            starts += 1
            begun = time.monotonic()
            code = self._run_once()
            if self._retired.is_set():
                return
            if starts >= STARTS and not self.was_healthy:
                self.given_up = True
                return
            pause = FIRST_PAUSE if time.monotonic() - begun > STEADY_SECONDS else pause
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            self._report(f"{self.program.name} {how}; starting it again in {pause:.1f} s")
            self._retired.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def retire(self) -> None:
        """From now on the program is not started again."""
        self._retired.set()

    def stop(self) -> None:
        """Asks the program to end, and kills it when it does not."""
        process = self.process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._report(f"{self.program.name} did not stop in {STOP_SECONDS} s and is killed")
                process.kill()
        self.join(STOP_SECONDS)

    def _run_once(self) -> int:
        with subprocess.Popen(
            tied(self.program.arguments, signal.SIGTERM),
            env=dict(self.program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the programs in order
        ) as process:
            self.process = process
            if self._retired.is_set():
                process.terminate()
            reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
            reader.start()
            code = process.wait()
            reader.join(1)  # not for ever: a child of the program may still hold the pipe
        self.process = None
        return code

    def _read(self, output: BinaryIO) -> None:
        # The pipe is closed under this when a child of a dead program still holds its other end.
        with _Log(self._log) as log, contextlib.suppress(ValueError):
            for line in output:
                log.write(line)
                self._note(line)

    def _note(self, line: bytes) -> None:
        """Reports a line that is a warning or worse; what is no JSON is kept as a program's last words."""
        if line.startswith(b"{") and b'"info"' in line:
            return
        text = line.decode(errors="replace").strip()
        try:
            entry = json.loads(text)
            level, event = str(entry["level"]).lower(), str(entry["event"])
        except (ValueError, KeyError, TypeError):
            self.last_words = text or self.last_words
            return
        if level in {"warning", "error", "critical"}:
            self.last_words = event
        # While programs start they miss each other, and warn of it.
        if level in {"error", "critical"} or (level == "warning" and self.was_healthy):
            self._report(f"{self.program.name}: {event}")


class _Log:
    """A log file that begins anew when it has grown too large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def write(self, line: bytes) -> None:
        if self._size > LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._size += self._file.write(line)
