"""The API as the gateway serves it: every RPC with its HTTP paths and rules, read from the descriptor set."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.api import http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2

from kernel.contract import Method, descriptor_set

HTTP_BODY = "google.api.HttpBody"

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9._-]+")
_TEMPLATE = re.compile(r"/api(/[^/:*]+)+(:[A-Za-z]+)?")


class ApiError(Exception):
    """The protos ask for something that the gateway would serve wrongly."""


@dataclass(frozen=True)
class Binding:
    """One HTTP method and path that an RPC is served at."""

    verb: str
    """The HTTP method, in capitals."""
    template: str
    """The path as the proto writes it: `/api/v1/jobs/{reference}:run`."""
    segments: tuple[str, ...]
    """The path's parts without the action; a variable is `{name}`."""
    action: str
    """What follows the colon: `run`; empty when there is none."""
    body: str
    """The request field that the body is; `*` when the body is the request; empty when there is no body."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The request fields that the path gives."""
        return tuple(_VARIABLE.findall(self.template))

    @property
    def shape(self) -> str:
        """The path without its variables' names: two RPCs of the same shape would take each other's calls."""
        return f"{self.verb} {_VARIABLE.sub('{}', self.template)}"


@dataclass(frozen=True)
class Rpc:
    """One RPC."""

    contract: Method
    descriptor: MethodDescriptor
    bindings: tuple[Binding, ...]
    comment: str

    @property
    def path(self) -> str:
        """The path of the RPC in gRPC."""
        return self.contract.path

    @property
    def service(self) -> str:
        """The name of the service that answers, such as `auth`."""
        return self.contract.domain

    @property
    def permission(self) -> str:
        """The permission that the caller's roles must grant; empty when another rule holds."""
        return self.contract.authz.permission

    @property
    def request(self) -> Descriptor:
        """The request message."""
        return self.descriptor.input_type

    @property
    def response(self) -> Descriptor:
        """The response message."""
        return self.descriptor.output_type

    @property
    def public(self) -> bool:
        """Whether anyone may call it, without a token."""
        return self.contract.authz.public

    @property
    def safe(self) -> bool:
        """Whether a call changes nothing, and so may be repeated."""
        return self.contract.read_only

    @property
    def exposed(self) -> bool:
        """Whether the gateway serves it; services' own RPCs are never served to the outside."""
        return self.contract.authz.WhichOneof("rule") != "service"

    @property
    def streaming(self) -> bool:
        """Whether either side streams."""
        return bool(self.descriptor.client_streaming or self.descriptor.server_streaming)

    def body(self, binding: Binding) -> Descriptor | None:
        """The message that the body of this binding is; None when it takes no body."""
        if binding.body == "*":
            return self.request
        return self.request.fields_by_name[binding.body].message_type if binding.body else None

    def query(self, binding: Binding) -> list[FieldDescriptor]:
        """The request fields that query parameters may set: those that neither path nor body give."""
        if binding.body == "*":
            return []
        taken = {*binding.variables, binding.body}
        return [field for field in self.request.fields if field.name not in taken]


@dataclass(frozen=True)
class Api:
    """All RPCs, in the order of the protos."""

    rpcs: tuple[Rpc, ...]
    files: descriptor_pb2.FileDescriptorSet
    pool: descriptor_pool.DescriptorPool
    comments: dict[str, str]
    """What the protos say about each service, method, message, field, enum and value, by full name."""

    @property
    def exposed(self) -> list[Rpc]:
        """The RPCs that the gateway serves."""
        return [rpc for rpc in self.rpcs if rpc.exposed]

    @property
    def grpc_services(self) -> list[str]:
        """The full names of the gRPC services that have an exposed RPC."""
        return list(dict.fromkeys(rpc.descriptor.containing_service.full_name for rpc in self.exposed))

    @property
    def services(self) -> list[str]:
        """The names of the services that have an exposed RPC, such as `auth`."""
        return list(dict.fromkeys(rpc.service for rpc in self.exposed))

    def rpc(self, path: str) -> Rpc:
        """The RPC at a gRPC path."""
        return next(rpc for rpc in self.rpcs if rpc.path == path)

    def descriptor_set(self) -> bytes:
        """The descriptors that transcoding needs: no comments, but the details that errors carry."""
        slim = descriptor_pb2.FileDescriptorSet()
        slim.CopyFrom(self.files)
        for file in slim.file:
            file.ClearField("source_code_info")
        names = {file.name for file in slim.file}
        if error_details_pb2.DESCRIPTOR.name not in names:
            error_details_pb2.DESCRIPTOR.CopyToProto(slim.file.add())
        return slim.SerializeToString()


def load(files: descriptor_pb2.FileDescriptorSet | None = None) -> Api:
    """The API of a descriptor set, by default the suite's; ApiError when it would be served wrongly."""
    files = files or descriptor_set()
    pool = descriptor_pool.DescriptorPool()
    comments: dict[str, str] = {}
    rpcs: list[Rpc] = []
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
        if not file.package.startswith("portolan."):
            continue
        comments.update(_comments(file))
        for service in file.service:
            for method in service.method:
                contract = Method(file.package, service.name, method.name, method)
                name = f"{file.package}.{service.name}.{method.name}"
                rpcs.append(_rpc(contract, pool.FindMethodByName(name), comments.get(name, "")))
    _refuse_clashes(rpcs)
    return Api(tuple(rpcs), files, pool, comments)


def _rpc(contract: Method, descriptor: MethodDescriptor, comment: str) -> Rpc:
    if contract.authz.WhichOneof("rule") is None:
        raise ApiError(f"{descriptor.full_name} has no authz option")
    rules = [contract.http, *contract.http.additional_bindings] if contract.http else []
    rpc = Rpc(contract, descriptor, tuple(_binding(descriptor, rule) for rule in rules), comment)
    if rpc.bindings and not rpc.exposed:
        raise ApiError(f"{descriptor.full_name} is for services alone and has an HTTP path")
    return rpc


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Binding:
    verb = str(rule.WhichOneof("pattern"))
    template = str(getattr(rule, verb))
    if verb == "custom" or not _TEMPLATE.fullmatch(template):
        raise ApiError(f"{method.full_name}: {template} is not of the form /api/…/{{field}}:verb")
    path, _, action = template.partition(":")
    binding = Binding(verb.upper(), template, tuple(path.split("/")[1:]), action, rule.body)
    for segment in binding.segments:
        if not (_VARIABLE.fullmatch(segment) or _LITERAL.fullmatch(segment)):
            raise ApiError(f"{method.full_name}: {segment} is neither a word nor a variable")
    fields = method.input_type.fields_by_name
    for name in binding.variables:
        if name not in fields or fields[name].message_type or fields[name].is_repeated:
            raise ApiError(f"{method.full_name}: {{{name}}} is no single value of the request")
    if binding.body not in {"", "*"}:
        if binding.body in binding.variables:
            raise ApiError(f"{method.full_name}: {binding.body} is both in the path and the body")
        if binding.body not in fields or fields[binding.body].message_type is None:
            raise ApiError(f"{method.full_name}: the body {binding.body} is no message of the request")
    return binding


def _refuse_clashes(rpcs: list[Rpc]) -> None:
    taken: dict[str, str] = {}
    for rpc in rpcs:
        for binding in rpc.bindings:
            first = taken.setdefault(binding.shape, rpc.path)
            if first != rpc.path:
                raise ApiError(f"{rpc.path} and {first} share {binding.verb} {binding.template}")


def _comments(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    places = {
        tuple(place.path): re.sub(r"\s*\n\s*", " ", place.leading_comments.strip())
        for place in file.source_code_info.location
        if place.leading_comments
    }
    return {name: places[path] for name, path in _places(file) if path in places}


def _places(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The full name and the source path (as in `SourceCodeInfo`) of everything that can have a comment."""
    for index, service in enumerate(file.service):
        yield f"{file.package}.{service.name}", (6, index)
        for place, method in enumerate(service.method):
            yield f"{file.package}.{service.name}.{method.name}", (6, index, 2, place)
    for index, enum in enumerate(file.enum_type):
        yield from _enum_places(f"{file.package}.{enum.name}", enum, (5, index))
    for index, message in enumerate(file.message_type):
        yield from _message_places(f"{file.package}.{message.name}", message, (4, index))


def _message_places(
    name: str, message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, 2, index)
    for index, nested in enumerate(message.nested_type):
        yield from _message_places(f"{name}.{nested.name}", nested, (*path, 3, index))
    for index, enum in enumerate(message.enum_type):
        yield from _enum_places(f"{name}.{enum.name}", enum, (*path, 4, index))


def _enum_places(
    name: str, enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield name, path
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, 2, index)
