"""Names in SQL: always quoted, never longer than the database keeps, in the letter case that it folds to.

Folded names can be written without quotes by whoever queries the warehouse.
"""

import hashlib
import re

from sqlalchemy.sql.expression import quoted_name

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NameRefusedError(ValueError):
    """The database cannot keep this name as it is."""


def quoted(name: str, max_bytes: int) -> quoted_name:
    """The name, to be written in quotes; refused when the database would cut it or cannot hold it."""
    if not name:
        raise NameRefusedError("a name is empty")
    if not name.isprintable():
        raise NameRefusedError(f"the name {name!r} holds characters that cannot be printed")
    if len(name.encode()) > max_bytes:
        raise NameRefusedError(
            f'the name "{name}" is longer than the {max_bytes} bytes that the database keeps'
        )
    return quoted_name(name, quote=True)


def shortened(name: str, suffix: str, max_bytes: int) -> str:
    """`name` and `suffix` joined; when that is too long, with a digest in the place of the name's end."""
    whole = name + suffix
    if len(whole.encode()) <= max_bytes:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: max_bytes - len(suffix.encode()) - len(digest) - 1].decode(errors="ignore")
    return f"{kept}_{digest}{suffix}"
