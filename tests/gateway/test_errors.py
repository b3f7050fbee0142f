"""Every refusal, whoever makes it, is a `google.rpc.Status` in JSON, with the headers of every answer."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Gateway, free_port, running
from tests.gateway.fakes import REFUSALS

HTTP = {
    "InvalidError": 400,
    "UnauthenticatedError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "AlreadyExistsError": 409,
    "PreconditionError": 400,
    "ConflictError": 409,
    "ExhaustedError": 429,
    "DeadlineError": 504,
    "UnavailableError": 503,
}
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def status_of(answer: httpx.Response, http: int, reason: str = "REQUEST_REFUSED") -> Any:
    """The status that an answer holds, after a look at all that refusals have in common."""
    assert answer.status_code == http, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    status = answer.json()
    assert set(status) == {"code", "message", "details"}
    info = status["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["reason"] == reason
    assert isinstance(info["metadata"], dict)
    return status


@pytest.mark.parametrize("name", REFUSALS)
def test_a_services_refusal_keeps_its_code_message_and_details(client: httpx.Client, name: str) -> None:
    status = status_of(client.get(f"/api/v1/connections/{name}"), HTTP[name], "")
    assert status["code"] == REFUSALS[name].code
    assert status["message"] == f"refused “{name}”"
    info, bad_request = status["details"]
    assert info["domain"] == "portolan.connections.v1"
    assert info["metadata"] == {"cause": "test"}
    assert bad_request["field_violations"][0]["field"] == "name"


def test_a_broken_rule_names_its_field(client: httpx.Client) -> None:
    answer = client.get("/api/v1/mappings?page_size=1001")
    bad_request = status_of(answer, 400, "FIELD_INVALID")["details"][1]
    assert bad_request["field_violations"][0]["field"] == "page_size"


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/api", "/api/v1/nope", "/api/v1/jobs/", "/api/v1/jobs/a/run"]
)
def test_a_path_that_nothing_serves_is_not_found(client: httpx.Client, path: str) -> None:
    assert status_of(client.get(path), 404)["code"] == 5


def test_a_wrong_method_is_told_the_right_ones(client: httpx.Client) -> None:
    answer = client.put("/api/v1/jobs/A", json={})
    status_of(answer, 405)
    assert answer.headers["allow"] == "DELETE, GET"


def test_a_grpc_path_does_not_take_json(client: httpx.Client) -> None:
    status_of(client.post("/portolan.jobs.v1.JobService/GetJob", json={"reference": "A"}), 404)


def test_a_body_above_the_limit_is_too_large(client: httpx.Client, gateway: Gateway) -> None:
    status_of(client.post("/api/v1/mappings", content=b" " * (gateway.settings.max_body + 1)), 413)


def test_a_body_below_the_limit_arrives_whole(client: httpx.Client) -> None:
    logic = "x" * 32_000
    columns = [{"name": f"C{index}", "logic": logic} for index in range(100)]
    answer = client.post("/api/v1/mappings", json={"reference": "A", "columns": columns})
    assert answer.status_code == 200, answer.text
    assert answer.json()["columns"][99]["logic"] == logic


def test_headers_above_the_limit_are_too_large(client: httpx.Client) -> None:
    status_of_early(client.get("/api/v1/runs/1", headers={"x-large": "x" * 9_000}), 431)


def test_a_header_with_an_underscore_is_refused(client: httpx.Client) -> None:
    status_of_early(client.get("/api/v1/runs/1", headers={"x_under": "1"}), 400)


def test_a_wrong_value_is_named_by_its_field(client: httpx.Client) -> None:
    assert "page_size" in status_of(client.get("/api/v1/mappings?page_size=many"), 400)["message"]
    answer = client.post("/api/v1/mappings", json={"reference": "A", "batch_rows": "many"})
    assert "batch_rows" in status_of(answer, 400)["message"]


def test_what_is_not_http_gets_a_bare_400(gateway: Gateway) -> None:
    host, _, port = gateway.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 400")


async def test_a_service_that_is_down_is_unavailable(tmp_path: Path) -> None:
    async with (
        running(tmp_path, jobs_address=f"127.0.0.1:{free_port()}") as found,
        found.async_client() as client,
    ):
        answer = await client.get("/api/v1/runs/1")
        assert status_of(answer, 503, "SERVICE_UNAVAILABLE")["code"] == 14
        assert (await client.get("/api/v1/connections/a")).status_code == 200


async def test_a_call_that_takes_too_long_is_cut_off_and_the_service_knows_its_deadline(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, unary_timeout=1) as found, found.async_client() as client:
        me = await client.get("/api/v1/auth/me", headers={"grpc-timeout": "60S"})
        assert 0 < json.loads(me.json()["user_name"])["left"] <= 1
        answer = await client.get("/api/v1/runs/slow-2")
        assert (answer.status_code, answer.json()["code"]) == (504, 4)


async def test_too_many_sign_ins_from_one_address_wait(tmp_path: Path) -> None:
    async with running(tmp_path, sign_ins_per_minute=3) as found:
        async with httpx.AsyncClient(base_url=found.url) as client:
            body = {"user": "ada", "password": "secret"}
            for _ in range(3):
                assert (await client.post("/api/v1/auth/login", json=body)).status_code == 200
            answer = await client.post(
                "/api/v1/auth/login", json=body, headers={"x-forwarded-for": "9.9.9.9"}
            )
            assert status_of(answer, 429)["code"] == 8
            assert int(answer.headers["retry-after"]) > 0
            assert (await client.post("/api/v1/auth/refresh", json={"refresh_token": "a"})).status_code == 200
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=found.url, transport=transport) as client:
            assert (await client.post("/api/v1/auth/login", json=body)).status_code == 200


def test_a_given_request_id_is_kept_and_each_answer_has_just_one(client: httpx.Client) -> None:
    for path in ("/api/v1/runs/1", "/api/v1/connections/NotFoundError", "/api/v1/nope", "/api/health"):
        answer = client.get(path, headers={"x-request-id": "11111111-2222-3333-4444-555555555555"})
        assert answer.headers.get_list("x-request-id") == ["11111111-2222-3333-4444-555555555555"], path


def status_of_early(answer: httpx.Response, http: int) -> None:
    """As `status_of`, for refusals that are made before a request has an id."""
    assert answer.status_code == http
    assert answer.json()["details"][0]["reason"] == "REQUEST_REFUSED"
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
