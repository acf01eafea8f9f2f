"""Every Celery and kombu setting. Sizes and places come from :mod:`common.settings`, the rest from the command line.

A leaf: it imports the settings and the names of lanes, nothing that imports the application.
"""

from celery.concurrency import ALIASES as POOL_ALIASES  # type: ignore[attr-defined]
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

from common.settings import get_settings
from tasks.lanes import ANY, all_lanes, lane

_settings = get_settings()


def _as_kombu_spells(url: str) -> str:
    """The same place; redis-py and kombu differ in how they name a Unix socket."""
    if not url.startswith("unix://"):
        return url
    return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


# -- broker
broker_url = _as_kombu_spells(_settings.redis_url)
# By alias, so that whatever builds a connection from the URL (Flower, the celery command line) gets the same transport.
TRANSPORT_ALIASES.update(
    redis="tasks.worker.channel:Transport",
    rediss="tasks.worker.channel:Transport",
    sentinel="tasks.worker.channel:SentinelTransport",
)
broker_transport_options = {
    "master_name": _settings.sentinel_master,
    "global_keyprefix": _settings.key_prefix,
    "priority_steps": [0],  # priorities are separate lanes; four sub-queues each would quadruple every take
    "queue_order_strategy": "tasks.lanes:configured_order",
    "socket_timeout": 10.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 5,
}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_channel_error_retry = True  # whatever Redis refuses, it may allow later: a worker waits and does not exit
broker_pool_limit = 32  # Flower's inspectors take two connections each, and hang for good when there are too few

# -- lanes
task_queues = [Queue(name, routing_key=name) for name in all_lanes(_settings.models)]
task_default_queue = lane("normal", ANY)
task_default_exchange = "inferlane"
task_default_exchange_type = "direct"
task_create_missing_queues = True

# -- messages
task_serializer = "json"
accept_content = ["json"]
result_backend = None  # the request record is the result
task_ignore_result = True
enable_utc = True
timezone = "UTC"

# -- delivery
task_acks_late = True
worker_prefetch_multiplier = 1  # deliveries are performed in order: with more, low lanes would pass high ones

# -- worker
# By alias, too: ``--pool threads`` stays what people type.
POOL_ALIASES["threads"] = "tasks.worker.task:TaskPool"
imports = ("tasks.worker.task", "tasks.worker.process")
worker_pool = "threads"
worker_concurrency = 16
worker_consumer = "tasks.worker.process:Consumer"
worker_send_task_events = False
worker_hijack_root_logger = False
worker_redirect_stdouts = False
worker_cancel_long_running_tasks_on_connection_loss = False
# Held deliveries count against the credit over a broken connection too (tasks/worker/ownership.py): reducing the
# credit as well would count it twice.
worker_enable_prefetch_count_reduction = False
