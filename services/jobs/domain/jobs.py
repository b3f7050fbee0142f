"""Jobs: a mapping's version, compiled and bound."""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.db import unless_conflict
from services.jobs.domain import runs
from services.jobs.errors import JobExistsError, JobNotFoundError
from services.jobs.models import ACTIVE, Job, Plan, Run


def jobs(organization_id: str) -> sa.Select[Job]:
    """The jobs of an organization, each with its plan but for the content."""
    plan = orm.joinedload(Job.plan, innerjoin=True)
    return sa.select(Job).where(Job.organization_id == organization_id).options(plan)


def using(organization_id: str, connection: str) -> sa.Select[Job]:
    """The jobs that read or load a connection, by their plan or that of a run under way."""
    either = sa.or_(Plan.source_connection == connection, Plan.target_connection == connection)
    plans = sa.select(Plan.id).where(Plan.organization_id == organization_id, either)
    running = sa.select(Run.job_id).where(Run.state.in_(ACTIVE), Run.plan_id.in_(plans))
    return jobs(organization_id).where(sa.or_(Job.plan_id.in_(plans), Job.id.in_(running)))


def get(session: orm.Session, organization_id: str, reference: str) -> Job:
    """A job with its plan and the plan's content; JobNotFoundError."""
    content = orm.defaultload(Job.plan).undefer(Plan.content)
    return _found(session.scalar(_job(organization_id, reference).options(content)), reference)


def lock(session: orm.Session, organization_id: str, reference: str) -> Job:
    """A job whose row is locked: nobody starts a run of it or deletes it meanwhile; JobNotFoundError."""
    return _found(session.scalar(_job(organization_id, reference).with_for_update(of=Job)), reference)


def check_absent(session: orm.Session, organization_id: str, reference: str) -> None:
    """Raises JobExistsError when the mapping has a job."""
    if session.scalar(_job(organization_id, reference)) is not None:
        raise _exists(reference)


def create(session: orm.Session, plan: Plan, creator: str) -> Job:
    """Makes a job of a plan; JobExistsError when the mapping has one."""
    job = Job(organization_id=plan.organization_id, reference=plan.reference, plan=plan, creator=creator)
    with unless_conflict(session, uq_jobs_organization_id_reference=_exists(plan.reference)):
        session.add(job)
    return job


def bind(session: orm.Session, plan: Plan, now: dt.datetime) -> Job:
    """Binds the job of a plan's mapping to the plan. Runs under way keep theirs. JobNotFoundError."""
    job = lock(session, plan.organization_id, plan.reference)
    job.plan, job.update_time = plan, now
    return job


def delete(session: orm.Session, organization_id: str, reference: str) -> None:
    """Deletes a job; its runs stay. JobNotFoundError; RunActiveError while one is under way."""
    job = lock(session, organization_id, reference)
    runs.check_idle(session, job)
    session.delete(job)


def latest_runs(session: orm.Session, found: Sequence[Job]) -> dict[str, Run]:
    """The latest run of each job that has one, by the job's id."""
    latest = sa.select(sa.func.max(Run.id)).where(Run.job_id.in_([job.id for job in found]))
    rows = session.scalars(sa.select(Run).where(Run.id.in_(latest.group_by(Run.job_id))))
    return {str(run.job_id): run for run in rows}


def _job(organization_id: str, reference: str) -> sa.Select[Job]:
    return jobs(organization_id).where(Job.reference == reference)


def _found(job: Job | None, reference: str) -> Job:
    if job is None:
        raise JobNotFoundError(f"there is no job {reference}", reference=reference)
    return job


def _exists(reference: str) -> JobExistsError:
    return JobExistsError(f"the mapping {reference} has a job already", reference=reference)
