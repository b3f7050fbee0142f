"""The built-in roles, a page at a time."""

from dataclasses import dataclass
from itertools import islice

from kernel.auth import ROLES, permissions_of
from kernel.errors import PageTokenInvalidError
from kernel.resources import DEFAULT_PAGE


@dataclass(frozen=True)
class Role:
    """A set of permissions; the fields are those of `portolan.auth.v1.Role`."""

    name: str
    description: str
    permissions: list[str]


def page(size: int, token: str) -> tuple[list[Role], str]:
    """One page of roles, the least powerful first, and the token of the next; empty on the last.

    There are no arguments that a token could be bound to, so it is the name of the last role.
    """
    names = list(ROLES)
    if token and token not in names:
        text = "not made by a call with these arguments"
        raise PageTokenInvalidError(f"the page token was {text}", fields={"page_token": text})
    rest = names[names.index(token) + 1 :] if token else names
    found = [
        Role(name, ROLES[name][0], permissions_of([name])) for name in islice(rest, size or DEFAULT_PAGE)
    ]
    return found, found[-1].name if len(found) < len(rest) else ""
