"""The role that each route of an API asks for."""

from __future__ import annotations

from flask import Flask

from api.http.auth import ELSEWHERE


def roles(app: Flask) -> dict[tuple[str, str], str]:
    return {
        (method, rule.rule): str(getattr(app.view_functions[rule.endpoint], "role", ELSEWHERE))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
