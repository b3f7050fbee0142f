"""What the demonstration asks the warehouse, in SQL that both SQLite and PostgreSQL know."""

TABLES = ("DIM_CARRIER", "DIM_AIRPORT", "DIM_PLANE", "FCT_FLIGHT", "MART_DELAY")


def row_counts(schema: str) -> str:
    """One row: the number of rows of each table."""
    counts = ", ".join(f"(SELECT count(*) FROM {schema}.{name}) AS {name}" for name in TABLES)
    return f"SELECT {counts}"


def flight_totals(schema: str) -> str:
    """One row: the flights, their miles, their minutes of delay, and how many were cancelled."""
    return (
        "SELECT count(*), sum(distance_mi), sum(arr_delay_min), sum(CASE WHEN cancelled THEN 1 ELSE 0 END) "
        f"FROM {schema}.fct_flight"
    )


def flights(schema: str) -> str:
    """A few flights with what their surrogate keys stand for."""
    return f"""\
SELECT CAST(f.flight_date AS VARCHAR) AS day, c.carrier_name AS carrier, f.flight_number AS flight,
       f.origin_code || '-' || f.dest_code AS route, p.manufacturer AS plane, f.arr_delay_min AS late
FROM {schema}.fct_flight f
JOIN {schema}.dim_carrier c ON c.skey = f.carrier_skey
JOIN {schema}.dim_plane p ON p.skey = f.plane_skey
WHERE f.arr_delay_min IS NOT NULL
ORDER BY f.arr_delay_min DESC LIMIT 5"""


def delays(schema: str) -> str:
    """The airlines that are late most, from the mart."""
    return f"""\
SELECT carrier_name AS carrier, sum(flights) AS flights, sum(cancelled) AS cancelled, sum(delayed) AS delayed,
       round(100.0 * sum(delayed) / sum(flights), 1) AS percent
FROM {schema}.mart_delay GROUP BY carrier_name ORDER BY 5 DESC LIMIT 5"""


def carrier_history(schema: str, code: str) -> str:
    """The versions of an airline, the oldest first."""
    return _history(f"{schema}.dim_carrier", "carrier_code", "carrier_name AS name", code)


def plane_history(schema: str, tail_number: str) -> str:
    """The versions of a plane, the oldest first."""
    return _history(f"{schema}.dim_plane", "tail_number", "engine AS engine, seats AS seats", tail_number)


def arrivals(schema: str, airport: str) -> str:
    """One row: the flights to an airport, and how many of them know its row in the dimension."""
    return (
        "SELECT count(*), sum(CASE WHEN a.skey IS NULL THEN 0 ELSE 1 END) "
        f"FROM {schema}.fct_flight f LEFT JOIN {schema}.dim_airport a ON a.skey = f.dest_skey "
        f"WHERE f.dest_code = '{airport}'"
    )


def _history(table: str, key: str, values: str, of: str) -> str:
    return f"""\
SELECT {values}, current_flag AS current,
       substr(CAST(from_time AS VARCHAR), 1, 19) AS since, substr(CAST(to_time AS VARCHAR), 1, 19) AS until
FROM {table} WHERE {key} = '{of}' ORDER BY from_time"""
