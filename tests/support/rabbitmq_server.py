"""A real RabbitMQ node for tests: loopback, free ports, its own data, name and epmd; all of it ends with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import amqp
import pytest

from tasks.brokers.letters import FIRST, UNDELIVERABLE
from tasks.lanes import all_lanes
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.file = false
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 512MiB
disk_free_limit.absolute = 10MB
"""

#: One scheduler that does not spin: the tests share their machine.
ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"


def server_script() -> Path | None:
    """The script that starts a node as whoever calls it; the one on the PATH changes to a user of its own."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if found:
        return found[-1]
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path) if on_path else None


needs_rabbitmq = pytest.mark.skipif(
    server_script() is None or shutil.which("epmd") is None, reason="rabbitmq-server is not installed"
)


class RabbitmqServer:
    """A node that can be killed, stopped and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self._epmd_port, self._node_port = free_port(), free_port(), free_port()
        (folder / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port))
        self._epmd = Process(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            name="epmd", folder=folder, environ=os.environ,
        )  # fmt: skip
        self.launch()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def launch(self) -> None:
        """Start the node without waiting for it; see :meth:`wait`."""
        self.process = Process([str(server_script())], name="rabbitmq", folder=self.folder, environ=self._environ())

    def start(self) -> None:
        self.launch()
        self.wait()

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return kept | {
            "HOME": str(self.folder),  # for the cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }

    def wait(self, timeout: float = 120.0) -> None:
        """Until it answers: half a minute on a busy machine, five seconds on an idle one."""
        wait_until(self._answers, timeout, interval=0.2, what="rabbitmq-server answers")

    def _answers(self) -> bool:
        self.process.check_alive()
        try:
            self.connect().close()
        except (OSError, amqp.exceptions.AMQPError):
            return False
        return True

    def connect(self) -> amqp.Connection:
        """A connection for a test's own questions."""
        connection = amqp.Connection(host=f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=10)
        connection.connect()
        return connection

    def forget(self, models: Sequence[str]) -> None:
        """Delete the queues of a stack that has ended: the next one has the same names and other records."""
        with self.connect() as connection:
            for queue in [*all_lanes(models), *(f"{FIRST}.{model}" for model in models), FIRST, UNDELIVERABLE]:
                connection.channel().queue_delete(queue)

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue; none when nobody has made it yet."""
        with self.connect() as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).message_count)
            except amqp.exceptions.NotFound:
                return 0

    def kill(self) -> None:
        """SIGKILL to the node."""
        self.process.kill()

    def stop(self) -> None:
        """End the node and its epmd."""
        self.process.stop(20)
        self._epmd.stop()
