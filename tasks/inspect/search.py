"""Search of the requests of the last day, newest first, page by page.

The requests of a batch are accepted at the same instant, so a page ends at a time *and* an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.protocol.connections import translated
from tasks.protocol.owners import ANONYMOUS, owner_of, public_id
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

#: Records that one call reads at most; for a search by the beginning of an id, ids that it looks at.
MOST_RECORDS = 2_000
MOST_IDS = 20_000
PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilter:
    """Which requests a search returns; None allows any.

    Attributes:
        status: the state it is in.
        model_type: the requested model.
        model: the model that answered it.
        worker: the node name of a worker that started it, at any attempt.
        request_id: how its public id begins.
        owner: the owner.
        contains: a part of its public id or of its custom_id.
        since: accepted at this time or later, epoch seconds.
        until: accepted before this time.
    """

    status: str | None = None
    model_type: str | None = None
    model: str | None = None
    worker: str | None = None
    request_id: str | None = None
    owner: str | None = None
    contains: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether it depends on the records, not only on ids and times."""
        return any((self.status, self.model_type, self.model, self.worker, self.contains))

    def names(self, request_id: str) -> bool:
        """Whether it allows the id."""
        return self.owner in (None, owner_of(request_id)) and public_id(request_id).startswith(self.request_id or "")

    def matches(self, request: Request) -> bool:
        """Whether it allows the record."""
        return (
            self.status in (None, str(request.state))
            and self.model_type in (None, request.model_type)
            and self.model in (None, request.model)
            and (self.worker is None or self.worker in request.workers)
            and (
                self.contains is None
                or any(self.contains in each for each in (public_id(request.id), request.custom_id or ""))
            )
        )


#: When a request was accepted (epoch seconds), and its id.
Indexed = tuple[float, str]
EVERYTHING = SearchFilter()


def search(
    records: Records, criteria: SearchFilter = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> tuple[list[Request], str | None]:
    """The newest matching requests, and the cursor of the next page; None when there is nothing older.

    A call reads a limited number of records, so a page may be short, even empty, and have a next one. Raises ValueError
    if the cursor is malformed.
    """
    found: list[Request] = []
    entries = _entries(records, criteria, cursor)
    last: Indexed | None = None
    most, first = (MOST_RECORDS, PAGE) if criteria.narrow else (MOST_IDS, limit)
    for chunk in _chunks(islice(entries, most), first):
        ids = [request_id for _, request_id in chunk if criteria.names(request_id)]
        known = {request.id: request for request in records.briefs(ids)}
        for place, last in enumerate(chunk, 1):
            request = known.get(last[1])
            if request is not None and criteria.matches(request):
                found.append(request)
            if len(found) == limit:
                more = place < len(chunk) or next(entries, None) is not None
                return found, _cursor(last) if more else None
    return found, _cursor(last) if last and next(entries, None) else None


def _entries(records: Records, criteria: SearchFilter, cursor: str | None) -> Iterator[Indexed]:
    """Entries from the cursor on, newest first; requests accepted meanwhile shift nothing."""
    before = _entry(cursor) if cursor else (criteria.until, "") if criteria.until is not None else None
    owner, bottom = criteria.owner or ANONYMOUS, "-inf" if criteria.since is None else f"{criteria.since:.6f}"
    index = records.keys.recent if owner == ANONYMOUS else records.keys.recent_of(owner)
    passed = 0  # entries of one instant that are not before the cursor
    while True:
        top = "+inf" if before is None else f"{before[0]:.6f}"
        with translated():
            page = records.client.zrevrangebyscore(index, top, bottom, start=passed, num=PAGE, withscores=True)
        if not page:
            return
        entries = [(float(score), request_id.decode()) for request_id, score in page]
        fresh = [entry for entry in entries if before is None or entry < before]
        yield from fresh
        before, passed = (fresh[-1], 0) if fresh else (before, passed + len(page))


def _chunks(entries: Iterator[Indexed], size: int) -> Iterator[Sequence[Indexed]]:
    """Chunks of ``size``, then of at least a page: the first is often enough."""
    while chunk := list(islice(entries, size)):
        yield chunk
        size = max(size, PAGE)


def _cursor(entry: Indexed) -> str:
    return f"{entry[0]:.6f}:{entry[1]}"


def _entry(cursor: str) -> Indexed:
    score, _, request_id = cursor.partition(":")
    return float(score), request_id
