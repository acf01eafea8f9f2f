from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import httpx
import pytest

from inferlane import AsyncClient, Client
from inferlane.errors import UnexpectedAnswer

KNOWN = [{"request_id": f"r{n}", "state": "succeeded", "model_type": "any", "priority": "low"} for n in range(7)]


class Pages:
    """An API that has seven requests and gives them in pages, one of which is empty and not the last."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(dict(request.url.params))
        begin, size = int(request.url.params.get("cursor", 0)), int(request.url.params["limit"])
        found = [] if begin == 4 and len(self.asked) == 3 else KNOWN[begin : begin + size]
        after = begin + len(found)
        return httpx.Response(200, json={"requests": found, "next_cursor": str(after) if after < len(KNOWN) else None})


def listed(pages: Pages, **asked: Any) -> list[str]:
    with Client("http://api", transport=httpx.MockTransport(pages)) as client:
        return [snapshot.request_id for snapshot in client.requests(**asked)]


def listed_async(pages: Pages, **asked: Any) -> list[str]:
    async def play() -> list[str]:
        async with AsyncClient("http://api", transport=httpx.MockTransport(pages)) as client:
            return [snapshot.request_id async for snapshot in client.requests(**asked)]

    return asyncio.run(play())


@pytest.mark.parametrize("ask", [listed, listed_async])
def test_every_request_comes_once_over_all_pages(ask: Any) -> None:
    pages = Pages()
    assert ask(pages, status="succeeded", model_type="any", page_size=2) == [item["request_id"] for item in KNOWN]
    assert pages.asked[0] == {"status": "succeeded", "model_type": "any", "limit": "2"}
    assert [asked.get("cursor") for asked in pages.asked] == [None, "2", "4", "4", "6"]


def test_a_page_is_fetched_when_its_turn_comes() -> None:
    pages = Pages()
    with Client("http://api", transport=httpx.MockTransport(pages)) as client:
        assert len(list(islice(client.requests(page_size=3), 3))) == 3
    assert pages.asked == [{"limit": "3"}]


@pytest.mark.parametrize("body", [{}, {"requests": [{}]}, {"requests": None}])
def test_what_is_no_page_is_unexpected(body: Any) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    with Client("http://api", transport=transport) as client, pytest.raises(UnexpectedAnswer):
        list(client.requests())
