"""What the gateway would serve wrongly is refused before it starts."""

from collections.abc import Callable
from typing import Any

import pytest
from google.api.annotations_pb2 import http
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions

from gateway.api import ApiError, load
from kernel.contract import descriptor_set
from portolan.common.v1 import options_pb2


def changed(change: Callable[[MethodOptions], None]) -> FileDescriptorSet:
    """The suite's descriptors, with other options for JobService.GetJob."""
    files = FileDescriptorSet()
    files.CopyFrom(descriptor_set())
    file = next(each for each in files.file if each.name.endswith("jobs/v1/jobs.proto"))
    (method,) = (each for each in file.service[0].method if each.name == "GetJob")
    change(method.options)
    return files


def rule(options: Any) -> HttpRule:
    """The HTTP rule of a method's options, to be changed."""
    found: HttpRule = options.Extensions[http]
    return found


def allowed(options: MethodOptions) -> options_pb2.Authz:
    """The authorization rule of a method's options, to be changed."""
    return options.Extensions[options_pb2.authz]


def served_at(path: str, body: str = "") -> Callable[[MethodOptions], None]:
    """Serves the method at another path."""

    def change(options: MethodOptions) -> None:
        rule(options).get = path
        rule(options).body = body

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (served_at("/api/v1/runs/{reference}"), "share GET /api/v1/"),
        (served_at("/v1/jobs/{reference}"), "not of the form"),
        (served_at("/api/v1/jobs/{reference=**}"), "not of the form"),
        (served_at("/api/v1/jo{bs}"), "neither a word nor a variable"),
        (served_at("/api/v1/jobs/{nope}"), "no single value"),
        (served_at("/api/v1/jobs/{reference}", "reference"), "both in the path and the body"),
        (served_at("/api/v1/jobs/all", "reference"), "no message of the request"),
        (lambda options: options.ClearExtension(options_pb2.authz), "no authz option"),
        (
            lambda options: options.Extensions[options_pb2.authz].MergeFrom(
                options_pb2.Authz(service="jobs")
            ),
            "alone",
        ),
    ],
)
def test_a_fault_of_the_protos_is_named(change: Callable[[MethodOptions], None], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        load(changed(change))


def test_a_second_path_of_a_method_is_served_too() -> None:
    def change(options: MethodOptions) -> None:
        rule(options).additional_bindings.add(get="/api/old/jobs/{reference}")

    rpc = load(changed(change)).rpc("/portolan.jobs.v1.JobService/GetJob")
    assert [each.template for each in rpc.bindings] == [
        "/api/v1/jobs/{reference}",
        "/api/old/jobs/{reference}",
    ]
