"""What can go wrong with a customer's database or a query on it, as the connections service names it."""

from kernel.errors import DeadlineError, InvalidError, PreconditionError

MAX_MESSAGE = 2000


class SourceError(Exception):
    """The base of all errors of this package; all but a cancel are refusals of a service that meets them."""


class SourceUnavailableError(SourceError, PreconditionError):
    """The database or folder cannot be opened, or was lost on the way."""

    reason = "CONNECTION_REFUSED"
    domain = "portolan.connections.v1"


class FolderMissingError(SourceError, PreconditionError):
    """The folder of the files, or of the file, does not exist; to wait for it is not worth while."""

    reason = "FOLDER_MISSING"
    domain = "portolan.connections.v1"


class HostRefusedError(SourceError, InvalidError):
    """The host is no proper name, or resolves to an address that connections may not reach."""

    reason = "HOST_REFUSED"
    domain = "portolan.connections.v1"


class PathRefusedError(SourceError, InvalidError):
    """The path lies outside the folders that may be used."""

    reason = "PATH_REFUSED"
    domain = "portolan.connections.v1"


class QueryRefusedError(SourceError, InvalidError):
    """The text is not one SELECT, or uses what is not allowed in one.

    `line` and `column` count from 1; 0 is unknown.
    """

    reason = "QUERY_REFUSED"
    domain = "portolan.connections.v1"

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message, fields=None, retry_after=None, **_position(line, column))
        self.line = line
        self.column = column


class QueryInvalidError(SourceError, InvalidError):
    """The database rejects the query, in its own words.

    `line` and `column` count from 1; 0 is unknown.
    """

    reason = "QUERY_INVALID"
    domain = "portolan.connections.v1"

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message[:MAX_MESSAGE], fields=None, retry_after=None, **_position(line, column))
        self.line = line
        self.column = column


class QueryTimeoutError(SourceError, DeadlineError):
    """The query ran longer than its time limit and was cancelled."""

    reason = "QUERY_TIMEOUT"
    domain = "portolan.connections.v1"


class QueryCancelledError(SourceError):
    """The query was cancelled by `Source.cancel`."""


def position(text: str, offset: int) -> tuple[int, int]:
    """The line and column, from 1, of the character at an offset from 0."""
    before = text[: max(offset, 0)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _position(line: int, column: int) -> dict[str, str]:
    return {"line": str(line), "column": str(column)} if line else {}
