"""One load from its claim to its commit.

claim the ledger ─▶ fill the stage ─▶ set aside ─▶ merge ─▶ record ─▶ confirm ─▶ commit
                    └──────────────────── one transaction ───────────────────────────┘
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice

from services.jobs.loading.casting import printed_key
from services.jobs.loading.errors import CountsDifferError, StoppedError
from services.jobs.loading.events import (
    Begun,
    Counts,
    Done,
    Emit,
    Level,
    Line,
    Progress,
    Ready,
    Reason,
    Rejected,
    RejectedRow,
)
from services.jobs.loading.ledger import Ledger
from services.jobs.loading.staging import STAGE, Stage
from services.jobs.loading.targets import Target, open_target
from services.jobs.loading.tasks import Task

LINE_SECONDS, PROGRESS_SECONDS = 5.0, 0.5
LONGEST_SILENCE = 60.0
REJECTED_AT_ONCE = 500
MAX_REJECTED = 100_000
CREATE_LOAD = "CREATE TEMPORARY TABLE portolan_load (load_time {})"
INSERT_LOAD = "INSERT INTO portolan_load VALUES ('{:%Y-%m-%d %H:%M:%S.%f}')"
LOAD_TIME_TYPES = {"postgresql": "TIMESTAMP", "sqlite": "TEXT"}


class Load:
    """A load, run by one thread; others may `stop` it."""

    def __init__(self, task: Task, emit: Emit, ready: Callable[[], None]) -> None:
        """`emit` takes each event but `Failed`; `ready` returns when the load may commit, or raises."""
        self._task = task
        self._plan = task.plan
        self._emit = emit
        self._ready = ready
        self._stopped = threading.Event()
        self._cancels: list[Callable[[], None]] = []
        self._started = self._said = self._counted = time.monotonic()
        self._step, self._begun = f"Waiting for {self._plan.target.name}", self._started
        self._rejected = 0

    def stop(self) -> None:
        """Makes the load end by a StoppedError. A statement that just begins may escape it, so call again."""
        self._stopped.set()
        for cancel in list(self._cancels):
            cancel()

    def run(self) -> None:
        """Loads; returns when it is committed, else raises a LoadError or what the source says."""
        self._check()
        try:
            with (
                self._patience(),
                open_target(self._task.target, self._task.run_id, self.line) as target,
                self.cancelling(target.cancel),
            ):
                self._run(target)
        except Exception:
            # Whatever a cancel broke off says so in words of its own.
            self._check()
            raise

    def _run(self, target: Target) -> None:
        plan = self._plan
        ledger = Ledger(target, plan.target.schema, plan.reference, plan.target.name)
        claim = ledger.claim(self._task.run_id, self._task.fence)
        if claim.committed is not None:
            self.line("An earlier attempt has committed this run already; there is nothing left to do.")
            self._emit(Done(claim.committed))
            return
        self._emit(Begun())
        target.begin_load()
        try:
            counts = self._merged(target)
            self.line(f"{plan.target.name}: {_listed(counts)}.")
            self._at("Committing")
            ledger.record(claim, counts)
            self._emit(Ready(counts))
            self._ready()
            target.commit()
        except BaseException:
            target.rollback()
            raise
        self.line(f"Committed after {time.monotonic() - self._started:,.1f} s.")
        self._emit(Done(counts))

    def _merged(self, target: Target) -> Counts:
        """The counts of the rows, when the stage is filled and merged into the target."""
        plan = self._plan
        target.execute(CREATE_LOAD.format(LOAD_TIME_TYPES[target.dialect.name]))
        target.execute(INSERT_LOAD.format(moment := datetime.now(UTC)))
        stage = Stage(self._task, target, self)
        self._at("Reading")
        if (inserted := stage.bypass(moment)) is not None:
            self._told_read(inserted)
            return Counts(source=inserted, inserted=inserted)
        source = stage.fill()
        self._told_read(source)
        self._at("Setting aside what cannot be loaded")
        self._set_aside_null_keys(target)
        if self._rejected:
            self.line(f"{_rows(self._rejected)} cannot be loaded; the run lists them.", Level.WARNING)
        duplicate = target.execute(plan.stage.delete_duplicates)
        if duplicate:
            self.line(f"{_rows(duplicate)} set aside: the key comes again later in the load.", Level.WARNING)
        staged = source - self._rejected - duplicate
        self._at(f"Waiting for {plan.target.name}")
        target.begin_merge(plan.target.schema, plan.target.name)
        inserted, updated, closed = self._merge(target)
        counts = Counts(
            source=source,
            inserted=inserted,
            updated=updated,
            closed=closed,
            unchanged=staged - inserted - updated - closed,
            duplicate=duplicate,
            rejected=self._rejected,
        )
        if not counts.complete:
            raise CountsDifferError(f"The counts do not add up, so nothing is changed: {_listed(counts)}.")
        return counts

    def _told_read(self, rows: int) -> None:
        seconds = time.monotonic() - self._begun
        self.line(f"Read {rows:,} rows in {seconds:,.1f} s, {rows / max(seconds, 0.001):,.0f} a second.")
        self._emit(Progress(Counts(source=rows, rejected=self._rejected)))

    def _merge(self, target: Target) -> tuple[int, int, int]:
        """The numbers of rows inserted, updated and closed."""
        merge = self._plan.merge
        name = self._plan.target.name
        if not list(target.rows(merge.target_has_rows)):
            self._at(f"Inserting into {name}")
            inserted = target.execute(merge.insert_all)
            # Made after the rows, an index costs a quarter of what it costs row by row.
            self._create_indexes(target)
            return inserted, 0, 0
        self._create_indexes(target)
        self._at(f"Comparing with {name}")
        target.analyze(STAGE)
        target.execute(merge.create_delta)
        found: dict[str, int] = dict(target.rows(merge.count_delta))
        inserted, updated, closed = (found.get(action, 0) for action in "IUV")
        changed = 0
        self._at(f"Changing {name}")
        for statement in merge.apply:
            self._check()
            changed += target.execute(statement)
        # Each new version is a row closed and a row inserted.
        if changed != inserted + updated + 2 * closed:
            raise CountsDifferError(
                f"The merge changed {changed:,} rows of the target where {inserted:,} were to be inserted,"
                f" {updated:,} updated and {closed:,} closed, so nothing is changed."
            )
        return inserted, updated, closed

    def _create_indexes(self, target: Target) -> None:
        self._at(f"Indexing {self._plan.target.name}")
        for statement in self._plan.target.create_indexes:
            self._check()
            target.execute(statement)

    def _set_aside_null_keys(self, target: Target) -> None:
        stage = self._plan.stage
        names = [column.name for column in self._plan.stage_columns if column.key]
        found, before = target.rows(stage.select_null_keys), self._rejected
        while rows := list(islice(found, REJECTED_AT_ONCE)):
            self.reject([_without_key(dict(zip(names, row, strict=True))) for row in rows])
        if self._rejected > before:
            target.execute(stage.delete_null_keys)

    def line(self, message: str, level: Level = Level.INFO) -> None:
        """Tells a line of the log."""
        self._said = time.monotonic()
        self._emit(Line(message, level))

    def read(self, rows: int) -> None:
        """Tells how far the reading is, now and then; StoppedError when the load is to stop."""
        self._check()
        now = time.monotonic()
        if now - self._counted >= PROGRESS_SECONDS:
            self._counted = now
            self._emit(Progress(Counts(source=rows, rejected=self._rejected)))
        if now - self._said >= LINE_SECONDS:
            self.line(f"{rows:,} rows so far, {rows / (now - self._started):,.0f} a second.")

    def reject(self, rows: list[RejectedRow]) -> None:
        """Tells of rows that cannot be loaded; of very many, only of the first."""
        kept = rows[: max(MAX_REJECTED - self._rejected, 0)]
        for start in range(0, len(kept), REJECTED_AT_ONCE):
            self._emit(Rejected(kept[start : start + REJECTED_AT_ONCE]))
        if len(kept) < len(rows) and self._rejected <= MAX_REJECTED:
            self.line(
                f"More than {MAX_REJECTED:,} rows cannot be loaded; the others are only counted.",
                Level.WARNING,
            )
        self._rejected += len(rows)

    @contextmanager
    def cancelling(self, cancel: Callable[[], None]) -> Iterator[None]:
        """While this lasts, `cancel` is called when the load is to stop."""
        self._cancels.append(cancel)
        try:
            self._check()
            yield
        finally:
            self._cancels.remove(cancel)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """While this lasts, a step that takes long is told of: soon at first, then every minute."""
        over = threading.Event()

        def watch() -> None:
            silence = LINE_SECONDS
            while not over.wait(PROGRESS_SECONDS):
                now = time.monotonic()
                if now - self._begun < LINE_SECONDS:
                    silence = LINE_SECONDS
                if now - self._said >= silence:
                    self.line(f"{self._step}, for {now - self._begun:,.0f} s.")
                    silence = min(2 * silence, LONGEST_SILENCE)

        watcher = threading.Thread(target=watch, name="patience", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _at(self, step: str) -> None:
        """Begins a step, unless the load is to stop."""
        self._check()
        self._step, self._begun = step, time.monotonic()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("The load was stopped; the target is as it was.")


def _without_key(key: dict[str, object]) -> RejectedRow:
    column = next(name for name, value in key.items() if value is None)
    return RejectedRow(
        key=printed_key(key),
        column=column,
        value="",
        reason=Reason.NULL_KEY,
        message=f"The key column {column} is NULL.",
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _listed(counts: Counts) -> str:
    return ", ".join(
        f"{count:,} {name}" for name, count in dataclasses.asdict(counts).items() if name != "source"
    )
