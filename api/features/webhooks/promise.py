"""Whether a webhook that a caller asks for can be promised."""

from __future__ import annotations

from api.features.webhooks import targets
from api.http.problems import Problem
from api.services import engine


def promise(url: str, entry: str) -> None:
    """Promise a webhook before what it is about is accepted, so that none is lost in between.

    Args:
        url: where it shall go.
        entry: what it is about, as the outbox names it.

    Raises:
        Problem: webhooks are off, or may not go there.
        Unavailable: Redis does not answer.
    """
    settings = engine().settings
    if not settings.webhook_secret:
        raise _unusable("webhooks are switched off here")
    try:
        targets.parse(url, settings.webhook_hosts)
    except targets.TargetRefused as error:
        raise _unusable(str(error)) from None
    engine().outbox.expect(entry)


def _unusable(why: str) -> Problem:
    errors = [{"name": "callback_url", "detail": why}]
    return Problem("invalid_parameters", f"The callback_url cannot be used: {why}.", errors=errors)
