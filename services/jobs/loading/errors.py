"""How a load can end other than well."""

from typing import ClassVar


class LoadError(Exception):
    """A load that ended without a commit: `reason` for programs, the message for people."""

    reason: ClassVar[str]
    unavailable: ClassVar[bool] = False
    """Whether the same load may succeed a little later."""


class TargetError(LoadError):
    """The target's database refuses a statement; the message is its own."""

    reason = "TARGET_REFUSED"


class TargetDataError(TargetError):
    """A value does not fit its column."""


class TargetUnavailableError(TargetError):
    """The target cannot be opened, was lost on the way, or is locked by somebody else for too long."""

    reason = "CONNECTION_REFUSED"
    unavailable = True


class TargetCancelledError(TargetError):
    """A statement was cancelled: by the load's own stop, or by somebody who may do that in the database."""


class FencedError(LoadError):
    """A newer attempt has claimed the target; this one must change nothing more."""

    reason = "FENCED"


class StoppedError(LoadError):
    """The load was asked to stop."""

    reason = "STOPPED"


class UnconfirmedError(LoadError):
    """Nobody confirmed in time that the load may be committed."""

    reason = "UNCONFIRMED"
    unavailable = True


class CountsDifferError(LoadError):
    """Rows went missing or came from nowhere; nothing was committed."""

    reason = "COUNTS_DIFFER"
