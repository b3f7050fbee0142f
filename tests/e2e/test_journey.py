"""From an empty installation to a loaded warehouse, by REST alone; then what REST and gRPC have in common."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import json_format

from portolan.connections.v1 import connections_pb2, connections_pb2_grpc
from portolan.jobs.v1 import jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc
from tests.running import Running

HARBOURS = "code,name,depth\nLIS,Lisboa,12.5\nGOA,Genova,15.0\nVCE,Venezia,\n"
MAPPING = {
    "reference": "DIM_HARBOUR",
    "description": "Harbours",
    "source_connection": "charts",
    "target_connection": "warehouse",
    "target_schema": "main",
    "target_table": "DIM_HARBOUR",
    "table_type": "TABLE_TYPE_DIMENSION",
    "frequency": "FREQUENCY_DAILY",
    "source_system": "Charts",
    "columns": [
        {
            "name": "HARBOUR_CODE",
            "data_type": "String3",
            "key": True,
            "key_sequence": 1,
            "logic": "SELECT code, name, depth FROM harbours",
            "key_columns": ["code"],
            "value_column": "code",
            "execution_sequence": 1,
        },
        {
            "name": "HARBOUR_NAME",
            "data_type": "String50",
            "logic": "SELECT code, name, depth FROM harbours",
            "key_columns": ["code"],
            "value_column": "name",
            "execution_sequence": 2,
            "scd_type": "SCD_TYPE_NEW_VERSION",
        },
        {
            "name": "DEPTH",
            "data_type": "Decimal(5,2)",
            "logic": "SELECT code, name, depth FROM harbours",
            "key_columns": ["code"],
            "value_column": "depth",
            "execution_sequence": 3,
            "scd_type": "SCD_TYPE_OVERWRITE",
        },
    ],
}


def events(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """The server-sent events of an answer."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and event:
            yield event
            event = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def follow(suite: Running, run: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A run's log lines and its end, by server-sent events."""
    lines: list[dict[str, Any]] = []
    with suite.rest.stream("GET", f"/api/v1/runs/{run}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for event in events(answer):
            if event.get("event") == "end":
                return lines, json.loads(event["data"])
            if event.get("event") == "line":
                lines.append(json.loads(event["data"]))
    message = "the stream ended without an end"
    raise AssertionError(message)


def ok(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="session")
def loaded(suite: Running) -> Running:
    """The suite with one dimension, loaded once."""
    folder = suite.suite.data / "charts"
    folder.mkdir()
    (folder / "harbours.csv").write_text(HARBOURS)
    rest = suite.rest
    ok(rest.post("/api/v1/connections", json={"name": "charts", "files": {"path": "charts"}}))
    ok(rest.post("/api/v1/connections", json={"name": "warehouse", "sqlite": {"path": "warehouse.db"}}))
    ok(rest.post("/api/v1/mappings", json=MAPPING))
    assert ok(rest.post("/api/v1/mappings/DIM_HARBOUR:validate", json={}))["faults"] == []
    ok(rest.post("/api/v1/mappings/DIM_HARBOUR:activate", json={}))
    ok(rest.post("/api/v1/jobs", json={"reference": "DIM_HARBOUR"}))
    run = ok(rest.post("/api/v1/jobs/DIM_HARBOUR:run", json={}))
    lines, end = follow(suite, run["id"])
    assert end["state"] == "STATE_SUCCEEDED", (end, lines)
    assert [int(line["sequence"]) for line in lines] == list(range(1, len(lines) + 1))
    return suite


def rows(suite: Running, query: str) -> list[Any]:
    with sqlite3.connect(suite.suite.data / "warehouse.db") as warehouse:
        return warehouse.execute(query).fetchall()


@pytest.mark.timed
def test_the_suite_is_healthy_in_under_ten_seconds(suite: Running) -> None:
    assert suite.seconds < 10


def test_the_warehouse_holds_the_source(loaded: Running) -> None:
    query = "SELECT HARBOUR_CODE, HARBOUR_NAME, DEPTH, CURRENT_FLAG FROM DIM_HARBOUR ORDER BY 1"
    found = [
        (code, name, float(depth) if depth else None, flag) for code, name, depth, flag in rows(loaded, query)
    ]
    assert found == [
        ("GOA", "Genova", 15.0, "Y"),
        ("LIS", "Lisboa", 12.5, "Y"),
        ("VCE", "Venezia", None, "Y"),
    ]


def test_a_second_run_opens_versions_overwrites_and_leaves_the_rest(loaded: Running) -> None:
    changed = HARBOURS.replace("Lisboa", "Lisbon").replace("15.0", "15.5") + "NAP,Napoli,9\n,Nowhere,1\n"
    (loaded.suite.data / "charts" / "harbours.csv").write_text(changed)
    run = ok(loaded.rest.post("/api/v1/jobs/DIM_HARBOUR:run", json={}))
    _, end = follow(loaded, run["id"])
    counts = {name: int(value) for name, value in end["rows"].items()}
    assert counts == {
        "source": 5, "inserted": 1, "updated": 1, "closed": 1, "unchanged": 1, "duplicate": 0, "rejected": 1,
    }  # fmt: skip
    rejected = ok(loaded.rest.get(f"/api/v1/runs/{run['id']}/rejectedRows"))["rejected_rows"]
    assert [(row["column"], row["reason"]) for row in rejected] == [("HARBOUR_CODE", "NULL_KEY")]
    versions = rows(
        loaded, "SELECT HARBOUR_NAME, CURRENT_FLAG FROM DIM_HARBOUR WHERE HARBOUR_CODE='LIS' ORDER BY 2"
    )
    assert versions == [("Lisboa", "N"), ("Lisbon", "Y")]


def test_a_dropped_reader_of_events_goes_on_where_it_stopped(loaded: Running) -> None:
    run = ok(loaded.rest.get("/api/v1/runs", params={"page_size": 1}))["runs"][0]["id"]
    lines, _ = follow(loaded, run)
    with loaded.rest.stream("GET", f"/api/v1/runs/{run}/events", headers={"last-event-id": "2"}) as answer:
        first = next(event for event in events(answer) if event.get("event") == "line")
    assert first["id"] == "3"
    assert json.loads(first["data"]) == lines[2]


def test_rest_and_grpc_answer_alike(loaded: Running) -> None:
    connections = connections_pb2_grpc.ConnectionServiceStub(loaded.channel)
    mappings = mappings_pb2_grpc.MappingServiceStub(loaded.channel)
    jobs = jobs_pb2_grpc.JobServiceStub(loaded.channel)
    runs = runs_pb2_grpc.RunServiceStub(loaded.channel)
    calls: list[tuple[str, Any, Any]] = [
        ("/api/v1/connections", connections.ListConnections, connections_pb2.ListConnectionsRequest()),
        (
            "/api/v1/connections/charts",
            connections.GetConnection,
            connections_pb2.GetConnectionRequest(name="charts"),
        ),
        (
            "/api/v1/connections/charts/tables",
            connections.ListTables,
            connections_pb2.ListTablesRequest(connection="charts"),
        ),
        (
            "/api/v1/mappings?search=harb",
            mappings.ListMappings,
            mappings_pb2.ListMappingsRequest(search="harb"),
        ),
        (
            "/api/v1/mappings/DIM_HARBOUR",
            mappings.GetMapping,
            mappings_pb2.GetMappingRequest(reference="DIM_HARBOUR"),
        ),
        (
            "/api/v1/mappings/DIM_HARBOUR/plan",
            mappings.CompileMapping,
            mappings_pb2.CompileMappingRequest(reference="DIM_HARBOUR"),
        ),
        ("/api/v1/jobs/DIM_HARBOUR", jobs.GetJob, jobs_pb2.GetJobRequest(reference="DIM_HARBOUR")),
        ("/api/v1/jobs", jobs.ListJobs, jobs_pb2.ListJobsRequest()),
        ("/api/v1/runs?page_size=1", runs.ListRuns, runs_pb2.ListRunsRequest(page_size=1)),
    ]
    for path, method, request in calls:
        answer = method(request, metadata=loaded.metadata, timeout=10)
        by_rest = json_format.Parse(loaded.rest.get(path).raise_for_status().text, type(answer)())
        assert by_rest == answer, path


def test_a_refusal_is_the_same_by_rest_and_grpc(loaded: Running) -> None:
    answer = loaded.rest.get("/api/v1/jobs/NOTHING")
    assert answer.status_code == 404
    info = next(detail for detail in answer.json()["details"] if detail["@type"].endswith("ErrorInfo"))
    assert (info["reason"], info["domain"]) == ("JOB_NOT_FOUND", "portolan.jobs.v1")


def test_what_is_in_use_is_not_deleted_and_its_users_are_named(loaded: Running) -> None:
    for path, reason in (
        ("connections/charts", "CONNECTION_IN_USE"),
        ("mappings/DIM_HARBOUR", "MAPPING_IN_USE"),
    ):
        answer = loaded.rest.delete(f"/api/v1/{path}")
        assert answer.status_code == 400
        info = next(detail for detail in answer.json()["details"] if detail["@type"].endswith("ErrorInfo"))
        assert info["reason"] == reason
        assert loaded.rest.get(f"/api/v1/{path}").is_success
    users = loaded.rest.get("/api/v1/jobs", params={"connection": "charts"}).raise_for_status().json()["jobs"]
    assert [job["reference"] for job in users] == ["DIM_HARBOUR"]


def test_what_is_written_is_shown_as_its_rules_say(loaded: Running) -> None:
    answer = loaded.rest.post("/api/v1/connections", json={"name": "UPPER", "files": {"path": "charts"}})
    assert answer.status_code == 400
    bad = next(detail for detail in answer.json()["details"] if detail["@type"].endswith("BadRequest"))
    assert bad["field_violations"][0]["field"] == "connection.name"


def test_an_unknown_body_field_is_refused_and_nothing_is_written(loaded: Running) -> None:
    body = {"name": "typo", "files": {"path": "charts"}, "descripton": "a typing error"}
    answer = loaded.rest.post("/api/v1/connections", json=body)
    assert answer.status_code == 400
    assert "descripton" in answer.text
    assert loaded.rest.get("/api/v1/connections/typo").status_code == 404


def test_a_password_never_comes_back(loaded: Running) -> None:
    secret = "a-canary-that-must-not-sing"
    body = {
        "name": "remote",
        "postgresql": {"host": "203.0.113.7", "database": "d", "user": "u", "password": secret},
    }
    created = loaded.rest.post("/api/v1/connections", json=body)
    assert ok(created)["has_password"] is True
    pages = [created.text, loaded.rest.get("/api/v1/connections").text]
    logs = [path.read_text() for path in Path(loaded.suite.logs).glob("*.log")]
    states = [path.read_bytes().decode("latin-1") for path in loaded.suite.data.glob("*.db*")]
    assert not [text for text in (*pages, *logs, *states) if secret in text]


def test_the_openapi_document_is_served(loaded: Running) -> None:
    document = loaded.anyone.get("/api/openapi.json").raise_for_status().json()
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/jobs/{reference}:run" in document["paths"]


def test_health_names_each_service(loaded: Running) -> None:
    health = loaded.anyone.get("/api/health").raise_for_status().json()
    assert health["services"] == dict.fromkeys(("auth", "connections", "mapper", "jobs"), "SERVING")
