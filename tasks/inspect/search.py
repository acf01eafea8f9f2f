"""The flight recorder's index: the requests of the last day by the time they were accepted, searched page by page.

Several requests may be accepted at the same instant, those of a batch are, so a page ends at a time *and* an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

#: Records that one call reads at most; for a search by the beginning of an id, ids that it looks at.
MOST_RECORDS = 2_000
MOST_IDS = 20_000
PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a search asks for; None asks for nothing.

    Attributes:
        status: the state it is in.
        model_type: the model it asked for.
        model: the model that answered it.
        worker: the node name of a worker that started it, at any attempt.
        request_id: how its id begins.
        since: accepted at this time or later, epoch seconds.
        until: accepted before this time.
    """

    status: str | None = None
    model_type: str | None = None
    model: str | None = None
    worker: str | None = None
    request_id: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether records have to be read to know if they are wanted."""
        return any((self.status, self.model_type, self.model, self.worker))

    def names(self, request_id: str) -> bool:
        """Whether the id alone allows it."""
        return self.request_id is None or request_id.startswith(self.request_id)

    def matches(self, request: Request) -> bool:
        """Whether it is wanted, by what its record says."""
        pairs = (
            (self.status, str(request.state)), (self.model_type, request.model_type), (self.model, request.model),
        )  # fmt: skip
        alike = all(asked is None or asked == found for asked, found in pairs)
        return alike and (self.worker is None or self.worker in request.workers)


#: An entry of the index: score as stored (epoch seconds), and request id.
Entry = tuple[float, str]


class Recent:
    """Searches the index."""

    def __init__(self, client: Client, keys: Keys, records: Records) -> None:
        self._client, self._keys, self._records = client, keys, records

    def search(self, wanted: Wanted, limit: int, cursor: str | None) -> tuple[list[Request], str | None]:
        """The newest wanted requests first, and the cursor of the next page; None when there is nothing older.

        A page may be shorter than ``limit``, even empty, and have a next one: a call reads at most so many records.

        Raises:
            ValueError: the cursor is none of ours.
        """
        found: list[Request] = []
        entries = self._entries(wanted, cursor)
        last: Entry | None = None
        for chunk in _chunks(
            islice(entries, MOST_RECORDS if wanted.narrow else MOST_IDS), PAGE if wanted.narrow else limit
        ):
            known = self._known([request_id for _, request_id in chunk if wanted.names(request_id)])
            for place, last in enumerate(chunk, 1):
                request = known.get(last[1])
                if request is not None and wanted.matches(request):
                    found.append(request)
                if len(found) == limit:
                    more = place < len(chunk) or next(entries, None) is not None
                    return found, _cursor(last) if more else None
        return found, _cursor(last) if last and next(entries, None) else None

    def _known(self, ids: Sequence[str]) -> dict[str, Request]:
        """Those whose record has not expired."""
        return {request.id: request for request in self._records.briefs(ids)}

    def _entries(self, wanted: Wanted, cursor: str | None) -> Iterator[Entry]:
        """Entries from the cursor on, newest first; what is accepted meanwhile shifts nothing."""
        before = _entry(cursor) if cursor else (wanted.until, "") if wanted.until is not None else None
        passed = 0  # entries of one instant that are not before the cursor
        while page := self._page(before, wanted.since, passed):
            fresh = [entry for entry in page if before is None or entry < before]
            yield from fresh
            before, passed = (fresh[-1], 0) if fresh else (before, passed + len(page))

    def _page(self, before: Entry | None, since: float | None, start: int) -> list[Entry]:
        top = "+inf" if before is None else f"{before[0]:.6f}"
        bottom = "-inf" if since is None else f"{since:.6f}"
        with translated():
            page = self._client.zrevrangebyscore(self._keys.recent, top, bottom, start=start, num=PAGE, withscores=True)
        return [(float(score), request_id.decode()) for request_id, score in page]


def _chunks(entries: Iterator[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """Chunks of ``size``, then of at least a page: the first is often enough."""
    while chunk := list(islice(entries, size)):
        yield chunk
        size = max(size, PAGE)


def _cursor(entry: Entry) -> str:
    return f"{entry[0]:.6f}:{entry[1]}"


def _entry(cursor: str) -> Entry:
    score, _, request_id = cursor.partition(":")
    return float(score), request_id
