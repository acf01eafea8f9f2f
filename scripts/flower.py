"""Flower, Celery's own monitor, run with a password, read-only, and by default without task events.

``python -m scripts.flower`` is the Procfile's ``flower`` line. The password is FLOWER_BASIC_AUTH, or a random one that
only this user can read in ``RUN_DIR/flower-password``. It is passed in the environment: every user of the host can read
a command line.
"""

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path

from common import logs
from common.settings import Settings, get_settings

log = logging.getLogger("flower")

USER = "operator"
FILE = "flower-password"


def credentials(settings: Settings) -> str:
    """``user:password``: the setting, or the user ``operator`` with the password kept in RUN_DIR."""
    if settings.flower_basic_auth:
        return settings.flower_basic_auth
    path = Path(settings.run_dir) / FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(18) + "\n")
    log.info("the user is %s, the password is in %s", USER, path)
    return f"{USER}:{path.read_text().strip()}"


def login(settings: Settings) -> str:
    """The login for people; a password is shown only if it was generated for this host."""
    if settings.flower_basic_auth:
        return "login: FLOWER_BASIC_AUTH"
    user, _, password = credentials(settings).partition(":")
    return f"login: {user}, password {password}"


def command(settings: Settings, address: str) -> list[str]:
    """The command line of Flower; only the API changes workers, because it asks for a key and logs the order."""
    words = [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--address={address}", "--read_only"]
    # This makes Flower switch on every worker's events. docs/operating.md has their cost.
    return [*words, f"--port={settings.flower_port}", f"--enable_events={settings.flower_events}"]


def main() -> None:
    """Become Flower."""
    parser = argparse.ArgumentParser(description="Run Flower with a password, read-only.")
    parser.add_argument("--address", default="127.0.0.1", help="where it listens (default: %(default)s)")
    given = parser.parse_args()
    settings = get_settings()
    logs.configure(settings, "flower")
    words = command(settings, given.address)
    # Flower reads every variable that begins with FLOWER_ as an option, and refuses unknown ones.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    os.execve(words[0], words, kept | {"FLOWER_BASIC_AUTH": credentials(settings)})  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
