"""Workers take runs, hold them, and lose them."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernel.db import Database, now
from services.jobs.domain import jobs, leases, logs, runs
from services.jobs.domain.leases import Lease
from services.jobs.errors import LeaseLostError
from services.jobs.models import Level, LogLine, Run, State
from tests.jobs.conftest import ORGANIZATION, make_job
from tests.jobs.test_runs import queue, stop

NOW, WHILE = dt.timedelta(), dt.timedelta(seconds=10)


def claim(
    database: Database, worker: str = "w1", *, later: dt.timedelta = NOW, duration: dt.timedelta = WHILE
) -> Run | None:
    """What a worker does to get a run, now or later."""
    with database.transaction() as session:
        return leases.claim(session, worker, duration, now() + later)


def claimed(
    database: Database, worker: str = "w1", *, later: dt.timedelta = NOW, duration: dt.timedelta = WHILE
) -> Run:
    """The run that a worker gets."""
    run = claim(database, worker, later=later, duration=duration)
    assert run is not None
    return run


def claim_of_a_new_run(database: Database) -> Run:
    """A run that was queued and taken."""
    queue(database)
    return claimed(database)


def lease_of(run: Run) -> Lease:
    """What a worker keeps of the run it took."""
    return Lease(run.id, run.fence)


def text(database: Database, run: Run) -> list[str]:
    """The messages of a run's log."""
    with database.read() as session:
        return [line.message for line in session.scalars(logs.lines(run.id, 0, 1000))]


def test_a_worker_gets_the_oldest_run_with_its_plan_and_its_first_line(database: Database) -> None:
    for reference in ("A", "B"):
        make_job(database, reference)
        queue(database, reference)
    run = claimed(database)
    assert (run.reference, run.state, run.worker, run.attempt) == ("A", State.RUNNING, "w1", 1)
    assert run.plan.content
    assert run.start_time is not None
    assert text(database, run) == ["Attempt 1: worker w1 takes the run."]
    assert claimed(database).reference == "B"
    assert claim(database) is None


def test_no_run_is_taken_by_two_workers(database: Database) -> None:
    for number in range(20):
        make_job(database, f"JOB_{number}")
        queue(database, f"JOB_{number}")

    def work(worker: str) -> list[str]:
        taken = []
        while run := claim(database, worker):
            taken.append(run.id)
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = Counter(run for found in threads.map(work, [f"w{n}" for n in range(8)]) for run in found)
    assert len(taken) == 20
    assert set(taken.values()) == {1}


def test_a_lease_that_expired_is_taken_over_and_the_log_says_so(database: Database) -> None:
    make_job(database)
    queue(database)
    lost = claimed(database, "w1")
    assert claim(database, "w2", later=WHILE / 2) is None
    taken = claimed(database, "w2", later=WHILE * 2)
    assert (taken.id, taken.attempt, taken.losses, taken.worker) == (lost.id, 2, 1, "w2")
    assert taken.fence > lost.fence
    assert taken.start_time == lost.start_time
    assert text(database, taken)[1] == "Attempt 2: worker w1 stopped answering; worker w2 takes the run."


def test_a_stopping_run_that_is_taken_over_is_still_stopping(database: Database) -> None:
    make_job(database)
    queue(database)
    stop(database, claimed(database, "w1"))
    assert claimed(database, "w2", later=WHILE * 2).state == State.STOPPING


def test_a_heartbeat_keeps_the_run(database: Database) -> None:
    make_job(database)
    queue(database)
    lease = lease_of(claimed(database))
    with database.transaction() as session:
        leases.extend(session, lease, WHILE, now() + WHILE / 2)
    assert claim(database, "w2", later=WHILE * 1.2) is None


def _extend(database: Database, lease: Lease, at: dt.datetime) -> None:
    with database.transaction() as session:
        leases.extend(session, lease, WHILE, at)


def _release(database: Database, lease: Lease, at: dt.datetime) -> None:
    with database.transaction() as session:
        leases.hold(session, lease, at).move(State.QUEUED, at)


def _append(database: Database, lease: Lease, at: dt.datetime) -> None:
    with database.transaction() as session:
        logs.append(session, leases.hold(session, lease, at), [logs.Entry(at, Level.INFO, "I live")])


@pytest.mark.parametrize("write", [_extend, _release, _append])
def test_a_worker_that_lost_its_lease_writes_nothing(
    database: Database, write: Callable[[Database, Lease, dt.datetime], None]
) -> None:
    make_job(database)
    queue(database)
    lost = lease_of(claimed(database, "w1"))
    with pytest.raises(LeaseLostError):
        write(database, lost, now() + WHILE * 2)
    taken = claimed(database, "w2", later=WHILE * 2)
    with pytest.raises(LeaseLostError):
        write(database, lost, now())
    assert "I live" not in text(database, taken)
    with database.read() as session:
        assert runs.get(session, ORGANIZATION, taken.id).worker == "w2"


def test_a_run_that_is_handed_back_is_taken_again_at_once(database: Database) -> None:
    make_job(database)
    queue(database)
    run = claimed(database, "w1")
    _release(database, lease_of(run), now())
    again = claimed(database, "w2")
    assert (again.id, again.attempt, again.losses) == (run.id, 2, 0)


def test_a_job_made_anew_fences_higher_than_the_one_before(database: Database) -> None:
    make_job(database)
    first = claim_of_a_new_run(database)
    with database.transaction() as session:
        leases.hold(session, lease_of(first), now()).move(State.FAILED, now())
    with database.transaction() as session:
        jobs.delete(session, ORGANIZATION, first.reference)
    make_job(database)
    assert claim_of_a_new_run(database).fence > first.fence


def test_a_renewed_lease_has_a_higher_fence_and_the_old_one_is_over(database: Database) -> None:
    make_job(database)
    old = lease_of(claim_of_a_new_run(database))
    with database.transaction() as session:
        run = leases.hold(session, old, now())
        leases.renew(session, run, now())
    new = lease_of(run)
    assert new.fence > old.fence
    _extend(database, new, now())
    with pytest.raises(LeaseLostError):
        _extend(database, old, now())


def test_lines_of_many_writers_have_no_gap(database: Database) -> None:
    make_job(database)
    queue(database)
    run = claimed(database)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(_append, database, lease_of(run), now()) for _ in range(40)]:
            done.result()
    with database.read() as session:
        found = [line.sequence for line in session.scalars(logs.lines(run.id, 0, 1000))]
        assert found == list(range(1, 42))
        assert session.get_one(Run, run.id).lines == 41
        assert session.get(LogLine, (run.id, 42)) is None
