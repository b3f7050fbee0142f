"""Signing in by password, and how guessing is slowed down."""

import asyncio
import datetime as dt
import statistics
import time
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from kernel.db import now
from services.auth.domain import logins, passwords
from services.auth.models import LoginCounter, User
from tests.auth.running import PASSWORD, Running, codes, running, settings_in
from tests.servers import refusal


@pytest.fixture
async def ada(auth: Running) -> Running:
    """The service with the administrator ada, who has signed in from 127.0.0.1."""
    await auth.bootstrap("ada")
    await auth.login("ada")
    return auth


@pytest.mark.parametrize("name", ["ada", "ADA", " ada ", "ada@example.org", "Ada@Example.ORG"])
async def test_a_user_signs_in_by_either_name_in_any_case(ada: Running, name: str) -> None:
    pair = await ada.login(name)
    assert (await ada.me(pair.access_token)).user_name == "ada"


async def test_each_sign_in_is_a_session_of_its_own(ada: Running) -> None:
    sessions = {(await ada.me((await ada.login()).access_token)).session_id for _ in range(3)}
    assert len(sessions) == 3


async def test_unknown_wrong_and_disabled_get_the_same_answer(ada: Running) -> None:
    answers = [await _answer(ada, user, "not the password") for user in ("ada", "nobody", "a@b.example")]
    with ada.database.transaction() as session:
        session.execute(sa.update(User).values(state="DISABLED"))
    answers.append(await _answer(ada, "ada", PASSWORD))
    assert len(set(answers)) == 1
    assert answers[0][1] == "CREDENTIALS_REFUSED"


async def test_a_password_is_taken_exactly_as_given(ada: Running) -> None:
    for password in (PASSWORD.upper(), f" {PASSWORD}", f"{PASSWORD} "):
        assert (await refusal(ada.login(password=password))).reason == "CREDENTIALS_REFUSED"


@pytest.mark.timed
async def test_the_fourth_failure_makes_the_next_attempt_wait(ada: Running) -> None:
    for _ in range(4):
        assert (await refusal(ada.login(password="wrong"))).reason == "CREDENTIALS_REFUSED"
    started = time.monotonic()
    throttled = await refusal(ada.login())
    assert throttled.reason == "LOGIN_THROTTLED"
    assert 0 < (throttled.retry_after or 0) <= 1
    assert time.monotonic() - started < 0.5, "it is refused, not held"
    await asyncio.sleep(throttled.retry_after or 0)
    await ada.login()
    assert (await refusal(ada.login(password="wrong"))).reason == "CREDENTIALS_REFUSED"
    await ada.login()


async def test_unknown_users_are_throttled_alike(ada: Running) -> None:
    for _ in range(4):
        await refusal(ada.login("nobody", "wrong"))
    assert (await refusal(ada.login("nobody", "wrong"))).reason == "LOGIN_THROTTLED"


async def test_both_names_of_a_user_count_as_one_account(ada: Running) -> None:
    for name in ("ada", "ada@example.org", "ADA", "ada@EXAMPLE.org"):
        await refusal(ada.login(name, "wrong"))
    assert (await refusal(ada.login("ada"))).reason == "LOGIN_THROTTLED"


async def test_guesses_from_one_source_do_not_throttle_another(ada: Running) -> None:
    for _ in range(4):
        await refusal(ada.login(password="wrong", source="203.0.113.7"))
    assert (await refusal(ada.login(source="203.0.113.7"))).reason == "LOGIN_THROTTLED"
    await ada.login(source="198.51.100.1")


async def test_a_claimed_source_before_the_gateways_own_is_not_believed(ada: Running) -> None:
    for number in range(4):
        await refusal(ada.login(password="wrong", source=f"10.0.0.{number}, 203.0.113.7"))
    assert (await refusal(ada.login(source="10.9.9.9, 203.0.113.7"))).reason == "LOGIN_THROTTLED"


async def test_guesses_at_once_are_no_way_around_the_limit(ada: Running) -> None:
    calls = [ada.login(password="wrong", source="203.0.113.7") for _ in range(9)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    told = [error for error in results if isinstance(error, grpc.aio.AioRpcError)]
    assert sum(codes(error) == "UNAUTHENTICATED" for error in told) <= logins.FREE_FAILURES + 1
    assert {codes(error) for error in told} <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}


async def test_many_sources_get_a_hundred_guesses_and_the_owner_does_not_notice(ada: Running) -> None:
    told = 0
    for number in range(logins.MAX_ACCOUNT_FAILURES + 20):
        refused = await refusal(ada.login(password="wrong", source=f"203.0.113.{number}"))
        told += refused.reason == "CREDENTIALS_REFUSED"
    assert told == logins.MAX_ACCOUNT_FAILURES
    assert (await refusal(ada.login(source="198.51.100.1"))).reason == "LOGIN_THROTTLED"
    await ada.login()


async def test_a_sign_in_renews_a_hash_that_is_cheaper_than_it_should_be(tmp_path: Path) -> None:
    async with running(settings_in(tmp_path, None)) as first:
        await first.bootstrap()
    async with running(settings_in(tmp_path, None, password_time_cost=2)) as second:
        await second.login()
        with second.database.read() as session:
            assert "m=8,t=2,p=1" in session.scalars(sa.select(User.password_hash)).one()
        await second.login()


async def test_counters_survive_a_restart(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, None)
    async with running(settings) as first:
        await first.bootstrap()
        for _ in range(4):
            await refusal(first.login(password="wrong"))
        with first.database.transaction() as session:
            session.execute(sa.update(LoginCounter).values(retry_time=now() + dt.timedelta(minutes=1)))
    async with running(settings) as second:
        assert (await refusal(second.login())).reason == "LOGIN_THROTTLED"


async def test_counters_are_forgotten_after_their_time(ada: Running) -> None:
    for name in ("ada", "one", "two"):
        await refusal(ada.login(name, "wrong"))
    with ada.database.transaction() as session:
        session.execute(sa.update(LoginCounter).values(expire_time=now()))
    await ada.login()
    with ada.database.read() as session:
        assert len(session.scalars(sa.select(LoginCounter)).all()) == 2


async def test_logins_beyond_what_memory_allows_are_refused_at_once(tmp_path: Path) -> None:
    costly = {"password_checks": 1, "password_queue": 2, "password_time_cost": 2, "password_memory": 65536}
    async with running(settings_in(tmp_path, None, **costly)) as auth:
        await auth.bootstrap()
        results = await asyncio.gather(*(auth.login() for _ in range(10)), return_exceptions=True)
        refused = [codes(error) for error in results if isinstance(error, grpc.aio.AioRpcError)]
        assert set(refused) == {"RESOURCE_EXHAUSTED"}
        assert 1 <= len(refused) <= 7


@pytest.mark.timed
def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    checker = passwords.Passwords(time_cost=2, memory=19456, checks=1, queue=0)
    known = checker.hash(PASSWORD)

    def milliseconds(password_hash: str | None) -> float:
        started = time.process_time()
        assert not checker.match(password_hash, "not the password")
        return time.process_time() - started

    pairs = [(milliseconds(known), milliseconds(None)) for _ in range(15)]
    right, unknown = (statistics.median(side) for side in zip(*pairs, strict=True))
    assert unknown == pytest.approx(right, rel=0.2)


async def _answer(auth: Running, user: str, password: str) -> tuple[int, str, str, tuple[str, ...]]:
    refused = await refusal(auth.login(user, password))
    return refused.code, refused.reason, refused.message, tuple(refused.metadata)
