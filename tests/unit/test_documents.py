"""Links inside the repository lead somewhere, and commands that pages name exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from inferlane.cli import command_line_parser
from scripts.__main__ import COMMANDS
from tests.load import plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_the_code_that_a_page_names_exists(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # it names files as they were
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|lua))`", page.read_text())
    assert [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "tasks/protocol" / name).exists()
    ] == []


def test_the_life_of_a_request_has_at_most_twelve_stops_of_one_file_each() -> None:
    life = (ROOT / "ARCHITECTURE.md").read_text().partition("## The life of a request")[2].partition("\n## ")[0]
    stops = re.findall(r"^\| (\d+) \| [^|]+ \| `[^`|]+` \|$", life, re.MULTILINE)
    assert stops == [str(number) for number in range(1, len(stops) + 1)]
    assert 8 <= len(stops) <= 12


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as they are made on code hosts."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_anchor_is_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text())
    missing = [anchor for file, anchor in links if anchor not in headings(page.parent / file if file else page)]
    assert missing == []


def commands(page: Path, program: str) -> list[str]:
    """What follows ``program`` wherever the page shows code."""
    text = page.read_text()
    code = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL) + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    return [found.strip() for part in code for found in re.findall(rf"{re.escape(program)} ([^|;&#\n)]+)", part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_is_to_be_run_exists(page: Path) -> None:
    modules = {command.split()[0] for command in commands(page, "python -m")}
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_to_be_run_exists(page: Path) -> None:
    files = {word for command in commands(page, "python") if (word := command.split()[0]).endswith(".py")}
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_our_own_are_understood(page: Path) -> None:
    text = re.sub(r"(?:\S+/|python -m )inferlane ", "inferlane ", page.read_text())
    typed = re.findall(r"(?:^|`|^\$ |\| |\$\()inferlane ([a-z][^|;&#\n`)]*)", text, re.MULTILINE)
    for line in typed:
        command_line_parser().parse_args(shlex.split(line.replace("init NAME", "init name")))
    assert {line.split()[0] for line in commands(page, "python -m scripts")} <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_of_the_load_test_exist(page: Path) -> None:
    known = plan.parser().format_help()
    asked = {word for line in commands(page, "python tests/load_test.py") for word in re.findall(r"--[a-z0-9-]+", line)}
    assert [option for option in asked if f"{option} " not in known and f"{option}\n" not in known] == []
