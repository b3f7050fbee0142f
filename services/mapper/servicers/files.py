"""Files in streams of `HttpBody`: uploads, with or without a form around them, and downloads."""

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from google.api.httpbody_pb2 import HttpBody
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import File, FormParser, parse_options_header

from kernel.errors import FieldInvalidError
from portolan.mapper.v1 import mappings_pb2 as pb
from services.mapper.domain.mappings import Revision
from services.mapper.errors import WorkbookRefusedError
from services.mapper.workbook import Sheet, read_csv, read_xlsx, write_csv, write_xlsx
from services.mapper.workbook.grids import MAX_BYTES

MAX_FORM_BYTES = MAX_BYTES + 64 * 1024
CHUNK_BYTES = 256 * 1024
MAX_EXPORTED = 200
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV = "text/csv"


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    content: bytes
    is_csv: bool
    validate_only: bool

    def sheets(self) -> list[Sheet]:
        """The mappings in it."""
        return [read_csv(self.content)] if self.is_csv else read_xlsx(self.content)


async def received(requests: AsyncIterator[pb.ImportMappingsRequest]) -> Upload:
    """The file that a client streams; WorkbookRefusedError when it is too large or its form is broken."""
    content, kind, validate_only = bytearray(), "", False
    async for request in requests:
        kind = kind or request.file.content_type
        validate_only = validate_only or request.validate_only
        content += request.file.data
        if len(content) > MAX_FORM_BYTES:
            raise WorkbookRefusedError(f"the file is larger than {MAX_BYTES // 2**20} MiB")
    essence, options = parse_options_header(kind.encode())
    if essence == b"multipart/form-data":
        return _unwrapped(bytes(content), options.get(b"boundary", b""), validate_only=validate_only)
    return Upload(bytes(content), essence == CSV.encode(), validate_only)


def _unwrapped(content: bytes, boundary: bytes, *, validate_only: bool) -> Upload:
    """The first file of a form."""
    files: list[File] = []
    options = {"MAX_MEMORY_FILE_SIZE": MAX_FORM_BYTES}
    try:
        parser = FormParser("multipart/form-data", None, files.append, boundary=boundary, config=options)
        parser.write(content)
        parser.finalize()
    except (FormParserError, MultipartParseError, ValueError) as error:
        raise WorkbookRefusedError("the form around the file is broken") from error
    if not files:
        raise WorkbookRefusedError("the form holds no file")
    file = files[0]
    file.file_object.seek(0)
    named_csv = (file.file_name or b"").lower().endswith(b".csv")
    typed_csv = (file.content_type or "").partition(";")[0].strip() == CSV
    return Upload(file.file_object.read(), named_csv or typed_csv, validate_only)


def exported(revisions: Sequence[Revision], *, csv: bool, mark_faults: bool) -> tuple[bytes, str]:
    """Mappings as a file, and its name; FieldInvalidError when such a file cannot hold as many."""
    found = [revision.definition for revision in revisions]
    if csv:
        if len(found) != 1:
            _refuse("format", "a CSV file holds exactly one mapping: name it, or ask for XLSX")
        return write_csv(found[0]), f"{found[0].reference}_data.csv"
    if not 0 < len(found) <= MAX_EXPORTED:
        _refuse("references", f"there are {len(found)} mappings; a workbook holds 1 to {MAX_EXPORTED}")
    faults = {
        revision.mapping.reference: [(f["row"], f["field"], f["message"]) for f in revision.version.faults]
        for revision in revisions
        if mark_faults
    }
    name = found[0].reference if len(found) == 1 else "mappings"
    return write_xlsx(found, faults), f"{name}_data.xlsx"


def pieces(content: bytes, content_type: str) -> Iterator[HttpBody]:
    """A file as a stream."""
    stream = io.BytesIO(content)
    while data := stream.read(CHUNK_BYTES):
        yield HttpBody(content_type=content_type, data=data)


def _refuse(field: str, message: str) -> NoReturn:
    raise FieldInvalidError(f"{field}: {message}", fields={field: message})
