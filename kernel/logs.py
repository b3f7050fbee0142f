"""Logs: JSON lines on standard error, each with the call that it belongs to."""

import logging
import re
import sys

import structlog

Logger = structlog.stdlib.BoundLogger

_SECRETS = re.compile(r"(?i)\b(password|passwd|pwd|token|secret|authorization)\b(\s*[=:]\s*|\s+bearer\s+)\S+")


def configure(service: str, level: str) -> None:
    """Sends this process's log, that of its libraries included, to standard error."""
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub,
    ]
    structlog.configure(
        processors=[*chain, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("alembic", "sqlalchemy.engine", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def logger(name: str) -> Logger:
    """The log of a module."""
    found: Logger = structlog.stdlib.get_logger(name)
    return found


def _scrub(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Blacks out what looks like a secret: the last belt, since messages are never logged whole."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRETS.sub(r"\1\2•••", value)
    return event
