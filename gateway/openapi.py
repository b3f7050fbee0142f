"""The OpenAPI 3.1 document of the API: what a client can call, written by nobody."""

from collections import Counter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.api import HTTP_BODY, Api, ApiError, Binding, Rpc
from gateway.filters import COOKIE
from gateway.routes import HEALTH_PATH
from gateway.schemas import Schemas, is_required

Json = dict[str, Any]

DESCRIPTION = """\
Portolan maps data sources to a warehouse, loads it, and proves what it did.

Names are in snake_case. Fields and parameters that a path does not take are refused. A refusal is a `Status`
with a stable `reason` in its `ErrorInfo` and each field at fault in its `BadRequest`. Integers of 64 bits are
strings in answers; requests may give them as numbers, too."""
REASON_ENUM = "ErrorReason"
REASON_PREFIX = "ERROR_REASON_"

_FAILURE = {"$ref": "#/components/responses/Refusal"}
_FILE: Json = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def document(api: Api) -> Json:
    """The whole document."""
    schemas = Schemas(api)
    paths: dict[str, Json] = {HEALTH_PATH: {"get": _health(api)}}
    for rpc in api.exposed:
        for index, binding in enumerate(rpc.bindings):
            operation = _operation(api, rpc, binding, index, schemas)
            paths.setdefault(binding.template, {})[binding.verb.lower()] = operation
    _refuse_equal_names(paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Portolan", "version": "v1", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name.rpartition(".")[2], "description": api.comments.get(name, "")}
            for name in api.grpc_services
        ],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(schemas.components.items())), **_status_schemas(api)},
            "responses": {
                "Refusal": {
                    "description": "Why the call was refused.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _operation(api: Api, rpc: Rpc, binding: Binding, index: int, schemas: Schemas) -> Json:
    service = rpc.descriptor.containing_service.name
    needs = f"\n\nNeeds the permission `{rpc.permission}`." if rpc.permission else ""
    operation: Json = {
        "operationId": f"{service}_{rpc.descriptor.name}" + (f"_{index + 1}" if index else ""),
        "tags": [service],
        "summary": rpc.comment.partition(". ")[0].rstrip("."),
        "description": rpc.comment + needs,
        "parameters": _parameters(rpc, binding, schemas),
        "responses": {"200": _answer(api, rpc, schemas), "default": _FAILURE},
        "security": _security(rpc),
    }
    if binding.body:
        operation["requestBody"] = _body(api, rpc, binding, schemas)
    return operation


def _security(rpc: Rpc) -> list[Json]:
    """A token in the header or, where nothing is changed, a cookie; its roles must grant the permission."""
    if rpc.public:
        return []
    roles = [rpc.permission] if rpc.permission else []
    return [{"bearer": roles}, {"cookie": roles}] if rpc.safe else [{"bearer": roles}]


def _parameters(rpc: Rpc, binding: Binding, schemas: Schemas) -> list[Json]:
    fields = rpc.request.fields_by_name
    path = [_parameter(fields[name], "path", schemas) for name in binding.variables]
    return path + [_parameter(field, "query", schemas) for field in rpc.query(binding)]


def _parameter(field: FieldDescriptor, place: str, schemas: Schemas) -> Json:
    schema = schemas.field(field)
    if schema.get("format") == "int64":
        schema |= {"type": "integer"}
        schema.pop("pattern", None)
    return {
        "name": field.name,
        "in": place,
        "required": place == "path" or is_required(field),
        "description": schema.pop("description", ""),
        "schema": schema,
    }


def _body(api: Api, rpc: Rpc, binding: Binding, schemas: Schemas) -> Json:
    if binding.body == "*":
        schema = schemas.object(rpc.request, without=binding.variables)
        schema["additionalProperties"] = False
        return {"required": "required" in schema, "content": {"application/json": {"schema": schema}}}
    field = rpc.request.fields_by_name[binding.body]
    message = rpc.body(binding)
    if message is not None and message.full_name == HTTP_BODY:
        description = api.comments.get(field.full_name, "")
        return {"description": description, "required": True, "content": _FILE}
    schema = schemas.field(field)
    description = schema.pop("description", "")
    content = {"application/json": {"schema": schema}}
    return {"description": description, "required": True, "content": content}


def _answer(api: Api, rpc: Rpc, schemas: Schemas) -> Json:
    if rpc.response.full_name == HTTP_BODY:
        return {"description": rpc.comment, "content": _FILE}
    description = api.comments.get(rpc.response.full_name, "Done.")
    if rpc.descriptor.server_streaming:
        description += " A stream of these, one a line, each sent when it is known."
    return {
        "description": description,
        "content": {"application/json": {"schema": schemas.message(rpc.response)}},
    }


def _health(api: Api) -> Json:
    state = {"type": "string", "enum": ["SERVING", "NOT_SERVING"]}
    schema = {
        "type": "object",
        "required": ["status", "services"],
        "properties": {
            "status": state,
            "services": {"type": "object", "properties": dict.fromkeys(api.services, state)},
        },
    }
    content = {"application/json": {"schema": schema}}
    return {
        "operationId": "Health",
        "summary": "Tells whether all services serve",
        "description": "Tells whether all services serve, and which do not. Answers while any is down.",
        "responses": {
            "200": {"description": "All serve.", "content": content},
            "503": {"description": "Some do not serve.", "content": content},
            "default": _FAILURE,
        },
        "security": [],
    }


def _status_schemas(api: Api) -> dict[str, Json]:
    """How a refusal looks, with every reason that there is."""
    text = {"type": "string"}
    details = ("ErrorInfo", "BadRequest", "RetryInfo", "OtherDetail")
    violation = {"type": "object", "properties": {"field": text, "description": text, "reason": text}}
    return {
        "Status": {
            "description": "Why a call was refused, as `google.rpc.Status`.",
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer", "description": "The code in gRPC."},
                "message": {"type": "string", "description": "The refusal as a sentence, for people."},
                "details": {
                    "type": "array",
                    "items": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in details]},
                },
            },
        },
        "ErrorInfo": _detail(
            "ErrorInfo",
            "Why, for programs.",
            reason={"anyOf": [*_reasons(api), {"type": "string"}]},
            domain={"type": "string", "description": "The package that the reason belongs to."},
            metadata={"type": "object", "additionalProperties": text},
        ),
        "BadRequest": _detail(
            "BadRequest", "Each field at fault.", field_violations={"type": "array", "items": violation}
        ),
        "RetryInfo": _detail(
            "RetryInfo", "When to come again.", retry_delay={"type": "string", "description": "As `1.5s`."}
        ),
        "OtherDetail": {"type": "object", "required": ["@type"], "properties": {"@type": text}},
    }


def _detail(name: str, description: str, **properties: Json) -> Json:
    kind = {"const": f"type.googleapis.com/google.rpc.{name}"}
    return {
        "description": description,
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": kind, **properties},
    }


def _reasons(api: Api) -> list[Json]:
    found = []
    for file in api.files.file:
        for enum in file.enum_type:
            if enum.name == REASON_ENUM and file.package.startswith("portolan."):
                for value in enum.value[1:]:
                    comment = api.comments.get(f"{file.package}.{enum.name}.{value.name}", "")
                    reason = value.name.removeprefix(REASON_PREFIX)
                    found.append({"const": reason, "description": f"{comment} Domain `{file.package}`."})
    return found


def _refuse_equal_names(paths: dict[str, Json]) -> None:
    names = Counter(operation["operationId"] for path in paths.values() for operation in path.values())
    for name, count in names.items():
        if count > 1:
            raise ApiError(f"{count} operations would be called {name}")
