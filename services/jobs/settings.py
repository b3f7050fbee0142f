"""What is special to this service's configuration."""

import os
import socket

from pydantic import Field

from kernel.settings import Settings as SharedSettings


class Settings(SharedSettings):
    """The shared settings, and how workers hold runs."""

    worker_name: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", max_length=100)
    """The name of a worker, as run logs tell it."""
    worker_runs: int = Field(default=2, ge=1)
    """Runs that a worker works on at once, each in a process of its own."""
    lease_seconds: float = Field(default=10, gt=0)
    """How long a worker may not answer before others take its runs."""
    heartbeat_seconds: float = Field(default=2, gt=0)
    """How often a worker says that it is there."""
    max_losses: int = Field(default=5, ge=1)
    """How many workers a run may lose before it fails."""
    retry_seconds: float = Field(default=30, ge=0)
    """How long a run waits for databases and services that do not answer before it fails."""
    stop_seconds: float = Field(default=2, ge=0)
    """How long a load that is stopped may take to end by itself before its process is killed."""
