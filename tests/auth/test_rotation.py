"""The signing keys take turns, and in no moment is a good token refused."""

import asyncio
import datetime as dt
import json

import httpx
import jwt
import pytest
import sqlalchemy as sa

from gateway.api import load
from gateway.envoy import Envoy
from gateway.settings import GatewaySettings
from kernel.crypto import KeyRing
from kernel.db import now
from portolan.auth.v1 import auth_pb2 as pb
from services.auth.domain import keys
from services.auth.models import User, UserSession
from services.auth.worker import KeyRotation
from tests.auth.running import Running
from tests.gateway.conftest import free_port

SECONDS = 60
LIFETIME = dt.timedelta(days=30)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)


class Clockwork:
    """A rotation beside the service's own, at moments that a test chooses."""

    def __init__(self, auth: Running) -> None:
        self._auth = auth
        self.begun = now()
        ring = KeyRing.load(auth.settings.keys)
        with auth.database.read() as session:
            self._signer = keys.Signer(session, ring)
        self._rotation = KeyRotation(auth.database, ring, self._signer, LIFETIME)

    async def look(self, after: dt.timedelta) -> None:
        """What is due so long after the first key was made."""
        await asyncio.to_thread(self._rotation.look, self.begun + after)

    def token(self) -> str:
        """A token of the administrator, signed by the key whose turn it is."""
        with self._auth.database.read() as session:
            user, own = session.scalars(sa.select(User)).one(), session.scalars(sa.select(UserSession)).one()
            return self._signer.sign(user, own)

    async def published(self) -> list[str]:
        """The keys that are published, the newest first."""
        body = await self._auth.stub.GetJwks(pb.GetJwksRequest())
        return [key["kid"] for key in json.loads(body.data)["keys"]]


def signer(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_key_is_announced_signs_and_is_forgotten(auth: Running) -> None:
    await auth.bootstrap()
    clock = Clockwork(auth)
    (first,) = await clock.published()
    await clock.look(LIFETIME - MINUTE)
    assert await clock.published() == [first]
    await clock.look(LIFETIME)
    second, _ = await clock.published()
    await clock.look(LIFETIME + HOUR - MINUTE)
    assert await clock.published() == [second, first]
    assert signer(clock.token()) == first
    await clock.look(LIFETIME + HOUR)
    assert await clock.published() == [second, first]
    assert signer(clock.token()) == second
    await auth.me(clock.token())
    await clock.look(LIFETIME + 2 * HOUR)
    assert await clock.published() == [second]
    assert signer(clock.token()) == second


async def test_several_processes_make_one_key(auth: Running) -> None:
    clocks = [Clockwork(auth) for _ in range(4)]
    await asyncio.gather(*(clock.look(LIFETIME) for clock in clocks))
    assert len(await clocks[0].published()) == 2


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_the_gateway_takes_the_tokens_of_both_keys_and_then_of_the_new_one_alone(auth: Running) -> None:
    settings = GatewaySettings(
        data_dir=auth.settings.data_dir,
        auth_address=auth.settings.auth_address,
        listen=f"127.0.0.1:{free_port()}",
        keys_refresh=1,
        drain_timeout=0,
    )
    old = (await auth.bootstrap()).access_token
    clock = Clockwork(auth)
    async with Envoy(load(), settings), httpx.AsyncClient(base_url=f"http://{settings.listen}") as client:
        await until(200, client, old)
        await clock.look(LIFETIME)
        await clock.look(LIFETIME + HOUR)
        new = clock.token()
        await until(200, client, new)
        assert await status(client, old) == 200
        await clock.look(LIFETIME + 2 * HOUR)
        await until(401, client, old)
        assert await status(client, new) == 200


async def status(client: httpx.AsyncClient, token: str) -> int:
    """What the gateway answers to a token."""
    headers = {"authorization": f"Bearer {token}"}
    return (await client.get("/api/v1/auth/me", headers=headers)).status_code


async def until(code: int, client: httpx.AsyncClient, token: str) -> None:
    """Waits until the gateway answers so, which fetches the keys each second."""
    async with asyncio.timeout(SECONDS):
        while await status(client, token) != code:  # noqa: ASYNC110 - it is another process that changes
            await asyncio.sleep(0.1)
