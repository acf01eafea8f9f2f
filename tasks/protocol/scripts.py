"""The Lua scripts of ``tasks/protocol/lua`` as callables: ``scripts.commit(client, keys, args)``.

Each file says what its keys, arguments and answers are. ``_prelude.lua`` is joined in front of every one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from tasks.protocol.connections import Client, Kept

FOLDER = Path(__file__).parent / "lua"


@cache
def source(name: str) -> str:
    """The text of one script with the prelude in front."""
    return (FOLDER / "_prelude.lua").read_text() + (FOLDER / f"{name}.lua").read_text()


@cache
def digest(name: str) -> str:
    """What EVALSHA names the script by."""
    return sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def command(name: str, keys: Sequence[str], args: Sequence[Any], *, full: bool = False) -> tuple[Any, ...]:
    """The Redis command that runs a script: by digest, or with its whole text when the server does not know it."""
    head = ("EVAL", source(name)) if full else ("EVALSHA", digest(name))
    return (*head, len(keys), *keys, *args)


def run(client: Client | Kept, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a script and return its answer; loads it when the server has forgotten it (restart, failover)."""
    try:
        return client.execute_command(*command(name, keys, args))
    except NoScriptError:
        return client.execute_command(*command(name, keys, args, full=True))


def run_after(
    client: Kept, before: Sequence[Sequence[Any]], name: str, keys: Sequence[str], args: Sequence[Any]
) -> Any:
    """Run a script behind other commands in one round trip and return its answer; they are not one step.

    An error of a command before it is the script's to find: it looks for what they have left.
    """
    *_, answer = client.replies([*before, command(name, keys, args)])
    answer = _second_try(client, name, (keys, args), answer)
    if isinstance(answer, Exception):
        raise answer
    return answer


def run_and_get(
    client: Kept, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]], wanted: Sequence[str]
) -> tuple[list[Any], list[bytes | None]]:
    """Run one script several times, then GET as many keys, in one round trip; each call is atomic by itself."""
    replies = client.pipeline([*(command(name, *call) for call in calls), *(("GET", key) for key in wanted)])
    answers = [_second_try(client, name, call, reply) for call, reply in zip(calls, replies, strict=False)]
    return answers, replies[len(calls) :]


def _second_try(client: Kept, name: str, call: tuple[Sequence[str], Sequence[Any]], answer: Any) -> Any:
    return run(client, name, *call) if isinstance(answer, NoScriptError) else answer
