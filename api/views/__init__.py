"""How records become answers: resources, their schemas for the document, examples, Prometheus text.

Reads nothing from Redis: a route hands in what it read. A new field goes into resources and schemas.
"""
