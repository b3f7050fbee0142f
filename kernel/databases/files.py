"""A folder of CSV and Parquet files, each one a table, read by a DuckDB that reaches nothing else."""

import contextlib
import functools
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from kernel.databases import arrow
from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import (
    FolderMissingError,
    QueryInvalidError,
    SourceUnavailableError,
)
from kernel.databases.sources import INTERRUPT_SECONDS, Column, Source, Table
from kernel.databases.types import DataType, Kind

SUFFIXES = (".csv", ".csv.gz", ".parquet")
MEMORY = "512MB"
INFINITE_DATES = {2**31 - 1: "infinity", -(2**31) + 1: "-infinity"}
INFINITE_TIMES = {2**63 - 1: "infinity", -(2**63) + 1: "-infinity"}
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": "false",  # or a table's name would find a variable of ours
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": MEMORY,
    "threads": "2",
    "max_temp_directory_size": "20GB",
}


FORM = ("delim", "quote", "escape", "new_line", "comment", "skip", "header", "dateformat", "timestampformat")
UNSET = {"quote", "escape", "comment"}
"""The signs that a file need not have; when they are not told, DuckDB takes the usual ones."""
SNIFF = """
SELECT [(c.name, c.type) FOR c IN Columns],
    replace(Delimiter, '(empty)', ''), replace(Quote, '(empty)', ''), replace(Escape, '(empty)', ''),
    NewLineDelimiter, replace(Comment, '(empty)', ''), SkipRows, HasHeader,
    coalesce(DateFormat, ''), coalesce(TimestampFormat, '')
FROM sniff_csv(?, sample_size = -1)
"""


class FilesSource(Source):
    """A folder whose files are tables, named after them without the suffix."""

    kind = DatabaseKind.FILES

    def __init__(self, endpoint: Endpoint, time_limit: float | None) -> None:
        super().__init__()
        self._time_limit = time_limit
        try:
            self._folder = Path(endpoint.path).resolve(strict=True)
            self._files, self._hidden = _tables(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            # A share that is not mounted looks the same. Nobody waits for it either: nearly always the path
            # is wrong, and an empty folder in the place of a share is refused for the tables that it lacks.
            raise FolderMissingError("the folder does not exist") from None
        except OSError as error:
            raise SourceUnavailableError(f"the folder cannot be read: {error.strerror}") from None
        self._shown: dict[str, Exception | None] = {}
        self._connection = duckdb.connect(":memory:", config=SETTINGS | {"temp_directory": _spill()})
        self._connection.execute(f"SET allowed_directories = [{_literal(str(self._folder))}]")
        for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
            self._connection.execute(f"SET {setting}")

    def server(self) -> str:
        """The product and version."""
        return f"DuckDB {duckdb.__version__}"

    def warnings(self) -> list[str]:
        """The files that cannot be read because of their names."""
        return self._hidden

    def tables(self, schema: str = "", *, after: tuple[str, str] = ("", ""), limit: int) -> list[Table]:
        """The files. A folder has no schemas; a file that DuckDB cannot make out has no columns."""
        names = [] if schema else [name for name in self._files if name > after[1]][:limit]
        found = []
        for name in names:
            try:
                columns = tuple(self.describe(f"SELECT * FROM {_identifier(name)}"))
            except QueryInvalidError:
                columns = ()
            found.append(Table(schema="", name=name, columns=columns))
        return found

    def describe(self, query: str) -> list[Column]:
        """The columns, as DuckDB binds the query."""
        with self._running(query):
            rows = self._connection.execute(f"DESCRIBE\n{query}").fetchall()
        return [Column(str(row[0]), data_type(str(row[1])), str(row[1])) for row in rows]

    def batches(self, query: str, batch_rows: int, *, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, streamed; a nested or otherwise foreign type is cast to text."""
        described = self.describe(query)
        names = [column.name for column in described]
        as_text = [column.type.kind is Kind.OTHER for column in described]
        with self._running(query):
            relation = self._connection.sql(arrow.projected(query, as_text, "VARCHAR", limit))
            rows = 0
            for batch in relation.to_arrow_reader(batch_rows):
                columns = [arrow.storable(column, INFINITE_DATES, INFINITE_TIMES) for column in batch.columns]
                rows += batch.num_rows
                yield pa.RecordBatch.from_arrays(columns, names=names)
            if not rows:
                yield arrow.empty(names)

    def close(self) -> None:
        """Forgets the folder."""
        self._connection.close()

    @contextlib.contextmanager
    def _running(self, query: str) -> Iterator[None]:
        done = threading.Event()
        try:
            with self._busy():
                if self._time_limit is not None:
                    threading.Thread(target=self._watch, args=(done, self._time_limit), daemon=True).start()
                self._show(query)
                yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._failure(error) from None
        finally:
            done.set()

    def _watch(self, done: threading.Event, seconds: float) -> None:
        """Interrupts a query that is not done after its time."""
        while not done.wait(seconds):
            self._interrupt()
            seconds = INTERRUPT_SECONDS

    def _interrupt(self) -> None:
        with contextlib.suppress(duckdb.Error):
            self._connection.interrupt()

    def _show(self, query: str) -> None:
        """Makes views of the files that the query may mean; to look into all of them would take too long."""
        for name, path in self._files.items():
            meant = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE)
            if not meant or name in self._shown:
                continue
            try:
                state = path.stat()
                scan = _scan(str(path), state.st_mtime_ns, state.st_size)
                self._connection.execute(f"CREATE VIEW {_identifier(name)} AS {scan}")
                self._shown[name] = None
            except duckdb.InterruptException:
                raise
            except (duckdb.Error, OSError) as error:
                # It matters only to a query that does read the file: the name may be a column's, too.
                self._shown[name] = error

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, duckdb.CatalogException):
            lacking = (cause for name, cause in self._shown.items() if f"with name {name} " in str(error))
            error = next(lacking, None) or error
        text = str(error).replace(f"{self._folder}/", "")
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in text:
            return self._ended()
        message = _KIND.sub("", _ADVICE.split(text, maxsplit=1)[0])
        if isinstance(error, (OSError, duckdb.IOException)):
            return SourceUnavailableError(message)
        return QueryInvalidError(message, *_position(text))


_KIND = re.compile(r"^[A-Z][A-Za-z ]* Error: ")
_ADVICE = re.compile(r"\n\n|\nDid you mean|\nLINE \d+: |\nThe search space|\nPossible ")
"""Where DuckDB begins to guess at names, even of what lies elsewhere, to draw, or to advise."""
_PLACE = re.compile(r"^(LINE (\d+): )(.*)\n( *)\^", re.MULTILINE)


def _position(text: str) -> tuple[int, int]:
    """Where DuckDB's caret points to. The query begins on the second line of what it was given."""
    place = _PLACE.search(text)
    if place is None or place[3].startswith("..."):
        return 0, 0
    return max(int(place[2]) - 1, 1), len(place[4]) - len(place[1]) + 1


def _spill() -> str:
    """A folder for what memory cannot hold. DuckDB makes it when it needs it, and removes it in the end."""
    parent = Path(tempfile.gettempdir()) / f"portolan-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.lstat().st_uid != os.getuid():
        raise SourceUnavailableError(f"{parent} belongs to another user")
    return str(parent / secrets.token_hex(8))


def _tables(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder's files by the names of their tables, and a warning for each that is not readable."""
    tables: dict[str, Path] = {}
    hidden = []
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
        if suffix is None or not path.is_file():
            continue
        name = path.name[: -len(suffix)]
        if not path.resolve().is_relative_to(folder):
            hidden.append(f"{path.name} is left out: it is a link to outside of the folder.")
        elif name.lower() in {known.lower() for known in tables}:
            hidden.append(f"{path.name} is left out: another file has the same name.")
        else:
            tables[name] = path
    return tables, hidden


@functools.lru_cache(maxsize=256)
def _scan(path: str, _modified: int, _size: int) -> str:
    """The query that reads a file as it is now. A CSV file's form and types are found from all of it.

    So one bad value makes its column text, and only that value is refused later, not the whole file.
    """
    if path.lower().endswith(".parquet"):
        return f"FROM read_parquet({_literal(path)})"
    with duckdb.connect(":memory:", config=SETTINGS) as connection:
        found = connection.execute(SNIFF, [path]).fetchone()
    if found is None:
        return f"FROM read_csv({_literal(path)})"
    columns, *form = found
    options = {
        "auto_detect": "false",
        "columns": f"{{{', '.join(f'{_literal(name)}: {_literal(kind)}' for name, kind in columns)}}}",
        **dict(zip(FORM, (_literal(str(value)) for value in form), strict=True)),
    }
    given = (f"{name} = {value}" for name, value in options.items() if value != "''" or name in UNSET)
    return f"FROM read_csv({_literal(path)}, {', '.join(given)})"


_PLAIN = {
    "BOOLEAN": Kind.BOOLEAN,
    "TINYINT": Kind.INTEGER,
    "SMALLINT": Kind.INTEGER,
    "INTEGER": Kind.INTEGER,
    "UTINYINT": Kind.INTEGER,
    "USMALLINT": Kind.INTEGER,
    "UINTEGER": Kind.BIG_INTEGER,
    "BIGINT": Kind.BIG_INTEGER,
    "FLOAT": Kind.DOUBLE,
    "DOUBLE": Kind.DOUBLE,
    "VARCHAR": Kind.STRING,
    "DATE": Kind.DATE,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMP_S": Kind.TIMESTAMP,
    "TIMESTAMP_MS": Kind.TIMESTAMP,
    "TIMESTAMP_NS": Kind.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMP_TZ,
    "BLOB": Kind.BINARY,
}
_SIZED = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def data_type(native: str) -> DataType:
    """Our type for one of DuckDB's. OTHER for what is read as text."""
    if decimal := _SIZED.fullmatch(native):
        return DataType(Kind.DECIMAL, precision=int(decimal[1]), scale=int(decimal[2]))
    match native:
        case "HUGEINT":
            return DataType(Kind.DECIMAL, precision=38)
        case "UBIGINT":
            return DataType(Kind.DECIMAL, precision=20)
        case _:
            return DataType(_PLAIN.get(native, Kind.OTHER))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
