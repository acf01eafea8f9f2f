"""``keys`` and ``audit``: the API keys made at run time, and who called which administrative route."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import quote

from inferlane.clients import Client
from inferlane.commands.command import argument, command, positive
from inferlane.console import Context, Exit, UsageError, plain, table
from inferlane.retries import ONCE

PAGE = 500
ALLOWANCES = ("weight", "cap", "quota")
OPEN = "the API asks for no keys now (AUTH=auto without API_KEYS, or off): set AUTH=on and restart it to change that"


def _list(context: Context, client: Client) -> None:
    answer = client.document("/admin/keys")
    rows = [
        (key["id"], key["name"], key["role"],
         *(_allowance(key[what]) for what in ALLOWANCES), key["source"].replace("_", " "),
         _time(key["created_at"]), _time(key["last_used_at"]) or "never")
        for key in answer["keys"]
    ]  # fmt: skip
    context.show(
        answer,
        lambda: table(
            "", "!id", "name", "role", "#weight", "#cap", "#quota", "!from", "created", "last used", rows=rows
        ),
    )
    _warn(context, answer)


def _create(context: Context, client: Client, name: str) -> None:
    role = {"role": context.arguments.role} if context.arguments.role else {}
    body = {"name": name} | role | _allowances(context)
    answer = client.document("/admin/keys", method="POST", body=body)
    context.show(answer, lambda: plain(f"key of {answer['name']}, shown only now: {answer['key']}"))
    _warn(context, answer)


def _revoke(context: Context, client: Client, *ids: str) -> None:
    for key_id in ids:
        client.document(f"/admin/keys/{quote(key_id, safe='')}", method="DELETE")
        context.show({"id": key_id, "revoked": True}, partial(plain, f"{key_id} is revoked"))


def _role(context: Context, client: Client, key_id: str, role: str) -> None:
    answer = client.document(f"/admin/keys/{quote(key_id, safe='')}", method="PATCH", body={"role": role})
    context.show(answer, lambda: plain(f"{answer['id']} of {answer['name']} is now of role {answer['role']}"))


def _set(context: Context, client: Client, name: str, **allowances: Any) -> None:
    body = allowances or _allowances(context)
    if not body:
        raise UsageError("set takes --weight, --cap or --quota")
    answer = client.document(f"/admin/owners/{quote(name, safe='')}", method="PATCH", body=body)
    told = ", ".join(f"{what} {_allowance(answer[what])}" for what in ALLOWANCES)
    context.show(answer, lambda: plain(f"{answer['owner']}: {told}"))


def _allowance(value: float | None) -> str:
    return "default" if value is None else f"{value:.12g}"


def number(text: str) -> float | None:
    """A weight, cap or quota; None for that of the settings."""
    value = None if text == "default" else float(text)
    return int(value) if value is not None and value.is_integer() else value


def _allowances(context: Context) -> dict[str, Any]:
    return {name: value for name, value in vars(context.arguments).items() if name in ALLOWANCES}


#: Name of an action -> what does it, with the words behind it.
ACTIONS: Mapping[str, Callable[..., None]] = {
    "list": _list, "create": _create, "revoke": _revoke, "role": _role, "set": _set,
    "weight": lambda context, client, name, weight: _set(context, client, name, weight=number(weight)),
}  # fmt: skip


@command(
    "keys", "list, create and revoke API keys, change their roles and their owners' weights",
    argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do (list)"),
    argument("words", nargs="*", metavar="NAME|ID|VALUE",
             help="create NAME; set NAME; revoke ID...; role ID user|admin; weight NAME NUMBER|default"),
    argument("--role", choices=("user", "admin"), help="create: the role of the key (user)"),
    argument("--weight", type=number, default=argparse.SUPPRESS, metavar="W",
             help="create, set: the owner's share in its lanes' turns; default: that of the settings"),
    argument("--cap", type=number, default=argparse.SUPPRESS, metavar="N",
             help="create, set: requests it may have open; 0: no limit, default: that of the settings"),
    argument("--quota", type=number, default=argparse.SUPPRESS, metavar="N",
             help="create, set: images it may send a month; 0 and default as above"),
    retries=ONCE,
)  # fmt: skip
def _keys(context: Context) -> int:
    given = context.arguments
    if given.role and given.action != "create":
        raise UsageError("--role goes with create; of a key that exists, say: role ID ROLE")
    if _allowances(context) and given.action not in {"create", "set"}:
        raise UsageError("--weight, --cap and --quota go with create and set")
    with context.client() as client:
        ACTIONS[given.action](context, client, *_words(given))
    return Exit.OK


def _words(given: argparse.Namespace) -> list[str]:
    needed = {"list": 0, "create": 1, "set": 1, "revoke": max(1, len(given.words))}.get(given.action, 2)
    if len(given.words) != needed:
        raise UsageError(f"{given.action} takes {needed or 'no'} words, see --help")
    return list(given.words)


def _warn(context: Context, answer: Mapping[str, Any]) -> None:
    if not answer["keys_required"]:
        context.log.print(OPEN, soft_wrap=True)


def _time(text: str | None) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}" if text else ""


def _how_many(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-n", "--limit", type=positive, default=50, metavar="N", help="number of entries (%(default)s)")
    group.add_argument("--all", action="store_true", help="all entries")


@command("audit", "list the calls of administrative routes, newest first", _how_many)
def _audit(context: Context) -> int:
    given = context.arguments
    with context.client() as client:
        found = list(islice(_entries(client), None if given.all else given.limit))
    if context.json:
        for entry in found:
            context.print_json(entry)
    else:
        rows = (
            (_time(entry["at"]), entry["name"] or "nobody", entry["address"], entry["status"],
             f"{entry['method']} {entry['path']}", " ".join(f"{name}={value}" for name, value in entry["body"].items()))
            for entry in found
        )  # fmt: skip
        context.print(table("", "!at", "who", "address", "#status", "call", "with", rows=rows))
    return Exit.OK


def _entries(client: Client) -> Iterator[dict[str, Any]]:
    """The entries, newest first, a page at a time."""
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        answer = client.document("/admin/audit", params=params)
        yield from answer["entries"]
        cursor = answer["next_cursor"]
