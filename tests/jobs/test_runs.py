"""Queueing and stopping runs, and how they move."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from kernel.db import Database, new_id, now
from kernel.errors import FieldInvalidError
from services.jobs.domain import jobs, logs, runs
from services.jobs.errors import (
    JobExistsError,
    JobNotFoundError,
    ParametersInvalidError,
    RunActiveError,
    RunEndedError,
    RunNotFoundError,
)
from services.jobs.models import MOVES, Run, State
from services.jobs.servicers.messages import plan_row
from tests.jobs.conftest import ORGANIZATION, make_job, plan


def queue(
    database: Database, reference: str = "DIM_CARRIER", *, request_id: str = "", **parameters: str
) -> Run:
    """A queued run."""
    with database.transaction() as session:
        job = jobs.lock(session, ORGANIZATION, reference)
        return runs.queue(session, job, parameters, request_id=request_id, creator="ada")


def stop(database: Database, run: Run, organization: str = ORGANIZATION) -> Run:
    """What StopRun does."""
    with database.transaction() as session:
        return runs.stop(session, organization, run.id, "ada", now())


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_a_run_moves_only_as_the_table_allows(old: State, new: State) -> None:
    run = Run(id="r", state=old)
    if new in MOVES[old]:
        run.move(new, now())
        assert run.state == new
        assert (run.end_time is not None) == (not MOVES[new])
    else:
        with pytest.raises(RunEndedError if not MOVES[old] else ValueError):
            run.move(new, now())
        assert run.state == old


def test_a_job_has_one_run_under_way(database: Database) -> None:
    make_job(database)
    first = queue(database)
    with pytest.raises(RunActiveError) as refused:
        queue(database)
    assert refused.value.metadata == {"run": first.id}
    stop(database, first)
    assert queue(database).id > first.id


def test_of_many_run_calls_at_once_one_wins(database: Database) -> None:
    make_job(database)

    def attempt(_: int) -> str:
        try:
            return queue(database).id
        except RunActiveError as error:
            return error.metadata["run"]

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(attempt, range(16)))) == 1


def test_the_database_itself_refuses_a_second_run_under_way(database: Database) -> None:
    job = make_job(database)
    queue(database)
    common = {"organization_id": ORGANIZATION, "plan_id": job.plan_id, "reference": job.reference}
    second = Run(job_id=job.id, mapping_version=3, parameters={}, creator="ada", **common)
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(second)


def test_the_same_request_id_returns_the_same_run(database: Database) -> None:
    make_job(database)
    request_id = new_id()
    first = queue(database, request_id=request_id)
    assert queue(database, request_id=request_id).id == first.id
    stop(database, first)
    again = queue(database, request_id=request_id)
    assert (again.id, again.state) == (first.id, State.STOPPED)


def test_a_request_id_of_another_job_is_refused(database: Database) -> None:
    make_job(database)
    make_job(database, "DIM_PLANE")
    request_id = new_id()
    queue(database, request_id=request_id)
    with pytest.raises(FieldInvalidError) as refused:
        queue(database, "DIM_PLANE", request_id=request_id)
    assert "request_id" in refused.value.fields


def test_a_request_id_with_other_parameters_is_refused(database: Database) -> None:
    make_job(database, parameters=("day",))
    request_id = new_id()
    first = queue(database, request_id=request_id, day="1")
    assert queue(database, request_id=request_id, day="1").id == first.id
    with pytest.raises(FieldInvalidError) as refused:
        queue(database, request_id=request_id, day="2")
    assert refused.value.fields == {"request_id": "was used for another job or with other parameters"}


def test_parameters_are_those_of_the_plan(database: Database) -> None:
    make_job(database, parameters=("day", "hour"))
    with pytest.raises(ParametersInvalidError) as refused:
        queue(database, day="1", minute="2")
    assert refused.value.fields == {
        "parameters.hour": "is missing",
        "parameters.minute": "is not used by the job",
    }
    assert queue(database, day="1", hour="2").parameters == {"day": "1", "hour": "2"}


def test_a_queued_run_stops_at_once(database: Database) -> None:
    make_job(database)
    run = stop(database, queue(database))
    assert run.state == State.STOPPED
    with database.read() as session:
        lines = [line.message for line in session.scalars(logs.lines(run.id, 0, 10))]
    assert lines == ["Stopped by ada before a worker took it."]
    with pytest.raises(RunEndedError):
        stop(database, run)


def test_a_run_of_another_organization_does_not_exist(database: Database) -> None:
    make_job(database)
    run = queue(database)
    with pytest.raises(RunNotFoundError):
        stop(database, run, "org-2")
    with pytest.raises(JobNotFoundError), database.read() as session:
        jobs.get(session, "org-2", "DIM_CARRIER")


def test_a_mapping_has_one_job(database: Database) -> None:
    make_job(database)
    with pytest.raises(JobExistsError):
        make_job(database)


def test_a_bound_job_runs_the_new_version_and_its_queued_run_the_old(database: Database) -> None:
    make_job(database)
    run = queue(database)
    newer = plan()
    newer.version = 4
    with database.transaction() as session:
        jobs.bind(session, plan_row(ORGANIZATION, newer), now())
    with database.read() as session:
        assert jobs.get(session, ORGANIZATION, "DIM_CARRIER").plan.mapping_version == 4
        assert runs.get(session, ORGANIZATION, run.id).mapping_version == 3


def test_a_job_with_a_run_under_way_is_not_deleted_and_its_runs_outlive_it(database: Database) -> None:
    make_job(database)
    run = queue(database)
    with pytest.raises(RunActiveError), database.transaction() as session:
        jobs.delete(session, ORGANIZATION, "DIM_CARRIER")
    stop(database, run)
    with database.transaction() as session:
        jobs.delete(session, ORGANIZATION, "DIM_CARRIER")
    with database.read() as session:
        assert runs.get(session, ORGANIZATION, run.id).reference == "DIM_CARRIER"
    make_job(database)
    assert queue(database).state == State.QUEUED


def test_each_job_tells_its_latest_run(database: Database) -> None:
    first, second, idle = (make_job(database, name) for name in ("A", "B", "C"))
    stop(database, queue(database, "A"))
    runs_of = {job.id: queue(database, job.reference) for job in (first, second)}
    with database.read() as session:
        latest = jobs.latest_runs(session, [first, second, idle])
        assert {key: run.id for key, run in latest.items()} == {key: run.id for key, run in runs_of.items()}
