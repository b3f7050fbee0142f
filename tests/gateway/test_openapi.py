"""The OpenAPI document says what the gateway does."""

from typing import Any

import httpx
import openapi_spec_validator
import pytest

from gateway.api import load
from gateway.openapi import document

METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture(scope="module")
def described() -> Any:
    """The document of the real API."""
    return document(load())


def operations(described: Any) -> dict[str, Any]:
    """The operations by their ids."""
    return {each["operationId"]: each for path in described["paths"].values() for each in path.values()}


def test_it_is_valid(described: Any) -> None:
    openapi_spec_validator.validate(described)


def test_every_rpc_that_is_served_is_there_once_and_no_other(described: Any) -> None:
    expected = {
        f"{rpc.descriptor.containing_service.name}_{rpc.descriptor.name}"
        for rpc in load().exposed
        if rpc.bindings
    }
    assert set(operations(described)) == {*expected, "Health"}
    assert not [name for name in operations(described) if "Lease" in name and "List" not in name]


def test_everything_has_words(described: Any) -> None:
    for name, operation in operations(described).items():
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (name, parameter)


def test_it_is_served_to_everybody(anonymous: httpx.Client, described: Any) -> None:
    answer = anonymous.get("/api/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json() == described


def test_limits_are_those_of_the_protos(described: Any) -> None:
    mapping = described["components"]["schemas"]["mapper.v1.Mapping"]
    assert mapping["properties"]["reference"]["pattern"] == "^[A-Z][A-Z0-9_]{0,99}$"
    assert mapping["properties"]["columns"]["maxItems"] == 1000
    assert mapping["properties"]["batch_rows"]["maximum"] == 1_000_000
    assert mapping["properties"]["version"]["readOnly"]
    assert mapping["required"] == ["reference"]
    settings = described["components"]["schemas"]["connections.v1.PostgresqlSettings"]
    assert settings["properties"]["password"]["writeOnly"]
    assert settings["required"] == ["host", "database", "user"]
    assert "required" not in described["components"]["schemas"]["connections.v1.PostgresqlSettings.Partial"]


def test_paths_queries_and_bodies_share_out_the_request(described: Any) -> None:
    update = operations(described)["MappingService_UpdateMapping"]
    assert {each["name"]: each["in"] for each in update["parameters"]} == {
        "reference": "path",
        "update_mask": "query",
    }
    schema = update["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/mapper.v1.Mapping.Partial"}
    run = operations(described)["JobService_RunJob"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(run["properties"]) == {"parameters", "request_id"}
    assert run["additionalProperties"] is False


def test_rights_are_those_of_the_protos(described: Any) -> None:
    found = operations(described)
    assert found["AuthService_Login"]["security"] == []
    assert found["JobService_RunJob"]["security"] == [{"bearer": ["jobs.run"]}]
    assert found["RunService_GetRun"]["security"] == [{"bearer": ["runs.read"]}, {"cookie": ["runs.read"]}]
    assert "`jobs.run`" in found["JobService_RunJob"]["description"]


def test_every_reason_is_told(described: Any) -> None:
    reason = described["components"]["schemas"]["ErrorInfo"]["properties"]["reason"]["anyOf"]
    told = {each["const"]: each["description"] for each in reason if "const" in each}
    assert {"TOKEN_MISSING", "RUN_ACTIVE", "MAPPING_EXISTS", "HOST_REFUSED"} <= set(told)
    assert all(told.values())


def test_files_are_binary_and_not_json(described: Any) -> None:
    found = operations(described)
    assert list(found["MappingService_ImportMappings"]["requestBody"]["content"]) == ["*/*"]
    assert list(found["MappingService_ExportMappings"]["responses"]["200"]["content"]) == ["*/*"]
