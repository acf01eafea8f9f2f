"""``dead-letters``, ``chaos``, and the orders in ``queues`` and ``workers``: for people who run the system.

Giving orders needs an administrator's key. An order that may have been given is not given again by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from inferlane.answers import Snapshot
from inferlane.clients import Client
from inferlane.commands.command import Command
from inferlane.commands.requests import resource
from inferlane.console import Context, Exit, UsageError, plain, table
from inferlane.retries import ONCE

ACTIONS = ("list", "show", "requeue", "delete")
MODES = ("crash", "exit", "hang", "slow", "error", "drop", "freeze", "off")


def _letter_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do (%(default)s)")
    parser.add_argument("ids", nargs="*", metavar="ID", help="which ones; for requeue and delete also: all")


def _dead_letters(context: Context) -> int:
    given = context.arguments
    if (given.action == "list") == bool(given.ids):
        raise UsageError(f"{given.action} takes " + ("no ids" if given.ids else "the ids of dead letters"))
    with context.client() as client:
        if given.action == "list":
            letters = client.document("/dead_letters", params={"limit": "500"})["dead_letters"]
            context.show({"dead_letters": letters}, lambda: _letters(letters))
            return Exit.OK
        ids = _all(client) if given.ids == ["all"] and given.action != "show" else given.ids
        for request_id in ids:
            _treat(context, client, given.action, request_id)
    return Exit.OK


def _letters(letters: Sequence[Mapping[str, Any]]) -> Any:
    if not letters:
        return "there are no dead letters"
    rows = ((item["request_id"], item["lane"], item["attempts"], item["completed_at"], _why(item)) for item in letters)
    return table("", "request", "lane", "#attempts", "given up at", "why", rows=rows)


def _why(letter: Mapping[str, Any]) -> str:
    error = letter.get("error") or {}
    return f"{error.get('code')}: {error.get('message')}"


def _all(client: Client) -> list[str]:
    letters = client.document("/dead_letters", params={"limit": "500"})["dead_letters"]
    return [str(item["request_id"]) for item in letters]


def _treat(context: Context, client: Client, action: str, request_id: str) -> None:
    path = f"/dead_letters/{quote(request_id, safe='')}"
    if action == "delete":
        client.document(path, method="DELETE")
        context.show({"request_id": request_id, "deleted": True}, lambda: plain(f"{request_id} deleted"))
        return
    if action == "show":
        letter = client.document(path)
        context.show(letter, lambda: resource(Snapshot.of(letter)))
        return
    letter = client.document(f"{path}/requeue", method="POST")
    context.show(letter, lambda: plain(f"{request_id} {letter['state']}"))


def _chaos_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mode", nargs="?", choices=MODES, help="the fault; off ends it; without one, show the faults")
    parser.add_argument("--worker", action="append", default=[], metavar="ID", help="which worker; may be repeated")
    parser.add_argument("-m", "--model", help="all workers of this model")
    parser.add_argument("--all", action="store_true", help="all workers")
    parser.add_argument("--seconds", type=float, default=1.0, help="for slow and freeze (%(default)g)")
    parser.add_argument("--rate", type=float, default=1.0, help="for error: which share fails (%(default)g)")


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
        raise UsageError("which workers? Say --worker ID, --model MODEL or --all")
    found = [str(worker["id"]) for worker in workers if given.all or worker["model"] == given.model]
    if not found:
        raise UsageError("there is no such worker")
    return found


def order(context: Context, client: Client, path: str, body: Mapping[str, Any] | None = None) -> None:
    """Give an order and tell that it was given."""
    answer = client.document(path, method="POST", body=body)
    within = answer["effective_within"]
    context.show(answer, lambda: plain(f"{answer['target']}: {answer['order']}, within {within:g} s"))


DEAD_LETTERS = Command(
    name="dead-letters", help="requests that were given up: list, show, requeue or delete them", run=_dead_letters,
    configure=_letter_arguments, retries=ONCE,
)  # fmt: skip
CHAOS = Command(
    name="chaos", help="cause a fault in workers, to see that nothing is lost", run=_chaos, configure=_chaos_arguments,
    retries=ONCE,
)  # fmt: skip
