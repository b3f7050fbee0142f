"""The guard for user SQL, held against what attackers and honest users write."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryRefusedError
from kernel.databases.queries import MAX_BYTES, bind, check
from kernel.databases.sources import open_source
from tests.kernel.databases.conftest import Place

PG, LITE, FILES = DatabaseKind.POSTGRESQL, DatabaseKind.SQLITE, DatabaseKind.FILES

ATTACKS = {
    "more than one statement": [
        (PG, "SELECT 1; DROP TABLE t"),
        (PG, "SELECT 1; SELECT 2"),
        (PG, "COMMIT; INSERT INTO t VALUES (1)"),
        (LITE, "SELECT 1; ATTACH '/nowhere/x' AS x"),
        (FILES, "SELECT 1; COPY t TO '/nowhere/x'"),
    ],
    "not a SELECT": [
        (PG, ""),
        (PG, "   "),
        (PG, ";"),
        (PG, "-- only a comment"),
        (PG, "INSERT INTO t VALUES (1)"),
        (PG, "UPDATE t SET a = 1"),
        (PG, "DELETE FROM t"),
        (PG, "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE"),
        (PG, "TRUNCATE t"),
        (PG, "CREATE TABLE x AS SELECT 1"),
        (PG, "DROP TABLE t"),
        (PG, "ALTER TABLE t ADD a int"),
        (PG, "GRANT ALL ON t TO public"),
        (PG, "COPY t TO PROGRAM 'id'"),
        (PG, "COPY (SELECT 1) TO '/nowhere/x'"),
        (PG, "DO $$ BEGIN PERFORM 1; END $$"),
        (PG, "CALL p()"),
        (PG, "EXPLAIN ANALYZE SELECT 1"),
        (PG, "SET statement_timeout = 0"),
        (PG, "RESET ALL"),
        (PG, "SHOW ALL"),
        (PG, "BEGIN"),
        (PG, "COMMIT"),
        (PG, "LISTEN x"),
        (PG, "NOTIFY x"),
        (PG, "VACUUM"),
        (PG, "LOCK TABLE t"),
        (PG, "PREPARE p AS SELECT 1"),
        (PG, "EXECUTE p"),
        (PG, "DECLARE c CURSOR FOR SELECT 1"),
        (PG, "VALUES (1)"),
        (LITE, "PRAGMA writable_schema = 1"),
        (LITE, "ATTACH DATABASE '/etc/passwd' AS x"),
        (LITE, "VACUUM INTO '/nowhere/x'"),
        (LITE, "REPLACE INTO t VALUES (1)"),
        (FILES, "COPY t TO '/nowhere/x.csv'"),
        (FILES, "ATTACH '/nowhere/x.db'"),
        (FILES, "INSTALL httpfs"),
        (FILES, "LOAD httpfs"),
        (FILES, "SET enable_external_access = true"),
        (FILES, "EXPORT DATABASE '/nowhere/x'"),
        (FILES, "CALL pragma_version()"),
        (FILES, "PRAGMA database_list"),
        (FILES, "CREATE SECRET s (TYPE s3)"),
    ],
    "a SELECT that writes or locks": [
        (PG, "SELECT 1 INTO x"),
        (PG, "SELECT * INTO TEMP x FROM t"),
        (PG, "SELECT * FROM t FOR UPDATE"),
        (PG, "SELECT * FROM t FOR SHARE NOWAIT"),
        (PG, "SELECT * FROM (SELECT * FROM t FOR UPDATE) q"),
        (PG, "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x"),
        (PG, "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x"),
        (PG, "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x"),
    ],
    "a function that does more than compute": [
        (PG, "SELECT pg_sleep(10)"),
        (PG, "SELECT PG_SLEEP (10)"),
        (PG, "SELECT pg_catalog.pg_sleep(10)"),
        (PG, 'SELECT "pg_sleep"(10)'),
        (PG, "SELECT pg_sleep/**/(10)"),
        (PG, "SELECT pg_sleep -- x\n (10)"),
        (PG, "SELECT pg_read_file('/etc/passwd')"),
        (PG, "SELECT pg_ls_dir('/')"),
        (PG, "SELECT pg_terminate_backend(1)"),
        (PG, "SELECT lo_import('/etc/passwd')"),
        (PG, "SELECT lo_create(0)"),
        (PG, "SELECT lo_export(1, '/nowhere/x')"),
        (PG, "SELECT pg_advisory_lock(1)"),
        (PG, "SELECT pg_notify('a', 'b')"),
        (PG, "SELECT set_config('statement_timeout', '0', false)"),
        (PG, "SELECT current_setting('data_directory')"),
        (PG, "SELECT nextval('s')"),
        (PG, "SELECT setval('s', 1)"),
        (PG, "SELECT * FROM dblink('host=evil', 'SELECT 1') AS x (a int)"),
        (PG, "SELECT dblink_exec('host=evil', 'DROP TABLE t')"),
        (PG, "SELECT query_to_xml('DELETE FROM t', true, true, '')"),
        (PG, "SELECT database_to_xml(true, true, '')"),
        (PG, "SELECT * FROM t WHERE a = (SELECT pg_sleep(5)::text)"),
        (PG, "SELECT * FROM t ORDER BY pg_sleep(1)"),
        (PG, "SELECT * FROM t LIMIT pg_sleep(1)"),
        (PG, "SELECT * FROM a JOIN b ON pg_sleep(1) IS NULL"),
        (PG, "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM t"),
        (PG, "SELECT CASE WHEN pg_sleep(1) IS NULL THEN 1 END"),
        (PG, "SELECT 1 FROM pg_sleep(1)"),
        (PG, "SELECT 1 FROM LATERAL pg_sleep(1)"),
        (PG, "SELECT 1 FROM ROWS FROM (pg_sleep(1))"),
        (PG, "SELECT 1 OPERATOR(evil.+) 2"),
        (PG, "SELECT public.my_function(1)"),
        (LITE, "SELECT load_extension('/nowhere/x.so')"),
        (LITE, "SELECT readfile('/etc/passwd')"),
        (LITE, "SELECT writefile('/nowhere/x', 'y')"),
        (LITE, "SELECT fts3_tokenizer('x')"),
        (LITE, "SELECT randomblob(1000000000)"),
        (LITE, "SELECT zeroblob(1000000000)"),
        (LITE, 'SELECT "load_extension"(1)'),
        (LITE, "SELECT [load_extension](1)"),
        (LITE, "SELECT `load_extension`(1)"),
        (FILES, "SELECT * FROM read_csv('/etc/passwd')"),
        (FILES, "SELECT * FROM read_text('/etc/passwd')"),
        (FILES, "SELECT * FROM read_parquet('s3://x')"),
        (FILES, "SELECT * FROM glob('/*')"),
        (FILES, "SELECT getenv('HOME')"),
        (FILES, "SELECT * FROM query('DROP TABLE t')"),
        (FILES, "SELECT * FROM query_table('x')"),
        (FILES, "SELECT '/etc/passwd'.read_text()"),
        (FILES, "SELECT sleep_ms(1000)"),
        (FILES, "SELECT write_log('x')"),
        (FILES, "SELECT current_setting('x')"),
        (FILES, "SELECT getvariable('x')"),
        (FILES, "SELECT * FROM duckdb_settings()"),
        (FILES, "SELECT nextval('s')"),
    ],
    "a table of the database's own, or a file": [
        (PG, "SELECT * FROM pg_shadow"),
        (PG, "SELECT * FROM pg_catalog.pg_authid"),
        (PG, 'SELECT * FROM "pg_authid"'),
        (PG, "SELECT * FROM pg_stat_activity"),
        (PG, "TABLE pg_authid"),
        (PG, "SELECT * FROM information_schema.tables"),
        (LITE, "SELECT * FROM sqlite_master"),
        (LITE, "SELECT * FROM pragma_database_list"),
        (LITE, "SELECT * FROM pragma_table_info('t')"),
        (FILES, "SELECT * FROM '/etc/passwd'"),
        (FILES, 'SELECT * FROM "/etc/passwd"'),
        (FILES, "SELECT * FROM 'link.csv'"),
        (FILES, 'SELECT * FROM "link.csv"'),
        (FILES, "SELECT * FROM 'http://evil/x.parquet'"),
        (FILES, "SELECT * FROM duckdb_secrets"),
        (FILES, "FROM '/etc/passwd'"),
    ],
    "a text that the database may read otherwise": [
        (PG, "SELECT /*!50000 pg_sleep(1), */ 1"),
        (PG, "SELECT 1 /* /* */ , pg_sleep(1) /* */ */"),
        (LITE, "SELECT 1 /* /* */ , load_extension(1) /* */ */"),
        (PG, "SELECT 1 -- x\r, pg_sleep(1)"),
        (PG, "SELECT 'a'||/* ' */, pg_sleep(1) --'"),
        (PG, "SELECT /*+ ' */ pg_sleep(1) --'*/"),
        (PG, "SELECT 'x\\', pg_sleep(1), '"),
        (PG, "SELECT U&'\\0070' "),
        (PG, 'SELECT U&"\\0070g_sleep"(1)'),
        (PG, "SELECT $a$ $b$, pg_sleep(1), $b$"),
        (PG, "SELECT 1 /* not closed"),
        (PG, "SELECT 'not closed"),
        (PG, "SELECT 1\0, pg_sleep(1)"),
        (PG, "SELECT\u00a0pg_sleep(1)"),
        (LITE, "SELECT 'a\\', load_extension(1), '"),
    ],
    "parameters of the driver": [
        (PG, "SELECT $1"),
        (PG, "SELECT @x := 1"),
        (LITE, "SELECT ?1"),
        (LITE, "SELECT ?"),
        (LITE, "SELECT @a"),
        (LITE, "SELECT $a"),
        (FILES, "SELECT $a"),
    ],
}

HONEST = [
    (PG, "SELECT 1"),
    (PG, "select a, upper(b) as b from s.t where c > 5 and d like '100%' -- end"),
    (PG, "WITH q (a, b) AS (SELECT 1, 2), r AS MATERIALIZED (SELECT * FROM q) SELECT * FROM r AS x (c, d)"),
    (PG, "(SELECT a FROM t) UNION ALL (SELECT b FROM u) ORDER BY 1 LIMIT 5"),
    (PG, "SELECT a::numeric(10, 2), CAST(b AS varchar(5)), c::int[], d AT TIME ZONE 'UTC' FROM t"),
    (PG, "SELECT x->>'a', x @> '{\"b\": 1}', a[1:2], ARRAY[1, 2], E'it\\'s', $$a'b$$, $q$x$q$ FROM t"),
    (PG, "SELECT sum(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t"),
    (PG, "SELECT count(*) FILTER (WHERE a IS NOT NULL), percentile_cont(0) WITHIN GROUP (ORDER BY a) FROM t"),
    (PG, "SELECT a, count(*) FROM t GROUP BY GROUPING SETS ((a), ()) HAVING count(*) > 1"),
    (PG, "SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.a = t.a) AS v JOIN w USING (a)"),
    (PG, "SELECT extract(year FROM d), interval '1 day', now(), current_date FROM t"),
    (PG, "SELECT trim(BOTH 'x' FROM a), substring(a FROM 1 FOR 2), position('a' IN b), b FROM t"),
    (PG, "SELECT * FROM generate_series(1, 3) AS g (i), unnest(ARRAY[1]) AS u (j)"),
    (PG, "SELECT DISTINCT ON (a) a, b FROM t WHERE a IN (1, 2) AND EXISTS (SELECT 1) AND b = ANY (c)"),
    (PG, "/* first */ SELECT 1 /* then */ ; -- last\n ;"),
    (PG, "SELECT CASE WHEN a THEN (SELECT 1) ELSE coalesce(b, 2) END FROM t"),
    (LITE, "SELECT strftime('%Y', d), ifnull(a, 0), [b], `c`, \"d\", x'00ff', group_concat(e, ', ') FROM t"),
    (LITE, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n"),
    (LITE, "SELECT a || 'b', julianday('now'), iif(a, 1, 2), row_number() OVER (ORDER BY a) FROM main.t"),
    (FILES, "FROM flights SELECT carrier, count(*) GROUP BY ALL"),
    (FILES, "SELECT * EXCLUDE (a) REPLACE (b + 1 AS b) FROM t QUALIFY row_number() OVER (ORDER BY a) = 1"),
    (FILES, "SELECT make_timestamp(y, m, d, 0, 0, 0), try_cast(a AS integer), {'k': b}, a[1:2], c FROM t"),
    (FILES, "SELECT strptime(a, '%d.%m.%Y')::date, regexp_extract(b, '(\\d+)', 1), COLUMNS('x.*') FROM t"),
    (FILES, 'SELECT "odd name" FROM "a table" ASOF JOIN u USING (a)'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "query"),
    [case for cases in ATTACKS.values() for case in cases],
    ids=lambda value: str(value)[:60],
)
def test_an_attack_is_refused(kind: DatabaseKind, query: str) -> None:
    with pytest.raises(QueryRefusedError):
        check(query, kind)


@pytest.mark.parametrize(("kind", "query"), HONEST, ids=lambda value: str(value)[:60])
def test_an_honest_query_passes_as_it_is_written(kind: DatabaseKind, query: str) -> None:
    checked = check(query, kind)
    assert query.startswith(checked.text)
    assert bind(checked, None) == checked.text


@pytest.mark.timed
@pytest.mark.parametrize(
    "query",
    [
        "SELECT " + "(" * 300 + "1" + ")" * 300,
        "SELECT " + "(" * 150 + "1" + ")" * 150,
        "SELECT " + "NOT " * 15_000 + "a",
        "SELECT " + "- " * 30_000 + "1",
        "SELECT " + "CASE WHEN 1 THEN " * 3_000 + "1" + " END" * 3_000,
        "SELECT " + "+".join(["pg_sleep(1)"] * 5_000),
        "SELECT '" + "x" * MAX_BYTES + "'",
        "SELECT " + "[" * 180 + "]" * 180,
        "SELECT /*" + "/*" * 20_000,
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bomb_is_refused_soon(query: str) -> None:
    started = time.process_time()
    with pytest.raises(QueryRefusedError):
        check(query, PG)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("query", "line", "column"),
    [
        ("SELECT a,\n  pg_sleep(1)", 2, 3),
        ("SELECT a\nFROM pg_authid", 2, 6),
        ("SELECT 1; SELECT 2", 1, 9),
        ("SELECT 1\n/*! x */", 1, 9),
    ],
)
def test_a_refusal_tells_the_place(query: str, line: int, column: int) -> None:
    with pytest.raises(QueryRefusedError) as caught:
        check(query, PG)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.metadata == {"line": str(line), "column": str(column)}


def test_parameters_are_found_by_their_place_in_the_text() -> None:
    query = (
        "SELECT a::text, ':no', \":no\", b[1:no], $$ :no $$ /* :no */ FROM t\n"
        "WHERE d >= :from AND d <:to OR d IN (:from, :until::date) -- :no"
    )
    checked = check(query, PG)
    assert checked.parameters == ("from", "to", "until")
    assert bind(checked, {"from": "2024-01-01", "to": "it's", "until": ":from"}) == query.replace(
        ":from", "'2024-01-01'"
    ).replace(":to", "'it''s'").replace(":until", "':from'")
    assert bind(checked, None).count("NULL") == 4


def test_a_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(QueryRefusedError, match="until"):
        bind(check("SELECT :until", PG), {})


@settings(deadline=None)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_any_value_of_a_parameter_stays_one_literal(value: str) -> None:
    for kind in (PG, LITE, FILES):
        text = bind(check("SELECT :x AS x", kind), {"x": value})
        if not any(character in value for character in "\x1c\x1d\x1e\x1f\x85\u2028\u2029"):
            assert check(text, kind).text == text


FRAGMENTS = """
SELECT FROM WHERE AS WITH UNION JOIN CASE END NOT IN OVER INTERVAL DATE GROUP BY ORDER LIMIT VALUES INTO FOR
UPDATE LATERAL a b 1 , ( ) ' " ; : :x * . -- /* */ :: [ ] { } $$ E' - + = < || ? @ # \\ `
"""


@settings(deadline=None)
@given(
    kind=st.sampled_from((PG, LITE, FILES)),
    parts=st.lists(st.sampled_from([*FRAGMENTS.split(), "\n"]) | st.text(max_size=3), max_size=25),
)
def test_any_text_is_passed_or_refused(kind: DatabaseKind, parts: list[str]) -> None:
    text = " ".join(parts)
    with contextlib.suppress(QueryRefusedError):
        assert text.startswith(check(text, kind).text)


def test_every_kind_gets_the_value_back(place: Place) -> None:
    values = {"x": 'it\'s :x -- \\ %s $$ "q" /* ; \n Ü'}
    with open_source(place.endpoint) as source:
        text = bind(check("SELECT :x AS x", place.endpoint.kind), values)
        assert source.rows(text, 1) == [(values["x"],)]
