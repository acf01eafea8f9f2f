"""``python -m api``: the API, in ``API_PROCESSES`` processes."""

from __future__ import annotations

import sys

from api.app import create_app
from api.features.webhooks.sender import running_sender
from api.http import auth, errors
from api.input.json_body import MAX_CONTAINERS
from api.services import service
from common import logs
from common.front import Front
from common.serving import serve, settle
from common.settings import SettingsError, get_settings
from tasks.protocol.payloads import store_at
from worker_models.machine import return_large_buffers, share_one_arena

#: Bytes from which on a body, usually of a batch, returns its memory to the system after use.
LARGE_BODY = 1024 * 1024


def application() -> Front:
    """The application of one process."""
    settings = get_settings()
    logs.configure(settings, "api")
    app = create_app(settings)
    if settings.webhook_secret:
        with app.app_context():
            service(running_sender)  # sends webhooks left by an earlier process
    return_large_buffers(LARGE_BODY)
    share_one_arena()
    settle()
    return Front(
        app,
        # Each waiting caller holds a thread, at most MAX_WAITERS in a process; quick answers use the others.
        threads=settings.max_waiters + 32,
        most=settings.max_body_bytes,
        memory=settings.body_memory or 4 * settings.max_body_bytes,
        admits=auth.admits(app, settings),
        refuses=app.extensions[errors.REFUSALS],
        containers=MAX_CONTAINERS,
        pages=frozenset({"/inference", "/ops/snapshot", "/metrics"}),
    )


def main() -> None:
    """Serve until stopped; waiting callers still get their answers."""
    settings = get_settings()
    try:
        create_app(settings)  # report wrong settings once, not in each process
        store_at(settings.payload_store)
    except SettingsError as error:
        sys.exit(str(error))
    serve(
        "api.__main__:application",
        name="api",
        host=settings.api_host,
        port=settings.api_port,
        processes=settings.api_processes,
        patience=settings.max_wait + 5,
        access_log=settings.access_log,
    )


if __name__ == "__main__":
    main()
