"""Refusals: what a service answers when it does not do what was asked.

    RefusedError
    ├── InvalidError           INVALID_ARGUMENT     the request is wrong, whatever the state
    ├── UnauthenticatedError   UNAUTHENTICATED      who calls is not known
    ├── PermissionDeniedError  PERMISSION_DENIED    who calls may not
    ├── NotFoundError          NOT_FOUND
    ├── AlreadyExistsError     ALREADY_EXISTS
    ├── PreconditionError      FAILED_PRECONDITION  the state must change first
    ├── ConflictError          ABORTED              somebody else was faster; read again and retry
    ├── ExhaustedError         RESOURCE_EXHAUSTED   too much at once; come again later
    ├── DeadlineError          DEADLINE_EXCEEDED    it took too long
    └── UnavailableError       UNAVAILABLE          something that is needed does not answer; retry

Each service subclasses these in its `errors.py`, one class for each distinct reaction of a client, with its
`reason`. Nothing else is mapped to a status code: any other exception is a fault of ours.
"""

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

COMMON_DOMAIN = "portolan.common.v1"
MAX_DETAILS = 2_600
"""Bytes of a status. It travels in trailing metadata, in base64, which clients take up to 8 KiB of."""
MAX_MESSAGE = 800
"""Bytes of the message, which is also sent beside the status, where a byte may become three."""
MAX_TEXT = 300
"""Bytes of every other text."""


class RefusedError(Exception):
    """A refusal: `message` for people, `reason` and `metadata` for programs, `fields` at fault."""

    code: ClassVar[int]
    reason: str = ""
    domain: str = ""

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})
        self.retry_after = retry_after
        self.metadata = metadata


class InvalidError(RefusedError):
    """The request is wrong, whatever the state."""

    code = code_pb2.INVALID_ARGUMENT


class UnauthenticatedError(RefusedError):
    """Who calls is not known."""

    code = code_pb2.UNAUTHENTICATED


class PermissionDeniedError(RefusedError):
    """Who calls may not do this."""

    code = code_pb2.PERMISSION_DENIED


class NotFoundError(RefusedError):
    """What is named does not exist in the caller's organization."""

    code = code_pb2.NOT_FOUND


class AlreadyExistsError(RefusedError):
    """What should be created exists."""

    code = code_pb2.ALREADY_EXISTS


class PreconditionError(RefusedError):
    """The state must change first."""

    code = code_pb2.FAILED_PRECONDITION


class ConflictError(RefusedError):
    """Somebody else was faster: read again and retry."""

    code = code_pb2.ABORTED


class ExhaustedError(RefusedError):
    """Too much at once: come again after `retry_after` seconds."""

    code = code_pb2.RESOURCE_EXHAUSTED


class DeadlineError(RefusedError):
    """It took longer than it may."""

    code = code_pb2.DEADLINE_EXCEEDED


class UnavailableError(RefusedError):
    """Something that is needed does not answer: retry."""

    code = code_pb2.UNAVAILABLE


class FieldInvalidError(InvalidError):
    """A field breaks its rule."""

    reason = "FIELD_INVALID"
    domain = COMMON_DOMAIN


class PageTokenInvalidError(InvalidError):
    """The page token was made by another call."""

    reason = "PAGE_TOKEN_INVALID"
    domain = COMMON_DOMAIN


class EtagMismatchError(ConflictError):
    """The resource changed since it was read."""

    reason = "ETAG_MISMATCH"
    domain = COMMON_DOMAIN


class TokenMissingError(UnauthenticatedError):
    """The call carries no token."""

    reason = "TOKEN_MISSING"
    domain = COMMON_DOMAIN


class TokenInvalidError(UnauthenticatedError):
    """The token is not one of ours, or not any more."""

    reason = "TOKEN_INVALID"
    domain = COMMON_DOMAIN


class TokenRevokedError(UnauthenticatedError):
    """The session of the token was ended."""

    reason = "TOKEN_REVOKED"
    domain = COMMON_DOMAIN


class PermissionMissingError(PermissionDeniedError):
    """The caller's roles do not grant the method's permission."""

    reason = "PERMISSION_MISSING"
    domain = COMMON_DOMAIN


class OverloadedError(ExhaustedError):
    """The service has as much to do as it can hold."""

    reason = "OVERLOADED"
    domain = COMMON_DOMAIN


class ServiceUnavailableError(UnavailableError):
    """Another service of the suite, or the service's own database, does not answer."""

    reason = "SERVICE_UNAVAILABLE"
    domain = COMMON_DOMAIN


_KINDS: dict[int, type[RefusedError]] = {kind.code: kind for kind in RefusedError.__subclasses__()}


def to_status(error: RefusedError, domain: str) -> status_pb2.Status:
    """The `google.rpc.Status` of a refusal; `domain` is the proto package of the service that refuses.

    What is too long for a client is cut, and of very many fields the first ones are told.
    """
    status = status_pb2.Status(code=error.code, message=_cut(error.message, MAX_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=error.domain or domain)
    for key, value in error.metadata.items():
        info.metadata[key] = _cut(value)
        if status.ByteSize() + info.ByteSize() > MAX_DETAILS:
            del info.metadata[key]
    _attach(status, info)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    bad = error_details_pb2.BadRequest()
    for field, text in error.fields.items():
        bad.field_violations.add(field=_cut(field), description=_cut(text))
        if status.ByteSize() + bad.ByteSize() > MAX_DETAILS:
            del bad.field_violations[-1]
            break
    if bad.field_violations:
        _attach(status, bad)
    return status


def from_status(status: status_pb2.Status) -> RefusedError | None:
    """The refusal that a status stands for, by its kind; None when the status is no refusal but a fault."""
    kind = _KINDS.get(status.code)
    if kind is None:
        return None
    error = kind(status.message)
    for detail in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            error.reason, error.domain, error.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Unpack(bad):
            error.fields = {violation.field: violation.description for violation in bad.field_violations}
        elif detail.Unpack(retry):
            error.retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return error


def sentence(message: str) -> str:
    """A message, which may be a database's, as a sentence."""
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")


def _cut(text: str, size: int = MAX_TEXT) -> str:
    """A text in at most so many bytes of UTF-8."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
