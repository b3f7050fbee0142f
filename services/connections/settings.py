"""What is special to this service's configuration."""

from pathlib import Path

from pydantic import Field

from kernel.settings import SERVICES
from kernel.settings import Settings as SharedSettings

OWN_NAMES = ("logs", "gateway", "enrolment-code", "demo-password", "suite.lock")
"""What lies in the data folder beside keys and databases, and is nobody's data."""
SQLITE_SUFFIXES = ("", "-wal", "-shm", "-journal")


class Settings(SharedSettings):
    """The shared settings, and what connections may reach."""

    data_folders: tuple[Path, ...] = ()
    """The folders that SQLite files and data files may lie in; by default `data_dir` without `own`."""
    allow_loopback: bool = False
    """Whether connections may reach this machine itself; for tries on one machine."""
    allow_private_networks: bool = True
    """Whether connections may reach private networks (RFC 1918), where most databases are."""
    query_seconds: float = Field(default=20, gt=0)
    """How long a description or a preview may take in the customer's database."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that files may lie in, the first for relative paths."""
        return self.data_folders or (self.data_dir,)

    @property
    def own(self) -> tuple[Path, ...]:
        """What no connection may reach in these folders: keys, logs, and the services' own databases."""
        databases = [f"{service}.db{suffix}" for service in SERVICES for suffix in SQLITE_SUFFIXES]
        return (self.keys, *(self.data_dir / name for name in (*OWN_NAMES, *databases)))
