"""Passwords: which are good enough, and Argon2id within a bound on memory and cores."""

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from kernel.errors import OverloadedError
from services.auth.errors import PasswordWeakError

MIN_LENGTH = 15
MIN_OWN_CHARACTERS = 8
MIN_DISTINCT_CHARACTERS = 5
RETRY_SECONDS = 1.0


class Passwords:
    """Hashes passwords with Argon2id, `checks` at once with `memory` KiB each, while at most `queue` wait.

    A call beyond that is refused with OverloadedError: otherwise a hundred sign-ins at once would take 6 GiB.
    Nobody should call it while a transaction is open.
    """

    def __init__(self, *, time_cost: int, memory: int, checks: int, queue: int) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory, parallelism=1)
        self._places = threading.BoundedSemaphore(checks + queue)
        self._running = threading.BoundedSemaphore(checks)
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """A salted hash, with its parameters in it. The password is taken exactly as given."""
        with self._turn():
            return self._hasher.hash(password)

    def match(self, password_hash: str | None, password: str) -> str | None:
        """The hash to keep of a password that matches one: the same, or a new one with today's parameters.

        None where it does not match. A missing hash, for nobody's, takes as long and never matches.
        """
        with self._turn():
            try:
                self._hasher.verify(password_hash or self._nobodys_hash, password)
            except (VerificationError, InvalidHashError):
                return None
            if password_hash is not None and self._hasher.check_needs_rehash(password_hash):
                return self._hasher.hash(password)
        return password_hash

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise OverloadedError("too many password checks at once", retry_after=RETRY_SECONDS)
        try:
            with self._running:
                yield
        finally:
            self._places.release()


def check_strength(password: str, *names: str) -> None:
    """Raises PasswordWeakError for a password that is short or easy to guess; `names` are those of its user.

    What counts beside the length is what remains when names and the commonest words and sequences are taken
    out (NIST SP 800-63B asks for such a list, and for no other rule of composition).
    """
    if len(password) < MIN_LENGTH:
        raise _weak(f"has {len(password)} characters; at least {MIN_LENGTH} are needed")
    text = password.casefold()
    own = text
    for part in sorted({*_context(names), *_common()}, key=len, reverse=True):
        own = own.replace(part, "")
    if len(own) < MIN_OWN_CHARACTERS or len(set(text)) < MIN_DISTINCT_CHARACTERS:
        raise _weak("consists of names, common words or sequences; choose one that others would not try")


def _context(names: tuple[str, ...]) -> Iterator[str]:
    """The words of names and e-mail addresses that a password should not be made of."""
    for name in names:
        yield from (word for word in re.split(r"[^\w]+|_", name.casefold()) if len(word) > 2)  # noqa: PLR2004 - shorter ones occur everywhere


@cache
def _common() -> tuple[str, ...]:
    """The words, sequences and whole passwords of the list beside this module, a line each."""
    lines = Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def _weak(text: str) -> PasswordWeakError:
    return PasswordWeakError(f"the password {text}", fields={"password": text})
