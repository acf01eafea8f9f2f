"""What to do when the API does not let somebody do something."""

from __future__ import annotations

from inferlane.errors import AccessDenied

VARIABLE = "INFERLANE_API_KEY"


def advice(error: AccessDenied, *, has_key: bool) -> str:
    """How to get in.

    Args:
        error: what the API said; 401 of a key it wants or does not know, 403 of one that is not enough.
        has_key: whether a key was sent.
    """
    if error.status == 401 and has_key:
        return f"the API does not know this key; {VARIABLE} must be its ADMIN_KEY or belong to one of its API_KEYS"
    if error.status == 401:
        return f"give an API key with {VARIABLE} or --api-key; what operators do needs the API's ADMIN_KEY"
    if has_key:
        return f"this is a user's key; give the API's ADMIN_KEY, or another administrator's key, with {VARIABLE}"
    return (
        f"no administrator's key is set there: put ADMIN_KEY=... into the API's .env, restart it,"
        f" and give the same with {VARIABLE}"
    )
