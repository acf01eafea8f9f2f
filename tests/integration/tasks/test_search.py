"""Searching the flight recorder: pages that join without a gap, whatever is asked for and whatever comes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from common.settings import Settings, load_settings
from tasks.inspect.monitor import Monitor
from tasks.inspect.search import MOST_RECORDS, SearchFilter
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.keys import Keys
from tests.support.crowd import keep_requests

NUMBER = 300


@pytest.fixture
def settings(empty_redis: str) -> Settings:
    return load_settings({"REDIS_URL": empty_redis, "MODELS": "resnet18,mobilenet"})


@pytest.fixture
def monitor(settings: Settings) -> Monitor:
    return Monitor(settings)


@pytest.fixture
def database(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


@pytest.fixture
def gateway(settings: Settings) -> Iterator[Gateway]:
    made = Gateway(settings)
    yield made
    made.close()


def pages(monitor: Monitor, wanted: SearchFilter, limit: int) -> list[str]:
    """The ids of all pages, newest first."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        found, cursor = monitor.recent(wanted, limit=limit, cursor=cursor)
        ids += [request.id for request in found]
        if cursor is None:
            return ids


def test_pages_join_though_a_batch_was_accepted_at_one_instant(gateway: Gateway, monitor: Monitor) -> None:
    batch = [Submission(image=b"x", model_type="resnet18", request_id=f"b.{n:02}", batch_id="b") for n in range(30)]
    gateway.submit_many(batch)
    assert sorted(pages(monitor, SearchFilter(), 7)) == [item.request_id for item in batch]


@pytest.mark.parametrize("limit", [7, 50, 250])
def test_every_request_is_on_one_page(settings: Settings, database: redis.Redis, monitor: Monitor, limit: int) -> None:
    ids = keep_requests(database, settings.key_prefix, NUMBER)
    assert pages(monitor, SearchFilter(), limit) == ids[::-1]


def test_a_page_is_not_shifted_by_what_is_accepted_meanwhile(
    settings: Settings, database: redis.Redis, monitor: Monitor, gateway: Gateway
) -> None:
    ids = keep_requests(database, settings.key_prefix, NUMBER)
    first, cursor = monitor.recent(limit=20)
    for _ in range(5):
        gateway.submit(Submission(image=b"x"))
    second, _ = monitor.recent(limit=20, cursor=cursor)
    assert [request.id for request in first + second] == ids[:-41:-1]


def test_what_is_older_than_records_that_have_expired_is_still_found(
    settings: Settings, database: redis.Redis, monitor: Monitor
) -> None:
    ids = keep_requests(database, settings.key_prefix, 900)
    database.delete(*[Keys(settings.key_prefix).request(each) for each in ids[100:800]])
    assert pages(monitor, SearchFilter(), 50) == ids[800:][::-1] + ids[:100][::-1]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (SearchFilter(status="failed"), NUMBER // 20),
        (SearchFilter(model_type="mobilenet"), NUMBER // 2),
        (SearchFilter(model="mobilenet", status="failed"), 0),
        (SearchFilter(worker="w7@host"), NUMBER // 50),
        (SearchFilter(worker="w7@host", model_type="resnet18"), 0),
        (SearchFilter(worker="w7"), 0),
    ],
)
def test_each_thing_asked_for_narrows_the_search(
    settings: Settings, database: redis.Redis, monitor: Monitor, wanted: SearchFilter, number: int
) -> None:
    keep_requests(database, settings.key_prefix, NUMBER)
    assert len(pages(monitor, wanted, 10)) == number


def test_a_time_and_the_beginning_of_an_id_narrow_it_too(
    settings: Settings, database: redis.Redis, monitor: Monitor
) -> None:
    ids = keep_requests(database, settings.key_prefix, NUMBER)
    records, _ = monitor.recent(limit=NUMBER)
    since, until = records[99].created_at, records[49].created_at
    assert pages(monitor, SearchFilter(since=since, until=until), 20) == ids[::-1][50:100]
    assert pages(monitor, SearchFilter(request_id=ids[5][:13]), 20) == [ids[5]]
    assert pages(monitor, SearchFilter(request_id=ids[5], until=until), 20) == [ids[5]]
    assert pages(monitor, SearchFilter(request_id=ids[5], since=since), 20) == []


def test_a_call_reads_no_more_than_it_may_and_the_next_goes_on(
    settings: Settings, database: redis.Redis, monitor: Monitor
) -> None:
    ids = keep_requests(database, settings.key_prefix, MOST_RECORDS + 10)
    wanted = replace(SearchFilter(), worker="w3@host")
    oldest = [each for place, each in enumerate(ids) if place % 50 == 3]
    few, cursor = monitor.recent(wanted, limit=len(oldest))
    assert len(few) < len(oldest)
    rest, _ = monitor.recent(wanted, limit=10, cursor=cursor)
    assert [request.id for request in few + rest] == oldest[::-1]


def test_a_part_of_the_id_or_of_the_custom_id_is_enough(gateway: Gateway, monitor: Monitor) -> None:
    for number, name in enumerate(("left door", "right door", None)):
        gateway.submit(Submission(image=b"x", model_type="resnet18", request_id=f"r.{number}", custom_id=name))
    assert pages(monitor, SearchFilter(contains="door"), 10) == ["r.1", "r.0"]
    assert pages(monitor, SearchFilter(contains=".2"), 10) == ["r.2"]
    assert pages(monitor, SearchFilter(contains="window"), 10) == []
