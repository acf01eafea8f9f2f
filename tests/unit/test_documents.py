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
#: Tests that run all shell commands of a page.
RUN_BY = {
    "README.md": "tests/e2e/test_readme.py",
    "docs/api.md": "tests/integration/test_examples.py",
    "docs/client.md": "tests/integration/client/test_documentation.py",
    "docs/models.md": "tests/e2e/test_own_models.py",
}
#: How commands of other pages begin: the test that runs them, or why none does.
OTHERS = {
    r"make (start$|scale efficientnet_lite0=3|status|monitor|doctor|load-test$|logs|stop)": "tests/e2e/test_readme.py",
    r"make (setup-dev|test$|check)": "CI runs them",
    r"make scale": "tests/e2e/test_own_models.py",
    r"python -m bench.capacity (?!.*--real)": "tests/unit/test_capacity.py",
    r"python -m bench.capacity .*--real": "takes minutes; tests/integration/test_capacity.py has other numbers",
    r"celery -A tasks (inspect|control)|celery multi": "tests/integration/tasks/test_celery_command_line.py",
    r"celery -A tasks worker": "tests/e2e/test_own_models.py",
    r"openssl|echo|redis-server": "tests/integration/tasks/test_tls.py",
    r"make (load-test-burst|stress-test)|python tests/load_test.py": "minutes of load; their options are checked below",
    r"REDIS_URL=\S+ .*make start|export REDIS_URL|make start WITHOUT": "needs another host",
    r"make docker|docker|cp deploy/k8s|kubectl": "needs containers; tests/unit/deploy checks the files",
    r"REDIS_PASSWORD=|API_KEYS=": "lines of .env",
    r"scripts/setup.sh otel|OTEL_ENABLED": "installs packages; tests/integration/test_tracing.py runs with tracing on",
}
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


def typed(page: Path) -> list[str]:
    """The lines that the page tells to type into a shell."""
    blocks = re.findall(r"```(sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [
        line.removeprefix("$ ")
        for language, text in blocks
        for line in re.sub(r"\\\n\s*", "", text).splitlines()
        if language == "sh" or line.startswith("$ ")
    ]
    return [line.partition("  #")[0].strip() for line in lines]


def test_every_command_is_run_by_a_test_or_has_a_reason() -> None:
    pages = {str(page.relative_to(ROOT)): typed(page) for page in PAGES}
    assert [
        page for page, test in RUN_BY.items() if page not in (ROOT / test).read_text() and page != "README.md"
    ] == []
    others = [line for page, lines in pages.items() if page not in RUN_BY for line in lines]
    assert [line for line in others if not any(re.match(begin, line) for begin in OTHERS)] == []
    assert [begin for begin in OTHERS if not any(re.match(begin, line) for line in others)] == []
    assert [test for test in OTHERS.values() if re.fullmatch(r"tests/\S+", test) and not (ROOT / test).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name})" not in readme] == []


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
