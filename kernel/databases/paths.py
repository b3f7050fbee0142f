"""Which files and folders connections may reach."""

from collections.abc import Sequence
from pathlib import Path

from kernel.databases.errors import PathRefusedError


def resolve(path: str, folders: Sequence[Path]) -> Path:
    """The absolute path of a file or folder inside one of the folders, links resolved; PathRefusedError.

    A relative path counts from the first folder. What it names need not exist.
    """
    roots = [folder.resolve() for folder in folders]
    try:
        found = (roots[0] / path).resolve()
    except (OSError, RuntimeError, ValueError):
        found = Path("/")
    if not any(found.is_relative_to(root) and found != root for root in roots):
        text = "lies outside the folders that this installation serves"
        raise PathRefusedError(f"the path {text}", fields={"path": text})
    return found
