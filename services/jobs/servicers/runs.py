"""RunService: what runs did and are doing."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import httpbody_pb2

from kernel.auth import principal
from kernel.db import Database, now
from kernel.resources import enum_name, page, to_message
from portolan.jobs.v1 import runs_pb2 as pb
from portolan.jobs.v1 import runs_pb2_grpc as rpc
from services.jobs.domain import logs, runs
from services.jobs.models import RejectedRow, Run, State
from services.jobs.servicers.messages import json_text, run_message
from services.jobs.servicers.tails import Batch, Tails

Context = grpc.aio.ServicerContext[Any, Any]
STATES = pb.Run.DESCRIPTOR.enum_types_by_name["State"]
EVENT_STREAM = "text/event-stream"
RETRY = b"retry: 1000\n\n"
PING = b": ping\n\n"


class RunServicer(rpc.RunServiceServicer):
    """Tells of runs, and stops them."""

    def __init__(self, database: Database, tails: Tails) -> None:
        self._database = database
        self._tails = tails

    def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        """A run."""
        with self._database.read() as session:
            return run_message(runs.get(session, principal().organization_id, request.run_id))

    def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """A page of runs, the newest first."""
        states = [State(enum_name(STATES, number)) for number in request.states]
        query = runs.runs(principal().organization_id, reference=request.reference, states=states)
        with self._database.read() as session:
            rows, token = page(session, query, Run.id, request, descending=True)
            return pb.ListRunsResponse(runs=map(run_message, rows), next_page_token=token)

    def StopRun(self, request: pb.StopRunRequest, context: Context) -> pb.Run:
        """The run, STOPPED or STOPPING."""
        who = principal()
        with self._database.transaction() as session:
            return run_message(runs.stop(session, who.organization_id, request.run_id, who.user_id, now()))

    def ListRejectedRows(
        self, request: pb.ListRejectedRowsRequest, context: Context
    ) -> pb.ListRejectedRowsResponse:
        """A page of a run's rejected rows."""
        with self._database.read() as session:
            run = runs.get(session, principal().organization_id, request.run_id)
            rows, token = page(session, logs.rejected(run), RejectedRow.sequence, request)
            rejected = (to_message(row, pb.RejectedRow) for row in rows)
            return pb.ListRejectedRowsResponse(rejected_rows=rejected, next_page_token=token)

    async def TailRunLogs(
        self, request: pb.TailRunLogsRequest, context: Context
    ) -> AsyncIterator[pb.TailRunLogsResponse]:
        """The run's lines, as they are written."""
        async for batch in self._tails.follow(
            principal().organization_id, request.run_id, request.after_sequence, wait=not request.no_follow
        ):
            end_state = batch.end.state if batch.end is not None else pb.Run.STATE_UNSPECIFIED
            yield pb.TailRunLogsResponse(lines=batch.lines, end_state=end_state)

    async def StreamRunEvents(
        self, request: pb.StreamRunEventsRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The same as server-sent events."""
        seen = dict(context.invocation_metadata() or ()).get("last-event-id", "")
        after = int(seen) if str(seen).isdecimal() else request.after_sequence
        first = RETRY
        async for batch in self._tails.follow(principal().organization_id, request.run_id, after):
            yield httpbody_pb2.HttpBody(content_type=EVENT_STREAM, data=first + _events(batch))
            first = b""


def _events(batch: Batch) -> bytes:
    events = [f"id: {line.sequence}\nevent: line\ndata: {json_text(line)}\n\n" for line in batch.lines]
    if batch.end is not None:
        events.append(f"event: end\ndata: {json_text(batch.end)}\n\n")
    return "".join(events).encode() or PING
