"""What this service refuses, one class for each distinct reaction of a client."""

from kernel.errors import (
    ExhaustedError,
    InvalidError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)


class EnrolmentClosedError(PreconditionError):
    """The first administrator exists already."""

    reason = "ENROLMENT_CLOSED"


class EnrolmentCodeRefusedError(PermissionDeniedError):
    """The enrolment code is wrong or too old."""

    reason = "ENROLMENT_CODE_REFUSED"


class CredentialsRefusedError(UnauthenticatedError):
    """User and password do not match an active user; which of them is wrong is never said."""

    reason = "CREDENTIALS_REFUSED"


class LoginThrottledError(ExhaustedError):
    """Too many failed attempts."""

    reason = "LOGIN_THROTTLED"


class RefreshTokenRefusedError(UnauthenticatedError):
    """The refresh token is unknown or expired, or its session has ended."""

    reason = "REFRESH_TOKEN_REFUSED"


class RefreshTokenReusedError(UnauthenticatedError):
    """The refresh token was used before, so its session is ended."""

    reason = "REFRESH_TOKEN_REUSED"


class PasswordWeakError(InvalidError):
    """The password is too short or too easy to guess."""

    reason = "PASSWORD_WEAK"
