"""``dead-letters``, ``chaos``, and the orders of ``queues`` and ``workers``, for operators.

Orders need an administrator's key. An order that may have been given is not repeated automatically.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from inferlane.answers import Snapshot
from inferlane.clients import Client
from inferlane.commands.command import argument, command
from inferlane.commands.requests import resource
from inferlane.console import Context, Exit, UsageError, plain, table
from inferlane.retries import ONCE

ACTIONS = ("list", "show", "requeue", "delete")
MODES = ("crash", "exit", "hang", "slow", "error", "drop", "freeze", "off")


@command(
    "dead-letters", "list, show, requeue or delete dead letters",
    argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do (list)"),
    argument("ids", nargs="*", metavar="ID", help="request ids; all for requeue and delete"),
    retries=ONCE,
)  # fmt: skip
def _dead_letters(context: Context) -> int:
    given = context.arguments
    if (given.action == "list") == bool(given.ids):
        raise UsageError(f"{given.action} takes " + ("no ids" if given.ids else "the ids of dead letters"))
    with context.client() as client:
        if given.action == "list":
            letters = _letters(client)
            context.show({"dead_letters": letters}, lambda: _letter_table(letters))
            return Exit.OK
        everything = given.ids == ["all"] and given.action != "show"
        ids = [str(letter["request_id"]) for letter in _letters(client)] if everything else given.ids
        for request_id in ids:
            _act(context, client, given.action, request_id)
    return Exit.OK


def _letters(client: Client) -> list[dict[str, Any]]:
    return list(client.document("/dead_letters", params={"limit": "500"})["dead_letters"])


def _letter_table(letters: Sequence[Mapping[str, Any]]) -> Any:
    if not letters:
        return "there are no dead letters"
    errors = (item.get("error") or {} for item in letters)
    whys = (f"{error.get('code')}: {error.get('message')}" for error in errors)
    columns = ("request_id", "lane", "attempts", "completed_at")
    rows = ([*(item[name] for name in columns), why] for item, why in zip(letters, whys, strict=True))
    return table("", "request", "lane", "#attempts", "given up at", "why", rows=rows)


def _act(context: Context, client: Client, action: str, request_id: str) -> None:
    path = f"/dead_letters/{quote(request_id, safe='')}"
    if action == "delete":
        client.document(path, method="DELETE")
        context.show({"request_id": request_id, "deleted": True}, lambda: plain(f"{request_id} deleted"))
    elif action == "show":
        letter = client.document(path)
        context.show(letter, lambda: resource(Snapshot.of(letter)))
    else:
        letter = client.document(f"{path}/requeue", method="POST")
        context.show(letter, lambda: plain(f"{request_id} {letter['state']}"))


@command(
    "chaos", "inject faults into workers",
    argument("mode", nargs="?", choices=MODES, help="the fault, or off; without it, show active faults"),
    argument("--worker", action="append", default=[], metavar="ID", help="worker id; may be repeated"),
    argument("-m", "--model", help="all workers of this model"),
    argument("--all", action="store_true", help="all workers"),
    argument("--seconds", type=float, default=1.0, help="duration for slow and freeze (%(default)g)"),
    argument("--rate", type=float, default=1.0, help="share of failures for error (%(default)g)"),
    retries=ONCE,
)  # fmt: skip
def _chaos(context: Context) -> int:
    given = context.arguments
    with context.client() as client:
        workers = client.workers()
        if given.mode is None:
            rows = [(worker["id"], worker["model"], worker.get("chaos") or "not enabled") for worker in workers]
            context.show(
                {name: mode for name, _, mode in rows}, lambda: table("", "worker", "model", "fault", rows=rows)
            )
            return Exit.OK
        for name in _targets(given, workers):
            body = {"mode": given.mode, "seconds": given.seconds, "rate": given.rate}
            order(context, client, f"/admin/workers/{quote(name, safe='')}/chaos", body)
    return Exit.OK


def _targets(given: argparse.Namespace, workers: Sequence[Mapping[str, Any]]) -> list[str]:
    if given.worker:
        return list(given.worker)
    if not (given.all or given.model):
        raise UsageError("name the workers: --worker ID, --model MODEL or --all")
    found = [str(worker["id"]) for worker in workers if given.all or worker["model"] == given.model]
    if not found:
        raise UsageError("there is no such worker")
    return found


def order(context: Context, client: Client, path: str, body: Mapping[str, Any] | None = None) -> None:
    """Give an order and print the answer."""
    answer = client.document(path, method="POST", body=body)
    within = answer["effective_within"]
    context.show(answer, lambda: plain(f"{answer['target']}: {answer['order']}, within {within:g} s"))
