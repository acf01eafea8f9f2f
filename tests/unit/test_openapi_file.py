"""``make api-docs`` writes a valid document."""

from __future__ import annotations

import json
from pathlib import Path

from openapi_spec_validator import validate

from api.app import create_app
from common.settings import load_settings


def test_the_document_is_valid_and_has_the_main_route(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    create_app(load_settings({})).test_cli_runner().invoke(args=["openapi", "write", str(file)])
    found = json.loads(file.read_text())
    validate(found)
    assert "post" in found["paths"]["/inference"]
