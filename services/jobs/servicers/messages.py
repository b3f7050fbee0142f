"""Rows as messages."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from kernel.resources import to_message
from portolan.jobs.v1 import jobs_pb2, runs_pb2
from portolan.mapper.v1 import plan_pb2
from services.jobs.models import Job, LogLine, Plan, Run


def run_message(run: Run) -> runs_pb2.Run:
    """A run."""
    return to_message(run, runs_pb2.Run, rows=runs_pb2.RowCounts(**run.counts))


def line_message(line: LogLine) -> runs_pb2.LogLine:
    """A line of a run's log."""
    return to_message(line, runs_pb2.LogLine)


def job_message(job: Job, latest_run: Run | None, plan: plan_pb2.LoadPlan | None = None) -> jobs_pb2.Job:
    """A job; `plan` where it is asked for."""
    return to_message(
        job,
        jobs_pb2.Job,
        mapping_version=job.plan.mapping_version,
        source_connection=job.plan.source_connection,
        target_connection=job.plan.target_connection,
        target=job.plan.target,
        parameters=job.plan.parameters,
        latest_run=run_message(latest_run) if latest_run else None,
        plan=plan,
    )


def plan_row(organization_id: str, plan: plan_pb2.LoadPlan) -> Plan:
    """A plan to keep."""
    return Plan(
        organization_id=organization_id,
        reference=plan.reference,
        mapping_version=plan.version,
        source_connection=plan.source_connection,
        target_connection=plan.target_connection,
        target=".".join(filter(None, (plan.target.schema, plan.target.name))),
        parameters=list(plan.parameters),
        content=plan.SerializeToString(),
    )


def json_text(message: Message) -> str:
    """A message as one line of JSON, its fields named as in the proto."""
    return MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
