"""Refresh tokens that work once, and sessions that end everywhere."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import sqlalchemy as sa

from kernel import app, clients
from kernel.auth import ServiceIdentity
from kernel.db import now
from kernel.errors import TokenRevokedError
from portolan.auth.v1 import auth_pb2 as pb
from services.auth.models import RefreshToken, Revocation, User, UserSession
from tests.auth.running import Running
from tests.servers import bearer, connect, refusal


def _age(auth: Running, seconds: int) -> None:
    """Lets the uses of all refresh tokens be so much longer ago."""
    with auth.database.transaction() as session:
        for token in session.scalars(sa.select(RefreshToken).where(RefreshToken.used_time.is_not(None))):
            assert token.used_time is not None
            token.used_time -= dt.timedelta(seconds=seconds)


async def test_a_refresh_continues_the_session(auth: Running) -> None:
    first = await auth.bootstrap()
    second = await auth.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    before, after = await auth.me(first.access_token), await auth.me(second.access_token)
    assert (after.session_id, after.login_time) == (before.session_id, before.login_time)
    assert second.expires_in.seconds == 300


async def test_parallel_refreshes_are_retries_and_leave_one_token_that_works(auth: Running) -> None:
    first = await auth.bootstrap()
    for _ in range(4):
        pairs = await asyncio.gather(*(auth.refresh(first.refresh_token) for _ in range(5)))
        results = await asyncio.gather(
            *(auth.refresh(pair.refresh_token) for pair in pairs), return_exceptions=True
        )
        working = [result for result in results if not isinstance(result, BaseException)]
        assert len(working) == 1
        first = working[0]
    await auth.me(first.access_token)


@pytest.mark.timed
async def test_a_refresh_token_that_comes_again_after_its_successor_was_used_ends_the_session(
    auth: Running,
) -> None:
    stolen = await auth.bootstrap()
    honest = await auth.refresh(await _next(auth, stolen.refresh_token))
    refused = await refusal(auth.refresh(stolen.refresh_token))
    assert refused.reason == "REFRESH_TOKEN_REUSED"
    assert (await refusal(auth.refresh(honest.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"
    with auth.database.read() as session:
        assert session.scalars(sa.select(UserSession.end_reason)).all() == ["REFRESH_TOKEN_REUSED"]
    await _revoked(auth, honest.access_token)


async def test_a_refresh_token_that_comes_again_after_ten_seconds_ends_the_session(auth: Running) -> None:
    stolen = await auth.bootstrap()
    honest = await auth.refresh(stolen.refresh_token)
    _age(auth, 11)
    assert (await refusal(auth.refresh(stolen.refresh_token))).reason == "REFRESH_TOKEN_REUSED"
    assert (await refusal(auth.refresh(honest.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"


async def test_the_reuse_of_one_session_leaves_the_others(auth: Running) -> None:
    stolen = await auth.bootstrap()
    other = await auth.login()
    await auth.refresh(stolen.refresh_token)
    _age(auth, 11)
    await refusal(auth.refresh(stolen.refresh_token))
    await auth.refresh(other.refresh_token)


async def test_an_unknown_refresh_token_is_refused(auth: Running) -> None:
    pair = await auth.bootstrap()
    for token in ("unknown", pair.access_token[:200], "é" * 50):
        assert (await refusal(auth.refresh(token))).reason == "REFRESH_TOKEN_REFUSED"


async def test_an_expired_refresh_token_and_an_expired_session_are_refused(auth: Running) -> None:
    pair, other = await auth.bootstrap(), await auth.login()
    past = now() - dt.timedelta(seconds=1)
    with auth.database.transaction() as session:
        session.execute(sa.update(UserSession).values(expire_time=past))
    assert (await refusal(auth.refresh(pair.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"
    with auth.database.transaction() as session:
        session.execute(sa.update(UserSession).values(expire_time=now() + dt.timedelta(days=1)))
        session.execute(sa.update(RefreshToken).values(expire_time=past))
    assert (await refusal(auth.refresh(other.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"


async def test_sessions_are_forgotten_when_none_of_their_tokens_can_be_valid_any_more(auth: Running) -> None:
    await auth.bootstrap()
    for _ in range(3):
        await auth.login()
    week, moment = dt.timedelta(days=7), now()
    with auth.database.transaction() as session:
        ended_long_ago, ended, expired_long_ago, idle = session.scalars(sa.select(UserSession)).all()
        ended_long_ago.end_time = moment - week - dt.timedelta(minutes=1)
        ended.end_time = moment - week + dt.timedelta(minutes=1)
        expired_long_ago.expire_time = moment - week - dt.timedelta(minutes=1)
        over = RefreshToken.session_id.in_((ended_long_ago.id, expired_long_ago.id, idle.id))
        session.execute(sa.update(RefreshToken).where(over).values(expire_time=moment))
    await auth.login()
    with auth.database.read() as session:
        kept = set(session.scalars(sa.select(UserSession.id)))
        tokens = session.scalars(sa.select(RefreshToken.session_id)).all()
    assert {ended.id, idle.id} < kept
    assert len(kept) == 3
    assert len(tokens) == 2


async def test_a_disabled_user_cannot_refresh(auth: Running) -> None:
    pair = await auth.bootstrap()
    with auth.database.transaction() as session:
        session.execute(sa.update(User).values(state="DISABLED"))
    assert (await refusal(auth.refresh(pair.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"


async def test_only_digests_of_refresh_tokens_are_kept(auth: Running) -> None:
    pair = await auth.bootstrap()
    with auth.database.read() as session:
        digests = session.scalars(sa.select(RefreshToken.hash)).all()
    assert [len(digest) for digest in digests] == [32]
    assert pair.refresh_token.encode() not in digests


@pytest.mark.timed
async def test_a_logout_reaches_another_service_within_two_seconds(auth: Running) -> None:
    pair = await auth.bootstrap()
    identity = ServiceIdentity.load(auth.settings.keys, "jobs")
    async with connect(auth.settings.auth_address) as channel:
        verifier, watch = app.verifier_over(channel, identity, auth.settings)
        watching = asyncio.ensure_future(watch())
        assert (await verifier.verify(pair.access_token)).user_id
        await auth.stub.Logout(pb.LogoutRequest(), metadata=bearer(pair.access_token))
        ended = time.monotonic()
        while True:
            try:
                await verifier.verify(pair.access_token)
            except TokenRevokedError:
                break
            assert time.monotonic() - ended < 2
            await asyncio.sleep(0.01)
        watching.cancel()
    assert (await refusal(auth.refresh(pair.refresh_token))).reason == "REFRESH_TOKEN_REFUSED"


async def test_a_second_logout_in_the_time_until_it_is_known_changes_nothing(auth: Running) -> None:
    pair = await auth.bootstrap()
    calls = [auth.stub.Logout(pb.LogoutRequest(), metadata=bearer(pair.access_token)) for _ in range(4)]
    await asyncio.gather(*calls, return_exceptions=True)
    with auth.database.read() as session:
        assert len(session.scalars(sa.select(Revocation)).all()) == 1


async def test_revocations_resume_after_a_cursor_in_their_order(auth: Running) -> None:
    pairs = [await auth.bootstrap(), *[await auth.login() for _ in range(5)]]
    await asyncio.gather(
        *(auth.stub.Logout(pb.LogoutRequest(), metadata=bearer(pair.access_token)) for pair in pairs)
    )
    seen = [item async for item in _revocations(auth, after=0, count=6)]
    assert [item.cursor for item in seen] == [1, 2, 3, 4, 5, 6]
    assert len({item.session_id for item in seen}) == 6
    assert [item.cursor async for item in _revocations(auth, after=4, count=2)] == [5, 6]
    left = seen[0].expire_time.ToDatetime(dt.UTC) - now()
    assert dt.timedelta(minutes=5) < left < dt.timedelta(minutes=6)


async def test_a_cursor_of_another_database_begins_anew(auth: Running) -> None:
    pair = await auth.bootstrap()
    await auth.stub.Logout(pb.LogoutRequest(), metadata=bearer(pair.access_token))
    assert [item.cursor async for item in _revocations(auth, after=2**63 - 1, count=1)] == [1]


async def test_revocations_are_for_services_alone(auth: Running) -> None:
    pair = await auth.bootstrap()
    stream = auth.stub.WatchRevocations(pb.WatchRevocationsRequest(), metadata=bearer(pair.access_token))
    assert (await refusal(stream)).reason == "PERMISSION_MISSING"
    assert (await refusal(auth.stub.WatchRevocations(pb.WatchRevocationsRequest()))).reason == "TOKEN_MISSING"


@pytest.mark.timed
async def test_a_watcher_hears_at_once_that_it_is_connected(auth: Running) -> None:
    metadata = clients.metadata(auth.identity.token())
    stream = auth.stub.WatchRevocations(pb.WatchRevocationsRequest(), metadata=metadata)
    async with asyncio.timeout(2):
        response = await stream.read()
    assert response == pb.WatchRevocationsResponse()
    stream.cancel()


async def _next(auth: Running, refresh_token: str) -> str:
    return (await auth.refresh(refresh_token)).refresh_token


async def _revoked(auth: Running, access_token: str) -> None:
    """Waits until the service itself refuses a token, at most two seconds."""
    async with asyncio.timeout(2):
        while True:
            try:
                await auth.me(access_token)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                return
            await asyncio.sleep(0.02)


async def _revocations(auth: Running, *, after: int, count: int) -> AsyncIterator[pb.Revocation]:
    metadata = clients.metadata(auth.identity.token())
    stream = auth.stub.WatchRevocations(pb.WatchRevocationsRequest(after=after), metadata=metadata)
    async with asyncio.timeout(5):
        async for response in stream:
            for item in response.revocations:
                yield item
                count -= 1
            if count == 0:
                stream.cancel()
                return
