"""What one request costs in Redis, from acceptance to answer: a count, so that the machine does not matter."""

from __future__ import annotations

import json
import time

import pytest
import redis

from common.settings import Settings
from tasks.inspect.monitor import Monitor
from tasks.protocol import envelope, scripts
from tasks.protocol.keys import Keys
from tasks.protocol.records import Records
from tasks.protocol.requests import AttemptEnd, State
from tasks.worker.channel import take_call
from tasks.worker.ownership import Ownership
from tasks.worker.registration import Registration
from tasks.worker.sweep import Sweep
from tests.support.redis_server import RedisServer

LANE = "normal.m"
REQUESTS = 200
#: Commands, those inside scripts included, and bytes appended to the append-only file, per request, an image of 5 bytes
#: and a result of 900 included: half of what it was at first. Lower them when you can.
COMMANDS = 42
BYTES = 4_148
#: Commands and bytes of writing statistics, once a second, however many requests there were.
STATISTICS = 300, 21_000


class Life:
    """Takes requests through the real scripts, one at a time, as the API and a worker do."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.keys = Keys("cost:")
        settings = Settings(key_prefix=self.keys.prefix)
        self.records = Records(self.client, settings)
        self.owner = Ownership("w")
        self.image = b"image"
        Registration(self.client, settings).renew(self.owner.boot, '{"model":"m"}', register=True)

    def run(self, number: int) -> None:
        """A call that waits for its answer."""
        name = f"ann/01900000-0000-7000-8000-{number:012x}"
        upload, reply = self.keys.image(name), self.keys.reply("r")
        self.client.set(upload, self.image, ex=60, nx=True)
        args = [self.keys.prefix, LANE, envelope.seal(LANE, [name]), 100, 0, 0, "", reply + "+", 1, LANE]
        args += [name, json.dumps({"top_k": 5}), "f" * 40, "", "0.020", len(self.image), "", upload]
        scripts.run(self.client, "accept", self.keys.lane_and_bell(LANE), args)
        tag = self.owner.new_tag()
        scripts.run(self.client, "take", *take_call(self.keys, self.owner, [LANE], [tag], [[LANE]], 1))
        self.owner.hold(tag)
        (attempt,) = self.records.begin([name], self.owner.boot, tag, "m").attempts
        outcome = AttemptEnd(state=State.SUCCEEDED, result=json.dumps("r" * 898), decode=0.001, infer=0.002, batch=1)
        assert self.records.commit(self.owner.boot, attempt, outcome)
        self.owner.acknowledge(tag)
        assert self.client.blpop(reply)

    def spent(self) -> tuple[int, int]:
        """Commands run and bytes appended until now."""
        commands = sum(row["calls"] for row in self.client.info("commandstats").values())
        return commands, self.client.info("persistence")["aof_current_size"]


@pytest.fixture
def life(own_redis: RedisServer) -> Life:
    return Life(own_redis.url)


def test_a_request_costs_no_more_commands_and_bytes_than_it_did(life: Life) -> None:
    life.run(0)
    before = life.spent()
    for number in range(1, REQUESTS + 1):
        life.run(number)
    ended = life.spent()
    life.records.statistics.flush(life.client, life.keys.prefix)
    commands, size = (round((after - start) / REQUESTS) for start, after in zip(before, ended, strict=True))
    assert commands <= COMMANDS, size
    assert size <= BYTES, commands
    written = [after - start for start, after in zip(ended, life.spent(), strict=True)]
    assert [some <= most for some, most in zip(written, STATISTICS, strict=True)] == [True, True], written


def test_statistics_are_flushed_once_and_survive_an_outage(life: Life, own_redis: RedisServer) -> None:
    monitor = Monitor(Settings(redis_url=own_redis.url, key_prefix=life.keys.prefix))
    life.run(0)
    assert monitor.latencies()["total"]["count"] == 0
    own_redis.stop()
    with pytest.raises(redis.ConnectionError):
        life.records.statistics.flush(life.client, life.keys.prefix)
    own_redis.start()
    for _ in range(2):
        life.records.statistics.flush(life.client, life.keys.prefix)
    counts = {stage: row["count"] for stage, row in monitor.latencies().items()}
    assert counts == dict.fromkeys(("queue", "decode", "infer", "total", "eta_error"), 1)
    assert monitor.latencies()["infer"]["mean"] == 0.002
    assert monitor.batch_sizes() == {LANE: {1: 1}}
    assert sum(row["succeeded"] for row in monitor.history(2)) == 1
    assert monitor.ends(5) == {"m": (1, 0)}


def test_a_sweep_trims_the_lists_of_recent_requests(life: Life) -> None:
    life.run(0)
    recent = [life.keys.recent, life.keys.recent_of("ann")]
    life.client.sadd(life.keys.owners, "ann")
    for key in recent:
        life.client.zadd(key, {"ann/old": time.time() - 90_100})
    Sweep(life.client, life.keys).run()
    assert [life.client.zcard(key) for key in recent] == [1, 1]
