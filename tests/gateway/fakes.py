"""Servicers that answer what the tests of the gateway need to see, over the real contract."""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from google.api import httpbody_pb2
from google.protobuf import empty_pb2, struct_pb2

from kernel import errors
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from portolan.connections.v1 import connections_pb2, connections_pb2_grpc
from portolan.jobs.v1 import jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc
from tests.servers import Issuer

CHUNK = 512 * 1024
HELD_SECONDS = 60
REFUSALS: dict[str, type[errors.RefusedError]] = {
    kind.__name__: kind for kind in errors.RefusedError.__subclasses__() if kind.__module__ == errors.__name__
}


class FakeAuth(auth_pb2_grpc.AuthServiceServicer):
    """Serves an issuer's key, lets everybody in, and tells what metadata arrived."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer

    def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Any) -> httpbody_pb2.HttpBody:
        """The issuer's public key."""
        return httpbody_pb2.HttpBody(content_type="application/json", data=asyncio.run(self.issuer.jwks()))

    def Login(self, request: auth_pb2.LoginRequest, context: Any) -> auth_pb2.TokenPair:
        """A token for everybody, except for `stranger`."""
        if request.user == "stranger":
            raise errors.UnauthenticatedError("no such user")
        return auth_pb2.TokenPair(access_token=self.issuer.token(user=request.user))

    def Refresh(self, request: auth_pb2.RefreshRequest, context: Any) -> auth_pb2.TokenPair:
        """A token for everybody."""
        return auth_pb2.TokenPair(access_token=self.issuer.token())

    def Logout(self, request: auth_pb2.LogoutRequest, context: Any) -> empty_pb2.Empty:
        """Nothing."""
        return empty_pb2.Empty()

    def GetMe(self, request: auth_pb2.GetMeRequest, context: Any) -> auth_pb2.Me:
        """The metadata that arrived, as JSON in `user_name`."""
        sent = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return auth_pb2.Me(user_id="ada", user_name=json.dumps({**sent, "left": context.time_remaining()}))


class FakeConnections(connections_pb2_grpc.ConnectionServiceServicer):
    """Gives back what it gets."""

    def CreateConnection(
        self,
        request: connections_pb2.CreateConnectionRequest,
        context: Any,
    ) -> connections_pb2.Connection:
        """The connection that was sent."""
        return request.connection

    def GetConnection(
        self,
        request: connections_pb2.GetConnectionRequest,
        context: Any,
    ) -> connections_pb2.Connection:
        """A connection of this name; the name of a refusal gets that."""
        if request.name in REFUSALS:
            raise REFUSALS[request.name](
                f"refused “{request.name}”", fields={"name": "is wrong"}, cause="test"
            )
        return connections_pb2.Connection(name=request.name)

    def UpdateConnection(
        self,
        request: connections_pb2.UpdateConnectionRequest,
        context: Any,
    ) -> connections_pb2.Connection:
        """The connection that was sent, and whom the request meant in its description."""
        mask = ",".join(request.update_mask.paths)
        return connections_pb2.Connection(
            name=request.connection.name, description=f"{request.name} {mask}", etag=request.connection.etag
        )

    def PreviewRows(
        self,
        request: connections_pb2.PreviewRowsRequest,
        context: Any,
    ) -> connections_pb2.PreviewRowsResponse:
        """One row: the connection, the query and the parameters."""
        row = struct_pb2.ListValue()
        row.extend([request.connection, request.query, json.dumps(dict(request.parameters))])
        return connections_pb2.PreviewRowsResponse(rows=[row])


class FakeMappings(mappings_pb2_grpc.MappingServiceServicer):
    """Gives back what it gets, files included."""

    def CreateMapping(
        self,
        request: mappings_pb2.CreateMappingRequest,
        context: Any,
    ) -> mappings_pb2.Mapping:
        """The mapping that was sent."""
        return request.mapping

    def ListMappings(
        self,
        request: mappings_pb2.ListMappingsRequest,
        context: Any,
    ) -> mappings_pb2.ListMappingsResponse:
        """As many mappings of the searched description as a page holds."""
        found = [
            mappings_pb2.Mapping(reference=f"M{i}", description=request.search)
            for i in range(request.page_size)
        ]
        return mappings_pb2.ListMappingsResponse(mappings=found)

    async def ImportMappings(
        self,
        request_iterator: AsyncIterator[mappings_pb2.ImportMappingsRequest],
        context: Any,
    ) -> mappings_pb2.ImportMappingsResponse:
        """The hash, size, pieces and content type of the file that was sent."""
        digest, size, pieces, kind, only = hashlib.sha256(), 0, 0, "", False
        async for request in request_iterator:
            kind, only = kind or request.file.content_type, only or request.validate_only
            digest.update(request.file.data)
            size, pieces = size + len(request.file.data), pieces + 1
        found = mappings_pb2.ImportMappingsResponse.ImportedMapping(
            sheet=digest.hexdigest(), reference=kind, version=size, changed=only
        )
        return mappings_pb2.ImportMappingsResponse(mappings=[found])

    async def ExportMappings(
        self,
        request: mappings_pb2.ExportMappingsRequest,
        context: Any,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """As many MiB of bytes as the only reference says."""
        await context.send_initial_metadata((("content-disposition", 'attachment; filename="all.xlsx"'),))
        for index in range(2 * int(request.references[0])):
            yield httpbody_pb2.HttpBody(
                content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
                if not index
                else "",
                data=bytes([index % 256]) * CHUNK,
            )


class FakeJobs(jobs_pb2_grpc.JobServiceServicer):
    """Runs any job."""

    def RunJob(self, request: jobs_pb2.RunJobRequest, context: Any) -> runs_pb2.Run:
        """A run with the parameters that were sent."""
        return runs_pb2.Run(id="1", reference=request.reference, parameters=request.parameters)


class FakeRuns(runs_pb2_grpc.RunServiceServicer):
    """Runs whose id says how they behave."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def GetRun(self, request: runs_pb2.GetRunRequest, context: Any) -> runs_pb2.Run:
        """A run; `slow-0.5` is returned after half a second, `held` when it is released."""
        if request.run_id == "held":
            self.begun.set()
            self.released.wait(HELD_SECONDS)
        if request.run_id.startswith("slow-"):
            time.sleep(float(request.run_id.removeprefix("slow-")))
        return runs_pb2.Run(id=request.run_id, rows=runs_pb2.RowCounts(source=2**53 + 1))

    async def TailRunLogs(
        self,
        request: runs_pb2.TailRunLogsRequest,
        context: Any,
    ) -> AsyncIterator[runs_pb2.TailRunLogsResponse]:
        """Three lines, 0.2 s apart."""
        for sequence in range(request.after_sequence + 1, request.after_sequence + 4):
            yield runs_pb2.TailRunLogsResponse(lines=[runs_pb2.LogLine(sequence=sequence)])
            await asyncio.sleep(0.2)

    async def StreamRunEvents(
        self,
        request: runs_pb2.StreamRunEventsRequest,
        context: Any,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Three events, 0.2 s apart, from the last event's id on."""
        if request.run_id == "missing":
            raise errors.NotFoundError("no run has this id")
        sent = dict(context.invocation_metadata())
        after = int(sent.get("last-event-id", request.after_sequence))
        for sequence in range(after + 1, after + 4):
            event = f"id: {sequence}\nevent: line\ndata: {{}}\n\n"
            yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=event.encode())
            await asyncio.sleep(0.2)
