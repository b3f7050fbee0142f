"""Loads, from the source to the target."""

import datetime as dt
import threading
from contextlib import closing
from decimal import Decimal

import pytest

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryInvalidError
from services.jobs.loading import engine, prepare
from services.jobs.loading.engine import Load
from services.jobs.loading.errors import FencedError, StoppedError, TargetError, TargetUnavailableError
from services.jobs.loading.events import Begun, Counts, Event, Progress, Ready, Reason
from tests.jobs.loading.places import CURRENT, HISTORY, Place, load, person, plan, task

SEEN = "2026-01-02 03:04:05"
ANNA, BELA, CARL, DORA = (
    (1, "Anna", "10.50", "2001-02-03", SEEN),
    (2, "Bela", "20.25", "2002-03-04", None),
    (3, "Carl", None, None, None),
    (4, "Dora", None, None, None),
)


def amounts(place: Place) -> dict[int, str]:
    """The amounts of people by id, as text in both databases."""
    return {row[0]: str(row[2]) for row in place.rows(CURRENT)}


def test_files_are_loaded_and_every_value_keeps_its_meaning(files: Place, target: Place) -> None:
    files.people([ANNA, BELA, CARL])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    story = load(task(plan_, files, target))
    assert story.counts == Counts(source=3, inserted=3)
    if target.kind is DatabaseKind.SQLITE:
        anna: tuple[object, ...] = (1, "Anna", "10.50", "2001-02-03", f"{SEEN}.000000")
    else:
        seen = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - a TIMESTAMP has no zone
        anna = (1, "Anna", Decimal("10.50"), dt.date(2001, 2, 3), seen)
    assert target.rows(CURRENT)[0] == anna
    assert target.rows(CURRENT)[2] == (3, "Carl", None, None, None)


def test_a_second_load_changes_only_what_changed(files: Place, target: Place) -> None:
    files.people([ANNA, BELA, CARL])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    files.people([ANNA, (2, "Béla", "20.25", "2002-03-04", None), (3, "Carl", "1", None, None), DORA])
    story = load(task(plan_, files, target, fence=2))
    assert story.counts == Counts(source=4, inserted=1, updated=1, closed=1, unchanged=1)
    assert [row[1] for row in target.rows(CURRENT)] == ["Anna", "Béla", "Carl", "Dora"]
    assert [row[5] for row in target.rows(HISTORY)] == ["Y", "N", "Y", "Y", "Y"]
    assert "1 inserted, 1 updated, 1 closed, 1 unchanged" in story.log


def test_bad_rows_are_set_aside_with_their_reasons_and_good_ones_load(files: Place, target: Place) -> None:
    files.people(
        [
            ANNA,
            (None, "Nobody", "1", None, None),
            (4, "far too long a name", "1", None, None),
            (5, "Eve", "1234567.00", None, None),
            (6, "Finn", "twelve", None, None),
            (7, "Gus", "1", "2001-02-30", None),
            (1, "Anna II", "1", None, None),
        ]
    )
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    story = load(task(plan_, files, target))
    assert story.counts == Counts(source=7, inserted=1, duplicate=1, rejected=5)
    assert target.rows(CURRENT)[0][1] == "Anna II"
    found = [(row.key.get("id"), row.column, row.value, row.reason) for row in story.rejected]
    assert found == [
        ("4", "name", "far too long a name", Reason.TOO_LONG),
        ("5", "amount", "1234567.00", Reason.OUT_OF_RANGE),
        ("6", "amount", "twelve", Reason.NOT_CONVERTIBLE),
        ("7", "born", "2001-02-30", Reason.NOT_CONVERTIBLE),
        (None, "id", "", Reason.NULL_KEY),
    ]
    assert story.rejected[0].message == "The value has 19 characters; 10 fit."


def test_many_batches_with_bad_rows_in_between_add_up(files: Place, target: Place) -> None:
    files.people(
        (i, "much too long" if i % 97 == 0 else f"n{i}", i % 100, None, None) for i in range(1, 3001)
    )
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    story = load(task(plan_, files, target))
    assert story.counts == Counts(source=3000, inserted=3000 - 30, rejected=30)
    assert [int(row.key["id"]) for row in story.rejected] == list(range(97, 3000, 97))


def test_a_load_from_its_own_database_does_not_leave_it(target: Place) -> None:
    target.people([ANNA, BELA, CARL])
    plan_ = plan(person(here=True), target, target)
    prepare(target.endpoint, plan_)
    story = load(task(plan_, target, target))
    assert story.counts == Counts(source=3, inserted=3)
    assert "without leaving the database" in story.log


def test_a_value_that_does_not_fit_makes_the_load_go_row_by_row(target: Place) -> None:
    target.people([ANNA, BELA, (4, "far too long a name", 1, None, None)])
    plan_ = plan(person(here=True), target, target)
    prepare(target.endpoint, plan_)
    story = load(task(plan_, target, target))
    assert story.counts == Counts(source=3, inserted=2, rejected=1)
    assert "does not fit" in story.log
    target.people([ANNA, BELA])
    assert load(task(plan_, target, target, fence=2)).counts == Counts(source=2, unchanged=2)


def test_between_databases_of_one_kind_both_ways_of_reading_agree(target: Place, other: Place) -> None:
    rows = [(i, f"n{i}", Decimal(i) / 8, "2001-02-03", SEEN) for i in range(1, 700)]
    if target.kind is DatabaseKind.SQLITE:
        rows = [(*row[:2], str(row[2]), *row[3:]) for row in rows]  # type: ignore[misc]  # it has no decimals
    other.people(rows)
    plan_ = plan(person(), other, target)
    prepare(target.endpoint, plan_)
    first = load(task(plan_, other, target))
    assert first.counts == Counts(source=699, inserted=699)
    assert ("binary COPY" in first.log) == (target.kind is DatabaseKind.POSTGRESQL)
    other.do("INSERT INTO people VALUES (700, 'far too long a name', 1, NULL, NULL)")
    second = load(task(plan_, other, target, fence=2))
    assert second.counts == Counts(source=700, unchanged=699, rejected=1)
    assert amounts(target)[1] == "0.13"


def test_parameters_are_bound_as_texts(target: Place, files: Place) -> None:
    files.people([ANNA, BELA, CARL])
    plan_ = plan(person("SELECT * FROM people WHERE name <> :name"), files, target)
    prepare(target.endpoint, plan_)
    attempt = task(plan_, files, target)
    bound = type(attempt)(**vars(attempt) | {"parameters": {"name": "O'Neil -- Anna"}})
    assert load(bound).counts.source == 3
    bound = type(attempt)(**vars(attempt) | {"parameters": {"name": "Anna"}, "fence": 2, "run_id": "r"})
    assert load(bound).counts.source == 2


def test_parameters_are_bound_inside_the_database_too(target: Place) -> None:
    target.people([ANNA, BELA, CARL])
    plan_ = plan(person("SELECT * FROM people WHERE name <> :name", here=True), target, target)
    prepare(target.endpoint, plan_)
    attempt = task(plan_, target, target)
    story = load(type(attempt)(**vars(attempt) | {"parameters": {"name": "Anna"}}))
    assert story.counts.source == 2
    assert "without leaving" in story.log


def test_an_empty_source_loads_nothing(files: Place, target: Place) -> None:
    files.people([])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    assert load(task(plan_, files, target)).counts == Counts()


def test_what_the_source_says_against_the_query_is_the_loads_end(target: Place) -> None:
    target.people([ANNA])
    plan_ = plan(person("SELECT * FROM people WHERE nosuch = 1", here=True), target, target)
    prepare(target.endpoint, plan_)
    with pytest.raises(QueryInvalidError, match="nosuch"):
        load(task(plan_, target, target))
    assert target.rows(CURRENT) == []


def test_what_the_target_says_against_a_row_undoes_the_load(files: Place, target: Place) -> None:
    files.people([ANNA, BELA])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    target.do("CREATE UNIQUE INDEX one_bela ON dim_person (name)")
    files.people([(3, "Bela", "1", None, None), (4, "Dora", "1", None, None)])
    with pytest.raises(TargetError, match=r"(?i)unique"):
        load(task(plan_, files, target, fence=2))
    assert [row[0] for row in target.rows(CURRENT)] == [1, 2]


def test_a_run_that_is_committed_already_only_reports(files: Place, target: Place) -> None:
    files.people([ANNA, BELA])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    first = load(task(plan_, files, target, fence=1, run_id="r"))
    files.people([CARL])
    again = load(task(plan_, files, target, fence=2, run_id="r"))
    assert again.counts == first.counts
    assert not again.of(Begun)
    assert not again.of(Ready)


def test_an_attempt_that_is_not_newer_may_not_begin(files: Place, target: Place) -> None:
    files.people([ANNA])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target, fence=5))
    for fence in (4, 5):
        with pytest.raises(FencedError, match="fence 5"):
            load(task(plan_, files, target, fence=fence, run_id="late"))


def test_an_attempt_that_was_overtaken_commits_nothing(files: Place, target: Place) -> None:
    files.people([ANNA])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)

    def overtake(event: Event) -> None:
        if isinstance(event, Progress):
            files.people([BELA])
            load(task(plan_, files, target, fence=2, run_id="r"))

    overtaken = Load(task(plan_, files, target, fence=1, run_id="r"), overtake, lambda: None)
    with pytest.raises((FencedError, TargetUnavailableError)):
        overtaken.run()
    assert [row[1] for row in target.rows(CURRENT)] == ["Bela"]


def test_a_stop_ends_a_load_at_once_and_leaves_no_trace(target: Place) -> None:
    target.people([ANNA])
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
    logic = f"{slow} SELECT max(i) AS id, 'a' AS name, 1 AS amount, NULL AS born, NULL AS seen FROM n"
    plan_ = plan(person(logic, here=True), target, target)
    prepare(target.endpoint, plan_)
    stopped = Load(task(plan_, target, target), lambda _: None, lambda: None)
    timer = threading.Timer(0.5, stopped.stop)
    timer.start()
    with pytest.raises(StoppedError):
        stopped.run()
    timer.join()
    assert target.rows(CURRENT) == []


def test_a_load_waits_for_another_writer_and_says_so(
    files: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LINE_SECONDS", 0.5)
    files.people([ANNA])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    with closing(target.connect()) as writer:
        writer.execute("BEGIN")
        writer.execute("UPDATE dim_person SET name = 'Anne'")
        timer = threading.Timer(2, lambda: writer.execute("COMMIT"))
        timer.start()
        story = load(task(plan_, files, target, fence=2))
        timer.join()
    assert "waiting for it" in story.log
    assert "Waiting for dim_person, for 1 s." in story.log
    assert story.counts == Counts(source=1, closed=1)


def test_a_statement_that_an_administrator_cancels_fails_the_load(postgres: Place) -> None:
    slow = "SELECT max(i) AS id, 'a' AS name, 1 AS amount, NULL AS born, NULL AS seen"
    plan_ = plan(person(f"{slow} FROM generate_series(1, 1000000000) AS i", here=True), postgres, postgres)
    prepare(postgres.endpoint, plan_)
    postgres.do(f"ALTER DATABASE {postgres.endpoint.database} SET statement_timeout = '300ms'")
    with pytest.raises(TargetError, match="statement timeout"):
        load(task(plan_, postgres, postgres))
