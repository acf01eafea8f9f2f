"""The routes behind the page, below ``/ui``: each passes one thing on to the API with the key of whoever has logged in.

The page is the only caller meant here. What changes something must come from the page itself: it has to carry a header
that no other site can send without asking, and the session cookie goes to no other site's requests.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from dashboard import actions, rows
from dashboard.drill import Drills
from dashboard.feed import Feeds
from dashboard.loadtest import LoadTests, Plan
from dashboard.sessions import COOKIE, LIFETIME, Sessions
from dashboard.upstream import Answer, Refused, Upstream, UpstreamError
from dashboard.view import WINDOWS, charts

if TYPE_CHECKING:
    from common.settings import Settings

log = logging.getLogger(__name__)
blueprint = Blueprint("ui", __name__, url_prefix="/ui")

EXTENSION = "inferlane-dashboard"
HEADER = "X-Inferlane-Ui"
#: Bytes of an order; every order of the page has a few hundred.
MAX_ORDER = 64 * 1024
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a listing may be asked for.
FILTERS = ("status", "model_type", "model", "worker", "request_id", "since", "until", "limit", "cursor")
#: What a dashboard that only looks may still do.
HARMLESS = frozenset({"ui.login", "ui.logout"})
GONE = 410
LONGEST_KEY = 512


@dataclass(frozen=True, slots=True)
class Backend:
    """What the routes of one dashboard share."""

    upstream: Upstream
    feeds: Feeds
    sessions: Sessions
    load: LoadTests
    drills: Drills
    read_only: bool = False


def backend_for(settings: Settings, upstream: Upstream | None = None) -> Backend:
    """The backend that speaks to the API the settings name."""
    upstream = upstream or Upstream(settings.base_url)
    # A heartbeat is late when three in a row are missing, as the lease has it.
    feeds = Feeds(upstream, late_after=3 * settings.lease_renew)
    return Backend(
        upstream, feeds, Sessions(), LoadTests(upstream.base_url), Drills(upstream), settings.dashboard_read_only
    )


def register(server: Flask, backend: Backend) -> None:
    """Add the routes to the server of the page."""
    server.extensions[EXTENSION] = backend
    server.register_blueprint(blueprint)


def _backend() -> Backend:
    backend: Backend = current_app.extensions[EXTENSION]
    return backend


def _key() -> str:
    return _backend().sessions.key(request.cookies.get(COOKIE))


@blueprint.before_request
def _from_this_page() -> tuple[Response, int] | None:
    """Refuse what another site's page might have sent, and what this dashboard may not do."""
    if request.method in SAFE:
        return None
    if not request.headers.get(HEADER):
        return _error("This route is for the dashboard's own page.", 403)
    if _backend().read_only and request.endpoint not in HARMLESS:
        return _error("This dashboard only looks (DASHBOARD_READ_ONLY=1).", 403, state="read_only")
    return None


@blueprint.after_request
def _never_stored(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.errorhandler(UpstreamError)
def _upstream_failed(error: UpstreamError) -> tuple[Response, int]:
    more = error.problem if isinstance(error, Refused) else {}
    return _error(str(error), error.status, state=error.state, code=more.get("code"))


@blueprint.errorhandler(ValueError)
def _wrong(error: ValueError) -> tuple[Response, int]:
    return _error(str(error), 422)


@blueprint.errorhandler(HTTPException)
def _malformed(error: HTTPException) -> tuple[Response, int]:
    return _error(error.description or error.name, error.code or 500)


def _error(detail: str, status: int, **more: Any) -> tuple[Response, int]:
    return jsonify({"detail": detail, "status": status, **more}), status


def _given() -> dict[str, Any]:
    """The JSON object in the body of this request.

    Raises:
        ValueError: there is none.
    """
    if (request.content_length or MAX_ORDER) >= MAX_ORDER:
        raise ValueError(f"send a JSON object of less than {MAX_ORDER} bytes")
    try:
        body = request.get_json(silent=True)
    except RecursionError:  # which a deep nesting of brackets costs
        body = None
    if not isinstance(body, dict):
        raise ValueError("send a JSON object")  # noqa: TRY004 - what is wrong with a body is a ValueError
    return body


def _passed_on(answer: Answer) -> Response:
    response = jsonify(answer.body)
    response.status_code = answer.status
    return response


@blueprint.get("/snapshot")
def snapshot() -> Response:
    """Everything the page shows."""
    backend, key = _backend(), _key()
    document = backend.feeds.of(key).document()
    runs = {"load": backend.load.documents(), "drill": backend.drills.document()}
    return jsonify({**document, "runs": runs, "logged_in": bool(key), "read_only": backend.read_only})


@blueprint.get("/charts")
def long_charts() -> Response:
    """The charts of a window that is longer than what a snapshot brings along."""
    minutes = request.args.get("minutes", 0, type=int)
    if minutes not in WINDOWS:
        raise ValueError("minutes must be one of " + ", ".join(map(str, WINDOWS)))
    upstream, key, step = _backend().upstream, _key(), WINDOWS[minutes]
    past = upstream.call("GET", "/ops/history", key=key, params={"minutes": minutes, "step": step}).body
    now = upstream.call("GET", "/ops/snapshot", key=key).body
    return jsonify(charts({**now, "as_of": past["as_of"]}, past["history"], step))


@blueprint.post("/infer")
def infer() -> Response:
    """Send the image in the body to the API; answers at once with the id."""
    wanted = {name: request.args[name] for name in ("model_type", "priority", "top_k") if name in request.args}
    headers = {"Content-Type": request.content_type or "application/octet-stream", "Prefer": "respond-async"}
    if coding := request.headers.get("Content-Encoding"):
        headers["Content-Encoding"] = coding
    return _passed_on(
        _backend().upstream.call(
            "POST", "/inference", key=_key(), headers=headers, params=wanted, content=request.get_data()
        )
    )


@blueprint.get("/requests/<request_id>")
def one_request(request_id: str) -> Response:
    """The request resource."""
    return _passed_on(_backend().upstream.call("GET", f"/inference/{actions.part(request_id)}", key=_key()))


@blueprint.get("/requests/<request_id>/image")
def image(request_id: str) -> Response:
    """The photo of a request; 204 when it is deleted, which is no error of the page that asks."""
    try:
        answer = _backend().upstream.call("GET", f"/inference/{actions.part(request_id)}/image", key=_key())
    except Refused as error:
        if error.status == GONE:
            return Response(status=204)
        raise
    return Response(answer.content, mimetype=answer.media_type)


@blueprint.get("/requests")
def requests() -> Response:
    """Rows for the grid, by status and model, with the cursor of the next page."""
    wanted = {name: request.args[name] for name in FILTERS if request.args.get(name)}
    body = _backend().upstream.call("GET", "/inference", key=_key(), params=wanted).body
    return jsonify({"rows": rows.requests(body["requests"]), "next_cursor": body["next_cursor"]})


@blueprint.get("/dead_letters")
def dead_letters() -> Response:
    """The dead letters, as the API lists them."""
    return _passed_on(_backend().upstream.call("GET", "/dead_letters", key=_key()))


@blueprint.post("/actions")
def act() -> Response:
    """Do what the operator ordered."""
    order = _given()
    method, path, _ = actions.call_of(order)
    answer = actions.perform(_backend().upstream, order, _key())
    log.info("operator: %s %s", method, path)
    canceled = answer.body.get("canceled") if isinstance(answer.body, dict) else None
    return jsonify({"done": True, "status": answer.status, "canceled": canceled})


@blueprint.post("/load")
def start_load() -> Response:
    """Start a load test."""
    _backend().load.start(Plan.of(_given()), _key())
    return jsonify({"started": True})


@blueprint.delete("/load")
def stop_load() -> Response:
    """Stop the load test."""
    _backend().load.stop()
    return jsonify({"stopped": True})


@blueprint.post("/drill")
def start_drill() -> Response:
    """Start a fault drill."""
    given = _given()
    worker, number = given.get("worker"), given.get("requests")
    actions.part(worker, "worker")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError("a drill needs a number of requests")  # noqa: TRY004 - what is wrong with a body is a ValueError
    _backend().drills.start(str(worker), number, _key())
    return jsonify({"started": True})


@blueprint.post("/login")
def login() -> tuple[Response, int] | Response:
    """Keep an API key for this browser, if the API accepts it."""
    key = _given().get("key")
    key = key.strip() if isinstance(key, str) else ""
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        return _error("Give the API key.", 422)
    _backend().upstream.call("GET", "/ops/snapshot", key=key)
    response = jsonify({"logged_in": True})
    token = _backend().sessions.open(key)
    response.set_cookie(
        COOKIE, token, max_age=int(LIFETIME), httponly=True, samesite="Strict", secure=request.is_secure
    )
    return response


@blueprint.post("/logout")
def logout() -> Response:
    """Forget the key."""
    _backend().sessions.close(request.cookies.get(COOKIE))
    response = jsonify({"logged_in": False})
    response.delete_cookie(COOKIE, samesite="Strict", httponly=True)
    return response
