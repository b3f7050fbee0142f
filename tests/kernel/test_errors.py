"""A refusal is the same at both ends of a call, whatever it says."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from kernel import clients, errors
from kernel.auth import principal
from kernel.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
    ServiceUnavailableError,
    from_status,
    to_status,
)
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from tests.servers import Issuer, bearer, connect, refusal, serve

KINDS = RefusedError.__subclasses__()
Kind: TypeAlias = type[RefusedError]


class LighthouseError(NotFoundError):
    """A refusal of a service."""

    reason = "LIGHTHOUSE_NOT_FOUND"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.code != code_pb2.INTERNAL])
def test_a_status_says_all_that_a_refusal_says(kind: Kind) -> None:
    error = kind("why", fields={"a.b[0]": "c"}, retry_after=2.5, port="Genoa", depth="7")
    error.reason = "BECAUSE"
    found = from_status(to_status(error, "portolan.jobs.v1"))
    assert type(found) is kind
    assert (found.message, found.reason, found.domain) == ("why", "BECAUSE", "portolan.jobs.v1")
    assert (found.fields, found.retry_after) == ({"a.b[0]": "c"}, 2.5)
    assert found.metadata == {"port": "Genoa", "depth": "7"}


def test_a_class_says_its_reason_and_the_service_its_domain() -> None:
    found = from_status(to_status(LighthouseError("dark"), "portolan.jobs.v1"))
    assert type(found) is NotFoundError
    assert (found.reason, found.domain) == ("LIGHTHOUSE_NOT_FOUND", "portolan.jobs.v1")
    common = from_status(to_status(ServiceUnavailableError("gone"), "portolan.jobs.v1"))
    assert common is not None
    assert common.domain == errors.COMMON_DOMAIN


def test_kinds_differ_in_their_codes() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("code", [code_pb2.INTERNAL, code_pb2.UNKNOWN, code_pb2.CANCELLED, code_pb2.OK, 99])
def test_a_fault_is_no_refusal(code: int) -> None:
    assert from_status(status_pb2.Status(code=code, message="x")) is None


TEXTS = st.text(max_size=2000) | st.sampled_from(
    ("é" * 5000, "\U0001f600" * 5000, "\ud800", "\0", "x" * 9000)
)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=60), st.dictionaries(TEXTS, TEXTS, max_size=9))
def test_a_refusal_is_never_larger_than_a_client_takes(
    message: str, fields: dict[str, str], metadata: dict[str, str]
) -> None:
    error = InvalidError(message, fields=fields, retry_after=1)
    error.metadata = {f"key{index}": text for index, text in enumerate(metadata.values())}
    status = to_status(error, "portolan.jobs.v1")
    assert status.ByteSize() <= errors.MAX_DETAILS + 200
    found = from_status(status)
    assert found is not None
    assert found.retry_after == 1


def test_of_many_fields_the_first_are_told() -> None:
    fields = {f"columns[{index}].logic": "is not one SELECT" for index in range(1000)}
    found = from_status(to_status(InvalidError("many", fields=fields), "portolan.jobs.v1"))
    assert found is not None
    assert 20 < len(found.fields) < 1000
    assert list(found.fields) == list(fields)[: len(found.fields)]


class Inner(auth_pb2_grpc.AuthServiceServicer):
    """A service that refuses, or is slow."""

    def Login(self, request: auth_pb2.LoginRequest, context: grpc.ServicerContext) -> auth_pb2.TokenPair:
        error = LighthouseError(
            "\U0001f600" * 3000 if request.user == "much" else "dark",
            fields={f"rocks[{index}]": "é" * 500 for index in range(100 if request.user == "much" else 1)},
            retry_after=0.5,
            port="Genoa",
        )
        raise error

    def Logout(self, request: auth_pb2.LogoutRequest, context: grpc.ServicerContext) -> Empty:
        time.sleep(1)
        return Empty()

    def GetMe(self, request: auth_pb2.GetMeRequest, context: grpc.ServicerContext) -> auth_pb2.Me:
        return auth_pb2.Me(
            user_id=principal().user_id, organization_id=f"{clients.deadline.get() - time.monotonic():.1f}"
        )


class Outer(auth_pb2_grpc.AuthServiceServicer):
    """A service that passes each call on."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)

    def Login(self, request: auth_pb2.LoginRequest, context: grpc.ServicerContext) -> auth_pb2.TokenPair:
        return clients.call(self._stub.Login, request, token="")

    def Logout(self, request: auth_pb2.LogoutRequest, context: grpc.ServicerContext) -> Empty:
        return clients.call(self._stub.Logout, request)

    def GetMe(self, request: auth_pb2.GetMeRequest, context: grpc.ServicerContext) -> auth_pb2.Me:
        return clients.call(self._stub.GetMe, request)


Stub: TypeAlias = "auth_pb2_grpc.AuthServiceAsyncStub"


@pytest.fixture
async def stub(issuer: Issuer) -> AsyncIterator[Stub]:
    """The outer service, in front of the inner one."""
    async with serve(issuer, Inner()) as inner:
        with clients.channel(inner) as channel:
            async with serve(issuer, Outer(channel)) as address, connect(address) as outer:
                yield auth_pb2_grpc.AuthServiceStub(outer)


@pytest.fixture
async def deserted(issuer: Issuer) -> AsyncIterator[Stub]:
    """The outer service, in front of nothing."""
    with clients.channel("127.0.0.1:9") as channel:
        async with serve(issuer, Outer(channel)) as address, connect(address) as outer:
            yield auth_pb2_grpc.AuthServiceStub(outer)


async def test_a_refusal_passes_through_a_service(stub: Stub) -> None:
    refused = await refusal(stub.Login(auth_pb2.LoginRequest(user="ada", password="x")))
    assert type(refused) is NotFoundError
    assert (refused.message, refused.reason) == ("dark", "LIGHTHOUSE_NOT_FOUND")
    assert refused.fields == {"rocks[0]": "é" * 150}
    assert (refused.metadata, refused.retry_after) == ({"port": "Genoa"}, 0.5)
    assert refused.domain == "portolan.auth.v1"


async def test_a_very_long_refusal_arrives(stub: Stub) -> None:
    refused = await refusal(stub.Login(auth_pb2.LoginRequest(user="much", password="x")))
    assert refused.reason == "LIGHTHOUSE_NOT_FOUND"
    assert refused.fields
    assert refused.message


async def test_the_caller_passes_through_a_service(stub: Stub, issuer: Issuer) -> None:
    metadata = bearer(issuer.token(user="eve"))
    assert (await stub.GetMe(auth_pb2.GetMeRequest(), metadata=metadata)).user_id == "eve"


@pytest.mark.timed
async def test_the_deadline_passes_through_a_service(stub: Stub, issuer: Issuer) -> None:
    metadata = bearer(issuer.token())
    me = await stub.GetMe(auth_pb2.GetMeRequest(), metadata=metadata, timeout=4)
    assert 2 < float(me.organization_id) < 4
    started = time.perf_counter()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata, timeout=0.3)
    assert caught.value.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert time.perf_counter() - started < 0.8


@pytest.mark.timed
async def test_a_service_that_is_not_there_is_unavailable_at_once(deserted: Stub, issuer: Issuer) -> None:
    started = time.perf_counter()
    calls = [deserted.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(issuer.token())) for _ in range(5)]
    for refused in await asyncio.gather(*map(refusal, calls)):
        assert isinstance(refused, errors.UnavailableError)
        assert refused.reason == "SERVICE_UNAVAILABLE"
    assert time.perf_counter() - started < 2
