"""The routes behind the page, below ``/ui``: each is a call of the API with the key of the logged-in operator.

Only the page is meant to call them. Changing calls need a header that no other site can send unasked, and the session
cookie is not sent with other sites' requests.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from flask import Blueprint, Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from common.settings import Settings
from dashboard import actions, drill, loadtest, rows
from dashboard.api_client import ApiClient, ApiError
from dashboard.runs import Runs, whole_number
from dashboard.sessions import COOKIE, LIFETIME, Sessions
from dashboard.snapshots import ViewCache, view_caches
from dashboard.view import WINDOWS, charts

log = logging.getLogger(__name__)
blueprint = Blueprint("ui", __name__, url_prefix="/ui")

EXTENSION = "inferlane-dashboard"
HEADER = "X-Inferlane-Ui"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Changing calls that a read-only dashboard allows.
HARMLESS = frozenset({"ui.login", "ui.logout"})
#: Bytes of an order; those of the page have a few hundred.
MAX_ORDER = 64 * 1024
KEY = re.compile("[ -~]{1,512}")
#: The query of a listing, and of a request to classify.
FILTERS = ("status", "model_type", "model", "worker", "contains", "owner", "since", "until", "limit", "cursor")
OPTIONS = ("model_type", "priority", "top_k")
GONE = 410


@dataclass(frozen=True, slots=True)
class Backend:
    """Shared by the routes of one dashboard."""

    api: ApiClient
    snapshots: Callable[[str], ViewCache]
    sessions: Sessions
    load_tests: Runs
    drills: Runs
    read_only: bool = False


def backend_for(settings: Settings, api: ApiClient | None = None) -> Backend:
    """The backend of the API that the settings name."""
    api = api or ApiClient(settings.base_url)
    # A heartbeat is late when three in a row are missing, like the lease.
    snapshots = view_caches(api, late_after=3 * settings.lease_renew)
    runs = Runs("load test", kept=5), Runs("drill", kept=1)
    return Backend(api, snapshots, Sessions(), *runs, settings.dashboard_read_only)


def register(server: Flask, backend: Backend) -> None:
    """Add the routes to the server of the page."""
    server.extensions[EXTENSION] = backend
    server.register_blueprint(blueprint)


def _backend() -> Backend:
    backend: Backend = current_app.extensions[EXTENSION]
    return backend


def _key() -> str:
    return _backend().sessions.key(request.cookies.get(COOKIE))


def _api() -> ApiClient:
    """The API, called with the operator's key."""
    return _backend().api.with_key(_key())


@blueprint.before_request
def _check_origin() -> tuple[Response, int] | None:
    """Refuse calls that another site's page may have sent, and orders to a read-only dashboard."""
    if request.method in SAFE:
        return None
    if not request.headers.get(HEADER):
        return _error("This route is for the dashboard's own page.", 403)
    if _backend().read_only and request.endpoint not in HARMLESS:
        return _error("This dashboard is read-only (DASHBOARD_READ_ONLY=1).", 403, state="read_only")
    return None


@blueprint.after_request
def _forbid_caching(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.errorhandler(ApiError)
def _api_failed(error: ApiError) -> tuple[Response, int]:
    return _error(str(error), error.status, state=error.state, code=error.code)


@blueprint.errorhandler(ValueError)
def _invalid(error: ValueError) -> tuple[Response, int]:
    return _error(str(error), 422)


@blueprint.errorhandler(HTTPException)
def _malformed(error: HTTPException) -> tuple[Response, int]:
    return _error(error.description or error.name, error.code or 500)


def _error(detail: str, status: int, **more: Any) -> tuple[Response, int]:
    return jsonify({"detail": detail, "status": status, **more}), status


def _order() -> dict[str, Any]:
    """The JSON object in the body of this request; ValueError if there is none."""
    if (request.content_length or MAX_ORDER) >= MAX_ORDER:
        raise ValueError(f"send a JSON object of less than {MAX_ORDER} bytes")
    try:
        body = request.get_json(silent=True)
    except RecursionError:  # thousands of nested brackets
        body = None
    if not isinstance(body, dict):
        raise ValueError("send a JSON object")  # noqa: TRY004 - an invalid body is a ValueError
    return body


def _query(names: tuple[str, ...]) -> dict[str, str]:
    return {name: request.args[name] for name in names if request.args.get(name)}


def _passed_on(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, mimetype=answer.headers.get("Content-Type"))


@blueprint.get("/snapshot")
def snapshot() -> Response:
    """Everything the page shows."""
    backend, key = _backend(), _key()
    document = backend.snapshots(key).document()
    whose = _whose(key, document)
    drills = backend.drills.documents(whose)
    runs = {"load": backend.load_tests.documents(whose), "drill": drills[0] if drills else None}
    if document["state"] == "login":  # the key was revoked: the API would count each poll as a wrong key
        backend.sessions.close(request.cookies.get(COOKIE))
        key = ""
    session = {"logged_in": bool(key), "read_only": backend.read_only}
    return jsonify({**document, "runs": runs, **session})


def _whose(key: str, document: Mapping[str, Any]) -> str | None:
    """The key whose runs a browser with this key sees; None for all, if the API shows it everybody's requests."""
    seen = document["view"]
    return None if seen and seen["everybody"] else key


@blueprint.get("/charts")
def long_charts() -> Response:
    """The charts of a window longer than the history in a snapshot."""
    minutes = request.args.get("minutes", 0, type=int)
    if minutes not in WINDOWS:
        raise ValueError("minutes must be one of " + ", ".join(map(str, WINDOWS)))
    api, step = _api(), WINDOWS[minutes]
    past, now = api.get("/ops/history", minutes=minutes, step=step), api.get("/ops/snapshot")
    return jsonify(charts({**now, "as_of": past["as_of"]}, past["history"], step))


@blueprint.post("/infer")
def infer() -> Response:
    """Send the image in the body to the API; answers at once with the id."""
    headers = {"Content-Type": request.content_type or "application/octet-stream", "Prefer": "respond-async"}
    if coding := request.headers.get("Content-Encoding"):
        headers["Content-Encoding"] = coding
    return _passed_on(
        _api().call("POST", "/inference", headers=headers, params=_query(OPTIONS), content=request.get_data())
    )


@blueprint.get("/requests/<request_id>")
def one_request(request_id: str) -> Response:
    """The request resource."""
    return _passed_on(_api().call("GET", f"/inference/{actions.path_segment(request_id)}", params=_query(("owner",))))


@blueprint.get("/requests/<request_id>/image")
def image(request_id: str) -> Response:
    """The photo of a request; 204 when it is deleted, which is no error of the page."""
    try:
        path = f"/inference/{actions.path_segment(request_id)}/image"
        return _passed_on(_api().call("GET", path, params=_query(("owner",))))
    except ApiError as error:
        if error.status == GONE:
            return Response(status=204)
        raise


@blueprint.get("/requests")
def requests() -> Response:
    """Rows for the grid, with the cursor of the next page."""
    body = _api().get("/inference", **_query(FILTERS))
    return jsonify({"rows": [rows.request_row(each) for each in body["requests"]], "next_cursor": body["next_cursor"]})


@blueprint.get("/usage")
def usage() -> Response:
    """The lines of an owner's usage, and its quota."""
    body = _api().get("/usage", **_query(("owner",)))
    return jsonify({"lines": rows.usage(body["usage"], body["timestamp"][:10]), "quota": rows.quota(body["quota"])})


@blueprint.get("/dead_letters")
def dead_letters() -> Response:
    """The dead letters, as the API lists them."""
    return _passed_on(_api().call("GET", "/dead_letters"))


@blueprint.post("/actions")
def act() -> Response:
    """Carry out an order of the operator, for one thing or for a list of requests."""
    order = _order()
    if "ids" in order:
        counted = actions.perform_for_each(_api(), order)
        log.info("operator: %s %d requests", order["verb"], counted["done"])
        return jsonify(counted)
    method, path, _ = actions.call_of(order)
    answer = actions.perform(_api(), order)
    log.info("operator: %s %s", method, path)
    body = answer.json() if answer.content else None
    canceled = body.get("canceled") if isinstance(body, dict) else None
    return jsonify({"done": True, "status": answer.status_code, "canceled": canceled})


@blueprint.post("/load")
def start_load() -> Response:
    """Start a load test."""
    backend, plan, key = _backend(), loadtest.LoadPlan.of(_order()), _key()
    client = partial(loadtest.single_try_client, backend.api.base_url, key)
    backend.load_tests.start(lambda: loadtest.LoadTest(client, plan), key)
    return jsonify({"started": True})


@blueprint.delete("/load")
def stop_load() -> Response:
    """Stop the load test."""
    backend, key = _backend(), _key()
    backend.load_tests.stop(_whose(key, backend.snapshots(key).document()))
    return jsonify({"stopped": True})


@blueprint.post("/drill")
def start_drill() -> Response:
    """Start a recovery drill."""
    order, api = _order(), _api()
    worker, number = order.get("worker"), whole_number(order, "requests", drill.MOST_REQUESTS)
    actions.path_segment(worker, "worker")
    _backend().drills.start(lambda: drill.Drill(api, str(worker), number), api.key)
    return jsonify({"started": True})


@blueprint.post("/kill")
def kill_holder() -> Response:
    """Send the image in the body and kill the worker that has it."""
    content, media_type = request.get_data(), request.content_type or "application/octet-stream"
    api, options = _api(), _query(OPTIONS)
    _backend().drills.start(lambda: drill.PhotoDrill(api, content, media_type, options), api.key)
    return jsonify({"started": True})


@blueprint.post("/login")
def login() -> tuple[Response, int] | Response:
    """Keep an API key for this browser if the API accepts it."""
    key = _order().get("key")
    if not isinstance(key, str) or not KEY.fullmatch(key := key.strip()):
        return _error("Give the API key.", 422)
    _backend().api.with_key(key).call("GET", "/ops/snapshot")
    token = _backend().sessions.open(key)
    response = jsonify({"logged_in": True})
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
