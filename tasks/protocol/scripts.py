"""Runs the Lua scripts of ``tasks/protocol/lua``, each with ``_prelude.lua`` in front.

Each file documents its keys, arguments and answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from tasks.protocol.connections import Client, PinnedClient

FOLDER = Path(__file__).parent / "lua"
#: The only script that Redis refuses when it has reached maxmemory, so that accepted requests can still end.
REFUSED_WHEN_FULL = "accept"
#: The keys and the arguments of a script.
Call = tuple[Sequence[str], Sequence[Any]]


@cache
def _source(name: str) -> tuple[str, str]:
    """The text of a script with the prelude in front, and its digest for EVALSHA."""
    flags = "" if name == REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"
    text = flags + _with_prelude((FOLDER / f"{name}.lua").read_text())
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


def _with_prelude(script: str) -> str:
    """A script with only those definitions of the prelude that it needs: Redis runs them at every call."""
    prelude = re.sub(r"^--.*\n", "", (FOLDER / "_prelude.lua").read_text(), flags=re.MULTILINE)
    for definition in reversed(re.split(r"^(?=local )", prelude, flags=re.MULTILINE)[1:]):
        name = re.split(r"\W", definition.removeprefix("local ").removeprefix("function "), maxsplit=1)[0]
        if re.search(rf"\b{name}\b", script):
            script = definition + script
    return script


def command(name: str, keys: Sequence[str], args: Sequence[Any], *, full: bool = False) -> tuple[Any, ...]:
    """The Redis command that runs a script: by digest or, if the server does not know it, with its ``full`` text."""
    text, digest = _source(name)
    return (*(("EVAL", text) if full else ("EVALSHA", digest)), len(keys), *keys, *args)


def run(client: Client | PinnedClient, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a script and return its answer; loads it when the server has forgotten it (restart, failover)."""
    try:
        return client.execute_command(*command(name, keys, args))
    except NoScriptError:
        return client.execute_command(*command(name, keys, args, full=True))


def run_after(
    client: PinnedClient, before: Sequence[Sequence[Any]], name: str, keys: Sequence[str], args: Sequence[Any]
) -> Any:
    """Run a script after other commands in one round trip, not atomically.

    Errors of those commands are ignored: the script checks their effects.
    """
    *_, answer = client.replies([*before, command(name, keys, args)])
    answer = _loaded(client, name, (keys, args), answer)
    if isinstance(answer, Exception):
        raise answer
    return answer


def run_and_get(
    client: PinnedClient, name: str, calls: Sequence[Call], wanted: Sequence[str] = ()
) -> tuple[list[Any], list[bytes | None]]:
    """Run one script several times, then GET as many keys, in one round trip; each call is atomic by itself."""
    replies = client.pipeline([*(command(name, *call) for call in calls), *(("GET", key) for key in wanted)])
    answers = [_loaded(client, name, call, reply) for call, reply in zip(calls, replies, strict=False)]
    return answers, replies[len(calls) :]


def _loaded(client: PinnedClient, name: str, call: Call, answer: Any) -> Any:
    """The answer, after a second try if the server did not know the script."""
    return run(client, name, *call) if isinstance(answer, NoScriptError) else answer
