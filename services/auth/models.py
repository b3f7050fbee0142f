"""The tables: organizations, users, sessions and their tokens, keys, and counters of failed sign-ins."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Base, Resource, metadata, new_id, now


class Model(Base):
    """The base of this service's models."""

    __abstract__ = True
    metadata = metadata()


class Installation(Model):
    """What there is one of: the way in before there is a user, and the end of the list of revocations.

    Its row is made by the first migration, so it can be locked where nothing else exists yet.
    """

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    enrolment_code_hash: Mapped[bytes | None]
    enrolment_expire_time: Mapped[dt.datetime | None]
    last_cursor: Mapped[int] = mapped_column(default=0)


class Organization(Model):
    """A tenant: everything that users make belongs to one."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    create_time: Mapped[dt.datetime] = mapped_column(default=now)


class User(Resource, Model):
    """Somebody who may sign in. Both names are kept in lower case, so letter case makes no second user."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(sa.ForeignKey("organizations.id"), index=True)
    user_name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    state: Mapped[str] = mapped_column(sa.String(16), default="ACTIVE")
    roles: Mapped[list[str]]

    __table_args__ = (
        sa.CheckConstraint("user_name = lower(user_name)", "user_name_lower"),
        sa.CheckConstraint("email = lower(email)", "email_lower"),
        sa.CheckConstraint("state IN ('ACTIVE', 'DISABLED')", "state"),
    )


class UserSession(Model):
    """A session: from a sign-in until it is ended, or 30 days later."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(sa.ForeignKey("organizations.id"))
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id"), index=True)
    create_time: Mapped[dt.datetime] = mapped_column(default=now)
    expire_time: Mapped[dt.datetime]
    end_time: Mapped[dt.datetime | None]
    end_reason: Mapped[str | None] = mapped_column(sa.String(32))


class RefreshToken(Model):
    """A refresh token by its SHA-256. A used one is kept until it expires, so that its reuse is noticed."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(sa.ForeignKey("sessions.id"), index=True)
    expire_time: Mapped[dt.datetime] = mapped_column(index=True)
    used_time: Mapped[dt.datetime | None]
    successor_hash: Mapped[bytes | None]


class SigningKey(Model):
    """A key that access tokens are signed with; `kid` is its thumbprint (RFC 7638)."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    sealed_private_key: Mapped[bytes]
    public_jwk: Mapped[dict[str, str]]
    create_time: Mapped[dt.datetime]


class Revocation(Model):
    """An ended session, until the last of its access tokens has expired."""

    __tablename__ = "revocations"

    cursor: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    session_id: Mapped[str]
    expire_time: Mapped[dt.datetime] = mapped_column(index=True)


class LoginCounter(Model):
    """Failed sign-ins to an account from one source; those from all stand in the row of source ``""``."""

    __tablename__ = "login_counters"

    account: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    retry_time: Mapped[dt.datetime | None]
    known: Mapped[bool] = mapped_column(default=False)
    expire_time: Mapped[dt.datetime] = mapped_column(index=True)
