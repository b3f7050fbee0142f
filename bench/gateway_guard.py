"""What the gateway's look for unknown fields in a body costs, against the same gateway without it.

Behind both stands a server that reads nothing, so that it is mostly Envoy that is measured. Processor time is
that of Envoy alone.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import psutil
from google.api import httpbody_pb2
from grpc_health.v1 import health_pb2

from bench.figures import Figure, median
from gateway.api import load
from gateway.envoy import Envoy
from gateway.filters import GET_JWKS
from gateway.settings import GatewaySettings
from kernel.settings import SERVICES
from tests.gateway.conftest import free_port
from tests.servers import Issuer

COLUMNS = {"2 KB": 9, "200 KB": 900}
CALLS = {"2 KB": 200, "200 KB": 20}
ROUNDS = 8
PATH = "/api/v1/mappings"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class Nothing(grpc.GenericRpcHandler):
    """Answers every call with an empty message, except for what the gateway itself asks."""

    def __init__(self, jwks: bytes) -> None:
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        keys = httpbody_pb2.HttpBody(content_type="application/json", data=jwks)
        self._answers = {HEALTH_CHECK: serving.SerializeToString(), GET_JWKS: keys.SerializeToString()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler of a method, which does not decode its request."""
        answer = self._answers.get(str(handler_call_details.method), b"")

        async def handle(_request: bytes, _context: object) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)


def measure() -> Iterator[Figure]:
    """Latency and processor time of a call, without the look and with it."""
    yield from asyncio.run(_measure())


async def _measure() -> list[Figure]:
    with TemporaryDirectory() as without, TemporaryDirectory() as with_it:
        issuer = Issuer(Path(without) / "keys")
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Nothing(await issuer.jwks()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        bare, guarded = (_envoy(Path(each), f"127.0.0.1:{port}") for each in (without, with_it))
        _prepare(bare[0].files.bootstrap, guarded=False)
        _prepare(guarded[0].files.bootstrap, guarded=True)
        async with bare[0], guarded[0]:
            figures = await asyncio.to_thread(_compare_all, bare[1], guarded[1], issuer.token())
        await server.stop(0)
        return figures


def _envoy(directory: Path, upstream: str) -> tuple[Envoy, int]:
    port = free_port()
    addresses: dict[str, Any] = {f"{name}_address": upstream for name in SERVICES}
    listen = f"127.0.0.1:{port}"
    settings = GatewaySettings(data_dir=directory, listen=listen, envoy_threads=1, **addresses)
    return Envoy(load(), settings), port


def _compare_all(bare: int, guarded: int, token: str) -> list[Figure]:
    return [figure for size in COLUMNS for figure in _compare(size, bare, guarded, token)]


def _prepare(bootstrap: Path, *, guarded: bool) -> None:
    """Takes the access log, which would be told here, and perhaps the guard out of a configuration."""
    config: Any = json.loads(bootstrap.read_text())
    listener = config["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["access_log"]
    if not guarded:
        routes = manager["route_config"]["virtual_hosts"][0]["routes"]
        (rest,) = (route for route in routes if route["match"].get("prefix") == "/api/")
        kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute"
        rest["typed_per_filter_config"] = {"envoy.filters.http.lua": {"@type": kind, "disabled": True}}
    bootstrap.write_text(json.dumps(config))


def _compare(size: str, bare: int, guarded: int, token: str) -> list[Figure]:
    body = _body(COLUMNS[size])
    took: dict[int, list[float]] = {bare: [], guarded: []}
    spent = dict.fromkeys(took, 0.0)
    for _ in range(ROUNDS):
        for port in took:
            before = _processor_seconds(port)
            took[port] += _call(port, body, token, CALLS[size])
            spent[port] += _processor_seconds(port) - before
    each = ROUNDS * CALLS[size]
    figures = []
    for name, values in (
        ("median latency", {port: median(times) for port, times in took.items()}),
        ("processor time", {port: seconds / each for port, seconds in spent.items()}),
    ):
        off, on = values[bare] * 1e6, values[guarded] * 1e6
        figures += [
            Figure(f"{size} body ({len(body)} bytes), {name} without", off, "µs"),
            Figure(f"{size} body, {name} with", on, "µs", "without", on / off),
            Figure(f"{size} body, {name} of the look itself", on - off, "µs"),
        ]
    return figures


def _body(columns: int) -> bytes:
    column = {
        "name": "HARBOUR_NAME",
        "data_type": "String50",
        "logic": "SELECT id, name FROM harbours WHERE country = 'PT' AND depth > 12.5",
        "key_columns": ["id"],
        "value_column": "name",
        "execution_sequence": 3,
        "scd_type": "SCD_TYPE_NEW_VERSION",
    }
    return json.dumps({"reference": "DIM_HARBOUR", "columns": [column] * columns}).encode()


def _call(port: int, body: bytes, token: str, calls: int) -> list[float]:
    took = []
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for _ in range(calls):
            begun = time.perf_counter()
            connection.request("POST", PATH, body, {"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            took.append(time.perf_counter() - begun)
            assert answer.status == http.HTTPStatus.OK
    return took


def _processor_seconds(port: int) -> float:
    for process in psutil.Process().children():
        if any(
            each.laddr.port == port for each in process.net_connections() if each.status == psutil.CONN_LISTEN
        ):
            times = process.cpu_times()
            return float(times.user + times.system)
    raise RuntimeError(f"no Envoy listens at {port}")
