"""The worker process: one model, pinned by ``--model``; Celery bootsteps bring it up and take it down.

Start: claim an identity, choose the lanes, load and warm the model, register; only then consume.
Stop: Celery finishes what runs; then the other deliveries go back and the lease ends.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psutil
from celery import bootsteps, signals
from celery.worker import state as celery_state
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Queue
from redis.exceptions import RedisError

from common import logs
from common.settings import SettingsError, get_settings
from tasks.celery import app
from tasks.errors import BrokerUnavailable, UnsupportedServer
from tasks.inspect.redis_info import shared
from tasks.lanes import Lane, lanes_of
from tasks.protocol import connections
from tasks.protocol.payloads import store_at
from tasks.protocol.records import Records
from tasks.worker import ownership
from tasks.worker.chaos import Chaos
from tasks.worker.guardian import guard
from tasks.worker.lease import Lease
from tasks.worker.pipeline import Pipeline
from tasks.worker.tidier import tidy
from worker_models.errors import ModelError
from worker_models.machine import intra_op_threads, return_large_buffers, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from common.settings import Settings
    from tasks.worker.delivery import Delivery
    from tasks.worker.guardian import Pulse
    from tasks.worker.ownership import Ownership
    from worker_models.model import Model

log = logging.getLogger(__name__)


#: The name of a model before its factory is called; nothing is taken from its lanes.
UNNAMED = "unnamed"

#: Shared with this worker's guardian; None before it has one, or where there is none.
_pulse: Pulse | None = None


@signals.setup_logging.connect
def _setup_logging(**_: Any) -> None:
    logs.configure(get_settings(), process="worker")


@signals.celeryd_init.connect
def _pin(sender: str, conf: Any, options: Mapping[str, Any], **_: Any) -> None:
    """Before any connection is opened: give this process its identity and its lanes."""
    model = options.get("model")
    if not model:
        sys.exit("a worker serves one model: name it with --model, for example --model resnet18")
    if options.get("chaos", "off") != "off" and not get_settings().chaos_enabled:
        sys.exit("--chaos needs CHAOS_ENABLED=1")
    owner = ownership.claim(sender)
    global _pulse  # noqa: PLW0603 - a process has one
    try:
        settings = get_settings()
        wanted = settings.model(model)
        _pulse = guard(owner.boot, wanted.factory or wanted, settings)
    except SettingsError as error:
        sys.exit(str(error))
    except OSError as error:  # Celery would log it and go on with every lane there is
        sys.exit(f"this worker cannot have a guardian: {error}")
    if sys.argv[0].endswith("__main__.py"):  # what Celery runs again on SIGHUP, which cannot be run as a file
        sys.argv[:1] = ["-m", "celery"]
    conf.task_queues = _queues(UNNAMED if wanted == wanted.factory else wanted)


def _queues(model: str) -> list[Queue]:
    return [Queue(name, routing_key=name) for name in lanes_of(model)]


class PinnedModel(bootsteps.StartStopStep):
    """Loads the model and its batcher, then takes out the lease. The consumer starts after every other step."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, model: str | None = None, chaos: str = "off", **kwargs: Any) -> None:
        self._name = model or ""
        self._chaos_mode = chaos
        self.lease: Lease | None = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        """Bring the model up, or end the process with one line that says what to do."""
        from worker_models.model import batcher_shape  # NumPy starts threads: not before the fork

        settings = get_settings()
        owner = ownership.current()
        assert owner is not None  # noqa: S101 - celeryd_init came first
        return_large_buffers()
        try:
            store_at(settings.payload_store)
            model = _load(self._name)
        except (ModelError, SettingsError) as error:
            log.critical("%s", error)
            raise SystemExit(1) from error
        chaos = Chaos(settings)
        infer = chaos.around(model.infer) if settings.chaos_enabled else model.infer
        shape = batcher_shape(model, settings)
        owner.batch = shape.max_batch * shape.passes
        records = Records(connections.patient(settings.redis_url), settings)
        pipeline = Pipeline(model, infer, shape, records, owner, decoders=usable_cores(), trace=_trace(settings))
        owner.most = pipeline.most
        owner.cost = lambda: pipeline.tally.service_seconds
        owner.on_room = lambda: parent.hub.call_soon(lambda: None)  # once awake, the loop takes another delivery
        parent.pool.pipeline = pipeline
        parent.chaos = chaos if settings.chaos_enabled else None
        # What exists now stays: the collector need not visit it (common.serving).
        gc.collect()
        gc.freeze()
        gc.collect()
        _consume(parent.app.amqp.queues, model.name)
        self.lease = lease = _lease(pipeline, model.name, parent)
        signals.worker_shutting_down.connect(lambda **_: lease.stopping(), weak=False)
        _register(self.lease)
        tidy(settings)
        if self._chaos_mode != "off":
            chaos.set(self._chaos_mode)

    def stop(self, parent: Any) -> None:
        """Announce the stop: Celery stops its steps in reverse, so the pool still has work; see :func:`_goodbye`."""
        parent.pinned = self
        if self.lease is not None:
            self.lease.stopping()


def _trace(settings: Settings) -> Callable[[Delivery], None] | None:
    if not settings.otel_enabled:
        return None
    from tasks.worker.spans import trace_worker

    return trace_worker()


def _consume(queues: Any, model: str) -> None:
    """Consume the lanes of this model, if its name was unknown before it was loaded."""
    if any(Lane.parse(name).model == UNNAMED for name in queues.consume_from):
        queues.deselect(list(queues.consume_from))
        for queue in _queues(model):
            queues.select_add(queue)


def _load(name: str) -> Model:
    from worker_models.model import load_model

    began = time.perf_counter()
    model = load_model(name, get_settings())
    model.warm_up()
    numbers = getattr(model, "precision", None)
    log.info(
        "model %s ready after %.1f s: %s on %s, weights %s",
        model.name, time.perf_counter() - began, model.runtime + (f" {numbers}" if numbers else ""), model.device,
        model.weights,
    )  # fmt: skip
    return model


def _register(lease: Lease) -> None:
    """Take out the lease as soon as Redis answers: a host may start before its network, or before Redis."""
    pause = 0.5
    while True:
        try:
            lease.start()
        except UnsupportedServer as error:
            log.critical("%s", error)
            raise SystemExit(1) from error
        except (RedisError, OSError) as error:
            log.error("not registered yet: %s; again in %.1f s", connections.why(error), pause)  # noqa: TRY400 - says it all
        else:
            return
        time.sleep(pause)
        celery_state.maybe_shutdown()
        pause = min(2 * pause, 5.0)


def _lease(pipeline: Pipeline, model: str, parent: Any) -> Lease:
    settings = get_settings()
    fixed = _identity(pipeline, model, parent) | _setup(settings)
    process, ordered = psutil.Process(), threading.Event()
    return Lease(
        settings,
        pipeline,
        describe=lambda: fixed | _state(pipeline, process, parent.chaos),
        obey=partial(_obey, pipeline.owner, parent.chaos, ordered),
        pulse=_pulse,
    )


def _identity(pipeline: Pipeline, name: str, parent: Any) -> dict[str, Any]:
    model, owner = pipeline.model, pipeline.owner
    return {
        "id": parent.hostname, "boot": owner.boot, "host": socket.gethostname(), "pid": os.getpid(),
        "model": name, "version": model.version, "weights": model.weights, "runtime": model.runtime,
        "precision": getattr(model, "precision", None), "fast": getattr(model, "fast", None),
        "device": model.device, "concurrency": parent.concurrency, "max_batch": owner.batch, "started_at": time.time(),
    }  # fmt: skip


def _state(pipeline: Pipeline, process: psutil.Process, chaos: Chaos | None) -> dict[str, Any]:
    tally, in_flight, cpu = pipeline.tally, pipeline.in_flight, process.cpu_times()
    return {
        "state": ("busy" if in_flight else "idle") if pipeline.owner.taking else "draining",
        "in_flight": in_flight,
        "processed": tally.processed,
        "failed": tally.failed,
        "service_seconds": round(tally.service_seconds, 6),
        "rss_bytes": process.memory_info().rss,
        "cpu_seconds": round(cpu.user + cpu.system, 2),
        "chaos": chaos.mode if chaos else None,
        "last_heartbeat": time.time(),
    }


def _obey(owner: Ownership, chaos: Chaos | None, ordered: threading.Event, orders: dict[str, Any]) -> None:
    """Carry out an operator's orders; ``ordered`` is set by the order to restart."""
    owner.taking = not orders.get("drain", False)
    if chaos:
        chaos.order(orders.get("chaos"))
    if orders.get("restart", {}).get("boot") == owner.boot and not ordered.is_set():
        ordered.set()  # Celery would take a second signal for impatience
        log.warning("ordered to restart: this worker finishes its deliveries and exits")
        os.kill(os.getpid(), signal.SIGTERM)


def _setup(settings: Settings) -> dict[str, Any]:
    """How this process is set up, for ``GET /admin/doctor``."""
    return {
        "intra_op_threads": intra_op_threads(settings),
        "cpu_count": usable_cores(),
        "cpu_mask": f"{sum(1 << core for core in os.sched_getaffinity(0)):x}",
        "versions": {package: version(package) for package in ("celery", "kombu", "redis")},
        "configured": shared(settings),
    }


@signals.worker_shutdown.connect
def _goodbye(sender: Any, **_: Any) -> None:
    """After the pool has finished: give the other deliveries back and end the lease."""
    pinned: PinnedModel | None = getattr(sender, "pinned", None)
    if pinned is not None and pinned.lease is not None:
        pinned.lease.stop()


app.steps["worker"].add(PinnedModel)


class Consumer(CeleryConsumer):
    """Celery's consumer, with fast reconnects and without mingle and gossip."""

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        quiet = {**(worker_options or {}), "without_mingle": True, "without_gossip": True}
        super().__init__(*args, **{**kwargs, "worker_options": quiet})

    def ensure_connected(self, conn: Any) -> Any:
        """Try again every second, for as long as it takes."""

        def tell(error: Exception, interval: float) -> None:
            log.error("no connection to %s: %s; again in %.1f s", conn.as_uri(), error, interval)

        conn = conn.ensure_connection(
            tell, None, interval_start=0.2, interval_step=0.2, interval_max=1.0, callback=celery_state.maybe_shutdown
        )
        self.first_connection_attempt = False
        self._wait_for_writes(tell)
        return conn

    @staticmethod
    def _wait_for_writes(tell: Callable[[Exception, float], None]) -> None:
        """Return once Redis takes writes: a replica accepts connections and refuses what a consumer begins with."""
        settings = get_settings()
        client, pause = connections.prompt(settings.redis_url), 0.2
        while True:
            try:
                with connections.translated():
                    client.delete(f"{settings.key_prefix}none")
            except BrokerUnavailable as error:
                tell(error, pause)
            else:
                return
            celery_state.maybe_shutdown()
            time.sleep(pause)
            pause = min(pause + 0.2, 1.0)
