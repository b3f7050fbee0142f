"""Who may call, held against those who may not, through the real chain."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kernel import auth
from kernel.auth import Principal, Revocation, ServiceIdentity, Verifier, permissions_of, principal
from kernel.errors import ServiceUnavailableError, TokenInvalidError, TokenRevokedError
from kernel.settings import SERVICES
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from tests.auth.forgeries import FORGERIES, Forger
from tests.servers import KEY_ID, Issuer, bearer, connect, refusal, serve

Stub: TypeAlias = "auth_pb2_grpc.AuthServiceAsyncStub"


class Probe(auth_pb2_grpc.AuthServiceServicer):
    """Tells who called."""

    def GetMe(self, request: auth_pb2.GetMeRequest, context: grpc.ServicerContext) -> auth_pb2.Me:
        return auth_pb2.Me(user_id=principal().user_id)

    async def WatchRevocations(
        self, request: auth_pb2.WatchRevocationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[auth_pb2.WatchRevocationsResponse]:
        yield auth_pb2.WatchRevocationsResponse()


@pytest.fixture
async def stub(issuer: Issuer) -> AsyncIterator[Stub]:
    async with serve(issuer, Probe()) as address, connect(address) as channel:
        yield auth_pb2_grpc.AuthServiceStub(channel)


@pytest.fixture
async def forger(issuer: Issuer) -> Forger:
    (published,) = json.loads(await issuer.jwks())["keys"]
    return Forger(issuer.token(), published, issuer.key)


def me(stub: Stub, token: str) -> Any:
    return stub.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(token))


def watch(stub: Stub, token: str) -> Any:
    return stub.WatchRevocations(auth_pb2.WatchRevocationsRequest(), metadata=bearer(token))


ODD_EXPIRIES: dict[str, Callable[[int], object]] = {
    "a text": str,
    "a far text": lambda _: "99999999999",
    "a yes": lambda _: True,
    "nothing": lambda _: float("nan"),
    "minus infinity": lambda _: float("-inf"),
    "negative": lambda exp: -exp,
    "an object": lambda exp: {"exp": exp},
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(stub: Stub, forger: Forger, name: str) -> None:
    assert (await refusal(me(stub, FORGERIES[name](forger)))).reason == "TOKEN_INVALID"


@pytest.mark.parametrize("name", ODD_EXPIRIES)
async def test_an_expiry_is_a_number_in_the_future(stub: Stub, forger: Forger, name: str) -> None:
    token = forger.signed(exp=ODD_EXPIRIES[name](forger.claims["exp"]))
    assert (await refusal(me(stub, token))).reason == "TOKEN_INVALID"


async def test_what_the_standard_allows_is_taken(stub: Stub, forger: Forger) -> None:
    await me(stub, forger.token)
    await me(stub, forger.signed(exp=forger.claims["exp"] + 0.5, aud="portolan", extra="x"))
    await me(stub, forger.signed(iat=time.time() + 20))


async def test_roles_that_do_not_exist_grant_nothing(stub: Stub, issuer: Issuer) -> None:
    assert permissions_of(["captain", "", "admin.read"]) == []
    assert not Principal("o", roles=("captain",)).may("jobs.read")
    assert (await me(stub, issuer.token("captain"))).user_id == "ada"


async def test_a_role_holds_what_the_lesser_ones_hold() -> None:
    held = [set(permissions_of([role])) for role in auth.ROLES]
    assert held[0] < held[1] <= held[2] < held[3]
    assert all(permission.endswith(".read") for permission in held[0])


def service_token(issuer: Issuer, signer: str, header: dict[str, Any], **claims: Any) -> str:
    """A token that a service signs, with other header fields or claims than its own; None leaves one out."""
    genuine = issuer.service_token(signer)
    kept = jwt.decode(genuine, options={"verify_signature": False}) | claims
    pem = (issuer.keys / f"{signer}.key.pem").read_bytes()
    key: Any = serialization.load_pem_private_key(pem, None)
    return jwt.encode(
        {name: value for name, value in kept.items() if value is not None},
        key,
        "ES256",
        headers=jwt.get_unverified_header(genuine) | header,
    )


def ago(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)


SERVICE_FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "another service's name": lambda i: service_token(i, "mapper", {"kid": "jobs"}),
    "a service that does not exist": lambda i: service_token(i, "mapper", {"kid": "captain"}),
    "a path for a name": lambda i: service_token(i, "mapper", {"kid": "../keys/mapper"}),
    "the name of the users' key": lambda i: service_token(i, "mapper", {"kid": KEY_ID}),
    "a user's type": lambda i: service_token(i, "jobs", {"typ": "at+jwt"}),
    "a user's type, audience and claims": lambda i: service_token(
        i, "jobs", {"typ": "at+jwt"}, aud="portolan", sid="s", roles=["admin"]
    ),
    "a user's audience": lambda i: service_token(i, "jobs", {}, aud="portolan"),
    "another issuer": lambda i: service_token(i, "jobs", {}, iss="evil"),
    "no issuer": lambda i: service_token(i, "jobs", {}, iss=None),
    "no expiry": lambda i: service_token(i, "jobs", {}, exp=None),
    "no subject": lambda i: service_token(i, "jobs", {}, sub=None),
    "no issue time": lambda i: service_token(i, "jobs", {}, iat=None),
    "expired": lambda i: service_token(i, "jobs", {}, iat=ago(200), exp=ago(100)),
    "of the future": lambda i: service_token(i, "jobs", {}, iat=ago(-100), exp=ago(-160)),
    "an expiry that is a text": lambda i: service_token(i, "jobs", {}, exp="99999999999"),
    "no signature": lambda i: i.service_token("jobs").rpartition(".")[0] + ".",
}


@pytest.mark.parametrize("name", SERVICE_FORGERIES)
async def test_a_forged_token_of_a_service_is_refused(stub: Stub, issuer: Issuer, name: str) -> None:
    forged = SERVICE_FORGERIES[name](issuer)
    assert (await refusal(watch(stub, forged))).reason == "TOKEN_INVALID"
    assert (await refusal(me(stub, forged))).reason == "TOKEN_INVALID"


async def test_a_token_is_good_for_its_own_sort_of_call(stub: Stub, issuer: Issuer) -> None:
    assert [response async for response in watch(stub, issuer.service_token("mapper"))]
    assert (await refusal(me(stub, issuer.service_token("mapper")))).reason == "PERMISSION_MISSING"
    assert (await refusal(watch(stub, issuer.token()))).reason == "PERMISSION_MISSING"


class Keys:
    """The auth service's keys, and how often they were asked for."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.fetched = 0
        self.down = False

    async def fetch(self) -> bytes:
        self.fetched += 1
        await asyncio.sleep(0.01)
        if self.down:
            raise ConnectionError
        return await self.issuer.jwks()


@pytest.fixture
def keys(issuer: Issuer) -> Keys:
    return Keys(issuer)


async def test_keys_are_fetched_once_for_many_calls(keys: Keys) -> None:
    verifier = Verifier(keys.fetch)
    await asyncio.gather(*(verifier.verify(keys.issuer.token(user=f"u{n}")) for n in range(50)))
    assert keys.fetched == 1


async def test_unknown_keys_are_asked_for_every_ten_seconds_at_most(
    keys: Keys, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = Verifier(keys.fetch)
    for number in range(30):
        with pytest.raises(TokenInvalidError):
            await verifier.verify(forger.signed({"kid": f"unknown-{number}"}))
    assert keys.fetched == 1
    monkeypatch.setattr(verifier, "_due", time.monotonic() - 1)
    with pytest.raises(TokenInvalidError):
        await verifier.verify(forger.signed({"kid": "unknown"}))
    assert keys.fetched == 2


async def test_a_new_key_is_found(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(keys.fetch)
    old = keys.issuer.token()
    await verifier.verify(old)
    keys.issuer.key = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr("tests.servers.KEY_ID", "newer")
    monkeypatch.setattr(verifier, "_due", time.monotonic() - 1)
    await verifier.verify(keys.issuer.token(user="eve"))


async def test_without_the_auth_service_known_keys_stay_good(keys: Keys) -> None:
    verifier = Verifier(keys.fetch, keys.issuer.keys)
    await verifier.verify(keys.issuer.token())
    keys.down = True
    assert (await verifier.verify(keys.issuer.token(user="eve"))).user_id == "eve"
    assert (await verifier.verify(keys.issuer.service_token("jobs"))).service == "jobs"


async def test_without_the_auth_service_nobody_new_is_taken_for_a_fraud(keys: Keys) -> None:
    keys.down = True
    verifier = Verifier(keys.fetch)
    calls = [verifier.verify(keys.issuer.token(user=f"u{n}")) for n in range(20)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, ServiceUnavailableError)
    assert keys.fetched == 1
    keys.down = False
    await asyncio.sleep(auth.RETRY_SECONDS + 0.1)
    await verifier.verify(keys.issuer.token())


async def test_a_token_that_was_good_expires(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LEEWAY_SECONDS", 0)
    verifier = Verifier(keys.fetch)
    token = keys.issuer.token(exp=time.time() + 2)
    await verifier.verify(token)
    await asyncio.sleep(2.1)
    for _ in range(2):
        with pytest.raises(TokenInvalidError):
            await verifier.verify(token)


async def test_a_token_that_was_good_is_revoked(keys: Keys) -> None:
    verifier = Verifier(keys.fetch)
    token, other = keys.issuer.token(user="ada"), keys.issuer.token(user="eve")
    await verifier.verify(token)
    verifier.revoke(Revocation(1, "session-of-ada", time.time() + 300))
    with pytest.raises(TokenRevokedError):
        await verifier.verify(token)
    with pytest.raises(TokenRevokedError):
        await verifier.verify(keys.issuer.token("viewer", user="ada"))
    await verifier.verify(other)


async def test_old_revocations_are_forgotten_and_new_ones_kept(keys: Keys) -> None:
    verifier = Verifier(keys.fetch)
    for number in range(10):
        verifier.revoke(Revocation(number, f"old-{number}", time.time() - auth.LEEWAY_SECONDS + 0.2))
    assert len(verifier._revoked) == 10
    await asyncio.sleep(0.3)
    verifier.revoke(Revocation(10, "session-of-ada", time.time() + 300))
    assert list(verifier._revoked) == ["session-of-ada"]
    with pytest.raises(TokenRevokedError):
        await verifier.verify(keys.issuer.token())


async def test_the_memory_of_tokens_is_bounded(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHED_TOKENS", 3)
    verifier = Verifier(keys.fetch)
    for number in range(10):
        await verifier.verify(keys.issuer.token(user=f"u{number}"))
    assert len(verifier._verified) == 3


async def test_revocations_are_followed_over_broken_streams(keys: Keys) -> None:
    asked: list[int] = []
    enough = asyncio.Event()

    async def revocations(after: int) -> AsyncIterator[Revocation]:
        asked.append(after)
        if len(asked) == 3:
            enough.set()
        yield Revocation(after + 1, f"session-{after + 1}", time.time() + 300)
        raise ConnectionError

    verifier = Verifier(keys.fetch)
    task = asyncio.create_task(verifier.watch(revocations))
    async with asyncio.timeout(5):
        await enough.wait()
    task.cancel()
    assert asked == [0, 1, 2]
    assert {"session-1", "session-2"} <= verifier._revoked.keys()


class TestServiceKeys:
    """The keys that services prove themselves with."""

    def test_files_are_their_owners_alone(self, issuer: Issuer) -> None:
        assert {path.stat().st_mode & 0o777 for path in issuer.keys.iterdir()} == {0o600}
        assert len(list(issuer.keys.iterdir())) == 2 * len(SERVICES)

    def test_existing_keys_stay(self, issuer: Issuer) -> None:
        before = {path.name: path.read_bytes() for path in issuer.keys.iterdir()}
        auth.create_service_keys(issuer.keys)
        assert {path.name: path.read_bytes() for path in issuer.keys.iterdir()} == before

    async def test_several_processes_make_them_at_once(self, tmp_path: Path) -> None:
        await asyncio.gather(*(asyncio.to_thread(auth.create_service_keys, tmp_path) for _ in range(8)))

        async def nothing() -> bytes:
            raise AssertionError

        verifier = Verifier(nothing, tmp_path)
        for service in SERVICES:
            token = ServiceIdentity.load(tmp_path, service).token("org-1")
            found = await verifier.verify(token)
            assert (found.service, found.organization_id) == (service, "org-1")
            assert found.roles == ()


def test_a_token_is_not_printed() -> None:
    assert "secret" not in repr(Principal("o", token="secret"))
