"""The tour itself: all scenes in turn, or a menu of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.prompt import Prompt
from rich.rule import Rule

from inferlane import ClientError
from scripts.tour.problem import SceneError
from scripts.tour.scenes import SCENES
from scripts.tour.stage import MODEL, Stage, StageError, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def tour(url: str, names: Sequence[str] = tuple(SCENES), model: str = MODEL) -> int:
    """Play the scenes ``names``; 1 when one of them failed, or there was no system to show."""
    return _on_stage(url, model, lambda shown: [name for name in names if not play(name, shown)])


def menu(url: str, model: str = MODEL) -> int:
    """Let the user choose scenes until that is enough."""
    return _on_stage(url, model, _ask)


def title(name: str) -> str:
    """What the scene shows, in a line."""
    return str(SCENES[name].__doc__).rstrip(".")


def play(name: str, shown: Stage) -> bool:
    """Play one scene; whether the system did what the scene shows."""
    shown.console.print(Rule(title(name), align="left"))
    try:
        SCENES[name](shown)
    except (SceneError, StageError, ClientError) as error:
        shown.console.print(f"FAILED: {error}", style="red", markup=False)
        return False
    return True


def _on_stage(url: str, model: str, show: Callable[[Stage], list[str]]) -> int:
    console = Console(highlight=False)
    try:
        with stage(console, url, model) as shown:
            failed = show(shown)
    except StageError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    console.print(f"Failed: {', '.join(failed)}" if failed else "All of it worked.", style="red" if failed else "green")
    return 1 if failed else 0


def _ask(shown: Stage) -> list[str]:
    names = list(SCENES)
    failed: list[str] = []
    while True:
        for number, name in enumerate(names, 1):
            shown.console.print(f"{number}  {title(name)}")
        numbers = [str(number) for number in range(1, len(names) + 1)]
        choice = Prompt.ask("q  quit; your choice", choices=[*numbers, "q"], show_choices=False)
        if choice == "q":
            return failed
        if not play(names[int(choice) - 1], shown):
            failed.append(names[int(choice) - 1])
