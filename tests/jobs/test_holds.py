"""What a worker writes to a run that it holds is written once."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import orm
from sqlalchemy.exc import OperationalError

from kernel.db import Database, now
from services.jobs.domain import logs
from services.jobs.errors import LeaseLostError
from services.jobs.models import Level, Run
from services.jobs.settings import Settings
from services.jobs.workers import holds
from services.jobs.workers.holds import Hold
from tests.jobs.conftest import make_job
from tests.jobs.test_leases import claim_of_a_new_run, claimed, text


def lose_an_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object] = lambda: None
) -> None:
    """Lets the answer to the next commit get lost, and something else happen before it is tried again."""
    transaction, lost = database.transaction, [OperationalError("COMMIT", None, Exception("no answer"))]

    @contextmanager
    def losing() -> Iterator[orm.Session]:
        with transaction() as session:
            yield session
        if lost:
            monkeypatch.setattr(database, "transaction", transaction)
            then()
            raise lost.pop()

    monkeypatch.setattr(database, "transaction", losing)
    monkeypatch.setattr(holds, "RETRY_SECONDS", 0.01)


def held(database: Database) -> tuple[Run, Hold]:
    """A run that a worker holds."""
    make_job(database)
    run = claim_of_a_new_run(database)
    return run, Hold(database, run, Settings())


def say(session: orm.Session, run: Run) -> None:
    """A line of the run's log."""
    logs.append(session, run, [logs.Entry(now(), Level.INFO, "Once.")])


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hold = held(database)
    for number in (1, 2):
        lose_an_answer(database, monkeypatch)
        await hold.write(say)
        assert text(database, run).count("Once.") == number


async def test_a_new_fence_is_known_though_its_answer_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hold = held(database)
    lose_an_answer(database, monkeypatch)
    await hold.renew()
    assert hold.lease.fence > run.fence
    await hold.write(say)
    assert text(database, run)[-1] == "Once."


async def test_a_run_that_was_taken_before_the_answer_came_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hold = held(database)
    lose_an_answer(database, monkeypatch, lambda: claimed(database, "w2", later=dt.timedelta(minutes=1)))
    with pytest.raises(LeaseLostError):
        await hold.write(say)
    assert hold.lease.fence == run.fence
    assert text(database, run).count("Once.") == 1
