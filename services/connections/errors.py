"""What the connections service refuses; what a database itself refuses is in `kernel.databases.errors`."""

from kernel.databases.errors import (
    FolderMissingError,
    HostRefusedError,
    PathRefusedError,
    QueryInvalidError,
    QueryRefusedError,
    QueryTimeoutError,
    SourceUnavailableError,
)
from kernel.errors import AlreadyExistsError, InvalidError, NotFoundError, PreconditionError

__all__ = [
    "ConnectionExistsError",
    "ConnectionInUseError",
    "ConnectionNotFoundError",
    "FolderMissingError",
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


class ConnectionInUseError(PreconditionError):
    """Mappings or jobs read or load the connection."""

    reason = "CONNECTION_IN_USE"


class PasswordRequiredError(InvalidError):
    """The connection would go elsewhere with a password that was given for another place."""

    reason = "PASSWORD_REQUIRED"
