"""The protos keep the house's rules, and the services keep to their protos."""

import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.rpc import code_pb2

from kernel import contract, errors, middlewares
from portolan.common.v1 import options_pb2

FILES = [file for file in contract.descriptor_set().file if file.package.startswith("portolan.")]
DOMAINS = sorted({method.domain for method in contract.methods()})
VERBS = {"read", "run", "write", "manage"}
GIVEN_BY_THE_GATEWAY = {"REQUEST_REFUSED"}
FIELD_BEHAVIOR: Any = field_behavior_pb2.field_behavior
# Numbers of fields in descriptor.proto, which the paths of comments are made of.
MESSAGES, ENUMS, SERVICES, EXTENSIONS = 4, 5, 6, 7
FIELDS, NESTED_MESSAGES, NESTED_ENUMS = 2, 3, 4
VALUES = METHODS = 2

Path = tuple[int, ...]


@pytest.mark.parametrize("method", contract.methods(), ids=lambda method: method.path)
class TestMethod:
    """What holds for every RPC."""

    def test_it_says_who_may_call_it(self, method: contract.Method) -> None:
        rule = method.authz.WhichOneof("rule")
        assert rule is not None
        assert getattr(method.authz, rule)
        if rule == "permission":
            resources, _, verb = method.authz.permission.partition(".")
            assert re.fullmatch(r"[a-z_]+s", resources)
            assert verb in VERBS

    def test_it_has_a_path_unless_it_is_for_services_alone(self, method: contract.Method) -> None:
        if method.authz.service:
            assert method.http is None
        else:
            assert method.http is not None
            assert getattr(method.http, str(method.http.WhichOneof("pattern"))).startswith("/api/v1/")

    def test_what_is_got_only_reads(self, method: contract.Method) -> None:
        if method.http is not None and method.http.WhichOneof("pattern") == "get":
            assert method.read_only

    def test_a_list_comes_in_pages(self, method: contract.Method) -> None:
        if method.name.startswith("List"):
            asked = {field.name for field in _message(method.descriptor.input_type).field}
            *items, token = _message(method.descriptor.output_type).field
            assert asked >= {"page_size", "page_token"}
            assert [item.label for item in items] == [FieldDescriptorProto.LABEL_REPEATED]
            assert token.name == "next_page_token"

    def test_no_user_gets_a_secret(self, method: contract.Method) -> None:
        if not method.authz.service:
            assert list(_secrets(method.descriptor.output_type, ())) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_everything_has_a_comment(file: FileDescriptorProto) -> None:
    commented = _comments(file)
    assert [name for name, path in _elements(file) if path not in commented] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_enums_begin_with_unspecified(file: FileDescriptorProto) -> None:
    for enum, _ in _enums(file):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper()
        assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}_UNSPECIFIED", 0)
        assert all(value.name.startswith(f"{prefix}_") for value in enum.value)


def test_every_common_reason_has_a_class_of_its_code_and_the_reverse() -> None:
    declared = _reasons("portolan.common.v1")
    classes = _refusals("kernel.errors", errors.COMMON_DOMAIN) | _refusals(
        middlewares.__name__, errors.COMMON_DOMAIN
    )
    assert classes == {reason: declared[reason] for reason in declared.keys() - GIVEN_BY_THE_GATEWAY}


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_reason_of_a_service_has_a_class_of_its_code_and_the_reverse(domain: str) -> None:
    package = f"portolan.{domain}.v1"
    assert _refusals(f"services.{domain}.errors", "", package) == _reasons(package)


def _refusals(module: str, *domains: str) -> dict[str, str]:
    """The codes of the refusals that a module knows, by their reasons."""
    return {
        kind.reason: code_pb2.Code.Name(kind.code)
        for kind in vars(importlib.import_module(module)).values()
        if isinstance(kind, type) and issubclass(kind, errors.RefusedError)
        if kind.reason and kind.domain in domains
    }


def _reasons(package: str) -> dict[str, str]:
    """The codes that a package's reasons are sent with, as their comments end with them, by the reasons."""
    return {
        value.name.removeprefix("ERROR_REASON_"): _comments(file)[*path, VALUES, number]
        .split()[-1]
        .rstrip(".")
        for file in FILES
        if file.package == package
        for enum, path in _enums(file)
        if enum.name == "ErrorReason"
        for number, value in enumerate(enum.value)
        if value.number
    }


def _comments(file: FileDescriptorProto) -> dict[Path, str]:
    """The comments before the elements of a file."""
    found = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    return {path: text for path, text in found.items() if text.strip()}


def _elements(file: FileDescriptorProto) -> Iterator[tuple[str, Path]]:
    """Everything in a file that a reader wants explained."""
    for index, service in enumerate(file.service):
        yield service.name, (SERVICES, index)
        yield from _numbered(service.method, (SERVICES, index, METHODS))
    for message, path in _messages(file.message_type, (MESSAGES,)):
        yield message.name, path
        yield from _numbered(message.field, (*path, FIELDS))
    for enum, path in _enums(file):
        yield enum.name, path
        yield from _numbered(enum.value, (*path, VALUES))
    yield from _numbered(file.extension, (EXTENSIONS,))


def _numbered(items: Sequence[Any], path: Path) -> Iterator[tuple[str, Path]]:
    for index, item in enumerate(items):
        yield item.name, (*path, index)


def _messages(messages: Sequence[DescriptorProto], path: Path) -> Iterator[tuple[DescriptorProto, Path]]:
    """Messages with those nested in them, without the entries of maps, which nobody wrote."""
    for index, message in enumerate(messages):
        if not message.options.map_entry:
            yield message, (*path, index)
            yield from _messages(message.nested_type, (*path, index, NESTED_MESSAGES))


def _enums(file: FileDescriptorProto) -> Iterator[tuple[EnumDescriptorProto, Path]]:
    for index, enum in enumerate(file.enum_type):
        yield enum, (ENUMS, index)
    for message, path in _messages(file.message_type, (MESSAGES,)):
        for index, enum in enumerate(message.enum_type):
            yield enum, (*path, NESTED_ENUMS, index)


def _message(name: str) -> DescriptorProto:
    """A message by its full name with a leading dot; an empty one for those that are not ours."""
    package, _, rest = name[1:].partition(".v1.")
    for file in FILES:
        if file.package == f"{package}.v1":
            for message, _ in _messages(file.message_type, (MESSAGES,)):
                if message.name == rest.rpartition(".")[2]:
                    return message
    return DescriptorProto()


def _secrets(name: str, seen: tuple[str, ...]) -> Iterator[str]:
    """The secret fields of a message that are not for input only, at any depth."""
    if name in seen:
        return
    for field in _message(name).field:
        input_only = field_behavior_pb2.INPUT_ONLY in field.options.Extensions[FIELD_BEHAVIOR]
        if field.options.Extensions[options_pb2.secret] and not input_only:
            yield f"{name}.{field.name}"
        if field.type_name:
            yield from _secrets(field.type_name, (*seen, name))
