"""A Portolan server as its stubs, with the caller's token on each call, and its refusals as sentences."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import grpc
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.tokens import Tokens
from kernel.errors import sentence
from portolan.auth.v1.auth_pb2 import RefreshRequest, TokenPair
from portolan.auth.v1.auth_pb2_grpc import AuthServiceStub
from portolan.connections.v1.connections_pb2_grpc import ConnectionServiceStub
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from portolan.jobs.v1.runs_pb2_grpc import RunServiceStub
from portolan.mapper.v1.mappings_pb2_grpc import MappingServiceStub

DEFAULT_SERVER = "http://127.0.0.1:8080"
CALL_SECONDS = 120
PAGE_SIZE = 200

OK, REFUSED, USAGE, SIGNED_OUT, UNREACHABLE, RUN_FAILED, OWN_FAULT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 70, 130
"""The exit codes of every command."""


class CommandError(Exception):
    """Why a command did not do what was asked: a sentence, the fields at fault, a reason, an exit code."""

    def __init__(
        self,
        message: str,
        exit_code: int = REFUSED,
        *,
        reason: str = "",
        fields: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.reason = reason
        self.fields = fields or {}


class Client:
    """A server, by the address of its gateway. `public` makes the calls that need no token."""

    def __init__(self, server: str, tokens: Tokens | None = None) -> None:
        self.server = server.rstrip("/")
        self.tokens = tokens or Tokens(self.server)
        self._channel = _open(self.server)
        self.public = AuthServiceStub(grpc.intercept_channel(self._channel, _Caller(lambda: None)))
        channel = grpc.intercept_channel(self._channel, _Caller(self._access_token))
        self.auth = AuthServiceStub(channel)
        self.connections = ConnectionServiceStub(channel)
        self.mappings = MappingServiceStub(channel)
        self.jobs = JobServiceStub(channel)
        self.runs = RunServiceStub(channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _access_token(self) -> str | None:
        return self.tokens.access(self._refresh)

    def _refresh(self, refresh_token: str) -> TokenPair:
        return self.public.Refresh(RefreshRequest(refresh_token=refresh_token))


_Request = TypeVar("_Request", bound=Message)
_Item = TypeVar("_Item", bound=Message)


class _Page(Protocol):
    next_page_token: str


def pages(
    call: Callable[[_Request], _Page],
    request: _Request,
    items: Callable[[Any], RepeatedCompositeFieldContainer[_Item]],
    limit: int | None = None,
) -> Iterator[_Item]:
    """The items of all pages of a list call, at most `limit`."""
    left = limit
    while left is None or left > 0:
        request.page_size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)  # type: ignore[attr-defined]  # every list request has it
        page = call(request)
        found = items(page)
        yield from found
        left = None if left is None else left - len(found)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token  # type: ignore[attr-defined]  # likewise


def as_call(error: grpc.RpcError) -> grpc.Call:
    """A failed call as the call that it is, with its code and details."""
    return cast("grpc.Call", error)


def explain(error: grpc.RpcError, server: str) -> CommandError:
    """What a failed call means for the user."""
    call = as_call(error)
    status = rpc_status.from_call(call)
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    if status is not None:
        for detail in status.details:
            any(detail.Unpack(known) for known in (info, bad, retry))
    code, text = call.code(), call.details() or "The call failed"
    if code is grpc.StatusCode.UNAVAILABLE and not info.reason:
        return CommandError(
            f"Portolan cannot be reached at {server}. Is it running? Start it with `portolan up`.",
            UNREACHABLE,
            reason="UNREACHABLE",
        )
    message = sentence(text)
    if retry.HasField("retry_delay"):
        message += f" Try again in {max(1, retry.retry_delay.ToSeconds())} s."
    if code is grpc.StatusCode.INTERNAL and info.metadata.get("reference"):
        message += f" The server's log has more under {info.metadata['reference']}."
    if code is grpc.StatusCode.UNAUTHENTICATED and info.reason != "CREDENTIALS_REFUSED":
        message += " Sign in with `portolan login`."
    return CommandError(
        message,
        SIGNED_OUT if code is grpc.StatusCode.UNAUTHENTICATED else REFUSED,
        reason=info.reason or code.name,
        fields={violation.field: violation.description for violation in bad.field_violations},
    )


def _open(server: str) -> grpc.Channel:
    address = urlsplit(server)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise CommandError(f"The server {server!r} is no address such as {DEFAULT_SERVER}.", USAGE)
    port = address.port or (443 if address.scheme == "https" else 80)
    target = f"{address.hostname}:{port}"
    options = (("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_retries", 0))
    if address.scheme == "https":
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Caller(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Adds the caller's token to each call, and a time limit to each that is no stream of answers."""

    def __init__(self, token: Callable[[], str | None]) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details, CALL_SECONDS), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details, None), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._details(client_call_details, CALL_SECONDS), request_iterator)

    def _details(self, details: Any, timeout: float | None) -> _Details:
        token = self._token()
        metadata = tuple(details.metadata or ())
        return _Details(
            method=details.method,
            timeout=details.timeout or timeout,
            metadata=metadata if token is None else (*metadata, ("authorization", f"Bearer {token}")),
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )
