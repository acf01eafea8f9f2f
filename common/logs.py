"""Logging of all processes: one handler, one line per event, console text or JSON.

It imports only :mod:`common.settings`. Modules write with ``logging.getLogger(__name__)`` and pass
facts as ``extra={...}``, or with ``structlog.get_logger()``; both look the same. Nothing here opens a
file: processes write to standard error, and their supervisor redirects it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor, WrappedLogger

    from common.settings import Settings

# These log every request or heartbeat at INFO; keep their warnings.
TALKATIVE = ("httpx", "httpcore", "urllib3", "kombu", "amqp", "werkzeug", "celery.worker.strategy", "celery.app.trace")


def configure(settings: Settings, process: str) -> None:
    """Send all logging of this process to standard error.

    Another call replaces the first, so a forked child may choose another name.

    Args:
        settings: ``log_level`` and ``log_format`` are used.
        process: the process's name in every line, such as ``api`` or ``resnet18-1``.
    """
    shared = _processors(process)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(_output(settings.log_format, shared))
    root.setLevel(settings.log_level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def adopt(*names: str) -> None:
    """Remove the handlers of loggers ``names``, so that each line is written once."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _processors(process: str) -> Sequence[Processor]:
    def identify(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        event.setdefault("pid", os.getpid())
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        identify,
    ]


def _output(log_format: str, shared: Sequence[Processor]) -> logging.Handler:
    # Tracebacks without local variables, which hold images, keys and passwords.
    last: list[Processor]
    if log_format == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last = [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    return handler
