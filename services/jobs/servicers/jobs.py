"""JobService: jobs, and what starts them."""

from typing import Any

import grpc
from google.protobuf import empty_pb2

from kernel.auth import principal
from kernel.db import Database, now
from kernel.resources import page
from portolan.jobs.v1 import jobs_pb2 as pb
from portolan.jobs.v1 import jobs_pb2_grpc as rpc
from portolan.jobs.v1 import runs_pb2
from portolan.mapper.v1 import plan_pb2
from services.jobs.clients import Clients
from services.jobs.domain import jobs, runs
from services.jobs.loading import prepare
from services.jobs.models import Job, Plan
from services.jobs.servicers.messages import job_message, plan_row, run_message

Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(rpc.JobServiceServicer):
    """Keeps jobs, and queues their runs."""

    def __init__(self, database: Database, clients: Clients) -> None:
        self._database = database
        self._clients = clients

    def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> pb.Job:
        """A job of the mapping's active version, its target ready."""
        who = principal()
        with self._database.read() as session:
            jobs.check_absent(session, who.organization_id, request.reference)
        plan = self._bound(request.reference)
        with self._database.transaction() as session:
            return job_message(jobs.create(session, plan, who.user_id), None)

    def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.Job:
        """A job with its plan."""
        with self._database.read() as session:
            job = jobs.get(session, principal().organization_id, request.reference)
            latest = jobs.latest_runs(session, [job])
            return job_message(job, latest.get(job.id), plan_pb2.LoadPlan.FromString(job.plan.content))

    def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """A page of jobs."""
        with self._database.read() as session:
            organization, connection = principal().organization_id, request.connection
            query = jobs.using(organization, connection) if connection else jobs.jobs(organization)
            rows, token = page(session, query, Job.reference, request)
            latest = jobs.latest_runs(session, rows)
            found = [job_message(job, latest.get(job.id)) for job in rows]
            return pb.ListJobsResponse(jobs=found, next_page_token=token)

    def RefreshJob(self, request: pb.RefreshJobRequest, context: Context) -> pb.Job:
        """The job, bound to the mapping's active version."""
        with self._database.read() as session:
            jobs.get(session, principal().organization_id, request.reference)
        plan = self._bound(request.reference)
        with self._database.transaction() as session:
            job = jobs.bind(session, plan, now())
            return job_message(job, jobs.latest_runs(session, [job]).get(job.id))

    def DeleteJob(self, request: pb.DeleteJobRequest, context: Context) -> empty_pb2.Empty:
        """Nothing; the job is gone."""
        with self._database.transaction() as session:
            jobs.delete(session, principal().organization_id, request.reference)
        return empty_pb2.Empty()

    def RunJob(self, request: pb.RunJobRequest, context: Context) -> runs_pb2.Run:
        """The run, queued."""
        who = principal()
        with self._database.transaction() as session:
            job = jobs.lock(session, who.organization_id, request.reference)
            run = runs.queue(
                session, job, request.parameters, request_id=request.request_id, creator=who.user_id
            )
            return run_message(run)

    def _bound(self, reference: str) -> Plan:
        """The mapping's active version, compiled, its target table made or extended."""
        organization = principal().organization_id
        plan = self._clients.compile(reference)
        target = self._clients.lease(organization, plan.target_connection, f"job {reference}")
        prepare(target, plan)
        return plan_row(organization, plan)
