"""Sources and targets of loads, and what happens in a load."""

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa

from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from portolan.mapper.v1 import plan_pb2
from services.jobs.loading.engine import Load
from services.jobs.loading.events import Counts, Done, Event, Line, Rejected, RejectedRow
from services.jobs.loading.tasks import Task
from services.mapper.compiler import compile_plan
from services.mapper.definition import Column, Definition, ScdType, TableType

PEOPLE = "id bigint, name varchar(40), amount numeric(12,3), born date, seen timestamp"
CURRENT = "SELECT id, name, amount, born, seen FROM dim_person WHERE current_flag = 'Y' ORDER BY id"
HISTORY = "SELECT id, name, amount, born, seen, current_flag FROM dim_person ORDER BY id, skey"

E = TypeVar("E", bound=Event)


@dataclass
class Place:
    """A folder or database."""

    kind: DatabaseKind
    where: str
    """A path, or a URL."""

    @property
    def endpoint(self) -> Endpoint:
        """What opens it."""
        if self.kind is not DatabaseKind.POSTGRESQL:
            return Endpoint(kind=self.kind, path=self.where)
        url = sa.make_url(self.where)
        return Endpoint(
            kind=self.kind,
            host=str(url.host),
            address=str(url.host),
            port=url.port or 0,
            database=str(url.database),
            user=str(url.username),
            password=str(url.password),
            ssl_mode=SslMode.DISABLE,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query returns."""
        with closing(self.connect()) as connection:
            return [tuple(row) for row in connection.execute(query).fetchall()]

    def do(self, *statements: str) -> None:
        """Runs statements."""
        with closing(self.connect()) as connection:
            for statement in statements:
                connection.execute(statement)

    def people(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replaces the people of a source."""
        if self.kind is DatabaseKind.FILES:
            lines = ["id,name,amount,born,seen"]
            lines += [",".join("" if value is None else str(value) for value in row) for row in rows]
            (Path(self.where) / "people.csv").write_text("\n".join(lines) + "\n")
            return
        mark = "?" if self.kind is DatabaseKind.SQLITE else "%s"
        with closing(self.connect()) as connection:
            connection.execute("BEGIN")
            connection.execute("DROP TABLE IF EXISTS people")
            connection.execute(f"CREATE TABLE people ({PEOPLE})")
            insert = f"INSERT INTO people VALUES ({', '.join([mark] * 5)})"
            connection.cursor().executemany(insert, list(rows))
            connection.execute("COMMIT")

    def connect(self) -> Any:
        """A session, for any thread, without a transaction around its statements."""
        if self.kind is DatabaseKind.SQLITE:
            return sqlite3.connect(self.where, isolation_level=None, check_same_thread=False)
        return psycopg.connect(self.where, autocommit=True, options="-c timezone=UTC")


def person(logic: str = "SELECT * FROM people", *, name_length: int = 10, here: bool = False) -> Definition:
    """A dimension of people; `here` when it is read from where it is loaded."""

    def column(name: str, data_type: str, scd_type: ScdType = ScdType.UNSPECIFIED) -> Column:
        return Column(
            name=name,
            data_type=data_type,
            key=name == "id",
            key_sequence=int(name == "id"),
            logic=logic,
            key_columns=("id",),
            value_column=name,
            scd_type=scd_type,
        )

    return Definition(
        reference="DIM_PERSON",
        source_connection="warehouse" if here else "office",
        target_connection="warehouse",
        target_schema="public",
        target_table="dim_person",
        table_type=TableType.DIMENSION,
        batch_rows=500,
        columns=(
            column("id", "BigInteger"),
            column("name", f"String{name_length}", ScdType.NEW_VERSION),
            column("amount", "Decimal(8,2)", ScdType.OVERWRITE),
            column("born", "Date", ScdType.NEW_VERSION),
            column("seen", "Timestamp", ScdType.OVERWRITE),
        ),
    )


def plan(definition: Definition, source: Place, target: Place) -> plan_pb2.LoadPlan:
    """The plan of a definition."""
    return compile_plan(definition, 1, source=source.kind, target=target.kind, dimensions={})


def run_of(target: Place, name: str = "run-1") -> str:
    """The id of a run, which no other test's run on the same server has."""
    return f"{name}-{zlib.crc32(target.where.encode()):08x}"


def task(plan: plan_pb2.LoadPlan, source: Place, target: Place, fence: int = 1, run_id: str = "") -> Task:
    """An attempt; the run's name is made of the fence if there is none."""
    return Task(
        run_id=run_of(target, run_id or f"run-{fence}"),
        fence=fence,
        plan=plan,
        source=source.endpoint,
        target=target.endpoint,
    )


@dataclass
class Story:
    """What a load told."""

    events: list[Event] = field(default_factory=list)

    def of(self, type_: type[E]) -> list[E]:
        """The events of a type."""
        return [event for event in self.events if isinstance(event, type_)]

    @property
    def counts(self) -> Counts:
        """The counts at its end."""
        (done,) = self.of(Done)
        return done.counts

    @property
    def rejected(self) -> list[RejectedRow]:
        """All rejected rows."""
        return [row for event in self.of(Rejected) for row in event.rows]

    @property
    def log(self) -> str:
        """Its lines."""
        return "\n".join(line.message for line in self.of(Line))


def load(task: Task, ready: Callable[[], None] = lambda: None) -> Story:
    """Loads in this process."""
    story = Story()
    Load(task, story.events.append, ready).run()
    return story
