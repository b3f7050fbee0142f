"""`portolan mapping`: mappings as workbooks, checked, activated and compiled."""

import enum
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from rich.console import RenderableType
from rich.syntax import Syntax
from rich.text import Text

from cli import show
from cli.client import REFUSED, USAGE, CommandError, pages
from cli.session import Session, command
from portolan.mapper.v1.mappings_pb2 import (
    ActivateMappingRequest,
    CompileMappingRequest,
    DeactivateMappingRequest,
    DeleteMappingRequest,
    ExportMappingsRequest,
    Fault,
    FileFormat,
    GetMappingRequest,
    GetTemplateRequest,
    ImportMappingsRequest,
    ListMappingsRequest,
    ListMappingsResponse,
    Mapping,
    MappingColumn,
    ScdType,
    TableType,
    ValidateMappingRequest,
    ValidateMappingResponse,
)
from portolan.mapper.v1.plan_pb2 import LoadPlan

app = typer.Typer(no_args_is_help=True, help="Write mappings, check them, and make them active.")

Reference = Annotated[str, typer.Argument(help="The mapping's reference.")]
Version = Annotated[int, typer.Option(min=0, help="The version; 0 is the default one.")]

CHUNK = 256 << 10
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class Format(enum.StrEnum):
    """How a file of mappings is written."""

    XLSX = "xlsx"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--format", help="An Excel workbook, or CSV of one mapping.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The file to write.")]


@command(app, "import")
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A workbook, a mapping a sheet, or a CSV file.")],
    *,
    validate_only: Annotated[bool, typer.Option(help="Only check the file; save nothing.")] = False,
) -> None:
    """Imports mappings from a file, all of them or none."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"The file {file} cannot be read: {error.strerror}.", USAGE) from None
    with session.busy(f"Importing {file.name}"):
        imported = session.client.mappings.ImportMappings(
            upload(file.name, content, validate_only=validate_only)
        )
    session.show(
        imported,
        show.table(
            ["MAPPING", "SHEET", "#VERSION", ""],
            [
                (row.reference, row.sheet, row.version, "new version" if row.changed else "unchanged")
                for row in imported.mappings
            ],
        ),
    )


@command(app, "export")
def export(
    session: Session,
    references: Annotated[
        list[str] | None, typer.Argument(help="The mappings; all when none is given.")
    ] = None,
    *,
    output: Output = None,
    format_: FormatOption = Format.XLSX,
    mark_faults: Annotated[bool, typer.Option(help="Mark each faulty cell with its fault.")] = False,
) -> None:
    """Writes mappings as a workbook or CSV file that `import` reads back."""
    request = ExportMappingsRequest(
        references=references or [], format=_format(format_), mark_faults=mark_faults
    )
    _save(session, output or Path(f"mappings.{format_}"), session.client.mappings.ExportMappings(request))


@command(app, "template")
def template(session: Session, *, output: Output = None, format_: FormatOption = Format.XLSX) -> None:
    """Writes a blank workbook or CSV file to fill in."""
    request = GetTemplateRequest(format=_format(format_))
    _save(session, output or Path(f"template.{format_}"), session.client.mappings.GetTemplate(request))


@command(app, "list")
def list_(
    session: Session,
    *,
    search: Annotated[str, typer.Option(help="Only mappings that contain these words.")] = "",
    connection: Annotated[str, typer.Option(help="Only mappings that read or load this connection.")] = "",
) -> None:
    """Lists mappings."""
    request = ListMappingsRequest(search=search, connection=connection)
    found = ListMappingsResponse(
        mappings=pages(session.client.mappings.ListMappings, request, lambda page: page.mappings)
    )
    session.show(
        found,
        show.table(
            ["MAPPING", "TYPE", "SOURCE", "TARGET", "#VERSION", "#ACTIVE", "VALID"],
            [
                (
                    row.reference,
                    show.name_of(TableType.Name(row.table_type), "TABLE_TYPE").lower(),
                    row.source_connection,
                    f"{row.target_schema}.{row.target_table}",
                    row.version,
                    row.active_version or "",
                    row.validated,
                )
                for row in found.mappings
            ],
        ),
    )


@command(app, "show")
def show_(session: Session, reference: Reference, *, version: Version = 0) -> None:
    """Shows a mapping and its columns, in its latest or a given version."""
    found = session.client.mappings.GetMapping(GetMappingRequest(reference=reference, version=version))
    texts = dict.fromkeys(column.logic for column in found.columns if column.logic)
    logics = {text: number for number, text in enumerate(texts, 1)}
    session.show(
        found,
        show.facts(
            [
                ("Mapping", found.reference),
                ("Description", found.description),
                ("Reads", found.source_connection),
                ("Loads", f"{found.target_schema}.{found.target_table} of {found.target_connection}"),
                ("Type", show.name_of(TableType.Name(found.table_type), "TABLE_TYPE").lower()),
                ("Version", f"{found.version}, {'validated' if found.validated else 'not validated'}"),
                ("Active version", found.active_version or "none"),
                ("Changed", show.moment(found.update_time)),
            ]
        ),
        "",
        show.table(
            ["COLUMN", "TYPE", "#KEY", "SCD", "FROM"],
            [
                (
                    column.name,
                    column.data_type,
                    column.key_sequence if column.key else "",
                    _scd(found, column),
                    _origin(column, logics),
                )
                for column in found.columns
            ],
        ),
        *(part for logic, number in logics.items() for part in _logic(logic, number)),
    )


@command(app, "validate")
def validate(
    session: Session, references: Annotated[list[str], typer.Argument(help="The mappings.")]
) -> None:
    """Checks mappings against every rule and the live source; ends with 1 when there are faults."""
    found: dict[str, ValidateMappingResponse] = {}
    for reference in references:
        with session.busy(f"Validating {reference}"):
            request = ValidateMappingRequest(reference=reference)
            found[reference] = session.client.mappings.ValidateMapping(request)
    drawn = (part for reference, result in found.items() for part in validation(reference, result))
    session.show_each(found, *drawn)
    if any(result.faults for result in found.values()):
        raise typer.Exit(REFUSED)


@command(app, "activate")
def activate(
    session: Session, references: Annotated[list[str], typer.Argument(help="The mappings.")]
) -> None:
    """Makes the latest version of mappings the active one, from which jobs are created."""
    active: dict[str, Mapping] = {}
    for reference in references:
        request = ActivateMappingRequest(reference=reference)
        active[reference] = session.client.mappings.ActivateMapping(request)
    session.show_each(
        active, *(f"{name} is active in version {found.active_version}." for name, found in active.items())
    )


@command(app, "deactivate")
def deactivate(session: Session, reference: Reference) -> None:
    """Leaves a mapping without an active version. Its job keeps its version."""
    mapping = session.client.mappings.DeactivateMapping(DeactivateMappingRequest(reference=reference))
    session.show(mapping, f"{reference} has no active version.")


@command(app, "plan")
def plan(session: Session, reference: Reference, *, version: Version = 0) -> None:
    """Shows the statements that a mapping compiles to."""
    request = CompileMappingRequest(reference=reference, version=version)
    compiled = session.client.mappings.CompileMapping(request)
    session.show(compiled, *_statements(compiled))


@command(app, "delete")
def delete(session: Session, reference: Reference) -> None:
    """Deletes a mapping and its versions."""
    session.client.mappings.DeleteMapping(DeleteMappingRequest(reference=reference))
    session.show(Empty(), f"The mapping {reference} is deleted.")


def upload(name: str, content: bytes, *, validate_only: bool = False) -> Iterator[ImportMappingsRequest]:
    """A file in pieces, as ImportMappings takes it."""
    content_type = "text/csv" if name.lower().endswith(".csv") else _XLSX
    for start in range(0, max(len(content), 1), CHUNK):
        yield ImportMappingsRequest(
            file=HttpBody(content_type=content_type, data=content[start : start + CHUNK]),
            validate_only=validate_only,
        )


def validation(reference: str, result: ValidateMappingResponse) -> list[RenderableType]:
    """What a validation found, each fault with its place."""
    if not result.faults:
        return [f"{reference} version {result.version} is valid."]
    number = len(result.faults)
    return [
        Text(f"{reference} version {result.version} has {number} fault{'s' if number > 1 else ''}.", "red"),
        show.table(
            ["CELL", "#ROW", "COLUMN", "FIELD", "FAULT"],
            [
                (
                    fault.cell,
                    fault.row or "",
                    fault.column,
                    fault.field,
                    f"{fault.message}{_place(fault)} ({_reason(fault)})",
                )
                for fault in result.faults
            ],
        ),
    ]


def _reason(fault: Fault) -> str:
    return show.name_of(Fault.Reason.Name(fault.reason), "REASON")


def _place(fault: Fault) -> str:
    if not fault.line:
        return ""
    return f" at line {fault.line}" + (f", character {fault.position}" if fault.position else "")


def _format(chosen: Format) -> FileFormat.ValueType:
    return FileFormat.Value(f"FILE_FORMAT_{chosen.name}")


def _save(session: Session, path: Path, parts: Iterable[HttpBody]) -> None:
    content = b"".join(part.data for part in parts)
    path.write_bytes(content)
    session.show(Empty(), f"Wrote {path}, {len(content):,} bytes.")


def _scd(mapping: Mapping, column: MappingColumn) -> str:
    if mapping.table_type != TableType.TABLE_TYPE_DIMENSION or column.key:
        return ""
    return "2" if column.scd_type == ScdType.SCD_TYPE_NEW_VERSION else "1"


def _origin(column: MappingColumn, logics: dict[str, int]) -> str:
    if column.HasField("lookup"):
        return f"surrogate key of {column.lookup.mapping} by {', '.join(column.lookup.match_columns)}"
    return f"{column.value_column} of logic {logics[column.logic]}" if column.logic else ""


def _logic(text: str, number: int) -> Iterator[RenderableType]:
    yield Text(f"\nLogic {number}", "bold")
    yield _sql(text)


def _sql(text: str) -> RenderableType:
    return Syntax(text, "sql", word_wrap=True, background_color="default")


def _statements(compiled: LoadPlan) -> Iterator[RenderableType]:
    named = [
        ("Source query, in the source", compiled.source_query),
        ("Target table", compiled.target.create_table),
        *(("Index", statement) for statement in compiled.target.create_indexes),
        ("Stage", compiled.stage.create),
        ("Fill of the stage, without leaving the database", compiled.stage.fill),
        ("First load", compiled.merge.insert_all),
        ("Changes", compiled.merge.create_delta),
        *(("Merge", statement) for statement in compiled.merge.apply),
    ]
    for name, statement in named:
        if statement:
            yield Text(name, "bold")
            yield _sql(statement)
