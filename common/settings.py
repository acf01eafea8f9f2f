"""Every environment variable but Celery's own: read once, checked, frozen.

``celeryconfig.py`` has what Celery names, the command line has the shape of a process. ``.env.example`` documents each
variable, and a test compares.
"""

import difflib
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from dotenv import dotenv_values

from common import parsers
from common.parsers import Parser

#: The exit code of every process with an invalid setting.
MISUSED = 2
#: Bytes of a Unix socket's path: the kernels' limits are 103 and 107.
SOCKET_PATH_LIMIT = 100
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: Words of lanes.
RESERVED = frozenset({"any", "high", "normal", "low"})


class SettingsError(ValueError):
    """A variable has an invalid value; the message names it and says why."""


class ModelName(str):
    """An entry of ``MODELS``: ``resnet18``, ``NAME=package.module:factory`` or ``package.module:factory``.

    As text it is the name alone. A model of your own has a ``factory``. Without a name in front, it is called by its
    factory until it has been loaded, and then by the model's ``name``.
    """

    __slots__ = ("factory",)
    factory: str

    def __new__(cls, text: str) -> Self:
        """Read an entry; a ValueError says why it is invalid."""
        name, named, factory = text.partition("=")
        if not named and ":" in name:
            factory = name
        elif not MODEL_NAME.fullmatch(name) or name in RESERVED:
            raise ValueError(
                f"{name!r} cannot name a model: use letters, digits, - and _, and none of any, high, normal, low"
            )
        elif named and not re.fullmatch(r"[\w.]+:\w+", factory):
            raise ValueError(f"{factory!r} is no package.module:factory")
        entry = super().__new__(cls, name)
        entry.factory = factory
        return entry

    @property
    def spelled(self) -> str:
        """The entry as it is written in ``MODELS``."""
        return self if self.factory in {"", self} else f"{self}={self.factory}"


def _models(text: str) -> tuple[ModelName, ...]:
    found = tuple(map(ModelName, parsers.names(text)))
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"two models are called {twice[0]}: name one of them, as in OTHER=package.module:factory")
    return found


def _setting(default: Any, parser: Parser = str, alias: str = "") -> Any:
    """A field read from the variable of the same name in upper case, or from ``alias``."""
    return field(default=default, metadata={"parser": parser, "alias": alias})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process. Durations are seconds, sizes are bytes, unless the name says otherwise."""

    # -- addresses and files
    redis_url: str = _setting("")
    sentinel_master: str = _setting("mymaster")
    key_prefix: str = _setting("inferlane:")
    api_host: str = _setting("127.0.0.1")
    api_port: int = _setting(8000, parsers.port)
    api_processes: int = _setting(2, parsers.integer(1))
    access_log: bool = _setting(False, parsers.switch)
    api_url: str = _setting("")
    dashboard_host: str = _setting("127.0.0.1")
    dashboard_port: int = _setting(8050, parsers.port)
    dashboard_read_only: bool = _setting(False, parsers.switch)
    dashboard_api_url: str = _setting("")
    dashboard_flower_url: str = _setting("")
    dashboard_grafana_url: str = _setting("")
    flower_port: int = _setting(5555, parsers.port)
    flower_basic_auth: str = _setting("")
    flower_events: bool = _setting(False, parsers.switch)
    redis_server: str = _setting("")
    redis_maxmemory: int = _setting(0, parsers.integer(0))
    payload_store: str = _setting("", parsers.payload_store)
    run_dir: str = _setting(".run")
    log_level: str = _setting("INFO", parsers.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    log_format: str = _setting("console", parsers.one_of("console", "json"))
    otel_enabled: bool = _setting(False, parsers.switch)

    # -- models
    models: tuple[ModelName, ...] = _setting(
        tuple(map(ModelName, ("mobilenet", "resnet18", "efficientnet", "squeezenet", "efficientnet_lite0"))), _models
    )
    weights_dir: str = _setting("")
    model_cache_dir: str = _setting(".cache/models")
    allow_random_weights: bool = _setting(False, parsers.switch)
    weights_timeout: float = _setting(60.0, parsers.seconds)
    runtime: str = _setting("auto", parsers.one_of("auto", "onnxruntime", "torch"))
    precision: str = _setting("exact", parsers.one_of("exact", "fast"))
    intra_op_threads: int = _setting(0, parsers.integer(0))
    workers_on_host: int = _setting(1, parsers.integer(1))
    max_batch: int = _setting(16, parsers.integer(1, 1024), alias="BATCH_SIZE")
    batch_timeout: float = _setting(0.0, parsers.seconds_or_zero)

    # -- images
    max_image_bytes: int = _setting(10 * 1024 * 1024, parsers.integer(1))
    max_image_pixels: int = _setting(50_000_000, parsers.integer(1))
    max_image_side: int = _setting(65_535, parsers.integer(1))
    decode_memory: int = _setting(384 * 1024 * 1024, parsers.integer(1024 * 1024))

    # -- requests
    max_body_bytes: int = _setting(32 * 1024 * 1024, parsers.integer(1))
    body_memory: int = _setting(0, parsers.integer(0))
    max_batch_items: int = _setting(256, parsers.integer(1))
    batch_chunk: int = _setting(16, parsers.integer(1))
    max_wait: float = _setting(30.0, parsers.seconds)
    max_waiters: int = _setting(96, parsers.integer(1))
    result_ttl: int = _setting(3600, parsers.integer(1))
    failure_ttl: int = _setting(86_400, parsers.integer(1))
    max_queue: int = _setting(10_000, parsers.integer(1), alias="QUEUE_SIZE")
    max_queue_bytes: int = _setting(0, parsers.integer(0))
    max_queue_wait: float = _setting(600.0, parsers.seconds_or_zero)
    metrics_window: float = _setting(300.0, parsers.seconds)
    any_strategy: str = _setting(
        "least_loaded", parsers.one_of("least_loaded", "round_robin", "random"), alias="LOAD_BALANCE_STRATEGY"
    )
    lane_order: str = _setting("weighted", parsers.one_of("weighted", "strict"))
    lane_weights: tuple[int, ...] = _setting((6, 3, 1), parsers.integers)

    # -- reliability
    lease_ttl: float = _setting(2.0, parsers.seconds, alias="WORKER_TIMEOUT")
    lease_renew: float = _setting(0.5, parsers.seconds, alias="HEALTH_CHECK_INTERVAL")
    max_retries: int = _setting(3, parsers.integer(0))
    retry_backoff: int = _setting(1, parsers.integer(1), alias="RETRY_DELAY")
    retry_backoff_max: int = _setting(60, parsers.integer(1))
    retry_jitter: bool = _setting(True, parsers.switch)
    max_deliveries: int = _setting(3, parsers.integer(1))
    hard_timeout: float = _setting(120.0, parsers.seconds)
    chaos_enabled: bool = _setting(False, parsers.switch)

    # -- access
    auth: str = _setting("auto", parsers.one_of("auto", "on", "off"))
    admin_key: str = _setting("")
    api_keys: tuple[str, ...] = _setting((), parsers.names)
    metrics_open: bool = _setting(False, parsers.switch)
    allowed_hosts: tuple[str, ...] = _setting((), parsers.names)
    trusted_proxies: int = _setting(0, parsers.integer(0, 10))
    rate_limit: tuple[int, float] | None = _setting(None, parsers.rate)
    max_open_per_owner: int = _setting(0, parsers.integer(0))
    monthly_quota: int = _setting(0, parsers.integer(0))
    cache_ttl: int = _setting(0, parsers.integer(0))
    webhook_secret: str = _setting("")
    webhook_hosts: tuple[str, ...] = _setting((), parsers.names)

    def __post_init__(self) -> None:
        if not self.redis_url:
            object.__setattr__(self, "redis_url", _socket_url(self.broker_socket))
        if not self.payload_store:
            folder = f"file://{quote(str(Path(self.run_dir).resolve() / 'payloads'))}"
            object.__setattr__(self, "payload_store", folder if self.embeds_broker else "redis")
        if self.lease_renew * 2 > self.lease_ttl:
            raise SettingsError("LEASE_RENEW: must be at most half of LEASE_TTL, or one late renewal ends the lease"
                                " (their other names are HEALTH_CHECK_INTERVAL and WORKER_TIMEOUT)")  # fmt: skip
        if len(self.lane_weights) != 3 or min(self.lane_weights) < 1:
            raise SettingsError("LANE_WEIGHTS: give three positive integers, high,normal,low, for example 6,3,1")
        if not self.models:
            raise SettingsError("MODELS: name at least one model")

    def model(self, text: str) -> ModelName:
        """The model that ``--model`` names, with the factory that ``MODELS`` gives it.

        Raises:
            SettingsError: it is not a valid name.
        """
        try:
            wanted = ModelName(text)
        except ValueError as error:
            raise SettingsError(f"--model: {error}") from error
        return next((entry for entry in self.models if entry == wanted and not wanted.factory), wanted)

    @property
    def broker_folder(self) -> Path:
        """The data of the bundled broker."""
        return (Path(self.run_dir) / "redis").resolve()

    @property
    def broker_socket(self) -> Path:
        """The bundled broker's socket."""
        return socket_path(self.broker_folder, "redis.sock")

    @property
    def embeds_broker(self) -> bool:
        """Whether ``REDIS_URL`` is that of the bundled broker."""
        return self.redis_url == _socket_url(self.broker_socket)

    @property
    def base_url(self) -> str:
        """The API's address for clients on this host."""
        return self.api_url.rstrip("/") or local_url(self.api_host, self.api_port)

    @property
    def public_url(self) -> str:
        """The API's address for browsers."""
        return self.dashboard_api_url.rstrip("/") or self.base_url

    @property
    def flower_url(self) -> str:
        """Flower's address for browsers; empty when it is not set and Flower is out of their reach."""
        local = self.dashboard_host in {"127.0.0.1", "localhost", "::1"}
        return self.dashboard_flower_url or (f"http://127.0.0.1:{self.flower_port}" if local else "")


def local_url(host: str, port: int) -> str:
    """The address, for clients on this host, of a server that listens on ``host``."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 # nosec B104 # no bind
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def socket_path(folder: Path, name: str) -> Path:
    """The Unix socket ``name`` of ``folder``: in it, or where the path is short enough for the operating system."""
    if len(os.fsencode(folder / name)) <= SOCKET_PATH_LIMIT:
        return folder / name
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/inferlane-{os.geteuid()}-{digest}/{name}")  # noqa: S108 # nosec B108 # a folder is private


def _socket_url(socket: Path) -> str:
    """For redis-py and, under another scheme, kombu. Flower decodes nothing, so as little as possible is encoded."""
    return "unix://" + re.sub("[%?#;]", lambda found: f"%{ord(found[0]):02X}", str(socket))


def variables() -> list[str]:
    """The names of all variables, aliases included."""
    return [name for item in fields(Settings) for name in _names_of(item)]


def environment(file: str | Path = ".env") -> dict[str, str]:
    """The process environment, on top of the variables in ``file``."""
    return {key: value or "" for key, value in dotenv_values(file).items()} | dict(os.environ)


def misspelt(file: str | Path = ".env") -> list[str]:
    """One line for each variable in ``file`` that is no setting but spelled much like one."""
    known = variables()
    near = {name: difflib.get_close_matches(name, known, 1, 0.8) for name in dotenv_values(file) if name not in known}
    return [f"{file}: {name} is no setting; is it {found[0]}?" for name, found in near.items() if found]


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``environ``; by default from the process environment, which wins over the file ``.env``.

    A variable that is unset or empty keeps its default.

    Raises:
        SettingsError: a value is invalid; the message starts with the variable's name.
    """
    if environ is None:
        environ = environment()
    values = {item.name: _value(item, environ) for item in fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if value is not None})


def _names_of(item: Field[Any]) -> list[str]:
    return [item.name.upper(), *filter(None, [item.metadata["alias"]])]


def _value(item: Field[Any], environ: Mapping[str, str]) -> Any:
    """The value that a variable gives; None when none does."""
    values: dict[str, Any] = {}
    for name in _names_of(item):
        if text := environ.get(name, "").strip():
            try:
                values[name] = item.metadata["parser"](text)
            except ValueError as error:
                raise SettingsError(f"{name}: {error} (got {text!r})") from error
    if len(set(values.values())) > 1:
        own, alias = values
        raise SettingsError(f"{alias}: another name of {own}, which says otherwise; set one of them")
    return next(iter(values.values()), None)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; an invalid one ends it with one line and the exit code 2."""
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(MISUSED) from error
