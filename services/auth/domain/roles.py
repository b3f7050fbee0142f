"""The built-in roles, a page at a time."""

from itertools import islice

from kernel.auth import ROLES
from kernel.errors import PageTokenInvalidError
from kernel.resources import DEFAULT_PAGE


def page(size: int, token: str) -> tuple[list[str], str]:
    """The names of one page of roles, the least powerful first, and the token of the next; empty on the last.

    There are no arguments that a token could be bound to, so it is the name of the last role.
    """
    names = list(ROLES)
    if token and token not in names:
        text = "not made by a call with these arguments"
        raise PageTokenInvalidError(f"the page token was {text}", fields={"page_token": text})
    rest = names[names.index(token) + 1 :] if token else names
    found = list(islice(rest, size or DEFAULT_PAGE))
    return found, found[-1] if len(found) < len(rest) else ""
