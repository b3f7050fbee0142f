"""The ledger: a table beside the loaded ones that tells what was committed, and who may commit next.

It makes a load happen once. An attempt claims its mapping's row under its fence, a number that goes up with
each attempt, and its own transaction records the commit in that row on the condition that the fence is still
the same. So an attempt that was taken for dead and comes back commits nothing, and one that takes over a run
finds there whether it is committed already.
"""

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from services.jobs.loading.errors import FencedError
from services.jobs.loading.events import Counts
from services.jobs.loading.targets import Target

NAME = "portolan_ledger"
COUNTS = tuple(asdict(Counts()))


@dataclass(frozen=True)
class Claim:
    """An attempt's hold on a mapping's row; `committed` are the counts of its run when that is committed."""

    run_id: str
    fence: int
    committed: Counts | None


class Ledger:
    """The ledger of a mapping in its target's schema."""

    def __init__(self, target: Target, schema: str, reference: str, table: str) -> None:
        self._target = target
        self._reference = reference
        self._name = table
        server = target.dialect.name == "postgresql"
        self._insert = postgresql_insert if server else sqlite_insert
        # PostgreSQL's now() is when the transaction began.
        self._now = sa.func.clock_timestamp() if server else sa.func.now()
        self.table = sa.Table(
            NAME,
            sa.MetaData(),
            sa.Column("target", sa.Text(), primary_key=True),
            sa.Column("mapping", sa.Text(), primary_key=True),
            sa.Column("run_id", sa.Text(), nullable=False),
            sa.Column("fence", sa.BigInteger(), nullable=False),
            sa.Column("session", sa.BigInteger(), nullable=False),
            sa.Column("claim_time", sa.DateTime(timezone=True), nullable=False),
            sa.Column("committed_run_id", sa.Text()),
            sa.Column("commit_time", sa.DateTime(timezone=True)),
            *(sa.Column(f"rows_{name}", sa.BigInteger()) for name in COUNTS),
            schema=schema or None,
        )

    def create(self) -> None:
        """Creates the table when it is missing."""
        self._target.run(sa.schema.CreateTable(self.table, if_not_exists=True))

    def claim(self, run_id: str, fence: int) -> Claim:
        """Takes the row, in a transaction of its own, and ends what is left of an earlier attempt.

        Fails with FencedError when an attempt with this fence or a higher one has claimed it.
        """
        if former := self._row():
            self._check(former, fence)
            # It may hold locks that this attempt would wait for.
            self._target.end_session(former["session"], former["run_id"])
        with self._target.transaction():
            values = {
                "run_id": run_id,
                "fence": fence,
                "session": self._target.session,
                "claim_time": self._now,
            }
            upsert = self._insert(self.table).values(target=self._name, mapping=self._reference, **values)
            lower = self.table.c.fence < fence
            upsert = upsert.on_conflict_do_update(
                index_elements=["target", "mapping"], set_=values, where=lower
            )
            claimed = self._target.run(upsert)
            row = self._row()
            if not claimed:
                self._check(row, fence)
        committed = None
        if row is not None and row["committed_run_id"] == run_id:
            committed = Counts(**{name: row[f"rows_{name}"] for name in COUNTS})
        return Claim(run_id, fence, committed)

    def record(self, claim: Claim, counts: Counts) -> None:
        """Records the commit, in the load's transaction; FencedError when a newer attempt has the row."""
        mine = sa.and_(*self._key(), self.table.c.fence == claim.fence, self.table.c.run_id == claim.run_id)
        values: dict[str, Any] = {f"rows_{name}": count for name, count in asdict(counts).items()}
        update = sa.update(self.table).where(mine)
        update = update.values(committed_run_id=claim.run_id, commit_time=self._now, **values)
        if self._target.run(update) != 1:
            raise FencedError("A newer attempt has claimed the target; this one changes nothing.")

    def _row(self) -> dict[str, Any] | None:
        rows = self._target.fetch(sa.select(self.table).where(*self._key()))
        return dict(zip(self.table.c.keys(), rows[0], strict=True)) if rows else None

    def _key(self) -> tuple[sa.ColumnElement[bool], ...]:
        return self.table.c.target == self._name, self.table.c.mapping == self._reference

    def _check(self, row: dict[str, Any] | None, fence: int) -> None:
        if row is not None and row["fence"] >= fence:
            held = f"run {row['run_id']} with fence {row['fence']}"
            raise FencedError(
                f"The target is claimed by {held}; an attempt with fence {fence} may not have it."
            )
