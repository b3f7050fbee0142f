"""gRPC servers: a chain of middlewares around every call, unary methods on threads, streams on the loop."""

import asyncio
import contextvars
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kernel import cancellation
from kernel.auth import Principal
from kernel.logs import logger
from portolan.common.v1 import options_pb2

log = logger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
STOP_SECONDS = 10
OPEN_SERVICES = (health.SERVICE_NAME, reflection.SERVICE_NAME)
OPTIONS = (
    ("grpc.so_reuseport", 0),  # else two servers bind one port without a word
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


class Kind(Enum):
    """What a call weighs while it is under way."""

    UNARY = auto()
    """A thread for a while, or a place in front of one."""
    UPLOAD = auto()
    """What the client streams, until it is complete."""
    STREAM = auto()
    """An answer that may go on for as long as the client likes."""


@dataclass
class Call:
    """A call that is being served."""

    name: str
    """The path, `/package.Service/Method`."""
    authz: options_pb2.Authz
    read_only: bool
    kind: Kind
    context: grpc.aio.ServicerContext[Any, Any]
    metadata: dict[str, str]
    request: Message | None
    """None where the client streams."""
    principal: Principal | None = None

    @property
    def domain(self) -> str:
        """The proto package, which error reasons belong to."""
        return self.name[1:].rpartition("/")[0].rpartition(".")[0]


Middleware = Callable[[Call], AbstractAsyncContextManager[None]]
Handler = Any  # grpc's own annotations know handlers of threads only


@dataclass(frozen=True)
class _Rule:
    authz: options_pb2.Authz
    read_only: bool


_KINDS: dict[tuple[bool, bool], tuple[Kind, Callable[..., Handler]]] = {
    (False, False): (Kind.UNARY, grpc.unary_unary_rpc_method_handler),
    (True, False): (Kind.UPLOAD, grpc.stream_unary_rpc_method_handler),
    (False, True): (Kind.STREAM, grpc.unary_stream_rpc_method_handler),
}
"""What a method is, by whether its client and its server stream; none of ours does both."""


class Chain(grpc.aio.ServerInterceptor):
    """Runs every call inside the middlewares, the first one outermost."""

    def __init__(
        self, services: Sequence[ServiceDescriptor], middlewares: Sequence[Middleware], threads: int
    ) -> None:
        self._rules = {path: rule for service in services for path, rule in _rules(service)}
        self._middlewares = middlewares
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the handler of a method of ours; health and reflection are open to all."""
        handler = await continuation(handler_call_details)
        name = str(handler_call_details.method)
        if handler is None or name[1:].partition("/")[0] in OPEN_SERVICES:
            return handler
        rule = self._rules[name]
        kind, make = _KINDS[handler.request_streaming, handler.response_streaming]

        def call(request: Message | None, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
            metadata = {
                key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
            }
            return Call(name, rule.authz, rule.read_only, kind, context, metadata, request)

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with AsyncExitStack() as stack:
                await self._enter(stack, call(None if kind is Kind.UPLOAD else request, context))
                if kind is Kind.UPLOAD:
                    return await handler.stream_unary(request, context)
                return await self._handed(functools.partial(handler.unary_unary, request, context))

        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async with AsyncExitStack() as stack:
                await self._enter(stack, call(request, context))
                async for response in handler.unary_stream(request, context):
                    yield response

        return make(
            stream if kind is Kind.STREAM else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _handed(self, run: Callable[[], Any]) -> Any:
        """What a handler on a thread answers.

        A caller who goes ends what the handler does for it by `on_cancel`. The call is under way until its
        thread is free: more than are admitted do not pile up behind callers who come and go.
        """
        call = cancellation.Cancellation()
        cancellation.current.set(call)
        job = self._pool.submit(contextvars.copy_context().run, run)
        answered = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(answered)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.to_thread(call.cancel)
                await asyncio.wait({answered})
            raise

    async def _enter(self, stack: AsyncExitStack, call: Call) -> None:
        for middleware in self._middlewares:
            await stack.enter_async_context(middleware(call))

    def close(self) -> None:
        """Lets the threads go, without waiting for what they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _rules(service: ServiceDescriptor) -> list[tuple[str, _Rule]]:
    found = []
    for method in service.methods:
        options: Any = method.GetOptions()
        if not options.HasExtension(options_pb2.authz):
            message = f"{method.full_name} has no (portolan.common.v1.authz) option"
            raise RuntimeError(message)
        read_only = options.idempotency_level == options.NO_SIDE_EFFECTS
        path = f"/{service.full_name}/{method.name}"
        found.append((path, _Rule(options.Extensions[options_pb2.authz], read_only)))
    return found


class Server:
    """A server of some servicers, with health and, where wanted, reflection."""

    def __init__(
        self,
        servicers: Sequence[object],
        middlewares: Sequence[Middleware],
        *,
        threads: int = 16,
        reflected: bool = True,
    ) -> None:
        bases = [_generated(servicer) for servicer in servicers]
        services = [_descriptor(base) for base in bases]
        self._chain = Chain(services, middlewares, threads)
        self._server = grpc.aio.server(interceptors=[self._chain], options=OPTIONS)
        for base, servicer in zip(bases, servicers, strict=True):
            register = getattr(sys.modules[base.__module__], f"add_{base.__name__}_to_server")
            register(servicer, self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = [service.full_name for service in services]
        if reflected:
            reflection.enable_server_reflection([*self._names, *OPEN_SERVICES], self._server)

    async def start(self, address: str) -> int:
        """Serves at an address, and returns the port; `host:0` takes any free one."""
        port = self._server.add_insecure_port(address)
        await self._server.start()
        await self.serving(yes=True)
        return port

    async def serving(self, *, yes: bool) -> None:
        """Tells the health checks whether calls are welcome."""
        status = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """Refuses new calls, lets those under way end within `grace` seconds, and cancels the others."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self._chain.close()


def _generated(servicer: object) -> type:
    """The generated class that a servicer implements."""
    return next(
        base
        for base in type(servicer).__mro__
        if base.__module__.endswith("_pb2_grpc") and base.__name__.endswith("Servicer")
    )


def _descriptor(base: type) -> ServiceDescriptor:
    module = sys.modules[base.__module__.removesuffix("_grpc")]
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")]
    return found
