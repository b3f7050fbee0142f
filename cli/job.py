"""`portolan job`: mappings made ready to run, and their runs."""

import uuid
from typing import Annotated

import typer
from google.protobuf.empty_pb2 import Empty

from cli import run as runs
from cli import show
from cli.client import CommandError, pages
from cli.session import Session, command
from portolan.jobs.v1.jobs_pb2 import (
    CreateJobRequest,
    DeleteJobRequest,
    GetJobRequest,
    Job,
    ListJobsRequest,
    ListJobsResponse,
    RefreshJobRequest,
    RunJobRequest,
)
from portolan.jobs.v1.runs_pb2 import StopRunRequest

app = typer.Typer(no_args_is_help=True, help="Make jobs from active mappings, and run them.")

Reference = Annotated[str, typer.Argument(help="The job's reference, which is its mapping's.")]


@command(app, "create")
def create(session: Session, reference: Reference) -> None:
    """Creates the job of a mapping: compiles its active version and prepares the target table."""
    with session.busy(f"Preparing {reference}"):
        job = session.client.jobs.CreateJob(CreateJobRequest(reference=reference))
    session.show(job, f"The job {job.reference} loads version {job.mapping_version} into {job.target}.")


@command(app, "list")
def list_(
    session: Session,
    *,
    connection: Annotated[str, typer.Option(help="Only jobs that read or load this connection.")] = "",
) -> None:
    """Lists jobs with their latest runs."""
    request = ListJobsRequest(connection=connection)
    found = ListJobsResponse(jobs=pages(session.client.jobs.ListJobs, request, lambda page: page.jobs))
    session.show(
        found,
        show.table(
            ["JOB", "#VERSION", "TARGET", "LATEST RUN", "ENDED", "#TIME"],
            [
                (
                    job.reference,
                    job.mapping_version,
                    job.target,
                    show.state(runs.state_of(job.latest_run)),
                    show.recent(job.latest_run.end_time),
                    show.elapsed(job.latest_run.start_time, job.latest_run.end_time),
                )
                for job in found.jobs
            ],
        ),
    )


@command(app, "show")
def show_(session: Session, reference: Reference) -> None:
    """Shows a job and its latest run."""
    job = session.client.jobs.GetJob(GetJobRequest(reference=reference))
    session.show(
        job,
        show.facts(
            [
                ("Job", job.reference),
                ("Mapping version", job.mapping_version),
                ("Reads", job.source_connection),
                ("Loads", f"{job.target} of {job.target_connection}"),
                ("Parameters", ", ".join(job.parameters)),
                ("Created", show.moment(job.create_time)),
                ("Bound", show.moment(job.update_time)),
            ]
        ),
        *(["", runs.drawn(job.latest_run)] if job.HasField("latest_run") else []),
    )


@command(app, "run")
def run(
    session: Session,
    reference: Reference,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the log as it is written, until the run has ended.")
    ] = False,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A run parameter's value.")
    ] = None,
) -> None:
    """Runs a job."""
    request = RunJobRequest(
        reference=reference, parameters=_parameters(param or []), request_id=str(uuid.uuid4())
    )
    started = session.client.jobs.RunJob(request)
    if follow:
        raise typer.Exit(runs.watch(session, started.id))
    session.show(
        started,
        f"The run {started.id} of {reference} is {runs.state_of(started)}.",
        f"Watch it with `portolan run log {started.id} --follow`.",
    )


@command(app, "stop")
def stop(session: Session, reference: Reference) -> None:
    """Stops the run of a job that is under way."""
    job = session.client.jobs.GetJob(GetJobRequest(reference=reference))
    if not job.HasField("latest_run"):
        raise CommandError(f"The job {reference} has not run yet.", reason="RUN_NOT_FOUND")
    stopped = session.client.runs.StopRun(StopRunRequest(run_id=job.latest_run.id))
    session.show(stopped, f"The run {stopped.id} of {reference} is {runs.state_of(stopped)}.")


@command(app, "refresh")
def refresh(session: Session, reference: Reference) -> None:
    """Binds a job to the active version of its mapping."""
    with session.busy(f"Preparing {reference}"):
        job: Job = session.client.jobs.RefreshJob(RefreshJobRequest(reference=reference))
    session.show(job, f"The job {job.reference} loads version {job.mapping_version} into {job.target}.")


@command(app, "delete")
def delete(session: Session, reference: Reference) -> None:
    """Deletes a job. Its runs stay on record, and its target table stays as it is."""
    session.client.jobs.DeleteJob(DeleteJobRequest(reference=reference))
    session.show(Empty(), f"The job {reference} is deleted.")


def _parameters(given: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in given]
    for name, equals, _value in split:
        if not (name and equals):
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE.", param_hint="--param")
    return {name: value for name, _equals, value in split}
