"""Figures, and how they are shown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value beside what it is held against."""

    name: str
    value: float
    unit: str
    against: str = ""
    """The peer or limit."""
    ratio: float | None = None
    """The value in units of the peer's, from the same run."""
    limit: str = ""
    """What the ratio or value must not pass; `-` in front of a figure that is a peer's."""

    def __str__(self) -> str:
        ratio = f"{self.ratio:6.2f} × {self.against}" if self.ratio is not None else self.against
        limit = f"   limit {self.limit}" if self.limit else ""
        return f"{self.name:<58} {self.value:>10.3f} {self.unit:<5} {ratio}{limit}"


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
