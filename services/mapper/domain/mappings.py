"""Mappings and their versions: every change makes a new version, and a version says the same for ever."""

import dataclasses
import json
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.auth import Principal
from kernel.db import now, unless_conflict
from services.mapper.definition import Column, Definition, Frequency, Lookup, ScdType, TableType
from services.mapper.domain.faults import Fault, Reason
from services.mapper.errors import (
    MappingExistsError,
    MappingInUseError,
    MappingNotActiveError,
    MappingNotFoundError,
    MappingNotValidatedError,
)
from services.mapper.models import Mapping, MappingVersion
from services.mapper.workbook import Sheet

HEADER = tuple(
    field.name for field in dataclasses.fields(Definition) if field.name not in {"reference", "columns"}
)
SEARCHED = (MappingVersion.description, MappingVersion.target_table, MappingVersion.source_system)
MAX_NAMED = 5
"""Users of a mapping that a refusal names."""


@dataclasses.dataclass(frozen=True)
class Revision:
    """A mapping in one of its versions."""

    mapping: Mapping
    version: MappingVersion

    @property
    def definition(self) -> Definition:
        """What the version says."""
        header: dict[str, Any] = {name: getattr(self.version, name) for name in HEADER}
        header["table_type"] = TableType(header["table_type"])
        header["frequency"] = Frequency(header["frequency"])
        columns = tuple(_column(document) for document in self.version.columns)
        return Definition(reference=self.mapping.reference, **header, columns=columns)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What a version says, and what the dimensions say that it looks up, by reference."""

    definition: Definition
    version: int
    dimensions: MappingType[str, Definition]


def mappings(organization_id: str) -> sa.Select[Mapping]:
    """The mappings of an organization."""
    return sa.select(Mapping).where(Mapping.organization_id == organization_id)


def found(organization_id: str, search: str, table_type: str, connection: str) -> sa.Select[Mapping]:
    """The mappings whose latest version is of a type and holds all words of a search, in any letter case.

    And whose latest or active version reads or loads a connection.
    """
    query = mappings(organization_id).join(
        MappingVersion,
        sa.and_(MappingVersion.mapping_id == Mapping.id, MappingVersion.version == Mapping.latest_version),
    )
    for word in search.split():
        query = query.where(
            sa.or_(*(text.icontains(word, autoescape=True) for text in (Mapping.reference, *SEARCHED)))
        )
    if connection:
        used = orm.aliased(MappingVersion)
        either = sa.or_(used.source_connection == connection, used.target_connection == connection)
        query = query.where(sa.select(used.version).where(_in_force(used), either).exists())
    return query.where(MappingVersion.table_type == table_type) if table_type else query


def versions(mapping: Mapping) -> sa.Select[MappingVersion]:
    """All versions of a mapping."""
    return sa.select(MappingVersion).where(MappingVersion.mapping_id == mapping.id)


def get(session: orm.Session, organization_id: str, reference: str, version: int = 0) -> Revision:
    """A mapping in its latest or a given version; MappingNotFoundError."""
    return _revision(session, _mapping(session, mappings(organization_id), reference), version)


def latest(session: orm.Session, rows: Sequence[Mapping]) -> list[Revision]:
    """Each mapping in its latest version."""
    wanted = {(row.id, row.latest_version): row for row in rows}
    key = sa.tuple_(MappingVersion.mapping_id, MappingVersion.version)
    versions_found = session.scalars(sa.select(MappingVersion).where(key.in_(wanted)))
    by_id = {version.mapping_id: version for version in versions_found}
    return [Revision(row, by_id[row.id]) for row in rows]


def lock(session: orm.Session, organization_id: str, reference: str) -> Revision:
    """A mapping in its latest version, which nobody else changes before the transaction ends."""
    query = mappings(organization_id).with_for_update()
    return _revision(session, _mapping(session, query, reference), 0)


def create(session: orm.Session, organization_id: str, definition: Definition, creator: str) -> Revision:
    """Makes a mapping, in version 1; MappingExistsError."""
    reference = definition.reference
    mapping = Mapping(
        organization_id=organization_id, reference=reference, latest_version=0, active_version=0
    )
    taken = MappingExistsError(f"a mapping {reference} exists", mapping=reference)
    with unless_conflict(session, uq_mappings_organization_id_reference=taken):
        session.add(mapping)
    return _add_version(session, mapping, definition, creator)


def change(session: orm.Session, revision: Revision, definition: Definition, creator: str) -> Revision:
    """Makes a new version, unless the latest one says the same already."""
    if revision.definition == definition:
        return revision
    revision.mapping.revision += 1
    return _add_version(session, revision.mapping, definition, creator)


def delete(session: orm.Session, mapping: Mapping) -> None:
    """Deletes a mapping with its versions; MappingInUseError while others look it up."""
    reference = mapping.reference
    users = sorted(_looking_up(session, mapping))
    if users:
        named = ", ".join(users[:MAX_NAMED])
        more = f" and {len(users) - MAX_NAMED} more" if len(users) > MAX_NAMED else ""
        raise MappingInUseError(
            f"{reference} is looked up by {named}{more}", mapping=reference, mappings=named
        )
    session.delete(mapping)


def save(session: orm.Session, caller: Principal, sheet: Sheet) -> tuple[int, bool]:
    """Makes or changes a sheet's mapping where needed; its latest version, and whether that is new."""
    try:
        before = lock(session, caller.organization_id, sheet.definition.reference)
    except MappingNotFoundError:
        create(session, caller.organization_id, sheet.definition, caller.user_id)
        return 1, True
    after = change(session, before, sheet.over(before.definition), caller.user_id)
    return after.version.version, after is not before


def preview(session: orm.Session, caller: Principal, sheet: Sheet) -> tuple[int, bool]:
    """What `save` would return."""
    try:
        before = get(session, caller.organization_id, sheet.definition.reference)
    except MappingNotFoundError:
        return 1, True
    changed = before.definition != sheet.over(before.definition)
    return before.version.version + changed, changed


def exported(session: orm.Session, organization_id: str, references: Sequence[str]) -> list[Revision]:
    """The named mappings in their latest versions, or all; MappingNotFoundError."""
    if references:
        return [get(session, organization_id, reference) for reference in dict.fromkeys(references)]
    return latest(session, session.scalars(mappings(organization_id).order_by(Mapping.reference)).all())


def record(version: MappingVersion, faults: Sequence[Fault]) -> None:
    """Keeps what a validation found of a version. A connection that is away takes back no earlier success."""
    version.faults = [dataclasses.asdict(fault) for fault in faults]
    away = all(fault.reason == Reason.CONNECTION for fault in faults)
    version.validated = not faults or (version.validated and away)
    version.validate_time = now()


def activate(revision: Revision) -> None:
    """Makes the latest version the active one; MappingNotValidatedError."""
    check_validated(revision)
    if revision.mapping.active_version != revision.version.version:
        revision.mapping.active_version = revision.version.version
        revision.mapping.revision += 1


def deactivate(revision: Revision) -> None:
    """Leaves the mapping without an active version."""
    if revision.mapping.active_version:
        revision.mapping.active_version = 0
        revision.mapping.revision += 1


def compilable(session: orm.Session, organization_id: str, reference: str, version: int) -> Revision:
    """The active version, or a given validated one; MappingNotActiveError, MappingNotValidatedError."""
    revision = get(session, organization_id, reference, version)
    if version == 0:
        if not revision.mapping.active_version:
            raise MappingNotActiveError(
                f"{reference} has no active version; activate it first", mapping=reference
            )
        revision = _revision(session, revision.mapping, revision.mapping.active_version)
    check_validated(revision)
    return revision


def check_validated(revision: Revision) -> None:
    """Raises MappingNotValidatedError unless the version was validated without a fault."""
    if not revision.version.validated:
        name = f"version {revision.version.version} of {revision.mapping.reference}"
        state = (
            f"has {len(revision.version.faults)} faults"
            if revision.version.validate_time
            else "was not validated"
        )
        raise MappingNotValidatedError(f"{name} {state}", mapping=revision.mapping.reference)


def candidate(session: orm.Session, revision: Revision) -> Candidate:
    """A version, with those mappings that it looks up and that have a version to go by.

    That is the active version, or else the latest validated one.
    """
    definition = revision.definition
    references = {lookup.mapping for _, lookup in definition.looked_up}
    query = mappings(revision.mapping.organization_id).where(Mapping.reference.in_(references))
    usable: dict[str, Definition] = {}
    for row in session.scalars(query).all():
        valid = versions(row).where(MappingVersion.validated)
        if row.active_version:
            valid = valid.where(MappingVersion.version == row.active_version)
        version = session.scalars(valid.order_by(MappingVersion.version.desc()).limit(1)).first()
        if version is not None:
            usable[row.reference] = Revision(row, version).definition
    return Candidate(definition, revision.version.version, usable)


def _in_force(version: type[MappingVersion]) -> sa.ColumnElement[bool]:
    """Whether a version is the latest or the active one of its mapping."""
    numbers = (Mapping.latest_version, Mapping.active_version)
    return sa.and_(version.mapping_id == Mapping.id, version.version.in_(numbers))


def _looking_up(session: orm.Session, mapping: Mapping) -> set[str]:
    """The references of the other mappings whose latest or active version looks a mapping up."""
    query = mappings(mapping.organization_id).where(Mapping.id != mapping.id)
    query = query.join(MappingVersion, _in_force(MappingVersion))
    # The text is there in every document that names the mapping, and in few others: they need not be read.
    text = sa.cast(MappingVersion.columns, sa.Text)
    query = query.where(text.contains(f'"{mapping.reference}"', autoescape=True))
    rows = session.execute(query.with_only_columns(Mapping, MappingVersion))
    return {
        revision.mapping.reference
        for revision in (Revision(*row) for row in rows)
        if any(lookup.mapping == mapping.reference for _, lookup in revision.definition.looked_up)
    }


def _mapping(session: orm.Session, query: sa.Select[Mapping], reference: str) -> Mapping:
    row = session.scalar(query.where(Mapping.reference == reference))
    if row is None:
        raise MappingNotFoundError(f"there is no mapping {reference}", mapping=reference)
    return row


def _revision(session: orm.Session, mapping: Mapping, version: int) -> Revision:
    row = session.get(MappingVersion, (mapping.id, version or mapping.latest_version))
    if row is None:
        raise MappingNotFoundError(f"{mapping.reference} has no version {version}", mapping=mapping.reference)
    return Revision(mapping, row)


def _add_version(session: orm.Session, mapping: Mapping, definition: Definition, creator: str) -> Revision:
    mapping.latest_version += 1
    version = MappingVersion(
        mapping_id=mapping.id,
        version=mapping.latest_version,
        creator=creator,
        columns=_documents(definition.columns),
        **{name: getattr(definition, name) for name in HEADER}
        | {"table_type": definition.table_type.value, "frequency": definition.frequency.value},
    )
    session.add(version)
    session.flush()
    return Revision(mapping, version)


def _documents(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The columns as JSON, exactly as the database will return it."""
    documents: list[dict[str, Any]] = json.loads(
        json.dumps([dataclasses.asdict(column) for column in columns])
    )
    return documents


def _column(document: dict[str, Any]) -> Column:
    lookup = document["lookup"]
    values = document | {
        "key_columns": tuple(document["key_columns"]),
        "scd_type": ScdType(document["scd_type"]),
        "lookup": Lookup(**lookup | {"match_columns": tuple(lookup["match_columns"])}) if lookup else None,
    }
    return Column(**values)
