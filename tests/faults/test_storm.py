"""Processes are killed at random moments of a running load: nothing is lost, and nothing runs twice."""

import contextlib
import csv
import json
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.e2e.test_journey import events, ok
from tests.running import Running, running

ROWS = 20_000
CHANGED = 200
KILLS = 30
PATIENCE = 60.0
ROUNDS_A_TOKEN = 5
SEED = 1519
VICTIMS = (["worker"], ["jobs"], ["gateway"], ["worker", "jobs"], None)
"""Whom a round kills; None is everyone at once."""

LOGIC = "SELECT code, name FROM harbours"
COLUMN = {"logic": LOGIC, "key_columns": ["code"]}
MAPPING = {
    "reference": "DIM_STORM",
    "source_connection": "charts",
    "target_connection": "warehouse",
    "target_table": "dim_storm",
    "table_type": "TABLE_TYPE_DIMENSION",
    "source_system": "Charts",
    "columns": [
        COLUMN
        | {"name": "code", "data_type": "Integer", "key": True, "key_sequence": 1, "value_column": "code"},
        COLUMN
        | {"name": "name", "data_type": "String50", "value_column": "name"}
        | {"scd_type": "SCD_TYPE_NEW_VERSION"},
    ],
}


def patiently(call: Callable[[], httpx.Response]) -> Any:
    """What a client that retries gets in the end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = call()
            if answer.status_code not in {429, 499, 502, 503, 504}:
                return ok(answer)
        assert time.monotonic() < deadline, "the suite does not come back"
        time.sleep(0.1)


def sign_in(suite: Running) -> None:
    """A new token, as soon as the suite gives one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            suite.sign_in()
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "nobody can sign in"
            time.sleep(0.1)
        else:
            return


def follow(suite: Running, run: str) -> tuple[list[int], dict[str, Any]]:
    """The sequence numbers that a reader sees who resumes after each break, and the run's end."""
    seen: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        last = {"last-event-id": str(seen[-1])} if seen else {}
        with (
            contextlib.suppress(httpx.TransportError),
            suite.rest.stream("GET", f"/api/v1/runs/{run}/events", headers=last, timeout=20) as answer,
        ):
            for event in events(answer) if answer.is_success else ():
                if event.get("event") == "line":
                    seen.append(int(event["id"]))
                elif event.get("event") == "end":
                    return seen, json.loads(event["data"])
        time.sleep(0.05)
    message = f"run {run} does not end"
    raise AssertionError(message)


def kill(suite: Running, victims: list[str] | None) -> None:
    for name, pid in suite.supervisor.pids().items():
        if victims is None or name in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_runs_twice(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lost worker's runs are taken over sooner than in earnest, so that more kills fit into a test.
    monkeypatch.setenv("PORTOLAN_LEASE_SECONDS", "2")
    monkeypatch.setenv("PORTOLAN_HEARTBEAT_SECONDS", "0.5")
    dice = random.Random(SEED)  # noqa: S311 - a storm that can be repeated
    on_sqlite = database_url.startswith("sqlite")
    names = dict.fromkeys(range(ROWS), "v0")
    versions = ROWS
    acknowledged: set[str] = set()
    with running(tmp_path, None if on_sqlite else database_url) as suite:
        target = sa.create_engine(
            f"sqlite:///{tmp_path}/warehouse.db"
            if on_sqlite
            else database_url.replace("postgresql:", "postgresql+psycopg:")
        )
        _prepare(suite, tmp_path, database_url)
        for round_number in range(KILLS):
            for code in dice.sample(range(ROWS), CHANGED) if round_number else ():
                names[code] = f"v{round_number}"
                versions += 1
            _write(tmp_path, names)
            if round_number % ROUNDS_A_TOKEN == 0:
                sign_in(suite)
            name = f"round-{round_number}"
            timer = threading.Timer(dice.uniform(0, 1.2), kill, (suite, dice.choice(VICTIMS)))
            timer.start()
            with contextlib.suppress(httpx.TransportError):
                made = suite.rest.post(
                    "/api/v1/connections", json={"name": name, "files": {"path": "charts"}}
                )
                if made.is_success:
                    acknowledged.add(name)
            order = {"request_id": str(uuid.UUID(int=dice.getrandbits(128), version=4))}
            run = patiently(partial(suite.rest.post, "/api/v1/jobs/DIM_STORM:run", json=order))
            seen, end = follow(suite, run["id"])
            timer.join()
            assert end["state"] == "STATE_SUCCEEDED", end
            assert seen == list(range(1, len(seen) + 1))
            with target.connect() as connection:
                counts = connection.execute(
                    sa.text(
                        "SELECT count(*), sum(CASE current_flag WHEN 'Y' THEN 1 ELSE 0 END) FROM dim_storm"
                    )
                ).one()
            assert tuple(counts) == (versions, ROWS), (round_number, end)
        with target.connect() as connection:
            found = connection.execute(
                sa.text("SELECT code, name FROM dim_storm WHERE current_flag = 'Y'")
            ).all()
        assert dict(found) == names
        patiently(lambda: suite.anyone.get("/api/health"))
        kept = patiently(lambda: suite.rest.get("/api/v1/connections", params={"page_size": 1000}))
        assert acknowledged <= {connection["name"] for connection in kept["connections"]}
        runs = patiently(lambda: suite.rest.get("/api/v1/runs", params={"page_size": 1000}))["runs"]
        assert [run["state"] for run in runs] == ["STATE_SUCCEEDED"] * KILLS
        target.dispose()


def _write(folder: Path, names: dict[int, str]) -> None:
    """Replaces the source as a whole, so that no reader sees half of it."""
    draft = folder / "harbours.draft"
    with draft.open("w", newline="") as file:
        csv.writer(file).writerows([("code", "name"), *names.items()])
    draft.replace(folder / "charts" / "harbours.csv")


def _prepare(suite: Running, folder: Path, database_url: str) -> None:
    (folder / "charts").mkdir()
    _write(folder, {0: "v0"})
    warehouse: dict[str, Any] = {"sqlite": {"path": "warehouse.db"}}
    schema = "main"
    if not database_url.startswith("sqlite"):
        url = sa.make_url(database_url)
        schema = "public"
        warehouse = {
            "postgresql": {
                "host": url.host,
                "port": url.port,
                "database": url.database,
                "user": url.username,
                "password": url.password,
                "ssl_mode": "SSL_MODE_DISABLE",
            }
        }
    ok(suite.rest.post("/api/v1/connections", json={"name": "charts", "files": {"path": "charts"}}))
    ok(suite.rest.post("/api/v1/connections", json={"name": "warehouse", **warehouse}))
    ok(suite.rest.post("/api/v1/mappings", json=MAPPING | {"target_schema": schema}))
    assert ok(suite.rest.post("/api/v1/mappings/DIM_STORM:validate", json={}))["faults"] == []
    ok(suite.rest.post("/api/v1/mappings/DIM_STORM:activate", json={}))
    ok(suite.rest.post("/api/v1/jobs", json={"reference": "DIM_STORM"}))
