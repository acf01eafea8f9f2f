"""Classify one photo through the running system, or show the system's promises.

Without a photo it takes the cat in docs/images and checks that the answer is one. --quick plays all scenes in a minute
or two and --menu lets you choose; both start a temporary system when none runs. Exit code 1: something failed.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.prompt import Prompt
from rich.rule import Rule

from common.settings import get_settings
from inferlane import Client, ClientError
from inferlane.console import KEY, Exit
from inferlane.errors import Unreachable
from inferlane.retries import ONCE
from scripts.demo.scenes import SCENES
from scripts.demo.stage import CAT, MODEL, DemoError, DemoStage, stage

#: What scripts/setup.sh wrote; it needs no active environment.
COMMAND_LINE = Path(os.path.relpath(Path(sys.prefix) / "bin" / "inferlane"))
NEXT = """
Next, in any shell:
  {inferlane} classify docs/images/coffee.jpg
  make quick-demo    batches, priorities, a killed worker, a poison image
  make stop"""


def classify(console: Console, url: str, photo: Path, model: str) -> None:
    """Classify ``photo`` and print the answer and what to do next.

    Raises:
        DemoError: the answer is not a real one.
        ClientError: nothing answers, or the API refuses.
    """
    with Client(url, os.environ.get(KEY), retries=ONCE) as client:
        DemoStage(client, model, console).classify(photo)
    print(NEXT.format(inferlane=COMMAND_LINE if COMMAND_LINE.exists() else "python -m inferlane"))


def play(name: str, shown: DemoStage) -> bool:
    """Play one scene; whether the system kept its promise."""
    shown.console.print(Rule(str(SCENES[name].__doc__).rstrip("."), align="left"))
    try:
        SCENES[name](shown)
    except (DemoError, ClientError) as error:
        shown.console.print(f"FAILED: {error}", style="red", markup=False)
        return False
    return True


def chosen(console: Console) -> Iterator[str]:
    """The scenes that the user chooses, until they quit."""
    names = {str(number): name for number, name in enumerate(SCENES, 1)}
    while True:
        for number, name in names.items():
            console.print(f"{number}  {SCENES[name].__doc__}")
        choice = Prompt.ask("q  quit; your choice", choices=[*names, "q"], show_choices=False)
        if choice == "q":
            return
        yield names[choice]


def tour(console: Console, url: str, model: str, names: Iterable[str]) -> int:
    """Play the scenes ``names``; 1 when one failed."""
    with stage(console, url, model) as shown:
        failed = [name for name in names if not play(name, shown)]
    console.print(f"Failed: {', '.join(failed)}" if failed else "All of it worked.", style="red" if failed else "green")
    return 1 if failed else 0


def main() -> int:
    """Run the demonstration; the exit code says whether it worked."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("photo", nargs="?", type=Path, default=CAT)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--url", default=get_settings().base_url)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_const", dest="scene", const=list(SCENES), help="play all scenes")
    which.add_argument("--menu", action="store_true", help="choose scenes")
    which.add_argument("--scene", action="append", choices=list(SCENES), help="play this one; may be repeated")
    given = parser.parse_args()
    console = Console(highlight=False)
    try:
        if given.menu or given.scene:
            return tour(console, given.url, given.model, given.scene or chosen(console))
        classify(console, given.url, given.photo, given.model)
    except Unreachable as error:
        print(f"demo: {error}: `make start` first, or set API_PORT as it is there", file=sys.stderr)
        return Exit.UNREACHABLE
    except (DemoError, ClientError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
