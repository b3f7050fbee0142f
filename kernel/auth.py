"""Who calls: access tokens and service tokens, verified here without asking anybody for each call."""

import asyncio
import contextlib
import datetime as dt
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kernel.contract import permissions
from kernel.crypto import write_once
from kernel.errors import ServiceUnavailableError, TokenInvalidError, TokenMissingError, TokenRevokedError
from kernel.logs import logger
from kernel.settings import SERVICES

log = logger(__name__)

ISSUER = "portolan"
AUDIENCE = "portolan"
SERVICE_AUDIENCE = "portolan-services"
ALGORITHM = "ES256"
ACCESS_TYPE, SERVICE_TYPE = "at+jwt", "svc+jwt"
SERVICE_SECONDS = 60
LEEWAY_SECONDS = 30
REFETCH_SECONDS = 10
RETRY_SECONDS = 0.5
CACHED_TOKENS = 4096

ROLES: dict[str, tuple[str, frozenset[str]]] = {
    "viewer": ("Sees everything, changes nothing.", frozenset({"read"})),
    "operator": ("Runs and stops jobs.", frozenset({"read", "run"})),
    "developer": ("Makes connections, mappings and jobs.", frozenset({"read", "run", "write"})),
    "admin": ("May do everything.", frozenset({"read", "run", "write", "manage"})),
}
"""The built-in roles, the least powerful first: what each is for, and the verbs of what it grants."""


@dataclass(frozen=True)
class Principal:
    """Who calls: a user in an organization, or one of our services on behalf of one."""

    organization_id: str
    user_id: str = ""
    roles: tuple[str, ...] = ()
    session_id: str = ""
    service: str = ""
    token: str = field(default="", repr=False)
    expire_time: float = 0

    def may(self, permission: str) -> bool:
        """Whether the roles grant a permission, `<resource plural>.<verb>`."""
        verb = permission.rpartition(".")[2]
        return any(verb in ROLES[role][1] for role in self.roles if role in ROLES)


def permissions_of(roles: Iterable[str]) -> list[str]:
    """All permissions that the roles grant, sorted."""
    principal = Principal("", roles=tuple(roles))
    return [permission for permission in permissions() if principal.may(permission)]


current: ContextVar[Principal] = ContextVar("principal")


def principal() -> Principal:
    """The caller of the RPC that is being served."""
    return current.get()


@dataclass(frozen=True)
class Revocation:
    """A session whose tokens are refused from now on."""

    cursor: int
    session_id: str
    expire_time: float


FetchKeys = Callable[[], Awaitable[bytes]]
WatchRevocations = Callable[[int], AsyncIterator[Revocation]]


class Verifier:
    """Turns a token into a principal, by public keys and ended sessions that are kept in memory.

    The keys of users' tokens come from the auth service, again when a token names an unknown one, but at most
    every ten seconds. The keys of services lie in `service_keys`.
    """

    def __init__(self, fetch_keys: FetchKeys, service_keys: Path | None = None) -> None:
        self._fetch_keys = fetch_keys
        self._answered = False
        self._due = float("-inf")
        self._fetching = asyncio.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._service_keys = _load_service_keys(service_keys) if service_keys else {}
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._revoked: OrderedDict[str, float] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The principal of a token; refuses one that is missing, invalid or revoked."""
        if not token:
            raise TokenMissingError("sign in first: the call carries no access token")
        found = self._verified.get(token)
        if found is None:
            found = await self._decode(token)
            self._verified[token] = found
            if len(self._verified) > CACHED_TOKENS:
                self._verified.popitem(last=False)
        if found.expire_time + LEEWAY_SECONDS < time.time():
            del self._verified[token]
            raise TokenInvalidError("the access token has expired; refresh it")
        if found.session_id in self._revoked:
            raise TokenRevokedError("the session has ended; sign in again")
        return found

    def revoke(self, revocation: Revocation) -> None:
        """Refuses a session's tokens, and forgets the sessions whose last token has expired.

        They come in the order of their ends, so the first ones expire first.
        """
        self._revoked[revocation.session_id] = revocation.expire_time
        limit = time.time() - LEEWAY_SECONDS
        while self._revoked and next(iter(self._revoked.values())) <= limit:
            self._revoked.popitem(last=False)

    async def watch(self, revocations: WatchRevocations) -> None:
        """Follows the ended sessions for ever, over broken streams."""
        cursor = 0
        while True:
            try:
                async for revocation in revocations(cursor):
                    cursor = revocation.cursor
                    self.revoke(revocation)
            except Exception as error:  # noqa: BLE001 - whatever broke the stream, the cure is another one
                log.debug("revocation stream broke", error=type(error).__name__)
            await asyncio.sleep(0.5)

    async def _decode(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            kind, key_id = header.get("typ"), header.get("kid")
            if kind == SERVICE_TYPE and key_id in self._service_keys:
                claims = _claims(token, self._service_keys[key_id], SERVICE_AUDIENCE)
                return Principal(
                    str(claims.get("org", "")), service=key_id, token=token, expire_time=claims["exp"]
                )
            if kind == ACCESS_TYPE and isinstance(key_id, str) and (key := await self._key(key_id)):
                claims = _claims(token, key.key, AUDIENCE, "sid", "org")
                return Principal(
                    organization_id=str(claims["org"]),
                    user_id=str(claims["sub"]),
                    roles=tuple(str(role) for role in claims.get("roles", ())),
                    session_id=str(claims["sid"]),
                    token=token,
                    expire_time=claims["exp"],
                )
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise TokenInvalidError("the access token is not valid; sign in again") from error
        raise TokenInvalidError("the access token is signed by no known key; sign in again")

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        if key_id not in self._keys:
            async with self._fetching:
                if key_id not in self._keys and time.monotonic() > self._due:
                    await self._fetch()
            if key_id not in self._keys and not self._answered:
                raise ServiceUnavailableError("the auth service does not answer; try again", retry_after=1)
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        try:
            document = json.loads(await self._fetch_keys())
            self._keys = {key["kid"]: jwt.PyJWK(key, ALGORITHM) for key in document["keys"]}
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the known keys stay good
            log.warning("cannot fetch the signing keys", error=type(error).__name__)
            self._answered, self._due = False, time.monotonic() + RETRY_SECONDS
        else:
            self._answered, self._due = True, time.monotonic() + REFETCH_SECONDS


def _claims(token: str, key: Any, audience: str, *required: str) -> dict[str, Any]:
    claims = dict(
        jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=audience,
            issuer=ISSUER,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "sub", *required]},
        )
    )
    if not isinstance(claims["exp"], int | float):
        raise TypeError("exp is no number")
    return claims


class ServiceIdentity:
    """What a service proves itself with to the others: a key of its own, and tokens that last a minute."""

    def __init__(self, service: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._service = service
        self._key = key

    @classmethod
    def load(cls, directory: Path, service: str) -> Self:
        """The identity whose key `create_service_keys` wrote."""
        key = serialization.load_pem_private_key((directory / f"{service}.key.pem").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            message = f"the key of {service} is of another kind"
            raise TypeError(message)
        return cls(service, key)

    def token(self, organization_id: str = "") -> str:
        """A token for one call, on behalf of an organization where the call is for one."""
        now = dt.datetime.now(dt.UTC)
        claims = {
            "iss": ISSUER,
            "aud": SERVICE_AUDIENCE,
            "sub": f"service:{self._service}",
            "org": organization_id,
            "iat": now,
            "exp": now + dt.timedelta(seconds=SERVICE_SECONDS),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"typ": SERVICE_TYPE, "kid": self._service})


def create_service_keys(directory: Path, services: Iterable[str] = SERVICES) -> None:
    """Writes a key pair for each service into a folder; existing ones stay."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for service in services:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_once(directory / f"{service}.key.pem", private)
        kept = serialization.load_pem_private_key((directory / f"{service}.key.pem").read_bytes(), None)
        public = kept.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with contextlib.suppress(FileExistsError):
            write_once(directory / f"{service}.pub.pem", public)


def _load_service_keys(directory: Path) -> dict[str, Any]:
    return {
        path.name.removesuffix(".pub.pem"): serialization.load_pem_public_key(path.read_bytes())
        for path in directory.glob("*.pub.pem")
    }
