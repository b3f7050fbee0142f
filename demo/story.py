"""The demonstration's course: what it does against a running suite, and what it tells about it."""

from pathlib import Path

import grpc
from rich.text import Text

from cli import mapping, run, show
from cli.client import RUN_FAILED, Client, CommandError, as_call, pages
from cli.connection import rows_table
from demo import source, warehouse, workbook
from portolan.connections.v1.connections_pb2 import (
    Connection,
    CreateConnectionRequest,
    FilesSettings,
    PreviewRowsRequest,
    PreviewRowsResponse,
    TestConnectionRequest,
    UpdateConnectionRequest,
)
from portolan.jobs.v1.jobs_pb2 import CreateJobRequest, GetJobRequest, Job, RefreshJobRequest, RunJobRequest
from portolan.jobs.v1.runs_pb2 import ListRejectedRowsRequest, LogLine, RejectedRow, Run, StopRunRequest
from portolan.mapper.v1.mappings_pb2 import ActivateMappingRequest, ValidateMappingRequest

_ACTIVE = {Run.STATE_QUEUED, Run.STATE_RUNNING, Run.STATE_STOPPING}


class Story:
    """The demonstration over a data folder; the tables go to `schema` of the connection `warehouse`."""

    def __init__(self, client: Client, data: Path, schema: str) -> None:
        self._client = client
        self._data = data
        self._files = data / "flights"
        self._schema = schema

    def play(self, target: Connection) -> None:
        """Plays all of it; raises CommandError or grpc.RpcError where something fails."""
        self._connect(target)
        self._map()
        heading("First load")
        first = self._load()
        self._check_flights()
        heading("The warehouse")
        self._show_warehouse()
        heading("The source changes")
        for sentence in source.change(self._files):
            show.out.print(f"  {sentence}")
        heading("Second load")
        second = self._load()
        self._check_flights()
        heading("What became of the rows")
        self._compare(first, second)
        self._show_history()
        self._show_rejected(second)

    def _connect(self, target: Connection) -> None:
        heading("Source and warehouse")
        files = source.rows(self._files)
        show.out.print(show.table(["FILE", "#ROWS"], files.items()))
        folder = FilesSettings(path=self._files.name)
        described = Connection(
            name=workbook.SOURCE, description="Flights from New York City, as CSV", files=folder
        )
        for connection in (described, target):
            self._put_connection(connection)
            answer = self._client.connections.TestConnection(TestConnectionRequest(name=connection.name))
            done(f"{connection.name} answers: {answer.server}, in {show.duration(answer.latency)}")

    def _put_connection(self, connection: Connection) -> None:
        try:
            self._client.connections.CreateConnection(CreateConnectionRequest(connection=connection))
        except grpc.RpcError as error:
            if as_call(error).code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            self._client.connections.UpdateConnection(
                UpdateConnectionRequest(name=connection.name, connection=connection)
            )

    def _map(self) -> None:
        heading("Mappings and jobs")
        path = self._data / workbook.FILE.name
        workbook.write(path, self._schema)
        imported = self._client.mappings.ImportMappings(mapping.upload(path.name, path.read_bytes()))
        done(f"imported {len(imported.mappings)} mappings from {path}")
        for reference in warehouse.TABLES:  # in order: a mart is checked against the tables that jobs create
            result = self._client.mappings.ValidateMapping(ValidateMappingRequest(reference=reference))
            if result.faults:
                show.out.print(*mapping.validation(reference, result), sep="\n")
                raise CommandError(f"The mapping {reference} has faults.")
            self._client.mappings.ActivateMapping(ActivateMappingRequest(reference=reference))
            job = self._put_job(reference)
            done(f"{reference} is valid, active in version {result.version}, and loads {job.target}")

    def _put_job(self, reference: str) -> Job:
        try:
            return self._client.jobs.CreateJob(CreateJobRequest(reference=reference))
        except grpc.RpcError as error:
            if as_call(error).code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        latest = self._client.jobs.GetJob(GetJobRequest(reference=reference)).latest_run
        if latest.state in _ACTIVE:  # of a demonstration that was interrupted
            self._client.runs.StopRun(StopRunRequest(run_id=latest.id))
            run.follow(self._client, latest.id, lambda _line: None)
        return self._client.jobs.RefreshJob(RefreshJobRequest(reference=reference))

    def _load(self) -> dict[str, Run]:
        runs: dict[str, Run] = {}
        for reference in warehouse.TABLES:
            show.out.print(Text(f"\n{reference}", "bold"))
            started = self._client.jobs.RunJob(RunJobRequest(reference=reference))
            ended = run.follow(self._client, started.id, _show_line)
            show.out.print(run.outcome(ended))
            if ended.state != Run.STATE_SUCCEEDED:
                raise CommandError(f"The run of {reference} did not succeed.", RUN_FAILED)
            runs[reference] = ended
        return runs

    def _check_flights(self) -> None:
        """Holds the fact table against the file, counted by other means."""
        counted = source.tally(self._files)
        [totals] = self._ask(warehouse.flight_totals(self._schema)).rows
        loaded = source.Tally(*(int(str(value).partition(".")[0]) for value in totals))
        if loaded != counted:
            raise CommandError(f"FCT_FLIGHT holds {loaded}, but the file holds {counted}.", RUN_FAILED)
        show.out.print()
        done(
            f"FCT_FLIGHT equals flights.csv, counted by plain Python: {counted.flights:,} flights, "
            f"{counted.distance:,} miles, {counted.arrival_delay:,} minutes late, {counted.cancelled:,} "
            "cancelled"
        )

    def _show_warehouse(self) -> None:
        [counts] = self._ask(warehouse.row_counts(self._schema)).rows
        rows = [(name, int(float(str(count)))) for name, count in zip(warehouse.TABLES, counts, strict=True)]
        show.out.print(show.table(["TABLE", "#ROWS"], rows))
        self._show_rows("The latest arrivals", warehouse.flights(self._schema))
        self._show_rows("The airlines that are late most, by the mart", warehouse.delays(self._schema))

    def _compare(self, first: dict[str, Run], second: dict[str, Run]) -> None:
        drawn = []
        for reference, ended in second.items():
            rows = ended.rows
            drawn.append(
                (
                    reference, rows.source, rows.inserted, rows.updated, rows.closed, rows.unchanged,
                    rows.rejected,
                    show.elapsed(first[reference].start_time, first[reference].end_time),
                    show.elapsed(ended.start_time, ended.end_time),
                )
            )  # fmt: skip
        heads = ["TABLE", "#READ", "#NEW", "#UPDATED", "#CLOSED", "#SAME", "#REJECTED", "#1ST", "#2ND"]
        show.out.print(show.table(heads, drawn))

    def _show_history(self) -> None:
        self._show_rows(
            f"{source.RENAMED_CARRIER} was renamed: its version is closed, another one opened (SCD 2)",
            warehouse.carrier_history(self._schema, source.RENAMED_CARRIER),
        )
        self._show_rows(
            f"{source.REENGINED_PLANE} got other engines: likewise",
            warehouse.plane_history(self._schema, source.REENGINED_PLANE),
        )
        self._show_rows(
            f"{source.REFITTED_PLANE} got more seats: its version is overwritten (SCD 1)",
            warehouse.plane_history(self._schema, source.REFITTED_PLANE),
        )
        [flown] = self._ask(warehouse.arrivals(self._schema, source.NEW_AIRPORT)).rows
        flights, known = (int(float(str(value))) for value in flown)
        if known != flights:
            raise CommandError(f"{flights - known} flights do not know {source.NEW_AIRPORT}.", RUN_FAILED)
        show.out.print(f"{source.NEW_AIRPORT} is new: {known:,} flights that went there now refer to it.")

    def _show_rejected(self, runs: dict[str, Run]) -> None:
        rows: list[RejectedRow] = []
        for ended in runs.values():
            request = ListRejectedRowsRequest(run_id=ended.id)
            rows += pages(self._client.runs.ListRejectedRows, request, lambda page: page.rejected_rows)
        show.out.print(Text(f"\n{len(rows)} rows were rejected, and all others loaded", "italic"))
        show.out.print(run.rejected_table(rows))

    def _ask(self, query: str) -> PreviewRowsResponse:
        request = PreviewRowsRequest(connection=workbook.WAREHOUSE, query=query)
        return self._client.connections.PreviewRows(request)

    def _show_rows(self, title: str, query: str) -> None:
        found = self._ask(query)
        show.out.print(Text(f"\n{title}", "italic"))
        show.out.print(rows_table([column.name for column in found.columns], list(found.rows)))


def heading(text: str) -> None:
    """Begins a chapter."""
    show.out.print()
    show.out.rule(Text(text, "bold"), align="left", style="dim")


def done(text: str) -> None:
    """Says what was achieved."""
    show.out.print(Text.assemble(("✓ ", "green"), text))


def _show_line(line: LogLine) -> None:
    show.out.print(run.line_text(line))
