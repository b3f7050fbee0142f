"""The gateway as a process: it starts, drains, and leaves nothing behind."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.api import load
from gateway.envoy import EnvoyError, validate
from gateway.settings import GatewaySettings
from kernel.settings import SERVICES
from tests.gateway.certificates import served_name, write_certificate
from tests.gateway.conftest import free_port, running, servicers
from tests.gateway.fakes import FakeRuns
from tests.servers import Issuer, serve

ROOT = Path(__file__).parents[2]
SECONDS = 60
"""How long something may take that is quick on an idle machine."""


@dataclass
class Started:
    """The real command, and how to call what it serves."""

    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    runs: FakeRuns

    def envoys(self) -> list[psutil.Process]:
        """The processes under the command."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def output(self) -> tuple[list[str], str]:
        """What it wrote to standard output, line by line, and to standard error, once it has ended."""
        out, error = await self.process.communicate()
        return out.decode().splitlines(), error.decode()


@asynccontextmanager
async def started(directory: Path, **settings: str) -> AsyncIterator[Started]:
    """The command `python -m gateway` in front of the fakes."""
    issuer, runs = Issuer(directory / "keys"), FakeRuns()
    async with serve(issuer, *servicers(issuer, runs)) as address:
        listen = f"127.0.0.1:{free_port()}"
        environment = {f"PORTOLAN_{name.upper()}_ADDRESS": address for name in SERVICES}
        environment |= {"PORTOLAN_DATA_DIR": str(directory), "PORTOLAN_LISTEN": listen, **settings}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway"),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        headers = {"authorization": f"Bearer {issuer.token()}"}
        async with httpx.AsyncClient(base_url=f"http://{listen}", headers=headers, timeout=20) as client:
            try:
                yield Started(process, client, runs)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.communicate()


async def ready(client: httpx.AsyncClient) -> None:
    """Waits until the gateway answers."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if (await client.get("/api/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def refusing(client: httpx.AsyncClient) -> None:
    """Waits until the gateway takes no new connection."""
    async with asyncio.timeout(SECONDS):
        while True:
            async with httpx.AsyncClient(base_url=client.base_url) as late:
                try:
                    await late.get("/api/health")
                except httpx.ConnectError:
                    return
            await asyncio.sleep(0.05)


async def test_a_stop_lets_calls_under_way_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async with started(tmp_path) as found:
        await ready(found.client)
        (envoy,) = found.envoys()
        under_way = asyncio.create_task(found.client.get("/api/v1/runs/held"))
        await asyncio.to_thread(found.runs.begun.wait, SECONDS)
        found.process.send_signal(signal.SIGTERM)
        await refusing(found.client)
        found.runs.released.set()
        assert (await under_way).status_code == 200
        await found.output()
        assert found.process.returncode == 0
        assert not envoy.is_running()


async def test_a_stop_under_load_loses_no_call(tmp_path: Path) -> None:
    async with started(tmp_path) as found:
        await ready(found.client)
        done, lost = 0, []

        async def call_until_refused() -> None:
            nonlocal done
            async with httpx.AsyncClient(
                base_url=found.client.base_url, headers=found.client.headers
            ) as client:
                while True:
                    try:
                        answer = await client.get("/api/v1/runs/slow-0.02")
                    except httpx.ConnectError:
                        return
                    except httpx.TransportError as error:
                        lost.append(repr(error))
                        return
                    assert answer.status_code == 200, answer.text
                    done += 1

        callers = [asyncio.create_task(call_until_refused()) for _ in range(8)]
        async with asyncio.timeout(SECONDS):
            while done < 50:  # noqa: ASYNC110 - the callers count
                await asyncio.sleep(0.01)
        found.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        assert not lost


async def test_envoy_dies_with_the_command_however_it_ends(tmp_path: Path) -> None:
    async with started(tmp_path) as found:
        await ready(found.client)
        (envoy,) = found.envoys()
        found.process.kill()
        await found.output()
        await asyncio.to_thread(psutil.wait_procs, [envoy], timeout=SECONDS)
        assert not envoy.is_running()


async def test_when_envoy_dies_the_command_ends_too_and_says_so(tmp_path: Path) -> None:
    async with started(tmp_path) as found:
        await ready(found.client)
        found.envoys()[0].kill()
        async with asyncio.timeout(SECONDS):
            await found.process.wait()
        assert found.process.returncode != 0


async def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(tmp_path, PORTOLAN_LISTEN=address) as found:
            _, error = await found.output()
            assert found.process.returncode == 1
            assert "Address already in use" in error


async def test_the_access_log_tells_all_but_the_query(tmp_path: Path) -> None:
    async with started(tmp_path) as found:
        await ready(found.client)
        await found.client.get("/api/v1/mappings?search=hush", headers={"x-request-id": "abcdefgh-1"})
        await found.client.get("/api/v1/nope?search=hush")
        found.process.send_signal(signal.SIGTERM)
        lines, error = await found.output()
    assert "hush" not in "".join(lines) + error
    calls: list[dict[str, Any]] = [json.loads(line) for line in lines]
    (call,) = [each for each in calls if each["request_id"] == "abcdefgh-1"]
    assert call["path"] == "/api/v1/mappings"
    assert call["rpc"] == "/portolan.mapper.v1.MappingService/ListMappings"
    assert (call["status"], call["user"], call["client"]) == (200, "ada", "127.0.0.1")
    (refused,) = [each for each in calls if each["path"] == "/api/v1/nope"]
    assert refused["status"] == 404


@pytest.mark.parametrize("origins", [(), ("https://a.example", "https://b.example")])
async def test_envoy_accepts_the_configuration(tmp_path: Path, origins: tuple[str, ...]) -> None:
    chain, key = write_certificate(tmp_path, "localhost")
    settings = GatewaySettings(data_dir=tmp_path, cors_origins=origins)
    for each in (settings, settings.model_copy(update={"tls_certificate": chain, "tls_key": key})):
        await validate(load(), each)


async def test_what_envoy_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, listen="nonsense:1")
    with pytest.raises(EnvoyError, match="malformed IP address: nonsense"):
        await validate(load(), settings)


async def test_https_offers_http_2_and_takes_up_a_new_certificate(tmp_path: Path) -> None:
    chain, key = write_certificate(tmp_path, "first")
    async with running(tmp_path, tls_certificate=chain, tls_key=key) as found:
        host, port = found.settings.endpoint
        assert await asyncio.to_thread(served_name, host, port) == ("first", "h2")
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(chain))) as client:
            headers = {"authorization": f"Bearer {found.issuer.token()}"}
            answer = await client.get(f"https://{found.address}/api/v1/runs/1", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        write_certificate(tmp_path, "second")
        async with asyncio.timeout(SECONDS):
            while await asyncio.to_thread(served_name, host, port) != ("second", "h2"):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
