"""In a checkout the client asks the API of `make start`, which reads the same `.env`."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import variables
from inferlane import checkout
from inferlane.connection import DEFAULT_URL

ELSEWHERE = "http://elsewhere:1"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*variables(), "INFERLANE_URL", "INFERLANE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("Procfile", "scripts/system.py"):
        (tmp_path / name).touch()
    (tmp_path / ".env").write_text("API_PORT=8123\nADMIN_KEY=open-sesame\nDASHBORD_PORT=1\n")
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    return tmp_path


def test_address_and_key_come_from_the_env_file_and_a_misspelt_setting_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkout.address(None, None) == ("http://127.0.0.1:8123", "open-sesame")
    assert capsys.readouterr().err == f"{root / '.env'}: DASHBORD_PORT is no setting; is it DASHBOARD_PORT?\n"


@pytest.mark.usefixtures("root")
def test_the_admin_key_goes_to_the_own_api_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout.address(ELSEWHERE, None) == (ELSEWHERE, None)
    monkeypatch.setenv("INFERLANE_URL", ELSEWHERE)
    assert checkout.address(None, None) == (ELSEWHERE, None)
    monkeypatch.setenv("INFERLANE_API_KEY", "mine")
    assert checkout.address(None, None) == (ELSEWHERE, "mine")


def test_a_hash_is_no_key_and_a_wrong_setting_is_an_error(root: Path) -> None:
    (root / ".env").write_text(f"ADMIN_KEY=sha256:{'0' * 64}\n")
    assert checkout.address(None, None) == (DEFAULT_URL, None)
    (root / ".env").write_text("API_PORT=many\n")
    with pytest.raises(ValueError, match="API_PORT"):
        checkout.address(None, None)


def test_without_a_checkout_it_is_the_usual_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert checkout.address(None, None) == (DEFAULT_URL, None)
