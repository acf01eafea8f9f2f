"""The scene of a picture that kills its workers: it is dead-lettered, and the rest of its batch is answered.

It runs on a temporary system: no user's system has such a model, and none of the user's workers shall die for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.settings import get_settings
from inferlane import Client
from inferlane.console import table
from scripts.demo.crash import ended, show_timeline
from scripts.demo.photos import CAT, COFFEE, PHOTOS, ROCKET
from scripts.demo.stage import expect, temporary_system

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scripts.demo.stage import DemoStage

MODEL = "fragile"
FACTORY = f"{MODEL}=scripts.demo.fragile:{MODEL}"
#: One death beside others, which proves nothing, then MAX_DELIVERIES alone; one worker for each, so that no restart is
#: waited for.
DEATHS = WORKERS = 4
#: One batch, so that the innocent pictures share a pass with the one that kills.
BATCH = [CAT, COFFEE] * 3 + [ROCKET] + [CAT, COFFEE] * 3


def poison(stage: DemoStage) -> None:
    """Poison: a picture that kills its workers is dead-lettered, its companions are answered."""
    stage.console.print(f"{WORKERS} workers of a model that dies of {ROCKET.name}, on a temporary system.")
    with temporary_system(get_settings(), FACTORY, WORKERS) as url, Client(url) as client:
        batch = client.submit_batch(BATCH, MODEL)
        found = [ended(client.job(f"{batch.id}.{index}")) for index in range(len(BATCH))]
        letters = client.document("/dead_letters")["dead_letters"]
    guilty = found[BATCH.index(ROCKET)]
    innocent = [(photo, answer) for photo, answer in zip(BATCH, found, strict=True) if answer is not guilty]
    _show(stage, guilty, [answer for _, answer in innocent])
    judge(guilty, innocent, [letter["request_id"] for letter in letters])


def _show(stage: DemoStage, guilty: Mapping[str, Any], innocent: Sequence[Mapping[str, Any]]) -> None:
    dragged = sum(_deaths(answer) > 0 for answer in innocent)
    rows = [
        (ROCKET.name, 1, guilty["state"], (guilty["error"] or {}).get("code", "")),
        ("its companions", len(innocent), ", ".join(sorted({answer["state"] for answer in innocent})), ""),
    ]
    stage.console.print(table("", "what", "#requests", "state", "error", rows=rows))
    stage.console.print(f"{dragged} of the companions were running beside it when a worker died.")
    show_timeline(stage, guilty)


def judge(
    guilty: Mapping[str, Any], innocent: Sequence[tuple[Path, Mapping[str, Any]]], letters: Sequence[str]
) -> None:
    """Raise :class:`~scripts.demo.stage.DemoError` unless only the guilty request was given up, after its deaths."""
    code = (guilty["error"] or {}).get("code")
    expect(guilty["state"] == "failed" and code == "poison", f"the picture that kills is {guilty['state']} ({code})")
    expect(_deaths(guilty) == DEATHS, f"{_deaths(guilty)} workers died of it, not {DEATHS}")
    expect(letters == [guilty["request_id"]], f"the dead letters are {letters}")
    wrong = [answer["request_id"] for photo, answer in innocent if not _right(photo, answer)]
    expect(not wrong, f"no right answer for {', '.join(wrong)}, which did nothing wrong")
    expect(any(_deaths(answer) for _, answer in innocent), "no companion was beside it, so nothing was shown")


def _deaths(answer: Mapping[str, Any]) -> int:
    return sum(event["event"] == "worker_died" for event in answer["timeline"])


def _right(photo: Path, answer: Mapping[str, Any]) -> bool:
    return answer["state"] == "succeeded" and answer["predictions"][0]["index"] in PHOTOS[photo]
