"""Authorization: which role may call which route.

Each route declares its role where it is defined; a test walks all of them. A ``public`` route needs no
key. A ``user`` route needs one unless the installation runs without (``AUTH``), which is limited to loopback addresses
and loopback host names. A ``metrics`` route is a user route that ``METRICS_OPEN`` opens to a scraper on loopback. An
``admin`` route always needs an admin's key.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Flask, current_app, request
from flask.globals import app_ctx, request_ctx
from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.exceptions import HTTPException

from api.http.api_keys import KnownKeys
from api.http.failed_keys import FailedKeyLimiter
from api.http.live_keys import LiveKeys
from api.http.ownership import resolve_path
from api.http.problems import HttpProblem
from api.http.rate_limit import spend_call
from api.services import EXTENSION, Services
from common.front import Admits, Environ
from common.serving import answers_to, loopback
from common.settings import Settings, SettingsError
from tasks.errors import BrokerUnavailable
from tasks.protocol.owners import ANONYMOUS

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="inferlane"'}
#: Seconds for which an unknown key stays unknown.
STANDS = 1.0
#: Third-party routes (Swagger UI, the document), which declare no role.
ELSEWHERE = "public"
#: Least length and distinct characters of a plain ADMIN_KEY off loopback.
LENGTH, DIFFERENT = 16, 8


def register(app: Flask, settings: Settings) -> None:
    """Check the caller of every request of ``app``.

    Raises:
        SettingsError: other machines could use the API without a key, or guess it.
    """
    KnownKeys(settings)
    asked = needs_key(settings)
    _refuse_weak_key(settings)
    limiter = FailedKeyLimiter(
        lambda key: _keys_of(app).caller(key), random=lambda key: _keys_of(app).made_at_run_time(key)
    )
    urls = (settings.api_url, settings.dashboard_api_url)
    names = {*settings.allowed_hosts, *(urlsplit(url).hostname or "" for url in urls)} - {""}

    @lru_cache(maxsize=16)  # callers choose the names
    def answers(host: str | None) -> bool:
        return answers_to(host, settings.api_host, names)

    def check() -> None:
        # Each use of a proxy costs as much as three function calls.
        request, g = request_ctx.request, app_ctx.g
        role = g.role = role_of(request.endpoint)
        if not asked and not answers(request.headers.get("Host")):
            raise HttpProblem("misdirected", f"This API does not answer to the name {request.host}; see ALLOWED_HOSTS.")
        if role == "public" or (role == "metrics" and (not asked or _open_scrape(settings))):
            return
        key = _key_in(request.headers)
        caller = g.caller = limiter.caller(key, request.remote_addr or "") if key else None
        if caller is None and (asked or role == "admin" or key):
            raise _unknown(role, _keys_of(app))
        if role == "admin" and (caller is None or caller.role != "admin"):
            raise HttpProblem("forbidden", "This route needs the key of an administrator.")
        g.key_name = caller.name if caller else ""
        g.who = caller.name if caller else request.remote_addr
        g.owner = caller.name if caller and asked else ANONYMOUS
        g.sees_all = caller is not None and caller.role == "admin"
        spend_call(caller)
        resolve_path()

    app.before_request(check)


def _keys_of(app: Flask) -> KnownKeys:
    services: Services = app.extensions[EXTENSION]
    return services.get(LiveKeys)


def _open_scrape(settings: Settings) -> bool:
    return settings.metrics_open and loopback(request.remote_addr or "")


def admits(app: Flask, settings: Settings) -> Admits:
    """Whether a large body should be read: by its headers, the caller is known and the route exists.

    The application refuses the others itself; this only avoids reading their bodies.
    """
    _keys_of(app)  # loaded before the first call
    asked = needs_key(settings)

    async def check(environ: Environ) -> bool:
        try:
            app.url_map.bind_to_environ(environ).match()
        except HTTPException:
            return False
        key, keys = _key_in(EnvironHeaders(environ)), _keys_of(app)
        if not key or keys.remembered(key):
            return bool(key) or not asked
        try:
            return await asyncio.to_thread(keys.caller, key) is not None
        except BrokerUnavailable:
            return False

    return check


def needs_key(settings: Settings) -> bool:
    """Whether user routes require a key: the settings alone decide, not the keys made at run time.

    Raises:
        SettingsError: they do not, on an address that is not loopback.
    """
    if settings.auth == "on" or (settings.auth == "auto" and settings.api_keys):
        if not settings.api_keys and not settings.admin_key:
            raise SettingsError("AUTH: is on, but there is neither an ADMIN_KEY nor an entry in API_KEYS")
        return True
    if not loopback(settings.api_host):
        raise SettingsError(
            f"AUTH: the API would be open to everybody who reaches {settings.api_host}; set AUTH=on and ADMIN_KEY,"
            " or add API_KEYS (`python -m api.http.api_keys NAME`), or set API_HOST to a loopback address"
        )
    return False


def _refuse_weak_key(settings: Settings) -> None:
    """Refuse a weak ADMIN_KEY off loopback; a hashed one cannot be checked."""
    key = settings.admin_key
    if not key or key.startswith("sha256:") or (loopback(settings.api_host) and loopback(settings.dashboard_host)):
        return
    if len(key) < LENGTH or len(set(key)) < DIFFERENT:
        raise SettingsError(
            f"ADMIN_KEY: others reach this address, so it needs {LENGTH} characters, {DIFFERENT} of them different;"
            " `python -m api.http.api_keys admin admin` makes one that nobody guesses"
        )


def role_of(endpoint: str | None) -> str:
    """The role of the route; unknown paths are public."""
    return str(getattr(current_app.view_functions.get(endpoint or ""), "role", ELSEWHERE))


def _key_in(headers: Headers | EnvironHeaders) -> str:
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("X-API-Key", "").strip()


def _unknown(role: str, keys: KnownKeys) -> HttpProblem:
    if _key_in(request.headers):
        return HttpProblem("unauthorized", "This API key is not known.", headers=CHALLENGE).standing(STANDS)
    if role == "admin" and not keys.known:
        return HttpProblem("forbidden", "Administrative routes are closed: no ADMIN_KEY is set.")
    return HttpProblem("unauthorized", "Send an API key: Authorization: Bearer KEY, or X-API-Key.", headers=CHALLENGE)
