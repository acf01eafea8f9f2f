"""What every route shares: keys, rate limit, problems, preferences, event streams, the OpenAPI document.

Knows no route. A new kind of error is one line in :mod:`api.http.problems`.
"""
