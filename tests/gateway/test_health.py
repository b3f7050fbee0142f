"""`/api/health` tells each service's state, whichever are down."""

import asyncio
import socket
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kernel.settings import SERVICES
from tests.gateway.conftest import ORIGIN, free_port, running


def test_health_is_open_to_all_and_names_each_service(anonymous: httpx.Client) -> None:
    answer = anonymous.get("/api/health", headers={"origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.json() == {"status": "SERVING", "services": dict.fromkeys(SERVICES, "SERVING")}
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["cache-control"] == "no-store"
    assert anonymous.head("/api/health").status_code == 200
    assert anonymous.post("/api/health").status_code == 404


@pytest.mark.parametrize("down", SERVICES)
async def test_health_tells_which_service_is_down(tmp_path: Path, down: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with running(tmp_path, **{f"{down}_address": nowhere}) as found, found.async_client() as client:
        answer = await client.get("/api/health")
        assert answer.status_code == 503
        states = {name: "NOT_SERVING" if name == down else "SERVING" for name in SERVICES}
        assert answer.json() == {"status": "NOT_SERVING", "services": states}


@pytest.mark.timed
async def test_health_answers_when_a_service_is_silent_and_sees_it_come_back(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    async with running(tmp_path, jobs_address=f"127.0.0.1:{port}") as found, found.async_client() as client:
        started = time.monotonic()
        answer = await client.get("/api/health")
        assert time.monotonic() - started < 1
        assert answer.json()["services"]["jobs"] == "NOT_SERVING"
        silent.close()
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        async with asyncio.timeout(10):
            while (await client.get("/api/health")).status_code != 200:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        await server.stop(0)
