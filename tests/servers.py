"""Servers in the test's own process, with the real chain of middlewares, and tokens to call them with."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_status import rpc_status

from kernel import auth, clients
from kernel.auth import Verifier
from kernel.errors import RefusedError, from_status
from kernel.middlewares import chain
from kernel.rpc import Server

KEY_ID = "test"


class Issuer:
    """Signs access tokens as the auth service does, and service tokens as the services do."""

    def __init__(self, keys: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.keys = keys
        auth.create_service_keys(keys)

    async def jwks(self) -> bytes:
        """The public key, as the auth service serves it."""
        algorithm: Any = jwt.get_algorithm_by_name(auth.ALGORITHM)
        public = algorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": auth.ALGORITHM, "use": "sig"}]}).encode()

    def token(self, *roles: str, organization: str = "org-1", user: str = "ada", **claims: object) -> str:
        """An access token; without roles an administrator's. `claims` replaces some, None omits one."""
        now = dt.datetime.now(dt.UTC)
        all_claims = {
            "iss": auth.ISSUER,
            "aud": [auth.AUDIENCE],
            "sub": user,
            "sid": f"session-of-{user}",
            "org": organization,
            "roles": roles or ("admin",),
            "iat": now,
            "exp": now + dt.timedelta(minutes=5),
            **claims,
        }
        kept = {name: value for name, value in all_claims.items() if value is not None}
        headers = {"typ": auth.ACCESS_TYPE, "kid": KEY_ID}
        return jwt.encode(kept, self.key, auth.ALGORITHM, headers=headers)

    def service_token(self, service: str, organization: str = "org-1") -> str:
        """A token of one of our services."""
        return auth.ServiceIdentity.load(self.keys, service).token(organization)


@asynccontextmanager
async def serve(
    issuer: Issuer, *servicers: object, threads: int = 8, streams: int = 100
) -> AsyncIterator[str]:
    """Serves servicers with the real chain, and gives the address."""
    verifier = Verifier(issuer.jwks, issuer.keys)
    server = Server(servicers, chain(verifier, threads=threads, streams=streams), threads=threads)
    port = await server.start("127.0.0.1:0")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel for a test's calls."""
    async with clients.async_channel(address) as channel:
        yield channel


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


async def refusal(call: Any) -> RefusedError:
    """What a call is refused with; fails when it is not."""
    try:
        async with asyncio.timeout(30):
            await _drained(call)
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # an aio error has what a Call has
        refused = from_status(status) if status is not None else None
        assert refused is not None, f"no refusal but {error.code()}: {error.details()}"
        return refused
    message = "the call was answered"
    raise AssertionError(message)


async def _drained(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call
