"""Classify one photo through the running system, or show what the system promises.

Without a photo it takes the cat in docs/images and checks that the answer is one. --quick plays all scenes in a minute
or two and --menu lets you choose; both start a temporary system when none runs. Exit code 1: something failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.prompt import Prompt
from rich.rule import Rule

from common.settings import get_settings
from inferlane import Client, ClientError
from inferlane.errors import Unreachable
from scripts.demo.photos import CAT, problem, show
from scripts.demo.scenes import SCENES
from scripts.demo.stage import MODEL, DemoError, DemoStage, expect, stage

if TYPE_CHECKING:
    from collections.abc import Callable


#: What scripts/setup.sh wrote; it needs no active environment.
COMMAND_LINE = Path(os.path.relpath(Path(sys.prefix) / "bin" / "inferlane"))
NEXT = """
Next, in any shell:
  {inferlane} classify docs/images/coffee.jpg
  make quick-demo    batches, priorities, a killed worker, a poison image
  make stop"""


def classify(url: str, photo: Path, model: str) -> None:
    """Classify ``photo`` and print the answer.

    Raises:
        DemoError: nothing answers, or the answer is not a real one.
        ClientError: the API refuses.
    """
    with Client(url, os.environ.get("INFERLANE_API_KEY")) as client:
        try:
            result = client.predict(photo, model)
        except Unreachable as error:
            raise DemoError(f"{error}: `make start` first") from error
    expect(not problem(photo, result), problem(photo, result))
    print()
    show(Console(highlight=False), photo, result)


def title(name: str) -> str:
    """What the scene shows, in a line."""
    return str(SCENES[name].__doc__).rstrip(".")


def play(name: str, shown: DemoStage) -> bool:
    """Play one scene; whether the system kept its promise."""
    shown.console.print(Rule(title(name), align="left"))
    try:
        SCENES[name](shown)
    except (DemoError, ClientError) as error:
        shown.console.print(f"FAILED: {error}", style="red", markup=False)
        return False
    return True


def on_stage(url: str, model: str, show_all: Callable[[DemoStage], list[str]]) -> int:
    """Let ``show_all`` play scenes; it returns the names of those that failed."""
    console = Console(highlight=False)
    with stage(console, url, model) as shown:
        failed = show_all(shown)
    console.print(f"Failed: {', '.join(failed)}" if failed else "All of it worked.", style="red" if failed else "green")
    return 1 if failed else 0


def menu(shown: DemoStage) -> list[str]:
    """Let the user choose scenes until they quit; the names of those that failed."""
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


def main() -> int:
    """Run the demonstration; the exit code says whether it worked."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("photo", nargs="?", type=Path, default=CAT)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--url", default=get_settings().base_url)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="play all scenes")
    which.add_argument("--menu", action="store_true", help="choose scenes")
    which.add_argument("--scene", action="append", choices=list(SCENES), help="play this one; may be repeated")
    given = parser.parse_args()
    try:
        if given.menu:
            return on_stage(given.url, given.model, menu)
        if names := list(SCENES) if given.quick else given.scene:
            return on_stage(given.url, given.model, lambda shown: [name for name in names if not play(name, shown)])
        classify(given.url, given.photo, given.model)
        print(NEXT.format(inferlane=COMMAND_LINE if COMMAND_LINE.exists() else "python -m inferlane"))
    except (DemoError, ClientError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
