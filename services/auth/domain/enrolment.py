"""The first start, and the way to the first administrator: a code that only the machine's owner can read."""

import datetime as dt
import hashlib
import hmac
import secrets

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.crypto import KeyRing
from kernel.db import now
from services.auth.domain import keys, sessions
from services.auth.errors import EnrolmentClosedError, EnrolmentCodeRefusedError
from services.auth.models import Installation, Organization, SigningKey, User

CODE_BYTES = 20
CODE_LIFETIME = dt.timedelta(minutes=60)
ORGANIZATION_NAME = "Default"


def prepare(session: orm.Session, ring: KeyRing) -> str | None:
    """Makes what must exist before the first user. Returns a new enrolment code; None when there is a user.

    Earlier codes are worth nothing from then on. Several processes may start at once.
    """
    installation = _locked(session)
    if session.scalar(sa.select(Organization).limit(1)) is None:
        session.add(Organization(name=ORGANIZATION_NAME))
    if session.scalar(sa.select(SigningKey).limit(1)) is None:
        keys.create(session, ring, now())
    if _has_user(session):
        return None
    code = secrets.token_urlsafe(CODE_BYTES)
    installation.enrolment_code_hash = _hash(code)
    installation.enrolment_expire_time = now() + CODE_LIFETIME
    return code


def check(session: orm.Session, code: str) -> None:
    """Raises EnrolmentClosedError or EnrolmentCodeRefusedError, or returns when the code is good."""
    _check(session, session.scalars(sa.select(Installation)).one(), code)


def redeem(
    session: orm.Session, code: str, *, user_name: str, email: str, password_hash: str
) -> sessions.Grant:
    """The first administrator, signed in. Of several at once, one succeeds."""
    installation = _locked(session)
    _check(session, installation, code)
    installation.enrolment_code_hash = installation.enrolment_expire_time = None
    organization = session.scalars(sa.select(Organization)).one()
    user = User(
        organization_id=organization.id,
        user_name=user_name.lower(),
        email=email.lower(),
        password_hash=password_hash,
        state="ACTIVE",
        roles=["admin"],
    )
    session.add(user)
    session.flush()
    return sessions.begin(session, user)


def _check(session: orm.Session, installation: Installation, code: str) -> None:
    if _has_user(session):
        raise EnrolmentClosedError("the first administrator exists already; sign in")
    expected, expire_time = installation.enrolment_code_hash, installation.enrolment_expire_time
    if expected is None or expire_time is None or not hmac.compare_digest(expected, _hash(code)):
        raise EnrolmentCodeRefusedError("the enrolment code is wrong")
    if expire_time <= now():
        raise EnrolmentCodeRefusedError(
            "the enrolment code is too old; restart the auth service for a new one"
        )


def _locked(session: orm.Session) -> Installation:
    return session.scalars(sa.select(Installation).with_for_update()).one()


def _has_user(session: orm.Session) -> bool:
    return session.scalar(sa.select(User.id).limit(1)) is not None


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.strip().encode()).digest()
