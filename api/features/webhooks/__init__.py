"""Webhooks: tells a caller's server that a request has ended. Off unless ``WEBHOOK_SECRET`` is set.

Signed as Standard Webhooks asks (:mod:`api.features.webhooks.signing`), sent to public addresses only
(:mod:`api.features.webhooks.targets`), at least once, with growing pauses (:mod:`api.features.webhooks.sender`).
"""
