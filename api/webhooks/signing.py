"""Standard Webhooks 1.0: three headers and an HMAC over id, time and body, by which a receiver knows a real call.

Source: the specification of Standard Webhooks, sections "Webhook headers" and "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from settings import SettingsError

PREFIX = "whsec_"


def secret_bytes(text: str) -> bytes:
    """The key inside ``whsec_`` plus base64.

    Raises:
        SettingsError: it is malformed or has fewer than 24 bytes; the message does not repeat it.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise SettingsError("WEBHOOK_SECRET: must be whsec_ and the base64 of 24 to 64 random bytes")
    return key


def headers(key: bytes, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a call: ``at`` is epoch seconds; ``message_id`` stays the same when a call is repeated."""
    said = f"{message_id}.{at}.".encode() + body
    signature = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}
