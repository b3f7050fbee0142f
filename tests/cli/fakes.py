"""A server that answers as the gateway does, in what these tests need."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from kernel.errors import RefusedError, TokenMissingError, UnauthenticatedError, to_status
from portolan.auth.v1 import auth_pb2, auth_pb2_grpc
from portolan.jobs.v1 import runs_pb2, runs_pb2_grpc


class CredentialsRefusedError(UnauthenticatedError):
    """As the auth service refuses a wrong password."""

    reason = "CREDENTIALS_REFUSED"


class Auth(auth_pb2_grpc.AuthServiceServicer):
    """Knows one user; each access token is valid for `seconds`."""

    def __init__(self, seconds: int = 300) -> None:
        self.seconds = seconds
        self.refreshed = 0
        self.refusal: RefusedError | None = None

    def Login(self, request: auth_pb2.LoginRequest, context: Any) -> auth_pb2.TokenPair:
        if request.password != "right":
            refuse(context, CredentialsRefusedError("user name or password is wrong"))
        return self._pair()

    def Refresh(self, request: auth_pb2.RefreshRequest, context: Any) -> auth_pb2.TokenPair:
        if request.refresh_token != f"refresh-{self.refreshed}":
            refuse(context, CredentialsRefusedError("used before"))
        self.refreshed += 1
        return self._pair()

    def GetMe(self, _request: auth_pb2.GetMeRequest, context: Any) -> auth_pb2.Me:
        if self.refusal:
            refuse(context, self.refusal)
        token = dict(context.invocation_metadata()).get("authorization")
        if token != f"Bearer access-{self.refreshed}":
            refuse(context, TokenMissingError("sign in first"))
        return auth_pb2.Me(user_name="ada", email="ada@example.org", roles=["admin"])

    def Logout(self, _request: auth_pb2.LogoutRequest, context: Any) -> Any:
        refuse(context, TokenMissingError("the session has ended"))

    def _pair(self) -> auth_pb2.TokenPair:
        pair = auth_pb2.TokenPair(
            access_token=f"access-{self.refreshed}", refresh_token=f"refresh-{self.refreshed}"
        )
        pair.expires_in.FromSeconds(self.seconds)
        return pair


class Runs(runs_pb2_grpc.RunServiceServicer):
    """One run whose log breaks off after every second line."""

    def __init__(self, lines: int, state: runs_pb2.Run.State.ValueType) -> None:
        self.lines = lines
        self.state = state
        self.streams = 0

    def GetRun(self, request: runs_pb2.GetRunRequest, _context: Any) -> runs_pb2.Run:
        rows = runs_pb2.RowCounts(source=3, inserted=2, rejected=1)
        return runs_pb2.Run(id=request.run_id, reference="DIM_A", state=self.state, rows=rows)

    def TailRunLogs(
        self, request: runs_pb2.TailRunLogsRequest, context: Any
    ) -> Iterator[runs_pb2.TailRunLogsResponse]:
        self.streams += 1
        yield runs_pb2.TailRunLogsResponse()
        for number in range(request.after_sequence + 1, min(request.after_sequence + 3, self.lines + 1)):
            line = runs_pb2.LogLine(
                sequence=number, level=runs_pb2.LogLine.LEVEL_INFO, message=f"line {number}"
            )
            yield runs_pb2.TailRunLogsResponse(lines=[line])
        if request.after_sequence + 2 < self.lines:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway went away")
        yield runs_pb2.TailRunLogsResponse(end_state=self.state)

    def ListRuns(self, request: runs_pb2.ListRunsRequest, _context: Any) -> runs_pb2.ListRunsResponse:
        start = int(request.page_token or 0)
        runs = [
            runs_pb2.Run(id=f"run-{n}", state=self.state) for n in range(start, start + request.page_size)
        ]
        return runs_pb2.ListRunsResponse(runs=runs, next_page_token=str(start + request.page_size))


def refuse(context: Any, refusal: RefusedError) -> None:
    """Ends a call as the services refuse one."""
    status = to_status(refusal, "portolan.test.v1")
    context.abort_with_status(rpc_status.to_status(status))


@contextmanager
def serving(*servicers: Any) -> Iterator[str]:
    """Serves the fakes, and gives their address as the command takes it."""
    server = grpc.server(ThreadPoolExecutor(8))
    for servicer in servicers:
        if isinstance(servicer, Auth):
            auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server)
        else:
            runs_pb2_grpc.add_RunServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
