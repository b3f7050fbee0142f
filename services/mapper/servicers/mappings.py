"""The servicer: message → one transaction → domain → message; nothing remote is asked inside one."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty

from kernel.auth import principal
from kernel.db import Database
from kernel.resources import check_etag, enum_name, merge, page
from portolan.mapper.v1 import mappings_pb2 as pb
from portolan.mapper.v1 import mappings_pb2_grpc as rpc
from portolan.mapper.v1 import plan_pb2
from services.mapper.clients import Clients
from services.mapper.domain import mappings
from services.mapper.errors import MappingInUseError
from services.mapper.models import Mapping, MappingVersion
from services.mapper.servicers.files import CSV, XLSX, Upload, exported, pieces, received
from services.mapper.servicers.inspection import compiled, inspect
from services.mapper.servicers.messages import (
    MUTABLE,
    TABLE_TYPES,
    check_sheet,
    definition_of,
    to_fault,
    to_imported,
    to_mapping,
)
from services.mapper.workbook import write_csv, write_xlsx

if TYPE_CHECKING:
    import grpc


class MappingServicer(rpc.MappingServiceServicer):
    """Keeps mappings and their versions, checks and compiles them."""

    def __init__(self, database: Database, clients: Clients) -> None:
        self._database = database
        self._clients = clients

    def CreateMapping(self, request: pb.CreateMappingRequest, context: "grpc.ServicerContext") -> pb.Mapping:
        """The mapping in version 1."""
        caller, definition = principal(), definition_of(request.mapping)
        with self._database.transaction() as session:
            return to_mapping(mappings.create(session, caller.organization_id, definition, caller.user_id))

    def GetMapping(self, request: pb.GetMappingRequest, context: "grpc.ServicerContext") -> pb.Mapping:
        """A mapping in a version."""
        with self._database.read() as session:
            organization = principal().organization_id
            return to_mapping(mappings.get(session, organization, request.reference, request.version))

    def ListMappings(
        self, request: pb.ListMappingsRequest, context: "grpc.ServicerContext"
    ) -> pb.ListMappingsResponse:
        """A page of mappings in their latest versions."""
        organization, table_type = principal().organization_id, enum_name(TABLE_TYPES, request.table_type)
        query = mappings.found(organization, request.search, table_type, request.connection)
        with self._database.read() as session:
            rows, token = page(session, query, Mapping.reference, request)
            found = [to_mapping(row, columns=False) for row in mappings.latest(session, rows)]
        return pb.ListMappingsResponse(mappings=found, next_page_token=token)

    def ListMappingVersions(
        self, request: pb.ListMappingVersionsRequest, context: "grpc.ServicerContext"
    ) -> pb.ListMappingVersionsResponse:
        """A page of a mapping's versions, the newest first."""
        with self._database.read() as session:
            mapping = mappings.get(session, principal().organization_id, request.reference).mapping
            query = mappings.versions(mapping)
            rows, token = page(session, query, MappingVersion.version, request, descending=True)
            found = [to_mapping(mappings.Revision(mapping, row), columns=False) for row in rows]
        return pb.ListMappingVersionsResponse(versions=found, next_page_token=token)

    def UpdateMapping(self, request: pb.UpdateMappingRequest, context: "grpc.ServicerContext") -> pb.Mapping:
        """The mapping in the new version, or as it was."""
        caller = principal()
        with self._database.transaction() as session:
            revision = mappings.lock(session, caller.organization_id, request.reference)
            check_etag(revision.mapping, request.mapping.etag)
            message = to_mapping(revision)
            merge(message, request.mapping, request.update_mask, MUTABLE)
            return to_mapping(mappings.change(session, revision, definition_of(message), caller.user_id))

    def DeleteMapping(self, request: pb.DeleteMappingRequest, context: "grpc.ServicerContext") -> Empty:
        """Nothing; the mapping is gone."""
        organization, reference = principal().organization_id, request.reference
        with self._database.read() as session:
            mappings.get(session, organization, reference)
        # A job that is made after this question does no harm: it runs the plan that it keeps.
        if self._clients.has_job(reference):
            raise MappingInUseError(f"a job of {reference} exists; delete it first", mapping=reference)
        with self._database.transaction() as session:
            mapping = mappings.lock(session, organization, reference).mapping
            check_etag(mapping, request.etag)
            mappings.delete(session, mapping)
        return Empty()

    def ValidateMapping(
        self, request: pb.ValidateMappingRequest, context: "grpc.ServicerContext"
    ) -> pb.ValidateMappingResponse:
        """Every fault of the latest version."""
        organization, reference = principal().organization_id, request.reference
        with self._database.read() as session:
            candidate = mappings.candidate(session, mappings.get(session, organization, reference))
        faults = inspect(candidate, self._clients)
        with self._database.transaction() as session:
            mappings.record(mappings.get(session, organization, reference, candidate.version).version, faults)
        return pb.ValidateMappingResponse(version=candidate.version, faults=map(to_fault, faults))

    def ActivateMapping(
        self, request: pb.ActivateMappingRequest, context: "grpc.ServicerContext"
    ) -> pb.Mapping:
        """The mapping, with its latest version active."""
        with self._database.transaction() as session:
            revision = mappings.lock(session, principal().organization_id, request.reference)
            check_etag(revision.mapping, request.etag)
            mappings.activate(revision)
        return to_mapping(revision)

    def DeactivateMapping(
        self, request: pb.DeactivateMappingRequest, context: "grpc.ServicerContext"
    ) -> pb.Mapping:
        """The mapping, without an active version."""
        with self._database.transaction() as session:
            revision = mappings.lock(session, principal().organization_id, request.reference)
            check_etag(revision.mapping, request.etag)
            mappings.deactivate(revision)
        return to_mapping(revision)

    def CompileMapping(
        self, request: pb.CompileMappingRequest, context: "grpc.ServicerContext"
    ) -> plan_pb2.LoadPlan:
        """The plan of a version."""
        organization = principal().organization_id
        with self._database.read() as session:
            revision = mappings.compilable(session, organization, request.reference, request.version)
            candidate = mappings.candidate(session, revision)
        return compiled(candidate, self._clients)

    async def ImportMappings(
        self, request: AsyncIterator[pb.ImportMappingsRequest], context: "grpc.ServicerContext"
    ) -> pb.ImportMappingsResponse:
        """What was saved of a file, mapping by mapping."""
        return await asyncio.to_thread(self._import, await received(request))

    async def ExportMappings(
        self, request: pb.ExportMappingsRequest, context: "grpc.ServicerContext"
    ) -> AsyncIterator[HttpBody]:
        """Mappings as a file."""
        content, name = await asyncio.to_thread(self._export, request)
        kind = CSV if request.format == pb.FILE_FORMAT_CSV else XLSX
        await _announce(context, name)
        for piece in pieces(content, kind):
            yield piece

    async def GetTemplate(
        self, request: pb.GetTemplateRequest, context: "grpc.ServicerContext"
    ) -> AsyncIterator[HttpBody]:
        """A blank file."""
        csv = request.format == pb.FILE_FORMAT_CSV
        content = write_csv(None) if csv else await asyncio.to_thread(write_xlsx, [])
        await _announce(context, f"mapper_template.{'csv' if csv else 'xlsx'}")
        for piece in pieces(content, CSV if csv else XLSX):
            yield piece

    def _import(self, upload: Upload) -> pb.ImportMappingsResponse:
        caller, sheets = principal(), upload.sheets()
        for sheet in sheets:
            check_sheet(sheet)
        with self._database.read() if upload.validate_only else self._database.transaction() as session:
            save = mappings.preview if upload.validate_only else mappings.save
            # In one order for all, lest two imports wait for each other.
            outcomes = {
                sheet.definition.reference: save(session, caller, sheet)
                for sheet in sorted(sheets, key=lambda sheet: sheet.definition.reference)
            }
        return pb.ImportMappingsResponse(mappings=[to_imported(sheet, outcomes) for sheet in sheets])

    def _export(self, request: pb.ExportMappingsRequest) -> tuple[bytes, str]:
        """The file and its name."""
        with self._database.read() as session:
            revisions = mappings.exported(session, principal().organization_id, request.references)
        return exported(revisions, csv=request.format == pb.FILE_FORMAT_CSV, mark_faults=request.mark_faults)


async def _announce(context: Any, name: str) -> None:
    """Tells browsers the name to save a file under; the context of a stream is one of the loop's."""
    header = (("content-disposition", f'attachment; filename="{name}"'),)
    await context.send_initial_metadata(header)
