"""The HTTP side of Inferlane: ``python -m api``.

Translates HTTP into calls of :mod:`tasks` and their results into JSON. It never decodes an image and never imports a
model runtime.
"""
