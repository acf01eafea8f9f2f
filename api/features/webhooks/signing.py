"""Standard Webhooks 1.0: signature headers, by the library of that name."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

from standardwebhooks import Webhook

from common.settings import SettingsError

PREFIX = "whsec_"


def signer(secret: str) -> Webhook:
    """The signer for a secret of ``whsec_`` plus base64.

    Raises:
        SettingsError: the secret is malformed or has fewer than 24 bytes; the message does not repeat it.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        size = 0
    if not secret.startswith(PREFIX) or not 24 <= size <= 64:
        raise SettingsError("WEBHOOK_SECRET: must be whsec_ and the base64 of 24 to 64 random bytes")
    return Webhook(secret)


def headers(key: Webhook, message_id: str, at: int, body: str) -> dict[str, str]:
    """The headers of a call: ``at`` is epoch seconds; ``message_id`` stays the same when a call is repeated."""
    signature = key.sign(message_id, datetime.fromtimestamp(at, UTC), body)
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}
