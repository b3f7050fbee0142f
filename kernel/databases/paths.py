"""Which files and folders connections may reach."""

from collections.abc import Sequence
from pathlib import Path

from kernel.databases.errors import PathRefusedError


def resolve(path: str, folders: Sequence[Path], own: Sequence[Path] = ()) -> Path:
    """The absolute path of a file or folder inside one of the folders, links resolved; PathRefusedError.

    A relative path counts from the first folder. What it names need not exist. What is the installation's own
    is as far outside as `/etc`, and so is a folder that holds some of it.
    """
    roots = [folder.resolve() for folder in folders]
    try:
        found = (roots[0] / path).resolve()
    except (OSError, RuntimeError, ValueError):
        found = Path("/")
    served = any(found.is_relative_to(root) and found != root for root in roots)
    if not served or any(_meet(found, kept.resolve()) for kept in own):
        raise PathRefusedError("the path lies outside the folders that this installation serves")
    return found


def _meet(one: Path, other: Path) -> bool:
    """Whether one of the paths lies in the other, or they are the same."""
    return one.is_relative_to(other) or other.is_relative_to(one)
