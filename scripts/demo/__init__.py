"""The demonstration: ``python -m scripts.demo`` classifies one photo, ``--quick`` and ``--menu`` play the scenes.

``stage`` finds a running system or starts a temporary one; the scenes use it over HTTP like any client, and fail when
it breaks a promise.
"""
