"""Whatever a client sends, it gets an answer or a refusal, never a fault."""

from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import Default
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.contract import Method, methods
from tests.messages import messages
from tests.running import Running

FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
ENDS_THE_SESSION = {"Logout"}
EXAMPLES = 40


def called(method: Method) -> bool:
    return method.authz.WhichOneof("rule") != "service" and method.name not in ENDS_THE_SESSION


@pytest.mark.parametrize("method", [m for m in methods() if called(m)], ids=lambda m: f"{m.domain}.{m.name}")
def test_no_input_is_a_fault(suite: Running, method: Method) -> None:
    pool = Default()
    request_type = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(method.descriptor.input_type[1:])
    )
    answer_type = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(method.descriptor.output_type[1:])
    )
    streams = (method.descriptor.client_streaming, method.descriptor.server_streaming)
    make: dict[tuple[bool, bool], Any] = {
        (False, False): suite.channel.unary_unary,
        (False, True): suite.channel.unary_stream,
        (True, False): suite.channel.stream_unary,
    }
    call = make[streams](
        method.path,
        request_serializer=request_type.SerializeToString,
        response_deserializer=answer_type.FromString,
    )

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(messages(request_type), min_size=1, max_size=3 if streams[0] else 1))
    def send(requests: list[Any]) -> None:
        try:
            answer = call(iter(requests) if streams[0] else requests[0], metadata=suite.metadata, timeout=20)
            if streams[1]:
                list(answer)
        except grpc.RpcError as error:
            failed: Any = error
            assert failed.code() not in FAULTS, (failed.code(), failed.details(), requests)

    send()
