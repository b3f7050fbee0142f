"""A worker that is frozen past its lease, or killed: another one loads, and the first commits nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.db import Database
from portolan.jobs.v1 import runs_pb2 as pb
from tests.jobs.test_worker import Suite, suite
from tests.jobs.world import World


@contextmanager
def worker_process(jobs: Suite, folder: Path, name: str) -> Iterator[int]:
    """The id of a worker's own process, which is gone after the block."""
    settings = {
        "data_dir": folder,
        "keys_dir": folder / "keys",
        "connections_address": jobs.settings.connections_address,
        "worker_name": name,
        "lease_seconds": 2,
        "heartbeat_seconds": 0.3,
    }
    if not jobs.database.sqlite:
        settings["database_url"] = jobs.database.url.render_as_string(hide_password=False)
    environment = {f"PORTOLAN_{key.upper()}": str(value) for key, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.jobs", "worker"],
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
async def test_a_worker_that_is_lost_in_a_load_commits_nothing(
    database: Database, world: World, tmp_path: Path, number: signal.Signals
) -> None:
    world.write(dict.fromkeys(range(20000), "v0"))
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs:
        with worker_process(jobs, tmp_path, "lost") as pid:
            run_id = await jobs.run()
            async with asyncio.timeout(60):
                await jobs.begun(run_id)
            os.kill(pid, number)
            async with jobs.working(worker_name="w2", retry_seconds=30):
                run = await jobs.ended(run_id)
                assert (run.state, run.worker, run.attempt) == (pb.Run.STATE_SUCCEEDED, "w2", 2), run
                if number is signal.SIGSTOP:
                    os.kill(pid, signal.SIGCONT)
                    await asyncio.sleep(2)
        assert await jobs.get(run_id) == run
        assert world.rows("SELECT count(*), count(DISTINCT code) FROM dim_harbour") == [(20_000, 20_000)]
