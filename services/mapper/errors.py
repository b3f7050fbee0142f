"""What the mapper refuses, one class for each distinct reaction of a client."""

from kernel.errors import AlreadyExistsError, InvalidError, NotFoundError, PreconditionError


class MappingNotFoundError(NotFoundError):
    """No mapping has this reference, or it has no such version."""

    reason = "MAPPING_NOT_FOUND"


class MappingExistsError(AlreadyExistsError):
    """A mapping of this reference exists."""

    reason = "MAPPING_EXISTS"


class MappingInUseError(PreconditionError):
    """A job was created from the mapping, or other mappings look it up."""

    reason = "MAPPING_IN_USE"


class MappingNotValidatedError(PreconditionError):
    """The version was not validated, or has faults."""

    reason = "MAPPING_NOT_VALIDATED"


class MappingNotActiveError(PreconditionError):
    """The mapping has no active version."""

    reason = "MAPPING_NOT_ACTIVE"


class WorkbookRefusedError(InvalidError):
    """The upload is no workbook or CSV file that can be read."""

    reason = "WORKBOOK_REFUSED"


class WorkbookInvalidError(InvalidError):
    """Cells do not fit their fields; `fields` names each, as `Sheet!C7`."""

    reason = "WORKBOOK_INVALID"
