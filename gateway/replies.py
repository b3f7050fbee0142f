"""What clients get when Envoy itself answers: a `google.rpc.Status` as from a service, in JSON or gRPC."""

import base64
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from google.rpc import code_pb2, error_details_pb2, status_pb2

from kernel.errors import COMMON_DOMAIN

Json = dict[str, Any]

ENVOYS_WORDS = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True)
class Reply:
    """One kind of refusal. The first whose condition holds is given."""

    when: str
    """A condition in the Common Expression Language."""
    status: int
    """The HTTP status."""
    code: int
    """The gRPC code."""
    message: str
    reason: str = "REQUEST_REFUSED"


REPLIES = (
    Reply(
        "response.code_details == 'jwt_authn_access_denied{Jwt_is_missing}'",
        401,
        code_pb2.UNAUTHENTICATED,
        "sign in first: the call carries no access token",
        "TOKEN_MISSING",
    ),
    Reply(
        "response.code_details.startsWith('jwt_authn_access_denied{Jwks_remote_fetch')",
        503,
        code_pb2.UNAVAILABLE,
        "the auth service does not answer; try again",
        "SERVICE_UNAVAILABLE",
    ),
    Reply(
        "response.code_details.startsWith('jwt_authn') || response.code_details.startsWith('rbac')",
        401,
        code_pb2.UNAUTHENTICATED,
        "the access token is not valid; refresh it or sign in again",
        "TOKEN_INVALID",
    ),
    Reply("response.code == 404", 404, code_pb2.NOT_FOUND, "nothing is served at this path"),
    Reply("response.code == 408", 408, code_pb2.DEADLINE_EXCEEDED, "the request took too long to arrive"),
    Reply(
        "response.code == 413", 413, code_pb2.INVALID_ARGUMENT, "the body is larger than the gateway takes"
    ),
    Reply(
        "response.code == 431",
        431,
        code_pb2.INVALID_ARGUMENT,
        "the headers are larger than the gateway takes",
    ),
    Reply(
        "response.code == 429",
        429,
        code_pb2.RESOURCE_EXHAUSTED,
        "too many calls from this address; come again after the time in retry-after",
    ),
    Reply(
        "response.code == 502 || response.code == 503",
        503,
        code_pb2.UNAVAILABLE,
        "the service does not answer; try again",
        "SERVICE_UNAVAILABLE",
    ),
    Reply("response.code == 504", 504, code_pb2.DEADLINE_EXCEEDED, "the call took longer than it may"),
    Reply("response.code >= 500", 500, code_pb2.INTERNAL, "the answer could not be passed on", "INTERNAL"),
    Reply("response.code >= 400", 400, code_pb2.INVALID_ARGUMENT, ENVOYS_WORDS),
)

_TYPE = "request.headers['content-type']"
# The transcoder turns a REST request into a gRPC one, and leaves its path in a header.
_IN_GRPC = (
    f"'content-type' in request.headers && {_TYPE}.startsWith('application/grpc')"
    " && !('x-envoy-original-path' in request.headers)"
)
_FILTERS = "type.googleapis.com/envoy.extensions.access_loggers.filters"


def local_reply_config(headers: Json) -> Json:
    """How Envoy's replies look. `headers` also go on those that are made before any filter runs."""
    scripts = {  # the gateway's own scripts answer with a whole status already
        "filter": _condition("response.code_details == 'lua_response'"),
        "body_format_override": {
            "text_format_source": {"inline_string": ENVOYS_WORDS},
            "content_type": "application/json",
        },
        "headers_to_add": header_options(headers),
    }
    in_grpc = [_grpc_mapper(reply) for reply in REPLIES]
    in_json = [_json_mapper(reply, headers) for reply in REPLIES]
    return {"mappers": [scripts, *in_grpc, *in_json]}


def header_options(headers: Json) -> list[Json]:
    """Headers to set, as Envoy writes them."""
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
    ]


def _json_mapper(reply: Reply, headers: Json) -> Json:
    if reply.status == HTTPStatus.UNAUTHORIZED:
        headers = {**headers, "www-authenticate": "Bearer"}
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": COMMON_DOMAIN,
        "metadata": {},
    }
    return {
        "filter": _condition(reply.when),
        "status_code": reply.status,
        "body_format_override": {
            "json_format": {"code": reply.code, "message": reply.message, "details": [info]}
        },
        "headers_to_add": header_options(headers),
    }


def _grpc_mapper(reply: Reply) -> Json:
    # A gRPC client asked for a method: a path that is not served is a method that is not implemented.
    code = code_pb2.UNIMPLEMENTED if reply.code == code_pb2.NOT_FOUND else reply.code
    headers = {"grpc-status": str(code)}
    if reply.message != ENVOYS_WORDS:
        status = status_pb2.Status(code=code, message=reply.message)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reply.reason, domain=COMMON_DOMAIN))
        headers["grpc-status-details-bin"] = base64.b64encode(status.SerializeToString()).decode()
    return {
        "filter": _condition(f"{_IN_GRPC} && ({reply.when})"),
        "body_format_override": {"text_format_source": {"inline_string": reply.message}},
        "headers_to_add": header_options(headers),
    }


def _condition(expression: str) -> Json:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": f"{_FILTERS}.cel.v3.ExpressionFilter",
                "expression": expression,
            },
        }
    }
