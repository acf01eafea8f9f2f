from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from inferlane import AsyncClient
from inferlane.errors import Canceled, InvalidImage, Timeout
from tests.integration.client.conftest import image
from tests.support.stack import ApiProcess

Play = Callable[[Callable[[AsyncClient], Awaitable[None]]], None]


@pytest.fixture
def play(toy_api: ApiProcess) -> Play:
    def run(scene: Callable[[AsyncClient], Awaitable[None]]) -> None:
        async def main() -> None:
            async with AsyncClient(toy_api.url, timeout=30) as client:
                await scene(client)

        asyncio.run(main())

    return run


def test_predict_and_awaited_jobs_run_side_by_side(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        jobs = [await client.submit(image("sleep 0.05"), "toy") for _ in range(4)]
        assert not (await jobs[-1].status()).ended
        results = await asyncio.gather(*jobs, client.predict(image(), "toy"))
        assert [result.model for result in results] == ["toy"] * 5
        assert (await jobs[0].status(wait=1)).state == "succeeded"

    play(scene)


def test_a_timeout_keeps_the_handle(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        with pytest.raises(Timeout) as caught:
            await client.predict(image("sleep 1"), "toy", timeout=0.3)
        assert caught.value.request_id is not None
        assert (await client.job(caught.value.request_id)).model == "toy"

    play(scene)


def test_cancel(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        job = await client.submit(image("sleep 1"), "toy")
        await job.cancel()
        with pytest.raises(Canceled):
            await job

    play(scene)


def test_as_completed(play: Play, tmp_path: Path) -> None:
    async def scene(client: AsyncClient) -> None:
        sources = [image("sleep 0.3"), *[image() for _ in range(6)], b"no image"]
        seen = [outcome async for outcome in client.as_completed(sources, model="toy", concurrency=3)]
        assert sorted(outcome.index for outcome in seen) == list(range(8))
        assert isinstance(next(outcome.error for outcome in seen if outcome.index == 7), InvalidImage)
        slow = next(outcome for outcome in seen if outcome.index == 0)
        assert slow.unwrap().timings["infer"] >= 0.3

    play(scene)


def test_stopping_early_stops_at_once_and_leaves_nothing_running(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        outcomes = client.as_completed([image(), *[image("sleep 2") for _ in range(3)]], model="toy", concurrency=4)
        assert (await anext(outcomes)).result is not None
        began = time.monotonic()
        await outcomes.aclose()
        assert time.monotonic() - began < 1
        assert len(asyncio.all_tasks()) == 1

    play(scene)


def test_a_batch_can_be_awaited(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        batch = await client.submit_batch([image(), b"no image"], "toy")
        good, bad = await batch
        assert good.unwrap().model == "toy"
        assert isinstance(bad.error, InvalidImage)
        assert (await batch.status()).ended
        assert (await client.document("/health", accept={503}))["broker"] == "up"

    play(scene)


def test_names_of_photos_come_back_with_a_batch(play: Play, tmp_path: Path) -> None:
    path = tmp_path / ("a" * 120) / ("b" * 120 + ".gif")  # longer than the API's custom_id
    path.parent.mkdir()
    path.write_bytes(image())

    async def scene(client: AsyncClient) -> None:
        batch = await client.submit_batch([path], "toy")
        assert [outcome.source for outcome in await batch] == [path]
        (found,) = await client.batch(batch.id).results()
        assert str(path).endswith(found.source)

    play(scene)
