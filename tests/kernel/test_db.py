"""A service's own database, the same on SQLite and PostgreSQL."""

import datetime as dt
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from kernel import db
from kernel.db import Base, Database, Resource, metadata, new_id, now, unless_conflict
from kernel.errors import AlreadyExistsError, NotFoundError, OverloadedError, ServiceUnavailableError
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from tests.servers import Issuer, bearer, connect, refusal, serve


class Model(Base):
    """The base of the test's models."""

    __abstract__ = True
    metadata = metadata()


class Boat(Resource, Model):
    """A resource with a constraint of each sort."""

    __tablename__ = "boats"
    __table_args__ = (
        sa.UniqueConstraint("port", "name"),
        sa.Index(
            "uq_boats_berth",
            "berth",
            unique=True,
            sqlite_where=sa.text("state = 'MOORED'"),
            postgresql_where=sa.text("state = 'MOORED'"),
        ),
        sa.CheckConstraint("length > 0", "length"),
    )

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True, default=new_id)
    port: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    berth: orm.Mapped[int | None]
    state: orm.Mapped[str] = orm.mapped_column(sa.String(20), default="MOORED")
    length: orm.Mapped[int] = orm.mapped_column(default=10)
    launched: orm.Mapped[dt.datetime | None]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url, "boats", pool=8)
    with found.engine.begin() as connection:
        if not found.sqlite:
            connection.execute(sa.schema.CreateSchema("boats"))
        Model.metadata.create_all(connection)
    yield found
    found.close()


def names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(sa.select(Boat.name).order_by(Boat.name)))


def test_a_transaction_is_committed_at_its_end(database: Database) -> None:
    with database.transaction() as session:
        session.add(Boat(port="Genoa", name="Ada"))
        assert names(database) == []
    assert names(database) == ["Ada"]


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def refuse() -> None:
        with database.transaction() as session:
            session.add(Boat(port="Genoa", name="Ada"))
            session.flush()
            raise NotFoundError("no harbour")

    with pytest.raises(NotFoundError):
        refuse()
    assert names(database) == []


def test_rows_stay_readable_behind_their_transaction(database: Database) -> None:
    with database.transaction() as session:
        boat = Boat(port="Genoa", name="Ada")
        session.add(boat)
    with database.read() as session:
        found = session.get_one(Boat, boat.id)
    assert (found.name, found.revision, found.etag) == (boat.name, 1, '"1"')


def test_a_violated_constraint_is_the_refusal_of_its_name(database: Database) -> None:
    with database.transaction() as session:
        session.add(Boat(port="Genoa", name="Ada", berth=1))
    taken, moored = AlreadyExistsError("taken"), AlreadyExistsError("moored")
    refusals = {"uq_boats_port_name": taken, "uq_boats_berth": moored}
    for boat, refused in (
        (Boat(port="Genoa", name="Ada", berth=2), taken),
        (Boat(port="Genoa", name="Eva", berth=1), moored),
    ):
        with (
            pytest.raises(AlreadyExistsError) as caught,
            database.transaction() as session,
            unless_conflict(session, **refusals),
        ):
            session.add(boat)
        assert caught.value is refused
    with database.transaction() as session, unless_conflict(session, **refusals):
        session.add(Boat(port="Genoa", name="Eva", berth=1, state="AT_SEA"))
    assert names(database) == ["Ada", "Eva"]


def test_another_constraint_is_a_fault(database: Database) -> None:
    with (
        pytest.raises(IntegrityError) as caught,
        database.transaction() as session,
        unless_conflict(session, uq_boats_port_name=AlreadyExistsError("taken")),
    ):
        session.add(Boat(port="Genoa", name="Ada", length=0))
    assert db.refusal(caught.value) is None


@pytest.mark.parametrize("hours", [0, 5, -11])
def test_times_come_back_in_utc(database: Database, hours: int) -> None:
    zone = dt.timezone(dt.timedelta(hours=hours))
    launched = dt.datetime(2026, 1, 1, 2, 3, 4, 567891, zone)
    with database.transaction() as session:
        session.add(Boat(port="Genoa", name="Ada", launched=launched))
    with database.read() as session:
        found = session.scalars(sa.select(Boat)).one()
        assert session.scalars(sa.select(Boat).where(Boat.launched == launched)).one() is found
        assert session.scalars(sa.select(Boat).where(Boat.launched > launched)).all() == []
    assert found.launched == launched
    assert found.launched is not None
    assert found.launched.tzinfo == found.create_time.tzinfo == dt.UTC


def test_a_naive_time_is_refused(database: Database) -> None:
    naive = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused
    with pytest.raises(StatementError, match="naive time"), database.transaction() as session:
        session.add(Boat(port="Genoa", name="Ada", launched=naive))


def test_a_change_is_stamped(database: Database) -> None:
    with database.transaction() as session:
        boat = Boat(port="Genoa", name="Ada")
        session.add(boat)
    before = boat.update_time
    with database.transaction() as session:
        session.get_one(Boat, boat.id).length = 12
    with database.read() as session:
        found = session.get_one(Boat, boat.id)
    assert before < found.update_time <= now()
    assert found.create_time == boat.create_time


def test_reading_changes_nothing(database: Database) -> None:
    try:
        with database.read() as session:
            session.add(Boat(port="Genoa", name="Ada"))
            session.flush()
    except DBAPIError as error:
        assert db.refusal(error) is None
    assert names(database) == []


def test_reading_sees_one_state(database: Database) -> None:
    with database.read() as session:
        query = sa.select(sa.func.count()).select_from(Boat)
        assert session.scalar(query) == 0
        with database.transaction() as other:
            other.add(Boat(port="Genoa", name="Ada"))
        assert session.scalar(query) == 0
    assert names(database) == ["Ada"]


def test_writers_at_once_lose_nothing(database: Database) -> None:
    with database.transaction() as session:
        session.add(Boat(id="boat", port="Genoa", name="Ada", length=1))

    def lengthen(_: int) -> None:
        with database.transaction() as session:
            boat = session.scalars(sa.select(Boat).with_for_update()).one()
            boat.length += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lengthen, range(100)))
    with database.read() as session:
        assert session.get_one(Boat, "boat").length == 101


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.transaction() as session:
        session.add(Boat(port="Genoa", name="Ada"))
        session.flush()
        reader = threading.Thread(target=names, args=(database,))
        reader.start()
        reader.join(5)
        assert not reader.is_alive()


def lose(database: Database) -> None:
    """Goes on after another session has ended that of the transaction."""
    with database.transaction() as session:
        mine = session.scalar(sa.select(sa.func.pg_backend_pid()))
        with database.engine.connect() as other:
            other.execute(sa.select(sa.func.pg_terminate_backend(mine)))
        session.execute(sa.select(1))


class TestOutOfReach:
    """What a caller hears when the database is lost or has too much to do."""

    def test_too_many_at_once(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(db, "LOCK_SECONDS", 1)
        database = Database(database_url, "public", pool=1)
        with database.read(), pytest.raises(sa.exc.TimeoutError) as caught, database.read():
            pass
        assert isinstance(db.refusal(caught.value), OverloadedError)
        database.close()

    def test_a_lock_that_is_not_given(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        with database.transaction() as session:
            session.add(Boat(id="boat", port="Genoa", name="Ada"))
        monkeypatch.setattr(db, "LOCK_SECONDS", 1)
        impatient = Database(database.url.render_as_string(hide_password=False), "boats", pool=1)
        with database.transaction() as session:
            session.scalars(sa.select(Boat).with_for_update()).one()
            with pytest.raises(DBAPIError) as caught, impatient.transaction() as other:
                other.scalars(sa.select(Boat).with_for_update()).one()
        refused = db.refusal(caught.value)
        assert isinstance(refused, OverloadedError)
        assert refused.retry_after == 1
        impatient.close()

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}", "boats")
        with pytest.raises(DBAPIError) as caught, database.read():
            pass
        assert isinstance(db.refusal(caught.value), ServiceUnavailableError)
        database.close()

    def test_a_server_that_is_gone(self) -> None:
        database = Database("postgresql://nobody:x@127.0.0.1:9/none", "boats")
        with pytest.raises(DBAPIError) as caught, database.read():
            pass
        assert isinstance(db.refusal(caught.value), ServiceUnavailableError)
        database.close()

    def test_a_connection_that_is_lost_on_the_way(self, postgres_url: str) -> None:
        database = Database(postgres_url, "public", pool=2)
        with pytest.raises(DBAPIError) as caught:
            lose(database)
        assert isinstance(db.refusal(caught.value), ServiceUnavailableError)
        with database.read() as session:
            assert session.scalar(sa.select(1)) == 1
        database.close()

    def test_a_fault_of_ours_is_none(self, database: Database) -> None:
        with pytest.raises(DBAPIError) as caught, database.read() as session:
            session.execute(sa.text("SELECT * FROM no_such_table"))
        assert db.refusal(caught.value) is None
        assert db.refusal(ValueError("no")) is None


class Doomed(auth_pb2_grpc.AuthServiceServicer):
    """Loses its database's connection in the midst of a transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def GetMe(self, request: auth_pb2.GetMeRequest, context: grpc.ServicerContext) -> auth_pb2.Me:
        lose(self.database)
        return auth_pb2.Me()


async def test_a_lost_database_is_no_fault_of_ours(postgres_url: str, issuer: Issuer) -> None:
    database = Database(postgres_url, "public", pool=2)
    async with serve(issuer, Doomed(database)) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        refused = await refusal(stub.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(issuer.token())))
    assert refused.reason == "SERVICE_UNAVAILABLE"
    assert refused.retry_after == 1
    database.close()


def test_ids_are_ordered_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
