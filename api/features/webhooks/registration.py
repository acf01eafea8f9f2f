"""Webhooks for routes: registered before a request is accepted, sent when it has ended."""

from contextlib import suppress

from api.features.webhooks import targets
from api.features.webhooks.outbox import Outbox
from api.features.webhooks.sender import running_sender
from api.http.problems import HttpProblem, wrong_value
from api.services import app_settings, service
from tasks.errors import BrokerUnavailable
from tasks.protocol.records import Records


def register(url: str, entry: str) -> None:
    """Register a webhook before its request or batch, ``entry``, is accepted, so that a crash in between loses none.

    Raises:
        HttpProblem: webhooks are off, or the URL is not allowed.
        BrokerUnavailable: Redis does not answer.
    """
    settings = app_settings()
    if not settings.webhook_secret:
        raise _unusable("webhooks are switched off here")
    try:
        targets.parse(url, settings.webhook_hosts)
    except targets.TargetRefused as error:
        raise _unusable(str(error)) from None
    service(running_sender)
    service(Outbox).expect(entry)


def send_at_the_end(request_id: str, records: Records) -> None:
    """Send a request's webhook as soon as it ends; without this, some seconds later."""
    outbox = service(Outbox)
    with suppress(BrokerUnavailable):
        state = records.watch(request_id, outbox.bell)
        if state is None or state.terminal:
            outbox.ring(request_id)


def send_soon(entry: str) -> None:
    """Make an entry due now; without this, some seconds later."""
    with suppress(BrokerUnavailable):
        service(Outbox).ring(entry)


def _unusable(why: str) -> HttpProblem:
    return wrong_value("callback_url", why, f"The callback_url is invalid: {why}.")
