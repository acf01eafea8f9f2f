"""The checkout of Inferlane that has this package, if one does: its settings and its programs."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from inferlane.connection import DEFAULT_URL
from inferlane.console import UsageError

ROOT = Path(__file__).resolve().parents[1]


def exists() -> bool:
    """Whether this package lies in a checkout."""
    return (ROOT / "Procfile").is_file() and (ROOT / "scripts" / "system.py").is_file()


def address(url: str | None, key: str | None) -> tuple[str, str | None]:
    """The API's address and the key for it: as given, else from the environment, else from the checkout's settings.

    The checkout's ADMIN_KEY goes to the checkout's API only.

    Raises:
        ValueError: a setting of the checkout is invalid.
    """
    url, key = url or os.environ.get("INFERLANE_URL"), key or os.environ.get("INFERLANE_API_KEY")
    if url or not exists():
        return url or DEFAULT_URL, key
    try:
        from common.settings import environment, load_settings, misspelt
    except ImportError:  # another interpreter than the checkout's
        return DEFAULT_URL, key
    file = ROOT / ".env"
    sys.stderr.writelines(f"{line}\n" for line in misspelt(file))
    settings = load_settings(environment(file))
    readable = settings.admin_key and not settings.admin_key.startswith("sha256:")  # a hash opens nothing
    return settings.base_url, key or (settings.admin_key if readable else None)


def require() -> None:
    """Raise :class:`UsageError` where this package is installed by itself."""
    if not exists():
        raise UsageError("needs a checkout of Inferlane on this host: run .venv/bin/inferlane in it")


def become(module: str, *words: str, **environ: str) -> NoReturn:
    """Turn this process into ``python -m module words``, in the checkout; raises UsageError if there is no checkout."""
    require()
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, "-m", module, *words], os.environ | environ)  # noqa: S606 - no shell
