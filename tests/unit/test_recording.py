"""The recording in the README shows each line of a real run at its time."""

from __future__ import annotations

import re

from rich.console import Console

from tests.pictures.recording import FILE, FORMAT, Timed, animated

TEXT = re.compile(r'<text class="[^"]* (line-\d+)"[^>]*>([^<]+)</text>')


def lines(svg: str) -> dict[str, str]:
    """Line of the output -> its text."""
    found: dict[str, str] = {}
    for name, text in TEXT.findall(svg):
        found[name] = f"{found.get(name, '')} {text.replace('&#160;', ' ').strip()}".strip()
    return found


def test_every_line_appears_at_its_time() -> None:
    output = Timed()
    console = Console(file=output, record=True, width=40, force_terminal=True)
    console.print("first")
    console.print("second")
    assert len(output.times) == 2
    svg = animated(console.export_svg(code_format=FORMAT), [2.0, 4.0])
    assert "@keyframes line-0 { 0% { opacity: 0 } 16.67% { opacity: 1 } }" in svg
    assert lines(svg) == {"line-0": "first", "line-1": "second"}


def test_the_committed_recording_loads_nothing_and_shows_a_rescue() -> None:
    svg = FILE.read_text()
    assert re.findall(r"(?:src|href)\s*[:=]|url\((?!#)", svg) == []
    assert re.search(r"Killed .* worker_died .* rescued .* succeeded", " ".join(lines(svg).values()))


def test_output_without_a_newline_begins_no_line() -> None:
    output = Timed()
    output.write("half")
    assert output.times == []
