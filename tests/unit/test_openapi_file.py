"""``make api-docs`` writes a valid document."""

from __future__ import annotations

import json

from openapi_spec_validator import validate

from scripts.openapi import document


def test_the_document_is_valid_and_has_the_main_route() -> None:
    found = json.loads(document())
    validate(found)
    assert "post" in found["paths"]["/inference"]
