"""The peers, and for each the configurations that are tried.

Each peer gets its own documented knobs on two cores: batching, workers or threads. The ``quick start`` configuration is
what its documentation shows first: its defaults, eager PyTorch and torchvision's transforms. All of them listen on
loopback; usage reports are switched off by the settings their documentation names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.caller import base64_json, multipart, raw

Form = Callable[[bytes], tuple[bytes, str]]
Command = tuple[str, ...]

QUICK_START = "quick start"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run a peer: how it is called in the report, its environment variables, how it gets a photo."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = None

    @property
    def quick_start(self) -> bool:
        """Whether this is the recipe of the peer's own documentation."""
        return self.name == QUICK_START


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another way to serve a model.

    Attributes:
        name: also of its environment and its requirements file.
        title: how the report calls it.
        package: whose version the report states.
        commands: its processes; the first word is a program of its environment, ``{port}`` and the like are filled in.
        configurations: those with the runtime of this project, best first as far as known; then the quick start.
        path: where photos go.
        form: how a photo is sent.
        redis: whether it needs a Redis.
        durable: what survives the death of a worker, in words.
    """

    name: str
    title: str
    package: str
    commands: tuple[Command, ...]
    configurations: tuple[Configuration, ...]
    path: str = "/"
    form: Form = raw
    redis: bool = False
    durable: str = "no"

    def select(self, most: int, *, quick_start: bool) -> list[Configuration]:
        """The first ``most`` configurations, with its quick start, if wanted, as the second."""
        tuned = [c for c in self.configurations if not c.quick_start][:most]
        return tuned[:1] + [c for c in self.configurations if c.quick_start and quick_start] + tuned[1:]


def _set(**values: object) -> dict[str, str]:
    return {f"BENCH_{name.upper()}" if name.islower() else name: str(value) for name, value in values.items()}


# Each worker its share of the two cores, as Inferlane's own workers take it.
_TWO = _set(workers=2, WORKERS_ON_HOST=2)
_ONE = _set(workers=1, WORKERS_ON_HOST=1)
_QUICK = Configuration(QUICK_START, _set(recipe="torch"))
_WEB = ("gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--keep-alive", "30")


def _image_data(photo: bytes) -> tuple[bytes, str]:
    return base64_json(photo, field="image_data")


def _image_form(photo: bytes) -> tuple[bytes, str]:
    return multipart(photo, field="image")


def _images_form(photo: bytes) -> tuple[bytes, str]:
    return multipart(photo, field="images")


PEERS = (
    Peer(
        name="litserve",
        title="LitServe",
        package="litserve",
        commands=(("python", "-m", "bench.peers.servers.litserve_server"),),
        configurations=(
            Configuration("2 workers, form", _TWO),
            Configuration("2 workers, base64", _TWO, _image_data),
            Configuration("2 workers, form, batches of 8", _TWO | _set(batch=8)),
            Configuration("2 workers, form, fast queue", _TWO | _set(fast_queue=1)),
            Configuration("1 worker, form, batches of 16", _ONE | _set(batch=16)),
            Configuration(QUICK_START, _set(recipe="torch"), _image_data),
        ),
        path="/predict",
        form=_image_form,
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        package="bentoml",
        commands=(
            (
                "bentoml", "serve", "bench.peers.servers.bentoml_server:Classifier",
                "--host", "127.0.0.1", "--port", "{port}",
            ),
        ),
        configurations=(
            Configuration("2 workers", _TWO),
            Configuration("2 workers, 2 threads each", _TWO | _set(threads=2)),
            Configuration("1 worker, 4 threads", _ONE | _set(threads=4)),
            Configuration("2 workers, batches of 8", _TWO | _set(batch=8)),
            Configuration("1 worker, batches of 16", _ONE | _set(batch=16)),
            _QUICK,
        ),
        path="/predict",
        form=_images_form,
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        package="ray",
        commands=(("python", "-m", "bench.peers.servers.ray_server"),),
        configurations=(
            Configuration("2 replicas", _TWO),
            Configuration("2 replicas, batches of 8", _TWO | _set(batch=8)),
            Configuration("1 replica, batches of 16", _ONE | _set(batch=16)),
            _QUICK,
        ),
    ),
    Peer(
        name="flask_celery",
        title="Flask + Celery",
        package="celery",
        commands=(
            (*_WEB, "--workers", "1", "--threads", "80", "bench.peers.servers.celery_web:app"),
            ("celery", "-A", "bench.peers.servers.celery_tasks", "worker", "--loglevel", "WARNING"),
        ),
        configurations=(
            Configuration("2 processes, prefetch 1", _TWO | _set(prefetch=1)),
            Configuration("2 processes, prefetch 4", _TWO),
            _QUICK,
        ),
        redis=True,
        durable="queue in Redis; a killed worker's tasks are lost (acknowledged early)",
    ),
    Peer(
        name="dramatiq",
        title="Flask + Dramatiq",
        package="dramatiq",
        commands=(
            (*_WEB, "--workers", "1", "--threads", "80", "bench.peers.servers.dramatiq_web:app"),
            ("dramatiq", "bench.peers.servers.dramatiq_tasks", "--processes", "{processes}", "--threads", "{threads}"),
        ),
        configurations=(
            Configuration("2 processes, 1 thread", _TWO | _set(processes=2, threads=1)),
            Configuration("1 process, 4 threads", _ONE | _set(processes=1, threads=4)),
            Configuration(QUICK_START, _set(recipe="torch", processes=2, threads=8)),
        ),
        redis=True,
        durable="queue in Redis; a killed worker's messages come back after its heartbeat timeout",
    ),
    Peer(
        name="rq",
        title="Flask + RQ",
        package="rq",
        commands=(
            (*_WEB, "--workers", "1", "--threads", "80", "bench.peers.servers.rq_web:app"),
            ("python", "-m", "bench.peers.servers.rq_worker"),
            ("python", "-m", "bench.peers.servers.rq_worker"),
        ),
        configurations=(Configuration("2 simple workers", _TWO), Configuration(QUICK_START, _set(recipe="torch"))),
        redis=True,
        durable="queue in Redis; a killed worker's job fails or is retried after its timeout",
    ),
)  # fmt: skip

QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}


def peer(name: str) -> Peer:
    """The peer of this name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    for candidate in PEERS:
        if candidate.name == name:
            return candidate
    raise ValueError(f"no peer {name!r}; there are {', '.join(p.name for p in PEERS)}")
