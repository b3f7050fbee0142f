"""The guard for user SQL: exactly one SELECT, which calls only functions that compute, and its parameters.

What passes is not proven harmless: it still runs as one statement, in a read-only session, within limits. The
user's own text is what runs, never a rendering of it. So the parser must not read the text otherwise than the
database will: `_lex` holds each token, and each gap between two, against what both are known to agree on.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryRefusedError, position
from kernel.databases.functions import ALLOWED

MAX_BYTES = 65_536
MAX_DEPTH = 200

_DIALECTS = {
    DatabaseKind.POSTGRESQL: "postgres",
    DatabaseKind.SQLITE: "sqlite",
    DatabaseKind.FILES: "duckdb",
}
_GAP = re.compile(r"(?:[ \t\r\n\f\v]|--[^\r\n]*(?:\r?\n|\Z)|/\*(?!!)(?:(?!/\*|\*/).)*\*/)*", re.DOTALL)
_WORD = r"\w[\w$]*(?:[ \t\r\n]+\w+)*"
_NUMBER = r"(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\w*"
_COMMENT = r"/\*|\*/|--"
_SIGNS = rf"(?!.*(?:{_COMMENT}))[+\-*/%=<>!~^&|#@?:.,;(){{}}\[\]]+"
_COMMON = (_WORD, _NUMBER, _SIGNS, r"[nN]?'(?:[^']|'')*'", r'"(?:[^"]|"")*"')
_ESCAPED = (r"[eE]'(?:[^'\\]|''|\\.)*'", r"(\$(?:[A-Za-z_]\w*)?\$)(?:(?!\1).)*\1")
_TOKENS = {
    kind: re.compile("|".join(f"(?:{part})" for part in (*_COMMON, *special)), re.DOTALL)
    for kind, special in {
        DatabaseKind.POSTGRESQL: (*_ESCAPED, r"[bBxX]'[0-9a-fA-F]*'"),
        DatabaseKind.SQLITE: (r"[xX]'[0-9a-fA-F]*'", r"\[[^\]]*\]", r"`(?:[^`]|``)*`"),
        DatabaseKind.FILES: _ESCAPED,
    }.items()
}
_OPEN = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
_CLOSE = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
_VALUES = {TokenType.VAR, TokenType.IDENTIFIER, TokenType.NUMBER, TokenType.STRING} | _CLOSE
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_STATEMENTS = (
    *(exp.DDL, exp.DML, exp.Command, exp.Into, exp.Lock, exp.Set, exp.Pragma, exp.Use, exp.Transaction),
    *(exp.Commit, exp.Rollback, exp.Describe, exp.Show, exp.Summarize, exp.Attach, exp.Detach, exp.Kill),
)
_SYSTEM = {
    DatabaseKind.POSTGRESQL: re.compile(r"pg_.*"),
    DatabaseKind.SQLITE: re.compile(r"(sqlite|pragma)_.*|dbstat|bytecode|tables_used"),
    # DuckDB takes the name of a table that does not exist for that of a file.
    DatabaseKind.FILES: re.compile(
        r"(duckdb|pg|pragma|sqlite)_.*|.*[/\\*?:].*|.*\.(csv|tsv|txt|parquet|json|ndjson|jsonl|gz|zst|db|duckdb)"
    ),
}
_SYSTEM_SCHEMAS = {
    DatabaseKind.POSTGRESQL: {"pg_catalog", "pg_toast", "information_schema"},
    DatabaseKind.SQLITE: {"temp"},
    DatabaseKind.FILES: {"pg_catalog", "information_schema", "system", "temp"},
}


@dataclass(frozen=True)
class CheckedQuery:
    """A query that passed the guard: the user's text without a trailing semicolon."""

    text: str
    parameters: tuple[str, ...]
    """The names of its `:name` parameters, sorted."""
    places: tuple[tuple[int, int], ...] = ()
    """Where each use of a parameter begins and ends."""


def check(query: str, kind: DatabaseKind, *, max_bytes: int = MAX_BYTES) -> CheckedQuery:
    """The query, when it is one SELECT that may run on a database of this kind.

    Fails with `QueryRefusedError`, at the place of the fault.
    """
    if len(query.encode()) > max_bytes:
        raise QueryRefusedError(f"the query is longer than {max_bytes} bytes")
    text, tokens = _lex(query, kind)
    places = tuple(_parameters(text, tokens))
    # The parser sees a string for each parameter, as the database will.
    parsed = text
    for start, end in places:
        parsed = parsed[:start] + "''".ljust(end - start) + parsed[end:]
    if places:
        tokens = list(Dialect.get_or_raise(_DIALECTS[kind]).tokenize(parsed))
    _check_calls(parsed, tokens, kind, _check_tree(_parse(parsed, tokens, kind), parsed, kind))
    return CheckedQuery(text, tuple(sorted({text[start + 1 : end] for start, end in places})), places)


def bind(query: CheckedQuery, values: Mapping[str, str] | None) -> str:
    """The query's text with a literal for each parameter; NULL for all when `values` is None, to describe it.

    Literals are quoted strings, which databases read as the type that their place needs.
    """
    missing = set() if values is None else set(query.parameters) - values.keys()
    if missing:
        raise QueryRefusedError(f"the parameter {min(missing)} has no value")
    parts = []
    done = 0
    for start, end in query.places:
        parts.append(query.text[done:start])
        parts.append("NULL" if values is None else _literal(values[query.text[start + 1 : end]]))
        done = end
    return "".join((*parts, query.text[done:]))


def _lex(query: str, kind: DatabaseKind) -> tuple[str, list[Token]]:
    """The text up to a trailing semicolon, and its tokens."""
    try:
        tokens = list(Dialect.get_or_raise(_DIALECTS[kind]).tokenize(query))
    except TokenError as error:
        raise QueryRefusedError(f"the query cannot be read: {_first_line(error)}") from None
    _check_reading(query, tokens, kind)
    depth = 0
    for token in tokens:
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        if depth > MAX_DEPTH:
            raise _refused("the query is nested too deeply", query, token.start)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        query = query[: tokens.pop().start]
    if not tokens:
        raise QueryRefusedError("the query is empty")
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise _refused("only one statement is allowed", query, token.start)
    return query, tokens


def _check_reading(query: str, tokens: list[Token], kind: DatabaseKind) -> None:
    """Refuses what a database may divide into tokens otherwise than the parser does."""
    end = 0
    for start, stop in (*((token.start, token.end + 1) for token in tokens), (len(query), len(query))):
        border = query[max(end - 1, 0) : start + 1] if start == end else ""
        if not _GAP.fullmatch(query, end, start) or re.fullmatch(_COMMENT, border):
            raise _refused("a comment of this form is not allowed", query, end)
        if start < stop and not _TOKENS[kind].fullmatch(query, start, stop):
            raise _refused("this cannot be read safely", query, start)
        end = stop


def _parameters(text: str, tokens: list[Token]) -> Iterator[tuple[int, int]]:
    """The places of `:name` parameters: no casts, no slices (`a[1:n]`), no pairs of a struct (`{'k': v}`)."""
    types = [None, None, *(token.token_type for token in tokens)]
    for place, (colon, name) in enumerate(pairwise(tokens)):
        before, earlier = types[place + 1], types[place]
        subscript = before is TokenType.L_BRACKET and earlier in _VALUES
        if (
            colon.token_type is TokenType.COLON
            and name.start == colon.end + 1
            and _NAME.fullmatch(text, name.start, name.end + 1)
            and before not in _VALUES
            and not subscript
        ):
            yield colon.start, name.end + 1


def _parse(text: str, tokens: list[Token], kind: DatabaseKind) -> exp.Expr:
    try:
        (tree,) = Dialect.get_or_raise(_DIALECTS[kind]).parser().parse(tokens, text)
    except ParseError as error:
        found = error.errors[0] if error.errors else {}
        column = int(found.get("col") or 0) - len(found.get("highlight") or "") + 1
        message = str(found.get("description") or _first_line(error)).rstrip(".")
        raise QueryRefusedError(
            f"the query cannot be read: {message}", int(found.get("line") or 0), column
        ) from None
    except SqlglotError as error:
        raise QueryRefusedError(f"the query cannot be read: {_first_line(error)}") from None
    except RecursionError:
        raise QueryRefusedError("the query is nested too deeply") from None
    if tree is None:
        raise QueryRefusedError("the query is empty")
    return tree


def _check_tree(tree: exp.Expr, text: str, kind: DatabaseKind) -> set[int]:
    """Refuses what is no SELECT, or no table of the user's; where the aliases of tables begin, else."""
    if not isinstance(tree, exp.Query):
        raise QueryRefusedError("only a SELECT is allowed", 1, 1)
    aliases = set()
    for node in tree.walk():
        if isinstance(node, _STATEMENTS):
            raise _refused("only a SELECT is allowed, which changes and locks nothing", text, _start(node))
        if isinstance(node, (exp.Placeholder, exp.Parameter, exp.SessionParameter)):
            raise _refused("a parameter is written `:name`", text, _start(node))
        if isinstance(node, exp.Identifier) and isinstance(node.parent, exp.TableAlias):
            aliases.add(_start(node))
        if isinstance(node, exp.Table):
            _check_table(node, text, kind)
    return aliases


def _check_table(table: exp.Table, text: str, kind: DatabaseKind) -> None:
    name, schema = table.name.lower(), table.db.lower()
    start = _start(table.this) if table.this else -1
    literal = start < 0 or text[start] == "'"
    if literal or _SYSTEM[kind].fullmatch(name) or schema in _SYSTEM_SCHEMAS[kind]:
        raise _refused(f"the table {table.name} is not allowed", text, start)


def _check_calls(text: str, tokens: list[Token], kind: DatabaseKind, aliases: set[int]) -> None:
    """Refuses a word before an opening bracket that is neither allowed there nor a table's alias."""
    for token, bracket in pairwise(tokens):
        if bracket.token_type is not TokenType.L_PAREN or token.start in aliases:
            continue
        raw = text[token.start : token.end + 1]
        word = raw.lower().split()[-1]
        quoted = token.token_type is TokenType.IDENTIFIER
        if quoted or ((word[0].isalpha() or word[0] == "_") and word not in ALLOWED[kind]):
            raise _refused(f"the function {raw} is not allowed", text, token.start)


def _start(node: exp.Expr) -> int:
    """Where a node begins in the text, as far as the parser tells; -1 when it does not."""
    for part in node.walk():
        if "start" in part.meta:
            return int(part.meta["start"])
    return -1


def _refused(message: str, text: str, offset: int) -> QueryRefusedError:
    return QueryRefusedError(message, *(position(text, offset) if offset >= 0 else (0, 0)))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")


def _literal(value: str) -> str:
    if "\0" in value:
        raise QueryRefusedError("the value of a parameter contains a NUL character")
    return "'" + value.replace("'", "''") + "'"
