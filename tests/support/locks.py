"""What the dependency groups of pyproject.toml ask for, and what the lock has for them."""

from __future__ import annotations

import re
from functools import cache

from packaging.utils import canonicalize_name

from scripts.lock import GROUPS, LOCK


def requirements(group: str) -> list[str]:
    """The requirements of a group and of those it includes, as written."""
    found: list[str] = []
    for item in GROUPS[group]:
        found += [item] if isinstance(item, str) else requirements(item["include-group"])
    return found


@cache
def locked(group: str) -> str:
    """The part of the lock that ``scripts/setup.sh GROUP`` installs."""
    sections = re.split(r"^(?=# groups:)", LOCK.read_text(), flags=re.MULTILINE)
    return "".join(section for section in sections if group in section.partition("\n")[0].split()[2:])


def versions(text: str) -> dict[str, str]:
    """Name -> version of every ``name==version`` line, those locked by version only included."""
    found = re.findall(r"^(?:# by version: )?([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}
