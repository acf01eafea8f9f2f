"""What a load test shows: the numbers while it runs, and all of them at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from inferlane.console import plain, seconds, table
from inferlane.traffic import Account, Ended, percentile
from tests.load.verdict import Verdict

WIDTH = 40


class Live:
    """A bar with the latest numbers; one line for each request that ended badly, if wanted."""

    def __init__(self, console: Console, total: int, *, verbose: bool) -> None:
        self.ended: list[Ended] = []
        self._verbose = verbose
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._console = console
        self._task = self._bar.add_task("", total=total)

    @contextmanager
    def shown(self) -> Iterator[Live]:
        """Draw it."""
        with self._bar:
            yield self

    def on_end(self, account: Account, ended: Ended | None) -> None:
        """Count one request; ``None`` for one that could not be sent."""
        if ended is not None:
            self.ended.append(ended)
            if ended.code and self._verbose:
                shown = " ".join(str(value) for value in ended.shot.parameters.values())
                self._console.print(plain(f"{ended.code} after {seconds(ended.latency)} ({shown})"), style="red")
        done = account.sent + account.unsent
        self._bar.update(self._task, completed=done, description=self._words(account))

    def _words(self, account: Account) -> str:
        late = sorted(one.latency for one in self.ended[-200:] if not one.code)
        bad = account.errors.total() + account.unsent
        return f"{bad} bad, lately p50 {seconds(percentile(late, 0.5))} p95 {seconds(percentile(late, 0.95))}"


def summary(verdict: Verdict) -> RenderableType:
    """Everything in tables, and the verdict in words."""
    found = verdict.document
    rate = found["per_second"]
    facts = [(name, found[name]) for name in ("sent", "succeeded", "unsent")]
    facts += [("took", seconds(found["elapsed"])), ("right answers per second", f"{rate:.1f}" if rate else "")]
    parts: list[RenderableType] = [table("", "", "#", rows=facts)]
    columns = (f"#{name}" for name in found["latency"])
    parts.append(table("from scheduled start to answer", *columns, rows=[map(seconds, found["latency"].values())]))
    parts += [_group(kind, rows) for kind, rows in found["groups"].items() if len(rows) > 1]
    for name in ("errors", "workers"):
        if found[name]:
            parts.append(table(name, "", "#requests", rows=found[name].items()))
    parts.append(Text("\n".join(bars(found["histogram"])), style="cyan"))
    parts.append(Text("\n".join(verdict.reasons) or "within the limits", style="red" if verdict.reasons else "green"))
    return Group(*parts)


def bars(histogram: list[dict[str, float]]) -> list[str]:
    """One line for each bar of a histogram."""
    most = max((bar["count"] for bar in histogram), default=1)
    return [f"{seconds(bar['to']):>8} {'█' * round(WIDTH * bar['count'] / most)} {bar['count']}" for bar in histogram]


def _group(kind: str, rows: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    cells = ((name, r["sent"], r["succeeded"], seconds(r["p50"]), seconds(r["p95"])) for name, r in rows.items())
    return table("", kind, "#sent", "#succeeded", "#p50", "#p95", rows=cells)
