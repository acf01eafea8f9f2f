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
OPEN = "the API asks for no keys now (AUTH=auto without API_KEYS, or off): set AUTH=on and restart it to change that"


def _list(context: Context, client: Client) -> None:
    answer = client.document("/admin/keys")
    rows = [
        (key["id"], key["name"], key["role"], f"{key['weight']:g}", key["source"].replace("_", " "),
         _time(key["created_at"]), _time(key["last_used_at"]) or "never")
        for key in answer["keys"]
    ]  # fmt: skip
    context.show(
        answer, lambda: table("", "!id", "name", "role", "#weight", "!from", "created", "last used", rows=rows)
    )
    _warn(context, answer)


def _create(context: Context, client: Client, name: str) -> None:
    chosen = {"role": context.arguments.role, "weight": context.arguments.weight}
    body = {"name": name} | {member: value for member, value in chosen.items() if value is not None}
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


def _weight(context: Context, client: Client, name: str, weight: str) -> None:
    path = f"/admin/owners/{quote(name, safe='')}"
    answer = client.document(path, method="PATCH", body={"weight": float(weight)})
    context.show(answer, lambda: plain(f"{answer['owner']} has the weight {answer['weight']:g}"))


#: Name of an action -> what does it, with the words behind it.
ACTIONS: Mapping[str, Callable[..., None]] = {
    "list": _list, "create": _create, "revoke": _revoke, "role": _role, "weight": _weight,
}  # fmt: skip


@command(
    "keys", "list, create and revoke API keys, change their roles and their owners' weights",
    argument("action", nargs="?", choices=ACTIONS, default="list", help="action (%(default)s)"),
    argument("words", nargs="*", metavar="NAME|ID|VALUE",
             help="create NAME; revoke ID...; role ID user|admin; weight NAME NUMBER"),
    argument("--role", choices=("user", "admin"), help="of a new key (user)"),
    argument("--weight", type=float, metavar="W", help="of the owner of a new key"),
    retries=ONCE,
)  # fmt: skip
def _keys(context: Context) -> int:
    given = context.arguments
    if given.action != "create" and (given.role or given.weight is not None):
        raise UsageError("--role and --weight go with create; for a key that exists, say: role ID ROLE, weight NAME W")
    with context.client() as client:
        ACTIONS[given.action](context, client, *_words(given))
    return Exit.OK


def _words(given: argparse.Namespace) -> list[str]:
    needed = {"list": 0, "create": 1, "revoke": max(1, len(given.words))}.get(given.action, 2)
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
    group.add_argument("-n", "--limit", type=positive, default=50, metavar="N", help="how many (%(default)s)")
    group.add_argument("--all", action="store_true", help="every entry that is kept")


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
