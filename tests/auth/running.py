"""The auth service in the test's own process: its composition root, the real chain, its own migrations."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from kernel import app, migrations
from kernel.auth import ServiceIdentity, create_service_keys
from kernel.changes import Changes
from kernel.crypto import KeyRing, create_key_file
from kernel.db import Database
from kernel.middlewares import chain
from kernel.rpc import Server
from portolan.auth.v1 import auth_pb2 as pb
from portolan.auth.v1 import auth_pb2_grpc as rpc
from services.auth.__main__ import compose
from services.auth.settings import Settings
from tests.servers import bearer, connect

if TYPE_CHECKING:
    Stub = rpc.AuthServiceAsyncStub

PASSWORD = "the tide turns at nine"
CHEAP = {"password_time_cost": 1, "password_memory": 8}


@dataclass(frozen=True)
class Running:
    """The running service, with what a test calls it by."""

    stub: "Stub"
    settings: Settings
    database: Database
    identity: ServiceIdentity

    @property
    def code(self) -> str:
        """The enrolment code that lies in the file."""
        return self.settings.enrolment_file.read_text()

    async def bootstrap(self, user_name: str = "ada", **fields: str) -> pb.TokenPair:
        """The first administrator's tokens."""
        email = f"{user_name}@example.org"
        request = pb.BootstrapRequest(
            enrolment_code=fields.pop("code", "") or self.code,
            **{"email": email, "user_name": user_name, "password": PASSWORD} | fields,
        )
        return await self.stub.Bootstrap(request)

    async def login(self, user: str = "ada", password: str = PASSWORD, source: str = "") -> pb.TokenPair:
        """The tokens of a new session, asked for through a gateway that was called from `source`."""
        metadata = (("x-forwarded-for", source),) if source else ()
        return await self.stub.Login(pb.LoginRequest(user=user, password=password), metadata=metadata)

    async def refresh(self, refresh_token: str) -> pb.TokenPair:
        """The next tokens of a session."""
        return await self.stub.Refresh(pb.RefreshRequest(refresh_token=refresh_token))

    async def me(self, access_token: str) -> pb.Me:
        """Who a token belongs to."""
        return await self.stub.GetMe(pb.GetMeRequest(), metadata=bearer(access_token))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Starts the service as `python -m services.auth` does, and stops it at the end."""
    database = Database(settings.database("auth"), "auth", pool=settings.workers)
    await asyncio.to_thread(migrations.upgrade, database, "auth")
    create_key_file(settings.keys)
    create_service_keys(settings.keys)
    identity = ServiceIdentity.load(settings.keys, "auth")
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        changes = await stack.enter_async_context(Changes(database))
        parts = compose(settings, app.Environment(database, changes, identity, KeyRing.load(settings.keys)))
        channel = await stack.enter_async_context(connect(settings.auth_address))
        verifier, watch = app.verifier_over(channel, identity, settings)
        server = Server(
            parts.servicers,
            chain(verifier, threads=settings.workers, streams=settings.streams),
            threads=settings.workers,
        )
        stack.push_async_callback(server.stop, 0)
        await server.start(settings.auth_address)
        await channel.channel_ready()  # after a restart at the same address it waits before it tries again
        stack.callback(asyncio.create_task(_for_ever(watch)).cancel)
        yield Running(rpc.AuthServiceStub(channel), settings, database, identity)


def settings_in(data_dir: Path, database_url: str | None, **others: Any) -> Settings:
    """Settings with a free port and, unless others are given, password checks that cost nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = {"data_dir": data_dir, "database_url": database_url, "auth_address": address}
    return Settings(**given | CHEAP | others)


async def _for_ever(loop: Callable[[], Any]) -> None:
    await loop()


def codes(error: grpc.aio.AioRpcError) -> str:
    """The name of a failed call's status code."""
    return error.code().name
