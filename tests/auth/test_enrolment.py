"""The first start and the first administrator."""

import asyncio
import datetime as dt
import stat

import grpc
import pytest
import sqlalchemy as sa

from kernel.db import now
from services.auth.models import Installation, Organization, SigningKey, User
from services.auth.settings import Settings
from tests.auth.running import PASSWORD, Running, running
from tests.servers import refusal


async def test_the_code_lies_in_a_file_that_only_its_owner_reads(auth: Running) -> None:
    assert stat.S_IMODE(auth.settings.enrolment_file.stat().st_mode) == 0o600
    assert len(auth.code.strip()) * 6 >= 128
    with auth.database.read() as session:
        kept = session.scalars(sa.select(Installation.enrolment_code_hash)).one()
    assert kept is not None
    assert auth.code.strip().encode() not in kept


async def test_the_code_makes_the_first_administrator_and_disappears(auth: Running) -> None:
    pair = await auth.bootstrap("ada")
    me = await auth.me(pair.access_token)
    assert (me.user_name, me.email, me.organization_name) == ("ada", "ada@example.org", "Default")
    assert list(me.roles) == ["admin"]
    assert "connections.manage" in me.permissions
    assert not auth.settings.enrolment_file.exists()


async def test_a_second_bootstrap_is_refused_for_ever(auth: Running) -> None:
    code = auth.code
    await auth.bootstrap("ada")
    refused = await refusal(auth.bootstrap("eve", code=code))
    assert refused.reason == "ENROLMENT_CLOSED"


async def test_of_many_bootstraps_at_once_one_succeeds(auth: Running) -> None:
    code = auth.code
    calls = [auth.bootstrap(f"user{number}", code=code) for number in range(6)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert len(failed) == 5
    assert {error.code() for error in failed} == {grpc.StatusCode.FAILED_PRECONDITION}
    with auth.database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(User)) == 1


async def test_a_wrong_code_is_refused(auth: Running) -> None:
    refused = await refusal(auth.bootstrap(code="not the code"))
    assert refused.reason == "ENROLMENT_CODE_REFUSED"
    assert auth.settings.enrolment_file.exists()


async def test_an_old_code_is_refused(auth: Running) -> None:
    with auth.database.transaction() as session:
        session.execute(sa.update(Installation).values(enrolment_expire_time=now() - dt.timedelta(seconds=1)))
    refused = await refusal(auth.bootstrap())
    assert refused.reason == "ENROLMENT_CODE_REFUSED"


@pytest.mark.parametrize("password", ["fourteen chars", "portolan portolan", "ada@example.org ada", "a" * 40])
async def test_a_weak_password_is_refused_and_the_code_stays_good(auth: Running, password: str) -> None:
    refused = await refusal(auth.bootstrap(password=password))
    assert refused.reason == "PASSWORD_WEAK"
    assert list(refused.fields) == ["password"]
    await auth.bootstrap()


async def test_a_restart_without_users_writes_a_new_code(settings: Settings) -> None:
    async with running(settings) as first:
        old = first.code
    async with running(settings) as second:
        assert second.code != old
        assert (await refusal(second.bootstrap(code=old))).reason == "ENROLMENT_CODE_REFUSED"
        await second.bootstrap()


async def test_a_restart_with_users_keeps_all_and_opens_nothing(settings: Settings) -> None:
    async with running(settings) as first:
        code = first.code
        pair = await first.bootstrap()
    settings.enrolment_file.write_text(code)
    async with running(settings) as second:
        assert not settings.enrolment_file.exists()
        assert (await refusal(second.bootstrap(code=code))).reason == "ENROLMENT_CLOSED"
        assert (await second.me(pair.access_token)).user_name == "ada"
        await second.login(password=PASSWORD)
        with second.database.read() as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(SigningKey)) == 1
            assert session.scalar(sa.select(sa.func.count()).select_from(Organization)) == 1
