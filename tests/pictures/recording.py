"""``make recording``: an animated SVG of a worker killed while it holds requests, recorded from a real run.

It starts a system, plays the scene ``crash`` of the demonstration, and shows each line when it was printed.
"""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from scripts.demo.scenes import crash
from scripts.demo.stage import MODEL, DemoStage, stage

FILE = Path(__file__).resolve().parents[2] / "docs" / "images" / "crash.svg"
#: Columns of the terminal.
WIDTH = 100
#: Seconds for which the last picture stays before the recording begins again.
STAY = 8.0
#: Rich's picture without its web fonts: an image loads nothing, and needs nothing.
FORMAT = re.sub(r"@font-face {{.*?}}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")
#: Elements that belong to the line of output of this number, as Rich writes them.
LINE = re.compile(r'(clip-path="url\(#[\w-]+-line-(\d+)\)")')


class Timed(StringIO):
    """Output that remembers when each of its lines began, in seconds since it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self._began = time.monotonic()

    def write(self, text: str) -> int:
        """Write, and note the time of the lines that this begins."""
        lines = text.count("\n")
        self.times += [round(time.monotonic() - self._began, 2)] * lines
        return super().write(text)


def animated(svg: str, times: list[float]) -> str:
    """The picture with each line hidden until its time; it repeats."""
    whole = times[-1] + STAY
    rules = [
        f".line-{number} {{ animation: line-{number} {whole:.2f}s infinite step-end }} "
        f"@keyframes line-{number} {{ 0% {{ opacity: 0 }} {100 * at / whole:.2f}% {{ opacity: 1 }} }}"
        for number, at in enumerate(times)
    ]
    still = "@media (prefers-reduced-motion: reduce) { text { animation: none !important } }"
    marked = LINE.sub(lambda found: f'{found[1]} data-line="{found[2]}"', svg)
    classed = re.sub(r'class="([^"]*)"([^>]*) data-line="(\d+)"', r'class="\1 line-\3"\2', marked)
    return classed.replace("</style>", "\n".join([*rules, still]) + "\n</style>", 1)


def main() -> None:
    """Record and write."""
    with stage(Console(quiet=True), "http://127.0.0.1:9", MODEL) as found:
        output = Timed()
        console = Console(file=output, record=True, width=WIDTH, force_terminal=True, highlight=False)
        console.print("[b]$ make demo-menu[/b]  [dim]a worker is killed while it holds requests[/dim]")
        crash(DemoStage(found.client, found.model, console))
    picture = console.export_svg(title="Inferlane", theme=MONOKAI, code_format=FORMAT)
    FILE.write_text(animated(picture, output.times))
    print(f"{FILE.name}: {FILE.stat().st_size // 1024} KiB, {len(output.times)} lines in {output.times[-1]:.1f} s")


if __name__ == "__main__":
    main()
