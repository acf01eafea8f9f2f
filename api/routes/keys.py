"""``/admin/keys`` and ``/admin/owners``: API keys made and revoked at run time, and the weights of their owners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, g

from api.http import declared
from api.http.api_keys import NAME, ROLES, ApiKey, valid_name
from api.http.auth import needs_key
from api.http.live_keys import LiveKeys, RunTimeKeys
from api.http.openapi import Answer, Operations
from api.http.problems import HttpProblem, wrong_value
from api.input.intake import order_body
from api.services import app_settings, service
from api.views.resources import now, reply, timestamp
from common.settings import Settings
from tasks.protocol.connections import prompt
from tasks.protocol.keys import Keys
from tasks.protocol.owners import read_allowances, set_allowances, weights, write_weights

blueprint = Operations("keys", __name__, description="API keys at run time")

MOST_WEIGHT, MOST = 9999.0, 10**12
_ROLE = {"type": "string", "enum": list(ROLES)}
_ALLOWANCES = {
    "weight": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": MOST_WEIGHT,
        "description": "Share in its lanes' turns; null: that of API_KEYS, or 1",
    },
    "cap": {"type": ["integer", "null"], "minimum": 0, "description": "Open requests; null: MAX_OPEN_PER_OWNER"},
    "quota": {"type": ["integer", "null"], "minimum": 0, "description": "Images a month; null: MONTHLY_QUOTA"},
}
KEY_BODY = declared.json_body(
    ["name"], {"name": "ann"},
    name={"type": "string", "pattern": f"^{NAME}$", "description": "The owner; may have several keys"},
    role=_ROLE | {"default": "user"}, **_ALLOWANCES,
)  # fmt: skip
ROLE_BODY = declared.json_body(["role"], {"role": "admin"}, role=_ROLE)
OWNER_BODY = declared.json_body([], {"weight": 2}, **_ALLOWANCES)
ONE = ("unknown_key", "invalid_parameters")


class OwnerAllowances:
    """Single owners' weights, caps and quotas, in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._redis, self._keys = prompt(settings.redis_url), Keys(settings.key_prefix)
        self._weights = weights(settings.api_keys)

    def read(self) -> dict[str, dict[str, str]]:
        """Of each kind, owner -> value."""
        return read_allowances(self._redis, self._keys)

    def change(self, owner: str, given: Mapping[str, float | None]) -> None:
        """Change an owner's; None restores the default."""
        if given:
            set_allowances(self._redis, self._keys, owner, given)
        if owner in self._weights and given.get("weight", 0) is None:
            write_weights(self._redis, self._keys, {owner: self._weights[owner]})


@blueprint.operation("GET", "/admin/keys", Answer("By name", "ApiKeys"), role="admin")
def list_keys() -> Response:
    """List the API keys: those made at run time, and those of the settings."""
    rows = _rows(*_all_keys())
    rows.sort(key=lambda row: (row["name"], row["created_at"] or ""))
    return reply({"keys": rows, "keys_required": needs_key(app_settings()), "timestamp": now()})


@blueprint.operation(
    "POST", "/admin/keys", Answer("The key, shown only now", "NewApiKey", {"Location": "Of the key"}, status=201),
    problems=declared.JSON_BODY, body=KEY_BODY, role="admin",
)  # fmt: skip
def create_key() -> Response:
    """Create an API key, valid at once in every API process; whether keys are required stays as it is."""
    body = order_body(KEY_BODY)
    name, role = body.get("name"), _role(body, "user")
    if not valid_name(name):
        raise wrong_value("name", f"must match {NAME} and not be anonymous, . or ..")
    service(OwnerAllowances).change(str(name), _allowances(body))
    allowances = service(OwnerAllowances).read()  # an error after this would lose the key
    key, made = service(RunTimeKeys).create(str(name), role, str(g.key_name))
    g.body["id"] = made.id
    headers = {"Location": f"/admin/keys/{made.id}", "Cache-Control": "no-store"}
    return reply({**_row(made, allowances, {}), "key": key, "keys_required": needs_key(app_settings())}, 201, headers)


@blueprint.operation(
    "PATCH", "/admin/keys/<key_id>", Answer("The key", "ApiKey"),
    problems=(*declared.JSON_BODY, *ONE), body=ROLE_BODY, role="admin",
)  # fmt: skip
def change_key(key_id: str) -> Response:
    """Change the role of a key, within a second in every API process."""
    role = _role(order_body(ROLE_BODY))
    _check_id(key_id)
    changed = service(RunTimeKeys).set_role(key_id, role)
    if changed is None:
        raise _unknown(key_id)
    g.body["name"] = changed.name
    return reply(_rows(changed)[0])


@blueprint.operation(
    "DELETE", "/admin/keys/<key_id>", Answer("It is revoked", status=204), problems=ONE, role="admin"
)  # fmt: skip
def revoke_key(key_id: str) -> Response:
    """Revoke a key: within a second, no API process accepts it any more. Its owner's requests go on."""
    _check_id(key_id)
    revoked = service(RunTimeKeys).revoke(key_id)
    if revoked is None:
        raise _unknown(key_id)
    g.body = {"name": revoked.name}
    return Response(status=204)


@blueprint.operation(
    "PATCH", "/admin/owners/<owner>", Answer("The owner", "KeyOwner"),
    problems=(*declared.JSON_BODY, "unknown_key"), body=OWNER_BODY, role="admin",
)  # fmt: skip
def change_owner(owner: str) -> Response:
    """Change weight, cap or quota of an owner of keys within a second; they override the settings."""
    given = _allowances(order_body(OWNER_BODY))
    if owner not in {key.name for key in _all_keys()}:
        raise HttpProblem("unknown_key", f"There is no key of {owner}.")
    service(OwnerAllowances).change(owner, given)
    return reply({"owner": owner, **_allowances_of(owner, service(OwnerAllowances).read())})


def _all_keys() -> list[ApiKey]:
    return [*service(LiveKeys).fixed.values(), *service(RunTimeKeys).read()[1]]


def _rows(*keys: ApiKey) -> list[dict[str, Any]]:
    allowances, uses = service(OwnerAllowances).read(), service(RunTimeKeys).uses()
    return [_row(key, allowances, uses) for key in keys]


def _row(key: ApiKey, allowances: Mapping[str, Mapping[str, str]], uses: Mapping[str, float]) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "source": "settings" if key.created_at is None else "run_time",
        **_allowances_of(key.name, allowances),
        "created_at": timestamp(key.created_at),
        "created_by": key.created_by or None,
        "last_used_at": timestamp(uses.get(key.id)),
    }


def _allowances_of(owner: str, allowances: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    cap, quota = (allowances[what].get(owner) for what in ("cap", "quota"))
    return {
        "weight": float(allowances["weight"].get(owner, 1)),
        "cap": None if cap is None else int(cap),
        "quota": None if quota is None else int(quota),
    }


def _check_id(key_id: str) -> None:
    if key_id in {key.id for key in service(LiveKeys).fixed.values()}:
        summary = "This key is in API_KEYS or ADMIN_KEY: change it there, and restart the API."
        raise wrong_value("key_id", "is that of a key in the settings", summary)


def _unknown(key_id: str) -> HttpProblem:
    return HttpProblem("unknown_key", f"There is no key with the id {key_id}; GET /admin/keys lists all.")


def _role(body: Mapping[str, Any], default: str = "") -> str:
    role = body.get("role", default)
    if role not in ROLES:
        raise wrong_value("role", "must be one of " + ", ".join(ROLES))
    return str(role)


def _allowances(body: Mapping[str, Any]) -> dict[str, float | None]:
    """The weight, cap and quota in a body."""
    given = {name: body[name] for name in ("weight", "cap", "quota") if name in body}
    for name, value in given.items():
        if value is None:
            continue
        if name == "weight":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0001 <= value <= MOST_WEIGHT:
                raise wrong_value(name, f"must be a number from 0.0001 to {MOST_WEIGHT:g}")
        elif type(value) is not int or not 0 <= value <= MOST:
            raise wrong_value(name, "must be a whole number, 0 for no limit, or null for that of the settings")
    return given
