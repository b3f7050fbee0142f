"""A caller who goes ends what is done for it, and what waits for its turn is never begun; by real servers."""

import asyncio
import threading
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from kernel import clients
from kernel.cancellation import Cancellation, on_cancel
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from tests.servers import Issuer, bearer, connect, refusal, serve

SECONDS = 30


class Patient(auth_pb2_grpc.AuthServiceServicer):
    """Waits until its caller goes, or, where it does not listen, until it is let go."""

    def __init__(self, *, listening: bool = True) -> None:
        self.begun = 0
        self.ended = 0
        self.released = threading.Event()
        self._listening = listening

    def Logout(self, request: auth_pb2.LogoutRequest, context: grpc.ServicerContext) -> Empty:
        self.begun += 1
        with on_cancel(self.released.set if self._listening else Empty):
            self.released.wait(SECONDS)
        self.ended += 1
        return Empty()


class Agent(auth_pb2_grpc.AuthServiceServicer):
    """Asks another server, as its caller."""

    def __init__(self, other: str) -> None:
        self._other = auth_pb2_grpc.AuthServiceStub(clients.channel(other))

    def Logout(self, request: auth_pb2.LogoutRequest, context: grpc.ServicerContext) -> Empty:
        return clients.call(self._other.Logout, request)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS / 2):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on another thread
            await asyncio.sleep(0.01)


async def test_a_caller_who_hangs_up_ends_what_is_done_for_it(issuer: Issuer) -> None:
    patient = Patient()
    async with serve(issuer, patient) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        call = stub.Logout(auth_pb2.LogoutRequest(), metadata=bearer(issuer.token()))
        await until(lambda: patient.begun == 1)
        call.cancel()
        await until(lambda: patient.ended == 1)


async def test_a_deadline_that_passes_ends_what_is_done(issuer: Issuer) -> None:
    patient = Patient()
    async with serve(issuer, patient) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="Deadline Exceeded"):
            await stub.Logout(auth_pb2.LogoutRequest(), metadata=bearer(issuer.token()), timeout=0.5)
        await until(lambda: patient.ended == 1)


async def test_it_ends_at_the_services_that_were_asked_too(issuer: Issuer) -> None:
    patient = Patient()
    async with (
        serve(issuer, patient) as other,
        serve(issuer, Agent(other)) as address,
        connect(address) as channel,
    ):
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        call = stub.Logout(auth_pb2.LogoutRequest(), metadata=bearer(issuer.token()))
        await until(lambda: patient.begun == 1)
        call.cancel()
        await until(lambda: patient.ended == 1)


async def test_a_call_counts_until_its_thread_is_free_and_one_that_waits_is_not_begun(
    issuer: Issuer,
) -> None:
    patient = Patient(listening=False)
    async with serve(issuer, patient, threads=1) as address, connect(address) as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        metadata = bearer(issuer.token())
        left = [stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata) for _ in range(3)]
        await until(lambda: patient.begun == 1)
        assert (
            await refusal(stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata))
        ).reason == "OVERLOADED"
        for call in left:
            call.cancel()
        await asyncio.sleep(0.2)
        calls = [stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata) for _ in range(2)]
        await asyncio.sleep(0.2)
        assert (
            await refusal(stub.Logout(auth_pb2.LogoutRequest(), metadata=metadata))
        ).reason == "OVERLOADED"
        patient.released.set()
        await asyncio.gather(*calls)
    assert patient.begun == 3


def test_who_has_gone_before_ends_it_at_once_and_later_nothing_more() -> None:
    call, ended = Cancellation(), []
    with call.ending(lambda: ended.append("over")):
        pass
    call.cancel()
    assert not ended
    with call.ending(lambda: ended.append("late")):
        assert ended == ["late"]
    call.cancel()
    assert ended == ["late"]


def test_where_no_call_is_served_nothing_ends() -> None:
    with on_cancel(pytest.fail):
        pass
