"""Settings: every environment variable, read once, validated, frozen.

``celeryconfig.py`` has Celery's settings, the command line those of one process, this module the rest. It imports
nothing of the project. :func:`get_settings` caches; tests build settings with :func:`load_settings`.

``.env.example`` documents each variable; ``tests/unit/test_settings.py`` checks it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar

from dotenv import dotenv_values


class SettingsError(ValueError):
    """A variable has an invalid value; the message names it and the reason."""


Parser = Callable[[str], Any]

MISUSED = 2
"""The exit code of every process that a wrong setting ends."""


Number = TypeVar("Number", int, float)


def _number(text: str, kind: Callable[[str], Number], words: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {words}") from None


def _integer(least: int = 0, most: int | None = None) -> Parser:
    def parse(text: str) -> int:
        value = _number(text, int, "a whole number")
        if value < least or (most is not None and value > most):
            raise ValueError(f"must be at least {least}" + (f" and at most {most}" if most is not None else ""))
        return value

    return parse


def _seconds(text: str) -> float:
    value = _number(text, float, "a number of seconds")
    if not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return value


def _switch(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("must be 1 or 0")


def _one_of(*choices: str) -> Parser:
    def parse(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError("must be one of " + ", ".join(choices))

    return parse


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class ModelName(str):
    """The name of a model: ``resnet18``, ``NAME=package.module:factory`` or ``package.module:factory``.

    As text it is the name. A custom model has a ``factory``; without a name in front, the factory is its name until it
    has been loaded, then the model's ``name``.
    """

    __slots__ = ("factory",)
    factory: str

    def __new__(cls, text: str) -> Self:
        """Read an entry of ``MODELS``.

        Raises:
            ValueError: invalid name or factory.
        """
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
        """Its entry in ``MODELS``."""
        return self if self.factory in {"", self} else f"{self}={self.factory}"


MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: Reserved for lanes.
RESERVED = frozenset({"any", "high", "normal", "low"})


def _models(text: str) -> tuple[ModelName, ...]:
    found = tuple(map(ModelName, _names(text)))
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"two models are called {twice[0]}: name one of them, as in OTHER=package.module:factory")
    return found


def _integers(text: str) -> tuple[int, ...]:
    return tuple(_number(part, int, "whole numbers with commas between them") for part in text.split(","))


def _rate(text: str) -> tuple[int, float]:
    calls, _, seconds = text.partition("/")
    if _integer(1)(calls) and not seconds:
        raise ValueError("must be calls/seconds, for example 100/60")
    return int(calls), _seconds(seconds)


_port = _integer(1, 65535)

#: Bytes of a Unix socket's path: the kernels' limits are 103 and 107.
SOCKET_PATH_LIMIT = 100


def _seconds_or_none(text: str) -> float:
    return 0.0 if _number(text, float, "a number of seconds") == 0 else _seconds(text)


def _setting(default: Any, parser: Parser = str, alias: str = "") -> Any:
    """A dataclass field read from the variable of the same name in upper case, or from ``alias``."""
    return field(default=default, metadata={"parser": parser, "alias": alias})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process. Durations are seconds, sizes are bytes, unless the name says otherwise."""

    # -- addresses and files
    redis_url: str = _setting("")
    sentinel_master: str = _setting("mymaster")
    key_prefix: str = _setting("inferlane:")
    api_host: str = _setting("127.0.0.1")
    api_port: int = _setting(8000, _port)
    api_processes: int = _setting(2, _integer(1))
    access_log: bool = _setting(False, _switch)
    api_url: str = _setting("")
    dashboard_host: str = _setting("127.0.0.1")
    dashboard_port: int = _setting(8050, _port)
    dashboard_read_only: bool = _setting(False, _switch)
    dashboard_api_url: str = _setting("")
    dashboard_flower_url: str = _setting("")
    dashboard_grafana_url: str = _setting("")
    flower_port: int = _setting(5555, _port)
    flower_basic_auth: str = _setting("")
    redis_server: str = _setting("")
    redis_maxmemory: int = _setting(0, _integer(0))
    run_dir: str = _setting(".run")
    log_level: str = _setting("INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    log_format: str = _setting("console", _one_of("console", "json"))
    otel_enabled: bool = _setting(False, _switch)

    # -- models
    models: tuple[ModelName, ...] = _setting(
        tuple(map(ModelName, ("mobilenet", "resnet18", "efficientnet", "squeezenet", "efficientnet_lite0"))), _models
    )
    weights_dir: str = _setting("")
    model_cache_dir: str = _setting(".cache/models")
    allow_random_weights: bool = _setting(False, _switch)
    weights_timeout: float = _setting(60.0, _seconds)
    runtime: str = _setting("auto", _one_of("auto", "onnxruntime", "torch"))
    intra_op_threads: int = _setting(0, _integer(0))
    workers_on_host: int = _setting(1, _integer(1))
    max_batch: int = _setting(16, _integer(1, 1024), alias="BATCH_SIZE")
    batch_timeout: float = _setting(0.0, _seconds_or_none)

    # -- images
    max_image_bytes: int = _setting(10 * 1024 * 1024, _integer(1))
    max_image_pixels: int = _setting(50_000_000, _integer(1))
    max_image_side: int = _setting(65_535, _integer(1))
    decode_memory: int = _setting(384 * 1024 * 1024, _integer(1024 * 1024))

    # -- requests
    max_body_bytes: int = _setting(32 * 1024 * 1024, _integer(1))
    body_memory: int = _setting(0, _integer(0))
    max_batch_items: int = _setting(256, _integer(1))
    batch_chunk: int = _setting(16, _integer(1))
    max_wait: float = _setting(30.0, _seconds)
    max_waiters: int = _setting(96, _integer(1))
    result_ttl: int = _setting(3600, _integer(1))
    failure_ttl: int = _setting(86_400, _integer(1))
    max_queue: int = _setting(10_000, _integer(1), alias="QUEUE_SIZE")
    max_queue_bytes: int = _setting(0, _integer(0))
    metrics_window: float = _setting(300.0, _seconds)
    any_strategy: str = _setting(
        "least_loaded", _one_of("least_loaded", "round_robin", "random"), alias="LOAD_BALANCE_STRATEGY"
    )
    lane_order: str = _setting("weighted", _one_of("weighted", "strict"))
    lane_weights: tuple[int, ...] = _setting((6, 3, 1), _integers)

    # -- reliability
    lease_ttl: float = _setting(2.0, _seconds, alias="WORKER_TIMEOUT")
    lease_renew: float = _setting(0.5, _seconds, alias="HEALTH_CHECK_INTERVAL")
    max_retries: int = _setting(3, _integer(0))
    retry_backoff: int = _setting(1, _integer(1), alias="RETRY_DELAY")
    retry_backoff_max: int = _setting(60, _integer(1))
    retry_jitter: bool = _setting(True, _switch)
    max_deliveries: int = _setting(3, _integer(1))
    hard_timeout: float = _setting(120.0, _seconds)
    chaos_enabled: bool = _setting(False, _switch)

    # -- access
    auth: str = _setting("auto", _one_of("auto", "on", "off"))
    admin_key: str = _setting("")
    api_keys: tuple[str, ...] = _setting((), _names)
    allowed_hosts: tuple[str, ...] = _setting((), _names)
    trusted_proxies: int = _setting(0, _integer(0, 10))
    rate_limit: tuple[int, float] | None = _setting(None, _rate)
    cache_ttl: int = _setting(0, _integer(0))
    webhook_secret: str = _setting("")
    webhook_hosts: tuple[str, ...] = _setting((), _names)

    def __post_init__(self) -> None:
        if not self.redis_url:
            object.__setattr__(self, "redis_url", _socket_url(self.broker_socket))
        if self.lease_renew * 2 > self.lease_ttl:
            raise SettingsError("LEASE_RENEW: must be at most half of LEASE_TTL, or one late renewal ends the lease"
                                " (their other names are HEALTH_CHECK_INTERVAL and WORKER_TIMEOUT)")  # fmt: skip
        if len(self.lane_weights) != 3 or min(self.lane_weights) < 1:
            raise SettingsError("LANE_WEIGHTS: give three positive integers, high,normal,low, for example 6,3,1")
        if not self.models:
            raise SettingsError("MODELS: name at least one model")

    def model(self, text: str) -> ModelName:
        """The model that ``--model`` or a command names: with its factory, where ``MODELS`` gives it one.

        Raises:
            SettingsError: invalid name.
        """
        try:
            wanted = ModelName(text)
        except ValueError as error:
            raise SettingsError(f"--model: {error}") from error
        return next((entry for entry in self.models if entry == wanted and not wanted.factory), wanted)

    @property
    def broker_folder(self) -> Path:
        """Data folder of the bundled broker."""
        return (Path(self.run_dir) / "redis").resolve()

    @property
    def broker_socket(self) -> Path:
        """Socket of the bundled broker: in its folder, or on a shorter path if the operating system requires it."""
        socket = self.broker_folder / "redis.sock"
        if len(os.fsencode(socket)) <= SOCKET_PATH_LIMIT:
            return socket
        name = hashlib.sha256(os.fsencode(self.broker_folder)).hexdigest()[:16]
        return Path(f"/tmp/inferlane-{os.geteuid()}-{name}/{socket.name}")  # noqa: S108 # nosec B108 # a folder is private

    @property
    def embeds_broker(self) -> bool:
        """Whether ``REDIS_URL`` is the bundled broker's."""
        return self.redis_url == _socket_url(self.broker_socket)

    @property
    def base_url(self) -> str:
        """The API's URL for clients of this host: ``API_URL``, or host and port."""
        return self.api_url.rstrip("/") or local_url(self.api_host, self.api_port)

    @property
    def public_url(self) -> str:
        """The API's URL for browsers: ``DASHBOARD_API_URL``, or :attr:`base_url`."""
        return self.dashboard_api_url.rstrip("/") or self.base_url

    @property
    def flower_url(self) -> str:
        """Flower's URL for browsers; empty if unset and browsers cannot reach this host's loopback."""
        local = self.dashboard_host in {"127.0.0.1", "localhost", "::1"}
        return self.dashboard_flower_url or (f"http://127.0.0.1:{self.flower_port}" if local else "")


def local_url(host: str, port: int) -> str:
    """The URL for clients of this host; a wildcard ``host`` includes loopback."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 # nosec B104 # no bind
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def variables() -> list[str]:
    """The name of every environment variable this project reads, aliases included."""
    return [name for item in fields(Settings) for name in _names_of(item)]


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``environ``; by default the process environment, which overrides ``.env``.

    A variable that is unset or empty keeps its default.

    Raises:
        SettingsError: an invalid value; the message starts with the variable's name.
    """
    if environ is None:
        environ = {key: value or "" for key, value in dotenv_values(".env").items()} | dict(os.environ)
    return Settings(**{name: value for item in fields(Settings) for name, value in _given(item, environ).items()})


def _socket_url(socket: Path) -> str:
    """The URL for redis-py and, with another scheme, kombu; Flower does not decode, so only specials are encoded."""
    return "unix://" + re.sub("[%?#;]", lambda found: f"%{ord(found[0]):02X}", str(socket))


def _names_of(item: Field[Any]) -> list[str]:
    """The variables of a field: its own and the alias."""
    return [item.name.upper(), *filter(None, [item.metadata["alias"]])]


def _given(item: Field[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The field's value, if a variable sets it."""
    values = {name: _parse(item, name, text) for name in _names_of(item) if (text := environ.get(name, "").strip())}
    if len(set(values.values())) > 1:
        own, alias = values
        raise SettingsError(f"{alias}: another name of {own}, which says otherwise; set one of them")
    return dict.fromkeys([item.name], next(iter(values.values()))) if values else {}


def _parse(item: Field[Any], name: str, text: str) -> Any:
    try:
        return item.metadata["parser"](text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error} (got {text!r})") from error


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    An invalid one ends the process with one line and exit code 2.
    """
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(MISUSED) from error
