"""Two systems beside each other, by Redis or by prefix: neither sees, serves or counts what is the other's."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tasks.errors import UnknownRequest, UnsupportedModel
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tests.support.oracle import all_ended, check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack


@pytest.mark.parametrize("shared", [False, True], ids=["two-redises", "one-redis-two-prefixes"])
def test_two_systems_keep_apart(own_redis: RedisServer, redis_url: str, tmp_path: Path, shared: bool) -> None:
    urls = (own_redis.url, own_redis.url if shared else redis_url)
    with (
        Stack(urls[0], tmp_path / "a", MODELS="toy", KEY_PREFIX="a:") as one,
        Stack(urls[1], tmp_path / "b", MODELS="photo", KEY_PREFIX="b:" if shared else "a:", TOY_SECONDS=0.01) as two,
        closing(Gateway(one.settings())) as toys,
        closing(Gateway(two.settings())) as photos,
    ):
        # A worker of the other's model, and of the same name, on each side.
        one.start_worker("tests.toy:toy", name="worker")
        two.start_worker("tests.toy:photo", name="worker")
        with pytest.raises(UnsupportedModel):
            toys.submit(Submission(image=b"ok", model_type="photo"))
        sent_toys = [toys.submit(Submission(image=b"ok")).id for _ in range(20)]
        sent_photos = [photos.submit(Submission(image=b"ok")).id for _ in range(20)]
        answered = all_ended(toys, sent_toys, 20), all_ended(photos, sent_photos, 20)
        assert [{request.model for request in requests} for requests in answered] == [{"toy"}, {"photo"}]
        with pytest.raises(UnknownRequest):
            photos.get(sent_toys[0])
        for stack, requests in zip((one, two), answered, strict=True):
            monitor = Monitor(stack.settings())
            assert len(monitor.workers()) == 1
            check_books(monitor, requests)
