"""What every service's `__main__` ends with: `serve`, `migrate` and `revision`."""

import argparse
import asyncio
import contextlib
import datetime as dt
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from kernel import clients, logs, migrations
from kernel.auth import Revocation, ServiceIdentity, Verifier, create_service_keys
from kernel.changes import Changes
from kernel.crypto import KeyRing, create_key_file
from kernel.db import Database
from kernel.middlewares import chain
from kernel.processes import die_with_parent
from kernel.rpc import Server
from kernel.settings import Settings
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc

log = logs.logger(__name__)

PING_SECONDS = 2
PRIVATE = 0o077
"""What others may do with the files that a service makes: nothing."""

Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Environment:
    """What a service is composed from."""

    database: Database
    changes: Changes
    identity: ServiceIdentity
    secrets: KeyRing


@dataclass(frozen=True)
class Parts:
    """What a service is composed of: its servicers, and loops that run beside them until the end."""

    servicers: Sequence[object] = ()
    loops: Sequence[Loop] = ()


Compose = Callable[[Environment], Parts]


def main(service: str, settings: Settings, **compositions: Compose) -> None:
    """Runs a command of a service: one of its compositions (by default `serve`), `migrate` or `revision`."""
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}")
    parser.add_argument("command", nargs="?", default="serve", choices=[*compositions, "migrate", "revision"])
    parser.add_argument("message", nargs="?", default="", help="what a revision is for")
    arguments = parser.parse_args()
    die_with_parent()
    os.umask(PRIVATE)
    logs.configure(service, settings.log_level)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database(service), service, pool=settings.workers)
    match arguments.command:
        case "migrate":
            migrations.upgrade(database, service)
        case "revision":
            migrations.upgrade(database, service)
            migrations.revise(database, service, arguments.message)
        case command:
            uvloop.run(_run(service, settings, database, compositions[command]))
    database.close()
    gc.freeze()  # or the interpreter visits all that it ever loaded once more, which takes half a second


async def _run(service: str, settings: Settings, database: Database, compose: Compose) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if settings.migrate:
        await asyncio.to_thread(migrations.upgrade, database, service)
    elif migrations.pending(database, service):
        sys.exit(f"the schema of {service} is not at its newest version; run `portolan migrate` first")
    create_key_file(settings.keys)
    create_service_keys(settings.keys)
    identity = ServiceIdentity.load(settings.keys, service)
    async with contextlib.AsyncExitStack() as stack:
        changes = await stack.enter_async_context(Changes(database))
        parts = compose(Environment(database, changes, identity, KeyRing.load(settings.keys)))
        loops = [*parts.loops]
        if parts.servicers:
            channel = await stack.enter_async_context(clients.async_channel(settings.auth_address))
            verifier, watch = verifier_over(channel, identity, settings)
            server = Server(
                parts.servicers,
                chain(verifier, threads=settings.workers, streams=settings.streams),
                threads=settings.workers,
                reflected=settings.reflection,
            )
            stack.push_async_callback(server.stop)
            port = await server.start(settings.listen or settings.address(service))
            log.info("serving", port=port, database=database.url.render_as_string())
            loops += [watch, lambda: _ping(database, server)]
        tasks = [asyncio.create_task(_guarded(loop)) for loop in loops]
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        failed = not ended.done()
        log.info("stopping")
        for task in (ended, *tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        sys.exit(1)


def verifier_over(
    channel: grpc.aio.Channel, identity: ServiceIdentity, settings: Settings
) -> tuple[Verifier, Loop]:
    """A verifier whose keys come from the auth service, and the loop that follows its revocations."""
    stub = auth_pb2_grpc.AuthServiceStub(channel)

    async def fetch() -> bytes:
        body = await stub.GetJwks(auth_pb2.GetJwksRequest(), timeout=clients.TIMEOUT_SECONDS)
        return bytes(body.data)

    async def revocations(after: int) -> AsyncIterator[Revocation]:
        request = auth_pb2.WatchRevocationsRequest(after=after)
        async for response in stub.WatchRevocations(request, metadata=clients.metadata(identity.token())):
            for ended in response.revocations:
                yield Revocation(
                    ended.cursor, ended.session_id, ended.expire_time.ToDatetime(dt.UTC).timestamp()
                )

    verifier = Verifier(fetch, settings.keys)
    return verifier, lambda: verifier.watch(revocations)


async def _guarded(loop: Loop) -> None:
    """A loop whose failure ends the process, with a trace in the log, for its supervisor to start it anew."""
    try:
        await loop()
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("fault in a loop; the process ends")
        raise


async def _ping(database: Database, server: Server) -> None:
    """Tells the health checks whether the service's own database answers."""
    while True:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await asyncio.to_thread(database.ping)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("the database does not answer", error=type(error).__name__)
            await server.serving(yes=False)
        else:
            await server.serving(yes=True)
        await asyncio.sleep(PING_SECONDS)
