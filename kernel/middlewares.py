"""What happens around every call: observe, refuse, admit, authenticate, authorize, validate, deadline."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_status import rpc_status

from kernel import clients, db
from kernel.auth import Verifier, current
from kernel.errors import (
    DeadlineError,
    OverloadedError,
    PermissionMissingError,
    RefusedError,
    UnauthenticatedError,
    to_status,
)
from kernel.logs import logger
from kernel.rpc import Call, Kind, Middleware
from kernel.validation import validate as check

log = logger(__name__)

DEFAULT_SECONDS = 30
COOKIE = "portolan_access"
_TOO_MANY = {
    Kind.UNARY: "too many calls at once; try again in a second",
    Kind.UPLOAD: "too many uploads at once; try again in a second",
    Kind.STREAM: "too many streams are open; try again when others have ended",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


def chain(verifier: Verifier, *, threads: int, streams: int) -> Sequence[Middleware]:
    """All middlewares, in order."""
    return (observe, refuse, admit(threads, streams), authenticate(verifier), authorize, validate, deadline)


@asynccontextmanager
async def observe(call: Call) -> AsyncIterator[None]:
    """One log line a call: what was called, by whom, how it ended and how long it took."""
    given = call.metadata.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else db.new_id()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    call.context.set_trailing_metadata((("x-request-id", request_id),))
    started = time.perf_counter()
    code = "OK"
    try:
        yield
    except asyncio.CancelledError:
        code = "CANCELLED"
        raise
    except grpc.aio.AbortError:
        code = str(getattr(call.context.code(), "name", call.context.code()))
        raise
    finally:
        caller = call.principal
        log.info(
            "call",
            method=call.name,
            code=code,
            ms=round((time.perf_counter() - started) * 1000, 1),
            organization=caller.organization_id if caller else None,
            user=caller.user_id or f"service:{caller.service}" if caller else None,
        )


@asynccontextmanager
async def refuse(call: Call) -> AsyncIterator[None]:
    """Ends the call with `google.rpc.Status` when a refusal comes out, and hides anything else."""
    try:
        yield
    except RefusedError as error:
        await _abort(call, error)
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception as error:
        if refused := db.refusal(error):
            log.warning("the database does not answer", method=call.name, error=str(error))
            await _abort(call, refused)
        reference = db.new_id()
        log.exception("fault", method=call.name, reference=reference)
        text = f"internal error; the log tells more under {reference}"
        await _abort(call, FaultError(text, reference=reference))


class FaultError(RefusedError):
    """A fault of ours; nobody raises it but `refuse`."""

    code = 13  # INTERNAL
    reason = "INTERNAL"
    domain = "portolan.common.v1"


async def _abort(call: Call, error: RefusedError) -> None:
    """Ends the call with a refusal. An abort replaces the trailing metadata, so what is there goes again."""
    status = rpc_status.to_status(to_status(error, call.domain))
    challenge = (("www-authenticate", "Bearer"),) if isinstance(error, UnauthenticatedError) else ()
    metadata = (*call.context.trailing_metadata(), *status.trailing_metadata, *challenge)
    await call.context.abort(status.code, status.details, metadata)


def admit(threads: int, streams: int) -> Middleware:
    """Refuses at once what would only wait: unary calls when twice as many as there are threads wait already.

    Uploads, which lie in memory whole, are bounded by the number of threads; answers that are streams, which
    hold memory for as long as somebody follows, by `streams`.
    """
    limits = {Kind.UNARY: threads * 3, Kind.UPLOAD: threads, Kind.STREAM: streams}
    under_way: Counter[Kind] = Counter()

    @asynccontextmanager
    async def admit_call(call: Call) -> AsyncIterator[None]:
        if under_way[call.kind] >= limits[call.kind]:
            raise OverloadedError(_TOO_MANY[call.kind], retry_after=1)
        under_way[call.kind] += 1
        try:
            yield
        finally:
            under_way[call.kind] -= 1

    return admit_call


def authenticate(verifier: Verifier) -> Middleware:
    """Finds out who calls. A cookie counts only where nothing is changed, so no other site can misuse it."""

    @asynccontextmanager
    async def authenticate_call(call: Call) -> AsyncIterator[None]:
        if call.authz.WhichOneof("rule") != "public":
            token = call.metadata.get("authorization", "").removeprefix("Bearer ").removeprefix("bearer ")
            if not token and call.read_only:
                token = _cookie(call.metadata.get("cookie", ""))
            call.principal = await verifier.verify(token)
            current.set(call.principal)
        yield

    return authenticate_call


@asynccontextmanager
async def authorize(call: Call) -> AsyncIterator[None]:
    """Holds the caller against the method's `authz` option; what the option does not allow is refused."""
    rule = call.authz.WhichOneof("rule")
    caller = call.principal
    if rule != "public":
        allowed = caller is not None and {
            "permission": not caller.service and caller.may(call.authz.permission),
            "authenticated": bool(caller.user_id),
            "service": bool(caller.service) and call.authz.service in {"*", caller.service},
        }.get(str(rule), False)
        if not allowed:
            needed = call.authz.permission or call.authz.service or str(rule)
            raise PermissionMissingError(f"this needs the permission {needed}", permission=needed)
    yield


@asynccontextmanager
async def validate(call: Call) -> AsyncIterator[None]:
    """Holds the request against the rules of its proto."""
    if call.request is not None:
        check(call.request)
    yield


@asynccontextmanager
async def deadline(call: Call) -> AsyncIterator[None]:
    """Gives unary calls without a deadline one, and refuses those that waited until theirs had passed."""
    remaining = call.context.time_remaining()
    if call.kind is Kind.UNARY:
        left = DEFAULT_SECONDS if remaining is None else min(remaining, DEFAULT_SECONDS)
        if left <= 0:
            raise DeadlineError("the deadline passed before the call began")
        clients.deadline.set(time.monotonic() + left)
    yield


def _cookie(header: str) -> str:
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
