"""A dimension on PostgreSQL: a million rows into five million, against the best statements by hand."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from bench.figures import Figure, median
from kernel.databases.endpoints import DatabaseKind
from portolan.mapper.v1 import plan_pb2
from services.mapper.compiler import compile_plan
from services.mapper.definition import Column, Definition, ScdType, TableType
from tests.postgres import PostgresServer

ROWS, INCOMING, NEW = 5_000_000, 1_000_000, 20_000
ROUNDS = 3
LOGIC = "SELECT id, name, city, score, grade, born FROM people"


def measure() -> Iterator[Figure]:
    """2.5 % change in a column of type 2, 2.5 % in one of type 1, 2 % are new, the rest is the same."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        settings = {
            "shared_buffers": "2GB",
            "work_mem": "256MB",
            "max_wal_size": "8GB",
            "temp_buffers": "256MB",
        }
        with (
            PostgresServer(Path(folder) / "postgres", **settings) as server,
            psycopg.connect(server.url()) as connection,
        ):
            plan = _plan()
            _fill(connection, plan)
            ours, by_hand = [], []
            for _ in range(ROUNDS):
                ours.append(_timed(connection, [plan.merge.create_delta, *plan.merge.apply], plan))
                by_hand.append(_timed(connection, BY_HAND, plan))
            peer = median(by_hand)
            yield Figure("statements by hand, median of 3", peer, "s")
            ratio = median(ours) / peer
            yield Figure("Portolan's statements, median of 3", median(ours), "s", "by hand", ratio, "1.3 ×")


def _plan() -> plan_pb2.LoadPlan:
    def column(name: str, data_type: str, scd_type: ScdType = ScdType.UNSPECIFIED, *, key: int = 0) -> Column:
        return Column(
            name=name,
            data_type=data_type,
            key=bool(key),
            key_sequence=key,
            logic=LOGIC,
            key_columns=("id",),
            value_column=name,
            scd_type=scd_type,
        )

    definition = Definition(
        reference="DIM_PERSON",
        source_connection="source",
        target_connection="warehouse",
        target_schema="public",
        target_table="dim_person",
        table_type=TableType.DIMENSION,
        columns=(
            column("id", "BigInteger", key=1),
            column("name", "String50", ScdType.NEW_VERSION),
            column("city", "String30", ScdType.NEW_VERSION),
            column("score", "Decimal(12,2)", ScdType.OVERWRITE),
            column("grade", "Integer", ScdType.OVERWRITE),
            column("born", "Date", ScdType.NEW_VERSION),
        ),
    )
    kind = DatabaseKind.POSTGRESQL
    return compile_plan(definition, 1, source=kind, target=kind, dimensions={})


PERSON = """SELECT g, 'name ' || g, 'city ' || g % 1000, (g % 100000)::numeric(12,2) / 7, g % 13,
    DATE '1950-01-01' + (g % 20000)::int FROM generate_series({first}, {last}) g"""

CHANGES = (
    "UPDATE portolan_stage SET city = city || '!' WHERE id % 40 = 0",
    "UPDATE portolan_stage SET score = score + 1 WHERE id % 40 = 1",
)

BY_HAND = (
    """CREATE TEMPORARY TABLE portolan_delta AS
    SELECT s.ctid AS staged, t.skey AS found,
        CASE WHEN t.id IS NULL THEN 'I'
             WHEN s.name IS DISTINCT FROM t.name OR s.city IS DISTINCT FROM t.city
                 OR s.born IS DISTINCT FROM t.born THEN 'V' ELSE 'U' END AS action
    FROM portolan_stage s LEFT JOIN dim_person t ON t.id = s.id AND t.current_flag = 'Y'
    WHERE t.id IS NULL OR s.name IS DISTINCT FROM t.name OR s.city IS DISTINCT FROM t.city
        OR s.born IS DISTINCT FROM t.born
        OR s.score IS DISTINCT FROM t.score OR s.grade IS DISTINCT FROM t.grade""",
    """UPDATE dim_person t SET current_flag = 'N', to_time = l.load_time, update_time = l.load_time
    FROM portolan_delta d, portolan_load l WHERE t.skey = d.found AND d.action = 'V'""",
    """UPDATE dim_person t SET score = s.score, grade = s.grade, update_time = l.load_time
    FROM portolan_delta d, portolan_stage s, portolan_load l
    WHERE t.skey = d.found AND s.ctid = d.staged AND d.action = 'U'""",
    """INSERT INTO dim_person
        (id, name, city, score, grade, born, current_flag, from_time, to_time, create_time, update_time)
    SELECT s.id, s.name, s.city, s.score, s.grade, s.born,
        'Y', l.load_time, '2999-12-31', l.load_time, l.load_time
    FROM portolan_delta d JOIN portolan_stage s ON s.ctid = d.staged, portolan_load l
    WHERE d.action <> 'U'""",
)


def _fill(connection: psycopg.Connection, plan: plan_pb2.LoadPlan) -> None:
    """The target with five million current rows, and the stage with what comes in."""
    run = connection.execute
    run(plan.target.create_table.encode())
    for statement in plan.target.create_indexes:
        run(statement.encode())
    people = PERSON.format(first=1, last=ROWS)
    run(
        f"""INSERT INTO dim_person
            (id, name, city, score, grade, born, current_flag, from_time, to_time, create_time, update_time)
        SELECT p.*, 'Y', '2020-01-01', '2999-12-31', '2020-01-01', '2020-01-01' FROM ({people}) p""".encode()
    )
    run(plan.stage.create.encode())
    run(b"CREATE TEMPORARY TABLE portolan_load AS SELECT TIMESTAMP '2026-11-24 12:00' AS load_time")
    incoming = PERSON.format(first=ROWS - INCOMING + NEW + 1, last=ROWS + NEW)
    run(f"INSERT INTO portolan_stage (id, name, city, score, grade, born) {incoming}".encode())
    for statement in CHANGES:
        run(statement.encode())
    connection.commit()
    connection.autocommit = True
    run(b"VACUUM ANALYZE dim_person")
    run(b"ANALYZE portolan_stage")
    run(b"CHECKPOINT")
    connection.autocommit = False


def _timed(connection: psycopg.Connection, statements: Sequence[str], plan: plan_pb2.LoadPlan) -> float:
    """The seconds that a merge takes; it is checked, and then undone."""
    connection.execute(b"SET LOCAL synchronous_commit = on")
    begun = time.perf_counter()
    for statement in statements:
        connection.execute(statement.encode())
    took = time.perf_counter() - begun
    counts: dict[str, int] = dict(connection.execute(plan.merge.count_delta.encode()).fetchall())
    assert counts["I"] == NEW
    (current,) = connection.execute(
        b"SELECT count(*) FROM dim_person WHERE current_flag = 'Y'"
    ).fetchone() or (0,)
    (everything,) = connection.execute(b"SELECT count(*) FROM dim_person").fetchone() or (0,)
    assert (current, everything) == (ROWS + NEW, ROWS + NEW + counts["V"])
    connection.rollback()
    return took
