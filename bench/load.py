"""PostgreSQL to PostgreSQL: a million TPC-H orders into a FACT table, against COPY and two peers."""

import asyncio
import datetime as dt
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.figures import Figure, median
from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from services.jobs.loading.events import Counts, Done, Failed, Ready
from services.jobs.loading.preparing import prepare
from services.jobs.loading.process import Nursery
from services.jobs.loading.tasks import Task
from services.mapper.compiler import compile_plan
from services.mapper.definition import Column, Definition, TableType
from tests.postgres import PostgresServer

ROWS = 1_000_000
ROUNDS = 3
MEGABYTE = 1024
LOGIC = """SELECT o_orderkey, o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority, o_clerk,
    o_shippriority, o_comment FROM orders"""
COLUMNS = {
    "o_orderkey": "BigInteger",
    "o_custkey": "BigInteger",
    "o_orderstatus": "String1",
    "o_totalprice": "Decimal(15,2)",
    "o_orderdate": "Date",
    "o_orderpriority": "String15",
    "o_clerk": "String15",
    "o_shippriority": "Integer",
    "o_comment": "String79",
}
ORDERS = """CREATE TABLE orders (o_orderkey bigint PRIMARY KEY, o_custkey bigint, o_orderstatus varchar(1),
    o_totalprice numeric(15,2), o_orderdate date, o_orderpriority varchar(15), o_clerk varchar(15),
    o_shippriority integer, o_comment varchar(79))"""
BLOCK = 1 << 18


def measure() -> Iterator[Figure]:
    """The whole load, from the task to the commit; limit and peers copy the same rows in the same run."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        settings = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "shared_buffers": "2GB",
        }
        with PostgresServer(Path(folder) / "postgres", max_wal_size="8GB", **settings) as server:
            source, target = server.create_database(), server.create_database()
            _orders(Path(folder), server.url(source))
            pair = (server.url(source), server.url(target))
            limits, firsts, seconds, peaks = [], [], [], []
            for number in range(ROUNDS):
                _checkpoint(pair[1])
                limits.append(_timed(lambda: _copy(*pair)))
                _checkpoint(pair[1])
                first, again = _loads(server, source, target, number)
                firsts.append(first[0])
                seconds.append(again[0])
                peaks += [first[1], again[1]]
            limit = median(limits)
            yield Figure("COPY binary | COPY into a heap, the limit", limit, "s")
            name = "a FACT mapping by Portolan, key and indexes included"
            yield Figure(name, median(firsts), "s", "the limit", median(firsts) / limit, "2.5 ×")
            name = "  the same rows again, by stage and merge"
            yield Figure(name, median(seconds), "s", "the limit", median(seconds) / limit)
            yield Figure("  peak memory of its load processes", max(peaks), "MB", limit="200 MB")
            for peer, call in (("pandas read_sql | to_sql, 100,000 rows a chunk", _pandas), ("dlt", _dlt)):
                took = _timed(partial(call, *pair))
                yield Figure(f"{peer}, a heap without keys", took, "s", "the limit", took / limit)


def _orders(folder: Path, url: str) -> None:
    """The first million orders of TPC-H at scale 1."""
    tool = Path(sys.executable).parent / "tpchgen-cli"
    arguments = ("csv", "--scale-factor", "1", "--tables", "orders", "--output-dir", str(folder))
    subprocess.run([tool, *arguments], check=True, capture_output=True)
    with psycopg.connect(url) as connection:
        connection.execute(ORDERS.encode())
        with (
            (folder / "orders.csv").open("rb") as file,
            connection.cursor().copy(b"COPY orders FROM STDIN (FORMAT csv, HEADER true)") as copy,
        ):
            for _, line in zip(range(ROWS + 1), file, strict=False):
                copy.write(line)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"VACUUM ANALYZE orders")


def _checkpoint(url: str) -> None:
    """Begins each measurement with the same debts: none."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"DROP TABLE IF EXISTS heap, fct_order, portolan_ledger")
        connection.execute(b"CHECKPOINT")


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _copy(source: str, target: str) -> None:
    with psycopg.connect(source) as reader, psycopg.connect(target) as writer:
        writer.execute(ORDERS.replace("TABLE orders", "TABLE heap").replace(" PRIMARY KEY", "").encode())
        out = reader.cursor().copy(f"COPY ({LOGIC}) TO STDOUT (FORMAT binary)".encode())
        into = writer.cursor().copy(b"COPY heap FROM STDIN (FORMAT binary)")
        with out as reading, into as writing:
            block = bytearray()
            for part in reading:
                block += part
                if len(block) >= BLOCK:
                    writing.write(bytes(block))
                    block.clear()
            writing.write(bytes(block))


def _loads(server: PostgresServer, source: str, target: str, number: int) -> list[tuple[float, float]]:
    """Of a first load and one of the same rows: seconds from task to commit, and the peak of memory in MB.

    The first goes into an empty table; the second compares and finds nothing to change.
    """

    def endpoint(database: str) -> Endpoint:
        return Endpoint(
            kind=DatabaseKind.POSTGRESQL,
            host=server.host,
            address=server.host,
            port=server.port,
            database=database,
            user=server.user,
            password=server.password,
            ssl_mode=SslMode.DISABLE,
        )

    columns = tuple(
        Column(
            name=name,
            data_type=data_type,
            key=name == "o_orderkey",
            key_sequence=int(name == "o_orderkey"),
            logic=LOGIC,
            key_columns=("o_orderkey",),
            value_column=name,
        )
        for name, data_type in COLUMNS.items()
    )
    definition = Definition(
        reference="FCT_ORDER",
        source_connection="source",
        target_connection="target",
        target_schema="public",
        target_table="fct_order",
        table_type=TableType.FACT,
        columns=columns,
    )
    kind = DatabaseKind.POSTGRESQL
    plan = compile_plan(definition, 1, source=kind, target=kind, dimensions={})
    prepare(endpoint(target), plan)
    loads = []
    expected = (Counts(source=ROWS, inserted=ROWS), Counts(source=ROWS, unchanged=ROWS))
    for fence, counts in enumerate(expected, 1 + 2 * number):
        task = Task(
            run_id=f"bench-{fence}", fence=fence, plan=plan, source=endpoint(source), target=endpoint(target)
        )
        loads.append(asyncio.run(_run(task, counts)))
    with psycopg.connect(server.url(target)) as connection:
        counted = connection.execute(b"SELECT count(*), count(DISTINCT o_orderkey) FROM fct_order").fetchone()
    assert counted == (ROWS, ROWS), counted
    return loads


async def _run(task: Task, counts: Counts) -> tuple[float, float]:
    nursery = Nursery("warning")
    await (await nursery.take()).kill()  # as in a worker, the process that forks has begun
    begun, peak = time.perf_counter(), 0.0
    process = await nursery.take()
    await process.start(task)
    async for event in process.events():
        if isinstance(event, Ready):
            peak = _peak(process.pid)
            await process.confirm()
        assert not isinstance(event, Failed), event
        if isinstance(event, Done):
            assert event.counts == counts, event
    took = time.perf_counter() - begun
    await nursery.close()
    return took, peak


def _peak(pid: int) -> float:
    """The most memory that a process ever had resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / MEGABYTE


def _pandas(source: str, target: str) -> None:
    import pandas as pd

    reader = sa.create_engine(source.replace("postgresql:", "postgresql+psycopg:"))
    writer = sa.create_engine(target.replace("postgresql:", "postgresql+psycopg:"))
    with reader.connect().execution_options(stream_results=True) as connection:
        for chunk in pd.read_sql(sa.text(LOGIC), connection, chunksize=100_000):
            chunk.to_sql("by_pandas", writer, if_exists="append", index=False)


def _dlt(source: str, target: str) -> None:
    import dlt
    from dlt.sources.sql_database import sql_table

    started = dt.datetime.now(dt.UTC)
    with TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            f"bench_{started:%H%M%S}",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(target),
            dataset_name="by_dlt",
        )
        table: Any = sql_table(credentials=source, table="orders", backend="pyarrow")
        pipeline.run(table, write_disposition="replace")
