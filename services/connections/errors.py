"""What the connections service refuses; what a database itself refuses is in `kernel.databases.errors`."""

from kernel.databases.errors import (
    HostRefusedError,
    PathRefusedError,
    QueryInvalidError,
    QueryRefusedError,
    QueryTimeoutError,
    SourceUnavailableError,
)
from kernel.errors import AlreadyExistsError, InvalidError, NotFoundError

__all__ = [
    "ConnectionExistsError",
    "ConnectionNotFoundError",
    "HostRefusedError",
    "PasswordRequiredError",
    "PathRefusedError",
    "QueryInvalidError",
    "QueryRefusedError",
    "QueryTimeoutError",
    "SourceUnavailableError",
]


class ConnectionNotFoundError(NotFoundError):
    """The organization has no connection of this name."""

    reason = "CONNECTION_NOT_FOUND"


class ConnectionExistsError(AlreadyExistsError):
    """The organization has a connection of this name."""

    reason = "CONNECTION_EXISTS"


class PasswordRequiredError(InvalidError):
    """The connection would go elsewhere with a password that was given for another place."""

    reason = "PASSWORD_REQUIRED"
