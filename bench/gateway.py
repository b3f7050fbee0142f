"""What the gateway costs: a mapping by REST through Envoy against the direct gRPC call; the suite at rest."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from bench.figures import Figure, median
from kernel import clients
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc
from tests.e2e.test_journey import MAPPING, ok
from tests.running import Running, running

CALLS = 500
CLIENTS, CALLS_EACH = 50, 40


def measure() -> Iterator[Figure]:
    """Latency alone and with 50 clients, start-up and memory."""
    with TemporaryDirectory() as folder, running(Path(folder)) as suite:
        yield Figure("`up` to healthy", suite.seconds, "s", limit="10 s")
        time.sleep(3)
        for name, megabytes in _memory(suite):
            yield Figure(f"memory at rest, {name}", megabytes, "MB")
        ok(suite.rest.post("/api/v1/mappings", json=MAPPING))
        with clients.channel(suite.suite.addresses()["mapper"]) as channel:
            stub = mappings_pb2_grpc.MappingServiceStub(channel)
            request = mappings_pb2.GetMappingRequest(reference="DIM_HARBOUR")
            direct = _median_ms(lambda: stub.GetMapping(request, metadata=suite.metadata))
        through = _median_ms(lambda: suite.rest.get("/api/v1/mappings/DIM_HARBOUR").raise_for_status())
        yield Figure("GET of a mapping, direct gRPC", direct, "ms")
        yield Figure(
            "GET of a mapping, REST through Envoy", through, "ms", "direct gRPC", through / direct, "3 ×"
        )
        yield from _many(suite)


def _many(suite: Running) -> Iterator[Figure]:
    def one(_: int) -> list[float]:
        took = []
        with httpx.Client(base_url=suite.suite.url, headers=suite.rest.headers, timeout=30) as client:
            for _ in range(CALLS_EACH):
                begun = time.perf_counter()
                client.get("/api/v1/mappings/DIM_HARBOUR").raise_for_status()
                took.append((time.perf_counter() - begun) * 1000)
        return took

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        took = [ms for part in pool.map(one, range(CLIENTS)) for ms in part]
    rate = len(took) / (time.perf_counter() - begun)
    yield Figure(f"{CLIENTS} clients at once, median (all {len(took)} answered)", median(took), "ms")
    yield Figure(f"{CLIENTS} clients at once, rate, with the clients on the same cores", rate, "/s")


def _median_ms(call: Callable[[], object]) -> float:
    for _ in range(50):
        call()
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        took.append((time.perf_counter() - begun) * 1000)
    return median(took)


def _memory(suite: Running) -> Iterator[tuple[str, float]]:
    """The proportional share of memory of each program, its children included, and their sum."""
    total = 0.0
    for name, pid in suite.supervisor.pids().items():
        process = psutil.Process(pid)
        parts = [process, *process.children(recursive=True)]
        megabytes = sum(part.memory_full_info().pss for part in parts) / 1e6
        total += megabytes
        yield name, megabytes
    yield "all", total
