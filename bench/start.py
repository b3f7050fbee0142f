"""How soon the suite is there and gone, a run shows its first line, and any line reaches its reader."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, median
from tests.e2e.test_journey import HARBOURS, MAPPING, events, ok
from tests.postgres import PostgresServer
from tests.running import Running, running

RUNS = 30


def measure() -> Iterator[Figure]:
    """Both on SQLite and on PostgreSQL, through Envoy."""
    with TemporaryDirectory() as folder:
        with running(Path(folder)) as suite:
            yield Figure("up to healthy, SQLite", suite.seconds, "s", limit="10 s")
            yield from _starts(suite, "SQLite")
            begun = time.perf_counter()
        yield Figure("stop to gone, SQLite", time.perf_counter() - begun, "s", limit="3 s")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder) / "postgres", fsync="on", synchronous_commit="on") as server:
            url = server.url(server.create_database())
            with running(Path(folder) / "data", url) as suite:
                yield from _starts(suite, "PostgreSQL")


def _starts(suite: Running, database: str) -> Iterator[Figure]:
    _prepare(suite)
    first, lags = [], []
    for _ in range(RUNS):
        begun = time.perf_counter()
        run = ok(suite.rest.post("/api/v1/jobs/DIM_HARBOUR:run", json={}))["id"]
        seen = None
        with suite.rest.stream("GET", f"/api/v1/runs/{run}/events") as answer:
            for event in events(answer):
                now = dt.datetime.now(dt.UTC)
                if event.get("event") == "line":
                    seen = seen or time.perf_counter() - begun
                    written = dt.datetime.fromisoformat(json.loads(event["data"])["create_time"])
                    lags.append((now - written).total_seconds() * 1000)
        assert seen is not None
        first.append(seen * 1000)
    yield Figure(f"run-now to first line, {database}, median of {RUNS}", median(first), "ms", limit="150 ms")
    yield Figure(f"  the slowest, {database}", max(first), "ms")
    yield Figure(f"line written to line arrived, {database}, median", median(lags), "ms", limit="100 ms")


def _prepare(suite: Running) -> None:
    charts = suite.suite.data / "charts"
    charts.mkdir()
    (charts / "harbours.csv").write_text(HARBOURS)
    for body in (
        {"name": "charts", "files": {"path": "charts"}},
        {"name": "warehouse", "sqlite": {"path": "warehouse.db"}},
    ):
        ok(suite.rest.post("/api/v1/connections", json=body))
    ok(suite.rest.post("/api/v1/mappings", json=MAPPING))
    for verb in ("validate", "activate"):
        ok(suite.rest.post(f"/api/v1/mappings/DIM_HARBOUR:{verb}", json={}))
    ok(suite.rest.post("/api/v1/jobs", json={"reference": "DIM_HARBOUR"}))
