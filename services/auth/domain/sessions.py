"""Sessions: how they begin, go on by refresh tokens that work once, and end."""

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.auth import Principal, permissions_of
from kernel.db import now
from services.auth.domain.keys import ACCESS_LIFETIME
from services.auth.errors import RefreshTokenRefusedError
from services.auth.models import Installation, Organization, RefreshToken, Revocation, User, UserSession

REFRESH_LIFETIME = dt.timedelta(days=7)
SESSION_LIFETIME = dt.timedelta(days=30)
RETRY_GRACE = dt.timedelta(seconds=10)
CLOCK_SKEW = dt.timedelta(seconds=30)
TOKEN_BYTES = 32


@dataclass(frozen=True)
class Grant:
    """What a client gets after a sign-in or a refresh: an access token can be signed for it.

    Without a refresh token it is void: its session has just been ended.
    """

    user: User
    session: UserSession
    refresh_token: str | None


@dataclass(frozen=True)
class Me:
    """A user in one of their sessions; the fields are those of `portolan.auth.v1.Me`."""

    user_id: str
    user_name: str
    email: str
    organization_id: str
    organization_name: str
    roles: list[str]
    permissions: list[str]
    session_id: str
    login_time: dt.datetime


def users(organization_id: str) -> sa.Select[User]:
    """The users of an organization."""
    return sa.select(User).where(User.organization_id == organization_id)


def sessions(organization_id: str) -> sa.Select[UserSession]:
    """The sessions of an organization's users."""
    return sa.select(UserSession).where(UserSession.organization_id == organization_id)


def me(session: orm.Session, caller: Principal) -> Me:
    """The caller, as the database knows them now."""
    user = session.scalars(users(caller.organization_id).where(User.id == caller.user_id)).one()
    own = sessions(caller.organization_id).where(UserSession.id == caller.session_id)
    current = session.scalars(own).one()
    return Me(
        user_id=user.id,
        user_name=user.user_name,
        email=user.email,
        organization_id=user.organization_id,
        organization_name=session.get_one(Organization, user.organization_id).name,
        roles=user.roles,
        permissions=permissions_of(user.roles),
        session_id=current.id,
        login_time=current.create_time,
    )


def begin(session: orm.Session, user: User) -> Grant:
    """A new session of a user who has proved who they are; what is over for long is forgotten."""
    moment = now()
    _forget(session, user, moment)
    begun = UserSession(
        organization_id=user.organization_id, user_id=user.id, expire_time=moment + SESSION_LIFETIME
    )
    session.add(begun)
    session.flush()
    return Grant(user, begun, _issue(session, begun, moment)[0])


def go_on(session: orm.Session, refresh_token: str) -> Grant:
    """The next grant of a session, for its refresh token.

    A token works once. The same one again within ten seconds is a retry: it replaces its successor, unless
    that was used, so a session has one token that works, however many calls come at once. Otherwise somebody
    else may hold it (RFC 9700, 4.14): the session is ended, and the grant is void, for the caller to commit
    and to refuse. An unknown or expired token, or one of an ended session, is refused.
    """
    digest = _hash(refresh_token)
    query = sa.select(UserSession).join(RefreshToken, RefreshToken.session_id == UserSession.id)
    current = session.scalar(query.where(RefreshToken.hash == digest).with_for_update(of=UserSession))
    # Read under the lock: another refresh that was waited for has used it, and lies in the past.
    token, moment = session.get(RefreshToken, digest), now()
    if current is None or token is None:
        raise _refused()
    user = session.get_one(User, current.user_id)
    if current.end_time or user.state != "ACTIVE" or moment >= min(token.expire_time, current.expire_time):
        raise _refused()
    if token.used_time is not None and not _retried(session, token, moment):
        end(session, current, "REFRESH_TOKEN_REUSED")
        return Grant(user, current, None)
    token.used_time = token.used_time or moment
    refresh_token, token.successor_hash = _issue(session, current, moment)
    return Grant(user, current, refresh_token)


def end(session: orm.Session, ended: UserSession, reason: str) -> None:
    """Ends a session and tells all services; one that has ended stays as it is."""
    session.refresh(ended, with_for_update=True)
    if ended.end_time is not None:
        return
    moment = now()
    ended.end_time, ended.end_reason = moment, reason
    session.execute(sa.delete(Revocation).where(Revocation.expire_time < moment))
    # The row's lock is held until the commit, so cursors become visible in their order.
    installation = session.scalars(sa.select(Installation).with_for_update()).one()
    installation.last_cursor += 1
    session.add(
        Revocation(
            cursor=installation.last_cursor,
            session_id=ended.id,
            expire_time=moment + ACCESS_LIFETIME + CLOCK_SKEW,
        )
    )


def ended_after(session: orm.Session, cursor: int) -> Sequence[Revocation]:
    """The sessions that were ended after a cursor, in the order in which they ended.

    A cursor that this database has not given out yet is of another one, so it counts as 0.
    """
    if cursor > session.scalars(sa.select(Installation.last_cursor)).one():
        cursor = 0
    return session.scalars(
        sa.select(Revocation).where(Revocation.cursor > cursor).order_by(Revocation.cursor)
    ).all()


def _forget(session: orm.Session, user: User, moment: dt.datetime) -> None:
    """Deletes all tokens that have expired, and the user's sessions that ended or expired long ago.

    Until its last token has expired, a session that has ended is kept: the reuse of a token is told by it.
    """
    session.execute(sa.delete(RefreshToken).where(RefreshToken.expire_time < moment))
    long_ago = moment - REFRESH_LIFETIME
    over = sa.or_(UserSession.end_time < long_ago, UserSession.expire_time < long_ago)
    session.execute(sa.delete(UserSession).where(UserSession.user_id == user.id, over))


def _retried(session: orm.Session, token: RefreshToken, moment: dt.datetime) -> bool:
    """Whether a used token comes again in time; its unused successor is then taken back."""
    successor = session.get(RefreshToken, token.successor_hash)
    if token.used_time is None or moment - token.used_time > RETRY_GRACE:
        return False
    if successor is None or successor.used_time is not None:
        return False
    session.delete(successor)
    return True


def _issue(session: orm.Session, current: UserSession, moment: dt.datetime) -> tuple[str, bytes]:
    """A new refresh token and its hash, which alone is kept."""
    refresh_token = secrets.token_urlsafe(TOKEN_BYTES)
    expire_time = min(moment + REFRESH_LIFETIME, current.expire_time)
    token = RefreshToken(hash=_hash(refresh_token), session_id=current.id, expire_time=expire_time)
    session.add(token)
    return refresh_token, token.hash


def _hash(refresh_token: str) -> bytes:
    """A plain digest: the token is 256 random bits, so nothing is to be guessed."""
    return hashlib.sha256(refresh_token.encode()).digest()


def _refused() -> RefreshTokenRefusedError:
    return RefreshTokenRefusedError("the refresh token is unknown or expired, or its session has ended")
