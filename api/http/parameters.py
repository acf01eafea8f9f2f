"""Typed query parameters; an invalid one is a problem that names it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from flask import request

from api.http.problems import wrong_value


def whole(name: str, given: Mapping[str, str], default: int, most: int) -> int:
    """A whole number from 1 to ``most``."""
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise wrong_value(name, f"must be an integer from 1 to {most}")
    return int(text)


def page_size(given: Mapping[str, str]) -> int:
    """``limit`` of a listing."""
    return whole("limit", given, 50, 500)


def moment(name: str, given: Mapping[str, str]) -> float | None:
    """Epoch seconds of a time in RFC 3339; one without an offset is UTC."""
    text = given.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped plus sign arrives as a space
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise wrong_value(name, "must be a time like 2026-01-05T12:00:00Z") from None


def choice(name: str, value: str | None, allowed: Collection[str]) -> str | None:
    """One of the allowed values, or None."""
    if value is not None and value not in allowed:
        raise wrong_value(name, "must be one of " + ", ".join(allowed))
    return value


def chosen_format(media_types: Mapping[str, str]) -> str:
    """The format that the current request asks for, by ``?format=`` or ``Accept``; by default the first."""
    best = request.accept_mimetypes.best_match([*media_types.values()])
    accepted = (name for name, media_type in media_types.items() if media_type == best)
    return choice("format", request.args.get("format"), media_types) or next(accepted, next(iter(media_types)))
