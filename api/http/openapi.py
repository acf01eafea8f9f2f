"""The OpenAPI document: declarations of routes, and the pages that show it.

Routes declare with :meth:`Operations.operation`; flask-smorest joins that into the document at ``/openapi.json``.
Errors are declared by problem code, so their status codes come from the same table as the answers. ``/docs`` is Swagger
UI from ``flask-swagger-ui``, without other hosts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import flask_swagger_ui
from flask import Flask, redirect, send_from_directory
from flask_smorest import Api, Blueprint

from api.http.ownership import PATH_IDS
from api.http.problems import MEDIA_TYPE, PROBLEM_TYPES
from api.views.schemas import REQUESTS
from api.views.shapes import ref
from api.views.system_schemas import SYSTEM
from common.serving import icon

ROUTE = TypeVar("ROUTE", bound=Callable[..., Any])
ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
ASSETS_PATH = "/docs/assets/"
#: Headers of answers that are not just strings.
HEADERS: Mapping[str, Any] = {"Retry-After": {"type": "integer", "minimum": 1}}
EVERYWHERE = ("misdirected", "internal_error")
#: Of routes that are not public: keys and budgets are looked up in Redis.
ACCESS = ("unauthorized", "forbidden", "rate_limited", "broker_unavailable")
#: Per role, the accepted schemes; the empty one is for installations without keys.
SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    "public": [],
    "metrics": [{"bearer": []}, {"apiKey": []}, {}],
    "user": [{"bearer": []}, {"apiKey": []}, {}],
    "admin": [{"bearer": []}, {"apiKey": []}],
}

#: The text at the top of /docs.
INTRODUCTION = """\
Classify images behind a durable queue: an accepted request ends exactly once, whatever dies.

* **Try it**: open `POST /inference`, then *Try it out* and *Execute*: the example is a photo of a cat. To send a photo
  of yours, choose `multipart/form-data` beside *Request body*.
* **Keys**: if this installation requires one, *Authorize* first, with `bearer` or `apiKey`. Orders under
  *administration* always need an administrator's.
* **Waiting**: a call waits for its answer, then becomes 202 with a `Location`; `Prefer: respond-async` does not wait.
* **Errors** are problem documents with a `code`; `GET /problems/{code}` explains it.
"""
CONFIG: Mapping[str, Any] = {
    "API_TITLE": "Inferlane",
    "API_SPEC_OPTIONS": {"info": {"description": INTRODUCTION}},
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": "docs",
    "OPENAPI_SWAGGER_UI_URL": ASSETS_PATH,
    "OPENAPI_SWAGGER_UI_CONFIG": {"deepLinking": True, "displayRequestDuration": True, "validatorUrl": None},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A success that a route may send; ``schema`` is a JSON Schema or the name of a component, None for no body."""

    description: str
    schema: str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    status: int = 200

    def document(self) -> dict[str, Any]:
        """The response object."""
        found: dict[str, Any] = {"description": self.description}
        if self.headers:
            found["headers"] = {
                name: {"description": text, "schema": HEADERS.get(name, {"type": "string"})}
                for name, text in self.headers.items()
            }
        if self.schema is not None:
            schema = ref(self.schema) if isinstance(self.schema, str) else self.schema
            found["content"] = {self.media_type: {"schema": schema}}
        return found


class Operations(Blueprint):  # type: ignore[misc]
    """A flask-smorest blueprint whose routes declare their inputs and answers."""

    def operation(
        self, method: str, path: str, *answers: Answer, problems: Iterable[str] = (),
        parameters: Iterable[Mapping[str, Any]] = (), body: Mapping[str, Any] | None = None, operation_id: str = "",
        summary: str = "", role: str = "user",
    ) -> Callable[[ROUTE], ROUTE]:  # fmt: skip
        """Register a route and its part of the document.

        ``answers`` are successes, ``problems`` codes of its errors besides those of every route; ``parameters`` and
        ``body`` are OpenAPI objects, without the path's parameters. ``operation_id`` is by default the function's name
        in camel case, ``summary`` the first line of its docstring. ``role`` is public, metrics, user or admin.
        """

        def decorate(route: ROUTE) -> ROUTE:
            codes = [*problems, *EVERYWHERE, *(() if role == "public" else ACCESS)]
            given = [*parameters]
            if any(f"<{name}>" in path for name in PATH_IDS):
                codes.append("invalid_parameters")
                given.append(OWNER)
            document: dict[str, Any] = {
                "operationId": operation_id or _camel(route.__name__),
                "responses": _responses([*answers, *problem_answers(codes)]),
                "parameters": [dict(item) for item in given],
                "security": SECURITY[role],
            }
            document |= ({"requestBody": body} if body else {}) | ({"summary": summary} if summary else {})
            route._apidoc = {"manual_doc": document}  # type: ignore[attr-defined]  # noqa: SLF001 - its name
            route.role = role  # type: ignore[attr-defined]
            self.route(path, methods=[method])(route)
            return route

        return decorate


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _responses(answers: Iterable[Answer]) -> dict[str, Any]:
    """A response object per status, with the media types of all its answers."""
    found: dict[str, Any] = {}
    for answer in answers:
        document, known = answer.document(), found.get(str(answer.status), {})
        content = {**document.get("content", {}), **known.get("content", {})}
        found[str(answer.status)] = {**document, **known} | ({"content": content} if content else {})
    return found


def problem_answers(codes: Iterable[str]) -> Iterator[Answer]:
    """One answer per status of the given problem codes."""
    grouped: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys(codes):
        grouped[PROBLEM_TYPES[code].status].append(f"`{code}`: {PROBLEM_TYPES[code].title}")
    for status, lines in sorted(grouped.items()):
        headers = {"Retry-After": "Seconds"} if status in {429, 503} else {}
        yield Answer(". ".join(lines), "Problem", headers, MEDIA_TYPE, status)


def query(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter object."""
    return {"in": "query", "name": name, "required": False, "description": description, "schema": dict(schema)}


def header(name: str, description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A header parameter object."""
    return query(name, description, schema or {"type": "string"}) | {"in": "header"}


OWNER = query("owner", "For admins: the owner; others always reach only their own", {"type": "string"})


def create(app: Flask, version: str) -> Api:
    """The flask-smorest Api of ``app``, with the document, Swagger UI and its files."""
    app.config.update(CONFIG)
    app.config["API_VERSION"] = version
    api = _Api(app)
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    api.spec.components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    for name, schema in (REQUESTS | SYSTEM).items():
        api.spec.components.schema(name, schema)
    app.add_url_rule(
        f"{ASSETS_PATH}<path:name>", "swagger-asset", lambda name: send_from_directory(ASSETS, name, max_age=86_400)
    )
    app.add_url_rule("/", "root", lambda: redirect("/docs"))
    app.add_url_rule("/favicon.ico", "icon", icon)
    return api


class _Api(Api):  # type: ignore[misc]
    """flask-smorest without its error responses: routes declare problem documents instead."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Nothing: :mod:`api.http.errors` has registered ours."""
