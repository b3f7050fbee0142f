"""What the jobs service refuses, and why."""

from kernel.errors import AlreadyExistsError, InvalidError, NotFoundError, PreconditionError


class JobNotFoundError(NotFoundError):
    """The organization has no job of this reference."""

    reason = "JOB_NOT_FOUND"


class JobExistsError(AlreadyExistsError):
    """The mapping has a job already."""

    reason = "JOB_EXISTS"


class TargetRefusedError(PreconditionError):
    """The target's database does not let the table be created or extended."""

    reason = "TARGET_REFUSED"


class RunNotFoundError(NotFoundError):
    """The organization has no run of this id."""

    reason = "RUN_NOT_FOUND"


class RunActiveError(PreconditionError):
    """The job has a run under way."""

    reason = "RUN_ACTIVE"


class RunEndedError(PreconditionError):
    """The run has ended."""

    reason = "RUN_ENDED"


class ParametersInvalidError(InvalidError):
    """The parameters given are not those that the job uses."""

    reason = "PARAMETERS_INVALID"


class LeaseLostError(Exception):
    """A worker's lease of a run has expired or passed to another one; never sent, the worker just lets go."""
