"""Calls to other services: always a deadline, the caller's token and request id, and refusals as refusals."""

import time
from contextvars import ContextVar
from typing import Any, TypeVar

import grpc
import structlog
from grpc_status import rpc_status

from kernel.auth import current
from kernel.cancellation import on_cancel
from kernel.errors import RefusedError, ServiceUnavailableError, from_status

Q = TypeVar("Q")
R = TypeVar("R")

TIMEOUT_SECONDS = 10.0
MARGIN_SECONDS = 0.05
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
)

deadline: ContextVar[float] = ContextVar("deadline")
"""When the call that is being served must have its answer, on the monotonic clock."""


def channel(address: str) -> grpc.Channel:
    """A channel for calls from threads; one for each other service and process."""
    return grpc.insecure_channel(address, options=OPTIONS)


def async_channel(address: str) -> grpc.aio.Channel:
    """A channel for calls from the loop."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def call(
    method: "grpc.UnaryUnaryMultiCallable[Q, R]",
    request: Q,
    *,
    token: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> R:
    """Calls a stub's unary method, and raises the refusal that it answers with.

    The call is made with the token of the caller that is being served, or with `token`. It gets at most
    `timeout` seconds, and less where the caller's own deadline is nearer, and it ends when the caller goes. A
    service that does not answer is a ServiceUnavailableError.
    """
    left = deadline.get(float("inf")) - time.monotonic() - MARGIN_SECONDS
    bearer = token if token is not None else current.get().token
    answer = method.future(request, timeout=max(min(timeout, left), 0.001), metadata=metadata(bearer))
    try:
        with on_cancel(answer.cancel):
            return answer.result()
    except grpc.RpcError as error:
        raise refusal(error) from error


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """What a call carries beside its request."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    found = (("authorization", f"Bearer {token}"),) if token else ()
    return (*found, ("x-request-id", str(request_id))) if request_id else found


def refusal(error: grpc.RpcError) -> RefusedError:
    """The refusal that a failed call stands for."""
    answer: Any = error  # a grpc.Call too, which its annotations do not say
    status = rpc_status.from_call(answer)
    refused = from_status(status) if status is not None else None
    if refused is not None and refused.reason:
        return refused
    return ServiceUnavailableError(f"a service of the suite does not answer: {answer.code().name}")
