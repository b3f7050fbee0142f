"""The contract as data: every method of the suite, read from the descriptor set."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.api.annotations_pb2 import http as http_option
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pb2

from portolan.common.v1 import options_pb2

DESCRIPTORS = Path(str(options_pb2.__file__)).parents[3] / "portolan.binpb"


@dataclass(frozen=True)
class Method:
    """An RPC and what its options say."""

    package: str
    service: str
    name: str
    descriptor: descriptor_pb2.MethodDescriptorProto

    @property
    def path(self) -> str:
        """The path of its gRPC calls, `/package.Service/Method`."""
        return f"/{self.package}.{self.service}/{self.name}"

    @property
    def domain(self) -> str:
        """The service's directory, such as `jobs` of `portolan.jobs.v1`."""
        return self.package.split(".")[1]

    @property
    def authz(self) -> options_pb2.Authz:
        """Who may call it."""
        return self.descriptor.options.Extensions[options_pb2.authz]

    @property
    def http(self) -> HttpRule | None:
        """Its HTTP mapping; None for a method that is for services alone."""
        options: Any = self.descriptor.options
        return options.Extensions[http_option] if options.HasExtension(http_option) else None

    @property
    def read_only(self) -> bool:
        """Whether it has no side effects, so that it may be repeated."""
        return self.descriptor.options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


@cache
def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """All protos with their comments and imports."""
    return descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())


@cache
def methods() -> tuple[Method, ...]:
    """Every method of the suite."""
    return tuple(_methods())


def _methods() -> Iterator[Method]:
    for file in descriptor_set().file:
        if file.package.startswith("portolan."):
            for service in file.service:
                for method in service.method:
                    yield Method(file.package, service.name, method.name, method)


@cache
def permissions() -> tuple[str, ...]:
    """Every permission that some method asks for, sorted."""
    return tuple(sorted({method.authz.permission for method in methods()} - {""}))
