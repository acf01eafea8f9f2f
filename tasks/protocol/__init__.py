"""The rules in Redis: how a request is stored, queued, taken and ended. Every change of state is one Lua script.

Imports nothing of ``tasks`` but its errors and lanes. A change here changes what every process relies on: read
ARCHITECTURE.md, "The life of a request", and run tests/integration/tasks. Only texts are safe to change alone.
"""
