"""The log of every process: one handler, one line per event, console text or JSON, on standard error.

Modules write with ``logging.getLogger(__name__)`` and pass facts as ``extra={...}``, or with
``structlog.get_logger()``; both come out the same.
"""

import logging
import os
import sys
from collections.abc import Sequence

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from common.settings import Settings

# These log every request or heartbeat at INFO.
TALKATIVE = ("httpx", "httpcore", "urllib3", "kombu", "werkzeug", "celery.worker.strategy", "celery.app.trace")


def configure(settings: Settings, process: str) -> None:
    """Send all logging to standard error, each line with the name of this ``process``; a fork calls it again."""
    shared = _processors(process)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    last = [ProcessorFormatter.remove_processors_meta, *_renderers(settings.log_format)]
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


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


def _renderers(log_format: str) -> list[Processor]:
    # Tracebacks never show local variables: those hold images, keys and passwords.
    if log_format == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
