"""The chain around every call, through a real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kernel.auth import Revocation, Verifier, principal
from kernel.errors import InvalidError
from kernel.middlewares import chain
from kernel.rpc import Server
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc
from tests.gateway.fakes import FakeMappings
from tests.servers import Issuer, bearer, connect, refusal, serve

if TYPE_CHECKING:
    Stub: TypeAlias = auth_pb2_grpc.AuthServiceAsyncStub


FOR_EVER = 99


class Probe(auth_pb2_grpc.AuthServiceServicer):
    """Answers in the ways that a servicer may."""

    def GetMe(self, request: auth_pb2.GetMeRequest, context: grpc.ServicerContext) -> auth_pb2.Me:
        return auth_pb2.Me(user_id=principal().user_id, organization_id=principal().organization_id)

    def Logout(self, request: auth_pb2.LogoutRequest, context: grpc.ServicerContext) -> Empty:
        time.sleep(0.5)
        return Empty()

    def Login(self, request: auth_pb2.LoginRequest, context: grpc.ServicerContext) -> auth_pb2.TokenPair:
        if request.user == "fault":
            message = "a text that nobody may see"
            raise RuntimeError(message)
        raise InvalidError("refused", fields={"user": "because"}, retry_after=1.5, hint="a hint")

    def GetJwks(self, request: auth_pb2.GetJwksRequest, context: grpc.ServicerContext) -> HttpBody:
        return HttpBody()

    async def WatchRevocations(
        self, request: auth_pb2.WatchRevocationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[auth_pb2.WatchRevocationsResponse]:
        for cursor in range(3):
            yield auth_pb2.WatchRevocationsResponse(revocations=[auth_pb2.Revocation(cursor=cursor)])
        if request.after == FOR_EVER:
            await asyncio.Event().wait()


@pytest.fixture
async def stub(issuer: Issuer) -> AsyncIterator["Stub"]:
    async with serve(issuer, Probe(), threads=2) as address, connect(address) as channel:
        yield auth_pb2_grpc.AuthServiceStub(channel)


async def test_a_handler_knows_its_caller(stub: "Stub", issuer: Issuer) -> None:
    token = issuer.token("viewer", user="eve", organization="org-9")
    me = await stub.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(token))
    assert (me.user_id, me.organization_id) == ("eve", "org-9")


async def test_a_refusal_arrives_with_all_its_details(stub: "Stub") -> None:
    refused = await refusal(stub.Login(auth_pb2.LoginRequest(user="ada", password="x")))
    assert isinstance(refused, InvalidError)
    assert refused.fields == {"user": "because"}
    assert refused.retry_after == 1.5
    assert refused.metadata == {"hint": "a hint"}
    assert refused.domain == "portolan.auth.v1"


async def test_a_fault_is_hidden_and_found_by_its_reference(
    stub: "Stub", caplog: pytest.LogCaptureFixture
) -> None:
    call = stub.Login(auth_pb2.LoginRequest(user="fault", password="x"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "nobody may see" not in str(caught.value.details())
    reference = str(caught.value.details()).rsplit(" ", 1)[1]
    assert reference in caplog.text


async def test_a_broken_rule_names_the_field(stub: "Stub") -> None:
    refused = await refusal(stub.Login(auth_pb2.LoginRequest(user="ada")))
    assert refused.reason == "FIELD_INVALID"
    assert list(refused.fields) == ["password"]


async def test_a_call_without_a_token_is_unauthenticated(stub: "Stub") -> None:
    assert (await refusal(stub.GetMe(auth_pb2.GetMeRequest()))).reason == "TOKEN_MISSING"


async def test_a_user_cannot_call_a_method_for_services(stub: "Stub", issuer: Issuer) -> None:
    request = auth_pb2.WatchRevocationsRequest()
    refused = await refusal(stub.WatchRevocations(request, metadata=bearer(issuer.token())))
    assert refused.reason == "PERMISSION_MISSING"


async def test_a_service_cannot_call_a_method_for_users(stub: "Stub", issuer: Issuer) -> None:
    refused = await refusal(
        stub.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(issuer.service_token("jobs")))
    )
    assert refused.reason == "PERMISSION_MISSING"


async def test_a_service_streams(stub: "Stub", issuer: Issuer) -> None:
    metadata = bearer(issuer.service_token("jobs"))
    stream = stub.WatchRevocations(auth_pb2.WatchRevocationsRequest(), metadata=metadata)
    assert [response.revocations[0].cursor async for response in stream] == [0, 1, 2]


async def test_a_cookie_signs_in_only_where_nothing_is_changed(stub: "Stub", issuer: Issuer) -> None:
    cookie = (("cookie", f"a=b; portolan_access={issuer.token()}"),)
    assert (await stub.GetMe(auth_pb2.GetMeRequest(), metadata=cookie)).user_id == "ada"
    assert (await refusal(stub.Logout(auth_pb2.LogoutRequest(), metadata=cookie))).reason == "TOKEN_MISSING"


@pytest.mark.timed
async def test_too_many_calls_fail_at_once_and_health_still_answers(issuer: Issuer) -> None:
    async with serve(issuer, Probe(), threads=2) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        metadata = bearer(issuer.token())
        calls = [stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata) for _ in range(12)]
        busy = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="portolan.auth.v1.AuthService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert time.perf_counter() - started < 0.3
        outcomes = await busy
    refused = [error for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refused) == 6


async def test_too_many_streams_are_refused_until_others_end(issuer: Issuer) -> None:
    async with serve(issuer, Probe(), threads=2, streams=2) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)

        def watch(after: int) -> Any:
            metadata = bearer(issuer.service_token("jobs"))
            return stub.WatchRevocations(auth_pb2.WatchRevocationsRequest(after=after), metadata=metadata)

        held = [watch(FOR_EVER) for _ in range(2)]
        for stream in held:
            await stream.read()
        refused = await refusal(watch(0))
        assert (refused.reason, refused.retry_after) == ("OVERLOADED", 1)
        assert (await stub.GetMe(auth_pb2.GetMeRequest(), metadata=bearer(issuer.token()))).user_id == "ada"
        held[0].cancel()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert len([response async for response in watch(0)]) == 3
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)


async def test_too_many_uploads_are_refused(issuer: Issuer) -> None:
    async with serve(issuer, FakeMappings(), threads=1) as address, connect(address) as channel:
        stub, metadata = mappings_pb2_grpc.MappingServiceStub(channel), bearer(issuer.token())
        held = stub.ImportMappings(metadata=metadata)
        await held.write(mappings_pb2.ImportMappingsRequest())
        await asyncio.sleep(0.2)
        second: Any = stub.ImportMappings(iter([mappings_pb2.ImportMappingsRequest()]), metadata=metadata)
        assert (await refusal(second)).reason == "OVERLOADED"
        await held.done_writing()
        assert len((await held).mappings) == 1


async def test_an_ended_session_is_refused(issuer: Issuer) -> None:
    verifier = Verifier(issuer.jwks, issuer.keys)
    token = issuer.token(user="ada")
    assert (await verifier.verify(token)).session_id == "session-of-ada"
    verifier.revoke(Revocation(1, "session-of-ada", time.time() + 300))
    server = Server([Probe()], chain(verifier, threads=2, streams=2))
    port = await server.start("127.0.0.1:0")
    async with connect(f"127.0.0.1:{port}") as channel:
        call = auth_pb2_grpc.AuthServiceStub(channel).GetMe(auth_pb2.GetMeRequest(), metadata=bearer(token))
        assert (await refusal(call)).reason == "TOKEN_REVOKED"
    await server.stop(0)


async def test_the_request_id_comes_back(stub: "Stub", issuer: Issuer) -> None:
    call = stub.GetMe(
        auth_pb2.GetMeRequest(), metadata=(*bearer(issuer.token()), ("x-request-id", "my-request-1"))
    )
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "my-request-1"


async def test_a_refusal_carries_the_request_id_and_the_challenge(stub: "Stub") -> None:
    call = stub.GetMe(auth_pb2.GetMeRequest(), metadata=(("x-request-id", "my-request-2"),))
    assert (await refusal(call)).reason == "TOKEN_MISSING"
    metadata = dict(await call.trailing_metadata())
    assert (metadata["x-request-id"], metadata["www-authenticate"]) == ("my-request-2", "Bearer")


def test_a_server_refuses_to_start_while_a_method_has_no_authz() -> None:
    class Health(health_pb2_grpc.HealthServicer):
        """A service that says nothing of who may call it."""

    with pytest.raises(RuntimeError, match="has no"):
        Server([Health()], [])
