"""Signing in by password, and the counters that slow down guessing without locking anybody out.

Failures are counted for an account from one source: after the third, each next attempt waits twice as long.
All sources together get a hundred failures an hour; beyond that only those sources are served from which the
account has signed in before, so its owner does not notice who else is trying (NIST SP 800-63B, 5.2.2).
"""

import contextlib
import datetime as dt
import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from kernel.db import now
from services.auth.domain import sessions
from services.auth.errors import LoginThrottledError
from services.auth.models import LoginCounter, User

FREE_FAILURES = 3
MAX_DELAY = dt.timedelta(seconds=300)
MAX_ACCOUNT_FAILURES = 100
ACCOUNT_WINDOW = dt.timedelta(hours=1)
SOURCE_WINDOW = dt.timedelta(days=1)
KNOWN_FOR = dt.timedelta(days=30)
ALL_SOURCES = ""


@dataclass(frozen=True)
class Attempt:
    """Somebody who wants to sign in; `password_hash` is None where there is no such active user."""

    account: str
    source: str
    user_id: str | None
    password_hash: str | None


def attempt(session: orm.Session, name: str, source: str) -> Attempt:
    """An attempt to sign in by user name or e-mail address, or LoginThrottledError while it must wait."""
    name = name.strip().lower()
    user = session.scalar(sa.select(User).where(sa.or_(User.user_name == name, User.email == name)))
    # Unknown names are counted too, by their digest: people type passwords into the wrong field.
    account = user.id if user else hashlib.sha256(name.encode()).hexdigest()
    counters = {
        counter.source: counter
        for counter in session.scalars(
            _counters(account).where(LoginCounter.source.in_((source, ALL_SOURCES)))
        )
    }
    _check(counters.get(ALL_SOURCES), counters.get(source))
    if user is None or user.state != "ACTIVE":
        return Attempt(account, source, None, None)
    return Attempt(account, source, user.id, user.password_hash)


def settle(session: orm.Session, attempted: Attempt, proof: str | None) -> sessions.Grant | None:
    """A new session for a proof, which is the hash to keep of a password that matched.

    Without one None, for the caller to commit and to refuse; likewise when the user has changed meanwhile.
    Attempts at one account are settled one after another, and what was guessed beyond the limit meanwhile is
    not told: many guesses at once learn no more than one after another.
    """
    session.execute(sa.delete(LoginCounter).where(LoginCounter.expire_time < now()))
    every = _locked(session, attempted.account, ALL_SOURCES)
    here = _locked(session, attempted.account, attempted.source)
    _check(every, here)
    moment = now()
    unchanged = sa.select(User).where(User.id == attempted.user_id, User.state == "ACTIVE")
    unchanged = unchanged.where(User.password_hash == attempted.password_hash)
    if proof and (user := session.scalar(unchanged.with_for_update())):
        user.password_hash = proof
        here.failures, here.retry_time, here.known, here.expire_time = 0, None, True, moment + KNOWN_FOR
        return sessions.begin(session, user)
    every.failures += 1
    here.failures += 1
    here.retry_time = moment + _delay(here.failures)
    here.expire_time = max(here.expire_time, moment + SOURCE_WINDOW)
    return None


def _counters(account: str) -> sa.Select[LoginCounter]:
    return sa.select(LoginCounter).where(LoginCounter.account == account)


def _locked(session: orm.Session, account: str, source: str) -> LoginCounter:
    """The counter, which nobody else changes until the commit; a new one where there is none."""
    query = _counters(account).where(LoginCounter.source == source).with_for_update()
    if (found := session.scalar(query)) is not None:
        return found
    expire_time = now() + (ACCOUNT_WINDOW if source == ALL_SOURCES else SOURCE_WINDOW)
    # Somebody else may make it at the same moment: then theirs counts, and is waited for.
    with contextlib.suppress(IntegrityError), session.begin_nested():
        session.add(LoginCounter(account=account, source=source, expire_time=expire_time))
    return session.scalars(query).one()


def _check(every: LoginCounter | None, here: LoginCounter | None) -> None:
    """Raises LoginThrottledError while an attempt must wait."""
    moment = now()
    retry_time = here.retry_time if here else None
    if every and every.failures >= MAX_ACCOUNT_FAILURES and not (here and here.known):
        retry_time = max(retry_time or moment, every.expire_time)
    if retry_time and retry_time > moment:
        retry_after = (retry_time - moment).total_seconds()
        raise LoginThrottledError("too many failed attempts; try again later", retry_after=retry_after)


def _delay(failures: int) -> dt.timedelta:
    """How long the next attempt waits after so many failures in a row: 0, 0, 0, 1, 2, 4 … 300 seconds."""
    if failures <= FREE_FAILURES:
        return dt.timedelta(0)
    return min(MAX_DELAY, dt.timedelta(seconds=2 ** min(failures - FREE_FAILURES - 1, 16)))
