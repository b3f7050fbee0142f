"""Who gets through: the same refusals for REST and for gRPC, before a service is asked."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gateway.filters import COOKIE
from kernel import errors, middlewares
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from portolan.connections.v1 import connections_pb2, connections_pb2_grpc
from portolan.jobs.v1 import runs_pb2, runs_pb2_grpc
from tests.auth.forgeries import FORGERIES, Forger
from tests.gateway.conftest import Gateway, free_port, running
from tests.servers import Issuer, bearer, refusal


def forger(issuer: Issuer) -> Forger:
    """Who forges the tokens of an issuer."""
    (published,) = json.loads(asyncio.run(issuer.jwks()))["keys"]
    return Forger(issuer.token(), published, issuer.key)


@pytest.mark.parametrize("name", [*FORGERIES, "a service's own token"])
def test_a_token_that_is_not_ours_is_refused(gateway: Gateway, name: str) -> None:
    forge = FORGERIES.get(name)
    token = forge(forger(gateway.issuer)) if forge else gateway.issuer.service_token("jobs")
    with gateway.client(token) as client:
        answer = client.get("/api/v1/runs/1")
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] == 16
    assert answer.json()["details"][0]["reason"] == "TOKEN_INVALID"
    refused = asyncio.run(_refused(gateway.address, token))
    assert isinstance(refused, errors.UnauthenticatedError)
    assert refused.reason == "TOKEN_INVALID"


async def _refused(address: str, token: str) -> errors.RefusedError:
    async with grpc.aio.insecure_channel(address) as channel:
        request = runs_pb2.GetRunRequest(run_id="1")
        return await refusal(runs_pb2_grpc.RunServiceStub(channel).GetRun(request, metadata=bearer(token)))


@pytest.mark.parametrize("claims", [{}, {"aud": "portolan"}, {"nbf": 1}])
def test_a_token_of_ours_gets_through(gateway: Gateway, claims: dict[str, Any]) -> None:
    with gateway.client(gateway.issuer.token(**claims)) as client:
        assert client.get("/api/v1/runs/1").status_code == 200


def test_without_a_token_only_public_methods_answer(anonymous: httpx.Client) -> None:
    answer = anonymous.get("/api/v1/runs/1")
    assert answer.status_code == 401
    assert answer.json()["details"][0]["reason"] == "TOKEN_MISSING"
    assert answer.headers["www-authenticate"] == "Bearer"
    body = {"user": "ada", "password": "secret"}
    assert anonymous.post("/api/v1/auth/login", json=body).status_code == 200
    assert anonymous.get("/api/v1/auth/jwks").json()["keys"]
    headers = {"authorization": "Bearer garbage"}
    assert anonymous.post("/api/v1/auth/login", json=body, headers=headers).status_code == 200


def test_a_cookie_counts_only_where_nothing_is_changed(anonymous: httpx.Client, gateway: Gateway) -> None:
    assert COOKIE == middlewares.COOKIE
    headers = {"cookie": f"{COOKIE}={gateway.issuer.token()}"}
    assert anonymous.get("/api/v1/runs/1/events", headers=headers).status_code == 200
    answer = anonymous.post("/api/v1/runs/1:stop", json={}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["details"][0]["reason"] == "TOKEN_MISSING"


@pytest.mark.parametrize(
    "path", ["/api/v1/auth/login/../../runs/1", "//api/v1/runs/1", "/api/v1/auth/../runs/1"]
)
def test_no_way_of_writing_a_path_avoids_the_token(anonymous: httpx.Client, path: str) -> None:
    request = anonymous.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert anonymous.send(request).status_code == 401


def test_what_envoy_tells_services_cannot_be_forged(client: httpx.Client) -> None:
    forged_path = {"x-envoy-original-path": "/forged", "x-envoy-original-method": "PUT"}
    sent = json.loads(client.get("/api/v1/auth/me", headers=forged_path).json()["user_name"])
    assert sent["x-envoy-original-path"] == "/api/v1/auth/me"
    assert sent["x-envoy-original-method"] == "GET"
    assert sent["x-request-id"]


@pytest.mark.parametrize("who", ["nobody", "a user", "a service"])
async def test_methods_for_services_are_not_served_at_all(gateway: Gateway, who: str) -> None:
    tokens = {
        "nobody": "",
        "a user": gateway.issuer.token(),
        "a service": gateway.issuer.service_token("jobs"),
    }
    metadata = bearer(tokens[who])
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        request = connections_pb2.LeaseCredentialsRequest(connection="a", purpose="b")
        connections = connections_pb2_grpc.ConnectionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connections.LeaseCredentials(request, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        revocations = auth_pb2_grpc.AuthServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await revocations.WatchRevocations(auth_pb2.WatchRevocationsRequest(), metadata=metadata).read()
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_native_grpc_calls_and_streams_pass(gateway: Gateway) -> None:
    metadata = bearer(gateway.issuer.token())
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = runs_pb2_grpc.RunServiceStub(channel)
        run = await stub.GetRun(runs_pb2.GetRunRequest(run_id="7"), metadata=metadata)
        assert run.id == "7"
        request = runs_pb2.TailRunLogsRequest(run_id="7", after_sequence=4)
        lines = [each.lines[0].sequence async for each in stub.TailRunLogs(request, metadata=metadata)]
        assert lines == [5, 6, 7]
        refused = await refusal(stub.GetRun(runs_pb2.GetRunRequest(run_id="7")))
        assert refused.reason == "TOKEN_MISSING"
        refused = await refusal(stub.TailRunLogs(request))
        assert refused.reason == "TOKEN_MISSING"


async def test_without_the_auth_service_nobody_is_called_a_stranger(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with running(tmp_path, auth_address=nowhere) as found, found.async_client() as client:
        answer = await client.get("/api/v1/runs/1")
        assert answer.status_code == 503
        assert answer.json()["details"][0]["reason"] == "SERVICE_UNAVAILABLE"
