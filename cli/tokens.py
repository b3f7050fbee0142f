"""Where a user's sessions are kept: one file, readable by its owner alone, with an entry for each server."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import typer

from portolan.auth.v1.auth_pb2 import TokenPair

SPARE_SECONDS = 30
"""An access token that is valid for less than this is renewed before it is used."""


class _Entry(TypedDict):
    access_token: str
    expires: float
    refresh_token: str


class Tokens:
    """The tokens of one server, shared by all commands of this user that run at the same time."""

    def __init__(self, server: str, folder: Path | None = None) -> None:
        self._server = server
        self._path = (folder or Path(typer.get_app_dir("portolan"))) / "tokens.json"

    def access(self, refresh: Callable[[str], TokenPair]) -> str | None:
        """A valid access token, renewed by `refresh` when it is about to expire; None when not signed in."""
        entry = self._read().get(self._server)
        if entry is not None and entry["expires"] < time.time() + SPARE_SECONDS:
            with self._locked():
                entry = self._read().get(self._server)  # another command may have renewed it meanwhile
                if entry is not None and entry["expires"] < time.time() + SPARE_SECONDS:
                    entry = self._write(refresh(entry["refresh_token"]))
        return None if entry is None else entry["access_token"]

    def keep(self, pair: TokenPair) -> None:
        """Keeps the tokens of a sign-in."""
        with self._locked():
            self._write(pair)

    def forget(self) -> None:
        """Forgets the tokens of this server."""
        with self._locked():
            entries = self._read()
            if entries.pop(self._server, None) is not None:
                self._replace(entries)

    def _read(self) -> dict[str, _Entry]:
        try:
            entries: dict[str, _Entry] = json.loads(self._path.read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return entries

    def _write(self, pair: TokenPair) -> _Entry:
        entry = _Entry(
            access_token=pair.access_token,
            expires=time.time() + pair.expires_in.ToSeconds(),
            refresh_token=pair.refresh_token,
        )
        self._replace({**self._read(), self._server: entry})
        return entry

    def _replace(self, entries: dict[str, _Entry]) -> None:
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(entries, file)
        fresh.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
