"""A service's own database: models, transactions, and named constraints as named refusals.

The same models run on SQLite (one file a service, WAL) and PostgreSQL (one schema a service); what only one
of them can do stays in this module and in `kernel.changes`.
"""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import sqlalchemy as sa
import uuid6
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kernel.errors import OverloadedError, RefusedError, ServiceUnavailableError

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
LOCK_SECONDS = 30
BUSY = ("40", "53", "55P03", "SQLITE_BUSY", "SQLITE_LOCKED")
"""How the codes begin of errors that pass: deadlocks, no resources left, a lock that is not given."""
GONE = ("08", "57P", "SQLITE_CANTOPEN", "SQLITE_IOERR")
"""How the codes begin of errors of a database that cannot be reached, or is being shut down."""


def new_id() -> str:
    """A UUIDv7 as text: unique, and ordered by time."""
    return str(uuid6.uuid7())


def now() -> dt.datetime:
    """The present moment, aware and in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """An aware time, kept in UTC to the microsecond; a naive one is refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """What the driver gets."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"naive time {value}"
            raise ValueError(message)
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """What the model gets. SQLite keeps no zone, so what it returns is in UTC by our own rule."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(orm.DeclarativeBase):
    """The base of one service's models; each service subclasses it once, with its own `MetaData`."""

    __abstract__ = True
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        dt.datetime: UtcDateTime(),
        int: sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        dict[str, Any]: sa.JSON(),
        dict[str, str]: sa.JSON(),
        list[str]: sa.JSON(),
    }


def metadata() -> sa.MetaData:
    """The metadata of a service's models, with names for all constraints."""
    return sa.MetaData(naming_convention=NAMES)


class Resource:
    """The columns of a resource that users change: its times and its revision."""

    create_time: orm.Mapped[dt.datetime] = orm.mapped_column(default=now)
    update_time: orm.Mapped[dt.datetime] = orm.mapped_column(default=now, onupdate=now)
    revision: orm.Mapped[int] = orm.mapped_column(default=1)

    @property
    def etag(self) -> str:
        """The revision, as clients see it."""
        return f'"{self.revision}"'


class Database:
    """A service's own database."""

    def __init__(self, url: str, schema: str, *, pool: int = 16) -> None:
        self.url = sa.make_url(url)
        self.schema = schema
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url, pool) if self.sqlite else _postgresql(self.url, schema, pool)
        self._aside = _sqlite(self.url, 1) if self.sqlite else _postgresql(self.url, schema, 1)
        self._sessions = orm.sessionmaker(self.engine, expire_on_commit=False, autoflush=False)

    @contextmanager
    def transaction(self) -> Iterator[orm.Session]:
        """A session whose changes are committed when the block ends, or not at all when it raises."""
        with self._sessions() as session, session.begin():
            if self.sqlite:
                session.execute(sa.text("BEGIN IMMEDIATE"))
            yield session
            session.flush()
            if not self.sqlite:
                # Sent with the commit: it wakes whoever waits for a change in this schema.
                session.execute(sa.select(sa.func.pg_notify(self.channel, "")))

    @contextmanager
    def read(self) -> Iterator[orm.Session]:
        """A session that sees one state of the database and changes nothing."""
        snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with self._sessions() as session, session.begin():
            session.execute(sa.text("BEGIN" if self.sqlite else snapshot))
            yield session
            session.expunge_all()  # what was read stays readable after the block, as after a transaction
            session.rollback()

    @property
    def channel(self) -> str:
        """The PostgreSQL channel that tells of changes in this schema."""
        return f"portolan_{self.schema}"

    def ping(self) -> None:
        """Returns when the database answers, over a connection that no transaction can hold."""
        with self._aside.connect() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()
        self._aside.dispose()


def refusal(error: Exception) -> RefusedError | None:
    """What a caller hears when the database has too much to do, or is not there; None for a fault of ours."""
    if isinstance(error, PoolTimeoutError):
        return OverloadedError("the database has too much to do; try again in a second", retry_after=1)
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlite_errorname", None)
    if code and code.startswith(BUSY):
        return OverloadedError("the database has too much to do; try again in a second", retry_after=1)
    # libpq gives no code when there is nobody to talk to.
    silent = code is None and isinstance(error.orig, psycopg2.OperationalError | psycopg2.InterfaceError)
    if silent or error.connection_invalidated or (code and code.startswith(GONE)):
        return ServiceUnavailableError("the service's database does not answer; try again", retry_after=1)
    return None


@contextmanager
def unless_conflict(session: orm.Session, **refusals: RefusedError) -> Iterator[None]:
    """Flushes at the end, and turns the violation of a named constraint into the refusal of its name.

    A unique constraint or partial unique index on columns `a` and `b` of table `t` is named `uq_t_a_b`. A
    violation of any other constraint is a fault of ours and passes through.
    """
    try:
        yield
        session.flush()
    except IntegrityError as error:
        name = _violated(error)
        for constraint, refusal in refusals.items():
            if name == constraint:
                raise refusal from error
        raise


def _violated(error: IntegrityError) -> str:
    """The name of the violated constraint. SQLite names the columns only, or the index of a partial one."""
    diagnostics = getattr(error.orig, "diag", None)
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    text = str(error.orig)
    if index := re.search(r"index '(\w+)'", text):
        return index[1]
    if columns := re.fullmatch(r"UNIQUE constraint failed: (.+)", text):
        table = columns[1].split(".")[0]
        names = [part.split(".")[1] for part in columns[1].split(", ")]
        return f"uq_{table}_{'_'.join(names)}"
    return text


def _sqlite(url: sa.URL, pool: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.QueuePool,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=LOCK_SECONDS,
        connect_args={"timeout": LOCK_SECONDS, "check_same_thread": False, "isolation_level": None},
    )

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine


def _postgresql(url: sa.URL, schema: str, pool: int) -> sa.Engine:
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg2"),
        pool_size=pool,
        max_overflow=0,
        pool_timeout=LOCK_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "options": f"-c search_path={schema} -c timezone=UTC -c lock_timeout={LOCK_SECONDS}s",
            "application_name": f"portolan {schema}",
        },
    )
