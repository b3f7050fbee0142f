"""Where a customer's data lives, and all that is needed to open it."""

import enum
from dataclasses import dataclass, field


class DatabaseKind(enum.StrEnum):
    """The kinds of databases and folders; the names are those of `portolan.connections.v1.Kind`."""

    POSTGRESQL = "POSTGRESQL"
    SQLITE = "SQLITE"
    FILES = "FILES"


class SslMode(enum.StrEnum):
    """How a connection is encrypted; the names are those of `PostgresqlSettings.SslMode`."""

    DISABLE = "DISABLE"
    REQUIRE = "REQUIRE"
    VERIFY_FULL = "VERIFY_FULL"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How to open a database or folder. The host or path was held against the installation's policy before.

    A server is reached at `address`, the IP address that `host` was resolved and checked to; `host` itself
    serves to check the server's certificate. `path` is absolute: a SQLite file, or a folder of CSV and
    Parquet files.
    """

    kind: DatabaseKind
    host: str = ""
    address: str = ""
    port: int = 0
    database: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    ssl_mode: SslMode = SslMode.REQUIRE
    authorities: str = ""
    """A file of the certificates (PEM) that VERIFY_FULL trusts; the machine's own when empty."""
    path: str = ""
    application: str = "portolan"
    """What a server's sessions are called, so that they can be found and ended."""
