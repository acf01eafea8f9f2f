"""A Flask route that reads its body, served as the API is: ``python -m bench.bare_flask``."""

from __future__ import annotations

from flask import Flask, Response, request

from common.front import Front
from common.serving import serve, settle
from common.settings import get_settings


def application() -> Front:
    """The application of one process."""
    app = Flask(__name__)
    app.post("/inference")(_length)
    app.get("/livez")(lambda: "ok")
    settle()
    settings = get_settings()
    return Front(app, threads=settings.max_waiters + 32, most=settings.max_body_bytes, memory=settings.max_body_bytes)


def _length() -> Response:
    return Response(b'{"status":"success","bytes":%d}' % len(request.get_data()), mimetype="application/json")


if __name__ == "__main__":
    settings = get_settings()
    serve(
        "bench.bare_flask:application", name="flask", host=settings.api_host, port=settings.api_port,
        processes=settings.api_processes, patience=5,
    )  # fmt: skip
