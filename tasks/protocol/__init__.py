"""The rules in Redis: how a request is stored, queued, taken and ended. Every change of state is one Lua script.

Imports nothing of ``tasks`` but its errors and lanes. A change here changes what every process relies on: read
ARCHITECTURE.md, "A request's life", and run tests/integration/tasks. Documentation and error texts are safe to change.
"""
