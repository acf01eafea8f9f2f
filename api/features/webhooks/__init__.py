"""Webhooks: notifies a caller's server that a request has ended. Off unless ``WEBHOOK_SECRET`` is set.

Signed as Standard Webhooks (:mod:`api.features.webhooks.transport`), sent to public addresses only
(:mod:`api.features.webhooks.targets`), at least once, with backoff (:mod:`api.features.webhooks.sender`).
"""
