"""Configuration: one frozen object, read from the environment once at the start."""

from pathlib import Path
from typing import Literal

from pydantic import FilePath, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What all services share. A variable is its field's name in capitals behind `PORTOLAN_`."""

    model_config = SettingsConfigDict(
        env_prefix="PORTOLAN_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """The folder of all that is kept on this machine: SQLite files, keys, logs."""
    ca_file: FilePath | None = None
    """The certificates (PEM) that customers' servers are checked against; by default the machine's own."""
    database_url: SecretStr | None = None
    """A SQLAlchemy URL of PostgreSQL, one schema a service; by default SQLite files in `data_dir`."""
    keys_dir: Path | None = None
    """The folder of the key files; by default `keys` in `data_dir`."""
    listen: str | None = None
    """The address to serve at, `host:port`; by default the service's own address below."""
    auth_address: str = "127.0.0.1:50051"
    """Where the auth service is reached."""
    connections_address: str = "127.0.0.1:50052"
    """Where the connections service is reached."""
    mapper_address: str = "127.0.0.1:50053"
    """Where the mapper service is reached."""
    jobs_address: str = "127.0.0.1:50054"
    """Where the jobs service is reached."""
    workers: int = 16
    """Threads that run unary calls, and database connections. Twice as many calls wait; more are refused."""
    streams: int = 1000
    """Streams that may be open at once, such as logs that are followed; more are refused."""
    migrate: bool = True
    """Whether a service brings its schema to the newest version at its start."""
    reflection: bool = True
    """Whether the servers describe themselves to grpcurl."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least grave log lines that are written."""

    @property
    def keys(self) -> Path:
        """The folder of the key files."""
        return self.keys_dir or self.data_dir / "keys"

    def address(self, service: str) -> str:
        """Where a service is reached, by its name."""
        return str(getattr(self, f"{service}_address"))

    def database(self, service: str) -> str:
        """The SQLAlchemy URL of a service's own database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / service}.db"


SERVICES = tuple(name.removesuffix("_address") for name in Settings.model_fields if name.endswith("_address"))
"""The services of the suite: those that have an address, in the order in which they start."""
