"""How the values of a mapping are written in cells, and read from them."""

import enum
import re
from dataclasses import dataclass
from typing import Any, Protocol

from services.mapper.definition import Frequency, ScdType, TableType

MAX_NUMBER = 2**63 - 1
_NAME = re.compile(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)')


class Codec(Protocol):
    """A kind of cell."""

    @property
    def choices(self) -> tuple[str, ...]:
        """What a drop-down list offers."""

    def parse(self, text: str) -> Any:
        """The value of a cell's text, without blanks around it; ValueError says what is expected."""

    def format(self, value: Any) -> str:
        """The cell's text of a value."""


@dataclass(frozen=True)
class Text:
    """Any text; `choices` are only offered."""

    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> str:
        """The text, with the line ends that a workbook has."""
        return text.replace("\r\n", "\n")

    def format(self, value: str) -> str:
        """The text."""
        return value


@dataclass(frozen=True)
class Number:
    """A whole number; an empty cell is `empty`."""

    empty: int | None = 0
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> int | None:
        """The number."""
        if not text:
            return self.empty
        if not re.fullmatch(r"-?\d{1,19}", text) or abs(number := int(text)) > MAX_NUMBER:
            raise ValueError("must be a whole number")
        return number

    def format(self, value: int | None) -> str:
        """The number, in decimal."""
        return "" if value == self.empty else str(value)


@dataclass(frozen=True)
class YesNo:
    """`Yes` or `No`; an empty cell is no."""

    choices: tuple[str, ...] = ("Yes", "No")

    def parse(self, text: str) -> bool:
        """True for yes, in the spellings that people use."""
        word = text.lower()
        if word not in {"yes", "y", "true", "1", "no", "n", "false", "0", ""}:
            raise ValueError("must be Yes or No")
        return word in {"yes", "y", "true", "1"}

    def format(self, value: bool) -> str:  # noqa: FBT001 - the value itself
        """The word."""
        return "Yes" if value else "No"


@dataclass(frozen=True)
class Coded:
    """A value of an enumeration, by its code; its name is read too."""

    codes: dict[str, enum.StrEnum]

    @property
    def choices(self) -> tuple[str, ...]:
        """The codes."""
        return tuple(code for code in self.codes if code)

    def parse(self, text: str) -> enum.StrEnum:
        """The value that a code stands for."""
        word = text.upper()
        named = {value.value: value for value in self.codes.values() if value}
        if word in self.codes:
            return self.codes[word]
        if word in named:
            return named[word]
        raise ValueError(f"must be one of {', '.join(self.choices)}")

    def format(self, value: enum.StrEnum) -> str:
        """The value's code."""
        return next(code for code, coded in self.codes.items() if coded == value)


@dataclass(frozen=True)
class Names:
    """A list of names between commas; a name that holds a comma stands in double quotes."""

    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> tuple[str, ...]:
        """The names."""
        return tuple(name for name in (match.strip() for match in _NAME.findall(text)) if name)

    def format(self, value: tuple[str, ...]) -> str:
        """The names in one line."""
        return ", ".join(value)


TABLE_TYPES = Coded(
    {
        "NRM": TableType.NORMAL,
        "DIM": TableType.DIMENSION,
        "FCT": TableType.FACT,
        "MRT": TableType.MART,
        "": TableType.UNSPECIFIED,
    }
)
FREQUENCIES = Coded(
    {
        "NA": Frequency.UNSPECIFIED,
        "ID": Frequency.INTRADAY,
        "DL": Frequency.DAILY,
        "WK": Frequency.WEEKLY,
        "FN": Frequency.FORTNIGHTLY,
        "MN": Frequency.MONTHLY,
        "HY": Frequency.HALF_YEARLY,
        "YR": Frequency.YEARLY,
        "": Frequency.UNSPECIFIED,
    }
)
SCD_TYPES = Coded({"1": ScdType.OVERWRITE, "2": ScdType.NEW_VERSION, "": ScdType.UNSPECIFIED})
DATA_TYPES = Text(
    (
        *("String10", "String50", "String100", "String250", "String4000", "Text"),
        *("Integer", "BigInteger", "Numeric10", "Numeric20", "Decimal(15,2)", "Money18", "Double"),
        *("Boolean", "Date", "Timestamp", "TimestampTz"),
    )
)
